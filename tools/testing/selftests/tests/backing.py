# SPDX-License-Identifier: GPL-2.0
# about: backing chains: raw base, mixed clusters, short and long, deep, loops
# cost: 30
# timeout: 150
"""Reads through chains and copy on write out of them."""

import errno
import json
import os

import genl
import lib
from lib import KIB, MIB, check

ODD = 5 * MIB + 1536


def base_data(salt, size):
    """Half of the 32 KiB pieces are zero."""
    source = lib.rng(salt)
    return b"".join(source.randbytes(32 * KIB) if source.random() < 0.5
                    else bytes(32 * KIB)
                    for _ in range(size // (32 * KIB) + 1))[:size]


def write_raw(path, salt, size):
    data = base_data(salt, size)
    lib.write_sparse(path, data)
    return data


def fixtures():
    for size, word in ((ODD, "same"), (2 * MIB + 512, "short"),
                       (8 * MIB, "long")):
        write_raw(f"{word}.raw", word, size)
        lib.img_create(f"{word}.qcow2", ODD, backing=f"{word}.raw",
                       backing_fmt="raw")
        lib.run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "-o",
                "cluster_size=4096", f"{word}.raw", f"{word}-4k.qcow2")
        lib.img_create(f"{word}-2m.qcow2", ODD, backing=f"{word}-4k.qcow2",
                       cluster_size=2 * MIB)
        lib.img_create(f"{word}-512.qcow2", ODD, backing=f"{word}-4k.qcow2",
                       cluster_size=512)
    # v2 over v3, v3 over v2
    lib.img_create("v3.qcow2", ODD, backing="same.raw", backing_fmt="raw")
    lib.img_create("v2.qcow2", ODD, backing="v3.qcow2", compat="0.10")
    lib.img_create("v3top.qcow2", ODD, backing="v2.qcow2", cluster_size=16384)
    # Five layers, each with something of its own.
    write_raw("l0.raw", "l0", ODD)
    below, fmt = "l0.raw", "raw"
    for n, cluster in enumerate((65536, 4096, 1048576, 512, 32768), 1):
        lib.img_create(f"l{n}.qcow2", ODD, backing=below, backing_fmt=fmt,
                       cluster_size=cluster)
        writes = []
        for k in range(6):
            at = (n * 7 + k * 13) * 61 * KIB % (ODD - 100 * KIB) // 512 * 512
            writes += ["-c", f"write -P {16 * n + k} {at} {(k + 1) * 9}k"]
        writes += ["-c", f"write -z {n * 700 * KIB} 70k"]
        lib.run("qemu-io", "-f", "qcow2", *writes, f"l{n}.qcow2")
        below, fmt = f"l{n}.qcow2", "qcow2"
    lib.run("qemu-img", "convert", "-O", "raw", "l5.qcow2", "flat.raw")


def clone(*names):
    """Copies a chain: the overlays name their backing files without a path."""
    for word in names:
        lib.fixture(word)
    return lib.scratch(names[0])


def expected(word, size=ODD):
    with open(lib.fixture_path(word), "rb") as f:
        data = f.read()
    return lib.Model(size, data)


def random_io(image, model, cluster, steps=40, zeroes=True):
    below = {n: os.stat(lib.scratch(n)) for n in os.listdir(lib.SCRATCH)}
    with lib.Attached(image, "-f", "qcow2") as dev, lib.Disk(dev) as disk:
        work = lib.Workload(disk, model, lib.rng(image), cluster,
                            discard_zeroes=zeroes)
        work.verify()
        work.run(lib.scaled(steps, 15))
        work.verify()
    with lib.Attached(image, "-r") as dev, \
         lib.Disk(dev, readonly=True) as disk:
        lib.verify(disk, model)
    lib.img_check(image)
    raw = model.save(lib.scratch("model.raw"))
    lib.img_compare(image, raw)
    os.unlink(raw)
    for word, old in below.items():
        if lib.scratch(word) != image:
            new = os.stat(lib.scratch(word))
            check(new.st_mtime_ns == old.st_mtime_ns,
                  f"{word}, a backing file, was written to")


def test_raw_base():
    for word in lib.some(("same", "short", "long")):
        image = clone(f"{word}.qcow2", f"{word}.raw")
        random_io(image, expected(f"{word}.raw"), 64 * KIB)


def test_mixed_clusters():
    for top, cluster in (("2m", 2 * MIB), ("512", 512)):
        for word in lib.some(("short", "long", "same")):
            image = clone(f"{word}-{top}.qcow2", f"{word}-4k.qcow2")
            random_io(image, expected(f"{word}.raw"), cluster, 25)


def test_versions():
    names = ("v3top.qcow2", "v2.qcow2", "v3.qcow2", "same.raw")
    image = clone(*names)
    random_io(image, expected("same.raw"), 16384)
    image = clone(*names[1:])
    # v2 has no zero clusters: with a backing file a discard may do nothing.
    random_io(image, expected("same.raw"), 64 * KIB, zeroes=False)


def test_five_layers():
    clone(*(f"l{n}.qcow2" for n in range(5, 0, -1)), "l0.raw")
    random_io(lib.scratch("l5.qcow2"), expected("flat.raw"), 32768, 60)


def test_no_backing():
    image = clone("same.qcow2", "same.raw")
    with lib.Attached(image, "-r", "--no-backing") as dev, \
         lib.Disk(dev, readonly=True) as disk:
        lib.verify(disk, lib.Model(ODD))


def test_backing_dir():
    """--backing-dir says where relative names start."""
    os.makedirs(lib.scratch("elsewhere"), exist_ok=True)
    image = clone("same.qcow2", "same.raw")
    os.rename(lib.scratch("same.raw"), lib.scratch("elsewhere/same.raw"))
    done = lib.attach_fails(image, "-r", code=(lib.FAILED, lib.NODEV))
    check("same.raw" in done.stderr,
          f"does not name the missing file: {done.stderr}")
    with lib.Attached(image, "-r", "--backing-dir",
                      lib.scratch("elsewhere")) as dev, \
         lib.Disk(dev, readonly=True) as disk:
        lib.verify(disk, expected("same.raw"))


def test_relative_to_overlay():
    """A relative name starts at the overlay, not at the working directory."""
    image = clone("same.qcow2", "same.raw")
    old = os.getcwd()
    os.chdir("/")
    try:
        with lib.Attached(image, "-r") as dev, \
             lib.Disk(dev, readonly=True) as disk:
            lib.verify(disk, expected("same.raw"))
    finally:
        os.chdir(old)


def unnamed_format(image, base):
    """An overlay whose header does not name the format of its base."""
    lib.img_create(image, ODD, backing=base, backing_fmt="raw")
    with open(image, "r+b") as f:
        header = bytearray(f.read(4096))
        # The extension 0xe2792aca holds the format: make it one to ignore.
        at = header.index(bytes.fromhex("e2792aca"))
        f.seek(at)
        f.write(bytes.fromhex("12345678"))


def node_add_fails(opts, code=(lib.FAILED,)):
    done = lib.ctl("node", "add", opts, ok=None)
    check(done.returncode in code, f"node add {opts}: exit "
          f"{done.returncode}, expected {code}: {done.stdout}{done.stderr}")
    return done.stderr


def test_format_is_not_guessed():
    """A guest that writes a qcow2 header into a raw base gains nothing."""
    secret = lib.scratch("secret")
    lib.write_sparse(secret, b"secret".ljust(ODD, b"\0"))
    base, image = lib.scratch("guest.raw"), lib.scratch("unnamed.qcow2")
    write_raw(base, "guest", ODD)
    unnamed_format(image, "guest.raw")
    for evil in (False, True):
        if evil:
            lib.img_create(base, ODD, backing=secret, backing_fmt="raw")
        for said in (
                lib.attach_fails(image, "-r").stderr,
                lib.attach_fails(f"driver=qcow2,file.filename={image}",
                                 "-r", "--image-opts").stderr,
                node_add_fails(f"driver=qcow2,file.filename={image}")):
            for want in ("unnamed.qcow2", "guest.raw", "rebase -u -F"):
                check(want in said, f"{want} is not in: {said}")
    write_raw(base, "guest", ODD)
    lib.run("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "raw", "-b",
            "guest.raw", image)
    with lib.Attached(image, "-r"):
        pass


def test_unsupported_format():
    image = lib.scratch("vmdk.qcow2")
    lib.write_sparse(lib.scratch("base.vmdk"), bytes(ODD))
    lib.img_create(image, ODD, backing="base.vmdk", backing_fmt="vmdk")
    lib.attach_fails(image, code=(lib.UNSUPPORTED,), says="vmdk")


def test_backing_is_not_forgotten():
    """Where the header cannot be read, the base is not left out."""
    image = clone("same.qcow2", "same.raw")
    lib.ctl("node", "add", f"driver=file,node-name=below,filename={image}")
    try:
        said = node_add_fails("driver=qcow2,node-name=top,file=below")
        check("backing=NODE" in said and "null" in said, said)
        lib.attach_fails("driver=qcow2,file=below", "--image-opts",
                         says="backing=NODE")
        with lib.Attached("driver=qcow2,file=below", "--no-backing",
                          "--image-opts"):
            pass
        with lib.Attached('{"driver": "qcow2", "file": "below", '
                          '"backing": null}', "--image-opts") as dev, \
             lib.Disk(dev) as disk:
            check(disk.size == ODD, f"size {disk.size}")
    finally:
        lib.ctl("node", "del", "below")
    said = node_add_fails(f"driver=nosuch,file.filename={image}",
                          (lib.UNSUPPORTED,))
    check("nosuch" in said, said)


def test_left_out_explicitly():
    """The kernel takes no image without the base its header names."""
    spec = genl.Spec()
    build = genl.Builder(spec)
    add, delete = (spec.ops[n]["id"] for n in ("node-add", "node-del"))
    name = build.put("node", "name", "top")
    image = clone("same.qcow2", "same.raw")
    with open(image, "r+b") as f, genl.connect(spec) as net:
        def call(*children):
            return net.call(add, build.node("graph", driver="file",
                                            fd=f.fileno()) +
                            build.node("graph", driver="qcow2", name="top",
                                       child=[("file", 0), *children]))

        for children, says in (
                ((), "'same.raw'"),
                ((("backing", None), ("backing", 0)), "given twice"),
                ((("backing", None), ("backing", None)), "given twice"),
                ((("data-file", None),), "cannot be left out")):
            reply = call(*children)
            check(reply.error == errno.EINVAL and says in reply.text,
                  f"{children}: {reply.error} {reply.text}")
        reply = call(("backing", None))
        check(not reply.error, reply.text)
        check(not net.call(delete, name).error, "node-del")
    for node in json.loads(lib.ctl("node", "list", "-J").stdout)["nodes"]:
        lib.ctl("node", "del", node["node-name"])


def test_relative_to_link():
    """As in QEMU, the directory is that of the name, not of its target."""
    image = clone("same.qcow2", "same.raw")
    os.makedirs(lib.scratch("links"), exist_ok=True)
    link = lib.scratch("links/link.qcow2")
    os.symlink(image, link)
    opts = f"driver=qcow2,file.filename={link}"
    for args in ((link, "-r"), (opts, "-r", "--image-opts")):
        done = lib.attach_fails(*args, code=(lib.NODEV,))
        check("links/same.raw" in done.stderr, done.stderr)
    os.rename(lib.scratch("same.raw"), lib.scratch("links/same.raw"))
    for args in ((link, "-r"), (opts, "-r", "--image-opts")):
        with lib.Attached(*args) as dev, \
             lib.Disk(dev, readonly=True) as disk:
            lib.verify(disk, expected("same.raw"))
            check(lib.sys_block(dev, "qblk/image") == image,
                  "the label is not the target of the link")


def test_base_is_locked():
    """Writers are kept away from a backing file in use; readers are not."""
    image = clone("same-512.qcow2", "same-4k.qcow2")
    base = lib.scratch("same-4k.qcow2")
    with lib.Attached(image):
        lib.attach_fails(base, code=(lib.BUSY,))
        with lib.Attached(base, "-r"):
            pass
        done = lib.run("qemu-io", "-f", "qcow2", "-c", "write 0 512", base,
                       ok=None)
        check("lock" in done.stderr + done.stdout,
              f"qemu-io could open a base for writing: {done}")
    lib.img_check(base)
