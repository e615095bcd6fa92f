# SPDX-License-Identifier: GPL-2.0
# about: images with internal snapshots: shown, kept while written to, given back
# variants: v2 v3 small
# kernels: either
# cost: 60
# timeout: 400
"""Internal snapshots against qemu-img and qemu-io."""

import json
import os
import re

import lib
import qcow2
from lib import KIB, MIB, check

SIZE = 6 * MIB + 512
LATER = 9 * MIB
OPTIONS = {"v2": {"compat": "0.10"}, "v3": {}, "small": {"cluster_size": 4096}}
# The id of each, and its name: one is named like the id of another.
NAMES = {"1": "first", "2": "second", "3": "1", "4": "last one, really"}


def can_resize(word):
    """QEMU does not resize images of version 2 that have snapshots."""
    return word != "v2"


def size_at(word, sid):
    return LATER if sid == "4" and can_resize(word) else SIZE


def stage(source, image):
    """Changes an image at random: data, zeroes, discards."""
    commands = []
    for _ in range(12):
        length = source.randrange(1, 300) * KIB
        start = source.randrange(0, SIZE - length) // 512 * 512
        kind = source.random()
        if kind < 0.7:
            commands.append(f"write -P {source.randrange(1, 255)} {start} "
                            f"{length}")
        elif kind < 0.85:
            commands.append(f"write -z {start} {length}")
        else:
            commands.append(f"discard {start} {length}")
    lib.run("qemu-io", "-f", "qcow2",
            *[a for c in commands for a in ("-c", c)], image)


def fixtures():
    for word, options in OPTIONS.items():
        image = f"{word}.qcow2"
        source = lib.rng(f"fixture {word}")
        lib.img_create(image, SIZE, **options)
        for sid, name in NAMES.items():
            stage(source, image)
            if size_at(word, sid) != SIZE:
                lib.run("qemu-img", "resize", "-q", image, LATER)
                lib.run("qemu-io", "-f", "qcow2", "-c",
                        f"write -P 0x77 {LATER - 512} 512", image)
            lib.run("qemu-img", "snapshot", "-c", name, image)
            lib.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image,
                    f"{word}-{sid}.raw")
        stage(source, image)
        lib.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image,
                f"{word}-now.raw")
        lib.img_check(image)


def expected(which):
    with open(lib.fixture_path(f"{lib.VARIANT}-{which}.raw"), "rb") as f:
        data = f.read()
    return lib.Model(len(data), data)


def expect(dev, which):
    model = expected(which)
    with lib.Disk(dev, readonly=True) as disk:
        check(disk.size == model.size,
              f"{which}: {disk.size} bytes, not {model.size}")
        lib.verify(disk, model)


def shown(dev):
    done = lib.ctl("show", "--json", dev)
    return json.loads(done.stdout)["layers"][0]["info"]


def test_show_each():
    """By id, by name, in both forms, with the disk of today beside it."""
    image = lib.fixture(f"{lib.VARIANT}.qcow2")
    before = open(image, "rb").read()
    forms = [(sid, sid) for sid in NAMES]
    forms += [(sid, name) for sid, name in NAMES.items() if name not in NAMES]
    forms += [("3", "snapshot.name=1"), ("2", "snapshot.id=2"),
              ("2", "snapshot.id=2,snapshot.name=second")]
    with lib.Attached(image, "-r") as now:
        expect(now, "now")
        info = shown(now)
        check(info["snapshots"] == len(NAMES), f"info: {info}")
        check("name second" in info["snapshot.1"], f"info: {info}")
        for sid, form in forms:
            with lib.Attached(image, "-l", form) as dev:
                expect(dev, sid)
                check(lib.sys_block(dev, "ro") == "1", "it is writable")
                text = shown(dev)["loaded-snapshot"]
                check(text.startswith(f"id {sid}, name {NAMES[sid]}"), text)
        expect(now, "now")
    check(open(image, "rb").read() == before, "the image has changed")


def test_image_opts():
    image = lib.fixture(f"{lib.VARIANT}.qcow2")
    graph = f"driver=qcow2,file.driver=file,file.filename={image}"
    for option in ("load-snapshot=2", "load-snapshot.id=2",
                   "load-snapshot.name=second"):
        dev = lib.ctl("attach", "--image-opts",
                      f"{graph},read-only=on,{option}").stdout.strip()
        expect(dev, "2")
        lib.detach(dev)
    done = lib.ctl("attach", "--image-opts", f"{graph},load-snapshot=2",
                   ok=None)
    check(done.returncode and "read-only" in done.stderr, done.stderr)


def test_unknown():
    """What was asked for is named."""
    image = lib.fixture(f"{lib.VARIANT}.qcow2")
    for form, says in (("nosuch", "4 snapshots.*'nosuch'"),
                       ("snapshot.id=second", "id 'second'"),
                       ("snapshot.name=2", "name '2'"),
                       ("snapshot.id=1,snapshot.name=second",
                        "'1'.*'second'"),
                       ("snapshot.date=1", "snapshot.date")):
        lib.attach_fails(image, "-l", form, code=(lib.FAILED, lib.NODEV),
                         says=says)
    plain = lib.img_create(lib.scratch("plain.qcow2"), MIB)
    lib.attach_fails(plain, "-l", "1", code=(lib.FAILED, lib.NODEV),
                     says="0 snapshots.*'1'")
    raw = lib.scratch("plain.raw")
    lib.write_sparse(raw, bytes(MIB))
    lib.attach_fails(raw, "-f", "raw", "-l", "1", says="load-snapshot")


def snapshot_content(image, sid):
    target = lib.scratch("out.raw")
    lib.run("qemu-img", "convert", "-l", f"snapshot.id={sid}", "-f", "qcow2",
            "-O", "raw", image, target)
    with open(target, "rb") as f:
        return f.read()


def expect_snapshots(image, ids):
    """qemu-img sees in each what was there when it was taken."""
    for sid in ids:
        model = expected(sid)
        # QEMU shows a snapshot with the size of the disk of today.
        got = snapshot_content(image, sid)
        model.expect(0, got[:model.size], f"snapshot {sid}")
        check(not got[model.size:].strip(b"\0"),
              f"snapshot {sid} goes on after its end")


def entries(image):
    """What QEMU lists: ids, names, dates."""
    done = lib.run("qemu-img", "snapshot", "-l", image)
    return re.sub(r"\s+", " ", done.stdout)


def work_on(image, steps):
    model = expected("now")
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        work = lib.Workload(disk, model, lib.rng(f"work {lib.VARIANT}"),
                            cluster=qcow2_cluster(image),
                            discard_zeroes=lib.VARIANT != "v2")
        work.run(steps)
        work.verify()
    return model


def qcow2_cluster(image):
    with open(image, "rb") as f:
        return qcow2.Bytes(f.read(112)).cluster


def test_write():
    """The disk is written to; the snapshots stay, and QEMU goes on with them."""
    image = lib.fixture(f"{lib.VARIANT}.qcow2")
    listed = entries(image)
    model = work_on(image, lib.scaled(300, 60))
    lib.img_check(image)
    lib.img_compare(image, model.save(lib.scratch("model.raw")))
    check(entries(image) == listed, "the list of snapshots has changed")
    expect_snapshots(image, NAMES)
    for sid in lib.some(NAMES):
        with lib.Attached(image, "-l", sid) as dev:
            expect(dev, sid)

    # Back to one of them, delete others, and write again.
    last = "4"
    lib.run("qemu-img", "snapshot", "-d", "second", image)
    lib.run("qemu-img", "snapshot", "-a", NAMES[last], image)
    lib.img_check(image)
    lib.img_compare(image, lib.fixture_path(f"{lib.VARIANT}-{last}.raw"))
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        again = expected(last)
        lib.Workload(disk, again, lib.rng("again"),
                     cluster=qcow2_cluster(image),
                     discard_zeroes=lib.VARIANT != "v2").run(
                         lib.scaled(100, 30))
        lib.verify(disk, again)
    lib.img_check(image)
    expect_snapshots(image, ["1", last])
    for sid in ("1", "3", last):
        lib.run("qemu-img", "snapshot", "-d", NAMES[sid], image)
    lib.img_check(image)
    lib.img_compare(image, again.save(lib.scratch("model.raw")))


def test_snapshot_of_a_backing_file():
    """A snapshot has the backing file the image has."""
    lib.fixture(f"{lib.VARIANT}-now.raw")
    model = expected("now")
    top = lib.img_create(lib.scratch("top.qcow2"), model.size,
                         backing=f"{lib.VARIANT}-now.raw", backing_fmt="raw",
                         **OPTIONS[lib.VARIANT])
    lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 0x31 100k 10k", top)
    lib.run("qemu-img", "snapshot", "-c", "s", top)
    with lib.Attached(top) as dev, lib.Disk(dev) as disk:
        disk.write(100 * KIB, b"\x32" * 300 * KIB)
        disk.zero(MIB, MIB)
    model.write(100 * KIB, b"\x31" * 10 * KIB)
    with lib.Attached(top, "-l", "s") as dev, \
         lib.Disk(dev, readonly=True) as disk:
        lib.verify(disk, model)
    lib.img_check(top)


def test_broken():
    """A table or an entry that cannot be right: refused when it is used."""
    with open(lib.fixture_path(f"{lib.VARIANT}.qcow2"), "rb") as f:
        good = f.read()
    table = qcow2.Bytes(good).get("snapshots_offset")
    image = lib.scratch("broken.qcow2")
    # offset in the entry, bytes, what the sentence names
    cases = ((0, (512).to_bytes(8, "big"), "L1 table offset.*0x200"),
             (0, bytes(8), "L1 table offset.*0x0"),
             (0, b"\x40" + bytes(7), "L1 table offset"),
             (8, (5 << 20).to_bytes(4, "big"), "L1 table.*5242880"),
             (8, bytes(4), "L1 table is too small: 0"),
             (48, b"\x40" + bytes(7), "L1 table is too small"))
    for at, data, says in cases:
        content = qcow2.Bytes(good)
        content.put(table + at, data)
        lib.write_sparse(image, content.data)
        lib.attach_fails(image, "-l", "1", says=says)
        with lib.Attached(image, "-r") as dev:
            expect(dev, "now")
        with lib.Attached(image, "-l", "2") as dev:
            expect(dev, "2")
    os.unlink(image)
