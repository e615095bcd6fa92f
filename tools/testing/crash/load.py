# SPDX-License-Identifier: GPL-2.0
"""In the guest: threads that write to a disk at the same time."""

import os
import random
import threading

import lib
from scenario import BLOCK, STRIPE, THREADS, content


class Gate:
    """Threads pass side by side; alone() keeps all others out."""

    def __init__(self):
        self.slots = threading.Semaphore(THREADS)
        self.order = threading.Lock()

    def __enter__(self):
        self.slots.acquire()

    def __exit__(self, *_):
        self.slots.release()

    def alone(self, function):
        with self.order:
            for _ in range(THREADS):
                self.slots.acquire()
            try:
                function()
            finally:
                self.slots.release(THREADS)


class Thread(threading.Thread):
    """Random operations, a number of them.

    record: hears of what is done.  issue() of new versions that may be on disk
    from now on, ack() of those that are done, flush_begin() and flush_end()
    of a flush, durable() of what is stable without one.
    """

    def __init__(self, number, scenario, disk, record, gate, seed, steps):
        super().__init__()
        self.number = number
        self.scenario = scenario
        self.disk = disk
        self.record = record
        self.gate = gate
        self.rng = random.Random(f"{seed}/{scenario.name}/{number}")
        self.steps = steps
        self.error = None
        # A part of the disk is written to again and again.
        stripes = range(number, scenario.blocks // STRIPE, THREADS)
        self.stripes = list(stripes)
        self.hot = self.rng.sample(self.stripes, max(2, len(stripes) // 8))

    def blocks(self):
        stripe = self.rng.choice(self.hot if self.rng.random() < 0.5
                                 else self.stripes)
        first = self.rng.randrange(STRIPE)
        count = self.rng.randrange(1, STRIPE - first + 1)
        start = stripe * STRIPE + first
        return range(start, start + count)

    def write(self, flags=0):
        blocks = self.blocks()
        version = self.record.issue(blocks, False)
        data = b"".join(content(b, version) for b in blocks)
        self.disk.write(blocks[0] * BLOCK, data, flags)
        self.record.ack(blocks, version)
        if flags:
            self.record.durable(blocks, version)

    def zero(self):
        blocks = self.blocks()
        version = self.record.issue(blocks, True)
        call = self.rng.choice((self.disk.zero, self.disk.punch))
        call(blocks[0] * BLOCK, len(blocks) * BLOCK)
        self.record.ack(blocks, version)

    def discard(self, blocks):
        """Whole units, so that what is read afterwards is zero."""
        version = self.record.issue(blocks, True)
        self.disk.discard(blocks[0] * BLOCK, len(blocks) * BLOCK)
        self.record.ack(blocks, version)

    def discard_own(self):
        """Units within a stripe, next to the writes of the others."""
        blocks = self.blocks()
        unit = max(1, self.scenario.unit // BLOCK)
        start = blocks[0] - blocks[0] % unit
        self.discard(range(start, -(-blocks.stop // unit) * unit))

    def discard_large(self):
        """Clusters that nobody else may write to meanwhile."""
        unit = max(self.scenario.cluster, BLOCK)
        length = unit * self.rng.randrange(1, 4)
        start = self.rng.randrange(0, self.scenario.size - length, unit)
        self.discard(range(start // BLOCK, (start + length) // BLOCK))

    def flush(self):
        token = self.record.flush_begin()
        self.disk.flush()
        self.record.flush_end(token)

    def step(self):
        mix = self.scenario.mix
        kind = self.rng.choices(
            (*mix, "flush"), (*mix.values(), 100 - sum(mix.values())))[0]
        own = self.scenario.unit <= STRIPE * BLOCK
        if kind == "discard" and (not own or self.rng.random() < 0.2):
            self.gate.alone(self.discard_large)
            return
        with self.gate:
            if kind == "write":
                self.write()
            elif kind == "dsync":
                self.write(os.RWF_DSYNC)
            elif kind == "zero":
                self.zero()
            elif kind == "discard":
                self.discard_own()
            else:
                self.flush()

    def run(self):
        try:
            for _ in range(self.steps):
                self.step()
        except BaseException as e:  # pylint: disable=broad-except
            self.error = e


class Load:
    """All threads that write to one disk."""

    def __init__(self, scenario, dev, record, seed, steps):
        self.disks = [lib.Disk(dev) for _ in range(THREADS)]
        gate = Gate()
        self.threads = [Thread(n, scenario, self.disks[n], record, gate, seed,
                               steps) for n in range(THREADS)]
        for thread in self.threads:
            thread.start()

    def wait(self):
        for thread in self.threads:
            thread.join()
        for disk in self.disks:
            disk.close()
        errors = [t.error for t in self.threads if t.error]
        if errors:
            raise errors[0]
