# SPDX-License-Identifier: GPL-2.0
"""In the guest: what attaching costs, in time and memory."""

import os
import statistics
import time

import lib
from works import GIB, KIB

TIB = 1024 * GIB


def memory(field):
    """Bytes of a line of /proc/meminfo."""
    for line in lib.read_file("/proc/meminfo").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * KIB
    raise lib.Fail(f"no {field}")


def free():
    """Bytes nobody uses, when all that can be given back was."""
    for _ in range(2):
        os.sync()
        lib.write_file("/proc/sys/vm/drop_caches", 3)
    return memory("MemFree")


def spent(function, *args):
    begun = time.perf_counter_ns()
    result = function(*args)
    return result, time.perf_counter_ns() - begun


def attach(image):
    return lib.attach(image, "-f", "qcow2", "--no-partscan")


def one_size(images, size, number=8):
    """Of one image among several: nanoseconds to attach, to detach, and bytes."""
    paths = [lib.img_create(images.file(f"{n}.qcow2"), size)
             for n in range(number)]
    lib.detach(attach(paths[0]))
    before = free()
    devs, ns = [], []
    for path in paths:
        dev, took = spent(attach, path)
        devs.append(dev)
        ns.append(took)
    used = before - free()
    gone = [spent(lib.detach, dev)[1] for dev in devs]
    images.clear()
    return {"attach": min(ns), "detach": min(gone), "memory": used // number}


def sizes(images):
    """What a larger image costs: its L1 table, and little else."""
    return {f"{size // GIB} GiB": one_size(images, size)
            for size in (GIB, 64 * GIB, TIB, 16 * TIB)}


def mapped_once(image):
    """Bytes that reading a disk takes, beyond what its first blocks take: tables are
    in slabs, and of what is free, each processor keeps some pages for itself."""
    dev = attach(image)
    lib.run("dd", f"if={dev}", "of=/dev/null", "bs=64k", "count=1",
            "iflag=direct")
    before = memory("Slab")
    lib.run("dd", f"if={dev}", "of=/dev/null", "bs=1M", "iflag=direct",
            timeout=600)
    used = memory("Slab") - before
    lib.detach(dev)
    return used


def mapped(images):
    """Of a GiB in clusters of 4 KiB: the metadata of larger ones is too little to
    be told from what others give back meanwhile."""
    image = images.make("metadata")
    return statistics.median(mapped_once(image) for _ in range(5))


def ends(ns, part):
    """The quickest of each end: waits make attaching longer, never shorter."""
    return {"number": len(ns), "first": min(ns[:part]),
            "last": min(ns[-part:])}


def one_after_another(images, number):
    """Nanoseconds of an attach and detach, at the start and at the end."""
    path = lib.img_create(images.file("0.qcow2"), GIB)
    part = max(1, number // 20)
    ns = [spent(lambda: lib.detach(attach(path)))[1] for _ in range(number)]
    images.clear()
    return ends(ns, part)


def at_once(images, number):
    """Nanoseconds to attach one more, with few and with many others."""
    paths = [lib.img_create(images.file(f"{n}.qcow2"), GIB)
             for n in range(number)]
    part = max(1, number // 10)
    devs, ns = [], []
    for path in paths:
        dev, took = spent(attach, path)
        devs.append(dev)
        ns.append(took)
    for dev in devs:
        lib.detach(dev)
    images.clear()
    return ends(ns, part)


def measure(images, factor):
    """Everything: {what: {case: {figure: number}}}."""
    images.clear()
    one_size(images, GIB)   # what is allocated once, for all
    return {"sizes": sizes(images),
            "mapped": mapped(images),
            "attached": {
                "one after the other":
                    one_after_another(images, max(40, int(1000 * factor))),
                "at once":
                    at_once(images, max(20, int(200 * min(factor, 1))))}}
