# SPDX-License-Identifier: GPL-2.0
"""Every kind of qcow2 image: which there are, and images of each.

A kind is a choice on each axis below; its name, the choices joined, is how
tests and people call it.  QEMU decides what is legal; legal() knows its rules.
"""

import functools
import itertools
import math
import os
import random

import lib
from lib import KIB, MIB, SECTOR

CLUSTERS = {f"c{2 ** n}k" if n >= 0 else "c512": 2 ** n * KIB if n >= 0 else 512
            for n in range(-1, 12)}

AXES = {
    "compat": ("v2", "v3"),
    "cluster": tuple(CLUSTERS),
    "refcount": tuple(f"r{2 ** n}" for n in range(7)),
    "l2": ("std", "ext"),
    "compression": ("zlib", "zstd"),
    "data_file": ("own", "file", "rawfile"),
    "refcounts": ("strict", "lazy"),
    "preallocation": ("off", "metadata", "falloc", "full"),
    "backing": ("alone", "over", "overshort"),
    "snapshot": ("nosnap", "snap"),
}

# What the driver refuses; nothing else in the tests knows of it.
MISSING = {}


class Kind:
    """One combination; each axis is an attribute."""

    def __init__(self, **choice):
        self.choice = choice
        for axis, value in choice.items():
            setattr(self, axis, value)

    @classmethod
    def parse(cls, name):
        words = name.split("-")
        if len(words) != len(AXES) or any(
                w not in values for w, values in zip(words, AXES.values())):
            raise ValueError(f"{name!r} is no kind of image")
        return cls(**dict(zip(AXES, words)))

    @property
    def name(self):
        return "-".join(self.choice.values())

    def __str__(self):
        return self.name

    @property
    def cluster_size(self):
        return CLUSTERS[self.choice["cluster"]]

    @property
    def unit(self):
        """What can be allocated for itself."""
        return self.cluster_size // (32 if self.l2 == "ext" else 1)

    @property
    def size(self):
        """A multiple of no cluster size above 512, with several L2 tables
        where clusters are small."""
        return max(2 * MIB, 4 * self.cluster_size) + 3 * SECTOR

    @property
    def discard_zeroes(self):
        """Without a zero flag nothing can hide the backing file."""
        return self.compat == "v3" or self.backing == "alone"

    @property
    def backing_size(self):
        return {"alone": 0, "over": self.size,
                "overshort": self.size * 5 // 8 // SECTOR * SECTOR
                }[self.backing]

    @property
    def options(self):
        """For qemu-img create -o, but for the name of the data file."""
        out = {"compat": "0.10" if self.compat == "v2" else "1.1",
               "cluster_size": self.cluster_size,
               "refcount_bits": self.refcount[1:],
               "preallocation": self.preallocation}
        if self.compat == "v3":
            out["lazy_refcounts"] = "on" if self.refcounts == "lazy" else "off"
            out["compression_type"] = self.compression
            out["extended_l2"] = "on" if self.l2 == "ext" else "off"
        if self.data_file == "rawfile":
            out["data_file_raw"] = "on"
        return out


def legal(kind):
    """Does QEMU make such images?"""
    if kind.compat == "v2" and (
            kind.refcount != "r16" or kind.l2 == "ext" or
            kind.compression == "zstd" or kind.data_file != "own" or
            kind.refcounts == "lazy"):
        return False
    if kind.l2 == "ext" and kind.cluster_size < 16 * KIB:
        return False
    if kind.backing != "alone":
        if kind.data_file == "rawfile":
            return False
        if kind.preallocation != "off" and kind.l2 != "ext":
            return False
    # A snapshot takes refcounts of 2, and host clusters to give away.
    return kind.snapshot == "nosnap" or (kind.refcount != "r1" and
                                         kind.data_file == "own")


def supported(kind):
    return not any(kind.choice[axis] in values
                   for axis, values in MISSING.items())


@functools.cache
def every():
    """All kinds, in an order that does not change."""
    kinds = (Kind(**dict(zip(AXES, values)))
             for values in itertools.product(*AXES.values()))
    return [k for k in kinds if legal(k) and supported(k)]


def pairs(kind):
    return set(itertools.combinations(kind.choice.items(), 2))


def covering(kinds, seed=0):
    """Few of the kinds, with every pair of choices that any of them has.

    Greedy: of some kinds with a pair that is still missing, the one that has
    most of them.
    """
    source = random.Random(seed)
    having = {}
    for kind in kinds:
        for pair in pairs(kind):
            having.setdefault(pair, []).append(kind)
    # The pairs that few kinds have leave the least choice.
    missing = dict.fromkeys(sorted(having, key=lambda p: (len(having[p]), p)))
    out = []
    while missing:
        some = having[next(iter(missing))]
        best = max(source.sample(some, min(60, len(some))),
                   key=lambda k: sum(p in missing for p in pairs(k)))
        for pair in pairs(best):
            missing.pop(pair, None)
        out.append(best)
    return out


@functools.cache
def pairwise():
    return covering(every())


# --- images --------------------------------------------------------------------

# Repeated to fill what is written: some compress, some do not, and no length
# hides data that came to lie in the wrong place.
PATTERNS = (67, 331, 4099, 70001)


def pattern_files():
    for length in PATTERNS:
        if not os.path.exists(f"pattern{length}"):
            with open(f"pattern{length}", "wb") as f:
                f.write(random.Random(length).randbytes(length))


def backing_name(kind):
    """Name, or None, and format."""
    if kind.backing == "alone":
        return None, None
    if kind.backing == "overshort":
        return f"base{kind.backing_size}.raw", "raw"
    return f"base{kind.backing_size}.qcow2", "qcow2"


def make_backing(kind):
    """Made once for all kinds that can share it."""
    name, fmt = backing_name(kind)
    if name is None or os.path.exists(name):
        return
    source = random.Random(kind.backing_size)
    content = bytearray()
    while len(content) < kind.backing_size:
        length = source.randrange(1, 100) * KIB
        content += (bytes(length), source.randbytes(length),
                    source.randbytes(37) * (length // 37))[source.randrange(3)]
    content = content[:kind.backing_size]
    lib.write_sparse(f"{name}.tmp" if fmt == "qcow2" else name, content)
    if fmt == "qcow2":
        lib.run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2",
                "-o", "cluster_size=8k", f"{name}.tmp", name)
        os.unlink(f"{name}.tmp")


class Spans:
    """Random ranges of a disk, made so that they meet boundaries.

    Lengths are log-uniform, most starts lie at or near a boundary of what is
    allocated at a time, and the end of the disk is met often.
    """

    def __init__(self, source, size, units, longest=300 * KIB):
        self.rng = source
        self.size = size
        self.units = units
        self.longest = longest

    def length(self):
        top = math.log2(min(self.longest, self.size))
        length = int(2 ** self.rng.uniform(9, top))
        if self.rng.random() < 0.3:
            length = self.rng.choice(self.units) * self.rng.randrange(1, 5)
        return min(max(SECTOR, length - length % SECTOR), self.longest)

    def __call__(self):
        length = self.length()
        where = self.rng.random()
        if where < 0.1:
            start = self.size - length
        else:
            start = self.rng.randrange(0, self.size, SECTOR)
        if where > 0.4:
            start -= start % self.rng.choice(self.units)
        if where > 0.75:
            start += SECTOR * self.rng.randrange(-3, 4)
        start = min(max(0, start), self.size - SECTOR)
        return start, min(length, self.size - start)


def spans(kind, source, **args):
    return Spans(source, kind.size, sorted({kind.cluster_size, kind.unit}),
                 **args)


def compressed_writes(kind, source):
    """QEMU compresses whole clusters, and only where nothing was."""
    if kind.data_file != "own" or kind.preallocation != "off":
        return []
    count = kind.size // kind.cluster_size
    chosen = source.sample(range(count), min(12, count // 2))
    # Neighbours share host clusters.
    if kind.cluster_size <= 64 * KIB:
        chosen = sorted({min(c + n, count - 1) for c in chosen[:6]
                         for n in range(2)})
    if kind.snapshot == "snap":
        # All may lie in one host cluster, and the snapshot doubles its refcount.
        highest = 2 ** int(kind.refcount[1:]) - 1
        chosen = chosen[:highest // 2]
    return [f"write -c -s pattern{source.choice(PATTERNS[:3])} "
            f"{c * kind.cluster_size} {kind.cluster_size}" for c in chosen]


def filling(kind, source, count):
    """Commands for qemu-io."""
    verbs = source.choices(("write", "write -z", "write -z -u", "discard"),
                           (12, 3, 3, 3), k=count)
    span = spans(kind, source)
    out = []
    for verb in verbs:
        start, length = span()
        data = f"-s pattern{source.choice(PATTERNS)} " if verb == "write" else ""
        out.append(f"{verb} {data}{start} {length}")
    return out


def qemu_io(image, commands):
    done = lib.run("qemu-io", "-f", "qcow2", "-d", "unmap", image,
                   stdin="\n".join(commands) + "\n")
    lib.check("failed" not in done.stdout + done.stderr,
              f"qemu-io {image}: {done.stdout}{done.stderr}")


def to_raw(image, target, *options, fmt="qcow2"):
    """What QEMU reads of an image."""
    lib.run("qemu-img", "convert", "-f", fmt, "-O", "raw", *options, image,
            target)


def create(kind, image):
    options = kind.options
    make_backing(kind)
    backing, fmt = backing_name(kind)
    if kind.data_file != "own":
        options["data_file"] = f"{image}.data"
    lib.img_create(image, kind.size, backing=backing, backing_fmt=fmt,
                   **options)


def make(kind, image, seed=0):
    """An image of a kind with all sorts of clusters in it, in the working
    directory: IMAGE, IMAGE.raw (what it reads as), and where there are such
    IMAGE.data and IMAGE.snap.raw."""
    source = random.Random(f"{seed}/{kind.name}")
    pattern_files()
    create(kind, image)
    qemu_io(image, compressed_writes(kind, source) +
            filling(kind, source, 18))
    if kind.snapshot == "snap":
        lib.run("qemu-img", "snapshot", "-c", "before", image)
        to_raw(image, f"{image}.snap.raw", "-l", "before")
        qemu_io(image, filling(kind, source, 9))
    to_raw(image, f"{image}.raw")


def parts(image, kind):
    """The files of an image that a run may change, by what is added."""
    return [""] + ([".data"] if kind.data_file != "own" else [])
