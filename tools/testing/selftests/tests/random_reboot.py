#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
# about: random sequences that go on after the machine was started anew
# needs: host
# kernels: either
# cost: 60
# timeout: 600
"""A machine that stops without a detach, after a flush, and the next one.

  random_reboot.py [-k KERNEL]

The image lies on a disk that outlives the machines.  Each attaches it, reads
all of it, plays a part of a random sequence, flushes, and goes away with the
image attached.  Nothing may be lost; check may find leaks only.

QBLK_CASES=SEED:KIND,... runs just these, QBLK_BOOTS=N that many machines each.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
sys.dont_write_bytecode = True

import lib  # noqa: E402
import matrix_gen  # noqa: E402
import ops  # noqa: E402

STEPS = 40
BOOTS = int(os.environ.get("QBLK_BOOTS", "12" if lib.FULL else "3"))
CASES = 8 if lib.FULL else 1


def chosen():
    asked = os.environ.get("QBLK_CASES")
    if asked:
        return [(int(s), matrix_gen.Kind.parse(k)) for s, _, k in
                (c.partition(":") for c in asked.split(","))]
    seeds = [random.randrange(1 << 32) for _ in range(CASES)]
    return [(s, random.Random(s).choice(matrix_gen.every())) for s in seeds]


# --- in the machine ------------------------------------------------------------

def save(model, path):
    """So that the model is as safe as what was flushed."""
    model.save(f"{path}.new")
    with open(f"{path}.new", "rb") as f:
        os.fsync(f.fileno())
    os.rename(f"{path}.new", path)


def guest(kind, seed, number):
    """Machine number of BOOTS; the last one detaches."""
    lib.run("mount", "/dev/disk/state", "/mnt")
    os.chdir("/mnt")
    lib.load_module()
    with open("model.raw", "rb") as f:
        model = lib.Model(kind.size, f.read())
    player = ops.Player("image.qcow2", kind, model)
    player.attach()
    player.verify()
    if number < BOOTS - 1:
        maker = ops.Maker(kind, seed, f"boot{number}")
        for op in maker.sequence(STEPS):
            player.step(op)
        player.disk.flush()
        save(model, "model.raw")
        return
    player.detach()
    ops.examine("image.qcow2", kind, "model.raw", "origin.qcow2", leaks=True)


# --- on the host -----------------------------------------------------------------

def disk_of(kind, seed, folder):
    """A file system with the image, for the machines to share."""
    tree = os.path.join(folder, "tree")
    os.mkdir(tree)
    os.chdir(tree)
    matrix_gen.make(kind, "image.qcow2", seed)
    os.rename("image.qcow2.raw", "model.raw")
    lib.copy_sparse("image.qcow2", "origin.qcow2")
    if kind.data_file != "own":
        lib.copy_sparse("image.qcow2.data", "origin.qcow2.data")
    if kind.snapshot == "snap":
        os.rename("image.qcow2.snap.raw", "origin.qcow2.snap.raw")
    os.chdir(folder)
    disk = os.path.join(folder, "state")
    lib.run("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, disk, "512M")
    return disk


def module_of(kernel):
    release = lib.run(os.path.join(lib.ROOT, "tools/vm/run"), "-k", kernel,
                      "--print-kernel").stdout.strip()
    return os.environ.get("QBLK_MODULE") or lib.find_module(release)


def boot(kernel, disk, module, kind, seed, number):
    env = {**os.environ, "QBLK_MODULE": module, "QBLK_BUILD": lib.BUILD,
           "QBLK_BOOTS": str(BOOTS)}
    limit = int(60 + 60 * lib.SLOWNESS)
    return subprocess.run(
        [os.path.join(lib.ROOT, "tools/vm/run"), "-k", kernel, "-c", "2",
         "-m", "2048", "-t", str(limit), "--no-leak-check",
         "--append", "kunit.enable=0", "--disk", f"state={disk}",
         os.path.abspath(__file__), "--guest", str(number), str(seed),
         kind.name], cwd=lib.ROOT, env=env, check=False).returncode


def one(kernel, module, seed, kind):
    with tempfile.TemporaryDirectory(prefix="reboot.") as folder:
        disk = disk_of(kind, seed, folder)
        for number in range(BOOTS):
            status = boot(kernel, disk, module, kind, seed, number)
            if status:
                lib.note(f"machine {number}: exit status {status}")
                return False
    return True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-k", "--kernel", default="6.12")
    parser.add_argument("--guest", nargs=3, metavar=("NUMBER", "SEED", "KIND"))
    args = parser.parse_args()
    if args.guest:
        number, seed, kind = args.guest
        try:
            guest(matrix_gen.Kind.parse(kind), int(seed), int(number))
        except (lib.Fail, OSError) as e:
            print(f"  {e}", flush=True)
            return 1
        return 0
    module = module_of(args.kernel)
    failed = []
    for seed, kind in chosen():
        case = f"{seed}:{kind.name}"
        lib.note(f"case {case}, {BOOTS} machines")
        if not one(args.kernel, module, seed, kind):
            failed.append(case)
    if failed:
        lib.note(f"QBLK_CASES={','.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
