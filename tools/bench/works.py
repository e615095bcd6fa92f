# SPDX-License-Identifier: GPL-2.0
"""What is measured, of whom, and what qblk is to reach.

A contender is a way to make a disk of an image, see contenders.py; a group is a
state that the image is in, and what is done to the disk then.
"""

from dataclasses import dataclass, field

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB


@dataclass(frozen=True)
class Work:
    """What fio does: number requests of block bytes, depth at a time.

    of: what kind of image, where the name has to say so
    rounds: the median of so many: whether the pages of a large buffer lie side
        by side differs from process to process, and makes some five percent
    """
    rw: str
    block: int
    depth: int
    number: int
    of: str = ""
    rounds: int = 1

    @property
    def name(self):
        size = f"{self.block // MIB} MiB" if self.block >= MIB else \
            f"{self.block // KIB} KiB"
        order = "random" if self.rw.startswith("rand") else "sequential"
        return f"{self.of} {size} {order} {self.rw.removeprefix('rand')} " \
               f"qd{self.depth}".lstrip()


@dataclass(frozen=True)
class Group:
    """Works on disks of one kind.

    image: how contenders.Images makes what they have below them
    slow: the part of the requests that is enough for qemu-nbd
    warm: what is done before, instead of an eighth of the requests
    """
    about: str
    image: str
    contenders: tuple
    works: tuple
    options: dict = field(default_factory=dict)
    slow: float = 0.25
    warm: Work = None


RANDOM_READ = Work("randread", 4 * KIB, 32, 20000)
RANDOM_WRITE = Work("randwrite", 4 * KIB, 32, 20000)
RANDOM_READ_1 = Work("randread", 4 * KIB, 1, 20000)

# Every cluster of what is 512 MiB long
WHOLE_FILE = Work("read", 64 * KIB, 32, 8192)

COMPRESSED = (Work("randread", 4 * KIB, 8, 400),
              Work("read", 4 * KIB, 8, 4000),
              Work("read", MIB, 4, 48))

GROUPS = {
    "mapped": Group(
        "every cluster is mapped", "mapped",
        ("ram", "null", "linear", "loop", "nbd", "raw", "qcow2"),
        (RANDOM_READ, RANDOM_WRITE, RANDOM_READ_1,
         Work("randread", 64 * KIB, 32, 6000),
         Work("read", MIB, 4, 800, rounds=3),
         Work("write", MIB, 4, 800, rounds=3))),
    "fresh": Group(
        "nothing is mapped", "fresh", ("nbd", "qcow2"),
        (Work("randwrite", 4 * KIB, 32, 4000),
         Work("randwrite", 64 * KIB, 32, 3000),
         Work("write", MIB, 4, 256)), slow=1),
    "zlib": Group("zlib clusters", "zlib", ("nbd", "qcow2"), COMPRESSED,
                  slow=1),
    "zstd": Group("zstd clusters", "zstd", ("nbd", "qcow2"), COMPRESSED,
                  slow=1),
    "file": Group("a file on ext4", "file", ("loop", "nbd", "qcow2"),
                  (RANDOM_READ, RANDOM_WRITE)),
    "chain": Group("a chain of 32 images on ext4", "chain",
                   ("nbd", "qcow2"), (RANDOM_READ,), warm=WHOLE_FILE),
    "cow": Group("over a filled backing file on ext4", "cow",
                 ("nbd", "qcow2"),
                 (Work("randwrite", 4 * KIB, 32, 2000),), slow=1),
    "metadata": Group("4 KiB clusters, all L2 tables in the cache",
                      "metadata", ("qcow2",), (RANDOM_READ,)),
    "uncached": Group("the same, the cache takes 1/16 of them",
                      "metadata", ("qcow2",), (RANDOM_READ,),
                      options={"l2-cache-size": 128 * KIB}),
}

COMPRESSED_KINDS = ("zlib", "zstd")

# What several processors do at once; mapped
SCALING = (RANDOM_READ, RANDOM_WRITE)

# Beside these there is what attaching takes, see costs.py.
COSTS = "costs"


@dataclass(frozen=True)
class Goal:
    """At most ns, or times what another figure is: (group, contender)."""
    group: str
    work: str
    ns: int = 0
    times: float = 0
    of: tuple = ()


GOALS = (
    Goal("mapped", "4 KiB random read qd32", 12500),
    Goal("mapped", "4 KiB random read qd1", 12500),
    Goal("mapped", "4 KiB random write qd32", 13500),
    Goal("mapped", "64 KiB random read qd32", 36000),
    Goal("mapped", "1 MiB sequential read qd4", 0, 1.08, ("mapped", "ram")),
    Goal("mapped", "1 MiB sequential write qd4", 0, 1.08, ("mapped", "ram")),
    Goal("fresh", "4 KiB random write qd32", 38000),
    Goal("fresh", "64 KiB random write qd32", 75000),
    Goal("fresh", "1 MiB sequential write qd4", 900000),
    Goal("zlib", "4 KiB random read qd8", 0, 0.75, ("zlib", "nbd")),
    Goal("zlib", "4 KiB sequential read qd8", 0, 0.08, ("zlib", "nbd")),
    Goal("zlib", "1 MiB sequential read qd4", 0, 0.7, ("zlib", "nbd")),
    Goal("zstd", "4 KiB random read qd8", 0, 0.75, ("zstd", "nbd")),
    Goal("zstd", "4 KiB sequential read qd8", 0, 0.08, ("zstd", "nbd")),
    Goal("zstd", "1 MiB sequential read qd4", 0, 0.7, ("zstd", "nbd")),
    Goal("file", "4 KiB random read qd32", 0, 1, ("file", "loop")),
    Goal("chain", "4 KiB random read qd32", 0, 1.05, ("file", "qcow2")),
    Goal("cow", "4 KiB random write qd32", 0, 0.35, ("cow", "nbd")),
    Goal("uncached", "4 KiB random read qd32", 0, 2, ("metadata", "qcow2")),
)
