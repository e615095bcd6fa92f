# SPDX-License-Identifier: GPL-2.0
# about: detach while busy, --lazy, --force with I/O running
# cost: 25
# timeout: 120
"""A disk in use is not pulled away by accident, and can be on purpose."""

import errno
import os
import re
import signal
import subprocess
import threading
import time

import lib
from lib import KIB, MIB, check


def fixtures():
    lib.img_create("d.qcow2", 64 * MIB)
    lib.img_create("e.qcow2", 64 * MIB)


def busy(dev, *names):
    """detach exits with 5 and says who holds the disk."""
    done = lib.ctl("detach", dev, ok=(lib.BUSY,))
    check(any(n in done.stderr for n in names),
          f"none of {names} is named: {done.stderr}")
    check(os.path.basename(dev) in lib.disks(), "gone, though it was refused")


def test_mounted():
    image = lib.fixture("d.qcow2")
    point = lib.scratch("mnt")
    os.makedirs(point, exist_ok=True)
    with lib.Attached(image) as dev:
        lib.run("mkfs.ext4", "-q", "-F", dev)
        lib.run("mount", dev, point)
        busy(dev, point, "mount")
        lib.write_file(f"{point}/file", "still works")
        lib.run("umount", point)


def test_open():
    image = lib.fixture("d.qcow2")
    with lib.Attached(image) as dev:
        sleeper = subprocess.Popen(["sleep", "60"],
                                   stdin=os.open(dev, os.O_RDONLY))
        try:
            busy(dev, "sleep", str(sleeper.pid))
        finally:
            sleeper.kill()
            sleeper.wait()
        for fd in os.listdir("/proc/self/fd"):
            if os.path.islink(f"/proc/self/fd/{fd}") and \
               os.readlink(f"/proc/self/fd/{fd}") == dev:
                os.close(int(fd))


def test_swap_and_loop():
    image = lib.fixture("d.qcow2")
    with lib.Attached(image) as dev:
        lib.run("mkswap", dev)
        lib.run("swapon", dev)
        try:
            busy(dev, "swap")
        finally:
            lib.run("swapoff", dev)
        lib.run("modprobe", "loop", ok=None)
        loop = lib.run("losetup", "-f", "--show", dev).stdout.strip()
        try:
            busy(dev, os.path.basename(loop), "loop")
        finally:
            lib.run("losetup", "-d", loop)
            # losetup -d may leave the last step to a worker.
            lib.wait_for(lambda: not os.path.exists(
                f"/sys/block/{os.path.basename(loop)}/loop/backing_file"),
                "loop device to be free")


def test_partition_mounted():
    image = lib.fixture("d.qcow2")
    point = lib.scratch("mnt")
    os.makedirs(point, exist_ok=True)
    with lib.Attached(image) as dev:
        lib.run("sfdisk", "-q", dev, stdin="label: gpt\nsize=32M\n")
        lib.run("mkfs.ext4", "-q", "-F", f"{dev}p1")
        lib.run("mount", f"{dev}p1", point)
        busy(dev, point, "p1")
        lib.run("umount", point)


def test_lazy():
    """Removed with the last close; until then it works."""
    image = lib.fixture("d.qcow2")
    dev = lib.attach(image)
    disk = lib.Disk(dev)
    disk.write(0, b"\x01" * 4096)
    lib.detach(dev, "--lazy")
    disk.write(MIB, b"\x02" * 4096)
    check(disk.read(0, 4096) == b"\x01" * 4096, "wrong data")
    disk.close()
    name = os.path.basename(dev)
    lib.wait_for(lambda: name not in lib.disks(), "removal after last close")
    # The name is free only after the teardown, and so is the file.
    lib.wait_for(lambda: not lib.run("qemu-io", "-f", "qcow2", "-c", "quit",
                                     image, ok=None).returncode,
                 "the image to be free")
    lib.img_check(image)
    with lib.Attached(image, "-r") as dev, \
         lib.Disk(dev, readonly=True) as disk:
        check(disk.read(MIB, 4096) == b"\x02" * 4096,
              "what was written after detach --lazy is lost")


def test_lazy_of_a_free_disk():
    image = lib.fixture("d.qcow2")
    dev = lib.attach(image)
    lib.detach(dev, "--lazy")
    lib.wait_for(lambda: not lib.disks(), "removal")
    lib.img_check(image)


def test_force_with_writer():
    """Returns though writes are under way; they fail; the image is whole."""
    image = lib.fixture("d.qcow2")
    dev = lib.attach(image)
    errors, counts = [], []
    started = threading.Barrier(4)

    def hammer(n):
        disk = lib.Disk(dev)
        block = bytes([n + 1]) * (64 * KIB)
        done = 0
        try:
            while True:
                disk.write((n * 16 + done % 16) * MIB, block)
                done += 1
                if done == 3:
                    started.wait(30)
        except OSError as e:
            errors.append(e.errno)
        counts.append(done)
        disk.close()

    threads = [threading.Thread(target=hammer, args=(n,), daemon=True)
               for n in range(3)]
    for thread in threads:
        thread.start()
    started.wait(30)
    begun = time.monotonic()
    lib.detach(dev, "--force")
    took = time.monotonic() - begun
    for thread in threads:
        thread.join(30)
    check(not any(t.is_alive() for t in threads), "a writer hangs")
    lib.note(f"forced in {took:.1f} s, writes before: {counts}")
    # ENOSPC: past the end of a disk whose size is 0 now.
    check(len(errors) == 3 and all(
        e in (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ENOSPC,
              errno.ENOMEDIUM) for e in errors),
          f"writers saw {[errno.errorcode.get(e) for e in errors]}")
    lib.img_check(image, leaks=True)
    with lib.Attached(image) as again, lib.Disk(again) as disk:
        check(disk.read(0, 64 * KIB) == b"\x01" * (64 * KIB),
              "an acknowledged write is gone")
    lib.img_check(image, leaks=True)


def test_force_while_mounted():
    image = lib.fixture("e.qcow2")
    point = lib.scratch("mnt")
    os.makedirs(point, exist_ok=True)
    dev = lib.attach(image)
    lib.run("mkfs.ext4", "-q", "-F", dev)
    lib.run("mount", dev, point)
    lib.write_file(f"{point}/kept", "x" * 100000)
    lib.run("sync", "-f", point)
    dd = subprocess.Popen(["dd", "if=/dev/zero", f"of={point}/f", "bs=64k"],
                          stderr=subprocess.DEVNULL)
    time.sleep(1)
    lib.detach(dev, "--force")
    try:
        dd.wait(30)
    except subprocess.TimeoutExpired:
        dd.send_signal(signal.SIGKILL)
        check(False, "dd hangs after a forced detach")
    lib.run("umount", point)
    lib.img_check(image, leaks=True)
    with lib.Attached(image) as again:
        done = lib.run("fsck.ext4", "-fy", again, ok=(0, 1))
        check(not re.search("UNEXPECTED INCONSISTENCY", done.stdout),
              done.stdout)
        lib.run("mount", again, point)
        try:
            check(lib.read_file(f"{point}/kept") == "x" * 100000,
                  "a synced file is damaged")
        finally:
            lib.run("umount", point)


def test_force_of_a_free_disk():
    image = lib.fixture("e.qcow2")
    lib.detach(lib.attach(image), "--force")
    lib.img_check(image)


def test_force_after_lazy():
    """A lazy removal that takes too long can be forced."""
    image = lib.fixture("e.qcow2")
    dev = lib.attach(image)
    disk = lib.Disk(dev)
    lib.detach(dev, "--lazy")
    lib.detach(dev, "--force")
    check(not lib.disks(), f"left: {lib.disks()}")
    # A dead disk has no size: reads end at once, if they do not fail.
    try:
        got = os.preadv(disk.fd, [memoryview(disk.buf)[:4096]], 0)
        check(got == 0, f"read {got} bytes from a disk that is gone")
    except OSError as e:
        check(e.errno in (errno.EIO, errno.ENODEV, errno.ENXIO,
                          errno.ENOMEDIUM), f"read after force: {e}")
    disk.close()
    lib.img_check(image)


def test_all():
    images = lib.fixture("d.qcow2"), lib.fixture("e.qcow2")
    devs = [lib.attach(i) for i in images]
    disk = lib.Disk(devs[0])
    done = lib.ctl("detach", "--all", ok=(lib.BUSY,))
    check(os.path.basename(devs[0]) in done.stderr,
          f"the busy one is not named: {done.stderr}")
    check(lib.disks() == [os.path.basename(devs[0])],
          f"--all left {lib.disks()}")
    lib.ctl("detach", "--all", "--force")
    check(not lib.disks(), f"--all --force left {lib.disks()}")
    disk.close()
