# SPDX-License-Identifier: GPL-2.0
# about: the system takes metadata back from memory, also during I/O
# kernels: either
# cost: 25
# timeout: 120
"""Clean slices go when memory is wanted, and what is in the image stays."""

import json
import os
import random
import threading

import lib
from lib import KIB, MIB, check

# An offset whose L2 entry is in another table than that of offset 0
FAR = 1024 * MIB


def fixtures():
    lib.img_create("big.qcow2", 4096 * MIB)
    for offset in (0, FAR):
        lib.run("qemu-io", "-f", "qcow2", "-c",
                f"write -P 0x5a {offset} 64k", "big.qcow2")
    # Many L2 tables, for slices to come and go
    lib.img_create("small.qcow2", 32 * MIB, cluster_size=512)


def layer(dev):
    return json.loads(lib.ctl("show", "--json", dev).stdout)["layers"][0]


def facts(dev):
    """What debugfs tells, which is the same."""
    node = layer(dev)["node-name"]
    text = lib.read_file(f"/sys/kernel/debug/qblk/nodes/{node}/info")
    return dict(line.split(": ", 1) for line in text.splitlines())


def want_memory():
    lib.write_file("/proc/sys/vm/drop_caches", 2)


def test_debugfs():
    image = lib.fixture("big.qcow2")
    with lib.Attached(image, "-r") as dev:
        info = layer(dev)["info"]
        told = facts(dev)
        check(told["driver"] == "qcow2" and told["read-only"] == "on",
              f"{told}")
        check(told["length"] == str(4096 * MIB), told["length"])
        for key in ("l2-cache-size", "cluster-size", "compat"):
            check(told[key] == str(info[key]), f"{key}: {told[key]}")
        node = layer(dev)["node-name"]
    check(not os.path.exists(f"/sys/kernel/debug/qblk/nodes/{node}"),
          f"{node} is still in debugfs")


def test_shrinks():
    image = lib.fixture("big.qcow2")
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        disk.read(0, 4096)
        disk.read(FAR, 4096)
        check(facts(dev)["l2-cache-used"] == str(8 * KIB),
              facts(dev)["l2-cache-used"])

        def gone():
            want_memory()
            return facts(dev)["l2-cache-used"] == "0"

        lib.wait_for(gone, "slices leave the memory", 20)
        check(int(facts(dev)["l2-cache-shrunk"]) >= 2, f"{facts(dev)}")
        check(disk.read(FAR, 4096) == b"\x5a" * 4096, "wrong data")
        check(facts(dev)["l2-cache-used"] == str(4 * KIB),
              facts(dev)["l2-cache-used"])
        # What is dirty stays until it is written.
        disk.write(128 * KIB, b"\x77" * 4096)
        want_memory()
        check(facts(dev)["l2-cache-dirty"] != "0", "dirty slices are gone")
    lib.img_check(image)


def test_during_io():
    image = lib.fixture("small.qcow2")
    stop = threading.Event()

    def presser():
        while not stop.wait(0.02):
            want_memory()

    thread = threading.Thread(target=presser)
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        work = lib.Workload(disk, lib.Model(disk.size), random.Random(5),
                            cluster=512)
        thread.start()
        try:
            work.run(150)
        finally:
            stop.set()
            thread.join()
        told = facts(dev)
        work.verify()
    check(int(told["l2-cache-shrunk"]) > 0, "nothing was taken")
    lib.img_check(image)
