# SPDX-License-Identifier: GPL-2.0
# about: detect-zeroes turns data that is all zero into zero clusters
# kernels: either
# cost: 25
# timeout: 120
"""Writes of zeroes take no space, whatever else is written stays as it is."""

import json

import lib
from lib import KIB, MIB, check

SIZE = 64 * MIB
CLUSTER = 64 * KIB


def fixtures():
    lib.img_create("empty.qcow2", SIZE)
    lib.img_create("full.qcow2", SIZE)
    lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 8M", "full.qcow2")
    lib.write_sparse("raw.img", bytes([7]) * (4 * MIB))


def mapped(image, kind):
    """Bytes of the image that qemu-img calls data, zero or present."""
    done = lib.run("qemu-img", "map", "--output=json", "-f", "qcow2", image)
    return sum(m["length"] for m in json.loads(done.stdout) if m[kind])


def layer(dev):
    return json.loads(lib.ctl("show", "--json", dev).stdout)["layers"][0]


def test_off_by_default():
    image = lib.fixture("empty.qcow2")
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        check(layer(dev)["detect-zeroes"] == "off", "not off")
        disk.write(0, bytes(MIB))
    check(mapped(image, "data") == MIB, "zeroes are data when not looked at")


def test_new_clusters():
    image = lib.fixture("empty.qcow2")
    with lib.Attached(image, "--detect-zeroes", "on") as dev, \
            lib.Disk(dev) as disk:
        check(layer(dev)["detect-zeroes"] == "on", "not on")
        model = lib.Model(disk.size)
        for pos in range(0, 4 * MIB, MIB):
            disk.write(pos, bytes(MIB))
        disk.flush()
        full = lib.disk_usage(image)
        check(full < MIB, f"zeroes take {full} bytes")
        # One byte makes a request data, wherever it is.
        for pos, at in ((0, 0), (MIB, CLUSTER - 1), (2 * MIB, 100)):
            data = bytearray(CLUSTER)
            data[at] = 1
            disk.write(pos, data)
            model.write(pos, data)
        lib.verify(disk, model)
    lib.img_check(image)
    check(mapped(image, "data") == 3 * CLUSTER,
          f"{mapped(image, 'data')} bytes of data")


def over_data(mode, *more):
    """Zeroes over data; returns file usage before and after, and the image."""
    image = lib.fixture("full.qcow2")
    with lib.Attached(image, "--detect-zeroes", mode, *more) as dev, \
            lib.Disk(dev) as disk:
        check(layer(dev)["detect-zeroes"] == mode, f"not {mode}")
        model = lib.Model(disk.size, bytes([7]) * (8 * MIB))
        before = lib.disk_usage(image)
        for pos in range(MIB, 5 * MIB, MIB):
            disk.write(pos, bytes(MIB))
            model.zero(pos, MIB)
        # Ends inside of clusters, and less than a cluster
        for pos, length in ((6 * MIB - 4 * KIB, 2 * CLUSTER),
                            (7 * MIB + 512, 1024)):
            disk.write(pos, bytes(length))
            model.zero(pos, length)
        # Over zeroes that were just written, again data
        disk.write(2 * MIB + 4 * KIB, b"\x09" * 8 * KIB)
        model.write(2 * MIB + 4 * KIB, b"\x09" * 8 * KIB)
        lib.verify(disk, model)
        disk.flush()
    lib.img_check(image)
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        lib.verify(disk, model)
    return before, lib.disk_usage(image), image


def test_on_keeps_the_space():
    before, after, image = over_data("on")
    zero = mapped(image, "zero") - (SIZE - 8 * MIB)
    check(zero >= 4 * MIB, f"{zero} bytes are known to be zero")
    check(after > before - MIB, f"{before} bytes before, {after} after")


def test_unmap_frees_the_space():
    before, after, image = over_data("unmap")
    check(after < before - 3 * MIB, f"{before} bytes before, {after} after")
    left = mapped(image, "data")
    check(left <= 5 * MIB, f"{left} bytes are data")


def test_raw():
    image = lib.fixture("raw.img")
    options = ("driver=raw,detect-zeroes=unmap,file.driver=file,"
               f"file.filename={image}")
    before = lib.disk_usage(image)
    with lib.Attached(options, "--image-opts") as dev, lib.Disk(dev) as disk:
        model = lib.Model(disk.size, bytes([7]) * (4 * MIB))
        disk.write(MIB, bytes(2 * MIB))
        model.zero(MIB, 2 * MIB)
        disk.write(512, bytes(1024))
        model.zero(512, 1024)
        lib.verify(disk, model)
    after = lib.disk_usage(image)
    check(after <= before - 2 * MIB, f"{before} bytes before, {after} after")


def test_conflict():
    image = lib.fixture("empty.qcow2")
    lib.attach_fails(image, "--detect-zeroes", "unmap", "--discard", "ignore",
                     says="option 'detect-zeroes': 'unmap' is not allowed "
                          "without discard=unmap")
    lib.attach_fails(image, "--detect-zeroes", "some", says="off, on, unmap")
