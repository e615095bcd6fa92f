# SPDX-License-Identifier: GPL-2.0
# about: refcount blocks and the refcount table grow, with tiny clusters soon
# kernels: either
# cost: 20
# timeout: 120
"""512-byte clusters: 64-bit refcounts need a block for 64 of them."""

import lib
from lib import KIB, MIB, check

SIZE = 24 * MIB


def fixtures():
    for bits in (1, 16, 64):
        lib.img_create(f"r{bits}.qcow2", SIZE, cluster_size=512,
                       refcount_bits=bits)
    lib.img_create("v2.qcow2", SIZE, cluster_size=512, compat="0.10")


def table(path):
    with open(path, "rb") as f:
        f.seek(48)
        offset = int.from_bytes(f.read(8), "big")
        return offset, int.from_bytes(f.read(4), "big")


def grow(word, megabytes, must_grow):
    image = lib.fixture(f"{word}.qcow2")
    before = table(image)
    source = lib.rng(word)
    model = lib.Model(SIZE)
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        for pos in range(0, megabytes * MIB, 128 * KIB):
            data = source.randbytes(128 * KIB)
            disk.write(pos, data)
            model.write(pos, data)
            if pos % (2 * MIB) == 0:
                disk.flush()
        lib.verify(disk, model)
        work = lib.Workload(disk, model, source, 512, longest=32 * KIB)
        work.run(lib.scaled(20, 8))
    after = table(image)
    lib.note(f"{word}: refcount table {before} -> {after}")
    check(not must_grow or after[1] > before[1],
          f"{word}: the refcount table did not grow: {before} -> {after}")
    lib.img_check(image)
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        work = lib.Workload(disk, model, source, 512, longest=32 * KIB)
        work.verify()
        work.run(5)
    lib.img_check(image)
    img = model.save(lib.scratch("model.raw"))
    lib.img_compare(image, img)


def test_growth():
    for word, megabytes, must_grow in lib.some((
            # 512 bytes of table cover 64 blocks of 64 clusters: 2 MiB.
            ("r64", lib.scaled(12, 5), True),
            # 64 blocks of 256 clusters: 8 MiB.
            ("r16", 10, True),
            ("v2", 10, True),
            ("r1", lib.scaled(6, 3), False))):
        grow(word, megabytes, must_grow)
