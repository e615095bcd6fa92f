# SPDX-License-Identifier: GPL-2.0
"""What a test's file says about itself, in comments near its top:

  # about: one line
  # variants: a b c       runs once for each, with QBLK_VARIANT set
  # timeout: SECONDS      on a stock kernel; default 60
  # cost: SECONDS         what it takes on a stock kernel, to balance machines
  # needs: udev           a machine with systemd-udevd running
  # needs: host           runs on the host and starts machines itself
  # kernels: 6.12 debug   left out with others, unless it is asked for by name
                          or QBLK_CHECK_FULL is set
  # kernels: either       on one of 6.1 and 6.12, by the seed: what it tests does
                          not depend on the kernel
"""

import os
import re
from dataclasses import dataclass, field

import lib

TESTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tests")

# In the folder that a machine shares with the host: a file for each test that no
# machine has taken yet, "NUMBER NAME", to be taken in this order by removing it.
QUEUE = ".queue"


@dataclass
class Test:
    name: str
    stem: str
    variant: str
    path: str
    about: str
    timeout: float
    cost: float
    needs: list = field(default_factory=list)
    kernels: list = field(default_factory=list)


def header(path):
    out = {}
    with open(path, encoding="utf-8") as f:
        for line in f.readlines()[:30]:
            match = re.match(
                r"# (about|variants|timeout|cost|needs|kernels): (.*)", line)
            if match:
                out[match[1]] = match[2].strip()
    return out


def load():
    """All tests by name, in the order of their names."""
    out = {}
    for entry in sorted(os.listdir(TESTS)):
        stem, ext = os.path.splitext(entry)
        if ext not in (".py", ".sh"):
            continue
        path = os.path.join(TESTS, entry)
        head = header(path)
        for variant in head.get("variants", "").split() or [""]:
            name = f"{stem}:{variant}" if variant else stem
            out[name] = Test(name, stem, variant, path, head.get("about", ""),
                             float(head.get("timeout", 60)),
                             float(head.get("cost", 5)),
                             head.get("needs", "").split(),
                             head.get("kernels", "").split())
    return out


def find(name):
    return load()[name]


KERNELS = ("6.12", "6.1", "debug", "kcsan")
# These are built here, for what they find; they take several times as long.
SLOW = ("debug", "kcsan")


def share(kernel):
    """The number of a kernel among those that share tests."""
    return KERNELS.index(kernel)


def wanted(tests, kernel, seed):
    """Those of a kernel when none is asked for by name."""
    if lib.FULL:
        return tests
    # Longest first, so that none of the two has much more to do.
    turns = sorted((t for t in tests if "either" in t.kernels),
                   key=lambda t: -t.cost)
    mine = turns if kernel in SLOW else turns[(share(kernel) + seed) % 2::2]
    return [t for t in tests
            if t in mine or not t.kernels or kernel in t.kernels]


def select(patterns, kernel, seed=0):
    """Tests named NAME, NAME:VARIANT or by a prefix of NAME ending in '*'."""
    tests = load()
    if not patterns:
        return wanted(list(tests.values()), kernel, seed)
    out = []
    for pattern in patterns:
        match = [t for t in tests.values()
                 if pattern in (t.name, t.stem) or
                 (pattern.endswith("*") and t.name.startswith(pattern[:-1]))]
        if not match:
            raise KeyError(pattern)
        out += [t for t in match if t not in out]
    return out
