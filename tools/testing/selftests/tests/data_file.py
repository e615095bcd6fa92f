# SPDX-License-Identifier: GPL-2.0
# about: external data files: found, given, locked, refused
# kernels: either
# cost: 10
# timeout: 60
"""Where the data file of an image comes from, and who may use it."""

import errno
import json
import os

import genl
import lib
import qcow2
from lib import MIB, check

SIZE = 4 * MIB
DATA_FILE = 0x44415441      # header extension
DATA_FILE_BIT = 1 << 2      # incompatible feature


def create(name, data, *extra):
    """An image in the working directory whose header names its data file."""
    lib.run("qemu-img", "create", "-q", "-f", "qcow2", *extra, "-o",
            f"data_file={data}", name, SIZE)


def fixtures():
    create("image.qcow2", "image.data")
    create("raw.qcow2", "raw.data", "-o", "data_file_raw=on")
    lib.img_create("plain.qcow2", SIZE)
    create("top.qcow2", "top.data", "-u", "-b", "image.qcow2", "-F", "qcow2")
    lib.img_create("over.qcow2", SIZE, backing="image.qcow2")


def clone(*names):
    """Images with their data files; the path of the first one."""
    for name in names:
        lib.fixture(name)
        data = name.replace(".qcow2", ".data")
        if os.path.exists(lib.fixture_path(data)):
            lib.fixture(data)
    return lib.scratch(names[0])


def rename_data(image, name, bit=True):
    """Have the header name another data file, or none."""
    with open(image, "r+b") as f:
        img = qcow2.Bytes(f.read(64 * 1024))
        features = img.get("incompatible_features")
        img.set("incompatible_features", features | DATA_FILE_BIT if bit
                else features & ~DATA_FILE_BIT)
        kept = [(m, p) for m, p in img.extensions() if m != DATA_FILE]
        img.put(img.get("header_length"), bytes(4096))
        for magic, payload in kept:
            img.add_extension(magic, payload)
        if name is not None:
            img.add_extension(DATA_FILE, name.encode())
        f.seek(0)
        f.write(img.data)
    return image


def expect_data(dev, *names):
    """The data files of the layers, from the top down; None for none."""
    found = [layer.get("data-file", {}).get("image") for layer in lib.layers(dev)]
    want = [name and os.path.realpath(lib.scratch(name)) for name in names]
    check(found == want, f"data files {found}, expected {want}")


def test_named_by_header():
    """Beside the image, wherever the command runs."""
    image = clone("image.qcow2")
    with lib.Attached(image) as dev:
        expect_data(dev, "image.data")
        top = lib.layers(dev)[0]
        check(top["info"]["data-file"] == "image.data", top["info"])
        check(top["info"]["data-file-raw"] is False, top["info"])
        check(set(top["children"]) == {"file", "data-file"}, top["children"])
        text = lib.ctl("show", dev).stdout
        check("data file node" in text and "image.data" in text, text)
        text = lib.ctl("list", "-n", "-o", "DATA-FILE", dev, ok=None).stdout \
            or lib.ctl("list", "-n", "-o", "DATA-FILE").stdout
        check("image.data" in text, text)
    image = clone("raw.qcow2")
    with lib.Attached(image, "-r") as dev:
        expect_data(dev, "raw.data")
        info = lib.layers(dev)[0]["info"]
        check(info["data-file-raw"] is True, info)


def test_link_and_given():
    image = clone("image.qcow2")
    os.rename(lib.scratch("image.data"), lib.scratch("moved"))
    with lib.Attached(image, "--data-file", lib.scratch("moved")) as dev:
        expect_data(dev, "moved")
    os.symlink("moved", lib.scratch("image.data"))
    with lib.Attached(image) as dev:
        expect_data(dev, "moved")
    os.unlink(lib.scratch("image.data"))
    for name in (None, "elsewhere/nothing"):
        rename_data(image, name)
        with lib.Attached(image, "--data-file", lib.scratch("moved")) as dev:
            expect_data(dev, "moved")


def test_chain():
    image = clone("top.qcow2", "image.qcow2")
    with lib.Attached(image) as dev:
        expect_data(dev, "top.data", "image.data")
        nodes = {n["node-name"]: n for n in json.loads(
            lib.ctl("node", "list", "-J").stdout)["nodes"]}
        found = [nodes[layer["children"]["data-file"]]["read-only"]
                 for layer in lib.layers(dev)]
        check(found == [False, True], f"read-only: {found}")
    image = clone("over.qcow2", "image.qcow2")
    with lib.Attached(image) as dev:
        expect_data(dev, None, "image.data")
    check(json.loads(lib.ctl("node", "list", "-J").stdout)["nodes"] == [],
          "nodes are left")


def test_options():
    image = clone("image.qcow2")
    moved = lib.scratch("moved")
    with lib.Attached(f"driver=qcow2,file.filename={image}",
                      "--image-opts") as dev:
        expect_data(dev, "image.data")
    os.rename(lib.scratch("image.data"), moved)
    with lib.Attached(f"driver=qcow2,file.filename={image},"
                      f"data-file.driver=file,data-file.filename={moved}",
                      "--image-opts") as dev:
        expect_data(dev, "moved")
    lib.ctl("node", "add", f"driver=file,node-name=data,filename={moved}")
    try:
        with lib.Attached(f"driver=qcow2,file.filename={image},data-file=data",
                          "--image-opts") as dev:
            expect_data(dev, "moved")
    finally:
        lib.ctl("node", "del", "data")
    lib.attach_fails(f"driver=qcow2,file.filename={image}", "--image-opts",
                     code=(lib.NODEV,), says="image.data")


def test_missing():
    image = clone("image.qcow2")
    os.unlink(lib.scratch("image.data"))
    done = lib.attach_fails(image, code=(lib.NODEV,))
    for want in (lib.scratch("image.data"), "data file of", "No such file"):
        check(want in done.stderr, f"{want} is not in {done.stderr}")
    lib.attach_fails(rename_data(image, None),
                     says="'data-file' is required for this image")
    over = clone("over.qcow2")
    lib.attach_fails(over, says="'data-file' is required for this image")


def test_not_wanted():
    image = clone("plain.qcow2")
    other = lib.scratch("other")
    lib.write_sparse(other, bytes(SIZE))
    says = "'data-file' can only be set for images with an external data file"
    lib.attach_fails(image, "--data-file", other, says=says)
    # The name alone does not make it one.
    rename_data(image, "other", bit=False)
    with lib.Attached(image) as dev:
        expect_data(dev, None)
    lib.attach_fails(other, "-f", "raw", "--data-file", other,
                     code=(lib.FAILED,), says="data file|no child")
    third = lib.scratch("third")
    lib.write_sparse(third, bytes(SIZE))
    lib.attach_fails(other, "-f", "raw", "--data-file", third,
                     says="'raw' has no child 'data-file'")


def test_hostile_names():
    """A header names a path, nothing else (CVE-2024-4467)."""
    secret = lib.scratch("secret")
    lib.write_sparse(secret, b"secret".ljust(SIZE, b"\0"))
    for name in ('json:{"driver": "file", "filename": "%s"}' % secret,
                 'json:{"driver":"qcow2","file.filename":"x"}',
                 "nbd://localhost", "fat:rw:/", "data:image/raw"):
        image = rename_data(clone("image.qcow2"), name)
        lib.attach_fails(image, code=(lib.UNSUPPORTED,), says="is not a path")
        lib.attach_fails(f"driver=qcow2,file.filename={image}",
                         "--image-opts", code=(lib.UNSUPPORTED,),
                         says="is not a path")
    for name, code in ((".", lib.FAILED), ("/dev/null", lib.FAILED),
                       ("x" * 300, lib.FAILED), ("\x1b[31mred", lib.NODEV)):
        image = rename_data(clone("image.qcow2"), name)
        done = lib.attach_fails(image, code=(code,))
        check("\x1b" not in done.stderr, "escapes reach the terminal")
    lib.attach_fails(rename_data(clone("image.qcow2"), "x" * 5000),
                     says="data file name too long: 5000")
    for name in ("image.qcow2", lib.scratch("image.qcow2")):
        lib.attach_fails(rename_data(clone("image.qcow2"), name),
                         says="is an image of the chain")


def test_locked():
    """Together with the image, as QEMU would."""
    image = clone("image.qcow2")
    data = lib.scratch("image.data")
    other = lib.scratch("other.qcow2")
    with lib.Attached(image):
        done = lib.run("qemu-io", "-f", "raw", "-c", "read 0 512", data,
                       ok=None)
        check(done.returncode and "lock" in done.stderr,
              f"QEMU may open it: {done.stderr}")
        lib.copy_sparse(image, other)
        done = lib.attach_fails(other, code=(lib.BUSY,), says="lock")
        check("attached as /dev/qblk" in done.stderr, done.stderr)
    with lib.Attached(image, "-r"):
        lib.run("qemu-io", "-r", "-f", "raw", "-c", "read 0 512", data)
        lib.attach_fails(other, code=(lib.BUSY,))
        with lib.Attached(other, "-r"):
            pass
    lib.run("qemu-io", "-f", "raw", "-c", "write 0 512", data)


def qcow2_on(build, image, data, **options):
    """Message for an image of two files, opened by their descriptors."""
    nodes = build.node(driver="file", fd=image, **options)
    children = [("file", 0)]
    if data is not None:
        nodes += build.node(driver="file", fd=data, **options)
        children.append(("data-file", 1))
    return nodes + build.node(driver="qcow2", child=children)


def test_netlink():
    spec = genl.Spec()
    build = genl.Builder(spec)
    add = spec.ops["export-add"]["id"]
    image, data = clone("image.qcow2"), lib.scratch("image.data")
    with genl.connect(spec) as net, open(image, "r+b") as f, \
         open(data, "r+b") as d, open(data, "rb") as readonly:
        reply = net.call(add, qcow2_on(build, f.fileno(), None))
        check(reply.error == errno.EINVAL and "'image.data'" in reply.text and
              "'data-file' is required" in reply.text, reply.text)
        reply = net.call(add, build.node(driver="file", fd=f.fileno()) +
                         build.node(driver="file", fd=readonly.fileno(),
                                    option={"read-only": "on"}) +
                         build.node(driver="qcow2",
                                    child=[("file", 0), ("data-file", 1)]))
        check(reply.error == errno.EPERM and "data-file" in reply.text,
              reply.text)
        reply = net.call(add, qcow2_on(build, f.fileno(), d.fileno()))
        check(not reply.error, reply.text)
    dev = f"/dev/{lib.disks()[0]}"
    lib.detach(dev)
