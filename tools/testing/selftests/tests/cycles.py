# SPDX-License-Identifier: GPL-2.0
# about: 200 attach/detach cycles do not grow the kernel
# cost: 35
# timeout: 240
"""Counts what the kernel holds before and after many cycles."""

import os

import genl
import lib
from lib import MIB, check

CYCLES = 200


def fixtures():
    lib.img_create("cycle.qcow2", 32 * MIB)


def meminfo(key):
    with open("/proc/meminfo", encoding="utf-8") as f:
        for line in f:
            if line.startswith(key + ":"):
                return int(line.split()[1])
    return 0


def slabs():
    """Objects in use in the caches that a disk needs."""
    out = {}
    with open("/proc/slabinfo", encoding="utf-8") as f:
        for line in f.readlines()[2:]:
            words = line.split()
            if words[0].startswith(("qblk", "kmalloc", "bio", "blk", "request",
                                    "filp", "bdev", "pool_workqueue",
                                    "radix_tree", "names_cache")):
                out[words[0]] = int(words[1])
    return out


def write_to(dev, n):
    check(dev == "/dev/qblk0", f"cycle {n}: got {dev}")
    with lib.Disk(dev) as disk:
        disk.write((n % 32) * MIB, bytes([n % 255 + 1]) * 4096)


def cycle(image, count):
    """One in five by qblkctl; to start it takes most of the time."""
    spec = genl.Spec()
    build = genl.Builder(spec)
    number = spec.sets["export"]["disk"]["id"]
    with genl.connect(spec) as net:
        for n in range(count):
            if n % 5 == 0:
                dev = lib.attach(image)
                write_to(dev, n)
                lib.detach(dev)
                continue
            with open(image, "r+b") as f:
                reply = net.call(spec.ops["export-add"]["id"],
                                 build.image(f.fileno()))
            check(not reply.error, f"cycle {n}: {reply.text}")
            disk = dict(reply.messages[0])[number].rstrip(b"\0").decode()
            write_to(f"/dev/{disk}", n)
            reply = net.call(spec.ops["export-del"]["id"],
                             build.put("export", "name", disk))
            check(not reply.error, f"cycle {n}: {reply.text}")
            check(not lib.disks(), f"cycle {n}: left {lib.disks()}")


def test_cycles():
    image = lib.fixture("cycle.qcow2")
    # Debug kernels keep a record per object; they still do a fair number.
    count = lib.scaled(CYCLES, 40)
    cycle(image, 10)
    before, unreclaimable = slabs(), meminfo("SUnreclaim")
    vmalloc, percpu = meminfo("VmallocUsed"), meminfo("Percpu")
    cycle(image, count)
    after = slabs()
    # Five leaked objects per cycle show; noise of the system does not.
    grown = {name: after[name] - before.get(name, 0) for name in after
             if after[name] - before.get(name, 0) >= 5 * count}
    kib = meminfo("SUnreclaim") - unreclaimable
    lib.note(f"{count} cycles: unreclaimable slab {kib:+d} KiB, "
             f"vmalloc {meminfo('VmallocUsed') - vmalloc:+d} KiB, "
             f"percpu {meminfo('Percpu') - percpu:+d} KiB, {grown}")
    # A kernel that looks for leaks itself keeps freed objects, and a record of
    # each; what it finds makes the machine fail.
    if not os.path.exists("/sys/kernel/debug/kmemleak"):
        check(not grown, f"objects that stay: {grown}")
        check(kib < 8192, f"unreclaimable slab grew by {kib} KiB")
    check(meminfo("VmallocUsed") - vmalloc < 2048, "vmalloc grew")
    check(meminfo("Percpu") - percpu < 1024, "percpu memory grew")
    lib.img_check(image)


def test_no_stale_page_cache():
    """A new image on the same number shows its own content."""
    image = lib.fixture("cycle.qcow2")
    with lib.Attached(image) as dev:
        with open(dev, "r+b", buffering=0) as f:
            f.write(b"\x77" * 4096)
            os.fsync(f.fileno())
    lib.img_create(lib.scratch("fresh.qcow2"), 32 * MIB)
    with lib.Attached(lib.scratch("fresh.qcow2")) as dev:
        with open(dev, "rb", buffering=0) as f:
            check(f.read(4096) == bytes(4096), "read the old image's pages")
