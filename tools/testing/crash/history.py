# SPDX-License-Identifier: GPL-2.0
"""Which contents the blocks of a disk may have after a power cut."""

from scenario import BLOCK, SECTOR, stamp


class Found(Exception):
    """The image is not what it has to be."""


class History:
    """What was written to each block, and what of that is stable.

    before: content of the disk in the beginning, as version 0
    versions: for each block a list of [version, whether it is zeroes], in the
    order in which they were issued
    """

    def __init__(self, before, versions):
        self.before = before
        self.zero = [{v: bool(z) for v, z in some} for some in versions]
        self.last = [some[-1][0] if some else 0 for some in versions]
        self.order = [[0] + [v for v, _ in some] for some in versions]
        self.rewind()

    def rewind(self):
        self.stable = [0] * len(self.zero)
        self.good = {}      # block -> (stable, content) that passed before

    def settle(self, versions):
        """versions, by block, have to survive from now on."""
        for block, version in versions.items():
            self.stable[block] = max(self.stable[block], version)

    def sector_ok(self, block, at, data):
        stable = self.stable[block]
        if not stable:
            start = block * BLOCK + at
            if data == self.before[start:start + SECTOR]:
                return True
        kinds = self.zero[block]
        if data.count(0) == len(data):
            return any(z and v >= stable for v, z in kinds.items())
        version = int.from_bytes(data[8:16], "little")
        return (version >= stable and kinds.get(version) is False and
                data == stamp(block, version))

    def check_block(self, block, data):
        """Returns None, or what a block with unflushed writes shows instead."""
        for at in range(0, BLOCK, SECTOR):
            part = data[at:at + SECTOR]
            if self.sector_ok(block, at, part):
                continue
            text = (f"block {block} sector {at // SECTOR}: "
                    f"{part[:16].hex()}..., of versions {self.order[block]} "
                    f"stable is {self.stable[block]}")
            if self.stable[block] == self.last[block]:
                raise Found(text)
            return text
        return None

    def check(self, data):
        """Raises Found for what was lost; returns what was never written."""
        if len(data) != len(self.zero) * BLOCK:
            raise Found(f"the disk has {len(data)} bytes")
        stale = []
        for block, stable in enumerate(self.stable):
            part = data[block * BLOCK:(block + 1) * BLOCK]
            if self.good.get(block) == (stable, part):
                continue
            text = self.check_block(block, part)
            if text:
                stale.append(text)
            else:
                self.good[block] = (stable, part)
        return stale

    def check_final(self, data):
        """Without a cut: every block has its last version."""
        for block, last in enumerate(self.last):
            if self.stable[block] != last:
                raise Found(f"block {block}: {last} was never acknowledged")
        if self.check(data):
            raise Found(self.check(data)[0])
