# SPDX-License-Identifier: GPL-2.0
"""Just enough of the qcow2 format to read an image, and to break one."""

import struct
import zlib

MAGIC = 0x514649fb
OFFSET_MASK = 0x00fffffffffffe00
COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO = 1

# name: (offset, length); from version 3 on those above 71.
HEADER = {
    "magic": (0, 4), "version": (4, 4), "backing_file_offset": (8, 8),
    "backing_file_size": (16, 4), "cluster_bits": (20, 4), "size": (24, 8),
    "crypt_method": (32, 4), "l1_size": (36, 4), "l1_table_offset": (40, 8),
    "refcount_table_offset": (48, 8), "refcount_table_clusters": (56, 4),
    "nb_snapshots": (60, 4), "snapshots_offset": (64, 8),
    "incompatible_features": (72, 8), "compatible_features": (80, 8),
    "autoclear_features": (88, 8), "refcount_order": (96, 4),
    "header_length": (100, 4), "compression_type": (104, 1),
}


class Format(Exception):
    """The image is not readable."""


class Bytes:
    """An image in memory, its fields and tables by name; for mutations."""

    def __init__(self, data):
        self.data = bytearray(data)

    def get(self, field):
        at, length = HEADER[field]
        return int.from_bytes(self.data[at:at + length], "big")

    def set(self, field, value):
        at, length = HEADER[field]
        self.data[at:at + length] = (value % (1 << 8 * length)).to_bytes(
            length, "big")

    def u64(self, at):
        return struct.unpack_from(">Q", self.data, at)[0]

    def put64(self, at, value):
        struct.pack_into(">Q", self.data, at, value % (1 << 64))

    def put(self, at, data):
        self.data[at:at + len(data)] = data

    @property
    def cluster(self):
        return 1 << self.get("cluster_bits")

    @property
    def l1(self):
        return self.get("l1_table_offset")

    @property
    def reftable(self):
        return self.get("refcount_table_offset")

    def refblock(self, index=0):
        return self.u64(self.reftable + 8 * index) & ~0x1ff

    def l2(self, index=0):
        return self.u64(self.l1 + 8 * index) & OFFSET_MASK

    def l2_entry_at(self, guest_cluster):
        """Where in the file the entry of a guest cluster lies."""
        per_table = self.cluster // 8
        return (self.l2(guest_cluster // per_table) +
                8 * (guest_cluster % per_table))

    def l2_entry(self, guest_cluster):
        return self.u64(self.l2_entry_at(guest_cluster))

    def set_l2_entry(self, guest_cluster, value):
        self.put64(self.l2_entry_at(guest_cluster), value)

    def extension_end(self):
        """Offset of the END extension."""
        at = self.get("header_length") if self.get("version") > 2 else 72
        while True:
            magic, length = struct.unpack_from(">II", self.data, at)
            if not magic:
                return at
            at += 8 + (length + 7) // 8 * 8

    def add_extension(self, magic, payload, length=None):
        at = self.extension_end()
        padded = payload + bytes(-len(payload) % 8)
        length = len(payload) if length is None else length
        self.put(at, struct.pack(">II", magic, length) + padded + bytes(8))

    def extensions(self):
        at = self.get("header_length") if self.get("version") > 2 else 72
        out = []
        while True:
            magic, length = struct.unpack_from(">II", self.data, at)
            if not magic:
                return out
            out.append((magic, bytes(self.data[at + 8:at + 8 + length])))
            at += 8 + (length + 7) // 8 * 8


class Reader:
    """Reads guest data from an open file; no snapshots, no extended L2."""

    def __init__(self, f, backing=None):
        self.f = f
        self.backing = backing      # bytes of a raw backing file
        self.reload()

    def at(self, offset, length):
        self.f.seek(offset)
        data = self.f.read(length)
        return data + bytes(length - len(data))

    def reload(self):
        """Reads the tables anew after the file has changed."""
        head = Bytes(self.at(0, 112))
        if head.get("magic") != MAGIC or head.get("version") not in (2, 3):
            raise Format("no qcow2 header")
        self.cluster = head.cluster
        self.bits = head.get("cluster_bits")
        self.size = head.get("size")
        self.per_table = self.cluster // 8
        self.head = head
        l1 = self.at(head.l1, 8 * head.get("l1_size"))
        self.l1 = struct.unpack(f">{head.get('l1_size')}Q", l1)
        self.tables = {}

    def refblocks(self):
        """Offsets of the refcount blocks."""
        table = self.at(self.head.reftable, self.cluster *
                        self.head.get("refcount_table_clusters"))
        entries = struct.unpack(f">{len(table) // 8}Q", table)
        return [e & ~0x1ff for e in entries if e & ~0x1ff]

    def table(self, index):
        if index not in self.tables:
            offset = self.l1[index] & OFFSET_MASK
            if offset % self.cluster:
                raise Format(f"L2 table {index} at {offset:#x}")
            self.tables[index] = struct.unpack(
                f">{self.per_table}Q", self.at(offset, self.cluster)
            ) if offset else None
        return self.tables[index]

    def below(self, offset, length):
        if self.backing is None:
            return bytes(length)
        data = self.backing[offset:offset + length]
        return data + bytes(length - len(data))

    def inflate(self, entry):
        shift = 62 - (self.bits - 8)
        offset = entry & ((1 << shift) - 1)
        sectors = ((entry >> shift) & ((1 << (self.bits - 8)) - 1)) + 1
        data = self.at(offset, sectors * 512 - (offset & 511))
        out = zlib.decompressobj(-15).decompress(data, self.cluster)
        if len(out) != self.cluster:
            raise Format(f"compressed cluster at {offset:#x}")
        return out

    def read(self, offset, length):
        out = []
        while length:
            index = offset >> self.bits
            start = offset & (self.cluster - 1)
            count = min(length, self.cluster - start)
            table = self.table(index // self.per_table)
            entry = table[index % self.per_table] if table else 0
            host = entry & OFFSET_MASK
            if entry & COMPRESSED:
                out.append(self.inflate(entry)[start:start + count])
            elif entry & ZERO:
                out.append(bytes(count))
            elif host:
                if host % self.cluster:
                    raise Format(f"data cluster at {host:#x}")
                out.append(self.at(host + start, count))
            else:
                out.append(self.below(offset, count))
            offset += count
            length -= count
        return b"".join(out)
