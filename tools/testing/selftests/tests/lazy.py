# SPDX-License-Identifier: GPL-2.0
# about: lazy refcounts, the dirty bit, and the rebuild of refcounts at attach
# kernels: either
# cost: 40
# timeout: 300
"""Images that were not closed: left by qblk for QEMU, and by QEMU for qblk."""

import json
import os
import struct

import lib
import qcow2
from lib import KIB, MIB, check

SIZE = 4 * MIB
DIRTY = 1

# What QEMU leaves behind: options, and what happens before the image is lazy.
KINDS = {
    "plain": ({}, ""),
    "small clusters": ({"cluster_size": 512}, "snapshot"),
    "large clusters": ({"cluster_size": "2M"}, "snapshot"),
    "1 bit": ({"cluster_size": 4096, "refcount_bits": 1}, ""),
    "2 bits": ({"cluster_size": 4096, "refcount_bits": 2}, "snapshot"),
    "4 bits": ({"refcount_bits": 4}, "snapshots"),
    "8 bits": ({"cluster_size": 16384, "refcount_bits": 8}, "compressed"),
    "32 bits": ({"cluster_size": 1024, "refcount_bits": 32}, "compressed"),
    "64 bits": ({"cluster_size": 512, "refcount_bits": 64}, "snapshots"),
    "subclusters": ({"extended_l2": "on"}, "snapshot"),
    "compressed": ({}, "compressed snapshot"),
    "bitmaps": ({}, "bitmaps"),
}


def name_of(kind):
    return kind.replace(" ", "-")


def io(image, *commands, ok=(0,)):
    lib.run("qemu-io", "-f", "qcow2",
            *[a for c in commands for a in ("-c", c)], image, ok=ok)


def header(image):
    with open(image, "rb") as f:
        return qcow2.Bytes(f.read(112))


def is_dirty(image):
    return bool(header(image).get("incompatible_features") & DIRTY)


def content(image, raw):
    lib.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", image, raw)
    return raw


def some_io(source, longest, count=10):
    """Writes, zeroes and discards, as commands of qemu-io."""
    out = []
    for _ in range(count):
        length = source.randrange(1, longest // 512) * 512
        start = source.randrange(0, SIZE - length, 512)
        word = source.choice([f"write -P {source.randrange(1, 255)}"] * 4 +
                             ["write -z", "write -z -u", "discard"])
        out.append(f"{word} {start} {length}")
    return out


def before(kind, image, source):
    options, past = KINDS[kind]
    if "compressed" in past:
        # More or less of each cluster can be compressed.
        data = b"".join(source.randbytes(8) * source.randrange(1, 600)
                        for _ in range(1000))[:SIZE // 2]
        lib.write_file("source.raw", "")
        lib.write_sparse("source.raw", data + bytes(SIZE - len(data)))
        words = ",".join(f"{k}={v}" for k, v in options.items())
        lib.run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2",
                *(["-o", words] if words else []), "source.raw", image)
    else:
        lib.img_create(image, SIZE, **options)
    for n in range(3 if "snapshots" in past else "snapshot" in past):
        io(image, *some_io(source, 200 * KIB))
        lib.run("qemu-img", "snapshot", "-c", f"s{n}", image)
    if "bitmaps" in past:
        io(image, *some_io(source, 200 * KIB))
        for n in range(2):
            lib.run("qemu-img", "bitmap", "--add", image, f"b{n}")
    lib.run("qemu-img", "amend", "-f", "qcow2", "-o", "lazy_refcounts=on",
            image)


def fixtures():
    for kind in KINDS:
        source = lib.rng(f"fixture {kind}")
        image = f"{name_of(kind)}.qcow2"
        before(kind, image, source)
        io(image, *some_io(source, 300 * KIB), "write -P 0x99 0 64k", "flush",
           "abort", ok=(134, -6))
        check(is_dirty(image), f"{kind}: QEMU left no dirty bit")
        lib.copy_sparse(image, f"{name_of(kind)}.repaired")
        lib.run("qemu-img", "check", "-q", "-r", "all", "-f", "qcow2",
                f"{name_of(kind)}.repaired")
        content(f"{name_of(kind)}.repaired", f"{name_of(kind)}.raw")


# --- refcounts ------------------------------------------------------------------

class Refcounts:
    """The refcounts of an image, and where they are."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.head = qcow2.Bytes(f.read())
        self.cluster = self.head.cluster
        self.bits = 1 << self.head.get("refcount_order")
        clusters = self.head.get("refcount_table_clusters")
        start = self.head.reftable // self.cluster
        self.own = set(range(start, start + clusters))
        self.values = {}
        for n in range(clusters * self.cluster // 8):
            block = self.head.u64(self.head.reftable + 8 * n)
            if block:
                self.own.add(block // self.cluster)
                self.load(n * self.cluster * 8 // self.bits, block)

    def load(self, first, block):
        data = bytes(self.head.data[block:block + self.cluster])
        # Mostly zeroes, which would take long to look at one by one.
        data = data.rstrip(b"\0")
        data = data.ljust(-(-len(data) // 8) * 8, b"\0")
        if self.bits < 8:
            per_byte = 8 // self.bits
            numbers = [b >> self.bits * i & ((1 << self.bits) - 1)
                       for b in data for i in range(per_byte)]
        else:
            code = {8: "B", 16: "H", 32: "I", 64: "Q"}[self.bits]
            numbers = struct.unpack(f">{len(data) * 8 // self.bits}{code}",
                                    data)
        self.values.update({first + i: v for i, v in enumerate(numbers) if v})


def same_refcounts(image, reference):
    """But for the places of the refcounts themselves."""
    a, b = Refcounts(image), Refcounts(reference)
    own = a.own | b.own
    wrong = [c for c in a.values.keys() | b.values.keys()
             if c not in own and a.values.get(c, 0) != b.values.get(c, 0)]
    check(not wrong, f"{len(wrong)} refcounts are not those of QEMU, such as "
          f"{[(c, a.values.get(c), b.values.get(c)) for c in wrong[:3]]}")


# --- left by QEMU ---------------------------------------------------------------

def model_of(kind):
    with open(lib.fixture_path(f"{name_of(kind)}.raw"), "rb") as f:
        return lib.Model(SIZE, f.read())


def snapshots(image, folder):
    """What QEMU reads there."""
    out = []
    raw = os.path.join(folder, "snapshot")
    for entry in lib.img_info(image).get("snapshots", []):
        lib.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-l",
                f"snapshot.name={entry['name']}", image, raw)
        with open(raw, "rb") as f:
            out.append((entry["name"], f.read()))
    return out


def origin(path):
    """The fixture that a file began as."""
    ending = "raw" if path.endswith(".raw") else "qcow2"
    stem = os.path.basename(path).partition(".")[0]
    return lib.fixture_path(f"{stem}.{ending}")


def hand_over(kind, *files):
    """To the host, if there is one: what is QEMU's to say takes long here."""
    if not lib.export(files, origin):
        judge(lib.SCRATCH, kind)


def judge(folder, kind):
    """Attached, and then used: refcounts, snapshots and data are right."""
    attached, used, raw = (os.path.join(folder, f"{name_of(kind)}.{word}")
                           for word in ("attached", "used", "used.raw"))
    repaired = lib.fixture_path(f"{name_of(kind)}.repaired")
    lib.img_check(attached)
    if kind != "bitmaps":
        same_refcounts(attached, repaired)
    old = snapshots(repaired, folder)
    check(snapshots(attached, folder) == old, "snapshots have changed")
    check(not is_dirty(used), "detached, and still dirty")
    lib.img_check(used)
    lib.img_compare(used, raw)
    check(snapshots(used, folder) == old, "snapshots have changed by writing")


def verify(folder):
    """On the host"""
    names = lib.imported(folder, origin)
    kinds = [k for k in KINDS if f"{name_of(k)}.used" in names]
    judge_all(kinds, lambda kind: judge(folder, kind))


def judge_all(kinds, function):
    wrong = 0
    for kind in kinds:
        try:
            function(kind)
        except lib.Fail as e:
            wrong += 1
            lib.note(f"{kind}: {e}")
    lib.note(f"{len(kinds)} images that QEMU left dirty, {wrong} wrong")
    check(kinds and not wrong, f"{wrong} wrong")


def repair_kind(kind):
    image = lib.fixture(f"{name_of(kind)}.qcow2")
    attached, used, raw = (lib.scratch(f"{name_of(kind)}.{word}")
                           for word in ("attached", "used", "used.raw"))
    # Only attached: nothing but refcounts and flags is written.
    model = model_of(kind)
    with lib.Attached(image) as dev:
        check(not is_dirty(image), "the disk is there, and the dirty bit")
        with lib.Disk(dev, readonly=True) as disk:
            lib.verify(disk, model)
    lib.copy_sparse(image, attached)
    # And used.
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        work = lib.Workload(disk, model, lib.rng(kind),
                            cluster=header(image).cluster)
        work.run(lib.scaled(8, 4))
        work.verify()
    os.rename(image, used)
    model.save(raw)
    hand_over(kind, attached, used, raw)
    for path in (attached, used, raw):
        os.unlink(path)


def test_repair():
    judge_all(lib.some(KINDS), repair_kind)


def test_reading_leaves_it_dirty():
    for kind in ("plain", "small clusters"):
        image = lib.fixture(f"{name_of(kind)}.qcow2")
        old = open(image, "rb").read()
        with lib.Attached(image, "-r") as dev, \
             lib.Disk(dev, readonly=True) as disk:
            lib.verify(disk, model_of(kind))
            done = lib.ctl("show", "--json", dev)
            info = json.loads(done.stdout)["layers"][0]["info"]
            check(info["dirty"], f"shown: {info}")
        check(open(image, "rb").read() == old, "the image has changed")


# --- left by qblk ---------------------------------------------------------------

def crash_of(image, name):
    """The image as a crash would leave it now."""
    copy = lib.scratch(name)
    lib.copy_sparse(image, copy)
    return copy


def leave_dirty(image, word=""):
    """Writes, flushes, and looks at the image while it is attached."""
    model = lib.Model(SIZE)
    graph = f"driver=qcow2,file.driver=file,file.filename={image}{word}"
    with lib.Attached(graph, "--image-opts") as dev, lib.Disk(dev) as disk:
        check(not is_dirty(image), "dirty before anything was written")
        work = lib.Workload(disk, model, lib.rng(image),
                            cluster=header(image).cluster)
        work.run(lib.scaled(16, 10))
        # Whatever was written back before: this allocates.
        disk.discard(SIZE - 64 * KIB, 64 * KIB)
        disk.flush()
        disk.write(SIZE - 64 * KIB, b"\x77" * 64 * KIB)
        model.write(SIZE - 64 * KIB, b"\x77" * 64 * KIB)
        disk.flush()
        copy = crash_of(image, "crash.qcow2")
    return copy, model


def check_left(image, copy, model):
    raw = model.save(lib.scratch("model.raw"))
    lib.img_check(image)
    lib.img_compare(image, raw)
    check(is_dirty(copy), "no dirty bit, though refcounts are late")
    check(lib.run("qemu-img", "check", "-q", copy, ok=None).returncode != 0,
          "refcounts were written by a flush")
    again = crash_of(copy, "again.qcow2")
    lib.run("qemu-img", "check", "-q", "-r", "all", copy)
    lib.img_check(copy)
    lib.img_compare(copy, raw)
    # The same by the kernel
    with lib.Attached(again) as dev, lib.Disk(dev) as disk:
        lib.verify(disk, model)
        disk.write(0, b"\x12" * MIB)
        model.write(0, b"\x12" * MIB)
    lib.img_check(again)
    lib.img_compare(again, model.save(raw))


def test_crash_of_a_lazy_image():
    for options in lib.some(({}, {"cluster_size": 512},
                             {"cluster_size": "2M"}, {"extended_l2": "on"},
                             {"cluster_size": 4096, "refcount_bits": 1})):
        image = lib.scratch("lazy.qcow2")
        lib.img_create(image, SIZE, lazy_refcounts="on", **options)
        copy, model = leave_dirty(image)
        check(not is_dirty(image), "detached, and still dirty")
        check_left(image, copy, model)


def test_option():
    """It decides, whatever the image says."""
    image = lib.scratch("option.qcow2")
    lib.img_create(image, SIZE, lazy_refcounts="off")
    copy, model = leave_dirty(image, ",lazy-refcounts=on")
    check_left(image, copy, model)
    lib.img_create(image, SIZE, lazy_refcounts="on")
    copy, model = leave_dirty(image, ",lazy-refcounts=off")
    check(not is_dirty(copy), "refcounts are not to be late")
    lib.img_check(copy, leaks=True)
    lib.img_compare(copy, model.save(lib.scratch("model.raw")))


def test_data_file():
    image, data = lib.scratch("lazy.qcow2"), lib.scratch("lazy.data")
    lib.img_create(image, SIZE, lazy_refcounts="on", data_file=data)
    model = lib.Model(SIZE)
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        disk.write(MIB, b"\x31" * MIB)
        model.write(MIB, b"\x31" * MIB)
        disk.flush()
        check(is_dirty(image), "the L2 table has a refcount that is late")
        copy = crash_of(image, "crash.qcow2")
    lib.img_check(image)
    os.replace(copy, image)
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        lib.verify(disk, model)
        disk.write(3 * MIB, b"\x32" * MIB)
        model.write(3 * MIB, b"\x32" * MIB)
    lib.img_check(image)
    lib.img_compare(image, model.save(lib.scratch("model.raw")))


# --- made up --------------------------------------------------------------------

def refused(data, says):
    image = lib.scratch("hostile.qcow2")
    lib.write_sparse(image, data)
    old = open(image, "rb").read()
    lib.attach_fails(image, says=f"dirty bit.*rebuilt: .*{says}")
    check(open(image, "rb").read() == old, f"{says}: the image has changed")
    with lib.Attached(image, "-r"):
        pass


def mended(data, what):
    image = lib.scratch("hostile.qcow2")
    lib.write_sparse(image, data)
    with lib.Attached(image) as dev, lib.Disk(dev) as disk:
        disk.write(3 * MIB, b"\x5a" * 64 * KIB)
        check(disk.read(3 * MIB, 64 * KIB) == b"\x5a" * 64 * KIB, what)
    return image


def dirty_bytes(kind):
    with open(lib.fixture_path(f"{name_of(kind)}.qcow2"), "rb") as f:
        return qcow2.Bytes(f.read())


def test_refused():
    # The L1 table as an L2 table, whose flags would have to be corrected
    image = dirty_bytes("plain")
    image.put64(image.l1, image.l1 | qcow2.COPIED)
    refused(image.data, "overlaps with something else")
    # Two entries for one cluster, and one bit to count them
    image = dirty_bytes("1 bit")
    host = next(image.l2_entry(n) for n in range(512)
                if image.l2_entry(n) & qcow2.OFFSET_MASK)
    image.put(image.l2_entry_at(100), struct.pack(">Q", host) * 8)
    refused(image.data, "more references than 1 bits can count")


def test_refcount_structures():
    """Whatever they look like, QEMU finds nothing afterwards."""
    for kind in ("plain", "64 bits"):
        clean = dirty_bytes(kind)
        table, block = clean.reftable, clean.refblock()
        length = len(clean.data)
        for what, entry in lib.some((
                ("no block", 0), ("unaligned", block + 512),
                ("reserved bits", block | 1), ("past the end", 1 << 40),
                ("the header", 1 << 63), ("the refcount table", table),
                ("the L1 table", clean.l1), ("an L2 table", clean.l2()))):
            image = qcow2.Bytes(clean.data)
            image.put64(table, entry)
            lib.img_check(mended(image.data, what))
        # The same block for all
        image = qcow2.Bytes(clean.data)
        image.put(table, struct.pack(">Q", block) * (clean.cluster // 8))
        lib.img_check(mended(image.data, "one block"))
        # The table is the L1 table
        image = qcow2.Bytes(clean.data)
        image.set("refcount_table_offset", image.l1)
        image.set("refcount_table_clusters", 1)
        lib.img_check(mended(image.data, "table in place of another"))
        # Not a number is right
        image = qcow2.Bytes(clean.data)
        image.put(block, b"\xff" * min(clean.cluster, length - block))
        lib.img_check(mended(image.data, "all leaked"))


def test_flags():
    image = dirty_bytes("plain")
    for n in range(128):
        if image.l2_entry(n) & qcow2.OFFSET_MASK:
            image.set_l2_entry(n, image.l2_entry(n) ^ qcow2.COPIED)
    image.put64(image.l1, image.u64(image.l1) ^ qcow2.COPIED)
    lib.img_check(mended(image.data, "flags"))


def test_broken_entries_stay():
    """As with QEMU, they keep nobody from using the rest."""
    image = dirty_bytes("plain")
    image.set_l2_entry(3, qcow2.COPIED | 512)
    image.set_l2_entry(4, qcow2.COPIED | 1 << 50)
    path = lib.scratch("broken.qcow2")
    lib.write_sparse(path, image.data)
    done = lib.ctl("attach", path)
    check("2 entries" in done.stderr, f"told: {done.stderr!r}")
    dev = done.stdout.strip()
    with lib.Disk(dev) as disk:
        disk.write(3 * MIB, b"\x5a" * 64 * KIB)
    lib.detach(dev)
    after = qcow2.Bytes(open(path, "rb").read())
    check(after.l2_entry(3) == qcow2.COPIED | 512, "an entry was changed")


def test_random_damage():
    """Refused or attached; nothing worse."""
    source = lib.rng("damage")
    count = lib.scaled(12, 8)
    attached = 0
    path = lib.scratch("damaged.qcow2")
    for _ in range(count):
        kind = source.choice(("plain", "small clusters", "compressed",
                              "subclusters", "64 bits"))
        image = dirty_bytes(kind)
        places = [image.l1, image.l2(), image.reftable, image.refblock(),
                  image.get("snapshots_offset")]
        for _ in range(source.randrange(1, 12)):
            at = source.choice(places) + source.randrange(0, 64) * 8
            value = source.choice((
                source.choice(places), source.getrandbits(64),
                source.choice(places) | qcow2.COPIED, 1 << 56 - 9, 0,
                source.randrange(0, len(image.data), image.cluster),
                source.randrange(0, 2 << 62) & ~0x1ff))
            if at + 8 <= len(image.data):
                image.put64(at, value)
        lib.write_sparse(path, image.data)
        done = lib.ctl("attach", path, ok=None)
        if done.returncode:
            check(done.stderr.strip(), "refused without a word")
            continue
        attached += 1
        dev = done.stdout.strip()
        with lib.Disk(dev) as disk:
            for at in range(0, SIZE, MIB):
                try:
                    disk.read(at, 64 * KIB)
                    disk.write(at, b"\x11" * 64 * KIB)
                except OSError:
                    pass
        lib.ctl("detach", "--force", dev)
    lib.note(f"{count} damaged images, {attached} attached")
    check(attached, "all were refused")
