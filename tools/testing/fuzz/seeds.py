#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Writes what fuzzing of the codec starts from, made of good images.

  seeds.py DIR      makes DIR/TARGET/*
"""

import os
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


def deflated():
    """What wants a number of bytes, and deflate data that make it."""
    text = b"".join(b"%d %x " % (n * n, n) for n in range(2000))
    for level in (0, 1, 9):
        for strategy in (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY,
                         zlib.Z_RLE, zlib.Z_FIXED):
            for data in (text, bytes(500), bytes(range(256))):
                z = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
                packed = z.compress(data) + z.flush()
                for want in (len(data), len(data) // 2):
                    yield (want - 1).to_bytes(2, "little") + packed


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
    return 0


if __name__ == "__main__":
    sys.exit(main())
