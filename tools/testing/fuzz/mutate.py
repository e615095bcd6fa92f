#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Small images, and broken ones made of them where it hurts.

  mutate.py SEED NUMBER DIR      makes what the fuzzer of images calls so

A broken image is a function of a seed, a number and the sample: mutations of
header fields, header extensions, tables, the snapshot table, the bitmap
directory, compressed data and of bytes anywhere.
"""

import os
import random
import struct
import subprocess
import sys
import zlib

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "selftests"))
sys.dont_write_bytecode = True

import qcow2  # noqa: E402  pylint: disable=wrong-import-position
from qcow2 import COMPRESSED, COPIED, OFFSET_MASK  # noqa: E402

KIB = 1024
MIB = 1024 * KIB
BACKING = "backing.raw"
DATA_FILE = "data.raw"
SNAPSHOT_HEAD = 40
EXT_BITMAPS = 0x23852875
# Incompatible features
DIRTY, EXTERNAL, EXTENDED = 1, 4, 16

# name: (size, options of qemu-img create, commands of qemu-io, what else)
USUAL = ("write -P 0x11 0 40k", "write -P 0x22 100k 9k", "write -z 48k 16k",
         "write -P 0x33 300k 30k", "discard 312k 8k")
SAMPLES = {
    "v3": (2 * MIB, {}, USUAL + ("write -c -P 0x44 1M 64k",), ()),
    "v2": (1 * MIB, {"compat": "0.10", "cluster_size": 4096},
           USUAL + ("write -c -P 0x44 200k 4k",), ()),
    "tiny": (512 * KIB, {"cluster_size": 512},
             USUAL + ("write -c -P 0x44 200k 512", "write -c 201k 512"), ()),
    "zstd": (1 * MIB, {"compression_type": "zstd", "cluster_size": 4096},
             USUAL + ("write -c -P 0x44 200k 4k", "write -c 204k 4k"), ()),
    "snap": (1 * MIB, {"cluster_size": 4096}, USUAL, ("snapshot", "bits")),
    "bitmap": (1 * MIB, {"cluster_size": 4096}, USUAL, ("bitmap",)),
    "over": (1 * MIB, {"cluster_size": 4096}, USUAL, ("backing",)),
    "ref1": (1 * MIB, {"cluster_size": 4096, "refcount_bits": 1}, USUAL, ()),
    "ref64": (1 * MIB, {"cluster_size": 1024, "refcount_bits": 64}, USUAL,
              ("snapshot",)),
    "lazy": (1 * MIB, {"cluster_size": 4096, "lazy_refcounts": "on"}, USUAL,
             ("dirty",)),
    "extl2": (2 * MIB, {"extended_l2": "on", "cluster_size": 16384},
              USUAL + ("write -c -P 0x44 1M 16k", "write -z 2k 3k"), ()),
    "extsnap": (2 * MIB, {"extended_l2": "on", "cluster_size": 32768},
                USUAL, ("snapshot", "backing")),
    "large": (2 * MIB, {"cluster_size": 256 * KIB, "refcount_bits": 2},
              USUAL + ("write -c -P 0x44 1M 256k",), ()),
    "data": (1 * MIB, {"cluster_size": 4096, "data_file": DATA_FILE}, USUAL,
             ()),
    "dataraw": (1 * MIB, {"cluster_size": 4096, "data_file": DATA_FILE,
                          "data_file_raw": "on"}, USUAL, ()),
}


def deflate(data):
    z = zlib.compressobj(9, zlib.DEFLATED, -12)
    return z.compress(data) + z.flush()


# A stream that is right, and longer than a cluster.
LONG_STREAM = deflate(bytes(256 * KIB))


def tool(*argv):
    subprocess.run([str(a) for a in argv], check=True,
                   stdout=subprocess.DEVNULL)


def make_sample(name):
    """Makes NAME.qcow2 in the working directory."""
    size, options, commands, extra = SAMPLES[name]
    path = f"{name}.qcow2"
    argv = ["qemu-img", "create", "-q", "-f", "qcow2"]
    if "backing" in extra:
        argv += ["-b", BACKING, "-F", "raw"]
    if options:
        argv += ["-o", ",".join(f"{k}={v}" for k, v in options.items())]
    tool(*argv, path, size)

    def write(commands):
        tool("qemu-io", "-f", "qcow2",
             *(a for c in commands for a in ("-c", c)), path)

    write(commands)
    if "snapshot" in extra:
        tool("qemu-img", "snapshot", "-c", "first", path)
        write(["write -P 0x55 0 5k", "write -z 100k 4k", "write 500k 8k"])
        tool("qemu-img", "snapshot", "-c", "second, with a longer name", path)
        write(["write -P 0x66 8k 5k"])
    if "bitmap" in extra or "bits" in extra:
        tool("qemu-img", "bitmap", "--add", "-g", "512", path, "one")
        tool("qemu-img", "bitmap", "--add", path, "two")
        write(["write -P 0x77 20k 5k"])


def make_samples():
    with open(BACKING, "wb") as f:
        f.write(bytes(range(256)) * (MIB // 256))
    for name in SAMPLES:
        make_sample(name)


class Sample:
    """A good image, and where everything is in it."""

    def __init__(self, name, data):
        self.name = name
        self.extra = SAMPLES[name][3]
        self.b = b = qcow2.Bytes(data)
        self.cluster = b.cluster
        features = b.get("incompatible_features") if b.get("version") > 2 else 0
        self.external = bool(features & EXTERNAL)
        self.entry = 16 if features & EXTENDED else 8
        self.places = {}        # kind -> [(offset, length)]
        self.find_header()
        self.find_tables(b.l1, b.get("l1_size"))
        self.find_refcounts()
        self.find_snapshots()
        self.find_bitmaps()

    def add(self, kind, offset, length):
        length = min(length, len(self.b.data) - offset)
        if length > 0 and (offset, length) not in self.places.setdefault(
                kind, []):
            self.places[kind].append((offset, length))

    def find_header(self):
        b = self.b
        at = b.get("header_length") if b.get("version") > 2 else 72
        while True:
            magic, length = struct.unpack_from(">II", b.data, at)
            self.add("ext", at, 8 + length)
            if magic == EXT_BITMAPS:
                self.add("bitmapext", at + 8, length)
            if not magic:
                break
            at += 8 + (length + 7) // 8 * 8
        if b.get("backing_file_offset"):
            self.add("name", b.get("backing_file_offset"),
                     b.get("backing_file_size"))

    def find_tables(self, l1, size):
        self.add("l1", l1, 8 * size)
        for n in range(size):
            l2 = self.b.u64(l1 + 8 * n) & OFFSET_MASK
            if not l2:
                continue
            self.add("l2", l2, self.cluster)
            for at in range(l2, l2 + self.cluster, self.entry):
                self.find_data(self.b.u64(at))
                if self.b.u64(at) or self.b.u64(at + self.entry - 8):
                    self.add("used", at, self.entry)

    def find_data(self, entry):
        if entry & COMPRESSED:
            shift = 62 - (self.b.get("cluster_bits") - 8)
            self.add("packed", entry & ((1 << shift) - 1), 512)
        elif entry & OFFSET_MASK and not self.external:
            self.add("data", entry & OFFSET_MASK, self.cluster)

    def find_refcounts(self):
        b = self.b
        self.add("reftable", b.reftable,
                 b.get("refcount_table_clusters") * self.cluster)
        for at in range(b.reftable, b.reftable + self.cluster, 8):
            if b.u64(at):
                self.add("refblock", b.u64(at), self.cluster)

    def find_snapshots(self):
        b = self.b
        at = b.get("snapshots_offset")
        for _ in range(b.get("nb_snapshots")):
            l1, size, idlen, namelen = struct.unpack_from(">QIHH", b.data, at)
            more = struct.unpack_from(">I", b.data, at + 36)[0]
            self.add("snapshot", at, SNAPSHOT_HEAD + more)
            self.find_tables(l1, size)
            at += (SNAPSHOT_HEAD + more + idlen + namelen + 7) // 8 * 8

    def find_bitmaps(self):
        for at, _ in self.places.get("bitmapext", ()):
            count, _, size, offset = struct.unpack_from(
                ">IIQQ", self.b.data, at)
            self.add("bitmapdir", offset, size)
            for _ in range(count):
                table, entries = struct.unpack_from(">QI", self.b.data, offset)
                namelen, more = struct.unpack_from(">HI", self.b.data,
                                                   offset + 18)
                self.add("bitmaptable", table, 8 * entries)
                offset += (24 + namelen + more + 7) // 8 * 8

    def tables(self):
        return [o for kind in ("l1", "l2", "reftable", "refblock", "snapshot",
                               "bitmapdir", "bitmaptable")
                for o, _ in self.places.get(kind, ())]

    def all_data(self):
        return [o for o, _ in self.places.get("data", ())]


class Mutator:
    """Breaks one copy of a sample."""

    # Structures by how often they are broken
    KINDS = (("header", 16), ("used", 22), ("l2", 6), ("l1", 10),
             ("reftable", 7), ("refblock", 10), ("snapshot", 12),
             ("bitmapext", 5), ("bitmapdir", 8), ("bitmaptable", 3),
             ("ext", 8), ("name", 3), ("packed", 8), ("cut", 3),
             ("noise", 5), ("swap", 4))

    def __init__(self, sample, rng):
        self.sample = sample
        self.rng = rng
        self.b = qcow2.Bytes(sample.b.data)
        self.said = []

    def run(self):
        kinds = [k for k in self.KINDS
                 if k[0] in self.sample.places or
                 k[0] in ("header", "cut", "noise", "swap")]
        count = 1
        while count < 6 and self.rng.random() < 0.4:
            count += 1
        if "dirty" in self.sample.extra and self.rng.random() < 0.7:
            self.b.set("incompatible_features", DIRTY)
            self.say("dirty")
        chosen = self.rng.choices([k for k, _ in kinds],
                                  [w for _, w in kinds], k=count)
        # What has been cut off cannot be broken any more.
        for kind in sorted(chosen, key=lambda k: k == "cut"):
            getattr(self, "do_" + kind)()
        return self.b.data

    def say(self, text):
        self.said.append(text)

    def put(self, at, data, what):
        end = len(self.b.data)
        data = data[:max(0, end - at)]
        self.b.put(at, data)
        self.say(f"{what} at {at:#x} = {data[:16].hex()}")

    def place(self, kind):
        return self.rng.choice(self.sample.places[kind])

    def strange(self, bits, old):
        """A number that somebody may have forgotten."""
        rng, cluster, end = self.rng, self.sample.cluster, len(self.b.data)
        return rng.choice((
            0, 1, 2, old + 1, old - 1, old * 2, old // 2, old ^ 1,
            old ^ (1 << rng.randrange(bits)), -1, 1 << (bits - 1),
            (1 << (bits - 1)) - 1, rng.randrange(1 << rng.randrange(1, bits)),
            1 << rng.randrange(bits), -cluster, cluster, cluster - 1, end,
            end - end % cluster + cluster, end + cluster * 1000,
            rng.choice(self.sample.tables()), 1 << 56, (1 << 56) - cluster,
            1 << 40)) % (1 << bits)

    def offset(self):
        """An offset for a table to point to."""
        rng, sample = self.rng, self.sample
        cluster, end = sample.cluster, len(self.b.data)
        kind = rng.random()
        if kind < 0.45:
            return rng.choice(sample.tables() + [0])
        if kind < 0.6 and sample.all_data():
            return rng.choice(sample.all_data())
        if kind < 0.75:
            return rng.randrange(0, end + 8 * cluster, cluster)
        return self.strange(56, end) & rng.choice((OFFSET_MASK, -cluster))

    def l2_entry(self, old):
        rng = self.rng
        kind = rng.random()
        if kind < 0.1:
            return old ^ (1 << rng.randrange(64))
        if kind < 0.2:
            return old ^ rng.choice((COPIED, COMPRESSED, 1, COPIED | 1))
        if kind < 0.35:
            return self.packed_entry()
        if kind < 0.4:
            return self.strange(64, old)
        return self.offset() | rng.choice((0, COPIED, COPIED, COPIED, 1,
                                           COPIED | 1, 512, 1 << 61))

    def packed_entry(self):
        shift = 62 - (self.sample.b.get("cluster_bits") - 8)
        sectors = self.rng.choice((0, 1, (1 << (62 - shift)) - 1))
        old = self.sample.places.get("packed")
        at = self.rng.choice(old)[0] if old and self.rng.random() < 0.5 \
            else self.offset() + self.rng.randrange(512)
        return COMPRESSED | (sectors << shift) | at % (1 << shift)

    def field(self, fields, start, what):
        at, length = self.rng.choice(fields)
        at += start
        if at + length > len(self.b.data):
            return
        old = int.from_bytes(self.b.data[at:at + length], "big")
        self.put(at, self.strange(8 * length, old).to_bytes(length, "big"),
                 what)

    def do_header(self):
        name = self.rng.choice(list(qcow2.HEADER)[1:])
        at, length = qcow2.HEADER[name]
        if name == "incompatible_features" and self.rng.random() < 0.7:
            old = self.b.get(name)
            self.b.set(name, old ^ (1 << self.rng.randrange(5)))
            self.say(f"{name} = {self.b.get(name):#x}")
            return
        if name == "autoclear_features" and self.rng.random() < 0.7:
            self.b.set(name, self.rng.randrange(8))
            self.say(f"{name} = {self.b.get(name):#x}")
            return
        self.field([(at, length)], 0, name)

    def do_ext(self):
        at, length = self.place("ext")
        kind = self.rng.random()
        if kind < 0.4:
            self.field([(4, 4)], at, "extension length")
        elif kind < 0.6:
            magic = self.rng.choice((0xe2792aca, 0x6803f857, 0x0537be77,
                                     EXT_BITMAPS, 0x44415441, 0, 1))
            self.put(at, struct.pack(">I", magic), "extension magic")
        else:
            pos = self.rng.randrange(at, at + max(length, 16))
            self.put(pos, self.rng.randbytes(self.rng.randrange(1, 24)),
                     "extension")

    def do_name(self):
        at, length = self.place("name")
        self.put(self.rng.randrange(at, at + length),
                 self.rng.randbytes(self.rng.randrange(1, 8)), "backing name")

    def do_used(self):
        at, length = self.place("used")
        if length == 16 and self.rng.random() < 0.5:
            self.field([(8, 4), (12, 4), (8, 8)], at, "subclusters")
            return
        self.set_l2(at, self.l2_entry(self.b.u64(at)))

    def do_l2(self):
        at, length = self.place("l2")
        size = self.sample.entry
        at += self.rng.randrange(length // size) * size
        if self.rng.random() < 0.3:
            data = self.rng.choice((b"\xff", b"\0", b"\x80", b"\x01"))
            self.put(at, data * self.rng.randrange(8, 512), "L2 table")
            return
        self.set_l2(at, self.l2_entry(self.b.u64(at)))

    def set_l2(self, at, value):
        self.put(at, struct.pack(">Q", value % (1 << 64)), "L2 entry")

    def do_l1(self):
        at, length = self.place("l1")
        at += self.rng.randrange(length // 8) * 8
        value = self.offset() | self.rng.choice((COPIED, COPIED, 0, 512, 1))
        if self.rng.random() < 0.2:
            value = self.strange(64, self.b.u64(at))
        self.put(at, struct.pack(">Q", value % (1 << 64)), "L1 entry")

    def do_reftable(self):
        at, length = self.place("reftable")
        if self.rng.random() < 0.4:
            length = 16
        at += self.rng.randrange(max(1, length // 8)) * 8
        self.put(at, struct.pack(">Q", (self.offset() | self.rng.choice(
            (0, 0, 0, 1, 512))) % (1 << 64)), "refcount table entry")

    def do_refblock(self):
        at, length = self.place("refblock")
        used = len(self.b.data) // self.sample.cluster
        good = self.sample.b
        width = max(1, (1 << good.get("refcount_order")) // 8
                    if good.get("version") > 2 else 2)
        kind = self.rng.random()
        if kind < 0.2:
            byte = self.rng.choice((0, 0, 1, 0xff)).to_bytes(1, "big")
            start = self.rng.randrange(length)
            self.put(at + start, byte * self.rng.randrange(1, length + 1),
                     "refcounts")
            return
        at += self.rng.randrange(min(length, (used + 4) * width))
        at -= at % width
        value = self.rng.choice((0, 0, 1, 2, -1, 1 << (8 * width - 1)))
        self.put(at, (value % (1 << 8 * width)).to_bytes(width, "big"),
                 "refcount")

    def do_snapshot(self):
        at, _ = self.place("snapshot")
        self.field([(0, 8), (8, 4), (12, 2), (14, 2), (32, 4), (36, 4),
                    (40, 8), (48, 8)], at, "snapshot")

    def do_bitmapext(self):
        at, _ = self.place("bitmapext")
        self.field([(0, 4), (4, 4), (8, 8), (16, 8)], at, "bitmaps extension")

    def do_bitmapdir(self):
        at, _ = self.place("bitmapdir")
        self.field([(0, 8), (8, 4), (12, 4), (16, 1), (17, 1), (18, 2),
                    (20, 4)], at, "bitmap directory")

    def do_bitmaptable(self):
        at, length = self.place("bitmaptable")
        at += self.rng.randrange(length // 8) * 8
        self.put(at, struct.pack(">Q", self.l2_entry(self.b.u64(at)) %
                                 (1 << 64)), "bitmap table entry")

    def do_packed(self):
        at, length = self.place("packed")
        if self.rng.random() < 0.3:
            self.put(at, LONG_STREAM[:length], "long compressed data")
            return
        pos = self.rng.randrange(at, at + length)
        self.put(pos, self.rng.randbytes(self.rng.randrange(1, 40)),
                 "compressed data")

    def do_cut(self):
        end = len(self.b.data)
        keep = self.rng.choice((self.rng.randrange(end),
                                self.rng.randrange(0, end,
                                                   self.sample.cluster),
                                self.rng.choice(self.sample.tables()) + 8,
                                end - 1, end - 512))
        del self.b.data[max(0, keep):]
        self.say(f"cut to {len(self.b.data)}")

    def do_noise(self):
        at = self.rng.choice((
            self.rng.randrange(len(self.b.data)),
            self.rng.randrange(min(len(self.b.data), 1024)),
            self.rng.choice(self.sample.tables())))
        self.put(at, self.rng.randbytes(self.rng.randrange(1, 64)), "noise")

    def do_swap(self):
        cluster = self.sample.cluster
        count = len(self.b.data) // cluster
        if count < 2:
            return
        one, two = (self.rng.randrange(count) * cluster for _ in range(2))
        self.put(one, bytes(self.sample.b.data[two:two + cluster]),
                 f"copy of {two:#x}")


class Samples:
    """All samples of a directory."""

    def __init__(self, directory):
        self.samples = []
        for name in SAMPLES:
            with open(os.path.join(directory, f"{name}.qcow2"), "rb") as f:
                self.samples.append(Sample(name, f.read()))

    def mutate(self, seed, number):
        """Returns (sample, bytes, what was done, generator for the rest)."""
        rng = random.Random(f"{seed}/{number}")
        sample = rng.choice(self.samples)
        mutator = Mutator(sample, rng)
        data = mutator.run()
        return sample, data, "; ".join(mutator.said), rng


def main():
    if len(sys.argv) != 4:
        print(__doc__)
        return 2
    seed, number, directory = sys.argv[1:]
    os.makedirs(directory, exist_ok=True)
    os.chdir(directory)
    make_samples()
    sample, data, said, _ = Samples(".").mutate(seed, int(number))
    with open("broken.qcow2", "wb") as f:
        f.write(data)
    print(f"{directory}/broken.qcow2, of {sample.name}: {said}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
