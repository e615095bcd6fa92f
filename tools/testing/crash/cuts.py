# SPDX-License-Identifier: GPL-2.0
"""Makes the disk of each cut out of a log, and has QEMU look at it."""

import json
import os
import random
import shutil
import subprocess
import zlib
from collections import Counter
from dataclasses import dataclass, field

import lib
import qcow2
from history import Found, History
from replay import GARBAGE, Log
from scenario import (AGAIN, BLOCK, IMAGE, LOG, REFCOUNTS, SECTOR, SLOT, TABLES,
                      WRITES, content, node)


class Slice:
    """A part of a file, as a file."""

    def __init__(self, path, offset, size):
        self.f = open(path, "rb")   # pylint: disable=consider-using-with
        self.offset = offset
        self.size = size

    def seek(self, at):
        self.f.seek(self.offset + at)

    def read(self, length):
        return self.f.read(length)


@dataclass
class Work:
    """One scenario of a run, as its processes need it."""
    scenario: object
    slot: int
    directory: str
    seed: int

    def file(self, ext):
        return os.path.join(self.directory, f"{self.scenario.name}.{ext}")

    def shared(self, name):
        return os.path.join(self.directory, name)


@dataclass
class Result:
    cuts: Counter = field(default_factory=Counter)   # kind -> how many
    stale: list = field(default_factory=list)
    saved: list = field(default_factory=list)


@dataclass
class Saved:
    """A cut that the kernel is to attach."""
    scenario: object
    slot: int
    point: int
    dirty: bool
    packed: bytes           # what QEMU reads there, compressed


# --- QEMU -----------------------------------------------------------------------

def complaint(done):
    """What a command said, without the options that name the image."""
    lines = (done.stdout + done.stderr).splitlines()
    return f"exit {done.returncode}: " + " / ".join(
        x.split("json:", 1)[0] for x in lines[:4])


def qemu_img(*argv):
    return subprocess.run(["qemu-img", *argv], capture_output=True, text=True,
                          check=False)


class Qemu:
    """QEMU's opinion of an image in a slot of a file."""

    def __init__(self, scenario, directory, scratch):
        self.scenario = scenario
        self.directory = directory
        self.scratch = scratch

    def name(self, path, offset):
        return node(self.scenario, path, self.directory, offset)

    def read(self, path, offset, *options):
        out = self.scratch + ".raw"
        done = qemu_img("convert", "-U", *options, "-O", "raw",
                        self.name(path, offset), out)
        if done.returncode:
            raise Found(f"qemu-img convert: {complaint(done)}")
        with open(out, "rb") as f:
            return f.read()

    def read_snapshot(self, path, offset):
        return self.read(path, offset, "-l", "snapshot.name=before")

    def check(self, path, offset, leaks=True):
        done = qemu_img("check", "-U", self.name(path, offset))
        if done.returncode not in ((0, 3) if leaks else (0,)):
            raise Found(f"qemu-img check: {complaint(done)}")

    def repair(self, path, offset):
        """Rebuilds refcounts in a copy of the slot; returns what is in it."""
        copy = self.scratch + ".repair"
        copy_slot(path, offset, copy)
        done = qemu_img("check", "-r", "all", self.name(copy, 0))
        if done.returncode:
            raise Found(f"qemu-img check -r all: {complaint(done)}")
        self.check(copy, 0, leaks=False)
        return self.read(copy, 0)


def copy_slot(source, offset, target, to=None):
    """Into a new file, or into a slot of one that has only zeroes there."""
    with open(source, "rb") as src, \
         open(target, "wb" if to is None else "r+b") as dst:
        src.seek(offset)
        for at in range(0, SLOT, 65536):
            data = src.read(65536)
            if data.count(0) != len(data):
                dst.seek((to or 0) + at)
                dst.write(data)
        if to is None:
            dst.truncate(SLOT)


def is_dirty(path):
    """Are refcounts to be rebuilt?"""
    with open(path, "rb") as f:
        head = qcow2.Bytes(f.read(112))
    return bool(head.get("version") > 2 and
                head.get("incompatible_features") & 1)


def look(qemu, path, first):
    """Raises Found, or returns what the disk holds.

    first: what it held in the beginning, and a snapshot holds now
    """
    data = qemu.read(path, 0)
    if qemu.scenario.lazy and is_dirty(path):
        if qemu.repair(path, 0) != data:
            raise Found("other content after the repair")
    else:
        qemu.check(path, 0)
    if qemu.scenario.start == "snapshot" and \
            qemu.read_snapshot(path, 0) != first:
        raise Found("the snapshot has changed")
    return data


# --- the disk at a cut ------------------------------------------------------------

class Disk:
    """A scratch copy of the slot, at some point of the log."""

    def __init__(self, work, scratch):
        self.path = scratch
        self.qemu = Qemu(work.scenario, work.directory, scratch)
        self.scenario = work.scenario
        copy_slot(work.file("before"), 0, scratch)
        self.f = open(scratch, "r+b", buffering=0)  # pylint: disable=R1732
        self.undo = None

    def close(self):
        self.f.close()
        for ext in ("", ".raw", ".repair"):
            if os.path.exists(self.path + ext):
                os.unlink(self.path + ext)

    # Written through by replay.Log.apply()
    def seek(self, offset):
        self.f.seek(offset)

    def write(self, data):
        if self.undo is not None:
            at = self.f.tell()
            self.undo.append((at, self.f.read(len(data))))
            self.f.seek(at)
        return self.f.write(data)

    def begin(self):
        self.undo = []

    def rollback(self):
        for at, data in reversed(self.undo):
            self.f.seek(at)
            self.f.write(data)
        self.undo = None

    def data_file(self):
        self.f.seek(IMAGE)
        return self.f.read(self.scenario.size)

    def check(self, history):
        """Raises Found, or returns blocks that show what was never there."""
        stale = history.check(look(self.qemu, self.path, history.before))
        if self.scenario.data_file == "raw":
            stale += history.check(self.data_file())
        return stale


class Damage:
    """Chooses what of a window, the writes since a flush, got to the disk."""

    def __init__(self, rng, tables, refblocks, cluster):
        self.rng = rng
        self.tables = tables
        self.refblocks = refblocks
        self.cluster = cluster

    def kind(self, entry):
        start = entry.offset - entry.offset % self.cluster
        if start in self.tables:
            return "table"
        return "refcount" if start in self.refblocks else "other"

    def choose(self, window):
        """Some of the entries; what is FUA is there in any case."""
        movable = [e for e in window if e.length and not e.is_fua]
        chosen = self.pick(movable) if movable else set()
        return [e for e in window if e.is_fua or e.index in chosen]

    def pick(self, movable):
        rng = self.rng
        indexes = [e.index for e in movable]
        way = rng.randrange(8)
        if way < 3:
            share = rng.choice((0.2, 0.5, 0.8))
            return {i for i in indexes if rng.random() < share}
        if way == 3:
            return set(indexes) - {rng.choice(indexes)}
        if way == 4:
            return {rng.choice(indexes)}
        if way == 5:        # the newest without the oldest
            oldest = rng.choice(indexes)
            return {i for i in indexes if i >= oldest}
        kinds = {e.index: self.kind(e) for e in movable}
        kind = rng.choice(sorted(set(kinds.values())))
        return {i for i in indexes if (kinds[i] == kind) == (way == 6)}

    def sectors(self, count):
        """Which sectors of a write arrived: some, the first, the last."""
        rng = self.rng
        way = rng.randrange(3)
        if way == 0:
            return [n for n in range(count) if rng.random() < 0.5]
        cut = rng.randrange(1, count)
        return range(cut) if way == 1 else range(cut, count)

    def tear(self, window):
        """{index: sectors} for writes that arrived in part."""
        able = [e for e in window if e.length > SECTOR and not e.is_fua]
        some = [e for e in able if self.rng.random() < 0.4]
        if able and not some:
            some = [self.rng.choice(able)]
        return {e.index: self.sectors(e.length // SECTOR) for e in some}


class Replayer:
    def __init__(self, work):
        self.work = work
        self.scenario = work.scenario
        log = Slice(work.shared("log"), work.slot * LOG, LOG)
        self.log = Log(log)
        self.entries = self.log.entries()
        with open(work.file("json"), encoding="utf-8") as f:
            record = json.load(f)
        with open(work.file("initial"), "rb") as f:
            self.history = History(f.read(), record["versions"])
        self.marks = self.find_marks(record["marks"])
        self.next = 0
        self.tables, self.refblocks = self.metadata()

    def find_marks(self, marks):
        at = {e.mark: e.index for e in self.entries if e.is_mark}
        for name, _ in marks:
            if name not in at:
                raise Found(f"mark {name} is not in the log")
        return [(at[name], {int(b): v for b, v in changed.items()})
                for name, changed in marks]

    def rewind(self):
        self.history.rewind()
        self.next = 0

    def advance(self, index):
        """Takes in the marks in front of entry index."""
        while self.next < len(self.marks) and self.marks[self.next][0] < index:
            self.history.settle(self.marks[self.next][1])
            self.next += 1

    def metadata(self):
        """Where L2 tables and refcount blocks are, before and after."""
        tables, refblocks = set(), set()
        for path, offset in ((self.work.file("before"), 0),
                             (self.work.shared("data"), self.work.slot * SLOT)):
            f = Slice(path, offset, SLOT)
            reader = qcow2.Reader(f)
            tables |= {e & qcow2.OFFSET_MASK for e in reader.l1}
            refblocks |= set(reader.refblocks())
        return tables - {0}, refblocks

    def disk(self, name):
        self.rewind()
        return Disk(self.work, os.path.join(scratch_directory(
            self.work.directory), f"{self.scenario.name}.{name}"))

    # --- cuts -------------------------------------------------------------------

    def in_flight(self):
        """Indexes behind which something is not stable."""
        out, any_left = [], False
        for entry in self.entries:
            if entry.is_flush:
                any_left = False
            any_left |= bool(entry.length) and not entry.is_fua
            if any_left:
                out.append(entry.index + 1)
        return out

    def points(self, count):
        """Indexes to cut at: some behind marks, most with something to lose."""
        rng = random.Random(f"{self.work.seed}/{self.scenario.name}")
        last = len(self.entries)
        marks = [i + 1 for i, _ in self.marks]
        some = set(rng.sample(marks, min(len(marks), count // 6)))
        some |= {last}
        for rest in (self.in_flight(), range(last)):
            left = [i for i in rest if i not in some]
            some |= set(rng.sample(left, max(0, min(len(left),
                                                    count - len(some)))))
        return sorted(some)

    def window(self, disk, done, point):
        """Makes all stable that is; returns (up to where, the rest)."""
        window = []
        for entry in self.entries[done:point]:
            if entry.is_flush:
                for e in window:
                    self.log.apply(e, disk)
                done = entry.index
                window = []
            window.append(entry)
        return done, window

    def apply(self, disk, entries, torn):
        for entry in entries:
            if entry.index not in torn:
                self.log.apply(entry, disk)
                continue
            data = self.log.data(entry)
            for n in torn[entry.index]:
                part = data[n * SECTOR:(n + 1) * SECTOR]
                disk.seek(entry.offset + n * SECTOR)
                disk.write(part or GARBAGE[:SECTOR])

    def cut(self, disk, point, window, result, wanted):
        """All that can happen at one point."""
        rng = random.Random(f"{self.work.seed}/{self.scenario.name}/{point}")
        damage = Damage(rng, self.tables, self.refblocks, self.scenario.cluster)
        for kind in ("subset", "torn", "prefix"):
            chosen = window if kind == "prefix" else damage.choose(window)
            torn = damage.tear(window) if kind == "torn" else {}
            if kind == "torn":
                chosen = [e for e in window if e in chosen or e.index in torn]
            if kind != "prefix" and not (torn if kind == "torn" else
                                         any(e.length for e in window)):
                continue
            disk.begin()
            self.apply(disk, chosen, torn)
            self.judge(disk, result, f"cut {point} of {len(self.entries)}, "
                       f"{kind}")
            if wanted and kind != "prefix":
                self.save(disk, result, wanted.pop(), point)
            disk.rollback()
            result.cuts[kind] += 1

    def judge(self, disk, result, where):
        try:
            stale = disk.check(self.history)
            if stale:
                result.stale.append(f"{where}: {stale[0]}")
        except Found as e:
            copy_slot(disk.path, 0, self.work.file("failed"))
            raise Found(f"{where}: {e}") from None

    def save(self, disk, result, slot, point):
        """For the kernel to attach."""
        copy_slot(disk.path, 0, self.work.shared("cuts"), slot * SLOT)
        result.saved.append(Saved(self.scenario, slot, point,
                                  is_dirty(disk.path), zlib.compress(
                                      disk.qemu.read(disk.path, 0), 1)))

    def replay(self, points, slots):
        """slots: of the file of kept cuts, to be filled."""
        result = Result()
        disk = self.disk(f"scratch{points[0]}")
        rng = random.Random(f"{self.work.seed}/{points[0]}")
        some = sorted(set(points) & set(self.in_flight()))
        kept = set(rng.sample(some, min(len(some), len(slots))))
        slots = list(slots)
        done = 0
        try:
            for point in points:
                done, window = self.window(disk, done, point)
                self.advance(point)
                self.cut(disk, point, window, result,
                         slots if point in kept else None)
        finally:
            disk.close()
        return result

    # --- can it fail? -----------------------------------------------------------

    def must_find(self, what):
        """Replays all but some writes; some point has to be wrong."""
        drop = self.dropped(what)
        disk = self.disk("control-" + what.replace(" ", "-"))
        left = 0
        try:
            for entry in self.entries:
                if drop(entry):
                    left += 1
                else:
                    self.log.apply(entry, disk)
                if self.next < len(self.marks) and \
                        self.marks[self.next][0] == entry.index:
                    self.advance(entry.index + 1)
                    if left and self.next % 5 == 0:
                        disk.check(self.history)
            disk.check(self.history)
        except Found:
            return
        finally:
            disk.close()
        raise Found(f"{what} went unnoticed ({left} writes left out)")

    def dropped(self, what):
        def start(entry):
            return entry.offset - entry.offset % self.scenario.cluster
        # One write in twenty never arrives, though flushed.
        rng = random.Random(1)
        return {
            REFCOUNTS: lambda e: e.is_write and start(e) in self.refblocks,
            WRITES: lambda e: e.is_write and rng.random() < 0.05,
            TABLES: lambda e: e.is_write and start(e) in self.tables,
        }[what]

    def final(self):
        """After a clean detach: no leaks, and exactly the last versions."""
        path, offset = self.work.shared("data"), self.work.slot * SLOT
        qemu = Qemu(self.scenario, self.work.directory, self.work.file("final"))
        qemu.check(path, offset, leaks=False)
        self.rewind()
        self.advance(len(self.entries))
        self.history.check_final(qemu.read(path, offset))
        os.unlink(self.work.file("final.raw"))


def scratch_directory(directory):
    """In memory, where there is enough of it: flushes are of no interest."""
    if shutil.disk_usage("/dev/shm").free > 2 << 30:
        path = f"/dev/shm/qblk-{os.path.basename(directory)}"
        os.makedirs(path, exist_ok=True)
        return path
    return directory


# --- jobs: they run in processes of their own ---------------------------------------

def plan(work, count):
    """Cuts one scenario's points into jobs of a few seconds."""
    replayer = Replayer(work)
    replayer.final()
    points = replayer.points(count)
    size = max(20, len(points) // 8)
    chunks = [points[i:i + size] for i in range(0, len(points), size)]
    return len(replayer.entries), chunks


def verify(saved, directory, report):
    """What the kernel left of a cut that it attached and wrote to."""
    path, offset = os.path.join(directory, "cuts"), saved.slot * SLOT
    where = f"cut {saved.point}, attached again"
    if report["error"]:
        raise Found(f"{where}: {report['error']}")
    before = bytearray(zlib.decompress(saved.packed))
    if report["crc"] != zlib.crc32(before):
        raise Found(f"{where}: the kernel reads other data than QEMU")
    for block in report["blocks"]:
        before[block * BLOCK:(block + 1) * BLOCK] = content(block, AGAIN)
    scratch = os.path.join(scratch_directory(directory), f"saved{saved.slot}")
    qemu = Qemu(saved.scenario, directory, scratch)
    try:
        # What was rebuilt has no leaks.
        qemu.check(path, offset, leaks=not saved.dirty)
        if qemu.read(path, offset) != before:
            raise Found(f"{where}: other data afterwards")
    except Found as e:
        raise Found(f"{where}: {e}") from None
    finally:
        if os.path.exists(scratch + ".raw"):
            os.unlink(scratch + ".raw")


def replay(work, points, slots):
    return Replayer(work).replay(points, slots)


def control(work, what):
    Replayer(work).must_find(what)
