# SPDX-License-Identifier: GPL-2.0
# about: bugs that other implementations of qcow2 had
# kernels: 6.12 debug
# cost: 20
# timeout: 120
"""What no other test has; Documentation/testing.rst says which has the rest.

Several threads write at a time, each to clusters of its own, all of which lie
in the same L2 tables.
"""

import os
import threading

import lib
from lib import KIB, MIB, check

THREADS = 3
SIZE = 4 * MIB
GROWN = 3 * MIB


def fixtures():
    lib.img_create("base.qcow2", SIZE)
    lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 3M", "base.qcow2")
    # Every other cluster is there, in each L2 table.
    lib.img_create("top.qcow2", SIZE, backing="base.qcow2", cluster_size=4096)
    argv = ["qemu-io", "-f", "qcow2"]
    for at in range(0, 2 * MIB, 16 * KIB):
        argv += ["-c", f"write -P 9 {at} 4k"]
    lib.run(*argv, "top.qcow2")

    lib.write_sparse("some.raw", b"".join(
        bytes([n % 5 + 1]) * 64 * KIB if n % 3 else bytes(64 * KIB)
        for n in range(MIB // (64 * KIB))))
    lib.run("qemu-img", "convert", "-c", "-O", "qcow2", "-o",
            "cluster_size=1k,refcount_bits=64", "some.raw", "packed.qcow2")
    lib.run("qemu-img", "resize", "-q", "packed.qcow2", GROWN)

    lib.img_create("late.qcow2", SIZE, cluster_size=4096)

    # Refcount tables of one cluster for a large disk, and of many for a small.
    lib.img_create("short.qcow2", 1 << 40, cluster_size=65536)
    lib.img_create("long.qcow2", 4 * MIB, cluster_size=512, refcount_bits=64,
                   preallocation="full")
    lib.run("qemu-img", "resize", "-q", "--shrink", "long.qcow2", MIB)


class Writers:
    """Threads that each call function(number, disk, source, step)."""

    def __init__(self, dev, function, steps):
        self.errors = []
        self.threads = [threading.Thread(target=self.run, args=(
            n, dev, function, steps)) for n in range(THREADS)]
        for thread in self.threads:
            thread.start()
        for thread in self.threads:
            thread.join()
        if self.errors:
            raise self.errors[0]

    def run(self, number, dev, function, steps):
        try:
            source = lib.rng(number)
            with lib.Disk(dev) as disk:
                for step in range(steps):
                    function(number, disk, source, step)
        except Exception as e:  # pylint: disable=broad-except
            self.errors.append(e)


class Owned:
    """A model of which each thread has every THREADSth cluster."""

    def __init__(self, model, cluster, end):
        self.model = model
        self.cluster = cluster
        self.nr = end // cluster

    def place(self, number, source):
        return source.randrange(number, self.nr, THREADS) * self.cluster

    def write(self, number, disk, source):
        """A part of a cluster, or all of it."""
        at = self.place(number, source)
        length = source.choice((512, 1536, self.cluster))
        at += source.randrange(0, self.cluster - length + 1, 512)
        data = source.randbytes(length)
        disk.write(at, data)
        self.model.data[at:at + length] = data

    def discard(self, number, disk, source):
        at = self.place(number, source)
        disk.discard(at, self.cluster)
        self.model.data[at:at + self.cluster] = bytes(self.cluster)


def same_for_qemu(image, model):
    lib.img_check(image)
    lib.img_compare(image, model.save(lib.scratch("peers.raw")))


def write_all(image, model, steps, discards=False, flushes=20):
    """Warms the tables; then all write to clusters of their own, and discard some."""
    with lib.Attached(image, "-f", "qcow2") as dev, lib.Disk(dev) as disk:
        lib.verify(disk, model)
        owned = Owned(model, 4 * KIB, model.size)

        def step(number, disk, source, n):
            owned.write(number, disk, source)
            if discards and n % 3 == number:
                owned.discard(number, disk, source)
            if n % flushes == flushes - 1:
                disk.flush()
        Writers(dev, step, steps)
        lib.verify(disk, model)
    same_for_qemu(image, model)


def test_warm_tables():
    """An overlay whose L2 tables are half full and in memory, and many
    writers."""
    lib.fixture("base.qcow2")
    image = lib.fixture("top.qcow2")
    model = lib.Model(SIZE, b"\7" * 3 * MIB)
    for at in range(0, 2 * MIB, 16 * KIB):
        model.data[at:at + 4 * KIB] = b"\11" * 4 * KIB
    write_all(image, model, lib.scaled(50, 20))


def test_late_discard():
    """Discarded clusters become tables or data of others, and stay whole."""
    image = lib.fixture("late.qcow2")
    with lib.NullBlk("peers", 64) as leaf:
        lib.img_create(leaf, SIZE, cluster_size=4096)
        for path in (image, leaf):
            write_all(path, lib.Model(SIZE), lib.scaled(30, 12),
                      discards=True, flushes=10)


def test_resized():
    """Compressed clusters, an L1 table that was moved, refcounts that grow."""
    image = lib.fixture("packed.qcow2")
    with open(lib.fixture_path("some.raw"), "rb") as f:
        model = lib.Model(GROWN, f.read())
    write_all(image, model, lib.scaled(50, 20))


def test_refcount_tables():
    """Shorter than what the disk could need, and longer than it needs."""
    for name in ("short.qcow2", "long.qcow2"):
        image = lib.fixture(name)
        with lib.Attached(image) as dev, lib.Disk(dev) as disk:
            for at in (0, disk.size // 2, disk.size - 4096):
                disk.write(at, b"\x31" * 4096)
            disk.flush()
            check(disk.read(disk.size - 4096, 4096) == b"\x31" * 4096,
                  f"{name}: the end reads wrong")
        lib.img_check(image)
        os.unlink(image)
