# SPDX-License-Identifier: GPL-2.0
"""The kernel log, and what in there is a complaint."""

import os
import re

SPLAT = re.compile(
    r"WARNING: |BUG: |BUG at |kernel BUG|Oops|general protection|invalid opcode:"
    r"|[Uu]nable to handle|UBSAN: |KASAN: |KCSAN: |KFENCE: "
    r"|INFO: (task|possible|rcu|suspicious|trying|inconsistent|lockdep)"
    r"|possible (circular|recursive|irq lock|unsafe)|inconsistent lock state"
    r"|suspicious RCU usage|rcu.*detected .*stall|self-detected stall"
    r"|sleeping function called|scheduling while atomic|soft lockup"
    r"|hard LOCKUP|blocked for more than|refcount_t: |ODEBUG: "
    r"|DEBUG_LOCKS_WARN|Call Trace:|list_(add|del) corruption"
    r"|held lock freed|Objects remaining in|still has objects"
    r"|bad unlock balance|double fault|workqueue lockup|Bad page state"
    r"|kmemleak: \d+ new suspected")


class KernelLog:
    def __init__(self):
        self.fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self.fd, 0, os.SEEK_END)

    def lines(self):
        """What the kernel said since the last call."""
        out = []
        while True:
            try:
                record = os.read(self.fd, 16384).decode(errors="replace")
            except BlockingIOError:
                return out
            except BrokenPipeError:
                # Overrun: the ring buffer is smaller than what was said.
                continue
            out.append(record.split(";", 1)[-1].split("\n", 1)[0])


def splats(lines):
    """The first complaints with some of what follows them."""
    out = []
    for n, line in enumerate(lines):
        if SPLAT.search(line):
            out += lines[max(0, n - 2):n + 45]
            break
    return out
