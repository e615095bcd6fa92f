#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Writes what fuzzing of the codec starts from, made of good images.

  seeds.py DIR      makes DIR/TARGET/*
"""

import os
import sys
import tempfile

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
            folder = os.path.join(target, name)
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, f"{sample.name}-{n}"), "wb") as f:
                f.write(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
