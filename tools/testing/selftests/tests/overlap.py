# SPDX-License-Identifier: GPL-2.0
# about: writes that would destroy metadata: refused where QEMU refuses them
# kernels: either
# cost: 30
# timeout: 200
"""Images whose refcounts call metadata free, as in QEMU's iotest 060.

The cluster is the first one that looks free, so the next allocation takes it.
What QEMU does to each image is found out in fixtures().
"""

import errno
import json
import struct

import genl
import lib
import qcow2
from lib import KIB, MIB, check
from qcow2 import COPIED, OFFSET_MASK

SIZE = 8 * MIB
CLUSTER = 64 * KIB
# More than the kernel's rate limit lets through at once
MANY = 12
# Guest clusters: one with data in every image, one without
DATA, HOLE = 0, 20
EXT_BITMAPS = 0x23852875


def bitmap_directory(b):
    """Offset of the directory of the persistent bitmaps."""
    payload = dict(b.extensions())[EXT_BITMAPS]
    return struct.unpack_from(">Q", payload, 16)[0]


# name: where it is, what the sentence calls it
TABLES = {
    "header": (lambda b: 0, "qcow2_header"),
    "active-l1": (lambda b: b.l1, "active L1 table"),
    "active-l2": (lambda b: b.l2(), "active L2 table"),
    "refcount-table": (lambda b: b.reftable, "refcount table"),
    "refcount-block": (lambda b: b.refblock(), "refcount block"),
    "snapshot-table": (lambda b: b.get("snapshots_offset"), "snapshot table"),
    "inactive-l1": (lambda b: b.u64(b.get("snapshots_offset")),
                    "inactive L1 table"),
    "inactive-l2": (lambda b: b.u64(b.u64(b.get("snapshots_offset"))) &
                    OFFSET_MASK, "inactive L2 table"),
    "bitmap-directory": (bitmap_directory, "bitmap directory"),
}


def free_in_refcounts(b, table):
    """Only this cluster looks free below the end of the file."""
    offset = TABLES[table][0](b)
    b.put(b.refblock() + 2 * (offset // CLUSTER), bytes(2))


def data_on_table(b, table):
    """A guest cluster is mapped to the table, to be overwritten in place."""
    b.set_l2_entry(DATA, TABLES[table][0](b) | COPIED)


# (table, what is done to it, options)
CASES = [(t, "free", o) for t in TABLES for o in ("", "all")]
CASES += [(t, "mapped", o) for t in TABLES if t != "header"
          for o in ("", "all")]
CASES += [("snapshot-table", "free", "snapshot-table=off"),
          ("inactive-l1", "free", "inactive-l1=off"),
          ("inactive-l2", "free", "inactive-l2=on"),
          ("bitmap-directory", "free", "bitmap-directory=off"),
          ("bitmap-directory", "mapped", "constant"),
          ("inactive-l1", "free", "constant"),
          ("inactive-l1", "mapped", "constant"),
          ("snapshot-table", "mapped", "constant"),
          ("snapshot-table", "mapped", "none"),
          ("refcount-block", "mapped", "constant"),
          ("active-l2", "mapped", "constant")]


def base_of(case):
    return "bitmap" if case[0] == "bitmap-directory" else "base"


def read_bases(directory):
    out = {}
    for name in ("base", "bitmap"):
        with open(f"{directory}/{name}.qcow2", "rb") as f:
            out[name] = f.read()
    return out


def mutated(bases, case):
    content = qcow2.Bytes(bases[base_of(case)])
    table, how, _ = case
    {"free": free_in_refcounts, "mapped": data_on_table}[how](content, table)
    return content.data


def graph(image, case):
    option = case[2]
    if option:
        key = "overlap-check" + ("." if "=" in option else "=")
        option = f",{key}{option}"
    return f"driver=qcow2,file.driver=file,file.filename={image}{option}"


def write_at(case):
    return (DATA if case[1] == "mapped" else HOLE) * CLUSTER


def is_corrupt(image):
    with open(image, "rb") as f:
        return bool(qcow2.Bytes(f.read(112)).get("incompatible_features") & 2)


def fixtures():
    lib.img_create("base.qcow2", SIZE)
    lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 0x11 0 256k",
            "base.qcow2")
    lib.run("qemu-img", "snapshot", "-c", "s", "base.qcow2")
    # The L2 table and the first cluster become the disk's own.
    lib.run("qemu-io", "-f", "qcow2", "-c", "write -P 0x22 0 64k",
            "-c", "write -P 0x33 1M 64k", "base.qcow2")
    lib.img_check("base.qcow2")
    lib.run("cp", "base.qcow2", "bitmap.qcow2")
    lib.run("qemu-img", "bitmap", "--add", "bitmap.qcow2", "b")
    bases = read_bases(".")
    verdicts = {}
    for case in CASES:
        lib.write_sparse("case.qcow2", mutated(bases, case))
        done = lib.run("qemu-io", "--image-opts", "-c",
                       f"write -P 0x44 {write_at(case)} 4k",
                       graph("case.qcow2", case), ok=None)
        verdicts[repr(case)] = {
            "refused": "failed" in done.stdout + done.stderr,
            "corrupt": is_corrupt("case.qcow2"),
            "says": done.stdout + done.stderr,
        }
    lib.write_file("verdicts.json", json.dumps(verdicts))


def refuses(dev, at):
    with lib.Disk(dev) as disk:
        try:
            disk.write(at, b"\x44" * 4096)
            disk.flush()
        except OSError as e:
            check(e.errno == errno.EIO, errno.errorcode.get(e.errno))
            return True
    return False


def log_since(mark):
    text = lib.run("dmesg").stdout
    return text[text.rfind(mark):]


def set_mark(name):
    """A line of its own: without its end, dmesg would not show it yet."""
    mark = f"overlap test: {name}"
    lib.write_file("/dev/kmsg", mark + "\n")
    return mark


def expect_refused(image, dev, mark, case):
    """Corrupt, read-only from now on, and it can be removed."""
    says = f"overlaps with {TABLES[case[0]][1]}"
    log = log_since(mark)
    check(says in log, f"no {says!r} in: {log[-600:]}")
    check(is_corrupt(image), "the corrupt bit is not set")
    with lib.Disk(dev) as disk:
        # A cluster of its own that could be overwritten in place
        lib.expect_error(errno.EIO, "a later write", disk.write, MIB,
                         b"\x55" * 4096)
        check(disk.read(MIB, 4096) == b"\x33" * 4096, "reads are wrong")
    lib.detach(dev)
    lib.attach_fails(image, says="corrupt")
    with lib.Attached(image, "-r") as again, \
         lib.Disk(again, readonly=True) as disk:
        check(disk.read(MIB, 4096) == b"\x33" * 4096, "reads are wrong")


def run_case(bases, case, verdict):
    image = lib.scratch("case.qcow2")
    lib.write_sparse(image, mutated(bases, case))
    mark = set_mark(repr(case))
    dev = lib.ctl("attach", "--image-opts", graph(image, case)).stdout.strip()
    refused = refuses(dev, write_at(case))
    check(refused == verdict["refused"],
          f"{'refused' if refused else 'written'}, unlike QEMU: "
          f"{verdict['says']}")
    if refused:
        check(verdict["corrupt"], f"QEMU sets no corrupt bit: {verdict}")
        expect_refused(image, dev, mark, case)
        return
    check(not is_corrupt(image), "written, yet the corrupt bit is set")
    lib.ctl("detach", "--force", dev)


def test_cases():
    verdicts = json.loads(lib.read_file(lib.fixture_path("verdicts.json")))
    bases = read_bases(lib.fixture_path(""))
    wrong = 0
    for case in CASES:
        try:
            run_case(bases, case, verdicts[repr(case)])
        except (lib.Fail, OSError) as e:
            wrong += 1
            lib.note(f"{case}: {e}")
            for dev in lib.disks():
                lib.ctl("detach", "--force", f"/dev/{dev}", ok=None)
    refused = sum(v["refused"] for v in verdicts.values())
    lib.note(f"{len(CASES)} images, QEMU refuses to write to {refused}, "
             f"{wrong} wrong")
    check(not wrong, f"{wrong} of {len(CASES)} wrong")
    check(refused > len(TABLES), "QEMU refuses too little for a test")


def test_log_of_many():
    """Of images that turn out to be broken at the same time, all are named."""
    data = mutated(read_bases(lib.fixture_path("")),
                   ("refcount-block", "mapped", ""))
    mark = set_mark("many")
    devs = []
    for i in range(MANY):
        image = lib.scratch(f"many{i}.qcow2")
        lib.write_sparse(image, data)
        opts = graph(image, ("", "", "")) + f",node-name=many{i}"
        devs.append(lib.ctl("attach", "--image-opts", opts).stdout.strip())
    for dev in devs:
        check(refuses(dev, DATA * CLUSTER), f"{dev}: written")
    log = log_since(mark)
    for i, dev in enumerate(devs):
        check(f"node 'many{i}': image is corrupt" in log,
              f"many{i} is not in the log")
        lib.detach(dev)


class Listener:
    """Hears of images that turn out to be broken."""

    def __init__(self):
        self.spec = genl.Spec()
        self.op = self.spec.ops["image-corrupted-ntf"]["id"]
        self.net = genl.connect(self.spec)
        self.net.join("monitor")
        self.net.sock.settimeout(1)

    def events(self):
        """Those since the last call, as dicts."""
        out = []
        try:
            while True:
                out += [self.fields(m[3]) for m in self.net.receive()
                        if m[3][0] == self.op]
        except TimeoutError:
            return out

    def fields(self, message):
        said = dict(genl.attrs(message[4:]))
        out = {}
        for name, a in self.spec.sets["corruption"].items():
            if a["id"] not in said:
                continue
            value = said[a["id"]]
            out[name] = {"string": lambda v: v.rstrip(b"\0").decode(),
                         "s64": lambda v: struct.unpack("q", v)[0],
                         "flag": lambda v: True}[a["type"]](value)
        return out


def listen_to(data, use, *options):
    """What is heard of while use(disk) goes on with an image."""
    image = lib.scratch("event.qcow2")
    lib.write_sparse(image, data)
    listener = Listener()
    dev = lib.attach(image, "-f", "qcow2", *options)
    nodes = json.loads(lib.ctl("node", "list", "-J").stdout)["nodes"]
    node = next(n["node-name"] for n in nodes if n["driver"] == "qcow2")
    with lib.Disk(dev, "-r" in options) as disk:
        use(disk)
    events = listener.events()
    lib.detach(dev)
    check(not listener.events(), "an event of a disk that is gone")
    for event in events:
        check(event.pop("node", None) == node and
              event.pop("label", None) == image, f"{event} is not of {node}")
    return events


def fails(function, *args):
    lib.expect_error(errno.EIO, function.__name__, function, *args)


def expect_event(events, **wanted):
    check(len(events) == 1, f"{len(events)} events, expected one: {events}")
    text = events[0].pop("text", "")
    check(wanted.pop("says") in text, f"the event says {text!r}")
    check(events[0] == wanted, f"the event has {events[0]}, not {wanted}")


def test_event_of_overlap():
    """A fatal corruption: where it is, and that it is told once."""
    bases = read_bases(lib.fixture_path(""))
    for table in ("refcount-block", "bitmap-directory"):
        case = (table, "mapped", "")
        data = mutated(bases, case)

        def use(disk):
            for _ in range(3):
                fails(disk.write, DATA * CLUSTER, b"\x44" * 4096)
            fails(disk.write, MIB, b"\x44" * 4096)

        offset, name = TABLES[table]
        expect_event(listen_to(data, use), fatal=True,
                     offset=offset(qcow2.Bytes(data)), bytes=4096,
                     says=f"overlaps with {name}")


def test_event_of_bad_entry():
    """What a read finds out is fatal only where it could be written."""
    content = qcow2.Bytes(read_bases(lib.fixture_path(""))["base"])
    bad = content.l2_entry(DATA) + 512
    content.set_l2_entry(DATA, bad)

    def use(disk):
        for _ in range(3):
            fails(disk.read, DATA * CLUSTER, 4096)
        check(disk.read(MIB, 4096) == b"\x33" * 4096, "reads are wrong")

    expect_event(listen_to(content.data, use, "-r"), says=f"{bad:#x}")
    expect_event(listen_to(content.data, use), fatal=True, says=f"{bad:#x}")


def test_no_event():
    """A good image is not complained about."""
    def use(disk):
        disk.write(0, b"\x44" * MIB)
        disk.discard(0, MIB)
        disk.flush()

    events = listen_to(read_bases(lib.fixture_path(""))["bitmap"], use)
    check(not events, f"events of a good image: {events}")


def test_unharmed_with_all():
    """The unbroken image works with every check on."""
    image = lib.fixture("base.qcow2")
    model = lib.Model(SIZE)
    dev = lib.ctl("attach", "--image-opts",
                  graph(image, ("", "", "all"))).stdout.strip()
    with lib.Disk(dev) as disk:
        for pos in range(0, SIZE, MIB):
            model.data[pos:pos + MIB] = disk.read(pos, MIB)
        work = lib.Workload(disk, model, lib.rng("all"))
        work.run(lib.scaled(200, 50))
        work.verify()
    lib.detach(dev)
    check(not is_corrupt(image), "the corrupt bit is set")
    lib.img_check(image)
    lib.run("qemu-img", "snapshot", "-d", "s", image)
    lib.img_check(image)
