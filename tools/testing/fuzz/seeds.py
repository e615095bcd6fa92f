#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Writes what fuzzing of the codec starts from, made of good images.

  seeds.py DIR      makes DIR/TARGET/*
"""

import os
import random
import struct
import subprocess
import sys
import tempfile
import zlib

sys.dont_write_bytecode = True

import mutate  # noqa: E402  pylint: disable=wrong-import-position


def seeds(sample):
    """(target, bytes) for each structure of an image."""
    b = sample.b
    yield "header", bytes(b.data[:1024])
    kinds = (sample.entry == 16) | 2 * sample.external
    prefix = bytes((b.get("cluster_bits") - 9, 4, kinds, 1)) + bytes(4)
    for kind in ("l2", "refblock"):
        for at, length in sample.places[kind]:
            yield "entries", prefix + bytes(b.data[at:at + min(length, 4096)])
    tables = bytes((b.get("cluster_bits") - 9, 0, 0, 0))
    if b.get("nb_snapshots"):
        at = b.get("snapshots_offset")
        yield "tables", tables + bytes(b.data[at:at + 512])
    for at, length in sample.places.get("bitmapdir", ()):
        yield "tables", b"\x03\1" + tables[2:] + bytes(b.data[at:at + length])


def text():
    """Compresses, but not to nothing."""
    return b"".join(b"%d %x " % (n * n, n) for n in range(2000))


def deflated():
    """What wants a number of bytes, and deflate data that make it."""
    for level in (0, 1, 9):
        for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY,
                         zlib.Z_RLE, zlib.Z_FIXED):
            for data in (text(), bytes(500), bytes(range(256))):
                z = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
                packed = z.compress(data) + z.flush()
                for want in (len(data), len(data) // 2):
                    yield (want - 1).to_bytes(2, "little") + packed


def plain():
    """What is compressed in different ways: runs, records, letters, noise."""
    noise = random.Random(1)
    yield text()[:6000]
    yield bytes(3000)
    yield bytes(range(256)) * 2
    yield b"".join(struct.pack("<IHBB", n, n * 7 % 50, 0, n % 3)
                   for n in range(700))
    yield bytes(noise.choice(b"eeeeeettttaaooiinn shrdlu") for _ in range(4000))
    yield bytes(int(noise.expovariate(0.1)) % 256 for _ in range(3000))
    yield bytes(noise.choice(b"ab") for _ in range(40)) + noise.randbytes(60)


def zstd(data, *options):
    """A frame, by the tool."""
    return subprocess.run(("zstd", "-cq", *options), input=data, check=True,
                          stdout=subprocess.PIPE).stdout


def zstd_four_streams(nr):
    """A frame of so few literals, of a bit each, that the tool makes none."""
    each = (nr + 3) // 4
    coded = b"\x80\x10" + 3 * b"\1\0" + 3 * bytes((1 << each,)) + \
        bytes((1 << nr - 3 * each,))
    block = (6 | nr << 4 | len(coded) << 14).to_bytes(3, "little") + coded + \
        b"\0"
    return b"\x28\xb5\x2f\xfd\0\0" + \
        (5 | len(block) << 3).to_bytes(3, "little") + block


def zstd_frames():
    """How much is made and wanted, and frames that make it."""
    half = (1000).to_bytes(3, "little")
    for data in plain():
        size = (len(data) - 1).to_bytes(3, "little")
        fit = (len(data) - 1 | 1 << 23).to_bytes(3, "little")
        for options in (("-1",), ("-19",), ("--fast=9",),
                        ("-9", "--zstd=wlog=10"), ("-19", "--zstd=wlog=10")):
            for check in ("--no-check", "--check"):
                frame = zstd(data, check, *options)
                yield fit + half + frame
                yield size + half + zstd(data, check, *options,
                                         f"--stream-size={len(data)}")
        yield fit + half + b"\x50\x2a\x4d\x18\1\0\0\0x" + zstd(b"") + \
            frame + zstd(data[:100])
    for nr in (3, 4, 6, 7, 8):
        yield bytes((nr - 1, 0, 0, nr // 2, 0, 0)) + zstd_four_streams(nr)


def zstd_plain():
    """How data is compressed, and the data."""
    for data in plain():
        for level in range(8):
            for how in range(0, 128, 21):
                times = 255 if level == how % 8 else how % 4
                yield bytes((level, how, how % 8, times, 128, 100, 1, 0)) + data


def write_seeds(folder, prefix, contents):
    os.makedirs(folder, exist_ok=True)
    for n, data in enumerate(contents):
        with open(os.path.join(folder, f"{prefix}-{n}"), "wb") as f:
            f.write(data)


def main():
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    target = os.path.abspath(sys.argv[1])
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        mutate.make_samples()
        samples = mutate.Samples(".").samples
        os.chdir("/")
    for sample in samples:
        for n, (name, data) in enumerate(seeds(sample)):
            write_seeds(os.path.join(target, name), f"{sample.name}-{n}",
                        [data])
    write_seeds(os.path.join(target, "inflate"), "deflated", deflated())
    write_seeds(os.path.join(target, "unzstd"), "frames", zstd_frames())
    write_seeds(os.path.join(target, "unzstd_back"), "plain", zstd_plain())
    return 0


if __name__ == "__main__":
    sys.exit(main())
