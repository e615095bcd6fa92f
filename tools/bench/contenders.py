# SPDX-License-Identifier: GPL-2.0
"""In the guest: the images of each group, and the disks made of them."""

import contextlib
import os

import lib
from works import GIB, MIB

RAM = "/dev/ram0"       # what disks stand on
FILES = "/files"        # ext4 on another one
RAM_SIZE = 1152 * MIB
FILES_SIZE = 1280 * MIB
DISK_SIZE = GIB
FILE_SIZE = 512 * MIB


def fill(path, size, offset=0):
    """Writes all of it: what nobody has written is read for nothing."""
    lib.run("dd", "if=/dev/zero", f"of={path}", "bs=1M", "oflag=direct",
            "conv=notrunc", f"seek={offset // MIB}", f"count={size // MIB}",
            timeout=600)


class Images:
    """Each method leaves an image, and says where it is: (path, format)."""

    def __init__(self, share):
        self.share = share

    @staticmethod
    def clear():
        for name in os.listdir(FILES):
            if name != "lost+found":
                os.unlink(os.path.join(FILES, name))

    @staticmethod
    def file(name):
        return os.path.join(FILES, name)

    def make(self, kind):
        self.clear()
        return getattr(self, f"make_{kind}")()

    @staticmethod
    def make_plain():
        return RAM

    # Clusters get what the ram disk holds, and that was written.
    @staticmethod
    def make_mapped():
        return lib.img_create(RAM, DISK_SIZE, preallocation="metadata")

    @staticmethod
    def make_metadata():
        return lib.img_create(RAM, DISK_SIZE, preallocation="metadata",
                              cluster_size=4096)

    @staticmethod
    def make_fresh():
        return lib.img_create(RAM, DISK_SIZE)

    def make_compressed(self, kind):
        lib.run("dd", f"if={self.share}/{kind}.qcow2", f"of={RAM}", "bs=1M",
                "conv=notrunc,fsync", timeout=600)
        return RAM

    def make_zlib(self):
        return self.make_compressed("zlib")

    def make_zstd(self):
        return self.make_compressed("zstd")

    def make_file(self, name="file.qcow2"):
        path = lib.img_create(self.file(name), FILE_SIZE)
        with lib.Attached(path, "--no-partscan") as dev:
            fill(dev, FILE_SIZE)
        return path

    def make_plain_file(self):
        path = self.file("file.raw")
        with open(path, "wb") as f:
            f.truncate(FILE_SIZE)
        fill(path, FILE_SIZE)
        return path

    def make_chain(self, depth=32):
        path = self.make_file("0.qcow2")
        for n in range(1, depth):
            path = lib.img_create(self.file(f"{n}.qcow2"), backing=path)
        return path

    def make_cow(self):
        return lib.img_create(self.file("top.qcow2"),
                              backing=self.make_file())


# --- disks ------------------------------------------------------------------------

@contextlib.contextmanager
def ram(image, _options):
    yield image


def null(_image, _options):
    return lib.NullBlk("bench", DISK_SIZE // MIB, memory_backed=0, irqmode=1)


@contextlib.contextmanager
def linear(image, _options):
    table = f"0 {DISK_SIZE // lib.SECTOR} linear {image} 0"
    lib.run("dmsetup", "create", "bench", "--noudevsync", "--noudevrules",
            "--table", table)
    try:
        node = lib.run("dmsetup", "info", "-c", "--noheadings", "-o", "minor",
                       "bench").stdout.strip()
        yield f"/dev/dm-{node}"
    finally:
        lib.run("dmsetup", "remove", "--noudevsync", "bench")


@contextlib.contextmanager
def loop(image, _options):
    dev = lib.run("losetup", "-f", "--show", "--direct-io=on",
                  image).stdout.strip()
    try:
        yield dev
    finally:
        lib.run("losetup", "-d", dev)


@contextlib.contextmanager
def nbd(image, _options):
    dev = "/dev/nbd0"
    lib.run("qemu-nbd", f"--connect={dev}", "--fork", "--cache=none",
            "--aio=native", "--discard=unmap", "-f", "qcow2", image)
    try:
        lib.wait_for(lambda: int(lib.sys_block(dev, "size")), dev)
        yield dev
    finally:
        lib.run("qemu-nbd", "--disconnect", dev)
        lib.wait_for(lambda: not os.path.exists("/sys/block/nbd0/pid"),
                     f"the end of {dev}")


def driver(image):
    return "host_device" if image.startswith("/dev/") else "file"


def attach(image, fmt, options):
    if not options:
        return lib.Attached(image, "-f", fmt, "--no-partscan")
    spec = f"driver={fmt},file.driver={driver(image)},file.filename={image}"
    spec += "".join(f",{k}={v}" for k, v in options.items())
    return lib.Attached(spec, "--no-partscan", "--image-opts")


def raw(image, options):
    return attach(image, "raw", options)


def qcow2(image, options):
    return attach(image, "qcow2", options)


CONTENDERS = {f.__name__: f for f in (ram, null, linear, loop, nbd, raw,
                                      qcow2)}
# These take the image for a plain disk.
PLAIN = {"ram", "null", "linear", "loop", "raw"}
