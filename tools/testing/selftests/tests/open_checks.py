# SPDX-License-Identifier: GPL-2.0
# about: each header field and extension out of bounds: what QEMU says of it
# kernels: 6.12 debug
# cost: 25
# timeout: 150
"""Fields of images, set to values within their bounds and out of them.

QEMU and qblk open each image, for reading and for writing, and have to agree
whether it can be opened; qblk's refusal has to name the field and its value.
Where they do not agree is in DEVIATIONS, each with a reason.
"""

import json
import os
import re
import struct
import subprocess
import sys
from dataclasses import dataclass

import lib
import qcow2
from control import FORCE, Control, Refused
from lib import MIB, check

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import bad_images  # noqa: E402  pylint: disable=wrong-import-position
from bad_images import CLUSTER, FAR, SIZE  # noqa: E402  pylint: disable=wrong-import-position

DATA_FILE = "data.raw"
BITMAP_NAME = "bits"
BACKING_FORMAT, FEATURES, CRYPTO = 0xe2792aca, 0x6803f857, 0x0537be77
BITMAPS, DATA_NAME = 0x23852875, 0x44415441
ALL_ONES = (1 << 32) - 1
SNAPSHOT_EXTRA = 36


@dataclass
class Case:
    name: str
    base: str
    mutate: object          # a function of qcow2.Bytes
    says: str               # what the refusal has to match,
    value: object           # with this number unless that is None,
    others: str             # or this: fields that do not fit to the one set
    data: bool              # is the image given a data file?


CASES = []


def add(name, mutate, says, base="v3", value=None, data=None, others=None):
    check(all(c.name != f"{base}: {name}" for c in CASES),
          f"two cases {base}: {name}")
    CASES.append(Case(f"{base}: {name}", base, mutate, says, value, others,
                      base == "data" if data is None else data))


def fixtures():
    bad_images.fixtures()
    lib.img_create("extl2.qcow2", SIZE, extended_l2="on")
    lib.img_create("zstd.qcow2", SIZE, compression_type="zstd")
    lib.img_create("data.qcow2", SIZE, data_file=DATA_FILE)
    lib.img_create("small.qcow2", MIB, cluster_size=512)
    lib.img_create("bitmap.qcow2", SIZE)
    lib.run("qemu-img", "bitmap", "--add", "bitmap.qcow2", BITMAP_NAME)
    ask_qemu()


# --- header fields ------------------------------------------------------------

def header(field, says, *values, base="v3", others=None):
    for value in values:
        add(f"{field}={value:#x}", lambda b, v=value: b.set(field, v), says,
            base, value, others=others)


header("magic", "qcow2", 0, 0x51464900, 0xfb494651)
header("version", "version", 0, 1, 2, 3, 4, ALL_ONES)
header("version", "version", 2, 3, base="v2", others="header_length 0 ")
for sample in ("v3", "named"):
    header("backing_file_offset", "backing.file.(offset|name)", 0, 1, 103, 104,
           CLUSTER - 1, CLUSTER, CLUSTER + 1, FAR, 1 << 63, base=sample)
header("backing_file_size", "backing.file.(size|name)", 0, 1, 1023, 1024,
       ALL_ONES, base="named")
# Tables do not lie at clusters of another size, and cover less or more.
header("cluster_bits", "cluster_bits", 0, 8, 9, 15, 17, 21, 22, 30, 31, 32, 63,
       64, ALL_ONES, others="L1 table|table.offset|header_length")
header("cluster_bits", "cluster_bits", 9, 13, 14, 21, 22, base="extl2",
       others="L1 table|table.offset|header_length")
header("size", "bytes|size", 0, 1, 511, 512, 513, SIZE - 1, 1 << 29,
       (1 << 29) + 1, 1 << 34, 1 << 40, 1 << 61, 1 << 62, (1 << 63) - 513,
       (1 << 63) - 512, (1 << 63) - 1, 1 << 63, (1 << 64) - 512,
       (1 << 64) - 1)
header("size", "bytes|size", 1 << 28, (1 << 28) + 1, base="extl2")
header("crypt_method", "encryption method", 1, 2, 3, ALL_ONES,
       others="uses (AES|LUKS) encryption")
header("l1_size", "L1", 0, 1, 2, CLUSTER // 8, (32 * MIB >> 3),
       (32 * MIB >> 3) + 1, 1 << 31, ALL_ONES)
header("l1_size", "L1", 30, 31, 32, 33, base="small")
header("l1_table_offset", "L1", 0, 1, 0x30200, FAR, 1 << 56, 1 << 62,
       (1 << 63) - CLUSTER, 1 << 63, (1 << 64) - CLUSTER)
header("refcount_table_offset", "refcount|reference", 0, 1, 0x10200, FAR,
       1 << 56, (1 << 63) - CLUSTER, 1 << 63, (1 << 64) - CLUSTER)
header("refcount_table_clusters", "refcount|reference", 0, 1, 2, 127,
       8 * MIB // CLUSTER, 8 * MIB // CLUSTER + 1, 1 << 31, ALL_ONES)
header("nb_snapshots", "snapshot", 1, 1000, 65536, 65537, 1 << 31, ALL_ONES,
       others="snapshot table entry")
header("nb_snapshots", "snapshot", 0, 1, 2, 65536, 65537, base="snapped")
header("snapshots_offset", "snapshot", 0, 1, 0x70200, FAR, 1 << 56,
       (1 << 63) - CLUSTER, 1 << 63, base="snapped")
header("incompatible_features", "unknown incompatible feature",
       *(1 << n for n in (0, 1, 2, 3, 4, 5, 6, 31, 32, 63)),
       others="dirty bit|image is corrupt|'data-file' is required|"
       "compression type incompatible feature bit")
header("incompatible_features", "feature", 0, 8, 16, 8 | 16, base="zstd",
       others="compression type incompatible feature bit")
header("incompatible_features", "feature", 0, 4, 4 | 16, 4 | 32, base="data",
       others="'data-file' can only be set|unknown incompatible feature: 20")
header("compatible_features", "feature", 1, 2, 1 << 40, 1 << 63)
header("autoclear_features", "feature", 1, 2, 3, 1 << 40, 1 << 63,
       others="data-file-raw requires a data file")
header("autoclear_features", "feature", 1, 2, 3, base="data")
header("autoclear_features", "feature", 0, 1, 2, base="bitmap",
       others="data-file-raw requires a data file")
header("refcount_order", "refcount_order", 0, 1, 2, 3, 4, 5, 6, 7, 8, 32, 64,
       ALL_ONES)
header("header_length", "header_length", 0, 72, 100, 103, 104, 105, 108, 111,
       112, 113, 120, 512, CLUSTER - 8, CLUSTER - 7, CLUSTER, CLUSTER + 1,
       ALL_ONES, others="header extension")
header("header_length", "header_length", 112, 504, 512, 513, base="small")
header("compression_type", "compression type", 0, 1, 2, 255)
header("compression_type", "compression type", 0, 1, 2, 255, base="zstd")


def cut(length):
    add(f"cut to {length} bytes", lambda b: b.data.__delitem__(
        slice(length, None)), "header|qcow2|cluster_bits|table")


for size in (0, 3, 4, 8, 71, 72, 103, 104, 105, 112, 512, CLUSTER,
             2 * CLUSTER, 3 * CLUSTER):
    cut(size)

add("as it is", lambda b: None, "encrypt", "luks")
add("as it is", lambda b: None, "encrypt", "aes")
for sample in ("v2", "v3", "snapped", "named", "extl2", "zstd", "bitmap",
               "data", "small"):
    add("as it is", lambda b: None, "", sample)
add("without its data file", lambda b: None, "data.file", "data", data=False)
add("with a data file", lambda b: None, "data.file", data=True)


# --- extensions -----------------------------------------------------------------

def extension(magic, payload, says, length=None, base="v3", features=0,
              others=None):
    """Appended to those there are; length if it is not the payload's."""
    def mutate(b):
        if features:
            b.set("autoclear_features", features)
        b.add_extension(magic, payload, length)
    said = len(payload) if length is None else length
    add(f"extension {magic:#x} of {said} bytes" +
        (f", autoclear {features}" if features else ""), mutate, says, base,
        said, others=others)


def first_extension(magic, payload, says, length, base="v3"):
    """In the place of those there are."""
    def mutate(b):
        b.put(b.get("header_length") if b.get("version") > 2 else 72,
              struct.pack(">II", magic, length) + payload +
              bytes(-len(payload) % 8 + 8))
    add(f"only extension {magic:#x} of {length} bytes", mutate, says, base,
        length)


for size in (0, 1, 7, 8, 100, 65000, 66000, 0x7fffffff, 0xfffffff8,
             0xfffffffc, ALL_ONES):
    extension(0x12345678, b"", "extension 0x12345678", size)
for size in (CLUSTER - 112 - 16, CLUSTER - 112 - 8, CLUSTER - 112 - 7,
             CLUSTER - 112):
    first_extension(0x12345678, b"", "extension 0x12345678", size)
for size in (512 - 112 - 8, 512 - 112 - 7, 512 - 112):
    first_extension(0x12345678, b"", "extension 0x12345678", size, "small")
for size in (0, 1, 14, 15, 16, 17, 64):
    first_extension(BACKING_FORMAT, b"x" * size, "format", size, "named")
    first_extension(BACKING_FORMAT, b"x" * size, "format", size, "v2")
for size in (0, 1, 47, 48, 49, 96, 100):
    first_extension(FEATURES, b"\0\5unusual".ljust(size, b"\0")[:size],
                    "feature", size)
for size in (0, 8, 15, 16, 17):
    extension(CRYPTO, bytes(size), "crypto",
              others="crypto header extension with encryption method 0")
for size in (0, 1, 23, 25, 32):
    extension(BITMAPS, bytes(size), "bitmap")
    extension(BITMAPS, bytes(size), "bitmap", features=1)
for size in (1, 1023, 1024, 4095, 4096, 5000):
    first_extension(DATA_NAME, b"n" * size, "data.file", size, "data")
for size in (0, 1, 4095, 4096):
    extension(DATA_NAME, b"n" * size, "data.file")


def bitmaps_at(b):
    """Offset of the payload of the bitmaps extension."""
    at = b.get("header_length")
    while b.u64(at) >> 32 != BITMAPS:
        at += 8 + ((b.u64(at) & ALL_ONES) + 7) // 8 * 8
    return at + 8


def set_number(b, at, length, value):
    b.put(at, (value % (1 << 8 * length)).to_bytes(length, "big"))


def bitmaps(field, at, length, *values):
    """Fields of the extension, where it counts and where it does not."""
    for value in values:
        for bit in (1, 0):
            def mutate(b, value=value, bit=bit):
                b.set("autoclear_features", bit)
                set_number(b, bitmaps_at(b) + at, length, value)
            add(f"{field}={value:#x}, autoclear {bit}", mutate,
                f"{field}|directory of", "bitmap", value,
                others="there are more in the directory|entry 0 does not fit")


# A directory entry of 24 bytes, and the name
DIRECTORY = 24 + 8
bitmaps("nb_bitmaps", 0, 4, 0, 2, 65535, 65536, ALL_ONES)
bitmaps("reserved", 4, 4, 1, ALL_ONES)
bitmaps("bitmap_directory_size", 8, 8, 0, 1, DIRECTORY - 8, DIRECTORY + 8,
        1024 * 65535, 1024 * 65535 + 1, 1 << 63)
bitmaps("bitmap_directory_offset", 16, 8, 0, 1, CLUSTER + 512, FAR, 1 << 56,
        1 << 63)


def directory(field, at, length, *values, says=None):
    for value in values:
        add(f"bitmap {field}={value:#x}",
            lambda b, v=value: set_number(
                b, b.u64(bitmaps_at(b) + 16) + at, length, v),
            says or field, "bitmap", value,
            others="entry 0 does not fit|size of the bitmap")


directory("bitmap_table_offset", 0, 8, 0, 1, CLUSTER + 512, FAR, 1 << 56,
          1 << 63)
directory("bitmap_table_size", 8, 4, 0, 2, 0x8000000, 0x8000001, ALL_ONES,
          says="bitmap")
directory("flags", 12, 4, 0, 1, 3, 4, 1 << 31)
directory("type", 16, 1, 0, 2, 255)
directory("granularity_bits", 17, 1, 0, 8, 9, 31, 32, 255)
directory("name_size", 18, 2, 0, 1, 3, 5, 1023, 1024, 65535)
directory("extra_data_size", 20, 4, 1, 4, 8, 1 << 31)


def table_entry(*values):
    for value in values:
        add(f"bitmap table entry {value:#x}",
            lambda b, v=value: b.put64(
                b.u64(b.u64(bitmaps_at(b) + 16)), v),
            "bitmap", "bitmap", value)


table_entry(0, 1, 2, 0x200, 1 << 56, 1 << 63, CLUSTER, CLUSTER | 1,
            CLUSTER + 512, FAR)


# --- snapshot table -------------------------------------------------------------

def snapshot(field, at, length, *values, says=None):
    for value in values:
        add(f"snapshot {field}={value:#x}",
            lambda b, v=value: set_number(
                b, b.get("snapshots_offset") + at, length, v),
            says or field, "snapped", value)


snapshot("l1_table_offset", 0, 8, 0, 1, FAR, 1 << 63)
snapshot("l1_size", 8, 4, 0, 2, (32 * MIB >> 3) + 1, ALL_ONES)
snapshot("id_size", 12, 2, 0, 2, 65535)
snapshot("name_size", 14, 2, 0, 2, 65535)
snapshot("extra_data_size", SNAPSHOT_EXTRA, 4, 0, 8, 16, 1024, 1025, 1 << 31,
         ALL_ONES)


# --- what QEMU and qblk do not agree on -----------------------------------------

# name: (what qblk does for reading and writing, why)
DEVIATIONS = {}


def deviate(ours, why, *names):
    DEVIATIONS.update({name: (ours, why) for name in names})


deviate("refused refused", "what stands after a NUL byte of a name is lost to "
        "whoever opens the file",
        *(f"named: backing_file_offset={n:#x}" for n in (1, 103, 104)),
        "named: backing_file_size=0x3ff")
deviate("refused refused", "an L1 table that is not in the file would make a "
        "disk of zeroes of an image that was cut off",
        *(f"v3: l1_table_offset={n:#x}" for n in (FAR, 1 << 56, 1 << 62)),
        *(f"v3: cut to {n} bytes" for n in (104, 105, 112, 512, CLUSTER,
                                            2 * CLUSTER, 3 * CLUSTER)))
deviate("refused refused", "the header is there",
        "v3: l1_table_offset=0x0", "v3: refcount_table_offset=0x0")
deviate("opened refused", "without refcounts there is nothing to allocate",
        f"v3: refcount_table_offset={FAR:#x}")
deviate("refused refused", "no offset has more than 56 bits",
        f"v3: refcount_table_offset={1 << 56:#x}",
        f"snapped: snapshots_offset={1 << 56:#x}")
deviate("refused refused", "the kernel opens no file by its name",
        "data: without its data file")
deviate("refused refused", "no path is longer than 4095 bytes",
        *(f"data: only extension {DATA_NAME:#x} of {n} bytes"
          for n in (4096, 5000)),
        f"v3: extension {DATA_NAME:#x} of 4096 bytes")


# --- asking ---------------------------------------------------------------------

def mutated(case, samples):
    content = qcow2.Bytes(samples[case.base])
    case.mutate(content)
    return content.data


def read_samples(directory):
    out = {}
    for case in CASES:
        if case.base not in out:
            with open(os.path.join(directory, f"{case.base}.qcow2"),
                      "rb") as f:
                out[case.base] = f.read()
    return out


def leaf(name):
    return {"driver": "file", "filename": name}


def commands(number, read_only):
    graph = {"driver": "qcow2", "backing": None,
             "cache": {"no-flush": True}, "file": leaf(f"{number}.case")}
    if CASES[number].data:
        graph["data-file"] = leaf(DATA_FILE)
    text = json.dumps(graph, separators=(",", ":"))
    return [f"open {'-r ' if read_only else ''}json:{text}", "close"]


def qemu_says(read_only):
    """For each case what QEMU refuses it with, or nothing.

    One process opens all images, its prompt parts what it says of each.
    """
    lines = [x for n in range(len(CASES)) for x in commands(n, read_only)]
    done = subprocess.run(
        ["stdbuf", "-o0", "qemu-io"], input="\n".join(lines) + "\n", text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    said = done.stdout.split("qemu-io> ")[1:]
    check(len(said) == len(lines) + 1,
          f"{len(said)} answers of QEMU to {len(lines)} commands")
    return [text.strip() if "can't open" in text else ""
            for text in said[:-1:2]]


def ask_qemu():
    """On the host: verdicts.json has what QEMU says of each case."""
    samples = read_samples(".")
    for number, case in enumerate(CASES):
        lib.write_sparse(f"{number}.case", mutated(case, samples))
    verdicts = {case.name: said for case, *said in zip(
        CASES, qemu_says(True), qemu_says(False))}
    for number in range(len(CASES)):
        os.unlink(f"{number}.case")
    lib.write_file("verdicts.json", json.dumps(verdicts))


def named(case, text):
    """Does a sentence name the field and its value?"""
    if case.others and re.search(case.others, text, re.I):
        return True
    if not re.search(case.says, text, re.I):
        return False
    return case.value is None or any(
        re.search(rf"(?<![0-9a-fx]){word}(?![0-9a-f])", text)
        for word in (str(case.value), f"{case.value:#x}", f"{case.value:x}",
                     f"0x{case.value:08x}"))


def attach_once(control, case, read_only):
    """Returns the sentence of the refusal, or nothing."""
    mode = os.O_RDONLY if read_only else os.O_RDWR
    fds = [os.open(lib.scratch(name), mode)
           for name in ["case.qcow2"] + [DATA_FILE] * case.data]
    try:
        dev = control.attach(fds[0], read_only,
                             data=fds[1] if case.data else None)
    except Refused as e:
        return e.text or "nothing"
    finally:
        for fd in fds:
            os.close(fd)
    try:
        control.detach(dev)
    except Refused:
        control.detach(dev, FORCE)
    return ""


def words(said):
    return " ".join("refused" if text else "opened" for text in said)


def judge(case, ours, qemus):
    """What is wrong with qblk's answers, given QEMU's; or nothing."""
    wanted, _ = DEVIATIONS.get(case.name, (words(qemus), ""))
    if case.name in DEVIATIONS and wanted == words(qemus):
        return "QEMU does the same, so it is no deviation"
    if words(ours) != wanted:
        return f"{words(ours)} ({ours}), expected {wanted} ({qemus})"
    for text in filter(None, ours):
        if not named(case, text):
            return f"does not name /{case.says}/ and {case.value}: {text}"
    return ""


def test_fields():
    verdicts = json.loads(lib.read_file(lib.fixture_path("verdicts.json")))
    samples = read_samples(lib.fixture_path(""))
    lib.fixture(DATA_FILE)
    control = Control()
    wrong, refused = [], 0
    for case in CASES:
        data = mutated(case, samples)
        ours = []
        for read_only in (True, False):
            lib.write_sparse(lib.scratch("case.qcow2"), data)
            ours.append(attach_once(control, case, read_only))
        text = judge(case, ours, verdicts[case.name])
        refused += bool(ours[1])
        if text:
            wrong.append(f"{case.name}: {text}")
    lib.note(f"{len(CASES)} images, {refused} refused, "
             f"{len(DEVIATIONS)} unlike QEMU")
    check(not wrong, "\n  ".join([f"{len(wrong)} wrong", *wrong]))
    check(not set(DEVIATIONS) - {c.name for c in CASES},
          "a deviation is of no case")


def test_nothing_left():
    check(not lib.disks(), f"left: {lib.disks()}")
    check(not Control().nodes(), "nodes are left")
