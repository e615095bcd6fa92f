# SPDX-License-Identifier: GPL-2.0
# about: a full file system: writes fail, the image stays consistent, recovers
# kernels: either
# cost: 25
# timeout: 120
"""Space runs out in the middle of allocations."""

import errno
import os

import lib
from lib import KIB, MIB, check

SIZE = 40 * MIB
LEVELS = 32


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


def small_mount(leaf, point, block=1024):
    os.makedirs(point, exist_ok=True)
    lib.run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal",
            "-b", block, leaf)
    lib.run("mount", leaf, point)


def one(cluster, block):
    point = lib.scratch("tiny")
    with lib.NullBlk("tiny", 48) as leaf:
        # Half of it is taken up by a file, to be removed later.
        small_mount(leaf, point)
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
    with lib.NullBlk("tiny", 48) as leaf:
        small_mount(leaf, point)
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


def leave(point, blocks):
    """Fills a file system but for some blocks."""
    # The file's own extents take blocks, too.
    size = (os.statvfs(point).f_bavail - blocks - 16) * 4096
    with open(f"{point}/ballast", "wb") as f:
        os.posix_fallocate(f.fileno(), 0, size)
        while os.statvfs(point).f_bavail > blocks:
            os.posix_fallocate(f.fileno(), size, 4096)
            size += 4096


class Write:
    """One to a place where nothing was; says what may be there later."""

    def __init__(self, number, source):
        # The first in each L2 table take that as well.
        self.at = (number % 5 * 8 + number // 10 * 2) * MIB + number * 16 * KIB
        self.data = source.randbytes(4 * KIB if number % 3 else 20 * KIB)
        self.done = self.stable = False

    def run(self, disk):
        try:
            disk.write(self.at, self.data)
            self.done = True
        except OSError as e:
            check(e.errno == errno.ENOSPC, f"write at {self.at}: {e}")

    def expect(self, disk, stable):
        sure = self.stable if stable else self.done
        got = disk.read(self.at, len(self.data))
        for at in range(0, len(got), 512):
            part = got[at:at + 512]
            check(part == self.data[at:at + 512] or not (sure or any(part)),
                  f"{self.at + at} holds {part[:16].hex()}...")


def write_until(disk, source):
    """Returns the writes, of which the last have found no space."""
    writes = []
    for number in range(40):
        writes.append(Write(number, source))
        writes[-1].run(disk)
        if number % 4:
            continue
        try:
            disk.flush()
        except OSError as e:
            check(e.errno in (errno.ENOSPC, errno.EIO), f"flush: {e}")
            continue
        for write in writes:
            write.stable = write.done
    return writes


def last_blocks(image, point, blocks):
    """Space ends within the first allocations, in tables or in data."""
    leave(point, blocks)
    dev = lib.attach(image)
    with lib.Disk(dev) as disk:
        writes = write_until(disk, lib.rng(f"last{blocks}"))
    failed = sum(not write.done for write in writes)
    check(failed, f"all writes found space in {blocks} blocks")
    given_up = lib.ctl("detach", dev, ok=None).returncode
    if given_up:
        lib.detach(dev, "--force")
    os.unlink(f"{point}/ballast")
    lib.img_check(image, leaks=True)
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        for write in writes:
            write.expect(disk, given_up)
        writes[-1].run(disk)
        check(writes[-1].done, "no space, where there is some")
    lib.note(f"{blocks} blocks left: {failed} writes failed" +
             (", given up" if given_up else ""))


def test_last_blocks():
    """Any block may be the last: that of an L2 table or refcount block, too."""
    width = 1 if lib.FULL else 8
    point = lib.scratch("tiny")
    with lib.NullBlk("tiny", 48) as leaf:
        small_mount(leaf, point, 4096)
        try:
            image = f"{point}/i.qcow2"
            for blocks in lib.some(range(lib.SEED % width, LEVELS, width)):
                lib.copy_sparse(lib.fixture_path("c4096.qcow2"), image)
                last_blocks(image, point, blocks)
                os.unlink(image)
        finally:
            lib.run("umount", point)
