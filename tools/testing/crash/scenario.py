# SPDX-License-Identifier: GPL-2.0
"""What the crash test writes, so that both sides agree on it.

The disk is a row of blocks.  Each sector of a block says which block it is and
which version of it, so that any cut can be judged sector by sector.
"""

import os
import struct
import subprocess
from dataclasses import dataclass

BLOCK = 4096
SECTOR = 512
STRIPE = 8      # blocks that belong to one thread
THREADS = 3
MIB = 1 << 20


@dataclass
class Scenario:
    name: str
    size: int               # bytes of the virtual disk
    cluster: int
    options: str            # for qemu-img
    compressed: bool = False
    snapshot: bool = False
    backing: bool = False
    steps: int = 150        # per thread, on a stock kernel


SCENARIOS = [
    # Half of it is shared with an internal snapshot: copy on write.
    Scenario("snapshot", 24 * MIB, 65536, "cluster_size=65536", snapshot=True),
    Scenario("backing", 24 * MIB, 4096, "cluster_size=4096", backing=True),
    # Refcount blocks and the refcount table have to grow.
    Scenario("growth", 8 * MIB, 512, "cluster_size=512,refcount_bits=64",
             steps=100),
    Scenario("compressed", 16 * MIB, 65536, "cluster_size=65536",
             compressed=True),
]

DEVICE = 192 * MIB          # size of the disk that holds the image
LOG = 1024 * MIB


def stamp(block, version):
    """Content of one sector."""
    return struct.pack("<IIQ", 0x6b6c6271, block, version) * (SECTOR // 16)


def initial(block):
    """Whether the block has content (version 0) before the workload."""
    return block // 16 % 2 == 0


def initial_data(scenario):
    return b"".join(stamp(b, 0) * (BLOCK // SECTOR) if initial(b)
                    else bytes(BLOCK)
                    for b in range(scenario.size // BLOCK))


def run(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def make_image(scenario, directory):
    """Makes NAME.data (a disk with the image) and, maybe, NAME.base."""
    path = os.path.join(directory, f"{scenario.name}.data")
    raw = os.path.join(directory, f"{scenario.name}.base")
    with open(raw, "wb") as f:
        f.write(initial_data(scenario))
    if scenario.backing:
        # The guest sees the base under this name; nobody on the host opens it.
        run("qemu-img", "create", "-q", "-u", "-f", "qcow2",
            "-b", f"/dev/disk/{scenario.name}-b", "-F", "raw",
            "-o", scenario.options, path, str(scenario.size))
    else:
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2",
            *(["-c"] if scenario.compressed else []),
            "-o", scenario.options, raw, path)
    if scenario.snapshot:
        run("qemu-img", "snapshot", "-c", "before", path)
    os.truncate(path, DEVICE)
    return path
