# SPDX-License-Identifier: GPL-2.0
# about: allocations fail: an error or success, and nothing is lost or left
# kernels: debug
# cost: 30
# timeout: 150
"""Memory runs out below attach, I/O, write-back and detach.

Only allocations made by the module, or for it by what it calls, fail: those
with its code in the call chain.  What is then lost, or in the way of a later
attach, shows here; leaks are looked for at the end of the machine.
"""

import errno
import functools
import os
import re

import control
import lib
from lib import KIB, MIB, check

SIZE = 4 * MIB
TABLE = 32 * KIB    # what an L2 table of 512 bytes is for
DEBUGFS = "/sys/kernel/debug"
SLAB, PAGES = KINDS = ("failslab", "fail_page_alloc")
# In what Shortage.begin() counts: bytes, and pages.
UNIT = {SLAB: 512, PAGES: 1}
WIDTH = {SLAB: 9, PAGES: 2}
NTH = "/proc/thread-self/fail-nth"
ERRORS = (errno.ENOMEM, errno.EIO, errno.EAGAIN, errno.ENOSPC)


def fixtures():
    lib.img_create("base.qcow2", SIZE)
    lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 2M", "base.qcow2")
    lib.img_create("top.qcow2", SIZE, backing="base.qcow2", cluster_size=4096)
    lib.run("qemu-io", "-f", "qcow2", "-c", "write -c -P 2 64k 128k",
            "-c", "write -P 3 1M 64k", "top.qcow2")
    lib.run("qemu-img", "snapshot", "-c", "s", "top.qcow2")
    lib.run("qemu-img", "convert", "-O", "raw", "top.qcow2", "top.raw")
    # The first cluster of each L2 table
    lib.img_create("tables.qcow2", SIZE, cluster_size=512)
    lib.run("qemu-io", "-f", "qcow2", *(x for n in range(SIZE // TABLE) for x in
            ("-c", f"write -P {1 + n} {n * TABLE} 512")), "tables.qcow2")


# --- what QEMU says -----------------------------------------------------------

def origin(path):
    return lib.fixture_path("top.raw" if path.endswith(".raw") else
                            "top.qcow2")


def hand_over(image, model):
    """Image and model to the host, or to verify() here."""
    model.save(f"{image}.raw")
    if not lib.export([image, f"{image}.raw"], origin):
        verify_one(image)


def verify_one(image):
    lib.img_check(image, leaks=True)
    lib.img_compare(image, f"{image}.raw")


def verify(folder):
    names = [n for n in lib.imported(folder, origin) if n.endswith(".qcow2")]
    check(names, "nothing was left to look at")
    os.symlink(lib.fixture_path("base.qcow2"), f"{folder}/base.qcow2")
    for name in names:
        verify_one(os.path.join(folder, name))


# --- failing allocations ------------------------------------------------------

@functools.cache
def spans():
    """Where the module is, and where vmalloc(): it complains when it gets no
    memory, whoever called it."""
    with open("/proc/kallsyms", "rb") as f:
        symbols = f.read()
    at = symbols.find(b" __vmalloc_node_range")
    first, last = (find(b"\t[qblk]\n") for find in
                   (symbols.find, symbols.rfind))
    check(at > 0 and first > 0, "functions are missing in /proc/kallsyms")
    vmalloc = symbols[:at].rpartition(b"\n")[2].split()[0]
    after = re.compile(rb"^(?!%b)(\w+) " % vmalloc, re.M).search(symbols, at)
    module = [int(line.split()[0], 16) for line in
              symbols[symbols.rfind(b"\n", 0, first) + 1:last].splitlines()
              if line.split()[1] in b"tT"]
    return (min(module), (max(module) | 4095) + 1,
            int(vmalloc, 16), int(after[1], 16))


def setting(kind, name, value):
    lib.write_file(f"{DEBUGFS}/{kind}/{name}", value)


class Shortage:
    """Prepares that allocations of the module fail, and undoes it."""

    def __enter__(self):
        if not os.path.exists(NTH):
            check("debug" not in os.uname().release, f"no {NTH}")
            raise lib.Skip("the kernel cannot let allocations fail")
        if not os.path.isdir(f"{DEBUGFS}/{SLAB}"):
            lib.run("mount", "-t", "debugfs", "debugfs", DEBUGFS)
        self.kind = self.times = None
        self.set_filter(*spans())
        setting(PAGES, "min-order", 0)
        return self

    @staticmethod
    def set_filter(start, end, without_start, without_end):
        for kind in KINDS:
            for name, value in (("verbose", 0), ("probability", 0),
                                ("interval", 1), ("ignore-gfp-wait", "N"),
                                ("require-start", start),
                                ("require-end", end),
                                ("reject-start", without_start),
                                ("reject-end", without_end)):
                setting(kind, name, value)

    def __exit__(self, *_):
        self.end()
        self.set_filter(0, 2 ** 64 - 1, 0, 0)

    def begin(self, kind, left, times):
        """That is the left-th unit and what follows, so many times, in
        whatever thread."""
        self.kind, self.times = kind, times
        setting(kind, "space", (left - 1) * UNIT[kind])
        setting(kind, "times", times)
        setting(kind, "probability", 100)

    def end(self):
        """Returns how many have failed."""
        if not self.kind:
            return 0
        setting(self.kind, "probability", 0)
        left = int(lib.read_file(f"{DEBUGFS}/{self.kind}/times"))
        self.kind = None
        return self.times - left


class Nth:
    """The n-th allocation of this thread fails."""

    def __enter__(self):
        self.fd = os.open(NTH, os.O_RDWR)
        return self

    def __exit__(self, *_):
        os.close(self.fd)

    def call(self, number, function, *args):
        """Returns what function did, and whether something failed."""
        os.pwrite(self.fd, str(number).encode(), 0)
        try:
            result = function(*args)
        finally:
            left = int(os.pread(self.fd, 32, 0))
            os.pwrite(self.fd, b"0", 0)
        return result, not left


def sweep(what, function, width, most=4000):
    """function(n), for every n or for one in width, until it says that nothing
    failed; returns for how many something did."""
    width = 1 if lib.FULL else width
    first = 1 + lib.rng(what).randrange(width)
    for count, number in enumerate(range(first, most, width)):
        if not function(number):
            lib.note(f"{what}: {count} failures, one in {width}")
            return count
    raise lib.Fail(f"{what}: still an allocation to fail after {most}")


# --- what they fail below -----------------------------------------------------

class Images(control.Control):
    """Attach and detach in this very thread; what fails is a reply, too."""

    def __init__(self, image):
        super().__init__()
        self.image = image

    def attach(self):   # pylint: disable=arguments-differ
        base = os.path.join(os.path.dirname(self.image), "base.qcow2")
        with open(self.image, "r+b") as top, open(base, "rb") as below:
            node = self.build.node
            return self.net.call(self.spec.ops["export-add"]["id"], b"".join((
                self.leaf(below.fileno(), True, "b"),
                node(driver="qcow2", child=[("file", 0)],
                     option={"read-only": "on"}),
                self.leaf(top.fileno(), False, "t"),
                node(driver="qcow2", child=[("file", 2), ("backing", 1)]))))

    def attached(self):
        reply = self.attach()
        check(not reply.error, f"attach: {reply.text}")
        return self.only_disk()

    @staticmethod
    def only_disk():
        disks = lib.disks()
        check(len(disks) == 1, f"there should be one disk: {disks}")
        return disks[0]

    def detach(self):   # pylint: disable=arguments-differ
        return self.net.call(self.spec.ops["export-del"]["id"],
                             self.build.put("export", "name",
                                            self.only_disk()))

    def detached(self, reply=None, failed=0):
        """At the latest with memory; reply is that of a first attempt."""
        if reply is None or reply.error:
            check(reply is None or (failed and reply.error in ERRORS),
                  f"detach: {reply and reply.text}")
            reply = self.detach()
            check(not reply.error, f"detach: {reply.text}")
        check(not lib.disks(), f"left {lib.disks()}")


class Case:
    """with Case() as case: an image, and how to control it and its memory."""

    def __init__(self, name):
        lib.fixture("base.qcow2")
        self.image = lib.scratch(f"{name}.qcow2")
        lib.copy_sparse(lib.fixture_path("top.qcow2"), self.image)
        # ext4 loses data of the page cache when an allocation fails while it
        # writes them back, as our direct I/O would have it do.
        os.sync()
        with open(lib.fixture_path("top.raw"), "rb") as f:
            self.model = lib.Model(SIZE, f.read())
        self.rng = lib.rng(name)
        self.shortage = Shortage()
        self.nth = Nth()

    def __enter__(self):
        self.control = Images(self.image)
        self.shortage.__enter__()
        self.nth.__enter__()
        return self

    def __exit__(self, kind, *_):
        self.nth.__exit__()
        self.shortage.__exit__()
        self.control.net.__exit__()
        if kind is None:
            hand_over(self.image, self.model)

    def write(self, disk, length):
        start = self.rng.randrange(0, SIZE - length, 512)
        data = self.rng.randbytes(length)
        disk.write(start, data)
        self.model.write(start, data)

    def flush(self, disk):
        """Returns whether it worked."""
        try:
            disk.flush()
        except OSError as e:
            check(e.errno in ERRORS, f"flush: {e}")
            return False
        return True


def test_attach():
    with Case("attach") as case:
        def attempt(number):
            reply, failed = case.nth.call(number, case.control.attach)
            if reply.error:
                check(failed and reply.error in ERRORS,
                      f"attach, allocation {number}: {reply.text}")
                check(not lib.disks(), f"left {lib.disks()}")
                return failed
            with lib.Disk(f"/dev/{case.control.only_disk()}") as disk:
                case.model.expect(MIB, disk.read(MIB, 4 * KIB))
            case.control.detached()
            return failed
        check(sweep("attach", attempt, 60) > 4, "few allocations failed")


def test_detach():
    """Of the thread that detaches; write-back has its own."""
    with Case("detach") as case:
        def attempt(number):
            with lib.Disk(f"/dev/{case.control.attached()}") as disk:
                case.write(disk, 40 * KIB)
            reply, failed = case.nth.call(number, case.control.detach)
            case.control.detached(reply, failed)
            return failed
        check(sweep("detach", attempt, 6) > 1, "few allocations failed")


def write_back(case, kind, times, left):
    """A flush of dirty metadata, and then the same by a detach."""
    with lib.Disk(f"/dev/{case.control.attached()}") as disk:
        for length in (512, 40 * KIB, 4 * KIB):
            case.write(disk, length)
        case.shortage.begin(kind, left, times)
        worked = case.flush(disk)
        failed = case.shortage.end()
        check(worked or failed, "flush failed, no allocation had")
        if not worked:
            disk.flush()
        for length in (512, 40 * KIB, 4 * KIB):
            case.write(disk, length)
    case.shortage.begin(kind, left, times)
    reply = case.control.detach()
    more = case.shortage.end()
    case.control.detached(reply, more)
    return failed + more


def test_write_back():
    """Whichever thread does it: one allocation fails, or all from then on."""
    with Case("write_back") as case:
        failed = sum(sweep(f"write-back, {kind}, {times}", functools.partial(
                           write_back, case, kind, times), WIDTH[kind])
                     for kind in KINDS for times in (1, 10000))
    check(failed > 4, "few allocations failed")


def some_io(case, disk):
    """Of each kind; returns how many requests failed, and allocations."""
    requests = allocations = 0
    for op, length in (("write", 512), ("write", 40 * KIB), ("read", 96 * KIB),
                       ("punch", 16 * KIB), ("write", 4 * KIB),
                       ("discard", 32 * KIB), ("flush", 0)):
        start = case.rng.randrange(0, SIZE - length,
                                   max(512, min(length, 4096)))
        data = case.rng.randbytes(length) if op == "write" else bytes(length)
        args = {"write": (start, data), "flush": ()}.get(op, (start, length))
        try:
            got = getattr(disk, op)(*args)
        except OSError as e:
            check(e.errno in ERRORS, f"{op}: {e}")
            requests += 1
            # In part, perhaps: once more, with memory.
            allocations += case.shortage.end()
            check(allocations, f"{op} failed, no allocation had: {e}")
            got = getattr(disk, op)(*args)
        if op == "read":
            case.model.expect(start, got)
        elif op != "flush":
            case.model.write(start, data)
    return requests, allocations + case.shortage.end()


def test_io():
    """So many rounds, and more as long as hardly any allocation failed."""
    rounds = lib.scaled(160, 40)
    number = requests = allocations = 0
    with Case("io") as case:
        with lib.Disk(f"/dev/{case.control.attached()}") as disk:
            while number < rounds or (allocations <= 40 and
                                      number < 10 * rounds):
                case.shortage.begin(KINDS[number % 2],
                                    case.rng.randrange(1, 40),
                                    case.rng.choice((1, 3, 10000)))
                more, failed = some_io(case, disk)
                requests += more
                allocations += failed
                number += 1
            disk.flush()
            lib.verify(disk, case.model)
        case.control.detached()
    lib.note(f"{requests} requests and {allocations} allocations failed, "
             f"in {number} rounds")
    check(allocations > 40, "hardly any allocation failed")


def test_all_dirty():
    """Without any memory, a table makes room for another: one that is clean, or
    has been written for that."""
    with Shortage() as shortage, lib.NullBlk("tables", 16) as leaf:
        lib.run("dd", f"if={lib.fixture_path('tables.qcow2')}", f"of={leaf}",
                "bs=1M", "conv=notrunc,fsync")
        dev = lib.attach(leaf, "-f", "qcow2")
        with lib.Disk(dev) as disk:
            def read(n):
                shortage.begin(SLAB, 1, 100000)
                try:
                    got = disk.read(n * TABLE, 512)
                finally:
                    failed = shortage.end()
                check(got == bytes([1 + n]) * 512, f"table {n} is wrong")
                check(failed, f"table {n}: no allocation failed")

            disk.write(512, b"w" * 512)
            # There is a reserve for one, and that one goes to the next.
            read(1)
            read(2)
            disk.write(2 * TABLE + 512, b"w" * 512)
            read(3)
            check(disk.read(512, 512) == b"w" * 512, "the write is lost")
        lib.detach(dev)
        lib.img_check(leaf)
