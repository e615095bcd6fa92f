# SPDX-License-Identifier: GPL-2.0
# about: list, show, drivers, version, help, sysfs; JSON and exit codes
# kernels: either
# cost: 20
# timeout: 90
"""What a user or a script reads."""

import json
import os

import lib
from lib import MIB, check


def fixtures():
    lib.img_create("base.qcow2", 32 * MIB)
    lib.img_create("top.qcow2", 32 * MIB, backing="base.qcow2",
                   cluster_size=131072)


def walk(value):
    """All strings and numbers of a JSON value."""
    if isinstance(value, dict):
        for v in value.values():
            yield from walk(v)
    elif isinstance(value, list):
        for v in value:
            yield from walk(v)
    else:
        yield value


def parse(text):
    try:
        return json.loads(text)
    except ValueError as e:
        raise lib.Fail(f"no JSON ({e}): {text[:500]}") from None


def test_list():
    empty = parse(lib.ctl("list", "-J").stdout)
    check(not [v for v in walk(empty) if v], f"list of nothing: {empty}")
    lib.fixture("base.qcow2")
    image = lib.fixture("top.qcow2")
    with lib.Attached(image, "--name", "mine") as dev:
        rows = parse(lib.ctl("list", "-J").stdout)
        values = list(walk(rows))
        for want in ("mine", 32 * MIB):
            check(want in values, f"list -J does not show {want!r}: {rows}")
        check(dev in values or os.path.basename(dev) in values,
              f"list -J does not show {dev}: {rows}")
        check(any("top.qcow2" in str(v) for v in values),
              f"list -J does not show the image: {rows}")
        table = lib.ctl("list").stdout
        check("mine" in table and os.path.basename(dev) in table, table)
        check(len(table.strip().splitlines()) == 2, f"no heading: {table}")
        bare = lib.ctl("list", "-n").stdout
        check(len(bare.strip().splitlines()) == 1, f"-n: {bare}")
        check(str(32 * MIB) in lib.ctl("list", "-b").stdout, "-b: no bytes")
        one = lib.ctl("list", "-n", "-o", "NAME").stdout.split()
        check(one == ["mine"] or one == [os.path.basename(dev)] or
              one == [dev], f"-o NAME: {one}")
        lib.ctl("list", "-o", "BOGUS", ok=(lib.USAGE, lib.FAILED))


def test_show():
    lib.fixture("base.qcow2")
    image = lib.fixture("top.qcow2")
    with lib.Attached(image, "--name", "mine") as dev:
        for which in (dev, "mine", os.path.basename(dev)):
            values = list(walk(parse(lib.ctl("show", which, "-J").stdout)))
            text = " ".join(map(str, values))
            for want in ("top.qcow2", "base.qcow2", "qcow2"):
                check(want in text, f"show {which} -J lacks {want}: {text}")
            check(131072 in values, f"show -J lacks the cluster size: {text}")
        text = lib.ctl("show", dev).stdout
        check("top.qcow2" in text and "base.qcow2" in text, text)
    done = lib.ctl("show", "nobody", ok=(lib.NODEV,))
    check("nobody" in done.stderr, done.stderr)


def test_drivers_and_version():
    text = lib.ctl("drivers").stdout
    for want in ("qcow2", "raw", "file", "host_device", "null"):
        check(want in text, f"drivers lacks {want}: {text}")
    text = lib.ctl("version").stdout + lib.ctl("--version").stdout
    check(any(c.isdigit() for c in text), f"version: {text}")


def test_usage():
    for argv in (("--help",), ("attach", "--help"), ("detach", "--help"),
                 ("list", "--help"), ("show", "--help"),
                 ("drivers", "--help"), ("version", "--help")):
        done = lib.ctl(*argv)
        check("sage" in done.stdout and not done.stderr,
              f"{argv}: {done.stdout}{done.stderr}")
    for argv in ((), ("bogus",), ("attach",), ("attach", "--bogus", "x"),
                 ("detach",), ("show",), ("list", "--bogus"),
                 ("attach", "a", "b"), ("detach", "--lazy", "--force", "x"),
                 ("attach", "-o", "potato", "-f", "raw", "x"),
                 ("attach", "-o", "0x200K", "-f", "raw", "x"),
                 ("attach", "-o", "1KiB", "-f", "raw", "x"),
                 ("attach", "-o", "0x", "-f", "raw", "x"),
                 ("attach", "-o", "-512", "-f", "raw", "x"),
                 ("attach", "--discard", "potato", "x")):
        done = lib.ctl(*argv, ok=(lib.USAGE,))
        check(done.stderr.strip() and not done.stdout.strip(),
              f"{argv}: usage errors go to stderr")


def test_without_module():
    """A failure to reach the module is explained, not a crash."""
    done = lib.run("setpriv", "--reuid", "65534", "--regid", "65534",
                   "--clear-groups", "--inh-caps=-all", "--bounding-set=-all",
                   lib.QBLKCTL, "list", ok=None)
    check(done.returncode == lib.FAILED and done.stderr.strip(),
          f"as nobody: exit {done.returncode} {done.stderr}")


def test_sysfs():
    lib.fixture("base.qcow2")
    image = lib.fixture("top.qcow2")
    with lib.Attached(image, "--name", "mine") as dev:
        check(lib.sys_block(dev, "qblk/name") == "mine", "name")
        check("top.qcow2" in lib.sys_block(dev, "qblk/image"), "image")
        check(lib.sys_block(dev, "qblk/format") == "qcow2", "format")
        chain = lib.sys_block(dev, "qblk/backing_chain")
        check("base.qcow2" in chain, f"backing_chain: {chain}")
        queue = "queue/"
        check(int(lib.sys_block(dev, queue + "discard_max_bytes")) > 0,
              "no discard")
        check(int(lib.sys_block(dev, queue + "write_zeroes_max_bytes")) > 0,
              "no write zeroes")
        check(lib.sys_block(dev, queue + "discard_granularity") ==
              str(131072), "discard granularity is not the cluster size")
        size = int(lib.sys_block(dev, queue + "logical_block_size"))
        check(size == 512, f"logical block size {size}")
        cpus = os.cpu_count()
        queues = os.listdir(
            f"/sys/block/{os.path.basename(dev)}/mq")
        check(len(queues) >= min(2, cpus), f"hardware queues: {queues}")
    with lib.Attached(image, "--discard", "ignore") as dev:
        check(lib.sys_block(dev, "queue/discard_max_bytes") == "0",
              "--discard ignore, yet discards are offered")


def test_numbers():
    """Numbers are decimal unless they begin with 0x, as in the kernel."""
    image = lib.scratch("numbers.raw")
    lib.write_sparse(image, bytes(4 * MIB))
    for text, offset in (("01024", 1024), ("0x400", 1024), ("1k", 1024),
                         ("1M", MIB), ("512b", 512), ("512B", 512)):
        with lib.Attached(image, "-f", "raw", "-o", text) as dev:
            size = int(lib.sys_block(dev, "size")) * 512
            check(size == 4 * MIB - offset, f"-o {text}: size {size}")


def test_sysfs_escapes():
    """A path with a newline does not look like two."""
    image = lib.scratch("a\nb\x1b\\c.raw")
    lib.write_sparse(image, bytes(MIB))
    top = lib.img_create(lib.scratch("escaped.qcow2"), MIB, backing=image,
                         backing_fmt="raw")
    want = lib.scratch("a\\012b\\033\\134c.raw")
    with lib.Attached(image, "-f", "raw", "-r") as dev:
        got = lib.sys_block(dev, "qblk/image")
        check(got == want, f"{got!r}, expected {want!r}")
    with lib.Attached(top, "-r") as dev:
        got = lib.sys_block(dev, "qblk/backing_chain").split("\n")
        check(got == [top, want], f"{got}")


def test_permission_conflict():
    """Two writers on one node: that is busy."""
    lib.ctl("node", "add", "driver=null,node-name=shared,size=1M")
    dev = lib.attach("shared", "--node")
    try:
        done = lib.ctl("attach", "--node", "shared", ok=(lib.BUSY,))
        check("shared" in done.stderr and "conflict" in done.stderr,
              done.stderr)
    finally:
        lib.detach(dev)
        lib.ctl("node", "del", "shared")
