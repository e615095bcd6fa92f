# SPDX-License-Identifier: GPL-2.0
# about: extended L2 entries: subclusters are allocated, copied, zeroed alone
# kernels: either
# cost: 30
# timeout: 240
"""Images that QEMU filled a subcluster at a time, and ours that QEMU reads."""

import json

import lib
from lib import KIB, MIB, check

SIZE = 8 * MIB
CLUSTERS = {"16K": 16 * KIB, "64K": 64 * KIB, "2M": 2 * MIB,
            "backing": 64 * KIB, "compressed": 64 * KIB}


def commands(rng, subcluster):
    """What qemu-io does to an image: pieces around subclusters."""
    for n in range(150):
        start = rng.randrange(0, SIZE - 8 * subcluster, 512)
        if rng.random() < 0.5:
            start -= start % subcluster
        length = rng.choice((512, subcluster, 3 * subcluster,
                             5 * subcluster + 512))
        op = rng.choice((f"write -P {n + 1}", f"write -P {n + 1}", "write -z",
                         "write -z -u", "discard"))
        yield f"{op} {start} {length}"


def fixtures():
    rng = lib.rng("fixtures")
    lib.img_create("base.qcow2", SIZE - 700 * KIB)
    lib.run("qemu-io", "-f", "qcow2", "-c", f"write -P 77 0 {SIZE - MIB}",
            "base.qcow2")
    for name, cluster in CLUSTERS.items():
        image = f"{name}.qcow2"
        lib.img_create(image, SIZE, extended_l2="on", cluster_size=cluster,
                       backing="base.qcow2" if name == "backing" else None)
        argv = ["qemu-io", "-f", "qcow2", "-d", "unmap"]
        if name == "compressed":
            argv += ["-c", "write -c -P 3 1M 2M"]
        for command in commands(rng, cluster // 32):
            argv += ["-c", command]
        lib.run(*argv, image)
        lib.run("qemu-img", "convert", "-O", "raw", image, f"{name}.raw")


def model_of(name):
    with open(lib.fixture_path(f"{name}.raw"), "rb") as f:
        return lib.Model(SIZE, f.read())


def random_ops(variant):
    """Everything at once, against the model and then against QEMU."""
    lib.fixture("base.qcow2")
    image = lib.fixture(f"{variant}.qcow2")
    model = model_of(variant)
    subcluster = CLUSTERS[variant] // 32
    # A discarded part of a compressed cluster stays as it was
    unit = CLUSTERS[variant] if variant == "compressed" else subcluster
    for attempt in range(2):
        with lib.Attached(image) as dev, \
             lib.Disk(dev) as disk:
            load = lib.Workload(disk, model, lib.rng(f"{variant}{attempt}"),
                                cluster=unit,
                                longest=max(300 * KIB, 4 * subcluster))
            load.verify()
            load.run(lib.scaled(200))
            load.verify()
        lib.img_check(image)
        lib.img_compare(image, model.save(lib.scratch("model.raw")))


def test_random():
    for name in CLUSTERS:
        random_ops(name)


def mapped(image):
    done = lib.run("qemu-img", "map", "--output=json", image)
    return sum(m["length"] for m in json.loads(done.stdout)
               if m["data"] and m["depth"] == 0)


def allocates_subclusters(cluster, backing):
    image = lib.img_create(lib.scratch("alloc.qcow2"), SIZE,
                           backing=backing, extended_l2="on",
                           cluster_size=cluster)
    subcluster = cluster // 32
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        disk.write(3 * subcluster, b"\x11" * 512)
        disk.write(5 * subcluster, b"\x22" * 2 * subcluster)
        disk.write(9 * subcluster, b"\x33" * subcluster)
        info = lib.layers(dev)[0]["info"]
        check(info["extended-l2"] is True, info)
    check(mapped(image) == 4 * subcluster,
          f"{mapped(image)} bytes mapped, not 4 subclusters")
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        disk.discard(5 * subcluster, 2 * subcluster)
        disk.zero(9 * subcluster, subcluster)
        check(not any(disk.read(5 * subcluster, 5 * subcluster)[
            :2 * subcluster]), "discarded subclusters are not zero")
    check(mapped(image) == subcluster,
          f"{mapped(image)} bytes mapped, not one subcluster")
    lib.img_check(image)


def test_allocates_subclusters():
    """A sector takes its subcluster; a discarded one is no data any more."""
    for cluster in (16 * KIB, 64 * KIB, 2 * MIB):
        allocates_subclusters(cluster, None)
    allocates_subclusters(64 * KIB, lib.fixture("base.qcow2"))
