# SPDX-License-Identifier: GPL-2.0
# about: FLUSH and FUA reach the leaf, with the data before them
# cost: 15
# timeout: 90
"""Looks at what arrives below, through dm-log-writes.

The log gets a write only when a FLUSH or FUA has made it stable.
"""

import os
import sys

import lib
from lib import MIB, check

sys.path.insert(0, os.path.join(lib.ROOT, "tools/testing/crash"))
import replay  # noqa: E402  pylint: disable=wrong-import-position

PATTERN = b"\xc3" * 4096


def fixtures():
    lib.img_create("f.qcow2", 16 * MIB)


class LoggedDisk:
    """A device mapper disk that logs the writes to it."""

    def __init__(self, size_mib=64):
        self.size = size_mib

    def __enter__(self):
        lib.need("dmsetup")
        lib.run("modprobe", "dm-log-writes", ok=None)
        self.data = lib.nullb_create("fdata", self.size)
        self.log = lib.nullb_create("flog", self.size)
        lib.run("dmsetup", "create", "--noudevsync", "qblkflush", "--table",
                f"0 {self.size * 2048} log-writes {self.data} {self.log}")
        path = "/dev/mapper/qblkflush"
        if not os.path.exists(path):
            lib.run("dmsetup", "mknodes")
        return os.path.realpath(path), self.log

    def __exit__(self, *_):
        lib.run("dmsetup", "remove", "--noudevsync", "--retry", "qblkflush",
                ok=None)
        lib.nullb_delete("fdata")
        lib.nullb_delete("flog")


def mark(name):
    replay.send_mark("qblkflush", name)


def entries(log, last):
    """Entries by the mark that follows them, once the last mark is there."""
    lib.wait_for(lambda: last in read_log(log), f"mark {last} in the log")
    return read_log(log)


def read_log(log):
    out, current = {}, []
    # The log is written behind the page cache's back.
    lib.run("blockdev", "--flushbufs", log)
    with open(log, "rb") as f:
        for entry in replay.Log(f).entries():
            if entry.is_mark:
                out[entry.mark] = current
                current = []
            else:
                current.append(entry)
    return out


def has_pattern(some, log):
    with open(log, "rb") as f:
        reader = replay.Log(f)
        return any(PATTERN[:512] in reader.data(e) for e in some if e.length)


def exercise(disk):
    """Writes under marks; the clusters are allocated before."""
    disk.write(0, bytes(range(256)) * 256)
    disk.flush()
    mark("start")
    disk.write(4096, PATTERN)
    mark("write")
    disk.flush()
    mark("flush")
    disk.flush()
    mark("again")
    disk.write(8192, PATTERN, os.RWF_DSYNC)
    mark("fua")
    disk.write(3 * MIB, PATTERN, os.RWF_DSYNC)
    mark("fua-allocating")


def judge(log, plain_fua):
    seen = entries(log, "fua-allocating")
    for name in ("flush", "fua", "fua-allocating"):
        some = seen[name] + (seen["write"] if name == "flush" else [])
        check(any(e.is_flush or e.is_fua for e in some),
              f"{name}: neither FLUSH nor FUA reached the leaf")
        check(has_pattern(some, log),
              f"{name}: completed without the data being stable")
    if plain_fua:
        check(len(seen["fua"]) <= 3,
              f"a FUA overwrite took {len(seen['fua'])} writes below")
    lib.note(", ".join(f"{k}: {len(v)} entries" for k, v in seen.items()))


def test_host_device():
    with LoggedDisk() as (leaf, log):
        lib.img_create(leaf, 16 * MIB)
        with lib.Attached(leaf) as dev, lib.Disk(dev) as disk:
            exercise(disk)
        judge(log, True)
        lib.img_check(leaf)


def test_raw_host_device():
    with LoggedDisk() as (leaf, log):
        with lib.Attached(leaf, "-f", "raw") as dev, lib.Disk(dev) as disk:
            exercise(disk)
        judge(log, True)


def test_file():
    """An image in a file: its fsync has to reach the disk below."""
    point = lib.scratch("logged")
    os.makedirs(point, exist_ok=True)
    with LoggedDisk() as (leaf, log):
        lib.run("mkfs.ext4", "-q", "-F", leaf)
        lib.run("mount", leaf, point)
        try:
            image = f"{point}/f.qcow2"
            lib.copy_sparse(lib.fixture_path("f.qcow2"), image)
            with lib.Attached(image) as dev, lib.Disk(dev) as disk:
                exercise(disk)
            lib.img_check(image)
        finally:
            lib.run("umount", point)
        judge(log, False)


def test_detach_flushes():
    """What was written and never flushed is stable after detach."""
    with LoggedDisk() as (leaf, log):
        lib.img_create(leaf, 16 * MIB)
        with lib.Attached(leaf) as dev, lib.Disk(dev) as disk:
            disk.write(5 * MIB, PATTERN * 16)
            mark("written")
        mark("detached")
        seen = entries(log, "detached")
        some = seen["written"] + seen["detached"]
        check(any(e.is_flush or e.is_fua for e in some),
              "detach sent no FLUSH")
        check(has_pattern(some, log), "detach left data unstable")
        lib.img_check(leaf)


def test_cache_is_advertised():
    image = lib.fixture("f.qcow2")
    with lib.Attached(image) as dev:
        check(lib.sys_block(dev, "queue/write_cache") == "write back",
              "no volatile write cache: nobody would send a FLUSH")
