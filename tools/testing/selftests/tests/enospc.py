# SPDX-License-Identifier: GPL-2.0
# about: a full file system: writes fail, the image stays consistent, recovers
# cost: 20
# timeout: 120
"""Space runs out in the middle of allocations."""

import errno
import os

import lib
from lib import KIB, MIB, check

SIZE = 40 * MIB


def fixtures():
    for cluster in (4096, 65536):
        lib.img_create(f"c{cluster}.qcow2", SIZE, cluster_size=cluster)


def fill_until_full(disk, model, source, block):
    """Writes at random places; returns how many worked before the first error."""
    places = list(range(0, SIZE, block))
    source.shuffle(places)
    done = 0
    for at in places:
        data = source.randbytes(block)
        try:
            disk.write(at, data)
        except OSError as e:
            check(e.errno in (errno.ENOSPC, errno.EIO),
                  f"a full disk gives {errno.errorcode.get(e.errno)}")
            return done, at
        model.write(at, data)
        done += 1
    raise lib.Fail(f"{SIZE} bytes fit into a file system of 16 MiB")


def same_or_old(disk, model, failed, block):
    """All as the model says; the writes that failed may be there in part."""
    for pos in range(0, SIZE, MIB):
        data = disk.read(pos, MIB)
        if not any(pos <= at < pos + MIB for at in failed):
            model.expect(pos, data)
            continue
        for at in range(pos, pos + MIB, block):
            if at not in failed:
                model.expect(at, data[at - pos:at - pos + block])


def one(cluster, block):
    point = lib.scratch("tiny")
    os.makedirs(point, exist_ok=True)
    with lib.NullBlk("tiny", 48) as leaf:
        # Half of it is taken up by a file, to be removed later.
        lib.run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", leaf)
        lib.run("mount", leaf, point)
        try:
            with open(f"{point}/ballast", "wb") as f:
                os.posix_fallocate(f.fileno(), 0, 28 * MIB)
            image = f"{point}/i.qcow2"
            lib.copy_sparse(lib.fixture_path(f"c{cluster}.qcow2"), image)
            fill_and_recover(image, point, block, cluster)
        finally:
            lib.run("umount", point)


def fill(dev, model, source, failed, block, cluster):
    with lib.Disk(dev) as disk:
        done, at = fill_until_full(disk, model, source, block)
        failed.add(at)
        lib.note(f"{done} writes of {block} before the file system was full")
        check(done * max(block, cluster) > 6 * MIB, "full too early")
        # More writes fail or work, and reads are right, again and again.
        for at in (3 * MIB, 30 * MIB):
            try:
                disk.write(at, b"\x07" * block)
                model.write(at, b"\x07" * block)
                failed.discard(at)
            except OSError:
                failed.add(at)
        same_or_old(disk, model, failed, block)
        try:
            disk.flush()
        except OSError as e:
            check(e.errno in (errno.ENOSPC, errno.EIO), f"flush: {e}")
        same_or_old(disk, model, failed, block)


def fill_and_recover(image, point, block, cluster):
    model = lib.Model(SIZE)
    source = lib.rng(f"{image}{block}")
    failed = set()
    dev = lib.attach(image)
    try:
        fill(dev, model, source, failed, block, cluster)
    except BaseException:
        lib.ctl("detach", "--force", dev, ok=None)
        raise
    if lib.ctl("detach", dev, ok=None).returncode:
        # Metadata that has no place yet may stop a plain detach.
        os.unlink(f"{point}/ballast")
        lib.detach(dev)
    lib.img_check(image, leaks=True)
    if os.path.exists(f"{point}/ballast"):
        os.unlink(f"{point}/ballast")
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        same_or_old(disk, model, failed, block)
        for at in range(0, 8 * MIB, block):
            data = source.randbytes(block)
            disk.write(at, data)
            model.write(at, data)
            failed.discard(at)
        disk.flush()
        same_or_old(disk, model, failed, block)
    lib.img_check(image, leaks=True)


def test_full():
    """The last kind: each allocation copies a part of its cluster."""
    for cluster, block in lib.some(((65536, 64 * KIB), (4096, 32 * KIB),
                                    (65536, 16 * KIB))):
        one(cluster, block)


def test_full_while_live():
    """Space that appears while attached is used without a new attach."""
    point = lib.scratch("tiny")
    os.makedirs(point, exist_ok=True)
    with lib.NullBlk("tiny", 48) as leaf:
        lib.run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", leaf)
        lib.run("mount", leaf, point)
        try:
            with open(f"{point}/ballast", "wb") as f:
                os.posix_fallocate(f.fileno(), 0, 28 * MIB)
            image = f"{point}/i.qcow2"
            lib.copy_sparse(lib.fixture_path("c65536.qcow2"), image)
            model = lib.Model(SIZE)
            with lib.Attached(image) as dev, lib.Disk(dev) as disk:
                source = lib.rng("live")
                _, at = fill_until_full(disk, model, source, 64 * KIB)
                os.unlink(f"{point}/ballast")
                data = source.randbytes(64 * KIB)
                disk.write(at, data)
                model.write(at, data)
                disk.flush()
                lib.verify(disk, model)
            lib.img_check(image, leaks=True)
        finally:
            lib.run("umount", point)
