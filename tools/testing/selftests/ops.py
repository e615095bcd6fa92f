# SPDX-License-Identifier: GPL-2.0
"""Sequences of operations on a disk and on its model.

A sequence is a list of lists that JSON can hold; it says everything, so that
any part of it can be played again on a fresh copy of the image.  What differs
is shrunk to the few operations that matter.
"""

import errno
import json
import os
import random
import threading
import time

import lib
import matrix_gen
from lib import Fail, KIB, SECTOR, check

LEAVES = (("write", 50), ("write_zero_data", 4), ("read", 18), ("discard", 10),
          ("zero", 6), ("punch", 6), ("zero_range", 5), ("flush", 4))
# Ways to attach; see Player.attach().
WAYS = ("plain", "ignore", "small", "oneq")
POOL = 512 * KIB


# --- making sequences ------------------------------------------------------------

class Maker:
    def __init__(self, kind, seed, salt=""):
        self.rng = random.Random(f"{seed}/{kind.name}/{salt}/ops")
        self.kind = kind
        self.spans = matrix_gen.spans(kind, self.rng)
        self.names = [n for n, _ in LEAVES]
        self.weights = [w for _, w in LEAVES]

    def leaf(self, start=None, length=None):
        name = self.rng.choices(self.names, self.weights)[0]
        if name == "flush":
            return [name]
        if start is None:
            start, length = self.spans()
        if name == "write":
            return [name, start, length, self.rng.randrange(POOL - length + 1)]
        return [name, start, length]

    def parallel(self):
        """Side by side without a gap: what they have in common is clusters."""
        start, _ = self.spans()
        out = []
        for _ in range(self.rng.randrange(3, 9)):
            length = min(max(SECTOR, self.spans.length() // 8 // SECTOR *
                             SECTOR), self.kind.size - start)
            if not length:
                break
            out.append(self.leaf(start, length))
            start += length
        self.rng.shuffle(out)
        return ["parallel", out]

    def qemu(self):
        """What QEMU does to the image while it is detached."""
        out = []
        for _ in range(self.rng.randrange(1, 6)):
            start, length = self.spans()
            verb = self.rng.choice(("write", "write", "write -z",
                                    "write -z -u"))
            out.append([verb, start, length, self.rng.randrange(1, 256)])
        return ["qemu", out]

    def step(self, seldom):
        luck = self.rng.random()
        if luck < 0.08:
            return self.parallel()
        if luck < 0.08 + seldom:
            return ["attach", self.rng.choice(WAYS)]
        if luck < 0.08 + seldom * 1.5:
            return ["readonly"]
        if luck < 0.08 + seldom * 2:
            return self.qemu()
        return self.leaf()

    def sequence(self, count, seldom=0.02):
        """seldom: how often the disk is attached anew."""
        return [self.step(seldom) for _ in range(count)]


# --- playing them ------------------------------------------------------------------

class Player:
    """A disk and its model, which must never differ."""

    def __init__(self, image, kind, model):
        self.image = image
        self.kind = kind
        self.model = model
        self.pool = random.Random(7).randbytes(POOL)
        self.dev = self.disk = None
        self.ignore = False

    def attach(self, way="plain", readonly=False):
        self.ignore = way == "ignore"
        options = {"plain": ["-f", "qcow2"],
                   "ignore": ["-f", "qcow2", "--discard", "ignore"],
                   "oneq": ["-f", "qcow2", "--queues", "1"],
                   "small": ["--image-opts"]}[way]
        image = self.image
        if way == "small":
            image = ("driver=qcow2,l2-cache-size=16k,refcount-cache-size=16k,"
                     f"file.driver=file,file.filename={os.path.abspath(image)}")
        self.dev = lib.attach(image, *options, *(["-r"] if readonly else []))
        self.disk = lib.Disk(self.dev, readonly=readonly)
        check(self.disk.size == self.model.size,
              f"{self.dev} has {self.disk.size} bytes, not {self.model.size}")

    def detach(self):
        self.disk.close()
        lib.detach(self.dev)
        self.dev = self.disk = None

    def give_up(self):
        if self.disk:
            self.disk.close()
        if self.dev:
            lib.ctl("detach", "--force", self.dev, ok=None)
        self.dev = self.disk = None

    def verify(self):
        lib.verify(self.disk, self.model)

    # Each operation in two parts, since those that run side by side change
    # the disk first, all of them, and the model afterwards.

    def change(self, disk, op):
        name, rest = op[0], op[1:]
        if name == "write":
            start, length, at = rest
            disk.write(start, self.pool[at:at + length])
        elif name == "write_zero_data":
            disk.write(rest[0], bytes(rest[1]))
        elif name == "read":
            self.model.expect(rest[0], disk.read(*rest))
        elif name == "discard" and self.ignore:
            lib.expect_error(errno.EOPNOTSUPP, "discard", disk.discard, *rest)
        else:
            getattr(disk, name)(*rest)

    def learn(self, op):
        name, rest = op[0], op[1:]
        if name == "write":
            start, length, at = rest
            self.model.write(start, self.pool[at:at + length])
        elif name == "discard" and self.ignore:
            self.model.expect(rest[0], self.disk.read(*rest), name)
        elif name == "discard":
            start, length = rest
            self.model.expect_discarded(
                start, self.disk.read(start, length), self.kind.cluster_size,
                self.kind.discard_zeroes)
        elif name not in ("read", "flush"):
            self.model.zero(*rest, name)

    def parallel(self, ops):
        start = threading.Barrier(len(ops))
        errors = []

        def one(op):
            try:
                with lib.Disk(self.dev) as disk:
                    start.wait(60 * lib.SLOWNESS)
                    self.change(disk, op)
            except Exception as e:  # pylint: disable=broad-except
                start.abort()
                errors.append(e)
        threads = [threading.Thread(target=one, args=(op,)) for op in ops]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if errors:
            raise errors[0]
        for op in ops:
            self.learn(op)

    def qemu(self, commands):
        self.detach()
        lines = []
        for verb, start, length, byte in commands:
            data = "" if "-z" in verb else f"-P {byte} "
            lines.append(f"{verb} {data}{start} {length}")
            self.model.write(start, bytes(length) if "-z" in verb
                             else bytes([byte]) * length)
        matrix_gen.qemu_io(self.image, lines)
        self.attach()
        self.verify()

    def verify_again(self):
        """With nothing in memory."""
        self.attach(readonly=True)
        self.verify()
        self.detach()

    def step(self, op):
        if op[0] == "parallel":
            self.parallel(op[1])
        elif op[0] == "qemu":
            self.qemu(op[1])
        elif op[0] == "attach":
            self.detach()
            self.attach(op[1])
        elif op[0] == "readonly":
            self.detach()
            self.verify_again()
            self.attach()
        else:
            self.change(self.disk, op)
            self.learn(op)
            if op[0] not in ("read", "flush"):
                self.model.expect(op[1], self.disk.read(*op[1:3]), op[0])

    def play(self, sequence):
        try:
            self.attach()
            self.verify()
            for number, op in enumerate(sequence):
                try:
                    self.step(op)
                except (Fail, OSError) as e:
                    raise Fail(f"operation {number}, {show(op)}: {e}") from e
            self.verify()
            self.detach()
            self.verify_again()
        finally:
            self.give_up()


def show(op):
    text = json.dumps(op)
    return text if len(text) < 200 else text[:200] + "..."


# --- what must hold afterwards --------------------------------------------------------

def same_file(a, b, what):
    with open(a, "rb") as x, open(b, "rb") as y:
        pos = 0
        while True:
            left, right = x.read(256 * KIB), y.read(256 * KIB)
            if left != right:
                at = next((i for i, (m, n) in enumerate(zip(left, right))
                           if m != n), min(len(left), len(right)))
                raise Fail(f"{what} differs from byte {pos + at}")
            if not left:
                return
            pos += len(left)


def raw_data_file(data, raw, origin):
    """What the disk shows.

    It may be longer, as QEMU made it (whole clusters), or by the last block of
    direct I/O.
    """
    size = os.path.getsize(raw)
    length = os.path.getsize(data)
    check(size <= length <= max(os.path.getsize(origin), size + 4095),
          f"the raw data file has {length} bytes, the disk {size}")
    with open(data, "rb") as f:
        f.seek(size)
        check(not any(f.read()), "the raw data file goes on after the disk")
    with open(data, "rb") as x, open(raw, "rb") as y:
        for pos in range(0, size, lib.MIB):
            check(x.read(min(lib.MIB, size - pos)) == y.read(lib.MIB),
                  f"the raw data file differs in the MiB at byte {pos}")


KEPT = ("version", "backing_file_size", "cluster_bits", "size", "crypt_method",
        "nb_snapshots", "incompatible_features", "compatible_features",
        "autoclear_features", "refcount_order", "header_length",
        "compression_type")


def header(image):
    import qcow2
    with open(image, "rb") as f:
        head = qcow2.Bytes(f.read(2 * lib.MIB))
    keys = [k for k in KEPT if head.get("version") > 2 or
            qcow2.HEADER[k][0] < 72]
    return {**{k: head.get(k) for k in keys},
            "extensions": [(hex(m), d) for m, d in head.extensions()]}


def examine(image, kind, raw, origin, leaks=False):
    """After a detach: what QEMU reads, what check says, what was to stay.

    raw is the model's file, origin the image as it was made; leaks are what
    a machine that went away may leave.
    """
    lib.img_check(image, leaks)
    lib.img_compare(image, raw)
    check(header(image) == header(origin),
          f"the header was {header(origin)}, is {header(image)}")
    if kind.data_file == "rawfile":
        raw_data_file(f"{image}.data", raw, f"{origin}.data")
    if kind.snapshot == "snap":
        lib.run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "-l",
                "before", image, f"{image}.snap")
        same_file(f"{image}.snap", f"{origin}.snap.raw", "the snapshot")
        os.unlink(f"{image}.snap")


# --- one case: a kind and a seed ----------------------------------------------------

class Case:
    """An image of a kind, filled by QEMU as the seed says, and a sequence."""

    def __init__(self, kind, seed, count, salt="", seldom=0.02):
        self.kind = kind
        self.seed = seed
        self.image = f"{kind.name}.{seed}.qcow2"
        self.sequence = Maker(kind, seed, salt).sequence(count, seldom)

    def __str__(self):
        return f"{self.seed}:{self.kind.name}"

    def make(self):
        """On the host, in the directory of the fixtures."""
        if not os.path.exists(self.image):
            matrix_gen.make(self.kind, self.image, self.seed)

    def fresh(self):
        """A copy of the image to be changed; returns its path and model."""
        for part in matrix_gen.parts(self.image, self.kind):
            image = lib.fixture(self.image + part)
        base, _ = matrix_gen.backing_name(self.kind)
        if base and not os.path.exists(lib.scratch(base)):
            lib.fixture(base)
        with open(lib.fixture_path(f"{self.image}.raw"), "rb") as f:
            model = lib.Model(self.kind.size, f.read())
        return lib.scratch(self.image), model

    def clean(self):
        for name in os.listdir(lib.SCRATCH):
            if name.startswith(self.image) or name == "model.raw":
                os.unlink(lib.scratch(name))

    def play(self, sequence=None, player=Player, after=None):
        """Plays on a fresh copy; after(image, raw) is called at the end."""
        image, model = self.fresh()
        try:
            player(image, self.kind, model).play(
                self.sequence if sequence is None else sequence)
            raw = model.save(lib.scratch("model.raw"))
            if after:
                after(image, raw)
            else:
                examine(image, self.kind, raw, lib.fixture_path(self.image))
        finally:
            self.clean()


# --- shrinking -------------------------------------------------------------------------

def flatten(sequence):
    """Operations that ran side by side, one after the other."""
    out = []
    for op in sequence:
        out += op[1] if op[0] == "parallel" else [op]
    return out


def halves(sequence, parts):
    size = max(1, len(sequence) // parts)
    return [(n, min(n + size, len(sequence)))
            for n in range(0, len(sequence), size)]


class Shrinker:
    """Delta debugging: leaves operations out as long as it still fails."""

    def __init__(self, fails, seconds):
        self.fails = fails      # sequence -> reason or None
        self.end = time.monotonic() + seconds
        self.tries = 0
        self.reason = None

    def still(self, sequence):
        if time.monotonic() > self.end:
            return False
        self.tries += 1
        reason = self.fails(sequence)
        if reason:
            self.reason = reason
        return bool(reason)

    def drop(self, sequence):
        parts = 2
        while len(sequence) > 1 and time.monotonic() < self.end:
            for start, end in halves(sequence, parts):
                rest = sequence[:start] + sequence[end:]
                if rest and self.still(rest):
                    sequence = rest
                    parts = max(2, parts - 1)
                    break
            else:
                if parts >= len(sequence):
                    break
                parts = min(len(sequence), parts * 2)
        return sequence

    def shorten(self, sequence):
        """Each range cut in two while that fails, too."""
        for n, op in enumerate(sequence):
            while len(op) >= 3 and isinstance(op[2], int) and \
                    op[2] > SECTOR and time.monotonic() < self.end:
                half = op[2] // 2 // SECTOR * SECTOR
                first = [op[0], op[1], half, *op[3:]]
                second = [op[0], op[1] + half, op[2] - half,
                          *(x + half for x in op[3:])]
                op = next((c for c in (first, second) if self.still(
                    sequence[:n] + [c] + sequence[n + 1:])), None)
                if not op:
                    break
                sequence = sequence[:n] + [op] + sequence[n + 1:]
        return sequence

    def shrink(self, sequence):
        flat = flatten(sequence)
        # Only if it does not take two at a time.
        if flat != sequence and self.still(flat):
            sequence = flat
        return self.shorten(self.drop(sequence))


def shrink(case, seconds, player=Player):
    """Returns the short sequence and why it fails."""
    def fails(sequence):
        try:
            case.play(sequence, player)
        except (Fail, OSError) as e:
            return str(e)
        return None
    shrinker = Shrinker(fails, seconds * lib.SLOWNESS)
    short = shrinker.shrink(case.sequence)
    lib.note(f"{case}: {len(case.sequence)} operations shrunk to "
             f"{len(short)} in {shrinker.tries} tries")
    return short, shrinker.reason
