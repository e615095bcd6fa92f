# SPDX-License-Identifier: GPL-2.0
# about: what belongs to the submitter of I/O, and what to the image's file
# cost: 20
# timeout: 90
"""Limits of a task do not count for the image; lost pages are told to all."""

import errno
import os
import resource
import signal
import subprocess
import threading
import time

import lib
from lib import MIB, check


def fixtures():
    lib.img_create("s.qcow2", 64 * MIB)


def limited_writer(dev):
    """In a child: a write to the disk, with a limit far below its place."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            # Python ignores it.
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))
            with lib.Disk(dev) as disk:
                disk.write(6 * MIB, b"\x5a" * 65536)
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def test_file_size_limit():
    image = lib.fixture("s.qcow2")
    # Allocated first, so that the second write is one in place.
    with lib.Attached(image) as dev:
        with lib.Disk(dev) as disk:
            for at in range(0, 8 * MIB, MIB):
                disk.write(at, b"\x11" * MIB)
        status = limited_writer(dev)
        check(not os.WIFSIGNALED(status),
              "a task with a limit on file sizes died by "
              f"{signal.Signals(os.WTERMSIG(status)).name}"
              if os.WIFSIGNALED(status) else "")
        check(status == 0, f"the task ended with status {status}")
        with lib.Disk(dev) as disk:
            check(disk.read(6 * MIB, 65536) == b"\x5a" * 65536,
                  "the task's write is not there")


def tiers(dev):
    """How much went out from submitters, and from workers."""
    shown = lib.show(dev)
    return shown["tier1"], shown["tier2"]


def test_nowait():
    """Who must not wait is served by the file, without a worker, if it can."""
    image = lib.fixture("s.qcow2")
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        disk.write(0, b"\x44" * MIB)
        before = tiers(dev)
        for at in range(0, MIB, 65536):
            view = memoryview(disk.buf)[:4096]
            view[:] = bytes([at >> 16 | 0x80]) * 4096
            check(os.pwritev(disk.fd, [view], at, os.RWF_NOWAIT) == 4096,
                  f"a write at {at} is short")
            view[:] = bytes(4096)
            check(os.preadv(disk.fd, [view], at, os.RWF_NOWAIT) == 4096,
                  f"a read at {at} is short")
            check(bytes(view) == bytes([at >> 16 | 0x80]) * 4096,
                  f"other data at {at}")
        after = tiers(dev)
        # What the device below cannot take without waiting comes back: on 6.1
        # that is half of it.
        check(after[1] - before[1] <= 16,
              f"tiers 1 and 2 went from {before} to {after}")


class FailingFs:
    """A file system on a device that fails, or is slow, until recover()."""

    SECTORS = 64 * 2048

    def __enter__(self):
        lib.need("dmsetup")
        self.leaf = lib.nullb_create("flaky", 64)
        lib.run("dmsetup", "create", "--noudevsync", "qblkfail", "--table",
                f"0 {self.SECTORS} linear {self.leaf} 0")
        self.dev = "/dev/mapper/qblkfail"
        if not os.path.exists(self.dev):
            lib.run("dmsetup", "mknodes")
        lib.run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", self.dev)
        self.point = lib.scratch("failing")
        os.makedirs(self.point, exist_ok=True)
        lib.run("mount", "-o", "errors=continue", self.dev, self.point)
        return self

    def switch(self, target):
        lib.run("dmsetup", "suspend", "--nolockfs", "qblkfail")
        lib.run("dmsetup", "load", "qblkfail", "--table",
                f"0 {self.SECTORS} {target}")
        lib.run("dmsetup", "resume", "qblkfail")

    def fail(self):
        self.switch("error")

    def recover(self):
        self.switch(f"linear {self.leaf} 0")

    def slow_reads(self, milliseconds):
        self.switch(f"delay {self.leaf} 0 {milliseconds} {self.leaf} 0 0")

    def __exit__(self, *_):
        lib.run("umount", self.point, ok=None)
        lib.run("dmsetup", "remove", "--retry", "qblkfail", ok=None)
        lib.nullb_delete("flaky")


def test_lost_page():
    """The error of a lost page is taken by the write; flushes fail as well."""
    with FailingFs() as fs:
        path = f"{fs.point}/b.raw"
        with open(path, "wb") as f:
            f.write(b"\x22" * 8 * MIB)
            os.fsync(f.fileno())
        dev = lib.attach("driver=raw,file.driver=file,file.cache.direct=off,"
                         f"file.filename={path}", "--image-opts")
        try:
            with lib.Disk(dev) as disk:
                disk.write(0, b"\x33" * 4096)
                disk.flush()
                fs.fail()
                lib.expect_error(errno.EIO, "a stable write to a failed device",
                                 disk.write, 8192, b"\x44" * 4096,
                                 os.RWF_DSYNC)
                fs.recover()
                for n in range(3):
                    lib.expect_error(errno.EIO, f"flush {n} after a lost page",
                                     disk.flush)
        finally:
            lib.detach(dev, "--force")


def test_killed_detach():
    """Metadata is written although who forces the detach is killed first."""
    lib.run("modprobe", "dm-delay", ok=None)
    with FailingFs() as fs:
        image = f"{fs.point}/k.qcow2"
        lib.img_create(image, 64 * MIB)
        lib.run("qemu-io", "-f", "qcow2", "-c", f"write -P 1 0 {24 * MIB}",
                image)
        lib.run("sync")
        lib.write_file("/proc/sys/vm/drop_caches", "3")
        dev = lib.attach("driver=qcow2,file.driver=file,"
                         f"file.cache.direct=off,file.filename={image}",
                         "--image-opts")
        with lib.Disk(dev) as disk:
            for at in range(32, 48):
                disk.write(at * MIB, b"\x66" * 65536)
            fs.slow_reads(3000)
            reader = threading.Thread(target=read_quietly,
                                      args=(disk, 20 * MIB))
            reader.start()
            time.sleep(0.5)
            # It waits for the read, and is dead when it goes on.
            detach = subprocess.Popen([lib.QBLKCTL, "detach", "--force", dev])
            time.sleep(1)
            check(detach.poll() is None, "detach did not wait for the read")
            detach.kill()
            detach.wait()
            reader.join()
        fs.recover()
        lib.wait_for(lambda: not lib.disks(), "the disk to go", 30)
        lib.img_check(image)
        lib.run("qemu-io", "-f", "qcow2", "-r", "-c",
                f"read -P 0x66 {40 * MIB} 64k", image)


def read_quietly(disk, offset):
    try:
        disk.read(offset, 4096)
    except (OSError, lib.Fail):
        pass
