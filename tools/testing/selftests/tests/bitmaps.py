# SPDX-License-Identifier: GPL-2.0
# about: persistent bitmaps, autoclear bits, and header bytes that must survive
# kernels: either
# cost: 25
# timeout: 200
"""What qblk does not maintain is declared stale; what it does not know stays."""

import json
import struct

import lib
import qcow2
from lib import KIB, MIB, check

SIZE = 8 * MIB
CLUSTER = 64 * KIB
BITMAPS = 0x23852875

# What of the directory is broken: offset in its first entry, bytes, sentence.
# QEMU's verdict on each is taken in fixtures().
BROKEN = {
    "table offset not at a cluster": (0, struct.pack(">Q", 512),
                                      "bitmap_table_offset.* 0x200"),
    "table offset 0": (0, bytes(8), "bitmap_table_offset 0"),
    "table size 0": (8, bytes(4), "bitmap_table_size 0"),
    "table size above the limit": (8, struct.pack(">I", 0x8000001),
                                   "bitmap_table_size 134217729"),
    "table larger than needed": (8, struct.pack(">I", 2),
                                 "bitmap_table_size is 2, 1 needed"),
    "reserved flag": (12, struct.pack(">I", 6), "flags 6"),
    "type 2": (16, b"\x02", "type 2"),
    "granularity 8": (17, b"\x08", "granularity_bits 8"),
    "granularity 9": (17, b"\x09", None),
    "granularity 31": (17, b"\x1f", None),
    "granularity 32": (17, b"\x20", "granularity_bits 32"),
    "name of no bytes": (18, bytes(2), "name_size 0|broken bitmap directory"),
    "name of 1024 bytes": (18, struct.pack(">H", 1024),
                           "broken bitmap directory"),
    "extra data": (20, struct.pack(">I", 8),
                   "extra_data_size 8|broken bitmap directory"),
    "extra data past the end": (20, b"\xff" * 4, "broken bitmap directory"),
    "in use": (12, struct.pack(">I", 3), None),
    "in use, table too small for the disk": (
        12, struct.pack(">IBB", 1, 1, 9), None),
}


def find_directory(content):
    for magic, payload in content.extensions():
        if magic == BITMAPS:
            return struct.unpack(">IIQQ", payload)
    raise lib.Fail("the image has no bitmaps extension")


def broken(data, name):
    content = qcow2.Bytes(data)
    at, what, _ = BROKEN[name]
    content.put(find_directory(content)[3] + at, what)
    return content.data


def accepts(image, *options):
    return lib.run("qemu-io", "-f", "qcow2", *options, "-c", "quit", image,
                   ok=None).returncode == 0


def fixtures():
    lib.img_create("bitmaps.qcow2", SIZE)
    lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 0x11 0 1M",
            "bitmaps.qcow2")
    lib.run("qemu-img", "bitmap", "--add", "bitmaps.qcow2", "first")
    lib.run("qemu-img", "bitmap", "--add", "-g", "128k", "bitmaps.qcow2",
            "second")
    with open("bitmaps.qcow2", "rb") as f:
        data = f.read()
    verdicts = {}
    for name in BROKEN:
        lib.write_sparse("broken.qcow2", broken(data, name))
        verdicts[name] = accepts("broken.qcow2", "-r")
    lib.write_file("verdicts.json", json.dumps(verdicts))


def bitmaps_of(image):
    data = lib.img_info(image)["format-specific"]["data"]
    return [b["name"] for b in data.get("bitmaps", [])]


def test_reading_leaves_them():
    image = lib.fixture("bitmaps.qcow2")
    before = open(image, "rb").read()
    done = lib.ctl("attach", "-r", image)
    check(not done.stderr, f"for a read-only attach: {done.stderr}")
    dev = done.stdout.strip()
    with lib.Disk(dev, readonly=True) as disk:
        check(disk.read(0, MIB) == b"\x11" * MIB, "wrong data")
    lib.detach(dev)
    check(open(image, "rb").read() == before, "the image has changed")
    check(bitmaps_of(image) == ["first", "second"], "bitmaps are lost")
    lib.img_check(image)


def test_writing_declares_them_stale():
    image = lib.fixture("bitmaps.qcow2")
    done = lib.ctl("attach", image)
    check("warning" in done.stderr and "2 persistent bitmaps" in done.stderr,
          f"the user was told: {done.stderr!r}")
    dev = done.stdout.strip()
    with open(image, "rb") as f:
        check(qcow2.Bytes(f.read(112)).get("autoclear_features") == 0,
              "the bit is set while the disk can be written to")
    model = lib.Model(SIZE, b"\x11" * MIB)
    with lib.Disk(dev) as disk:
        for at in (0, 3 * MIB):
            disk.write(at, b"\x42" * 300 * KIB)
            model.write(at, b"\x42" * 300 * KIB)
    lib.detach(dev)
    check(bitmaps_of(image) == [], f"QEMU trusts {bitmaps_of(image)}")
    check(accepts(image, "-r"), "QEMU does not open the image")
    lib.img_check(image, leaks=True)
    lib.run("qemu-img", "check", "-q", "-r", "leaks", image)
    lib.img_check(image)
    lib.img_compare(image, model.save(lib.scratch("model.raw")))
    # Now there is nothing to warn of.
    done = lib.ctl("attach", image)
    check(not done.stderr, f"a second time: {done.stderr}")
    lib.detach(done.stdout.strip())
    lib.run("qemu-img", "bitmap", "--add", image, "third")
    check(bitmaps_of(image) == ["third"], "no bitmap can be added")
    lib.img_check(image)


def test_node_add_warns():
    image = lib.fixture("bitmaps.qcow2")
    done = lib.ctl("node", "add", "driver=qcow2,node-name=fmt,file.driver=file,"
                   f"file.node-name=prot,file.filename={image}")
    check("2 persistent bitmaps" in done.stderr, f"{done.stderr!r}")
    lib.ctl("node", "del", "fmt")
    lib.ctl("node", "del", "prot")


def test_broken_directory():
    """The same are refused as by QEMU, by the name of what is wrong."""
    verdicts = json.loads(lib.read_file(lib.fixture_path("verdicts.json")))
    with open(lib.fixture_path("bitmaps.qcow2"), "rb") as f:
        data = f.read()
    image = lib.scratch("broken.qcow2")
    wrong = 0
    for name, (_, _, says) in BROKEN.items():
        lib.write_sparse(image, broken(data, name))
        try:
            if verdicts[name]:
                with lib.Attached(image, "-r"):
                    pass
            else:
                lib.attach_fails(image, "-r", says=says)
                lib.attach_fails(image, says=says)
        except lib.Fail as e:
            wrong += 1
            lib.note(f"{name}: {e}")
    lib.note(f"{len(BROKEN)} directories, QEMU opens "
             f"{sum(verdicts.values())} of them, {wrong} wrong")
    check(not wrong, f"{wrong} wrong")


def test_directory_and_extension_disagree():
    image = lib.scratch("broken.qcow2")
    with open(lib.fixture_path("bitmaps.qcow2"), "rb") as f:
        data = f.read()
    nb, _, size, offset = find_directory(qcow2.Bytes(data))
    check(nb == 2, f"{nb} bitmaps")
    for values, says in (((1, 0, size, offset), "nb_bitmaps is 1.*more"),
                         ((3, 0, size, offset), "nb_bitmaps is 3.*fewer"),
                         ((2, 0, size - 8, offset), "broken bitmap directory"),
                         ((0, 0, size, offset), "nb_bitmaps 0"),
                         ((65536, 0, size, offset), "nb_bitmaps 65536"),
                         ((2, 1, size, offset), "reserved.* 1"),
                         ((2, 0, 0, offset), "bitmap_directory_size 0"),
                         ((2, 0, (64 << 20) + 1, offset),
                          "bitmap_directory_size 67108865"),
                         ((2, 0, size, offset + 512),
                          "bitmap_directory_offset"),
                         ((2, 0, size, 1 << 40), "past the end")):
        content = qcow2.Bytes(data)
        at = content.data.find(struct.pack(">II", BITMAPS, 24)) + 8
        content.put(at, struct.pack(">IIQQ", *values))
        lib.write_sparse(image, content.data)
        lib.attach_fails(image, "-r", says=says)
        check(not accepts(image, "-r"), f"QEMU accepts {values}")


def test_header_bytes_survive():
    """Of the header, only the autoclear bits change, byte by byte."""
    with open(lib.fixture_path("bitmaps.qcow2"), "rb") as f:
        content = qcow2.Bytes(f.read())
    # Three fields nobody knows, between the header and its extensions
    head = content.data[:CLUSTER]
    content.put(0, head[:112] + b"\xa5" * 24 + head[112:-24])
    content.set("header_length", 136)
    content.set("compatible_features", 1 << 40)
    content.set("autoclear_features", 1 << 41 | 1)
    content.add_extension(0x12345678, b"keep this text")
    content.add_extension(0x87654321, b"")
    image = lib.scratch("keep.qcow2")
    lib.write_sparse(image, content.data)
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        disk.write(4 * MIB, b"\x42" * MIB)
        disk.discard(0, 512 * KIB)
        disk.flush()
    with open(image, "rb") as f:
        after = f.read(CLUSTER)
    content.set("autoclear_features", 0)
    changed = [i for i in range(CLUSTER) if after[i] != content.data[i]]
    check(not changed, f"bytes {changed[:16]} of the header have changed")
    lib.img_check(image, leaks=True)
