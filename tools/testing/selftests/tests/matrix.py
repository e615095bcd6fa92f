# SPDX-License-Identifier: GPL-2.0
# about: images of every kind: read, written, and read and checked by QEMU
# variants: even odd
# kernels: either
# cost: 60
# timeout: 240
"""{compat} x {cluster size} x {refcount width} x {L2 entries} x {compression} x
{data file} x {lazy refcounts} x {preallocation} x {backing} x {snapshot}

Each image is made and filled by QEMU, read and written by qblk, compared with
a model byte by byte during the run and after a new attach, then read and
checked by QEMU, which must also find header, snapshot and backing file as they
were.  matrix_gen.py says which kinds there are.

By default the kinds are few that have every pair of choices.
QBLK_MATRIX=N/M takes part N of M of all kinds, QBLK_KINDS=KIND,... these.
"""

import os

import lib
import matrix_gen
import ops
from lib import check

STEPS = int(os.environ.get("QBLK_STEPS", lib.scaled(24, 8)))


def kinds():
    asked = os.environ.get("QBLK_KINDS")
    if asked:
        return [matrix_gen.Kind.parse(k) for k in asked.split(",")]
    part = os.environ.get("QBLK_MATRIX")
    if part:
        number, _, count = part.partition("/")
        return matrix_gen.every()[int(number) - 1::int(count)]
    return matrix_gen.pairwise()


def cases(variant):
    chosen = kinds()
    chosen = chosen["even odd".split().index(variant)::2]
    # A slow kernel does some, and others with another seed.
    return [ops.Case(k, 0, STEPS, seldom=0) for k in lib.some(chosen)]


def fixtures():
    for kind in kinds():
        ops.Case(kind, 0, 0).make()


class Brief(ops.Player):
    """Leaves out what verify() does: it reads the image once more."""

    def verify_again(self):
        pass


def origin(path):
    return lib.fixture_path(os.path.basename(path))


def export(image, raw):
    """To the host, if there is one: does qblk leave to QEMU what is right?"""
    name = os.path.basename(image)
    os.rename(raw, f"{image}.raw")
    files = [lib.scratch(f) for f in sorted(os.listdir(lib.SCRATCH))
             if f.startswith(name)]
    if not lib.export(files, origin):
        verify_one(lib.SCRATCH, name)


def verify_one(folder, name):
    kind = matrix_gen.Kind.parse(name.partition(".")[0])
    base, _ = matrix_gen.backing_name(kind)
    if base and not os.path.exists(os.path.join(folder, base)):
        os.symlink(lib.fixture_path(base), os.path.join(folder, base))
    # Where QEMU looks for a data file whose name is relative
    os.chdir(folder)
    image = os.path.join(folder, name)
    ops.examine(image, kind, f"{image}.raw", lib.fixture_path(name))


def verify(folder):
    """On the host: of each image, and of its model."""
    names = [n for n in lib.imported(folder, origin) if n.endswith(".qcow2")]
    failed = []
    for name in names:
        try:
            verify_one(folder, name)
        except lib.Fail as e:
            failed.append(name.partition(".")[0])
            lib.note(f"{failed[-1]}: {e}")
    lib.note(f"{len(names)} images read by QEMU, {len(failed)} failed")
    check(names, "nothing was left to look at")
    check(not failed, f"QBLK_KINDS={','.join(failed)}")


def test_matrix():
    todo = cases(lib.VARIANT)
    failed = []
    for case in todo:
        try:
            case.play(player=Brief, after=export)
        except (lib.Fail, OSError) as e:
            failed.append(case.kind.name)
            lib.note(f"{case.kind}: {e}")
    for name in os.listdir(lib.SCRATCH):
        if name.startswith("base"):
            ops.same_file(lib.scratch(name), lib.fixture_path(name), name)
    lib.note(f"{len(todo)} kinds, {len(failed)} failed")
    check(not failed, f"QBLK_KINDS={','.join(failed)}")
