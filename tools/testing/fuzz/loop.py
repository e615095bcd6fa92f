# SPDX-License-Identifier: GPL-2.0
"""Attaches broken images, one after the other, and uses the disks.

Runs in a guest, with what archive.make() left in a directory.  Processes of
attach.c do the work and say what they begin with: from that is known which
image it was that does not end, or that the kernel complains of.
"""

import glob
import os
import select
import subprocess
import tempfile
import time
from collections import Counter

import kmsg
import lib
from control import Control
from lib import check

# Seconds for one image; most take a fraction of one.
LIMIT = 100
# One more than the machine has CPUs: detaching waits for RCU a lot
PARTS = 3
# No direct I/O on tmpfs on 6.1, without which nothing is attached
SCRATCH = lib.SCRATCH if os.uname().release.startswith("6.1.") else "/dev/shm"


class Worker:
    """A process that attaches the images of one archive."""

    def __init__(self, directory, part):
        # In memory: a file system costs more than the module.
        self.scratch = tempfile.TemporaryDirectory(
            dir=SCRATCH, prefix=f"fuzz.{part}.")
        self.proc = subprocess.Popen(
            [os.path.join(directory, "attach"), directory, f"images.{part}",
             self.scratch.name], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        self.fd = self.proc.stdout.fileno()
        self.rest = b""
        self.image = "the start"
        self.heard = self.begun = time.monotonic()

    def lines(self):
        """What it says; None at its end."""
        data = os.read(self.fd, 65536)
        if not data:
            return None
        self.heard = time.monotonic()
        *lines, self.rest = (self.rest + data).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def hangs(self):
        return time.monotonic() - self.heard > LIMIT

    def stacks(self):
        """Where its tasks are."""
        for path in glob.glob(f"/proc/{self.proc.pid}/task/*/stack"):
            for line in lib.read_file(path).splitlines():
                print(f"  | {line}")


class Watch:
    """Listens to the workers, and to the kernel."""

    def __init__(self, directory, seed):
        self.directory = directory
        self.seed = seed
        self.log = kmsg.KernelLog()
        self.workers = [Worker(directory, n) for n in range(PARTS)]
        self.running = list(self.workers)
        self.counts = Counter()
        self.wrong = []
        self.slow = (0, "")

    def made(self, image):
        """What was done to it."""
        with open(os.path.join(self.directory, "said"), encoding="utf-8") as f:
            return next((line.split(" ", 1)[1].strip() for line in f
                         if line.split(" ", 1)[0] == image), "unbroken")

    def say(self, image, text):
        self.wrong.append(image)
        print(f"  {image} of seed {self.seed} ({self.made(image)}): {text}",
              flush=True)

    def begins(self, worker, image):
        now = time.monotonic()
        self.slow = max(self.slow, (now - worker.begun, worker.image))
        worker.image = image
        worker.begun = now
        self.counts["images"] += 1
        if not self.counts["images"] % 100:
            lib.note(f"{self.counts['images']} images, slowest: "
                     f"{self.slow[1]}, {self.slow[0]:.1f} s")

    def line(self, worker, line):
        word, _, rest = line.partition(" ")
        number, _, text = rest.partition(" ")
        if word == "image":
            self.begins(worker, rest)
        elif word == "count":
            self.counts[text] += int(number)
        elif word == "wrong":
            self.say(worker.image, rest)
        else:
            self.say(worker.image, line)

    def hear(self, worker):
        lines = worker.lines()
        for line in lines or ():
            self.line(worker, line)
        if lines is None:
            self.running.remove(worker)
            if worker.proc.wait():
                self.say(worker.image,
                         f"attach: exit status {worker.proc.returncode}")

    def complaint(self):
        """Whether the kernel complained: lockdep does that only once."""
        lines = self.log.lines()
        if not kmsg.splats(lines):
            return False
        time.sleep(1)   # for the rest of it
        for line in kmsg.splats(lines + self.log.lines()):
            print(f"  | {line}")
        for worker in self.running:
            self.say(worker.image, "the kernel complained, perhaps of this")
        return True

    def hang(self):
        """Whether one does not come to an end."""
        late = [worker for worker in self.running if worker.hangs()]
        for worker in late:
            self.say(worker.image, "hangs")
            worker.stacks()
        if late:
            # The others that wait are in the kernel log then.
            lib.write_file("/proc/sysrq-trigger", "w")
        return bool(late)

    def listen(self):
        """Until all have ended, or one thing is too wrong to go on."""
        while self.running:
            fds = {worker.fd: worker for worker in self.running}
            ready, _, _ = select.select([*fds, self.log.fd], [], [], 5)
            for fd in set(ready) & set(fds):
                self.hear(fds[fd])
            if self.log.fd in ready and self.complaint() or self.hang():
                break

    def stop(self):
        """A task that hangs in the kernel cannot be waited for."""
        for worker in self.workers:
            worker.proc.kill()
            worker.scratch.cleanup()


def nothing_left():
    check(not lib.disks(), f"left: {lib.disks()}")
    nodes = Control().nodes()
    check(not nodes, f"{nodes} nodes are left")


def fuzz(directory, seed, numbers):
    """Fails unless all images are survived."""
    begun = time.monotonic()
    watch = Watch(directory, seed)
    try:
        watch.listen()
    finally:
        watch.stop()
    lib.note(f"images {numbers.start} to {numbers.stop - 1} of seed {seed}, "
             f"{time.monotonic() - begun:.0f} s: " + ", ".join(
                 f"{n} {what}" for what, n in watch.counts.items()))
    check(not watch.wrong, f"wrong: {', '.join(sorted(set(watch.wrong)))}")
    nothing_left()
