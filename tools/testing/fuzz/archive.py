# SPDX-License-Identifier: GPL-2.0
"""Packs mutated images for attach.c: what differs from a sample, what is done.

All that can be made before a machine boots is made here, on the host.
"""

import os
import shlex
import struct

import lib
import mutate
from lib import KIB, MIB

HERE = os.path.dirname(os.path.abspath(__file__))
# As in attach.c
GOOD, BACKING, EXTERNAL, FOR_READING, FOR_WRITING = 1, 2, 4, 8, 16
OPS = ("read", "write", "discard", "zero", "punch", "flush")
AREA = 2 * MIB
# Part of the images that are attached for reading
READERS = 0.3
# Bytes that are compared at once, first and where something differs
PAGE = 4 * KIB
BLOCK = 64


class Plan:
    """What is done to a disk: [(operation, length, start)]."""

    STEPS = 16
    WEIGHTS = {"write": 40, "discard": 22, "zero": 10, "punch": 10,
               "read": 10, "flush": 8}

    def __init__(self, size, rng):
        self.size = size // 512 * 512
        self.area = min(self.size, AREA)
        self.rng = rng

    def step(self):
        rng = self.rng
        op = rng.choices(list(self.WEIGHTS), self.WEIGHTS.values())[0]
        if op == "flush":
            return OPS.index(op), 0, 0
        length = min(512 * rng.choice((1, 1, 8, 16, 128, 200)), self.area)
        base = 0
        if rng.random() < 0.05:
            # Far out, where a size or a table was made larger
            base = self.size - self.area
        start = base + rng.randrange(0, self.area - length + 1, 512)
        if rng.random() < 0.4:
            start -= start % min(4096, self.area)
        return OPS.index(op), length, start

    def steps(self):
        if not self.area:
            return []
        return [self.step() for _ in range(self.STEPS)] + [
            (OPS.index("discard"), self.area, 0), (OPS.index("flush"), 0, 0)]


def differences(old, new, block, start=0, end=None):
    """(offset, bytes) of each block of new that differs; it may be shorter."""
    for at in range(start, len(new) if end is None else end, block):
        data = bytes(new[at:at + block])
        if old[at:at + len(data)] != data:
            yield at, data


def patches(old, new):
    """The same, in fine blocks."""
    for at, data in differences(old, new, PAGE):
        yield from differences(old, new, BLOCK, at, at + len(data))


def packed(runs):
    """How many there are, and their bytes."""
    runs = list(runs)
    return len(runs), b"".join(
        struct.pack("2I", at, len(data)) + data + bytes(-len(data) % 8)
        for at, data in runs)


def pack(number, index, sample, data, flags, ops):
    header = mutate.qcow2.Bytes(data[:112].ljust(112, b"\0"))
    if header.get("version") > 2 and \
            header.get("incompatible_features") & mutate.EXTERNAL:
        flags |= EXTERNAL
    if "backing" in sample.extra:
        flags |= BACKING
    count, body = packed(patches(sample.b.data, data))
    return struct.pack("6I", number, index, len(data), flags, count,
                       len(ops)) + body + b"".join(
        struct.pack("IIQ", *op) for op in ops)


def mutated(samples, seed, number, said):
    sample, data, what, rng = samples.mutate(seed, number)
    said.write(f"{number} {sample.name}: {what}\n")
    size = mutate.qcow2.Bytes(data.ljust(32, b"\0")).get("size")
    plan = Plan(size, rng)
    mode = FOR_READING if rng.random() < READERS else FOR_WRITING
    return pack(number, samples.samples.index(sample), sample, data, mode,
                plan.steps())


def good(samples):
    """The samples themselves."""
    for n, sample in enumerate(samples.samples):
        yield pack(n, n, sample, sample.b.data,
                   GOOD | FOR_READING | FOR_WRITING, [])


def contents(sample):
    """The file of a sample, and what it reads as."""
    name = f"{sample.name}.flat"
    lib.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw",
            f"{sample.name}.qcow2", name)
    with open(name, "rb") as f:
        flat = f.read()
    data = sample.b.data
    count, body = packed(differences(bytes(len(data)), data, PAGE))
    flat_count, flat_body = packed(differences(bytes(len(flat)), flat, PAGE))
    return struct.pack("16s4I", sample.name.encode(), len(data), len(flat),
                       count, flat_count) + body + flat_body


def write(path, samples, images):
    with open(path, "wb") as f:
        f.write(struct.pack("2I", len(samples), len(images)))
        f.write(b"".join(samples + images))


def build(target):
    """The program that uses an archive."""
    packages = ("libnl-genl-3.0", "json-c")
    flags = lib.run("pkg-config", "--cflags", "--libs", *packages).stdout
    lib.run("gcc", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-std=gnu11",
            "-D_GNU_SOURCE", f"-I{lib.ROOT}/userspace/lib",
            f"-I{lib.ROOT}/uapi", "-o", target,
            os.path.join(HERE, "attach.c"),
            os.path.join(lib.BUILD, "userspace/libqblk.a"),
            *shlex.split(flags))


def make(seed, numbers, parts):
    """Everything, in the working directory: images.0 to images.PARTS-1.

    What was done to an image is a line of the file "said".
    """
    mutate.make_samples()
    build("attach")
    samples = mutate.Samples(".")
    images = list(good(samples))
    with open("said", "w", encoding="utf-8") as said:
        images += [mutated(samples, seed, n, said) for n in numbers]
    files = [contents(sample) for sample in samples.samples]
    for part in range(parts):
        write(f"images.{part}", files, images[part::parts])
