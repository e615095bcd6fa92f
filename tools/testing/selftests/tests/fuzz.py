# SPDX-License-Identifier: GPL-2.0
# about: 500 mutated images: attached and used without a splat or a hang
# kernels: debug
# cost: 120
# timeout: 200
"""The short form of tools/testing/fuzz/images.

QBLK_SEED has the images repeated, QBLK_FUZZ=FIRST:COUNT says which of them.
"""

import os
import sys

import lib

sys.path.insert(0, os.path.join(lib.ROOT, "tools/testing/fuzz"))
import archive  # noqa: E402  pylint: disable=wrong-import-position
import loop  # noqa: E402  pylint: disable=wrong-import-position


def numbers():
    first, count = map(int, os.environ.get("QBLK_FUZZ", "0:500").split(":"))
    return range(first, first + count)


def fixtures():
    archive.make(lib.SEED, numbers(), loop.PARTS)


def test_images():
    loop.fuzz(lib.fixture_path(""), lib.SEED, numbers())
