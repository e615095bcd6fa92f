# SPDX-License-Identifier: GPL-2.0
"""What the crash tests write, so that both sides agree on it.

The disk is a row of blocks.  Each sector of a block says which block it is and
which version of it, so that any cut can be judged sector by sector.

The image lies at the start of a slot of a disk, an external data file behind
it: both are written through one log, which tells what came first.
"""

import json
import os
import struct
import subprocess
from dataclasses import dataclass, field

import lib

BLOCK = 4096
SECTOR = 512
STRIPE = 8      # blocks that belong to one thread
THREADS = 3
MIB = 1 << 20

IMAGE = 48 * MIB            # of a slot, for the image
DATA = 16 * MIB             # and for the external data file
SLOT = IMAGE + DATA
LOG = 1024 * MIB            # of the log disk, for each scenario

# What a thread does, in per cent; the rest are flushes.
MIX = {"write": 65, "dsync": 6, "zero": 8, "discard": 5}
HOLES = {"write": 44, "dsync": 4, "zero": 20, "discard": 20}

AGAIN = 1 << 40             # version of what is written after a cut

REFCOUNTS, WRITES, TABLES = "missing refcounts", "lost writes", "lost L2 tables"


@dataclass
class Scenario:
    name: str
    options: str            # for qemu-img
    cluster: int = 65536
    size: int = 8 * MIB     # of the virtual disk
    start: str = "filled"   # or "empty", "compressed", "zeroed", "snapshot"
    backing: str = ""       # format of a backing file
    data_file: str = ""     # "plain" or "raw"
    lazy: bool = False      # refcounts are rebuilt after a cut
    mix: dict = field(default_factory=lambda: MIX)
    attach: str = ""        # options of the driver
    steps: int = 100        # per thread
    # Damage to the log that must not go unnoticed.
    controls: tuple = (REFCOUNTS, WRITES, TABLES)

    @property
    def blocks(self):
        return self.size // BLOCK

    @property
    def unit(self):
        """The least that a discard lets go of."""
        return self.cluster // (32 if "extended_l2=on" in self.options else 1)


SCENARIOS = [
    Scenario("fresh", "cluster_size=4k", 4096, start="empty"),
    Scenario("backing", "cluster_size=64k", start="empty", backing="raw"),
    # One cluster is copied for many writes to it.
    Scenario("large", "cluster_size=1M", 1 << 20, 12 * MIB, start="empty",
             backing="qcow2", steps=60),
    Scenario("compressed", "cluster_size=64k", start="compressed"),
    Scenario("zstd", "cluster_size=16k,compression_type=zstd", 16384,
             start="compressed"),
    Scenario("zeroed", "cluster_size=64k", start="zeroed"),
    # An L2 table for each 2 MiB, all shared with a snapshot.
    Scenario("snapshot", "cluster_size=4k", 4096, start="snapshot"),
    Scenario("snapshot-large", "cluster_size=64k", start="snapshot"),
    Scenario("discard", "cluster_size=4k,refcount_bits=1", 4096, mix=HOLES),
    Scenario("discard-v2", "cluster_size=16k,compat=0.10", 16384, mix=HOLES),
    # Refcount blocks and the refcount table have to grow.
    Scenario("growth", "cluster_size=512,refcount_bits=64", 512, start="empty",
             steps=70),
    # Metadata is written back for want of memory, not only at a flush.
    Scenario("small-caches", "cluster_size=512,refcount_bits=8", 512,
             attach="l2-cache-size=8k,refcount-cache-size=8k", steps=70),
    # Subclusters of 8 KiB: writes to parts of them, over a backing file.
    Scenario("subclusters", "cluster_size=256k,extended_l2=on", 256 << 10,
             start="empty", backing="raw"),
    # Of 4 KiB, and parts of the clusters are discarded while others are filled.
    # All have a place, so refcounts only fall.
    Scenario("subclusters-holes", "cluster_size=128k,extended_l2=on",
             128 << 10, mix=HOLES, steps=70, controls=(WRITES, TABLES)),
    Scenario("subclusters-snapshot", "cluster_size=64k,extended_l2=on",
             start="snapshot", steps=70),
    Scenario("data-file", "cluster_size=4k", 4096, start="empty",
             data_file="plain", mix=HOLES, steps=70),
    # Every cluster has its place and its L2 entry from the beginning.
    Scenario("data-file-raw", "cluster_size=64k", data_file="raw", mix=HOLES,
             steps=70, controls=(WRITES,)),
    # Refcounts are not written by a flush: a cut leaves them to be rebuilt.
    Scenario("lazy", "cluster_size=4k,lazy_refcounts=on", 4096, lazy=True,
             mix=HOLES, controls=(WRITES, TABLES)),
    Scenario("lazy-snapshot", "cluster_size=64k,lazy_refcounts=on",
             start="snapshot", lazy=True, controls=(WRITES, TABLES)),
]

# What a machine writes to that is killed: two images each.
KILL_PAIRS = (("fresh", "snapshot"), ("discard", "backing"),
              ("growth", "compressed"), ("small-caches", "zeroed"),
              ("discard-v2", "snapshot-large"),
              ("subclusters-holes", "data-file"),
              ("subclusters-snapshot", "data-file-raw"))
KILL_VERSIONS = 1000000     # most that one machine gets to


# --- content --------------------------------------------------------------------

def stamp(block, version):
    """Content of one sector."""
    return struct.pack("<IIQ", 0x6b6c6271, block, version) * (SECTOR // 16)


def content(block, version):
    return stamp(block, version) * (BLOCK // SECTOR)


def initial_data(size):
    """Two of four stripes have content before the workload."""
    return b"".join(content(b, 0) if b // (2 * STRIPE) % 2 == 0
                    else bytes(BLOCK) for b in range(size // BLOCK))


# --- images ---------------------------------------------------------------------

def run(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def base_name(scenario):
    return f"base-{scenario.backing}-{scenario.size // MIB}"


def make_base(scenario, directory):
    """The guest sees it as /dev/disk/NAME, and nobody there writes to it."""
    raw = os.path.join(directory, f"raw-{scenario.size // MIB}")
    if not os.path.exists(raw):
        with open(raw, "wb") as f:
            f.write(initial_data(scenario.size))
    path = os.path.join(directory, base_name(scenario))
    if scenario.backing and not os.path.exists(path):
        run("qemu-img", "convert", "-O", scenario.backing, raw, path)
        # A disk consists of sectors.
        os.truncate(path, -(-os.path.getsize(path) // 65536) * 65536)
    return raw


def zero_some(scenario, path, data):
    """Zero clusters, with and without a cluster of their own."""
    commands = []
    for number, at in enumerate(range(0, scenario.size, 4 * scenario.cluster)):
        flag = "-u " if number % 2 else ""
        commands += ["-c", f"write -z {flag}{at} {2 * scenario.cluster}"]
    run("qemu-io", *commands, node(scenario, path, None, data=data))


def make_image(scenario, directory, target, offset):
    """Puts the image, and its data file, into a slot of target."""
    raw = make_base(scenario, directory)
    path = os.path.join(directory, f"{scenario.name}.image")
    data = os.path.join(directory, f"{scenario.name}.data-file")
    options = scenario.options
    if scenario.data_file:
        options += f",data_file={data}"
        options += ",data_file_raw=" + ("on" if scenario.data_file == "raw"
                                        else "off")
    if scenario.start == "empty":
        base = []
        if scenario.backing:
            base = ["-u", "-b", f"/dev/disk/{base_name(scenario)}",
                    "-F", scenario.backing]
        run("qemu-img", "create", "-q", "-f", "qcow2", *base, "-o", options,
            path, str(scenario.size))
    else:
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2",
            *(["-c"] if scenario.start == "compressed" else []),
            "-o", options, raw, path)
    if scenario.start == "zeroed":
        zero_some(scenario, path, data)
    if scenario.start == "snapshot":
        run("qemu-img", "snapshot", "-c", "before", path)
    put(path, target, offset, IMAGE)
    os.unlink(path)
    if scenario.data_file:
        put(data, target, offset + IMAGE, DATA)
        os.unlink(data)


def put(source, target, offset, most):
    """Copies a file into a sparse one that holds zeroes there."""
    lib.check(os.path.getsize(source) <= most, f"{source} is too large")
    with open(source, "rb") as src, open(target, "r+b") as dst:
        for at in range(0, os.path.getsize(source), 65536):
            part = src.read(65536)
            if part.count(0) != len(part):
                dst.seek(offset + at)
                dst.write(part)


# --- QEMU's view ----------------------------------------------------------------

def slice_of(path, offset, size):
    return {"driver": "raw", "offset": offset, "size": size,
            "file": {"driver": "file", "filename": path}}


def node(scenario, path, directory, offset=None, data=None):
    """The options that open an image: a file of its own, or in a slot."""
    plain = offset is None
    out = {"driver": "qcow2", "backing": None,
           "file": {"driver": "file", "filename": path} if plain
           else slice_of(path, offset, IMAGE)}
    if scenario.data_file:
        out["data-file"] = (
            {"driver": "file", "filename": data} if plain
            else slice_of(path, offset + IMAGE, DATA))
    if scenario.backing and directory:
        out["backing"] = {
            "driver": scenario.backing, "read-only": True,
            "file": {"driver": "file",
                     "filename": os.path.join(directory, base_name(scenario))}}
    return "json:" + json.dumps(out)
