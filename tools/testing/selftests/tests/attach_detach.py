# SPDX-License-Identifier: GPL-2.0
# about: attach and detach: files, block devices, names, options, many at once
# cost: 20
# timeout: 90
"""What comes up has the right size and content; what goes leaves nothing."""

import json
import os
import re
import subprocess

import lib
from lib import KIB, MIB, check


def fixtures():
    lib.img_create("a.qcow2", 64 * MIB)
    lib.img_create("b.qcow2", 64 * MIB)
    for n in range(6):
        lib.img_create(f"many{n}.qcow2", 32 * MIB)


def locks_on(path):
    """Lines of /proc/locks about the file."""
    inode = os.stat(path).st_ino
    with open("/proc/locks", encoding="utf-8") as f:
        return [line for line in f if line.split()[-3].endswith(f":{inode}")]


def test_qcow2_file():
    image = lib.fixture("a.qcow2")
    dev = lib.attach(image)
    check(lib.disks() == [os.path.basename(dev)], f"disks: {lib.disks()}")
    check(lib.sys_block(dev, "size") == str(64 * MIB // 512),
          "wrong capacity")
    check(lib.sys_block(dev, "ro") == "0", "came up read-only")
    with lib.Disk(dev) as disk:
        pattern = bytes(range(256)) * 256
        check(disk.read(0, 64 * KIB) == bytes(64 * KIB), "not empty")
        disk.write(MIB, pattern)
        check(disk.read(MIB, 64 * KIB) == pattern, "read back differs")
    lib.detach(dev)
    check(not locks_on(image), f"locks after detach: {locks_on(image)}")
    lib.img_check(image)
    # The data reached the file, not only some cache of the disk.
    out = lib.run("qemu-io", "-f", "qcow2", "-r", "-c",
                  "read -P 0x41 1048641 1", image).stdout
    check("Pattern verification failed" not in out, out)
    with lib.Attached(image, "--read-only") as dev, \
         lib.Disk(dev, readonly=True) as disk:
        check(disk.read(MIB, 64 * KIB) == pattern, "lost over detach")


def test_raw():
    path = lib.scratch("plain.raw")
    data = lib.rng("raw").randbytes(4 * MIB)
    lib.write_sparse(path, data)
    with lib.Attached(path, "-f", "raw") as dev, lib.Disk(dev) as disk:
        model = lib.Model(4 * MIB, data)
        lib.verify(disk, model)
        disk.write(512, b"\x5a" * 512)
        disk.flush()
    with open(path, "rb") as f:
        f.seek(512)
        check(f.read(512) == b"\x5a" * 512, "the write is not in the file")
    with lib.Attached(path, "-f", "raw", "-o", "1048576") as dev, \
         lib.Disk(dev) as disk:
        check(disk.size == 3 * MIB, f"-o 1M: size {disk.size}")
        check(disk.read(0, 4096) == data[MIB:MIB + 4096], "-o 1M: wrong data")
    with lib.Attached(path, "-f", "raw", "-s", "4096") as dev:
        check(lib.sys_block(dev, "queue/logical_block_size") == "4096",
              "-s 4096 did not set the logical block size")


def test_probing():
    # A qcow2 header inside a raw disk must not turn it into qcow2, and
    # nothing is taken to be raw by guess.
    lib.write_sparse(lib.scratch("noise"), lib.rng().randbytes(MIB))
    lib.attach_fails(lib.scratch("noise"), code=(lib.FAILED, lib.UNSUPPORTED))
    lib.attach_fails(lib.scratch("noise"), "-f", "qcow2",
                     says="qcow2")
    lib.attach_fails(lib.scratch("noise"), "-f", "nonsense",
                     code=(lib.FAILED, lib.UNSUPPORTED), says="nonsense")
    image = lib.fixture("a.qcow2")
    with lib.Attached(image, "-f", "raw") as dev, lib.Disk(dev) as disk:
        check(disk.size == os.path.getsize(image) // 512 * 512,
              "-f raw was not raw")
        check(disk.read(0, 512)[:4] == b"QFI\xfb", "-f raw was not raw")


def test_block_device():
    with lib.NullBlk("leaf", 128) as leaf:
        lib.img_create(leaf, 64 * MIB)
        dev = lib.attach(leaf)
        holders = os.listdir(f"/sys/block/{os.path.basename(leaf)}/holders")
        check(holders == [os.path.basename(dev)], f"holders: {holders}")
        with lib.Disk(dev) as disk:
            disk.write(5 * MIB, b"\xa5" * MIB)
        # Claimed exclusively: nobody can mount or mkfs it meanwhile.
        lib.expect_error(16, "O_EXCL on the leaf", os.open, leaf,
                         os.O_RDWR | os.O_EXCL)
        lib.detach(dev)
        fd = os.open(leaf, os.O_RDWR | os.O_EXCL)
        os.close(fd)
        lib.img_check(leaf)


def test_names():
    a, b = lib.fixture("a.qcow2"), lib.fixture("b.qcow2")
    dev = lib.attach(a, "--name", "system")
    done = lib.attach_fails(b, "--name", "system", code=(lib.BUSY,))
    check("system" in done.stderr, f"the name is not named: {done.stderr}")
    other = lib.attach(b, "--name", "data")
    check(other != dev, "same device twice")
    lib.detach("system")
    check(lib.disks() == [os.path.basename(other)], f"disks: {lib.disks()}")
    lib.detach(other)
    again = lib.attach(b)
    check(again == dev, f"{again}: the lowest number was free")
    lib.detach(again)
    for wrong in ("system", "/dev/qblk77", "qblk0"):
        done = lib.ctl("detach", wrong, ok=(lib.NODEV,))
        check(done.stderr.strip(), "no word about it")


def test_image_opts():
    image = lib.fixture("a.qcow2")
    for opts in (f"driver=qcow2,file.driver=file,file.filename={image}",
                 json.dumps({"driver": "qcow2",
                             "file": {"driver": "file", "filename": image}})):
        dev = lib.attach(opts, "--image-opts")
        check(lib.sys_block(dev, "size") == str(64 * MIB // 512), opts)
        lib.detach(dev)
    for wrong, says in (
            (f"driver=qcow2,file.driver=file,file.filename={image},bogus=1",
             "bogus"),
            (f"driver=qcow2,file.driver=file,file.filename={image},"
             "l2-cache-size=potato", "l2-cache-size"),
            (f"driver=nosuch,file.driver=file,file.filename={image}",
             "nosuch")):
        lib.attach_fails(wrong, "--image-opts", says=says,
                         code=(lib.FAILED, lib.USAGE, lib.UNSUPPORTED))


def test_one_writer():
    image = lib.fixture("a.qcow2")
    with lib.Attached(image) as dev:
        lib.attach_fails(image, code=(lib.BUSY,))
        lib.attach_fails(image, "--read-only", code=(lib.BUSY,))
        check(lib.disks() == [os.path.basename(dev)], f"disks: {lib.disks()}")
    with lib.Attached(image, "-r") as one, lib.Attached(image, "-r") as two:
        check(one != two, "one device for two readers")
        lib.attach_fails(image, code=(lib.BUSY,))


def test_busy_node():
    """node add names who has the image, as attach does."""
    image = lib.fixture("a.qcow2")
    with lib.Attached(image) as dev:
        done = lib.ctl("node", "add",
                       f"driver=qcow2,node-name=n,file.filename={image}",
                       ok=(lib.BUSY,))
        check(dev in done.stderr, f"{dev} is not named: {done.stderr}")


def test_all_of_a_stack():
    """Disks on disks go from the top down, whatever their numbers are."""
    first = lib.attach(lib.fixture("many0.qcow2"))
    bottom = lib.attach(lib.fixture("many1.qcow2"))
    lib.img_create(bottom, 16 * MIB)
    lib.detach(first)
    middle = lib.attach(bottom)
    check(middle == first, f"{middle} has not got the number of {first}")
    lib.img_create(middle, 8 * MIB)
    lib.attach(middle)
    for args in ((), ("--force",)):
        lib.ctl("detach", "--all", *args)
        check(not lib.disks(), f"{args}: left {lib.disks()}")
        lib.img_check(lib.scratch("many1.qcow2"))
        bottom = lib.attach(lib.scratch("many1.qcow2"))
        lib.img_check(bottom)
        lib.attach(bottom)
    lib.ctl("detach", "--all")
    check(not lib.disks(), f"left: {lib.disks()}")


def test_missing_things():
    done = lib.attach_fails(lib.scratch("no-such-file"),
                            code=(lib.FAILED, lib.NODEV))
    check("no-such-file" in done.stderr, done.stderr)
    lib.attach_fails(lib.SCRATCH, code=(lib.FAILED, lib.UNSUPPORTED))
    lib.attach_fails("/dev/null", code=(lib.FAILED, lib.UNSUPPORTED))
    open(lib.scratch("empty"), "wb").close()
    lib.attach_fails(lib.scratch("empty"), "-f", "qcow2")


def test_many_at_once():
    """Attached side by side, each gets a device of its own."""
    images = [lib.fixture(f"many{n}.qcow2") for n in range(6)]
    procs = [subprocess.Popen([lib.QBLKCTL, "attach", i],
                              stdout=subprocess.PIPE, text=True)
             for i in images]
    devs = [p.communicate(timeout=60)[0].strip() for p in procs]
    check(all(p.returncode == 0 for p in procs), f"attached: {devs}")
    check(len(set(devs)) == 6 and all(re.match("/dev/qblk", d) for d in devs),
          f"attached: {devs}")
    for n, dev in enumerate(devs):
        with lib.Disk(dev) as disk:
            disk.write(n * MIB, bytes([n + 1]) * 4096)
    lib.ctl("detach", "--all")
    check(not lib.disks(), f"after detach --all: {lib.disks()}")
    for n, (image, dev) in enumerate(zip(images, devs)):
        with lib.Attached(image, "-r") as dev, \
             lib.Disk(dev, readonly=True) as disk:
            check(disk.read(n * MIB, 4096) == bytes([n + 1]) * 4096,
                  f"{image} has another image's data")
