# SPDX-License-Identifier: GPL-2.0
# about: hand-broken headers and tables: refused or EIO, never a splat
# variants: header tables feature
# kernels: either
# cost: 35
# timeout: 200
"""A table of broken images and what has to become of each.

refuse   attach fails, with a sentence that matches the pattern
readonly attach fails likewise, attach -r works and the data is right
eio      attach works; the named guest clusters fail with EIO, the others read
fine     attach works and the data is right
survive  any outcome that is clean: refused, EIO, or data

In all cases the disk, if there is one, answers each request and goes away.
"""

import errno
import re
import struct

import lib
import qcow2
from lib import KIB, MIB, check
from qcow2 import COMPRESSED, COPIED

SIZE = 24 * MIB
CLUSTER = 64 * KIB
# Guest clusters of the sample with their content
DATA, DATA2, ZEROED, PACKED, HOLE = 0, 1, 2, 3, 100
CASES = {"header": [], "tables": [], "feature": []}

SNAPPED = "snapped"     # the sample with an internal snapshot
V2 = "v2"
FAR = 1 << 40


def pattern(cluster):
    if cluster in (DATA, DATA2):
        return bytes([0x11 * (cluster + 1)]) * CLUSTER
    if cluster == PACKED:
        return bytes(range(256)) * (CLUSTER // 256)
    return bytes(CLUSTER)


def encrypted(path, options):
    """Has qemu-img made it?  For LUKS it measures how fast it hashes, and gives
    up if its CPU time did not advance meanwhile, as on a host that counts ticks."""
    done = lib.run("qemu-img", "create", "-q", "-f", "qcow2",
                   "--object", "secret,id=s,data=secret",
                   "-o", ",".join(options), path, str(SIZE), ok=(0, 1))
    lib.check(not done.returncode or "CPU usage" in done.stderr, done.stderr)
    return not done.returncode


def fixtures():
    flat = b"".join(pattern(n) for n in range(4))
    lib.write_sparse("packed.raw", flat + bytes(SIZE - len(flat)))
    lib.run("qemu-img", "convert", "-c", "-O", "qcow2", "-f", "raw",
            "packed.raw", "v3.qcow2")
    lib.run("qemu-img", "convert", "-c", "-O", "qcow2", "-f", "raw",
            "-o", "compat=0.10", "packed.raw", "v2.qcow2")
    for word in ("v2", "v3"):
        lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 0x11 0 64k",
                "-c", "write -P 0x22 64k 64k", "-c", "write -z 128k 64k",
                f"{word}.qcow2")
    lib.run("cp", "v3.qcow2", "snapped.qcow2")
    lib.run("qemu-img", "snapshot", "-c", "s", "snapped.qcow2")
    for word, options in (("luks", {"encrypt.format": "luks",
                                    "encrypt.iter-time": "10"}),
                          ("aes", {"encrypt.format": "aes"})):
        words = [*(f"{k}={v}" for k, v in options.items()),
                 "encrypt.key-secret=s"]
        lib.wait_for(lambda w=word, o=words: encrypted(f"{w}.qcow2", o),
                     f"an image with {word}")
    lib.img_create("named.qcow2", SIZE, backing="v3.qcow2")


def case(group, expected, name, base="v3", says=None, bad=()):
    """Registers a mutation: a function of qcow2.Bytes."""
    def register(function):
        CASES[group].append((name, base, expected, says, bad, function))
        return function
    return register


def field(group, expected, name, value, says=None, base="v3"):
    """Registers the mutation that sets one header field."""
    CASES[group].append((f"{name}={value:#x}", base, expected, says, (),
                         lambda b: b.set(name, value)))


# --- header fields ------------------------------------------------------------

field("header", "refuse", "magic", 0x51464900, "qcow2")
for value in (0, 1, 4, 0xffffffff):
    field("header", "refuse", "version", value, "version")
for value in (0, 8, 22, 32, 0xffffffff):
    field("header", "refuse", "cluster_bits", value, "cluster")
for value in (1 << 63, (1 << 64) - 512, 1 << 62):
    field("header", "refuse", "size", value, "L1|big|size|large")
# More disk than the L1 table covers.
field("header", "refuse", "size", 1 << 34, "L1")
field("header", "refuse", "crypt_method", 3, "encrypt")
field("header", "refuse", "crypt_method", 0xffffffff, "encrypt")
field("header", "refuse", "l1_size", 0, "L1")
field("header", "refuse", "l1_size", 0xffffffff, "L1")
field("header", "refuse", "l1_size", (32 * MIB >> 3) + 1, "L1")
field("header", "refuse", "l1_table_offset", 0x30200, "L1")
field("header", "refuse", "l1_table_offset", 1 << 63, "L1")
field("header", "refuse", "l1_table_offset", (1 << 63) - CLUSTER, "L1")
# QEMU reads tables past the end of the file as zeroes; EIO is as good.
field("header", "survive", "l1_table_offset", FAR)
field("header", "refuse", "refcount_table_offset", 0x10200, "refcount|reference")
field("header", "refuse", "refcount_table_offset", 1 << 63, "refcount|reference")
field("header", "refuse", "refcount_table_offset", (1 << 63) - CLUSTER,
      "refcount|reference")
field("header", "refuse", "refcount_table_clusters", 0, "refcount|reference")
field("header", "refuse", "refcount_table_clusters", 0xffffffff,
      "refcount|reference")
field("header", "refuse", "refcount_table_clusters", 8 * MIB // CLUSTER + 1,
      "refcount|reference")
field("header", "refuse", "refcount_order", 7, "refcount|reference")
field("header", "refuse", "refcount_order", 0xffffffff, "refcount|reference")
field("header", "refuse", "header_length", 103, "header")
field("header", "refuse", "header_length", 0, "header")
field("header", "refuse", "header_length", CLUSTER + 8, "header")
field("header", "refuse", "header_length", 0xffffffff, "header")
field("header", "refuse", "backing_file_offset", CLUSTER + 1, "backing")
field("header", "refuse", "backing_file_offset", 1 << 63, "backing")
field("header", "refuse", "nb_snapshots", 65537, "snapshot", SNAPPED)
field("header", "refuse", "nb_snapshots", 0xffffffff, "snapshot", SNAPPED)
field("header", "refuse", "snapshots_offset", 0x70200, "snapshot", SNAPPED)
field("header", "survive", "snapshots_offset", FAR, None, SNAPPED)
field("header", "survive", "nb_snapshots", 60000, None, SNAPPED)
field("header", "refuse", "compression_type", 2, "compression")
field("header", "refuse", "compression_type", 1, "compression")
field("header", "refuse", "compression_type", 255, "compression")


@case("header", "refuse", "backing name longer than 1023", "named", "backing")
def _(b):
    b.set("backing_file_size", 1024)


@case("header", "refuse", "backing name past the cluster", "named", "backing")
def _(b):
    b.set("backing_file_offset", CLUSTER - 4)
    b.set("backing_file_size", 100)


@case("header", "refuse", "backing name of no bytes with an offset",
      "named", "backing|name")
def _(b):
    b.set("backing_file_size", 0xffffffff)


@case("header", "refuse", "backing name with a NUL", "named")
def _(b):
    b.put(b.get("backing_file_offset"), b"a\0b")


@case("header", "refuse", "extension longer than the header cluster",
      says="extension")
def _(b):
    b.add_extension(0x12345678, b"", 0x7fffffff)


@case("header", "refuse", "extension length overflows", says="extension")
def _(b):
    b.add_extension(0x12345678, b"", 0xfffffffc)


@case("header", "refuse", "backing format name too long", says="backing")
def _(b):
    b.put(b.get("header_length"),
          struct.pack(">II", 0xe2792aca, 64) + b"x" * 64 + bytes(8))


@case("header", "refuse", "nothing but the magic")
def _(b):
    del b.data[4:]


@case("header", "refuse", "cut within the header")
def _(b):
    del b.data[90:]


@case("header", "survive", "cut before the L1 table")
def _(b):
    del b.data[b.l1:]


# --- features -------------------------------------------------------------------

for bit in (5, 17, 63):
    field("feature", "refuse", "incompatible_features", 1 << bit,
          "feature|incompatible")
# Without the file
field("feature", "refuse", "incompatible_features", 4, "data-file")
# The compression bit without a type, and zstd with zlib data
field("feature", "refuse", "incompatible_features", 8, "compression")
field("feature", "readonly", "incompatible_features", 2, "corrupt")


@case("feature", "eio", "zlib data in an image that says zstd", bad=(PACKED,))
def _(b):
    b.set("incompatible_features", 8)
    b.set("compression_type", 1)


@case("feature", "readonly-or-fine", "dirty bit", says="dirty|repair")
def _(b):
    b.set("incompatible_features", 1)


@case("feature", "fine", "unknown compatible feature")
def _(b):
    b.set("compatible_features", 1 << 40)


@case("feature", "fine", "unknown autoclear feature")
def _(b):
    b.set("autoclear_features", 1 << 40)


@case("feature", "fine", "unknown extension")
def _(b):
    b.add_extension(0x12345678, b"keep this text")


@case("feature", "fine", "L1 table larger than needed")
def _(b):
    b.set("l1_size", CLUSTER // 8)


@case("feature", "refuse", "LUKS", "luks", "encrypt|LUKS")
def _(_b):
    pass


@case("feature", "refuse", "AES", "aes", "encrypt|AES")
def _(_b):
    pass


@case("feature", "survive", "bitmap extension of the wrong length")
def _(b):
    b.set("autoclear_features", 1)
    b.add_extension(0x23852875, b"\xff" * 23)


@case("feature", "survive", "bitmap directory far beyond the file")
def _(b):
    b.set("autoclear_features", 1)
    b.add_extension(0x23852875, struct.pack(">IIQQ", 1, 0, 32, FAR))


@case("feature", "survive", "crypto extension without encryption")
def _(b):
    b.add_extension(0x0537be77, struct.pack(">QQ", FAR, FAR))


# --- tables ---------------------------------------------------------------------

EVERY = (DATA, DATA2, ZEROED, PACKED)


@case("tables", "eio", "L2 table not aligned", bad=(HOLE, *EVERY))
def _(b):
    b.put64(b.l1, (b.l2() + 512) | COPIED)


@case("tables", "survive", "L2 table far beyond the file")
def _(b):
    b.put64(b.l1, FAR | COPIED)


@case("tables", "survive", "L2 table beyond what a file can hold")
def _(b):
    b.put64(b.l1, qcow2.OFFSET_MASK & ~(CLUSTER - 1) | COPIED)


@case("tables", "survive", "L1 entry with reserved bits")
def _(b):
    b.put64(b.l1, b.u64(b.l1) | 0x7f000000000001ff)


@case("tables", "survive", "L2 table is the header")
def _(b):
    b.put64(b.l1, 0 | COPIED)


@case("tables", "survive", "L2 table is the L1 table")
def _(b):
    b.put64(b.l1, b.l1 | COPIED)


@case("tables", "survive", "L2 table is the refcount table")
def _(b):
    b.put64(b.l1, b.reftable | COPIED)


@case("tables", "eio", "data cluster not aligned", bad=(DATA,))
def _(b):
    b.set_l2_entry(DATA, b.l2_entry(DATA) + 512)


@case("tables", "eio", "zero cluster in version 2", V2, bad=(DATA,))
def _(b):
    b.set_l2_entry(DATA, b.l2_entry(DATA) | 1)


@case("tables", "survive", "data cluster far beyond the file")
def _(b):
    b.set_l2_entry(DATA, FAR | COPIED)


@case("tables", "survive", "data cluster at the largest offset")
def _(b):
    b.set_l2_entry(DATA, qcow2.OFFSET_MASK & ~(CLUSTER - 1) | COPIED)


@case("tables", "survive", "data cluster is the header")
def _(b):
    b.set_l2_entry(HOLE, COPIED)
    b.set_l2_entry(DATA, b.l1 | COPIED)


@case("tables", "survive", "data clusters overlap the refcount structures")
def _(b):
    b.set_l2_entry(DATA, b.reftable | COPIED)
    b.set_l2_entry(DATA2, b.refblock() | COPIED)


@case("tables", "survive", "data cluster is its own L2 table")
def _(b):
    b.set_l2_entry(DATA, b.l2() | COPIED)


@case("tables", "survive", "L2 entry with reserved bits")
def _(b):
    b.set_l2_entry(DATA, b.l2_entry(DATA) | 0x3f000000000001fe)


@case("tables", "eio", "compressed data is noise", bad=(PACKED,))
def _(b):
    entry = b.l2_entry(PACKED)
    check(entry & COMPRESSED, "the sample has no compressed cluster")
    at = entry & ((1 << (62 - 8)) - 1)
    b.put(at, b"\xff" * 64)


@case("tables", "eio", "compressed data is cut short", bad=(PACKED,))
def _(b):
    at = b.l2_entry(PACKED) & ((1 << (62 - 8)) - 1)
    b.put(at + 20, bytes(480))


@case("tables", "eio", "compressed data far beyond the file", bad=(PACKED,))
def _(b):
    b.set_l2_entry(PACKED, COMPRESSED | FAR)


@case("tables", "eio", "compressed data of the largest offset and size",
      bad=(PACKED,))
def _(b):
    b.set_l2_entry(PACKED, COMPRESSED | ((1 << 62) - 1))


@case("tables", "survive", "compressed cluster with the COPIED bit")
def _(b):
    b.set_l2_entry(PACKED, b.l2_entry(PACKED) | COPIED)


@case("tables", "survive", "all L2 entries are ones")
def _(b):
    b.put(b.l2(), b"\xff" * CLUSTER)


@case("tables", "survive", "all L1 entries are ones")
def _(b):
    b.put(b.l1, b"\xff" * 8 * b.get("l1_size"))


@case("tables", "survive", "refcount table is ones")
def _(b):
    b.put(b.reftable, b"\xff" * CLUSTER)


@case("tables", "survive", "refcount block not aligned")
def _(b):
    b.put64(b.reftable, b.refblock() + 512)


@case("tables", "survive", "refcount block far beyond the file")
def _(b):
    b.put64(b.reftable, FAR)


@case("tables", "survive", "refcount table is empty")
def _(b):
    b.put64(b.reftable, 0)


@case("tables", "survive", "refcount table beyond the file")
def _(b):
    b.set("refcount_table_offset", FAR)


@case("tables", "survive", "refcount table is the header")
def _(b):
    b.set("refcount_table_offset", 0)


@case("tables", "survive", "refcount block is the L2 table")
def _(b):
    b.put64(b.reftable, b.l2())


@case("tables", "survive", "refcount table and L1 table overlap")
def _(b):
    b.set("refcount_table_offset", b.l1)


@case("tables", "survive", "all refcounts are zero")
def _(b):
    b.put(b.refblock(), bytes(CLUSTER))


@case("tables", "survive", "all refcounts are at their maximum")
def _(b):
    b.put(b.refblock(), b"\xff" * CLUSTER)


@case("tables", "survive", "refcounts of the free clusters are one")
def _(b):
    b.put(b.refblock(), b"\0\1" * (CLUSTER // 2))


@case("tables", "survive", "two guest clusters share one host cluster")
def _(b):
    b.set_l2_entry(DATA2, b.l2_entry(DATA))


@case("tables", "survive", "snapshot table is noise", SNAPPED)
def _(b):
    b.put(b.get("snapshots_offset"), b"\xff" * 40)


@case("tables", "survive", "cut after the tables")
def _(b):
    end = max(b.l1, b.l2(), b.reftable, b.refblock()) + CLUSTER
    del b.data[end:]


@case("tables", "survive", "cut within the L2 table")
def _(b):
    del b.data[b.l2() + 100:]


# --- trying them ------------------------------------------------------------------

def read_clusters(dev, expect_bad, exact):
    """Each cluster reads right or, if it is a bad one, fails with EIO."""
    with lib.Disk(dev, readonly=True) as disk:
        for cluster in (HOLE, *EVERY):
            try:
                data = disk.read(cluster * CLUSTER, CLUSTER)
            except OSError as e:
                check(e.errno == errno.EIO,
                      f"cluster {cluster}: {errno.errorcode.get(e.errno)}")
                check(not exact or cluster in expect_bad,
                      f"cluster {cluster} fails with EIO")
                continue
            check(not exact or cluster not in expect_bad,
                  f"cluster {cluster} reads as {data[:4].hex()}...")
            check(not exact or data == pattern(cluster),
                  f"cluster {cluster} reads as {data[:4].hex()}...")


def write_clusters(dev):
    """Writes, zeroes and discards end, one way or the other."""
    with lib.Disk(dev) as disk:
        for n, cluster in enumerate((*EVERY, HOLE, HOLE + 1)):
            for action in (
                    lambda at: disk.write(at + 4096, b"\x99" * 4096),
                    lambda at: disk.zero(at, CLUSTER),
                    lambda at: disk.discard(at, CLUSTER),
                    lambda at: disk.write(at, b"\x98" * CLUSTER),
                    lambda at: disk.flush()):
                try:
                    action(cluster * CLUSTER)
                except OSError as e:
                    check(e.errno in (errno.EIO, errno.ENOSPC, errno.EROFS,
                                      errno.EPERM, errno.EOPNOTSUPP,
                                      errno.EACCES),
                          f"write {n}: {errno.errorcode.get(e.errno)}")


def unharmed(image, before):
    with open(image, "rb") as f:
        check(f.read() == before, "a read-only attach changed the image")


def gone(dev):
    """Corrupt or not, the disk can be removed."""
    done = lib.ctl("detach", dev, ok=None)
    if done.returncode:
        # A last flush may fail; then the device says so and stays.
        lib.detach(dev, "--force")
    check(not lib.disks(), f"left: {lib.disks()}")


def try_attach(image, *options):
    done = lib.ctl("attach", "-f", "qcow2", *options, image, ok=None)
    if done.returncode == 0:
        return done.stdout.strip(), ""
    check(done.returncode in (lib.FAILED, lib.UNSUPPORTED, lib.NODEV),
          f"attach: exit {done.returncode}: {done.stderr}")
    check(done.stderr.strip(), "refused without a word")
    return None, done.stderr


def refused(image, says, *options):
    dev, text = try_attach(image, *options)
    if dev:
        gone(dev)
        raise lib.Fail("was attached")
    check(says is None or re.search(says, text, re.I),
          f"expected a sentence with /{says}/, got: {text}")


def attached(image, bad, exact, *options):
    dev, text = try_attach(image, *options)
    if not dev:
        check(not exact, f"refused: {text}")
        return
    try:
        read_clusters(dev, bad, exact)
        if "-r" not in options:
            write_clusters(dev)
    finally:
        gone(dev)


def run_case(entry):
    _, base, expected, says, bad, mutate = entry
    with open(lib.fixture_path(f"{base}.qcow2"), "rb") as f:
        content = qcow2.Bytes(f.read())
    mutate(content)
    image = lib.scratch("bad.qcow2")
    lib.write_sparse(image, content.data)
    if expected == "refuse":
        refused(image, says)
        refused(image, says, "-r")
    elif expected == "readonly":
        refused(image, says)
        attached(image, (), True, "-r")
    elif expected == "readonly-or-fine":
        dev, text = try_attach(image)
        if dev:
            read_clusters(dev, (), True)
            gone(dev)
            lib.img_check(image)
        else:
            check("dirty" in text.lower() or "repair" in text.lower(), text)
            attached(image, (), True, "-r")
    else:
        exact = expected in ("eio", "fine")
        attached(image, bad, exact, "-r")
        unharmed(image, content.data)
        attached(image, bad, exact)
    return image


def test_cases():
    lib.fixture("v3.qcow2")     # backs "named"
    failed = 0
    for entry in CASES[lib.VARIANT]:
        try:
            run_case(entry)
        except (lib.Fail, OSError) as e:
            failed += 1
            lib.note(f"{entry[0]} ({entry[2]}): {e}")
            for dev in lib.disks():
                lib.ctl("detach", "--force", f"/dev/{dev}", ok=None)
    lib.note(f"{len(CASES[lib.VARIANT])} broken images, {failed} wrong")
    check(not failed, f"{failed} of {len(CASES[lib.VARIANT])} cases")


def test_sample_is_good():
    """The unbroken samples do work, else the cases above prove nothing."""
    for word in ("v3", "v2", "snapped"):
        image = lib.fixture(f"{word}.qcow2")
        with lib.Attached(image, "-f", "qcow2") as dev:
            read_clusters(dev, (), True)
            write_clusters(dev)
        lib.img_check(image)


def test_what_must_survive():
    """Unknown extensions and compatible bits stay; autoclear bits go."""
    if lib.VARIANT != "feature":
        raise lib.Skip("once is enough")
    with open(lib.fixture_path("v3.qcow2"), "rb") as f:
        content = qcow2.Bytes(f.read())
    content.set("compatible_features", 1 << 40)
    content.set("autoclear_features", 1 << 41)
    content.add_extension(0x12345678, b"keep this text")
    image = lib.scratch("keep.qcow2")
    lib.write_sparse(image, content.data)
    with lib.Attached(image, "-f", "qcow2") as dev, lib.Disk(dev) as disk:
        disk.write(200 * CLUSTER, b"\x42" * CLUSTER)
    with open(image, "rb") as f:
        after = qcow2.Bytes(f.read())
    check(after.get("compatible_features") == 1 << 40,
          "an unknown compatible feature bit was lost")
    check(after.get("autoclear_features") == 0,
          "an unknown autoclear bit survived a write")
    check((0x12345678, b"keep this text") in after.extensions(),
          "an unknown extension was lost")
    lib.img_check(image)
