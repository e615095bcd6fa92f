# SPDX-License-Identifier: GPL-2.0
"""What the black-box tests share: commands, images, a disk and its model.

A test is a file in tests/ with functions named test_*; each runs on its own
after the other, in one process, and fails by raising.  fixtures(dir), if there
is one, makes images on the host before the machine boots: qemu-img takes
20 ms there and half a second in a guest.
"""

import ctypes
import errno
import fcntl
import json
import math
import mmap
import os
import random
import re
import shutil
import stat
import struct
import subprocess
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
BUILD = os.environ.get("QBLK_BUILD", os.path.join(ROOT, "build"))
QBLKCTL = os.environ.get("QBLK_CTL", os.path.join(BUILD, "userspace/qblkctl"))
MODULE = os.environ.get("QBLK_MODULE",
                        os.path.join(BUILD, os.uname().release, "qblk.ko"))
SCRATCH = os.environ.get("QBLK_SCRATCH", "/scratch")
VARIANT = os.environ.get("QBLK_VARIANT", "")
TEST = ""       # the full name of the test that runs
# Everything, however long it takes
FULL = bool(os.environ.get("QBLK_CHECK_FULL"))
# A fraction of the iterations, never none
SCALE = float(os.environ.get("QBLK_SCALE", "1"))
SEED = int(os.environ.get("QBLK_SEED", "1"))
# Which part of a list this kernel has, see some()
SHARE = int(os.environ.get("QBLK_SHARE", "0"))
# Limits of time are stretched by this on a slow kernel or a busy host.
SLOWNESS = float(os.environ.get("QBLK_SLOWNESS", "1"))

SECTOR = 512
KIB = 1024
MIB = 1024 * KIB

# Exit codes of qblkctl.
OK, FAILED, USAGE, UNSUPPORTED, NODEV, BUSY = range(6)


class Fail(Exception):
    """An expectation did not hold."""


class Skip(Exception):
    """This machine lacks something; the reason is the text."""


def fail(text):
    raise Fail(text)


def check(condition, text):
    if not condition:
        raise Fail(text)


def scaled(count, least=1):
    return max(least, int(count * SCALE))


def some(items):
    """All of them, or a part that depends on the seed; with the same seed, the
    halves of the two stock kernels are all."""
    items = list(items)
    if SCALE >= 1:
        return items
    count = math.ceil(len(items) * SCALE)
    start = SEED + SHARE * count
    return [items[(start + n) % len(items)] for n in range(count)]


def rng(salt=""):
    """A generator that repeats with the same QBLK_SEED."""
    return random.Random(f"{SEED}/{VARIANT}/{salt}")


def note(text):
    print(f"  {text}", flush=True)


# --- commands ----------------------------------------------------------------

def run(*argv, ok=(0,), timeout=120, stdin=None, env=None):
    """Runs a command; fails unless it exits with one of ok."""
    argv = [str(a) for a in argv]
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True,
                              text=True, timeout=timeout * SLOWNESS, env=env,
                              check=False)
    except subprocess.TimeoutExpired:
        raise Fail(f"still running after {timeout * SLOWNESS:.0f} s: "
                   f"{' '.join(argv)}") from None
    if ok is not None and done.returncode not in ok:
        raise Fail(f"{' '.join(argv)}: exit {done.returncode}, expected "
                   f"{' or '.join(map(str, ok))}\n{done.stdout}{done.stderr}")
    return done


def ctl(*args, ok=(OK,), timeout=120):
    return run(QBLKCTL, *args, ok=ok, timeout=timeout)


def attach(image, *options, timeout=120):
    """qblkctl attach; returns the device's path."""
    done = ctl("attach", *options, image, timeout=timeout)
    dev = done.stdout.strip()
    check(re.fullmatch(r"/dev/qblk\d+", dev),
          f"attach printed {done.stdout!r}, not a device's path")
    check(stat.S_ISBLK(os.stat(dev).st_mode), f"{dev} is no block device")
    return dev


def attach_fails(image, *options, code=(FAILED,), says=None, timeout=120):
    """Expects attach to be refused with a sentence that matches says."""
    done = ctl("attach", *options, image, ok=None, timeout=timeout)
    if done.returncode == 0:
        ctl("detach", done.stdout.strip(), ok=None)
        raise Fail(f"attach {' '.join(options)} {image} worked")
    check(done.returncode in code,
          f"attach {image}: exit {done.returncode}, expected {code}: "
          f"{done.stderr}")
    check(done.stderr.strip(), "refused without a word")
    check(not done.stdout.strip(), f"refused, yet printed {done.stdout!r}")
    if says is not None:
        check(re.search(says, done.stderr, re.I),
              f"attach {image}: expected a sentence with /{says}/, got: "
              f"{done.stderr}")
    return done


def show(dev):
    """What show tells of a disk."""
    return json.loads(ctl("show", "--json", dev).stdout)


def layers(dev):
    """Its images, from the top down."""
    return show(dev)["layers"]


def diskseq(dev):
    """The number of this disk, which no later one has; None if there is none."""
    try:
        return read_file(f"/sys/block/{os.path.basename(dev)}/diskseq")
    except OSError:
        return None


def detach(dev, *options, ok=(OK,), timeout=120):
    """qblkctl detach.  The name may be another disk's right afterwards."""
    before = diskseq(dev) if dev.startswith("/dev/") else None
    done = ctl("detach", *options, dev, ok=ok, timeout=timeout)
    if done.returncode == 0 and before and "--lazy" not in options:
        check(diskseq(dev) != before,
              f"/sys/block/{os.path.basename(dev)} is there after detach")
    return done


def disks():
    return sorted(d for d in os.listdir("/sys/block")
                  if re.fullmatch(r"qblk\d+", d))


class Attached:
    """with Attached(image, ...) as dev: detaches at the end, also on errors."""

    def __init__(self, image, *options):
        self.args = (image, *options)
        self.dev = None

    def __enter__(self):
        self.dev = attach(*self.args)
        return self.dev

    def __exit__(self, kind, value, trace):
        if kind is None:
            detach(self.dev)
        else:
            ctl("detach", "--force", self.dev, ok=None)


def read_file(path):
    with open(path, encoding="utf-8", errors="replace") as f:
        return f.read().strip()


def write_file(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(str(text))


def sys_block(dev, name):
    return read_file(f"/sys/block/{os.path.basename(dev)}/{name}")


def wait_for(condition, what, seconds=10):
    end = time.monotonic() + seconds * SLOWNESS
    while not condition():
        if time.monotonic() > end:
            raise Fail(f"{what}: not within {seconds} s")
        time.sleep(0.05)


# --- images ------------------------------------------------------------------

def scratch(name):
    return os.path.join(SCRATCH, name)


def fixture(name):
    """An image that fixtures() made, copied to where it may be written."""
    target = scratch(os.path.basename(name))
    copy_sparse(fixture_path(name), target)
    return target


def fixture_path(name):
    return os.path.join(os.environ["QBLK_FIXTURES"], name)


def export(paths, origin):
    """Hands files to the test's verify(), on the host; see imported().

    origin(path) is what a file is much like.  False in a machine that no host
    waits for: what verify() does is to be done there.
    """
    if "QBLK_RESULTS" not in os.environ:
        return False
    folder = os.path.join(os.environ["QBLK_RESULTS"], TEST)
    os.makedirs(folder, exist_ok=True)
    for path in paths:
        difference(path, origin(path),
                   os.path.join(folder, os.path.basename(path)))
    return True


def imported(folder, origin):
    """The names of what export() was given, with the same origin()."""
    names = sorted(os.listdir(folder))
    for name in names:
        path = os.path.join(folder, name)
        difference(path, origin(path), f"{path}.tmp")
        os.rename(f"{path}.tmp", path)
    return names


def difference(a, b, target):
    """XORs a, whose size counts, with b: to write through 9p is slow, and most
    of an image is as it was.  To do it twice gives a back."""
    with open(a, "rb", buffering=0) as x, open(b, "rb", buffering=0) as y, \
         open(target, "wb", buffering=0) as dst:
        while True:
            left = x.read(256 * KIB)
            if not left:
                break
            right = y.read(len(left)).ljust(len(left), b"\0")
            both = int.from_bytes(left, "big") ^ int.from_bytes(right, "big")
            write_runs(dst, both.to_bytes(len(left), "big"), 4 * KIB)
        dst.truncate(x.tell())


def copy_sparse(source, target):
    with open(source, "rb", buffering=0) as src, \
         open(target, "wb", buffering=0) as dst:
        while True:
            data = src.read(256 * KIB)
            if not data:
                break
            write_runs(dst, data, 256 * KIB)
        dst.truncate(src.tell())


def write_runs(dst, data, hole):
    """Writes data with holes where whole pieces of that length are zero."""
    start = None
    for pos in range(0, len(data) + hole, hole):
        part = data[pos:pos + hole]
        if part.count(0) != len(part):
            start = pos if start is None else start
        elif start is not None:
            dst.write(data[start:pos])
            start = None
        if start is None:
            dst.seek(len(part), os.SEEK_CUR)


def write_sparse(path, data):
    with open(path, "wb", buffering=0) as f:
        for pos in range(0, len(data), 64 * KIB):
            part = data[pos:pos + 64 * KIB]
            if part.count(0) != len(part):
                f.seek(pos)
                f.write(part)
        f.truncate(len(data))


def img_create(path, size=None, backing=None, backing_fmt="qcow2", fmt="qcow2",
               **options):
    """qemu-img create; options such as cluster_size=4096, compat='0.10'."""
    argv = ["qemu-img", "create", "-q", "-f", fmt]
    if backing is not None:
        argv += ["-b", backing, "-F", backing_fmt]
        if not os.path.isabs(backing):
            argv.append("-u")
    if options:
        argv += ["-o", ",".join(f"{k}={v}" for k, v in options.items())]
    argv.append(path)
    if size is not None:
        argv.append(str(size))
    run(*argv)
    return path


def img_check(path, leaks=False):
    """qemu-img check finds nothing (with leaks=True: no more than leaks)."""
    done = run("qemu-img", "check", "-f", "qcow2", "--output=json", path,
               ok=None)
    try:
        result = json.loads(done.stdout)
    except ValueError:
        raise Fail(f"qemu-img check {path}: exit {done.returncode}: "
                   f"{done.stdout}{done.stderr}") from None
    bad = {k: result[k] for k in ("corruptions", "leaks", "check-errors")
           if result.get(k) and not (leaks and k == "leaks")}
    if bad or done.returncode not in ((0, 3) if leaks else (0,)):
        detail = run("qemu-img", "check", "-f", "qcow2", path, ok=None)
        text = (detail.stdout + detail.stderr).splitlines()
        raise Fail(f"qemu-img check {path}: exit {done.returncode} {bad}\n  "
                   + "\n  ".join(text[:20]))
    return result


def img_compare(a, b, a_fmt="qcow2", b_fmt="raw"):
    done = run("qemu-img", "compare", "-f", a_fmt, "-F", b_fmt, a, b, ok=None)
    check(done.returncode == 0,
          f"qemu-img compare: {done.stdout}{done.stderr}")


def img_info(path):
    return json.loads(run("qemu-img", "info", "--output=json", path).stdout)


def disk_usage(path):
    return os.stat(path).st_blocks * 512


# --- block devices that tests put images on -----------------------------------

def nullb_create(name, size_mib, blocksize=512, **attributes):
    """A null_blk disk that keeps its data; returns its path."""
    top = "/sys/kernel/config/nullb"
    check(os.path.isdir(top), "null_blk or configfs is missing")
    path = f"{top}/{name}"
    os.mkdir(path)
    attributes = {"size": size_mib, "blocksize": blocksize,
                  "memory_backed": 1, "discard": 1, "irqmode": 0,
                  **attributes, "power": 1}
    for key, value in attributes.items():
        write_file(f"{path}/{key}", value)
    for dev in (f"/dev/{name}", f"/dev/nullb{read_file(path + '/index')}"):
        if os.path.exists(dev):
            return dev
    raise Fail(f"null_blk {name} did not appear")


def nullb_delete(name):
    path = f"/sys/kernel/config/nullb/{name}"
    if os.path.isdir(path):
        write_file(f"{path}/power", 0)
        os.rmdir(path)


class NullBlk:
    def __init__(self, name, size_mib, **attributes):
        self.name = name
        self.args = (name, size_mib)
        self.attributes = attributes

    def __enter__(self):
        return nullb_create(*self.args, **self.attributes)

    def __exit__(self, *_):
        nullb_delete(self.name)


class Loop:
    """A loop device on a new file, with sectors of 512 or 4096 bytes.

    null_blk cannot stand in for a disk with large sectors: it expects each
    segment of memory to be one.
    """

    def __init__(self, name, size_mib, sector=512):
        self.file = scratch(name)
        self.size = size_mib * MIB
        self.sector = sector

    def __enter__(self):
        run("modprobe", "loop", ok=None)
        with open(self.file, "wb") as f:
            f.truncate(self.size)
        self.dev = run("losetup", "-f", "--show", "-b", self.sector,
                       self.file).stdout.strip()
        return self.dev

    def __exit__(self, *_):
        run("losetup", "-d", self.dev, ok=None)
        name = os.path.basename(self.dev)
        wait_for(lambda: not os.path.exists(
            f"/sys/block/{name}/loop/backing_file"), f"{name} to be free")
        os.unlink(self.file)


# --- a disk as its user sees it -----------------------------------------------

BLKROGET = 0x125e
BLKDISCARD = 0x1277
BLKZEROOUT = 0x127f
BLKGETSIZE64 = 0x80081272

FALLOC_KEEP_SIZE = 1
FALLOC_PUNCH_HOLE = 2
FALLOC_ZERO_RANGE = 16

_libc = ctypes.CDLL(None, use_errno=True)


def fallocate(fd, mode, offset, length):
    ret = _libc.fallocate(fd, mode, ctypes.c_long(offset),
                          ctypes.c_long(length))
    if ret:
        err = ctypes.get_errno()
        raise OSError(err, os.strerror(err))


class Disk:
    """Direct I/O on a block device, past the page cache."""

    BUFFER = 4 * MIB

    def __init__(self, path, readonly=False, flags=0):
        self.path = path
        mode = os.O_RDONLY if readonly else os.O_RDWR
        self.fd = os.open(path, mode | os.O_DIRECT | flags)
        self.size = struct.unpack(
            "Q", fcntl.ioctl(self.fd, BLKGETSIZE64, b"\0" * 8))[0]
        # Anonymous mappings are page aligned, as direct I/O wants it.
        self.buf = mmap.mmap(-1, self.BUFFER)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def read(self, offset, length):
        done = os.preadv(self.fd, [memoryview(self.buf)[:length]], offset)
        check(done == length,
              f"{self.path}: read {done} of {length} bytes at {offset}")
        return self.buf[:length]

    def write(self, offset, data, flags=0):
        length = len(data)
        self.buf[:length] = bytes(data)
        done = os.pwritev(self.fd, [memoryview(self.buf)[:length]], offset,
                          flags)
        check(done == length,
              f"{self.path}: wrote {done} of {length} bytes at {offset}")

    def flush(self):
        os.fsync(self.fd)

    def discard(self, offset, length):
        fcntl.ioctl(self.fd, BLKDISCARD, struct.pack("QQ", offset, length))

    def zero(self, offset, length):
        fcntl.ioctl(self.fd, BLKZEROOUT, struct.pack("QQ", offset, length))

    def zero_range(self, offset, length):
        """Write zeroes, clusters stay allocated."""
        fallocate(self.fd, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE, offset, length)

    def punch(self, offset, length):
        """Write zeroes, clusters may be freed."""
        fallocate(self.fd, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, offset, length)


def expect_error(errors, what, function, *args):
    """function must fail with one of errors; returns which."""
    if isinstance(errors, int):
        errors = (errors,)
    try:
        function(*args)
    except OSError as e:
        names = [errno.errorcode.get(n, str(n)) for n in errors]
        check(e.errno in errors,
              f"{what}: {errno.errorcode.get(e.errno)}, expected {names}")
        return e.errno
    raise Fail(f"{what} worked")


class Model:
    """What the disk must read as."""

    def __init__(self, size, data=None):
        self.size = size
        self.data = bytearray(size)
        self.log = []
        if data is not None:
            data = data[:size]
            self.data[:len(data)] = data

    def record(self, op, offset, length):
        self.log.append((op, offset, length))

    def write(self, offset, data):
        self.data[offset:offset + len(data)] = data
        self.record("write", offset, len(data))

    def zero(self, offset, length, op="zero"):
        self.data[offset:offset + length] = bytes(length)
        self.record(op, offset, length)

    def expect(self, offset, got, what="read"):
        want = self.data[offset:offset + len(got)]
        if want == got:
            return
        at = next(i for i, (a, b) in enumerate(zip(want, got)) if a != b)
        same = sum(a == b for a, b in zip(want, got))
        where = offset + at
        past = [f"#{n} {op} {o}+{ln}" for n, (op, o, ln) in enumerate(self.log)
                if o <= where < o + ln][-6:]
        raise Fail(
            f"{what} {offset}+{len(got)} differs first at byte {where} "
            f"({len(got) - same} bytes differ)\n"
            f"  expected {bytes(want[at:at + 16]).hex()}\n"
            f"  read     {bytes(got[at:at + 16]).hex()}\n"
            f"  operations there, of {len(self.log)}: {', '.join(past)}")

    def expect_discarded(self, offset, got, cluster, zeroes):
        """Each sector is as before or zero; whole clusters are zero."""
        for pos in range(0, len(got), SECTOR):
            part = got[pos:pos + SECTOR]
            if part.count(0) == SECTOR:
                continue
            where = offset + pos
            start = where - where % cluster
            whole = (start >= offset and
                     min(start + cluster, self.size) <= offset + len(got))
            if part != self.data[where:where + SECTOR] or (zeroes and whole):
                raise Fail(f"byte {where}, after discard of "
                           f"{offset}+{len(got)}, is neither zero nor "
                           "its old content" if not whole else
                           f"byte {where} is not zero after its cluster "
                           f"was discarded ({offset}+{len(got)})")
        self.data[offset:offset + len(got)] = got
        self.record("discard", offset, len(got))

    def save(self, path):
        write_sparse(path, self.data)
        return path


class Versions:
    """What each sector may hold: several things, where a write has failed."""

    def __init__(self, data):
        self.now = [{data[at:at + SECTOR]}
                    for at in range(0, len(data), SECTOR)]
        self.flushed()

    def flushed(self):
        self.stable = list(self.now)

    def changed(self, offset, data, worked):
        for at in range(0, len(data), SECTOR):
            sector = (offset + at) // SECTOR
            new = {data[at:at + SECTOR]}
            self.stable[sector] = self.stable[sector] | new
            self.now[sector] = new if worked else self.now[sector] | new

    @staticmethod
    def expect(some, offset, data, what):
        for at in range(0, len(data), SECTOR):
            part = data[at:at + SECTOR]
            check(part in some[(offset + at) // SECTOR],
                  f"{what}: sector {(offset + at) // SECTOR} holds "
                  f"{part[:16].hex()}..., which is none of "
                  f"{len(some[(offset + at) // SECTOR])} versions")


class Workload:
    """Random I/O on a Disk, checked against a Model after every step."""

    MIX = (("write", 50), ("read", 24), ("discard", 8), ("zero", 7),
           ("punch", 5), ("zero_range", 3), ("flush", 3))

    def __init__(self, disk, model, random_source, cluster=64 * KIB,
                 longest=300 * KIB, discard_zeroes=True, mix=MIX,
                 sector=SECTOR):
        self.disk = disk
        self.model = model
        self.rng = random_source
        self.cluster = cluster
        self.longest = longest
        self.discard_zeroes = discard_zeroes
        self.names = [m[0] for m in mix]
        self.weights = [m[1] for m in mix]
        self.sector = sector
        self.pool = random_source.randbytes(longest + 64 * KIB)

    def span(self):
        """A random range: sizes log-uniform, starts often at boundaries."""
        sector = self.sector
        top = math.log2(self.longest)
        length = int(2 ** self.rng.uniform(math.log2(sector), top))
        length = max(sector, length - length % sector)
        kind = self.rng.random()
        if kind < 0.3:
            start = self.rng.randrange(0, self.model.size, self.cluster)
            if kind < 0.15:
                start += sector * self.rng.randrange(-3, 4)
        elif kind < 0.35:
            # The end of the disk is where partial clusters are.
            start = self.model.size - length
        else:
            start = self.rng.randrange(0, self.model.size, sector)
        if self.rng.random() < 0.15:
            length = self.cluster * self.rng.randrange(1, 4)
        start = min(max(0, start - start % sector), self.model.size - sector)
        length = min(length, self.longest, self.model.size - start)
        return start, max(sector, length - length % sector)

    def payload(self, length):
        at = self.rng.randrange(0, len(self.pool) - length + 1)
        return self.pool[at:at + length]

    def step(self):
        op = self.rng.choices(self.names, self.weights)[0]
        start, length = self.span()
        if op == "write":
            data = self.payload(length)
            self.disk.write(start, data)
            self.model.write(start, data)
        elif op == "read":
            self.model.expect(start, self.disk.read(start, length))
        elif op == "discard":
            self.disk.discard(start, length)
            self.model.expect_discarded(start, self.disk.read(start, length),
                                        self.cluster, self.discard_zeroes)
        elif op == "flush":
            self.disk.flush()
        else:
            getattr(self.disk, op)(start, length)
            self.model.zero(start, length, op)
            self.model.expect(start, self.disk.read(start, length), op)

    def run(self, steps):
        for _ in range(steps):
            self.step()

    def verify(self):
        """Reads the whole disk."""
        check(self.disk.size == self.model.size,
              f"{self.disk.path} has {self.disk.size} bytes, "
              f"expected {self.model.size}")
        verify(self.disk, self.model)


def verify(disk, model, start=0, end=None):
    end = model.size if end is None else end
    for pos in range(start, end, MIB):
        length = min(MIB, end - pos)
        model.expect(pos, disk.read(pos, length), "verify")


# --- running a test file --------------------------------------------------------

def fixtures_of(module, directory):
    """Runs the fixtures() of a test; on the host, or in a guest without."""
    make = getattr(module, "fixtures", None)
    if make is None:
        return
    os.makedirs(directory, exist_ok=True)
    old = os.getcwd()
    os.chdir(directory)
    try:
        make()
    finally:
        os.chdir(old)


def tests_of(module):
    return [(name[5:], f) for name, f in vars(module).items()
            if name.startswith("test_") and callable(f)]


def run_module(module, only=None):
    """Runs every test_* function; returns 0, 1 (one failed) or 4 (skipped)."""
    failed = skipped = count = 0
    for name, function in tests_of(module):
        if only and name not in only:
            continue
        count += 1
        start = time.monotonic()
        try:
            function()
            word = "ok"
        except Skip as e:
            word = f"skip ({e})"
            skipped += 1
        except Exception as e:  # pylint: disable=broad-except
            word = "FAIL"
            failed += 1
            if isinstance(e, Fail):
                where = traceback.extract_tb(e.__traceback__)
                lines = [f"{os.path.basename(f.filename)}:{f.lineno}"
                         for f in where if "/lib.py" not in f.filename]
                print(f"  {name}: {e}\n  at {' '.join(lines)}", flush=True)
            else:
                traceback.print_exc(file=sys.stdout)
            for dev in disks():
                ctl("detach", "--force", f"/dev/{dev}", ok=None)
        print(f"  {word}: {name} ({time.monotonic() - start:.1f} s)",
              flush=True)
    if not count:
        print("  no test function")
        return 1
    if failed:
        return 1
    return 4 if skipped == count else 0


def need(*programs):
    for program in programs:
        if not shutil.which(program):
            raise Skip(f"{program} is not installed")



# --- the module -----------------------------------------------------------------

SYS_DELETE_MODULE = 176
SYS_FINIT_MODULE = 313


def syscall(*args):
    """Returns 0 or errno."""
    return ctypes.get_errno() if _libc.syscall(*args) < 0 else 0


def find_module(release):
    """The qblk.ko in the build folder that was made for a kernel, or None."""
    folders = [release] + sorted(os.listdir(BUILD) if os.path.isdir(BUILD)
                                 else [])
    for path in [os.path.join(BUILD, f, "qblk.ko") for f in folders]:
        if os.path.exists(path):
            magic = run("modinfo", "-F", "vermagic", path).stdout.split()
            if magic and magic[0] == release:
                return path
    return None


def module_for(kernel):
    """The qblk.ko for a kernel of testinfo.KERNELS; on the host."""
    release = run(os.path.join(ROOT, "tools/vm/run"), "-k", kernel,
                  "--print-kernel").stdout.strip()
    path = os.environ.get("QBLK_MODULE") or find_module(release)
    check(path, f"no qblk.ko is built for {release}")
    return path


def module_loaded():
    return os.path.isdir("/sys/module/qblk")


def load_module():
    """insmod, without starting a process once the dependencies are there."""
    if module_loaded():
        return
    fd = os.open(MODULE, os.O_RDONLY | os.O_CLOEXEC)
    err = syscall(SYS_FINIT_MODULE, fd, b"", 0)
    if err == errno.ENOENT:     # unknown symbols
        done = run("modinfo", "-F", "depends", MODULE)
        for name in filter(None, done.stdout.strip().split(",")):
            run("modprobe", name)
        err = syscall(SYS_FINIT_MODULE, fd, b"", 0)
    os.close(fd)
    check(not err, f"insmod {MODULE}: {os.strerror(err)}")


def unload_module(seconds=10):
    """rmmod; returns None or what kept it."""
    end = time.monotonic() + seconds
    while module_loaded():
        err = syscall(SYS_DELETE_MODULE, b"qblk", os.O_NONBLOCK)
        if err and time.monotonic() > end:
            refs = read_file("/sys/module/qblk/refcnt")
            return f"rmmod qblk: {os.strerror(err)} (references: {refs})"
        if err:
            time.sleep(0.1)
    return None
