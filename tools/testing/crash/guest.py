# SPDX-License-Identifier: GPL-2.0
"""In the guest: parts of disks, and images in them."""

import os
import re
import stat

import lib
from scenario import DATA, IMAGE


def disk(name):
    return os.path.realpath(os.path.join("/dev/disk", name))


class Stack:
    """Device mapper devices, made with one command: each takes half a second.

    number: tells stacks that exist at the same time apart
    """

    def __init__(self, number):
        lib.run("modprobe", "dm-log-writes")
        found = re.search(r"^ *(\d+) device-mapper$",
                          lib.read_file("/proc/devices"), re.M)
        self.major = int(found[1])
        self.minor = number * 8
        self.tables = []
        self.names = []

    def add(self, name, size, table):
        """Returns what other tables call it."""
        minor = self.minor + len(self.names)
        self.tables.append(f"{name},,{minor},rw,0 {size // 512} {table}")
        self.names.append(name)
        return f"{self.major}:{minor}"

    def linear(self, name, below, offset, size):
        return self.add(name, size, f"linear {below} {offset // 512}")

    def create(self):
        lib.run("dmsetup", "create", "--noudevsync", "--concise",
                ";".join(self.tables))
        for number, name in enumerate(self.names):
            os.mknod(f"/dev/{name}", stat.S_IFBLK | 0o600,
                     os.makedev(self.major, self.minor + number))

    def remove(self):
        lib.run("dmsetup", "remove", "--noudevsync", "--retry",
                *reversed(self.names))
        for name in self.names:
            os.unlink(f"/dev/{name}")


def image_in(stack, scenario, name, below, offset):
    """Adds what makes an image in a slot; returns its path and options."""
    stack.linear(f"{name}-image", below, offset, IMAGE)
    path, options = f"/dev/{name}-image", ["-f", "qcow2"]
    if scenario.data_file:
        stack.linear(f"{name}-data", below, offset + IMAGE, DATA)
        options += ["--data-file", f"/dev/{name}-data"]
    if scenario.attach:
        options = ["--image-opts"]
        path = (f"driver=qcow2,{scenario.attach},file.driver=host_device,"
                f"file.filename={path}")
    return path, options
