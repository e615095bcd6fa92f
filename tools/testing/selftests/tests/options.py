# SPDX-License-Identifier: GPL-2.0
# about: qcow2's runtime options: QEMU's values and conflicts, and their effect
# kernels: either
# cost: 30
# timeout: 120
"""Options have QEMU's names, defaults and conflicts, and do something."""

import json
import time

import lib
from lib import KIB, MIB, check

# An offset whose L2 entry is in another table than that of offset 0
BIG = 1024 * MIB


def fixtures():
    lib.img_create("v3.qcow2", 64 * MIB)
    lib.img_create("v2.qcow2", 64 * MIB, compat="0.10")
    lib.img_create("lazy.qcow2", 64 * MIB, lazy_refcounts="on")
    lib.img_create("big.qcow2", 1024 * 1024 * MIB)
    for offset in (0, BIG):
        lib.run("qemu-io", "-f", "qcow2", "-c",
                f"write -P 0x5a {offset} 64k", "big.qcow2")


def opts(image, *options):
    """The arguments that attach an image with options."""
    return ("--image-opts",
            ",".join(("driver=qcow2", "file.driver=file",
                      f"file.filename={image}") + options))


class Attached(lib.Attached):
    """An image with options."""

    def __init__(self, image, *options):
        super().__init__(*reversed(opts(image, *options)))


def refused(image, *options, says):
    lib.attach_fails(*reversed(opts(image, *options)), says=says)


def info(dev):
    """What show tells about the top layer."""
    return json.loads(lib.ctl("show", "--json", dev).stdout)["layers"][0]


def shown(image, *options):
    with Attached(image, *options) as dev:
        return info(dev)["info"]


def l2_used(dev):
    return info(dev)["info"]["l2-cache-used"]


def expect(got, **want):
    for key, value in want.items():
        key = key.replace("_", "-")
        check(got[key] == value, f"{key}: {got[key]!r}, expected {value!r}")


def test_lazy_refcounts():
    expect(shown(lib.fixture("v3.qcow2")), lazy_refcounts=False)
    expect(shown(lib.fixture("v3.qcow2"), "lazy-refcounts=on"),
           lazy_refcounts=True)
    expect(shown(lib.fixture("lazy.qcow2")), lazy_refcounts=True)
    expect(shown(lib.fixture("lazy.qcow2"), "lazy-refcounts=off"),
           lazy_refcounts=False)
    expect(shown(lib.fixture("v2.qcow2"), "lazy-refcounts=off"),
           lazy_refcounts=False)
    refused(lib.fixture("v2.qcow2"), "lazy-refcounts=on",
            says="Lazy refcounts require a qcow2 image with at least qemu 1.1 "
                 "compatibility level")
    refused(lib.fixture("v3.qcow2"), "lazy-refcounts=perhaps",
            says="option 'lazy-refcounts': 'perhaps'")


def test_pass_discard():
    image = lib.fixture("v3.qcow2")
    expect(shown(image), pass_discard_request=True,
           pass_discard_snapshot=True, pass_discard_other=False,
           discard_no_unref=False)
    expect(shown(image, "discard=ignore"), pass_discard_request=False)
    expect(shown(image, "discard=ignore", "pass-discard-request=on"),
           pass_discard_request=True)
    expect(shown(image, "pass-discard-request=off",
                 "pass-discard-snapshot=off", "pass-discard-other=on",
                 "discard-no-unref=on"),
           pass_discard_request=False, pass_discard_snapshot=False,
           pass_discard_other=True, discard_no_unref=True)
    refused(lib.fixture("v2.qcow2"), "discard-no-unref=on",
            says="discard-no-unref")


def test_overlap_check():
    image = lib.fixture("v3.qcow2")
    for word in ("none", "constant", "cached", "all"):
        for key in ("overlap-check", "overlap-check.template"):
            expect(shown(image, f"{key}={word}"), overlap_check=word)
    expect(shown(image), overlap_check="cached")
    expect(shown(image, "overlap-check=all", "overlap-check.template=all"),
           overlap_check="all")
    # Members count more than the template, whatever comes first.
    expect(shown(image, "overlap-check.inactive-l2=on"), overlap_check="all")
    expect(shown(image, "overlap-check=none", "overlap-check.active-l2=on",
                 "overlap-check.main-header=on"),
           overlap_check="main-header,active-l2")
    expect(shown(image, "overlap-check.refcount-block=off",
                 "overlap-check.template=constant",
                 "overlap-check.active-l2=on"),
           overlap_check="main-header,active-l1,active-l2,refcount-table,"
                         "snapshot-table,bitmap-directory")
    refused(image, "overlap-check=all", "overlap-check.template=none",
            says="contradict")
    refused(image, "overlap-check=some", says="none, constant, cached, all")
    refused(image, "overlap-check.header=on", says="overlap-check.header")
    refused(image, "overlap-check.active-l1=none", says="active-l1")
    # The same as JSON, where members are an object.
    tree = {"driver": "qcow2",
            "file": {"driver": "file", "filename": image},
            "overlap-check": {"template": "none", "inactive-l1": True}}
    with lib.Attached(json.dumps(tree), "--image-opts") as dev:
        expect(info(dev)["info"], overlap_check="inactive-l1")


def test_cache_sizes():
    image = lib.fixture("v3.qcow2")
    big = lib.fixture("big.qcow2")
    # All of the L2 tables, 32 MiB at most; four clusters of refcounts.
    expect(shown(image), l2_cache_size=64 * KIB,
           refcount_cache_size=256 * KIB)
    expect(shown(big), l2_cache_size=32 * MIB)
    expect(shown(big, "l2-cache-size=1M", "refcount-cache-size=2M"),
           l2_cache_size=MIB, refcount_cache_size=2 * MIB)
    expect(shown(big, "cache-size=8M"), l2_cache_size=8 * MIB - 256 * KIB,
           refcount_cache_size=256 * KIB)
    expect(shown(big, "cache-size=8M", "l2-cache-size=5M"),
           l2_cache_size=5 * MIB, refcount_cache_size=3 * MIB)
    expect(shown(big, "cache-size=8M", "refcount-cache-size=5M"),
           l2_cache_size=3 * MIB, refcount_cache_size=5 * MIB)
    # As much as the disk needs, and the rest for refcounts.
    expect(shown(image, "cache-size=8M"), l2_cache_size=64 * KIB,
           refcount_cache_size=8 * MIB - 64 * KIB)
    # What is too small to work with is made larger.
    expect(shown(big, "l2-cache-size=0", "refcount-cache-size=0"),
           l2_cache_size=64 * KIB, refcount_cache_size=256 * KIB)
    refused(image, "cache-size=8M", "l2-cache-size=4M",
            "refcount-cache-size=4M", says="may not be set at the same time")
    refused(image, "cache-size=8M", "l2-cache-size=9M",
            says="option 'l2-cache-size': 9437184 may not exceed "
                 "'cache-size', 8388608")
    refused(image, "cache-size=8M", "refcount-cache-size=9M",
            says="option 'refcount-cache-size': 9437184 may not exceed "
                 "'cache-size', 8388608")
    refused(image, "cache-size=1T", says="option 'cache-size': 1T")


def test_cache_clean_interval():
    image = lib.fixture("big.qcow2")
    expect(shown(image), cache_clean_interval=600)
    expect(shown(image, "cache-clean-interval=4294967295"),
           cache_clean_interval=4294967295)
    refused(image, "cache-clean-interval=4294967296",
            says="option 'cache-clean-interval': 4294967296")
    for seconds in (0, 1):
        with Attached(image, f"cache-clean-interval={seconds}") as dev, \
                lib.Disk(dev) as disk:
            disk.read(0, 4096)
            disk.read(BIG, 4096)
            if seconds:
                lib.wait_for(lambda d=dev: not l2_used(d),
                             "slices leave the memory", 20)
                check(info(dev)["info"]["l2-cache-cleaned"] >= 2,
                      "who took the slices?")
            else:
                time.sleep(3)
                expect(info(dev)["info"], l2_cache_cleaned=0,
                       l2_cache_used=8 * KIB)
            check(disk.read(BIG, 4096) == b"\x5a" * 4096, "wrong data")


def test_cache_entry_size():
    image = lib.fixture("big.qcow2")
    expect(shown(image), l2_cache_entry_size=4 * KIB)
    for size in (512, 4 * KIB, 64 * KIB):
        with Attached(image, f"l2-cache-entry-size={size}",
                      "l2-cache-size=0") as dev, lib.Disk(dev) as disk:
            check(disk.read(BIG, 4096) == b"\x5a" * 4096, "wrong data")
            got = info(dev)["info"]
            expect(got, l2_cache_entry_size=size,
                   l2_cache_size=min(16 * size, max(64 * KIB, 2 * size)))
            check(got["l2-cache-used"] % size == 0, f"{got}")
            # In all parts of L2 tables, more of them than are kept
            for at in range(0, 512 * MIB, 40 * MIB):
                for table in range(3):
                    disk.write(table * 512 * MIB + at,
                               bytes([at // MIB % 251 + 1]) * 4096)
            for at in range(0, 512 * MIB, 40 * MIB):
                for table in range(3):
                    data = disk.read(table * 512 * MIB + at, 4096)
                    check(data == bytes([at // MIB % 251 + 1]) * 4096,
                          f"wrong data at {at} of table {table}")
            disk.write(BIG, b"\x5a" * 4096)
        lib.img_check(image)
    refused(image, "l2-cache-entry-size=5000",
            says="option 'l2-cache-entry-size': 5000 is not a power of two "
                 "between 512 and the cluster size, 65536")
    refused(image, "l2-cache-entry-size=128K", says="131072 is not a power")
    refused(image, "l2-cache-entry-size=256", says="256 is not a power")
