# SPDX-License-Identifier: GPL-2.0
# about: fio with verify: 4 jobs, 512 B to 1 MiB, reads, writes, trims
# variants: fresh warm backing
# kernels: either
# cost: 40
# timeout: 180
"""Jobs side by side in regions of their own, on all CPUs.

fio verifies while it runs; a second run only reads, after a new attach.
"""

import os
import threading

import lib
from lib import MIB

SIZE = 64 * MIB
JOBS = 4


def fixtures():
    lib.img_create("fresh.qcow2", SIZE)
    lib.img_create("fresh-4k.qcow2", SIZE, cluster_size=4096)
    lib.img_create("warm.qcow2", SIZE)
    lib.run("qemu-io", "-f", "qcow2", "-c", f"write -P 1 0 {SIZE}",
            "warm.qcow2")
    lib.write_sparse("base.raw", lib.rng("base").randbytes(MIB) * 64)
    lib.run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2",
            "base.raw", "base.qcow2")
    os.unlink("base.raw")
    lib.img_create("backing.qcow2", SIZE, backing="base.qcow2")


def fio(dev, *options):
    argv = ["fio", "--minimal", "--name=j", f"--filename={dev}",
            "--direct=1", f"--numjobs={JOBS}", f"--size={SIZE // JOBS}",
            f"--offset_increment={SIZE // JOBS}", "--group_reporting",
            "--thread", "--norandommap", "--randrepeat=1",
            f"--randseed={lib.SEED % (1 << 31)}", *options]
    done = lib.run(*argv, ok=None, timeout=170)
    text = done.stdout + done.stderr
    if done.returncode or "verify:" in text or "err=" in text:
        raise lib.Fail(f"fio: exit {done.returncode}\n" +
                       "\n".join(text.splitlines()[-25:]))


def verify_run(image):
    """Writes with a checksum in each block, and reads them back."""
    amount = lib.scaled(SIZE // JOBS * 3 // 2 >> 20, 4)
    sizes = "--bssplit=512/15:1k/10:4k/25:7k/10:64k/25:260k/10:1m/5"
    options = ("--ioengine=libaio", "--iodepth=8", "--rw=randwrite", sizes,
               f"--io_size={amount}m", "--verify=crc32c",
               "--do_verify=1", "--verify_fatal=1", "--verify_backlog=64",
               "--serialize_overlap=1", "--fsync=97")
    with lib.Attached(image) as dev:
        fio(dev, *options)
    lib.img_check(image)


def mixed_run(image):
    """Reads, writes, trims and flushes at once; no verify of fio's."""
    amount = lib.scaled(10, 2)
    with lib.Attached(image) as dev:
        fio(dev, "--ioengine=libaio", "--iodepth=8", "--rw=randtrimwrite",
            "--bssplit=4k/40:64k/40:1m/20", f"--io_size={amount}m",
            "--fsync=61")
        fio(dev, "--ioengine=libaio", "--iodepth=16", "--rw=randrw",
            "--bsrange=512-1m", "--bs_unaligned=0", f"--io_size={amount}m",
            "--fdatasync=50")
    lib.img_check(image)


def model_run(image, base=None):
    """Threads with a model each: also trims are verified, by content."""
    model = lib.Model(SIZE, base)
    failures = []
    part = SIZE // JOBS

    def job(dev, n):
        try:
            with lib.Disk(dev) as disk:
                own = lib.Model(part, model.data[n * part:(n + 1) * part])
                view = Region(disk, n * part, part)
                work = lib.Workload(view, own, lib.rng(f"job{n}"),
                                    longest=MIB)
                work.run(lib.scaled(40, 15))
                lib.verify(view, own)
                model.data[n * part:(n + 1) * part] = own.data
        except BaseException as e:  # pylint: disable=broad-except
            failures.append(f"job {n}: {e}")

    with lib.Attached(image) as dev:
        threads = [threading.Thread(target=job, args=(dev, n))
                   for n in range(JOBS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lib.check(not failures, "\n".join(failures))
    with lib.Attached(image, "-r") as dev, \
         lib.Disk(dev, readonly=True) as disk:
        lib.verify(disk, model)
    lib.img_check(image)


class Region:
    """A part of a disk as a disk of its own."""

    def __init__(self, disk, start, size):
        self.disk = disk
        self.start = start
        self.size = size
        self.path = disk.path

    def read(self, offset, length):
        return self.disk.read(self.start + offset, length)

    def flush(self):
        self.disk.flush()

    def __getattr__(self, name):
        call = getattr(self.disk, name)
        return lambda offset, what: call(self.start + offset, what)


def images():
    if lib.VARIANT == "fresh":
        return ["fresh.qcow2", "fresh-4k.qcow2"]
    if lib.VARIANT == "backing":
        lib.fixture("base.qcow2")
    return [f"{lib.VARIANT}.qcow2"]


def content():
    if lib.VARIANT == "warm":
        return b"\x01" * SIZE
    if lib.VARIANT == "backing":
        lib.run("qemu-img", "convert", "-O", "raw", lib.scratch("base.qcow2"),
                lib.scratch("flat.raw"))
        with open(lib.scratch("flat.raw"), "rb") as f:
            return f.read()
    return None


def test_verify():
    lib.need("fio")
    for name in images():
        verify_run(lib.fixture(name))


def test_mixed():
    lib.need("fio")
    for name in images():
        mixed_run(lib.fixture(name))


def test_model():
    for name in images():
        model_run(lib.fixture(name), content())
