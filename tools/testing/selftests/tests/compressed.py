# SPDX-License-Identifier: GPL-2.0
# about: zlib and zstd images: read back, overwritten, discarded
# variants: zlib zstd
# kernels: either
# cost: 25
# timeout: 120
"""Images made by qemu-img convert -c."""

import os
import threading

import lib
from lib import KIB, MIB, check

SIZE = 6 * MIB + 512
CLUSTERS = {512: "512", 4096: "4k", 64 * KIB: "64k", 2 * MIB: "2m"}


def content(salt):
    """Compressible to different degrees, with zeroes and noise between."""
    source = lib.rng(salt)
    out = bytearray()
    words = [source.randbytes(source.randrange(3, 40)) for _ in range(40)]
    while len(out) < SIZE:
        kind = source.random()
        if kind < 0.2:
            out += bytes(source.randrange(1, 90) * KIB)
        elif kind < 0.35:
            out += source.randbytes(source.randrange(1, 90) * KIB)
        else:
            out += b"".join(source.choices(words, k=1500))
    return bytes(out[:SIZE])


def fixtures():
    lib.VARIANT = ""    # one content for both variants
    lib.write_sparse("plain.raw", content("plain"))
    for kind in ("zlib", "zstd"):
        for cluster, word in CLUSTERS.items():
            lib.run("qemu-img", "convert", "-c", "-f", "raw", "-O", "qcow2",
                    "-o", f"cluster_size={cluster},compression_type={kind}",
                    "plain.raw", f"{kind}-{word}.qcow2")
        lib.img_create(f"{kind}-top.qcow2", SIZE, cluster_size=16 * KIB,
                       backing=f"{kind}-64k.qcow2")


def expected():
    with open(lib.fixture_path("plain.raw"), "rb") as f:
        return lib.Model(SIZE, f.read())


def test_read():
    for cluster, word in lib.some(CLUSTERS.items()):
        image = lib.fixture(f"{lib.VARIANT}-{word}.qcow2")
        check(cluster > 64 * KIB or os.path.getsize(image) < SIZE,
              "not compressed")
        with lib.Attached(image, "-r") as dev, \
             lib.Disk(dev, readonly=True) as disk:
            model = expected()
            lib.verify(disk, model)
            # Small reads in an order that defeats a one-cluster cache.
            source = lib.rng(word)
            for _ in range(lib.scaled(60, 20)):
                length = source.randrange(512, 20 * KIB, 512)
                at = source.randrange(0, SIZE - length, 512)
                model.expect(at, disk.read(at, length))


def test_overwrite():
    for cluster, word in lib.some(CLUSTERS.items()):
        image = lib.fixture(f"{lib.VARIANT}-{word}.qcow2")
        model = expected()
        with lib.Attached(image, "-f", "qcow2") as dev, \
             lib.Disk(dev) as disk:
            work = lib.Workload(disk, model, lib.rng(word), cluster)
            work.run(lib.scaled(50, 20))
            work.verify()
        # Neighbours in one host cluster share its refcount.
        lib.img_check(image)
        with lib.Attached(image, "-r") as dev, \
             lib.Disk(dev, readonly=True) as disk:
            lib.verify(disk, model)
        raw = model.save(lib.scratch("model.raw"))
        lib.img_compare(image, raw)
        os.unlink(raw)


def decompressed(dev):
    """What is kept: number of bytes, of hits and of misses; none of them is
    shown until the first cluster is decompressed."""
    info = lib.layers(dev)[0]["info"]
    size, *numbers = (info.get(f"decompressed-{w}", 0)
                      for w in ("size", "used", "hits", "misses"))
    check(numbers[0] <= size, info)
    return numbers


def test_small_reads_decompress_once():
    image = lib.fixture(f"{lib.VARIANT}-64k.qcow2")
    model = expected()
    with lib.Attached(image, "-r") as dev, \
         lib.Disk(dev, readonly=True) as disk:
        # Who looks for partitions reads, too.
        before = sum(decompressed(dev)[1:])
        for at in range(0, MIB, 4 * KIB):
            model.expect(at, disk.read(at, 4 * KIB))
        used, hits, misses = decompressed(dev)
        check(0 < misses <= 16 and hits + misses - before == 16 * misses,
              f"{hits} hits, {misses} misses, {before} before")
        check(used == misses * 64 * KIB, f"{used} bytes are kept")
        # Large ones are not kept, but what is there is of use.
        for at in range(0, 3 * MIB, MIB):
            model.expect(at, disk.read(at, MIB))
        check(decompressed(dev) == [used, hits + misses, misses],
              f"{decompressed(dev)}")


def read_all_the_time(dev, model, source, stop, errors):
    try:
        with lib.Disk(dev, readonly=True) as disk:
            while not stop.is_set():
                length = source.choice((4 * KIB, 300 * KIB, MIB))
                at = source.randrange(0, SIZE // 2 - length, 512)
                model.expect(at, disk.read(at, length))
    except (OSError, lib.Fail) as e:
        errors.append(e)


def test_readers_beside_a_writer():
    """One half is read on all CPUs while the other half is overwritten."""
    image = lib.fixture(f"{lib.VARIANT}-64k.qcow2")
    model = expected()
    source = lib.rng("beside")
    stop, errors = threading.Event(), []
    with lib.Attached(image, "-f", "qcow2") as dev, lib.Disk(dev) as disk:
        readers = [threading.Thread(target=read_all_the_time, args=(
            dev, expected(), lib.rng(f"reader {n}"), stop, errors))
            for n in range(3)]
        for reader in readers:
            reader.start()
        for _ in range(lib.scaled(30, 10)):
            length = source.randrange(512, 100 * KIB, 512)
            at = source.randrange(SIZE // 2 // 512 * 512, SIZE - length, 512)
            data = source.randbytes(length)
            disk.write(at, data)
            model.write(at, data)
            # What is not flushed is not free to be used again.
            if source.random() < 0.3:
                disk.flush()
            # The neighbours share host clusters with what was overwritten.
            at = source.randrange(SIZE // 2 // 512 * 512, SIZE - 4096, 512)
            model.expect(at, disk.read(at, 4096))
        stop.set()
        for reader in readers:
            reader.join()
        check(not errors, errors)
        lib.verify(disk, model)
    lib.img_check(image)
    lib.img_compare(image, model.save(lib.scratch("model.raw")))


def test_copy_on_write_from_compressed():
    lib.fixture(f"{lib.VARIANT}-64k.qcow2")
    image = lib.fixture(f"{lib.VARIANT}-top.qcow2")
    model = expected()
    with lib.Attached(image, "-f", "qcow2") as dev, lib.Disk(dev) as disk:
        work = lib.Workload(disk, model, lib.rng("cow"), 16 * KIB)
        work.run(lib.scaled(40, 15))
        work.verify()
    lib.img_check(image)
    raw = model.save(lib.scratch("model.raw"))
    lib.img_compare(image, raw)
