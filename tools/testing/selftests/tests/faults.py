# SPDX-License-Identifier: GPL-2.0
# about: parts of the disks below fail: errors are told, nothing is lost
# kernels: 6.12 debug
# cost: 30
# timeout: 180
"""Sectors of the image's disk, or of its data file's, go bad and get well.

A request whose sectors could not be written says so, or a later flush does.
What a flush said is stable is there after the image was given up, and QEMU
finds nothing worse than leaks.  The KUnit suite qblk_qcow2_faults does the same
with each single operation, in memory.
"""

import errno
import os

import lib
import qcow2
from lib import KIB, MIB, SECTOR, check

SIZE = 3 * MIB          # two L2 tables with clusters of 4 KiB
DISK = 16               # MiB, below
DATA_LINK = lib.scratch("faults.data")
BASE = lib.scratch("faults-base.raw")


def fixtures():
    source = lib.rng("base")
    lib.write_sparse("base.raw", source.randbytes(2 * MIB) + bytes(MIB // 2))
    for name, options in (("plain", {"cluster_size": 4096}),
                          ("subclusters", {"cluster_size": 65536,
                                           "extended_l2": "on"})):
        image = f"{name}.qcow2"
        lib.img_create(image, SIZE, backing="base.raw", backing_fmt="raw",
                       **options)
        lib.run("qemu-io", "-f", "qcow2", "-d", "unmap",
                "-c", "write -c -P 1 64k 128k", "-c", "write -P 2 1M 300k",
                "-c", "write -z 1100k 64k", "-c", "write -z -u 2M 64k", image)
        lib.run("qemu-img", "snapshot", "-c", "s", image)
        lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 3 1M 100k", image)
        lib.run("qemu-img", "rebase", "-u", "-b", BASE, "-F", "raw", image)
    # A link in the directory that the test runs in
    lib.img_create("data.qcow2", SIZE, cluster_size=4096,
                   data_file=os.path.basename(DATA_LINK))


class BadDisk(lib.NullBlk):
    """A disk with sectors that can neither be read nor written."""

    def put(self, path, image):
        with open(path, "r+b", buffering=0) as dst, open(image, "rb") as src:
            lib.write_runs(dst, src.read(), 64 * KIB)

    def set_bad(self, sign, start, end):
        lib.write_file(f"/sys/kernel/config/nullb/{self.name}/badblocks",
                       f"{sign}{start // SECTOR}-{(end - 1) // SECTOR}")


class Case:
    """An image that is used while its disks fail."""

    def __init__(self, name, path, disk, options, source):
        self.path = path
        self.disk = disk            # where sectors go bad
        self.metadata = disk.name == "faults"   # or guest data alone
        self.options = ("-f", "qcow2", *options)
        self.rng = source
        self.cluster = 65536 if name == "subclusters" else 4096
        self.failed = self.done = 0
        with lib.Attached(path, *self.options) as dev, lib.Disk(dev) as d:
            self.versions = lib.Versions(self.read_all(d))
        with open(path, "rb") as f:
            self.head = qcow2.Bytes(f.read(4 * MIB))

    @staticmethod
    def read_all(disk):
        return b"".join(disk.read(at, MIB) for at in range(0, SIZE, MIB))

    def places(self):
        """Ranges to go bad: all, so that something does fail, each kind of
        metadata, and any."""
        yield 0, DISK * MIB
        if self.metadata:
            yield from self.tables()
        while True:
            start = self.rng.randrange(0, 2 * MIB, 4096)
            yield start, start + self.rng.choice((1, 16, 100, 300)) * 4096

    def tables(self):
        head, cluster = self.head, self.cluster
        starts = [0, *filter(None, (head.reftable, head.refblock(), head.l1,
                                    head.l2(), head.l2(1)))]
        self.rng.shuffle(starts)
        yield from ((at, at + cluster) for at in starts)

    def step(self, disk):
        """One operation, whether it works or not."""
        op = self.rng.choice(("write",) * 5 + ("zero", "punch", "discard",
                                               "flush"))
        if op == "flush":
            self.flush(disk)
            return
        unit = self.cluster if op == "discard" else SECTOR
        length = self.rng.choice((1, 8, 9, 64)) * SECTOR
        length = -(-length // unit) * unit
        start = self.rng.randrange(0, SIZE - length, unit)
        data = bytes(length)
        if op == "write":
            data = self.rng.randbytes(length)
            worked = self.attempt(disk.write, start, data)
        else:
            worked = self.attempt(getattr(disk, op), start, length)
        self.versions.changed(start, data, worked)

    def flush(self, disk):
        if self.attempt(disk.flush):
            self.versions.flushed()

    def attempt(self, function, *args):
        self.done += 1
        try:
            function(*args)
        except OSError as e:
            check(e.errno == errno.EIO,
                  f"{function.__name__}: {errno.errorcode.get(e.errno)}")
            self.failed += 1
            return False
        return True

    def round(self, disk, place, steps):
        self.disk.set_bad("+", *place)
        for _ in range(steps):
            self.step(disk)
        # Metadata is written now at the latest.
        self.flush(disk)

    def cured(self, disk, place):
        self.disk.set_bad("-", *place)
        disk.flush()
        self.versions.flushed()

    def verify(self, some, what):
        with lib.Attached(self.path, *self.options) as dev, \
             lib.Disk(dev) as disk:
            data = self.read_all(disk)
        self.versions.expect(some, 0, data, what)
        return data

    def verify_qemu(self, data):
        lib.img_check(self.path, leaks=True)
        lib.write_sparse(lib.scratch("faults.raw"), data)
        lib.img_compare(self.path, lib.scratch("faults.raw"))


def with_case(name, function):
    lib.copy_sparse(lib.fixture_path("base.raw"), BASE)
    below = BadDisk("faults", DISK)
    other = BadDisk("faultsdata", DISK)
    with below as path, other as data:
        below.put(path, lib.fixture_path(f"{name}.qcow2"))
        options = ()
        if name == "data":
            os.symlink(data, DATA_LINK)
            options = ("--data-file", data)
        try:
            for disk in (below, other) if name == "data" else (below,):
                function(Case(name, path, disk, options,
                              lib.rng(f"{name}{disk.name}")))
        finally:
            if name == "data":
                os.unlink(DATA_LINK)
    os.unlink(BASE)


NAMES = ("plain", "subclusters", "data")


def come_and_go(case):
    """Sectors get well while the image is in use: as if nothing had been."""
    with lib.Attached(case.path, *case.options) as dev, lib.Disk(dev) as disk:
        for _, place in zip(range(lib.scaled(8, 5)), case.places()):
            case.round(disk, place, 10)
            case.cured(disk, place)
        case.versions.expect(case.versions.now, 0, case.read_all(disk),
                             "when cured")
    check(case.failed, "nothing has failed")
    lib.note(f"{case.disk.name}: {case.failed} of {case.done} failed")
    case.verify_qemu(case.verify(case.versions.now, "attached again"))


def give_up(case):
    """They do not: the image is detached as it is."""
    for _, place in zip(range(lib.scaled(4, 2)), case.places()):
        dev = lib.attach(case.path, *case.options)
        with lib.Disk(dev) as disk:
            for _ in range(4):
                case.step(disk)
            case.round(disk, place, 10)
        some = case.versions.now
        if lib.ctl("detach", dev, ok=None).returncode:
            lib.detach(dev, "--force")
            some = case.versions.stable
        case.disk.set_bad("-", *place)
        lib.img_check(case.path, leaks=True)
        data = case.verify(some, f"given up with {place} bad")
        case.versions = lib.Versions(data)
    check(case.failed, "nothing has failed")
    lib.note(f"{case.disk.name}: {case.failed} of {case.done} failed")
    case.verify_qemu(data)


def test_come_and_go():
    for name in NAMES:
        with_case(name, come_and_go)


def test_given_up():
    for name in lib.some(NAMES):
        with_case(name, give_up)
