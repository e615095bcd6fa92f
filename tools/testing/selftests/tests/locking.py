# SPDX-License-Identifier: GPL-2.0
# about: QEMU and qblk keep each other away from a busy image, by name
# kernels: either
# cost: 15
# timeout: 120
"""Byte-range locks as QEMU takes them, in both directions."""

import os
import select
import subprocess

import lib
from lib import MIB, check


def fixtures():
    lib.img_create("base.qcow2", 16 * MIB)
    lib.img_create("l.qcow2", 16 * MIB, backing="base.qcow2")
    with open("l.raw", "wb") as f:
        f.truncate(16 * MIB)


class QemuIo:
    """qemu-io with an image open, until the end of the with block."""

    def __init__(self, image, *options):
        self.proc = subprocess.Popen(
            ["qemu-io", "-f", "qcow2", *options, image],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True)
        # A command that needs the image open has answered.
        self.proc.stdin.write("length\n")
        self.proc.stdin.flush()
        said = ""
        while "16 MiB" not in said:
            ready, _, _ = select.select([self.proc.stdout], [], [],
                                        30 * lib.SLOWNESS)
            more = os.read(self.proc.stdout.fileno(), 4096) if ready else b""
            if not more:
                self.proc.kill()
                lib.fail(f"qemu-io says {said!r} and no more, exit status "
                         f"{self.proc.wait()}")
            said += more.decode()

    def __enter__(self):
        return self.proc

    def __exit__(self, *_):
        self.proc.communicate("quit\n", timeout=30 * lib.SLOWNESS)


def qemu_refused(image, *argv):
    done = lib.run(*argv, ok=None)
    text = done.stdout + done.stderr
    check("lock" in text, f"{' '.join(argv)} on a busy image: {text}")


def test_qemu_refuses():
    lib.fixture("base.qcow2")
    image = lib.fixture("l.qcow2")
    with lib.Attached(image):
        qemu_refused(image, "qemu-img", "check", image)
        qemu_refused(image, "qemu-img", "resize", "-f", "qcow2", image, "32M")
        qemu_refused(image, "qemu-io", "-f", "qcow2", "-c", "read 0 512",
                     image)
        # Its backing file may be read but not written.
        base = lib.scratch("base.qcow2")
        qemu_refused(base, "qemu-io", "-f", "qcow2", "-c", "write 0 512", base)
        lib.run("qemu-io", "-f", "qcow2", "-r", "-c", "read 0 512", base)
    with lib.Attached(image, "-r"):
        lib.run("qemu-io", "-f", "qcow2", "-r", "-c", "read 0 512", image)
        qemu_refused(image, "qemu-io", "-f", "qcow2", "-c", "write 0 512",
                     image)
    # After detach nobody holds anything.
    done = lib.run("qemu-io", "-f", "qcow2", "-c", "write 0 512", image)
    check("lock" not in done.stdout + done.stderr, done.stderr)
    lib.img_check(image)


def test_raw_file():
    lib.fixture("l.raw")
    image = lib.scratch("l.raw")
    with lib.Attached(image, "-f", "raw"):
        qemu_refused(image, "qemu-io", "-f", "raw", "-c", "write 0 512", image)


def test_qblk_refuses():
    lib.fixture("base.qcow2")
    image = lib.fixture("l.qcow2")
    with QemuIo(image) as qemu:
        done = lib.attach_fails(image, code=(lib.BUSY,))
        check("qemu-io" in done.stderr or str(qemu.pid) in done.stderr,
              f"does not name the process: {done.stderr}")
        check("l.qcow2" in done.stderr,
              f"does not name the image: {done.stderr}")
        lib.attach_fails(image, "-r", code=(lib.BUSY,))
    with QemuIo(image, "-r"):
        lib.attach_fails(image, code=(lib.BUSY,))
        with lib.Attached(image, "-r"):
            pass
    # A base that somebody writes to is nothing to build on.
    with QemuIo(lib.scratch("base.qcow2")):
        done = lib.attach_fails(image, code=(lib.BUSY,))
        check("base.qcow2" in done.stderr,
              f"does not name the image: {done.stderr}")
    with lib.Attached(image):
        pass
    lib.img_check(image)


def test_qemu_nbd():
    lib.fixture("base.qcow2")
    image = lib.fixture("l.qcow2")
    address = lib.scratch("nbd.sock")
    nbd = subprocess.Popen(["qemu-nbd", "-f", "qcow2", "-t", "-k", address,
                            image])
    try:
        # The socket is there before the image is open; an answer is not.
        lib.wait_for(lambda: os.path.exists(address), "qemu-nbd")
        lib.run("qemu-nbd", "--list", "-k", address)
        done = lib.attach_fails(image, code=(lib.BUSY,))
        check("qemu-nbd" in done.stderr or str(nbd.pid) in done.stderr,
              f"does not name the process: {done.stderr}")
    finally:
        nbd.terminate()
        nbd.wait()
    with lib.Attached(image):
        pass


def test_failed_attach_unlocks():
    """Locks taken before a failure are given back."""
    lib.fixture("base.qcow2")
    image = lib.fixture("l.qcow2")
    lib.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2",
            "-b", "missing.qcow2", image)
    lib.attach_fails(image, code=(lib.FAILED, lib.NODEV), says="missing")
    lib.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2",
            "-b", "base.qcow2", image)
    with lib.Attached(image):
        pass
