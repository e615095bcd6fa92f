# SPDX-License-Identifier: GPL-2.0
# about: detach while busy, --lazy, --force with I/O running
# cost: 25
# timeout: 120
"""A disk in use is not pulled away by accident, and can be on purpose."""

import contextlib
import errno
import os
import re
import signal
import socket
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


def test_invisible_opener():
    """Nobody is to be found: the answer comes soon all the same."""
    image = lib.fixture("d.qcow2")
    with lib.Attached(image) as dev:
        left, right = socket.socketpair()
        fd = os.open(dev, os.O_RDONLY)
        # In flight, in no table of files.
        socket.send_fds(left, [b"x"], [fd])
        os.close(fd)
        begun = time.monotonic()
        lib.ctl("detach", dev, ok=(lib.BUSY,))
        took = time.monotonic() - begun
        left.close()
        right.close()
        check(took < 4 * lib.SLOWNESS, f"refused after {took:.1f} s")


def test_mapped():
    """Mapped, and closed: that counts as open."""
    image = lib.fixture("d.qcow2")
    with lib.Attached(image) as dev:
        code = ("import mmap, os, sys; fd = os.open(sys.argv[1], os.O_RDONLY);"
                "m = mmap.mmap(fd, 4096, prot=mmap.PROT_READ);"
                "os.closerange(3, 99); print('ready', flush=True);"
                "sys.stdin.read()")
        with subprocess.Popen(["python3", "-c", code, dev],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as proc:
            check(proc.stdout.readline().strip() == "ready", "no mapping")
            busy(dev, str(proc.pid))
            proc.communicate("")


def test_mounted_elsewhere():
    """A mount that only another mount namespace has is named."""
    image = lib.fixture("d.qcow2")
    point = lib.scratch("mnt")
    os.makedirs(point, exist_ok=True)
    with lib.Attached(image) as dev:
        lib.run("mkfs.ext4", "-q", "-F", dev)
        with subprocess.Popen(
                ["unshare", "-m", "--propagation", "private", "sh", "-c",
                 f"mount {dev} {point} && echo ready && read -r line"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True) as proc:
            check(proc.stdout.readline().strip() == "ready", "no mount")
            done = lib.ctl("detach", dev, ok=(lib.BUSY,))
            for want in (point, "namespace", str(proc.pid)):
                check(want in done.stderr, f"{want} is not in: {done.stderr}")
            check(done.stderr.count(point) == 1, f"twice: {done.stderr}")
            proc.communicate("")


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


class SlowDisk:
    """A device mapper disk that can be made slow."""

    def __init__(self, name, size_mib):
        self.name = name
        self.sectors = size_mib * MIB // 512
        self.null = lib.NullBlk(name + "-below", size_mib)

    def __enter__(self):
        lib.need("dmsetup")
        for module in ("dm_mod", "dm_delay"):
            lib.run("modprobe", module, ok=None)
        self.leaf = self.null.__enter__()
        lib.run("dmsetup", "create", "--noudevsync", self.name, "--table",
                f"0 {self.sectors} linear {self.leaf} 0")
        lib.run("dmsetup", "mknodes", self.name)
        return self

    @property
    def path(self):
        return f"/dev/mapper/{self.name}"

    def set_delay(self, msec):
        delay = f"{self.leaf} 0 {msec}"
        lib.run("dmsetup", "reload", self.name, "--table",
                f"0 {self.sectors} delay {delay} {delay} {delay}")
        lib.run("dmsetup", "suspend", "--noflush", "--noudevsync", self.name)
        lib.run("dmsetup", "resume", "--noudevsync", self.name)

    @contextlib.contextmanager
    def suspended(self):
        """Nothing ends, and who must not wait is sent back."""
        lib.run("dmsetup", "suspend", "--noudevsync", self.name)
        try:
            yield
        finally:
            lib.run("dmsetup", "resume", "--noudevsync", self.name)

    def __exit__(self, *_):
        lib.run("dmsetup", "remove", "--noudevsync", "--retry", self.name)
        self.null.__exit__()


def test_force_of_a_running_removal():
    """A detach that takes long is cut short, and so is a forced one."""
    with SlowDisk("slow", 256) as slow:
        lib.img_create(slow.path, 16 * MIB, cluster_size=512)
        dev = lib.attach(slow.path)
        with lib.Disk(dev) as disk:
            # A table each.
            for n in range(480):
                disk.write(n * 32 * KIB, b"\x77" * 512)
        slow.set_delay(1000)
        procs = []
        for args in ((), ("--force",)):
            procs.append(subprocess.Popen(
                [lib.QBLKCTL, "detach", *args, dev], stderr=subprocess.PIPE,
                text=True))
            time.sleep(2)
        check(procs[-1].poll() is None, "written back too fast for a test")
        # The first one failed, and the second one writes back by itself.
        said = procs[0].communicate(timeout=20)[1]
        check(procs[0].returncode == lib.FAILED and said, f"detach: {said}")
        begun = time.monotonic()
        lib.ctl("detach", "--force", os.path.basename(dev))
        took = time.monotonic() - begun
        said = procs[1].communicate(timeout=20)[1]
        check(procs[1].returncode == 0, f"detach --force: {said}")
        slow.set_delay(0)
        lib.note(f"ended in {took:.1f} s")
        check(not lib.disks(), f"left: {lib.disks()}")
        lib.img_check(slow.path, leaks=True)


def test_force_while_waiting():
    """What was sent back, and waits for a worker when the disk dies, fails."""
    number = 100    # more than a disk has workers, no more than it has tags
    failed = []

    def write(n):
        with lib.Disk(dev) as disk:
            try:
                disk.write(n * 4096, b"\x88" * 4096, os.RWF_NOWAIT)
            except OSError as e:
                failed.append(e.errno)

    with SlowDisk("slow", 64) as slow:
        lib.img_create(slow.path, 16 * MIB, preallocation="metadata")
        dev = lib.attach(slow.path)
        name = os.path.basename(dev)
        with lib.Disk(dev) as disk:
            disk.read(0, MIB)
        writers = [threading.Thread(target=write, args=(n,), daemon=True)
                   for n in range(number)]
        with slow.suspended():
            for writer in writers:
                writer.start()
            lib.wait_for(lambda: lib.read_file(
                f"/sys/block/{name}/inflight").split() == ["0", str(number)],
                "all writes to be under way")
            detach = subprocess.Popen([lib.QBLKCTL, "detach", "--force", dev])
            lib.wait_for(lambda: not os.path.exists(f"/sys/block/{name}"),
                         "the disk to die")
            check(detach.poll() is None, "detach did not wait for the writes")
        check(detach.wait(30) == 0, "detach --force failed")
        for writer in writers:
            writer.join(30)
        check(not any(w.is_alive() for w in writers), "a writer hangs")
        # How many had a worker before the disk died depends on the kernel.
        lib.note(f"{len(failed)} of {number} failed")
        check(set(failed) <= {errno.EIO, errno.ENODEV, errno.ENXIO},
              f"they failed with {set(failed)}")
        lib.img_check(slow.path, leaks=True)


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
