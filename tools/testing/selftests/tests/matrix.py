# SPDX-License-Identifier: GPL-2.0
# about: cluster size x version x refcount width: random I/O against a model
# variants: small medium large
# cost: 60
# timeout: 240
"""Every cluster size with v2 and with v3 of each refcount width.

The disk is checked byte by byte during the run, after a new attach, and by
qemu-img check and compare.
"""

import os

import lib
from lib import KIB, MIB

SIZES = {
    "small": [512, 1024, 2048, 4096],
    "medium": [8192, 16384, 32768, 65536],
    "large": [128 * KIB, 256 * KIB, 512 * KIB, MIB, 2 * MIB],
}
KINDS = [("0.10", 16), ("1.1", 1), ("1.1", 8), ("1.1", 16), ("1.1", 64)]


def combinations(variant):
    every = [(c, compat, bits) for c in SIZES[variant] for compat, bits in KINDS]
    if lib.SCALE >= 1:
        return every
    # Each cluster size, each kind at least once; which ones depends on the
    # seed.
    keep = max(1, round(len(KINDS) * lib.SCALE))
    shift = lib.SEED
    return [(c, *KINDS[(shift + n + k * 2) % len(KINDS)])
            for n, c in enumerate(SIZES[variant]) for k in range(keep)]


def name(cluster, compat, bits):
    return f"c{cluster}-v{2 if compat == '0.10' else 3}-r{bits}.qcow2"


def virtual_size(cluster):
    """Not a multiple of any cluster size above 512."""
    return max(3 * MIB, 7 * cluster) + 3 * 512


def fixtures():
    for sizes in SIZES.values():
        for cluster in sizes:
            for compat, bits in KINDS:
                lib.img_create(name(cluster, compat, bits),
                               virtual_size(cluster), cluster_size=cluster,
                               compat=compat, refcount_bits=bits)


def one(cluster, compat, bits):
    image = lib.fixture(name(cluster, compat, bits))
    random_source = lib.rng(image)
    model = lib.Model(virtual_size(cluster))
    for steps in (lib.scaled(70, 25), lib.scaled(30, 10)):
        # The second round starts with what the first left behind.
        with lib.Attached(image, "-f", "qcow2") as dev, lib.Disk(dev) as disk:
            work = lib.Workload(disk, model, random_source, cluster)
            work.verify()
            work.run(steps)
            work.verify()
    lib.img_check(image)
    raw = model.save(lib.scratch("model.raw"))
    lib.img_compare(image, raw)
    os.unlink(image)
    os.unlink(raw)


def test_matrix():
    failed = []
    todo = combinations(lib.VARIANT)
    for combination in todo:
        try:
            one(*combination)
        except (lib.Fail, OSError) as e:
            for dev in lib.disks():
                lib.ctl("detach", "--force", f"/dev/{dev}", ok=None)
            failed.append(name(*combination))
            lib.note(f"{failed[-1]}: {e}")
    lib.note(f"{len(todo)} combinations, {len(failed)} failed")
    lib.check(not failed, f"failed: {' '.join(failed)}")
