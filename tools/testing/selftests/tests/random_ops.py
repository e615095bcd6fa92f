# SPDX-License-Identifier: GPL-2.0
# about: long random sequences on images of every kind; failures are shrunk
# cost: 60
# timeout: 240
"""The same operations on qblk and on a model, on images of random kinds.

QBLK_CASES=SEED:KIND,... runs just these, QBLK_FRESH=N that many new ones
beside those that always run, QBLK_STEPS=N changes how long each is.  A failure
prints its case, to be added to random_ops.seeds, and a short sequence.
"""

import json
import os
import random

import lib
import matrix_gen
import ops
from lib import check

SEEDS = os.path.join(lib.HERE, "random_ops.seeds")
FIXED = (1, 2, 3)
STEPS = int(os.environ.get("QBLK_STEPS", "120"))


def kind_of(seed):
    return random.Random(f"kind/{seed}").choice(matrix_gen.every())


def regressions():
    """Cases, and sequences where the file has them."""
    with open(SEEDS, encoding="utf-8") as f:
        for line in f:
            words = line.split("#")[0].split(None, 2)
            if words:
                seed, kind = words[:2]
                yield (int(seed), kind,
                       json.loads(words[2]) if words[2:] else None)


def chosen():
    """What this run does: seed, kind, sequence or None."""
    asked = os.environ.get("QBLK_CASES")
    if asked:
        return [(int(s), k, None) for s, _, k in
                (c.partition(":") for c in asked.split(","))]
    fresh = [random.randrange(1 << 32)
             for _ in range(int(os.environ.get("QBLK_FRESH", "1")))]
    return list(regressions()) + [(s, kind_of(s).name, None)
                                  for s in (*FIXED, *fresh)]


def case_of(seed, name, sequence):
    case = ops.Case(matrix_gen.Kind.parse(name), seed, STEPS)
    if sequence:
        case.sequence = sequence
    return case


def fixtures():
    cases = chosen()
    for case in cases:
        case_of(*case).make()
    ops.Case(SELF_KIND, 0, 0).make()
    lib.write_file("cases", json.dumps(cases))


def test_random_ops():
    failed = []
    cases = json.loads(lib.read_file(lib.fixture_path("cases")))
    # A slow kernel does the ones that failed once, and some of the others.
    known = len(list(regressions()))
    for args in cases[:known] + lib.some(cases[known:]):
        case = case_of(*args)
        lib.note(f"case {case}")
        try:
            case.play()
        except (lib.Fail, OSError) as e:
            lib.note(f"{case}: {e}")
            short, reason = ops.shrink(case, 25)
            lib.note(f"{reason}\n  {json.dumps(short)}")
            failed.append(str(case))
    check(not failed, f"QBLK_CASES={','.join(failed)}")


# --- can it fail? ----------------------------------------------------------------

SELF_KIND = matrix_gen.Kind.parse(
    "v3-c64k-r16-std-zlib-own-strict-off-alone-nosnap")


class Liar(ops.Player):
    """Expects a wrong byte after any operation of one kind on one sector."""

    NAME, WHERE = "zero_range", 0

    def learn(self, op):
        super().learn(op)
        if op[0] == self.NAME and op[1] <= self.WHERE < op[1] + op[2]:
            self.model.data[self.WHERE] ^= 1


def test_wrong_model_is_found_and_shrunk():
    if lib.SHARE and not lib.FULL:
        raise lib.Skip("6.12 has it")
    case = ops.Case(SELF_KIND, 0, 24, seldom=0)
    Liar.WHERE = 77 * lib.KIB
    case.sequence[17:17] = [["zero_range", 64 * lib.KIB, 64 * lib.KIB]]
    short, reason = ops.shrink(case, 30, Liar)
    check(reason and "differs first at byte" in reason,
          f"not found: {reason}")
    check(len(short) == 1 and short[0][0] == "zero_range" and
          short[0][2] == lib.SECTOR, f"shrunk to {short}")
