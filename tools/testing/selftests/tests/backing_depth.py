# SPDX-License-Identifier: GPL-2.0
# about: a chain of 200 images attaches, one of 201 and a loop do not
# kernels: either
# cost: 15
# timeout: 120
"""Limits of a chain; all images of a deep chain are open at once."""

import lib
from lib import MIB, check

SIZE = 4 * MIB
DEPTH = 200


def set_backing(path, name):
    """Writes a backing file name into an image that has room for one."""
    with open(path, "r+b") as f:
        f.seek(8)
        offset = int.from_bytes(f.read(8), "big")
        check(offset, f"{path} has no backing file")
        f.seek(16)
        f.write(len(name).to_bytes(4, "big"))
        f.seek(offset)
        f.write(name.encode())


def fixtures():
    # Copies of one image whose backing name is patched: 200 runs of qemu-img
    # would take a while.
    lib.img_create("d000.qcow2", SIZE, cluster_size=4096)
    lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 1 0 64k",
            "-c", "write -P 2 2M 64k", "d000.qcow2")
    lib.img_create("d001.qcow2", SIZE, backing="d000.qcow2", cluster_size=4096)
    with open("d001.qcow2", "rb") as f:
        layer = f.read()
    for n in range(1, DEPTH + 1):
        with open(f"d{n:03}.qcow2", "wb") as f:
            f.write(layer)
        set_backing(f"d{n:03}.qcow2", f"d{n - 1:03}.qcow2")
    lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 3 2M 4k", "d100.qcow2")
    for n in range(3):
        with open(f"loop{n}.qcow2", "wb") as f:
            f.write(layer)
        set_backing(f"loop{n}.qcow2", f"loop{(n + 1) % 3}.qcow2")
    with open("self.qcow2", "wb") as f:
        f.write(layer)
    set_backing("self.qcow2", "self.qcow2")


def test_depth():
    for n in range(DEPTH + 1):
        lib.fixture(f"d{n:03}.qcow2")
    top = lib.scratch(f"d{DEPTH - 1:03}.qcow2")
    with lib.Attached(top) as dev, lib.Disk(dev) as disk:
        model = lib.Model(SIZE)
        model.write(0, b"\x01" * 65536)
        model.write(2 * MIB, b"\x03" * 4096 + b"\x02" * 61440)
        lib.verify(disk, model)
        disk.write(2 * MIB + 512, b"\x04" * 1024)
        model.write(2 * MIB + 512, b"\x04" * 1024)
        lib.verify(disk, model)
    lib.attach_fails(lib.scratch(f"d{DEPTH:03}.qcow2"), "-r", says="deep|200",
                     code=(lib.FAILED, lib.UNSUPPORTED))


def test_loop():
    for n in range(3):
        lib.fixture(f"loop{n}.qcow2")
    lib.attach_fails(lib.scratch("loop0.qcow2"), says="loop")
    lib.fixture("self.qcow2")
    lib.attach_fails(lib.scratch("self.qcow2"), says="loop")
