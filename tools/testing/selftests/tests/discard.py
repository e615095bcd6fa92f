# SPDX-License-Identifier: GPL-2.0
# about: discard and write-zeroes free clusters; the file shrinks
# cost: 25
# timeout: 120
"""What is given back is given back to the file system below, and stays zero."""

import json

import lib
from lib import KIB, MIB, check

SIZE = 64 * MIB
NORMAL = 16 * MIB


def fixtures():
    for word, options in (("v3", {}), ("v2", {"compat": "0.10"}),
                          ("4k", {"cluster_size": 4096})):
        lib.img_create(f"{word}.qcow2", SIZE, **options)
    lib.img_create("base.qcow2", SIZE)
    lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 8M", "base.qcow2")
    lib.img_create("top.qcow2", SIZE, backing="base.qcow2")
    lib.img_create("snap.qcow2", SIZE)
    lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 9 0 4M", "snap.qcow2")
    lib.run("qemu-img", "snapshot", "-c", "one", "snap.qcow2")


def allocated(image):
    """Bytes of the image that qemu-img maps to data of its own."""
    done = lib.run("qemu-img", "map", "--output=json", image)
    return sum(m["length"] for m in json.loads(done.stdout)
               if m["data"] and m["depth"] == 0)


def fill(disk, start, length):
    for pos in range(start, start + length, MIB):
        disk.write(pos, bytes([pos // MIB % 250 + 1]) * MIB)


def all_zero(disk, start, length, what):
    for pos in range(start, start + length, MIB):
        data = disk.read(pos, min(MIB, start + length - pos))
        check(data.count(0) == len(data), f"{what}: not zero in MiB {pos // MIB}")


def shrinks(image, action, what, *options):
    """Runs action on a filled disk; the file must give up what it freed."""
    with lib.Attached(image, *options) as dev:
        with lib.Disk(dev) as disk:
            fill(disk, 0, NORMAL)
            disk.flush()
            full = lib.disk_usage(image)
            check(full >= NORMAL, f"{what}: file takes {full} when filled")
            action(disk, MIB, NORMAL - 2 * MIB)
            disk.flush()
            all_zero(disk, MIB, NORMAL - 2 * MIB, what)
            check(disk.read(0, MIB) == b"\x01" * MIB, f"{what}: hit MiB 0")
            last = NORMAL // MIB - 1
            check(disk.read(last * MIB, MIB) == bytes([last + 1]) * MIB,
                  f"{what}: hit the last MiB")
            usage = lib.disk_usage(image)
    usage = min(usage, lib.disk_usage(image))
    lib.img_check(image)
    return full, usage


def test_discard():
    for word in ("v3", "v2", "4k"):
        image = lib.fixture(f"{word}.qcow2")
        full, usage = shrinks(image, lambda d, o, n: d.discard(o, n), word)
        check(usage < full - NORMAL // 2,
              f"{word}: {full} bytes before, {usage} after the discard")
        left = allocated(image)
        check(left <= 3 * MIB, f"{word}: {left} bytes are still mapped")


def test_zeroes_with_unmap():
    image = lib.fixture("v3.qcow2")
    full, usage = shrinks(image, lambda d, o, n: d.punch(o, n), "punch")
    check(usage < full - NORMAL // 2, f"{full} before, {usage} after")


def test_zeroes_keep_space():
    """Without unmap the clusters stay allocated: zero flag, offset kept."""
    image = lib.fixture("v3.qcow2")
    shrinks(image, lambda d, o, n: d.zero(o, n), "zero")
    done = lib.run("qemu-img", "map", "--output=json", image)
    zero = [m for m in json.loads(done.stdout)
            if m["zero"] and m["start"] < NORMAL]
    check(zero, "no zero clusters after BLKZEROOUT")
    data = sum(m["length"] for m in json.loads(done.stdout)
               if m["data"] and not m["zero"])
    check(data <= 3 * MIB, f"{data} bytes were written as data")


def test_ignored():
    """--discard ignore: nothing is freed; reads are zero or unchanged."""
    image = lib.fixture("v3.qcow2")
    with lib.Attached(image, "--discard", "ignore") as dev:
        with lib.Disk(dev) as disk:
            fill(disk, 0, 4 * MIB)
            full = lib.disk_usage(image)
            try:
                disk.discard(0, 4 * MIB)
            except OSError:
                pass    # a disk without discard is fine, too
            disk.flush()
            check(lib.disk_usage(image) >= full, "the file shrank")
    lib.img_check(image)


def test_freed_is_reused():
    """Discard and rewrite in turn: the file does not grow for ever."""
    image = lib.fixture("v3.qcow2")
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        for n in range(lib.scaled(8, 4)):
            fill(disk, n * 4 * MIB, 4 * MIB)
            disk.flush()
            disk.discard(n * 4 * MIB, 4 * MIB)
            disk.flush()
    lib.img_check(image)
    usage = lib.disk_usage(image)
    check(usage < 13 * MIB, f"the file takes {usage} bytes for no data")


def test_over_backing_file():
    lib.fixture("base.qcow2")
    image = lib.fixture("top.qcow2")
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        disk.discard(MIB, MIB)
        disk.punch(3 * MIB, MIB)
        disk.zero(5 * MIB, MIB)
        for mib in range(8):
            data = disk.read(mib * MIB, MIB)
            want = 0 if mib in (1, 3, 5) else 7
            check(data == bytes([want]) * MIB,
                  f"MiB {mib} of the overlay is not {want}")
    lib.img_check(image)
    with lib.Attached(image, "-r") as dev, \
         lib.Disk(dev, readonly=True) as disk:
        check(disk.read(MIB, MIB) == bytes(MIB), "the base shows through")
        check(disk.read(2 * MIB, MIB) == b"\x07" * MIB, "MiB 2 was lost")


def snapshot_is_whole(image):
    lib.img_check(image)
    lib.run("qemu-img", "convert", "-l", "one", "-O", "raw", image,
            lib.scratch("one.raw"))
    with open(lib.scratch("one.raw"), "rb") as f:
        check(f.read(4 * MIB) == b"\x09" * (4 * MIB),
              "the snapshot's data changed")


def test_snapshot_keeps_its_clusters():
    """Clusters with refcount 2: the snapshot's content survives."""
    image = lib.fixture("snap.qcow2")
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        disk.discard(0, MIB)
        disk.zero(MIB, MIB)
        disk.write(2 * MIB, b"\x55" * (100 * KIB))
        disk.flush()
        check(disk.read(3 * MIB, MIB) == b"\x09" * MIB, "MiB 3 changed")
        check(disk.read(2 * MIB, MIB) ==
              b"\x55" * (100 * KIB) + b"\x09" * (MIB - 100 * KIB),
              "wrong data after copy on write")
    snapshot_is_whole(image)


def with_options(image, *options):
    return lib.Attached(",".join(("driver=qcow2", "discard=unmap", *options,
                                  "file.driver=file", "file.discard=unmap",
                                  f"file.filename={image}")), "--image-opts")


def test_pass_discard_request():
    """Off: clusters are freed in the image, and the file keeps its size."""
    for word, most in (("on", 6 * MIB), ("off", None)):
        image = lib.fixture("v3.qcow2")
        with with_options(image, f"pass-discard-request={word}") as dev, \
             lib.Disk(dev) as disk:
            fill(disk, 0, NORMAL)
            disk.flush()
            disk.discard(0, NORMAL)
            disk.flush()
        usage = lib.disk_usage(image)
        check(usage <= most if most else usage >= NORMAL,
              f"pass-discard-request={word}: the file takes {usage} bytes")
        check(allocated(image) == 0, f"{allocated(image)} bytes are mapped")
        lib.img_check(image)


def test_no_unref():
    """Discarded clusters keep their place: they are zeroes there, and reused."""
    image = lib.fixture("v3.qcow2")
    with with_options(image, "discard-no-unref=on") as dev, \
         lib.Disk(dev) as disk:
        fill(disk, 0, NORMAL)
        disk.flush()
        full = lib.disk_usage(image)
        disk.discard(MIB, 8 * MIB)
        disk.punch(10 * MIB, 2 * MIB)
        disk.flush()
        all_zero(disk, MIB, 8 * MIB, "no-unref")
        all_zero(disk, 10 * MIB, 2 * MIB, "no-unref, punched")
        usage = lib.disk_usage(image)
        check(usage <= full - 9 * MIB, f"{full} bytes before, {usage} after")
        for start, length in ((2 * MIB, 3 * MIB + 512), (10 * MIB, MIB)):
            disk.write(start, b"\xc3" * length)
        disk.flush()
        check(disk.read(5 * MIB, 1024) == b"\xc3" * 512 + bytes(512),
              "the rest of a reused cluster is not zero")
        check(disk.read(9 * MIB, MIB) == b"\x0a" * MIB, "MiB 9 was lost")
    end = lib.img_check(image)["image-end-offset"]
    check(end <= NORMAL + MIB, f"image ends at {end}: clusters were taken anew")


def test_no_unref_snapshot():
    """What a snapshot shares is not made zeroes."""
    image = lib.fixture("snap.qcow2")
    with with_options(image, "discard-no-unref=on") as dev, \
         lib.Disk(dev) as disk:
        disk.discard(0, 2 * MIB)
        disk.punch(2 * MIB, MIB)
        disk.flush()
        all_zero(disk, 0, 3 * MIB, "no-unref over a snapshot")
    snapshot_is_whole(image)
