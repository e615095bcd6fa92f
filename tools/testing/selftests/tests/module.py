# SPDX-License-Identifier: GPL-2.0
# about: the module does not unload while in use, and does afterwards
# cost: 8
"""Reference counts of the module."""

import errno
import os

import lib
from lib import MIB, check


def fixtures():
    lib.img_create("m.qcow2", 16 * MIB)


def unload():
    return lib.syscall(lib.SYS_DELETE_MODULE, b"qblk", os.O_NONBLOCK)


def in_use(what):
    err = unload()
    check(err in (errno.EBUSY, errno.EAGAIN),
          f"rmmod while {what}: {errno.errorcode.get(err, err)}")


def test_in_use():
    image = lib.fixture("m.qcow2")
    with lib.Attached(image) as dev:
        in_use("attached")
        with lib.Disk(dev) as disk:
            in_use("open")
            disk.write(0, b"\x01" * 512)
    lib.wait_for(lambda: lib.read_file("/sys/module/qblk/refcnt") == "0",
                 "reference count 0 after detach")
    lib.img_check(image)


def test_lazy_keeps_it():
    image = lib.fixture("m.qcow2")
    dev = lib.attach(image)
    disk = lib.Disk(dev)
    lib.detach(dev, "--lazy")
    in_use("open after detach --lazy")
    disk.close()
    lib.wait_for(lambda: lib.read_file("/sys/module/qblk/refcnt") == "0",
                 "reference count 0 after the last close")
    lib.img_check(image)


def test_unload_and_load():
    image = lib.fixture("m.qcow2")
    for n in range(lib.scaled(10, 3)):
        dev = lib.attach(image)
        with lib.Disk(dev) as disk:
            disk.write(n * MIB, bytes([n + 1]) * 4096)
        lib.detach(dev)
        lib.wait_for(lambda: unload() == 0, "rmmod")
        check(not os.path.exists("/sys/module/qblk"), "still there")
        lib.ctl("list", ok=(lib.FAILED, lib.UNSUPPORTED, lib.NODEV, lib.OK))
        lib.load_module()
    lib.img_check(image)
