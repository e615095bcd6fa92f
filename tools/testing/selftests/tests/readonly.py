# SPDX-License-Identifier: GPL-2.0
# about: read-only disks: writes fail, flush works, the image stays as it was
# cost: 12
"""Nothing of a read-only disk's image changes, not even its time stamps."""

import errno
import fcntl
import hashlib
import os
import struct

import lib
from lib import MIB, check


def fixtures():
    lib.img_create("base.qcow2", 16 * MIB)
    lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 3 0 2M", "base.qcow2")
    lib.img_create("ro.qcow2", 16 * MIB, backing="base.qcow2")
    lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 4 1M 1M",
            "-c", "write -z 4M 1M", "ro.qcow2")


def state(path):
    with open(path, "rb") as f:
        digest = hashlib.sha1(f.read()).hexdigest()
    return digest, os.stat(path).st_mtime_ns


def use(dev):
    check(lib.sys_block(dev, "ro") == "1", "not read-only")
    lib.expect_error((errno.EACCES, errno.EROFS, errno.EPERM),
                     "open for writing with O_DIRECT and write",
                     write_somehow, dev)
    with lib.Disk(dev, readonly=True) as disk:
        flag = struct.unpack("i", fcntl.ioctl(disk.fd, lib.BLKROGET, b"\0" * 4))
        check(flag == (1,), "BLKROGET says writable")
        check(disk.read(0, MIB) == b"\x03" * MIB, "base data wrong")
        check(disk.read(MIB, MIB) == b"\x04" * MIB, "overlay data wrong")
        check(disk.read(4 * MIB, MIB) == bytes(MIB), "zero clusters wrong")
        disk.flush()
        lib.run("blockdev", "--flushbufs", dev)
        os.sync()


def write_somehow(dev):
    """Opening may work for root (6.1); then the write must not."""
    with lib.Disk(dev) as disk:
        try:
            disk.discard(0, MIB)
        except OSError:
            pass
        else:
            raise lib.Fail("discard worked")
        disk.write(0, b"\xff" * 4096)


def test_option():
    base, image = lib.fixture("base.qcow2"), lib.fixture("ro.qcow2")
    before = state(base), state(image)
    with lib.Attached(image, "--read-only") as dev:
        use(dev)
    check((state(base), state(image)) == before, "an image changed")


def test_file_without_write_permission():
    """A read-only mount below: attach -r works, a writable one does not."""
    base, image = lib.fixture("base.qcow2"), lib.fixture("ro.qcow2")
    os.makedirs(lib.scratch("view"), exist_ok=True)
    lib.run("mount", "--bind", "-o", "ro", lib.SCRATCH, lib.scratch("view"))
    try:
        view = lib.scratch("view/ro.qcow2")
        lib.attach_fails(view)
        with lib.Attached(view, "-r") as dev:
            use(dev)
    finally:
        lib.run("umount", lib.scratch("view"))
    check(state(base) and state(image), "gone")


def test_read_only_device():
    with lib.NullBlk("rodev", 64) as leaf:
        lib.img_create(leaf, 16 * MIB)
        lib.run("blockdev", "--setro", leaf)
        lib.attach_fails(leaf)
        with lib.Attached(leaf, "-r") as dev:
            check(lib.sys_block(dev, "ro") == "1", "not read-only")
            with lib.Disk(dev, readonly=True) as disk:
                check(disk.read(0, 4096) == bytes(4096), "not empty")
                disk.flush()


def test_mount():
    """A clean file system mounts read-only from a read-only disk."""
    path = lib.scratch("fs.qcow2")
    lib.img_create(path, 32 * MIB)
    with lib.Attached(path) as dev:
        lib.run("mkfs.ext4", "-q", "-F", dev)
    before = state(path)
    os.makedirs(lib.scratch("mnt"), exist_ok=True)
    with lib.Attached(path, "-r") as dev:
        lib.run("mount", "-o", "ro", dev, lib.scratch("mnt"))
        try:
            check("lost+found" in os.listdir(lib.scratch("mnt")), "empty")
        finally:
            lib.run("umount", lib.scratch("mnt"))
    check(state(path) == before, "the image changed")
