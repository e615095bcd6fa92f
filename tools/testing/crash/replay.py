#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""Reads a log of dm-log-writes, and applies it to an image.

  replay.py list LOG
  replay.py replay LOG TARGET [--from N] [--to N|--to-mark NAME]

The log device holds a superblock in its first sector and then, for each
entry, one sector that describes it, followed by the data of a write.  Sectors
are those of the logged device.  A write is logged when a later FLUSH, or its
own FUA, has made it stable; a mark is logged when it is sent.
"""

import argparse
import fcntl
import struct
import sys

MAGIC = 0x6a736677736872
FLUSH, FUA, DISCARD, MARK, META = 1, 2, 4, 8, 16
FLAG_NAMES = {FLUSH: "FLUSH", FUA: "FUA", DISCARD: "DISCARD", MARK: "MARK",
              META: "META"}

# What a discarded range may hold on a disk that promises nothing.
GARBAGE = b"\xdb" * 65536


class LogError(Exception):
    """This is no log, or it is damaged."""


class Entry:
    __slots__ = ("index", "offset", "length", "flags", "position", "mark")

    def __init__(self, index, offset, length, flags, position, mark):
        self.index = index
        self.offset = offset        # bytes, in the logged device
        self.length = length        # bytes
        self.flags = flags
        self.position = position    # of the data in the log, bytes
        self.mark = mark

    @property
    def is_flush(self):
        return bool(self.flags & FLUSH)

    @property
    def is_fua(self):
        return bool(self.flags & FUA)

    @property
    def is_discard(self):
        return bool(self.flags & DISCARD)

    @property
    def is_mark(self):
        return bool(self.flags & MARK)

    @property
    def is_write(self):
        return bool(self.length) and not self.flags & (DISCARD | MARK)

    def __str__(self):
        names = [n for bit, n in FLAG_NAMES.items() if self.flags & bit]
        text = f"{self.index}: {'|'.join(names) or 'WRITE'}"
        if self.is_mark:
            return f"{text} {self.mark}"
        return f"{text} {self.offset:#x}+{self.length:#x}"


class Log:
    def __init__(self, f):
        self.f = f
        f.seek(0)
        head = f.read(28)
        if len(head) < 28:
            raise LogError("too short for a log")
        magic, version, self.count, self.sector = struct.unpack("<QQQI", head)
        if magic != MAGIC or version != 1:
            raise LogError(f"no log: magic {magic:#x}, version {version}")
        if self.sector not in (512, 1024, 2048, 4096):
            raise LogError(f"sector size {self.sector}")
        self.cached = None

    def entries(self):
        if self.cached is None:
            self.cached = list(self.scan())
        return self.cached

    def scan(self):
        at = self.sector
        for index in range(self.count):
            self.f.seek(at)
            head = self.f.read(self.sector)
            if len(head) < self.sector:
                raise LogError(f"entry {index} lies past the end")
            sector, count, flags, length = struct.unpack_from("<QQQQ", head)
            mark = None
            if flags & MARK:
                if length > self.sector - 32:
                    raise LogError(f"entry {index}: mark of {length} bytes")
                mark = head[32:32 + length].rstrip(b"\0").decode()
            at += self.sector
            entry = Entry(index, sector * self.sector, count * self.sector,
                          flags, at, mark)
            if not flags & DISCARD:
                at += entry.length
            yield entry

    def data(self, entry):
        if not entry.is_write:
            return b""
        self.f.seek(entry.position)
        data = self.f.read(entry.length)
        if len(data) != entry.length:
            raise LogError(f"data of entry {entry.index} lies past the end")
        return data

    def apply(self, entry, target):
        """Does to target, an open file, what the entry says."""
        if entry.is_discard:
            target.seek(entry.offset)
            left = entry.length
            while left:
                left -= target.write(GARBAGE[:min(left, len(GARBAGE))])
        elif entry.is_write:
            target.seek(entry.offset)
            target.write(self.data(entry))


# --- marks ----------------------------------------------------------------------

DM_TARGET_MSG = 0xc138fd0e  # _IOWR(0xfd, 14, struct dm_ioctl of 312 bytes)


def send_mark(device, text):
    """dmsetup message DEVICE 0 mark TEXT, without starting a process."""
    message = struct.pack("Q", 0) + f"mark {text}".encode() + b"\0"
    head = struct.pack("III IIIiII I Q", 4, 0, 0, 312 + len(message), 312,
                       0, 0, 0, 0, 0, 0)
    buffer = bytearray(head + device.encode())
    buffer += bytes(312 - len(buffer)) + message
    with open("/dev/mapper/control", "r+b", buffering=0) as control:
        fcntl.ioctl(control, DM_TARGET_MSG, buffer)


# --- command line -----------------------------------------------------------------

def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    sub = commands.add_parser("list")
    sub.add_argument("log")
    sub = commands.add_parser("replay")
    sub.add_argument("log")
    sub.add_argument("target")
    sub.add_argument("--from", dest="start", type=int, default=0)
    sub.add_argument("--to", type=int, help="first entry not applied")
    sub.add_argument("--to-mark")
    args = parser.parse_args()

    with open(args.log, "rb") as f:
        log = Log(f)
        entries = log.entries()
        if args.command == "list":
            for entry in entries:
                print(entry)
            return 0
        end = len(entries) if args.to is None else args.to
        if args.to_mark:
            found = [e.index for e in entries if e.mark == args.to_mark]
            if not found:
                parser.error(f"no mark {args.to_mark}")
            end = found[0]
        with open(args.target, "r+b") as target:
            for entry in entries[args.start:end]:
                log.apply(entry, target)
    print(f"applied entries {args.start} to {end - 1}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (LogError, OSError) as e:
        sys.exit(f"replay.py: {e}")
