# SPDX-License-Identifier: GPL-2.0
# about: images on block devices with 512 and 4096-byte sectors; lsblk tree
# cost: 20
# timeout: 120
"""The leaf is a block device, claimed exclusively."""

import errno
import json
import os

import lib
from lib import KIB, MIB, check

SIZE = 24 * MIB


def workload(leaf, model, steps, *options, cluster=64 * KIB, sector=512,
             discard_zeroes=True):
    with lib.Attached(leaf, *options) as dev, lib.Disk(dev) as disk:
        size = int(lib.sys_block(dev, "queue/logical_block_size"))
        check(size <= sector, f"logical block size {size}")
        work = lib.Workload(disk, model, lib.rng(f"{options}{steps}"), cluster,
                            sector=sector, discard_zeroes=discard_zeroes)
        work.verify()
        work.run(lib.scaled(steps, 15))
        work.verify()


def test_512():
    with lib.NullBlk("leaf", 96) as leaf:
        lib.img_create(leaf, SIZE)
        model = lib.Model(SIZE)
        workload(leaf, model, 60, "-f", "qcow2")
        lib.img_check(leaf)
        raw = model.save(lib.scratch("model.raw"))
        lib.img_compare(leaf, raw)


def test_4096():
    with lib.Loop("leaf", 96, 4096) as leaf:
        lib.img_create(leaf, SIZE)
        model = lib.Model(SIZE)
        with lib.Attached(leaf, "-f", "qcow2") as dev:
            block = int(lib.sys_block(dev, "queue/logical_block_size"))
            lib.note(f"4096-byte sectors below, {block} above")
            check(block in (512, 4096), f"logical block size {block}")
        workload(leaf, model, 60, "-f", "qcow2", sector=block)
        lib.img_check(leaf)
        raw = model.save(lib.scratch("model.raw"))
        lib.img_compare(leaf, raw)


def test_4096_small_clusters():
    """Clusters below the sector size of the device: refused or right."""
    with lib.Loop("leaf", 96, 4096) as leaf:
        source = lib.scratch("c1k.qcow2")
        lib.img_create(source, SIZE, cluster_size=1024)
        lib.run("dd", f"if={source}", f"of={leaf}", "bs=64k", "conv=sync",
                "oflag=direct", "status=none")
        done = lib.ctl("attach", "-f", "qcow2", leaf, ok=None)
        if done.returncode:
            check(done.stderr.strip(), "refused without a word")
            return
        lib.detach(done.stdout.strip())
        model = lib.Model(SIZE)
        workload(leaf, model, 40, "-f", "qcow2", cluster=1024, sector=4096)
        lib.img_check(leaf)


def test_raw():
    for blocksize in (512, 4096):
        with lib.Loop("leaf", 24, blocksize) as leaf:
            model = lib.Model(SIZE)
            with lib.Attached(leaf, "-f", "raw") as dev:
                block = int(lib.sys_block(dev, "queue/logical_block_size"))
                check(block == blocksize,
                      f"raw on {blocksize}: logical block size {block}")
            # What a discard leaves is up to the device.
            workload(leaf, model, 40, "-f", "raw", cluster=blocksize,
                     sector=blocksize, discard_zeroes=False)
            with open(leaf, "rb") as f:
                check(f.read() == model.data, "the device has other data")


def test_lsblk():
    with lib.NullBlk("leaf", 96) as leaf:
        lib.img_create(leaf, SIZE)
        with lib.Attached(leaf) as dev:
            tree = json.loads(lib.run("lsblk", "-J", leaf).stdout)
            children = [c["name"] for c in
                        tree["blockdevices"][0].get("children", [])]
            check(children == [os.path.basename(dev)],
                  f"lsblk shows {children} above {leaf}")
            done = lib.run("mkfs.ext4", "-q", "-F", leaf, ok=None)
            check(done.returncode, "mkfs on a claimed device worked")
        tree = json.loads(lib.run("lsblk", "-J", leaf).stdout)
        check(not tree["blockdevices"][0].get("children"),
              "a holder stays after detach")


def test_chain_over_devices():
    """Overlay and base on block devices; both are held."""
    with lib.NullBlk("lower", 64) as lower, lib.NullBlk("upper", 64) as upper:
        lib.img_create(lower, SIZE)
        lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 5 0 4M", lower)
        lib.img_create(upper, SIZE, backing=lower)
        model = lib.Model(SIZE, b"\x05" * (4 * MIB))
        with lib.Attached(upper) as dev:
            for leaf in (lower, upper):
                name = os.path.basename(leaf)
                check(os.path.basename(dev) in
                      os.listdir(f"/sys/block/{name}/holders"),
                      f"{name} shows no holder")
            lib.expect_error(errno.EBUSY, "O_EXCL on the base", os.open,
                             upper, os.O_RDWR | os.O_EXCL)
        workload(upper, model, 40, "-f", "qcow2")
        for leaf in (lower, upper):
            lib.img_check(leaf)


def test_busy_device():
    """A device that is mounted is refused, with the holder's name."""
    point = lib.scratch("mnt")
    os.makedirs(point, exist_ok=True)
    with lib.NullBlk("leaf", 64) as leaf:
        lib.run("mkfs.ext4", "-q", "-F", leaf)
        lib.run("mount", leaf, point)
        try:
            done = lib.attach_fails(leaf, "-f", "raw", code=(lib.BUSY,))
            check(os.path.basename(leaf) in done.stderr, done.stderr)
        finally:
            lib.run("umount", point)
