# SPDX-License-Identifier: GPL-2.0
# about: netlink: each attribute wrong in each way, wrong fds, no privilege
# cost: 15
# timeout: 120
"""Requests that are wrong are refused with a sentence, and leave nothing."""

import ctypes
import errno
import os
import socket
import struct

import genl
import lib
from genl import attr
from lib import MIB, check

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000


def fixtures():
    lib.img_create("disk.qcow2", 16 * MIB)


class Wrong(genl.Builder):
    """Requests that are wrong in one attribute."""

    def wrong(self, where, name):
        """(what, attribute) for the ways in which this one can be wrong."""
        a = self.spec.sets[where][name]
        kind, number = a["type"], a["id"]
        low, high = (self.spec.bound(a, w) for w in ("min", "max"))
        if kind in ("u32", "s32", "u64", "s64"):
            size = 4 if "32" in kind else 8
            code = {"u32": "I", "s32": "i", "u64": "Q", "s64": "q"}[kind]
            for length in (0, 1, size - 1, size + 1, 64):
                yield f"{length} bytes long", attr(number, b"\x01" * length)
            for value in ([] if low is None else [low - 1]) + \
                         ([] if high is None else [high + 1]):
                if value >= 0 or kind[0] == "s":
                    yield f"= {value}", attr(number, struct.pack(code, value))
        elif kind == "string":
            yield "without NUL", attr(number, b"abc")
            yield "of no bytes", attr(number)
            most = self.spec.bound(a, "max-len")
            check(most, f"{where}.{name} has no limit of length")
            yield "too long", attr(number, b"x" * (most + 1) + b"\0")
            yield "far too long", attr(number, b"x" * 60000 + b"\0")
        elif kind == "flag":
            yield "with a value", attr(number, b"\x01\0\0\0")
        elif kind == "nest":
            yield "of garbage", attr(number, b"\xff\xff\xff", nested=True)
            yield "with a wrong length inside", attr(
                number, struct.pack("HH", 200, 1) + bytes(4), nested=True)
            yield "not marked as nested", attr(number, attr(1, b"x\0"))
            yield "with an unknown attribute", attr(number, attr(999, b"x"),
                                                    nested=True)
            yield "of no bytes", attr(number, b"", nested=True)
        elif kind == "pad":
            yield "with a value", attr(number, b"\x01\0\0\0")

    def nested(self, where, name):
        """Name of the set inside, or None."""
        return self.spec.sets[where][name].get("nested-attributes")

    def wrongs(self, where, names, depth=0):
        """All wrong attributes of a request, those inside nests included."""
        for name in names:
            for what, data in self.wrong(where, name):
                yield f"{where}.{name} {what}", data
            inner = self.nested(where, name)
            if not inner or depth > 3:
                continue
            number = self.spec.sets[where][name]["id"]
            for what, data in self.wrongs(inner, self.spec.sets[inner],
                                          depth + 1):
                yield what, attr(number, data, nested=True)


def base_request(build, op, fd):
    """A request that would work, to be spoilt by one attribute."""
    return {
        "driver-get": lambda: build.put("driver", "name", "qcow2"),
        "export-add": lambda: build.image(fd),
        "node-add": lambda: build.image(fd, "graph"),
        "probe": lambda: build.put("probe", "fd", fd),
    }.get(op, lambda: b"")()


def test_each_attribute():
    spec = genl.Spec()
    build = Wrong(spec)
    image = lib.fixture("disk.qcow2")
    fd = os.open(image, os.O_RDWR)
    count, bad = 0, []
    with genl.connect(spec) as net:
        for op in spec.requests():
            where = op["attribute-set"]
            names = (op.get("do", {}).get("request") or {}).get(
                "attributes", [])
            tries = list(build.wrongs(where, names))
            past = max((a["id"] for a in spec.sets[where].values())) + 7
            tries.append((f"{where}: unknown attribute",
                          attr(past, b"\x01\0\0\0")))
            for name, a in spec.sets[where].items():
                if name not in names and a["type"] != "pad":
                    tries.append((f"{where}.{name}, which is not for "
                                  f"{op['name']}", attr(a["id"], b"\x01\0")))
            base = base_request(build, op["name"], fd)
            for what, data in tries:
                count += 1
                reply = net.call(op["id"], data + base)
                if reply.error not in (errno.EINVAL, errno.ERANGE,
                                       errno.EMSGSIZE, errno.EBADF,
                                       errno.ENOENT):
                    bad.append(f"{op['name']}: {what}: "
                               f"{errno.errorcode.get(reply.error)}")
                elif not reply.text:
                    bad.append(f"{op['name']}: {what}: no sentence")
                if lib.disks():
                    bad.append(f"{op['name']}: {what}: {lib.disks()}")
                    lib.ctl("detach", "--all", "--force")
    os.close(fd)
    lib.note(f"{count} requests")
    check(count > 150, "the spec was not understood")
    check(not bad, "\n  ".join(["accepted or unexplained:", *bad[:40]]))
    lib.img_check(image)


def refused(net, op, payload, errors, what, problems, says=None):
    reply = net.call(op["id"], payload)
    names = [errno.errorcode[e] for e in errors]
    if reply.error not in errors:
        problems.append(f"{what}: {errno.errorcode.get(reply.error)}, expected "
                        f"{names} ({reply.text})")
    elif not reply.text:
        problems.append(f"{what}: no sentence")
    elif says and says not in reply.text:
        problems.append(f"{what}: the sentence does not name {says}: "
                        f"{reply.text}")
    if lib.disks():
        problems.append(f"{what}: left {lib.disks()}")
        lib.ctl("detach", "--all", "--force")


def test_descriptors():
    """What is no file, not open, of the wrong mode, or the wrong kind."""
    spec = genl.Spec()
    build = Wrong(spec)
    image = lib.fixture("disk.qcow2")
    pipe, other = os.pipe()
    folder = os.open("/", os.O_RDONLY)
    null = os.open("/dev/null", os.O_RDWR)
    sock = socket.socket(socket.AF_UNIX)
    readonly = os.open(image, os.O_RDONLY)
    path_only = os.open(image, os.O_PATH)
    writeonly = os.open(image, os.O_WRONLY)
    wrong = ((999, "closed", (errno.EBADF,)),
             (1 << 30, "huge", (errno.EBADF,)),
             (pipe, "a pipe", None), (other, "a pipe's other end", None),
             (folder, "a directory", None), (null, "/dev/null", None),
             (sock.fileno(), "a socket", None),
             (path_only, "an O_PATH descriptor", (errno.EBADF,)),
             (writeonly, "a write-only one", None))
    kinds = (errno.EBADF, errno.EINVAL, errno.EACCES, errno.EOPNOTSUPP,
             errno.ENOTBLK, errno.EISDIR, errno.ENODEV, errno.EPERM)
    problems = []
    with genl.connect(spec) as net:
        for fd, what, errors in wrong:
            refused(net, spec.ops["export-add"], build.image(fd),
                    errors or kinds, f"export-add: {what}", problems)
            refused(net, spec.ops["node-add"], build.image(fd, "graph"),
                    errors or kinds, f"node-add: {what}", problems)
            refused(net, spec.ops["probe"], build.put("probe", "fd", fd),
                    errors or kinds, f"probe: {what}", problems)
        # Open for reading only, and no read-only disk is asked for.
        refused(net, spec.ops["export-add"], build.image(readonly),
                (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBADF),
                "a read-only descriptor", problems)
        # A regular file is no host_device.
        refused(net, spec.ops["export-add"],
                build.node(driver="host_device", fd=readonly),
                (errno.ENOTBLK, errno.EINVAL), "host_device", problems)
    for fd in (pipe, other, folder, null, readonly, path_only, writeonly):
        os.close(fd)
    sock.close()
    check(not problems, "\n  ".join(["", *problems]))


def test_graphs():
    """Well-formed attributes, but no graph."""
    spec = genl.Spec()
    build = Wrong(spec)
    image = lib.fixture("disk.qcow2")
    fd = os.open(image, os.O_RDWR)
    invalid, missing = (errno.EINVAL,), (errno.ENOENT,)
    either = invalid + missing + (errno.EOPNOTSUPP,)
    file_node = build.node(driver="file", fd=fd)
    null = {"driver": "null", "option": {"size": "1M"}}
    cases = [
        ("nothing", b"", invalid, None),
        ("no driver", build.node(name="a", fd=fd), invalid, "driver"),
        ("unknown driver", build.node(driver="nosuch", fd=fd), either,
         "nosuch"),
        ("a protocol driver without fd", build.node(driver="file"), invalid,
         None),
        ("a format without a child", build.node(driver="qcow2"), invalid,
         "file"),
        ("a forward reference",
         build.node(driver="qcow2", child=[("file", 1)]) + file_node, either,
         None),
        ("a reference to itself",
         file_node + build.node(driver="qcow2", child=[("file", 1)]), either,
         None),
        ("an index past the end",
         file_node + build.node(driver="qcow2", child=[("file", 7)]), either,
         None),
        ("an unknown node",
         build.node(driver="qcow2", child=[("file", "nobody")]), either,
         "nobody"),
        ("an unknown child name",
         file_node + build.node(driver="qcow2", child=[("bogus", 0)]), invalid,
         "bogus"),
        ("the same child twice",
         file_node + build.node(driver="qcow2",
                                child=[("file", 0), ("file", 0)]),
         invalid + (errno.EEXIST,), "file"),
        ("a child without a name",
         file_node + build.put("export", "node",
                               build.put("node", "driver", "qcow2") +
                               build.put("node", "child",
                                         build.put("child", "index", 0))),
         invalid, None),
        ("a child that is nothing",
         file_node + build.put("export", "node",
                               build.put("node", "driver", "qcow2") +
                               build.put("node", "child",
                                         build.put("child", "name", "file"))),
         invalid, None),
        ("an unknown option",
         build.node(driver="file", fd=fd, option={"bogus": "1"}), invalid,
         "bogus"),
        ("an option twice",
         build.put("export", "node",
                   build.put("node", "driver", "null") +
                   2 * build.put("node", "option",
                                 build.put("option", "key", "size") +
                                 build.put("option", "value", "1M"))),
         invalid, "size"),
        ("a value that is no number",
         build.node(driver="null", option={"size": "potato"}), invalid,
         "potato"),
        ("an option without a value",
         build.put("export", "node",
                   build.put("node", "driver", "null") +
                   build.put("node", "option",
                             build.put("option", "key", "size"))),
         invalid, None),
        ("an fd for a driver that wants none",
         build.node(fd=fd, **null), invalid, None),
        ("an unknown root",
         build.put("export", "root", "nobody") + build.node(**null), either,
         "nobody"),
        ("the same node name twice",
         build.node(name="a", **null) + build.node(name="a", **null),
         (errno.EEXIST, errno.EINVAL), "a"),
        ("no image", build.node(driver="file", fd=os.open(
            "/etc/passwd", os.O_RDONLY)) +
         build.node(driver="qcow2", child=[("file", 0)]),
         invalid + (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBADF),
         None),
        ("too many nodes", build.node(**null) * 1025,
         (errno.EINVAL, errno.E2BIG, errno.ERANGE), None),
    ]
    problems = []
    with genl.connect(spec) as net:
        for what, payload, errors, says in cases:
            refused(net, spec.ops["export-add"], payload, errors, what,
                    problems, says)
        for op, payload, errors, says in (
                ("export-del", b"", invalid, None),
                ("export-del", build.put("export", "name", "nobody"), missing,
                 "nobody"),
                ("export-get", build.put("export", "name", "nobody"), missing,
                 "nobody"),
                ("export-get", b"", invalid, None),
                ("node-del", b"", invalid, None),
                ("node-del", build.put("node", "name", "nobody"), missing,
                 "nobody"),
                ("node-get", build.put("node", "name", "nobody"), missing,
                 "nobody"),
                ("node-get", b"", invalid, None),
                ("node-add", b"", invalid, None),
                ("driver-get", b"", invalid, None),
                ("driver-get", build.put("driver", "name", "nosuch"), missing,
                 "nosuch"),
                ("probe", b"", invalid, None),
                ("probe", build.put("probe", "fd", fd) +
                 build.put("probe", "format", "nosuch"), either, "nosuch")):
            refused(net, spec.ops[op], payload, errors, op, problems, says)
        # What failed half way gave the files back.
        check(not nodes(spec, net), f"left nodes: {nodes(spec, net)}")
    os.close(fd)
    check(not problems, "\n  ".join(["", *problems]))
    out = lib.run("qemu-io", "-f", "qcow2", "-c", "write 0 512", image, ok=None)
    check(out.returncode == 0, f"the image is still locked: {out.stderr}")


def nodes(spec, net):
    number = spec.sets["node"]["name"]["id"]
    reply = net.dump(spec.ops["node-get"]["id"])
    check(reply.error == 0, f"dump: {reply.error}")
    return [dict(m)[number].rstrip(b"\0").decode() for m in reply.messages]


def test_good_requests():
    """The builder above makes requests that work, when nothing is wrong."""
    spec = genl.Spec()
    build = Wrong(spec)
    image = lib.fixture("disk.qcow2")
    with genl.connect(spec) as net, open(image, "r+b") as f:
        reply = net.call(spec.ops["export-add"]["id"],
                         build.put("export", "name", "by-hand") +
                         build.image(f.fileno()))
        check(reply.error == 0, f"{errno.errorcode.get(reply.error)}: "
                                f"{reply.text}")
        check(len(lib.disks()) == 1, f"disks: {lib.disks()}")
        reply = net.call(spec.ops["export-add"]["id"],
                         build.put("export", "name", "by-hand") +
                         build.node(driver="null", option={"size": "1M"}))
        check(reply.error == errno.EEXIST, f"name twice: {reply.error}")
        check("by-hand" in reply.text, reply.text)
        names = nodes(spec, net)
        check(len(names) == 2, f"nodes: {names}")
        for name in names:
            reply = net.call(spec.ops["node-del"]["id"],
                             build.put("node", "name", name))
            check(reply.error == errno.EBUSY and reply.text,
                  f"node-del of {name} in use: {reply.error} {reply.text}")
        reply = net.call(spec.ops["export-del"]["id"],
                         build.put("export", "name", "by-hand"))
        check(reply.error == 0, f"export-del: {reply.error} {reply.text}")
        check(not nodes(spec, net), f"nodes stay: {nodes(spec, net)}")
    lib.img_check(image)


def test_dump_of_many():
    """More objects than fit one message, each exactly once."""
    spec = genl.Spec()
    build = Wrong(spec)
    count = 300
    with genl.connect(spec) as net:
        for start in range(0, count, 50):
            payload = b"".join(
                build.node("graph", driver="null", name=f"n{n:03}",
                           label="x" * 500, option={"size": "1M"})
                for n in range(start, start + 50))
            reply = net.call(spec.ops["node-add"]["id"], payload)
            check(reply.error == 0, f"node-add: {reply.error} {reply.text}")
        names = nodes(spec, net)
        check(sorted(names) == [f"n{n:03}" for n in range(count)],
              f"{len(names)} names, {len(set(names))} different")
        reply = net.call(spec.ops["node-add"]["id"],
                         build.node("graph", driver="null", name="n007",
                                    option={"size": "1M"}))
        check(reply.error == errno.EEXIST, f"a name twice: {reply.error}")
        reply = net.dump(spec.ops["node-get"]["id"],
                         build.put("node", "name", "n007"))
        check(reply.error in (0, errno.EINVAL), f"dump: {reply.error}")
        for n in range(count):
            reply = net.call(spec.ops["node-del"]["id"],
                             build.put("node", "name", f"n{n:03}"))
            check(reply.error == 0, f"node-del: {reply.error} {reply.text}")
        check(not nodes(spec, net), "nodes stay")


def test_commands():
    spec = genl.Spec()
    with genl.connect(spec) as net:
        known = {o["id"] for o in spec.requests()}
        for cmd in [c for c in range(256) if c not in known][::16] + [255]:
            reply = net.call(cmd)
            check(reply.error == errno.EOPNOTSUPP,
                  f"command {cmd}: {errno.errorcode.get(reply.error)}")
        for op in spec.requests():
            if "dump" in op:
                continue
            reply = net.dump(op["id"])
            check(reply.error == errno.EOPNOTSUPP,
                  f"dump of {op['name']}: {reply.error}")


def in_child(function):
    """Runs function in a process of its own; returns its text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        try:
            text = function() or "ok"
        except BaseException as e:  # pylint: disable=broad-except
            text = f"{type(e).__name__}: {e}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as f:
        text = f.read()
    os.waitpid(pid, 0)
    return text


def all_denied(spec, net):
    for op in spec.requests():
        for call, word in ((net.call, "do"), (net.dump, "dump")):
            if word not in op:
                continue
            reply = call(op["id"])
            if reply.error != errno.EPERM or reply.messages:
                return (f"{word} {op['name']}: "
                        f"{errno.errorcode.get(reply.error)}")
            if not reply.text and word == "do":
                return f"{word} {op['name']}: no sentence"
    return None


def unprivileged(spec):
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    with genl.connect(spec) as net:
        return all_denied(spec, net)


def dropped_later(spec):
    """A socket of root does not make its holder root."""
    with genl.connect(spec) as net:
        os.setresuid(65534, 65534, 65534)
        return all_denied(spec, net)


def namespaced(spec, flags):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags):
        return "ok"     # not allowed here: nothing to test
    try:
        with genl.connect(spec) as net:
            return all_denied(spec, net)
    except OSError as e:
        return None if e.errno == errno.ENOENT else f"family: {e}"


def test_no_privilege():
    spec = genl.Spec()
    for what, function in (
            ("uid 65534", lambda: unprivileged(spec)),
            ("a socket opened by root", lambda: dropped_later(spec)),
            ("root of a user namespace",
             lambda: namespaced(spec, CLONE_NEWUSER)),
            ("a network namespace of one's own",
             lambda: namespaced(spec, CLONE_NEWUSER | CLONE_NEWNET))):
        text = in_child(function)
        check(text == "ok", f"{what}: {text}")


def test_events():
    """Listeners hear of disks that come and go."""
    spec = genl.Spec()
    image = lib.fixture("disk.qcow2")
    heard = []
    with genl.connect(spec) as net:
        net.join("monitor")
        with lib.Attached(image):
            heard += [m[3][0] for m in net.receive()]
        heard += [m[3][0] for m in net.receive()]
    want = [spec.ops[f"export-{w}-ntf"]["id"] for w in ("add", "del")]
    check(heard == want, f"events {heard}, expected {want}")


def test_event_of_lazy_removal():
    """Heard when the disk is gone, not before, with what it was."""
    spec = genl.Spec()
    image = lib.fixture("disk.qcow2")
    with genl.connect(spec) as net:
        net.join("monitor")
        dev = lib.attach(image, "--name", "lazy")
        heard = list(net.receive())
        disk = lib.Disk(dev)
        lib.detach(dev, "--lazy")
        net.sock.settimeout(0.5)
        try:
            heard = list(net.receive())
            check(False, f"an event before the disk was closed: {heard}")
        except TimeoutError:
            pass
        disk.close()
        net.sock.settimeout(30)
        heard = [m[3] for m in net.receive()]
    check(len(heard) == 1 and
          heard[0][0] == spec.ops["export-del-ntf"]["id"], f"heard {heard}")
    said = dict(genl.attrs(heard[0][4:]))
    for key, value in (("name", b"lazy\0"),
                       ("disk", os.path.basename(dev).encode() + b"\0"),
                       ("size", struct.pack("Q", 16 * MIB))):
        got = said.get(spec.sets["export"][key]["id"])
        check(got == value, f"{key}: {got}, expected {value}")
    check(not lib.disks(), "heard of it too early")
    lib.img_check(image)


def test_guard():
    """A disk that has got the name of another one is not removed."""
    spec = genl.Spec()
    build = Wrong(spec)
    null = {"driver": "null", "option": {"size": "1M"}}
    with genl.connect(spec) as net:
        add, delete = (spec.ops[f"export-{w}"]["id"] for w in ("add", "del"))
        name = build.put("export", "name", "guarded")
        reply = net.call(add, name + build.node(name="one", **null))
        check(reply.error == 0, reply.text)
        reply = net.call(delete, name + build.put("export", "root", "two"))
        check(reply.error == errno.ENOENT and "one" in reply.text and
              "two" in reply.text, f"{reply.error} {reply.text}")
        check(len(lib.disks()) == 1, "removed all the same")
        reply = net.call(delete, name + build.put("export", "root", "one"))
        check(reply.error == 0, f"{reply.error} {reply.text}")


def test_many_parents():
    """A node that many use does not make a dump impossible."""
    spec = genl.Spec()
    build = Wrong(spec)
    used_by = spec.sets["node"]["used-by"]["id"]
    count = 500
    names = [f"p{n:03}".ljust(31, "x") for n in range(count)]
    options = {"read-only": "on"}
    with genl.connect(spec) as net:
        payload = build.node("graph", driver="null", name="many",
                             option={"size": "1M", **options})
        payload += b"".join(
            build.node("graph", driver="raw", name=name, option=options,
                       child=[("file", 0)]) for name in names)
        reply = net.call(spec.ops["node-add"]["id"], payload)
        check(reply.error == 0, f"node-add: {reply.error} {reply.text}")
        reply = net.dump(spec.ops["node-get"]["id"])
        check(reply.error == 0, f"dump: {errno.errorcode.get(reply.error)}")
        check(len(reply.messages) == count + 1,
              f"{len(reply.messages)} nodes in the dump")
        reply = net.call(spec.ops["node-get"]["id"],
                         build.put("node", "name", "many"))
        users = [v for k, v in reply.messages[0] if k == used_by]
        check(len(users) == count, f"node-get names {len(users)} users")
        for name in [*names, "many"]:
            reply = net.call(spec.ops["node-del"]["id"],
                             build.put("node", "name", name))
            check(reply.error == 0, f"node-del: {reply.error} {reply.text}")
