# SPDX-License-Identifier: GPL-2.0
"""Generic netlink by hand, so that a test can also send what is wrong.

Spec reads the subset of YAML that Documentation/netlink/specs/qblk.yaml uses.
"""

import os
import socket
import struct

import lib

NETLINK_GENERIC = 16
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 1
NLM_F_MULTI = 2
NLM_F_ACK = 4
NLM_F_DUMP = 0x300
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLMSGERR_ATTR_MSG = 1
NLA_F_NESTED = 1 << 15
NLA_TYPE_MASK = 0x3fff
GENL_ID_CTRL = 16
CTRL_CMD_GETFAMILY = 3
CTRL_ATTR_FAMILY_ID = 1
CTRL_ATTR_FAMILY_NAME = 2
CTRL_ATTR_MCAST_GROUPS = 7

SPEC = os.path.join(lib.ROOT, "Documentation/netlink/specs/qblk.yaml")


# --- the spec -------------------------------------------------------------------

class Yaml:
    """Maps, lists, [flow lists], | blocks, &anchors and *aliases."""

    def __init__(self, text):
        self.lines = []
        for line in text.splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                self.lines.append((len(line) - len(line.lstrip()),
                                   line.strip()))
        self.pos = 0
        self.anchors = {}

    def peek(self):
        return self.lines[self.pos] if self.pos < len(self.lines) else (-1, "")

    def block(self, indent):
        if self.peek()[1].startswith("-"):
            return self.sequence(indent)
        return self.mapping(indent)

    def sequence(self, indent):
        out = []
        while self.peek()[0] == indent and self.peek()[1].startswith("-"):
            text = self.peek()[1][1:].strip()
            if text:
                if ": " in text or text.endswith(":"):
                    # "- key: value" opens a map that is indented by two.
                    self.lines[self.pos] = (indent + 2, text)
                    out.append(self.mapping(indent + 2))
                else:
                    self.pos += 1
                    out.append(self.scalar(text))
            else:
                self.pos += 1
                out.append(self.block(self.peek()[0]))
        return out

    def mapping(self, indent):
        out = {}
        while self.peek()[0] == indent and not self.peek()[1].startswith("-"):
            key, _, value = self.peek()[1].partition(":")
            value = value.strip()
            self.pos += 1
            anchor = None
            if value.startswith("&"):
                anchor, _, value = value[1:].partition(" ")
            if value in ("|", ">"):
                while self.peek()[0] > indent:
                    self.pos += 1
                out[key] = ""
            elif value:
                out[key] = self.scalar(value)
            elif self.peek()[0] > indent or (
                    self.peek()[0] == indent and
                    self.peek()[1].startswith("-")):
                out[key] = self.block(self.peek()[0])
            else:
                out[key] = None
            if anchor:
                self.anchors[anchor] = out[key]
        return out

    def scalar(self, text):
        if text.startswith("*"):
            return self.anchors[text[1:]]
        if text.startswith("["):
            return [self.scalar(t.strip()) for t in text[1:-1].split(",")
                    if t.strip()]
        try:
            return int(text, 0)
        except ValueError:
            return {"true": True, "false": False}.get(text, text)


class Spec:
    def __init__(self, path=SPEC):
        with open(path, encoding="utf-8") as f:
            self.doc = Yaml(f.read()).block(0)
        self.consts = {d["name"]: d.get("value")
                       for d in self.doc["definitions"]}
        for d in self.doc["definitions"]:
            if d["type"] == "enum":
                self.consts[d["name"]] = len(d["entries"]) - 1
        self.sets = {}
        for s in self.doc["attribute-sets"]:
            if "subset-of" in s:
                whole = self.sets[s["subset-of"]]
                keep = [a["name"] for a in s["attributes"]]
                self.sets[s["name"]] = {k: whole[k] for k in keep}
                continue
            self.sets[s["name"]] = {a["name"]: {**a, "id": n} for n, a in
                                    enumerate(s["attributes"], 1)}
        self.ops = {o["name"]: {**o, "id": n} for n, o in
                    enumerate(self.doc["operations"]["list"], 1)}

    def requests(self):
        """Operations that take requests."""
        return [o for o in self.ops.values() if "do" in o or "dump" in o]

    def bound(self, attribute, which):
        value = (attribute.get("checks") or {}).get(which)
        if value is None and which == "max" and "enum" in attribute:
            value = attribute["enum"]
        return self.consts.get(value, value)


# --- messages -----------------------------------------------------------------

def attr(number, payload=b"", nested=False):
    length = 4 + len(payload)
    return (struct.pack("HH", length, number | (NLA_F_NESTED if nested else 0))
            + payload + bytes(-length % 4))


def attrs(data):
    """[(type, payload)] of a run of attributes."""
    out = []
    while len(data) >= 4:
        length, kind = struct.unpack_from("HH", data)
        if length < 4:
            break
        out.append((kind & NLA_TYPE_MASK, data[4:length]))
        data = data[(length + 3) // 4 * 4:]
    return out


class Reply:
    """What came back: the code, the sentence, and the messages before."""

    def __init__(self):
        self.error = None       # 0, or a positive errno
        self.extack = ""
        self.sentence = ""
        self.messages = []      # attributes of each

    @property
    def text(self):
        return self.sentence or self.extack


class Netlink:
    def __init__(self, family="qblk", timeout=30):
        self.sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW,
                                  NETLINK_GENERIC)
        self.sock.bind((0, 0))
        self.sock.settimeout(timeout)
        self.sock.setsockopt(SOL_NETLINK, NETLINK_EXT_ACK, 1)
        self.sock.setsockopt(SOL_NETLINK, NETLINK_CAP_ACK, 1)
        self.seq = 0
        self.family = GENL_ID_CTRL
        self.groups = {}
        self.error_cmd = None
        if family:
            self.resolve(family)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def resolve(self, name):
        reply = self.call(CTRL_CMD_GETFAMILY,
                          attr(CTRL_ATTR_FAMILY_NAME, name.encode() + b"\0"))
        if reply.error:
            raise OSError(reply.error, f"family {name}: "
                          + os.strerror(reply.error))
        for kind, payload in reply.messages[0]:
            if kind == CTRL_ATTR_FAMILY_ID:
                self.family = struct.unpack_from("H", payload)[0]
            elif kind == CTRL_ATTR_MCAST_GROUPS:
                for _, group in attrs(payload):
                    inner = dict(attrs(group))
                    self.groups[inner[1].rstrip(b"\0").decode()] = \
                        struct.unpack("I", inner[2])[0]

    def join(self, group):
        self.sock.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP,
                             self.groups[group])

    def send(self, cmd, payload=b"", flags=NLM_F_ACK):
        self.seq += 1
        body = struct.pack("BBH", cmd, 1, 0) + payload
        self.sock.send(struct.pack("IHHII", 16 + len(body), self.family,
                                   NLM_F_REQUEST | flags, self.seq, 0) + body)

    def receive(self):
        """Messages of one datagram: (type, flags, seq, payload)."""
        data = self.sock.recv(1 << 20)
        while len(data) >= 16:
            length, kind, flags, seq, _ = struct.unpack_from("IHHII", data)
            yield kind, flags, seq, data[16:length]
            data = data[(length + 3) // 4 * 4:]

    def finish(self, reply, flags, payload):
        reply.error = -struct.unpack_from("i", payload)[0]
        if flags & NLM_F_ACK_TLVS:
            # With CAP_ACK only the header of the request is repeated.
            start = 4 + (16 if flags & NLM_F_CAPPED else
                         struct.unpack_from("I", payload, 4)[0])
            for kind, value in attrs(payload[start:]):
                if kind == NLMSGERR_ATTR_MSG:
                    reply.extack = value.rstrip(b"\0").decode()

    def call(self, cmd, payload=b"", flags=NLM_F_ACK):
        self.send(cmd, payload, flags)
        reply = Reply()
        while reply.error is None:
            for kind, got, seq, data in self.receive():
                if seq != self.seq:
                    continue
                if kind == NLMSG_ERROR:
                    self.finish(reply, got, data)
                elif kind == NLMSG_DONE:
                    reply.error = -struct.unpack_from("i", data)[0]
                elif data[0] == self.error_cmd:
                    reply.sentence = attrs(data[4:])[0][1].rstrip(
                        b"\0").decode()
                else:
                    reply.messages.append(attrs(data[4:]))
        return reply

    def dump(self, cmd, payload=b""):
        return self.call(cmd, payload, NLM_F_DUMP)


def connect(spec):
    net = Netlink()
    net.error_cmd = spec.ops["error"]["id"]
    return net


class Builder:
    """Requests in the words of the spec."""

    def __init__(self, spec):
        self.spec = spec

    def put(self, where, name, value):
        a = self.spec.sets[where][name]
        kind, number = a["type"], a["id"]
        if kind == "string":
            return attr(number, value.encode() + b"\0")
        if kind in ("u32", "s32", "u64", "s64"):
            code = {"u32": "I", "s32": "i", "u64": "Q", "s64": "q"}[kind]
            return attr(number, struct.pack(code, value))
        if kind == "flag":
            return attr(number)
        return attr(number, value, nested=True)

    def node(self, where="export", **fields):
        """A definition; options as a dict, children as [(name, index)].

        A child is an index, the name of a node, or None to leave it out.
        """
        body = b""
        for key, value in fields.items():
            if key == "option":
                for k, v in value.items():
                    body += self.put("node", "option",
                                     self.put("option", "key", k) +
                                     self.put("option", "value", v))
            elif key == "child":
                for name, index in value:
                    which = {int: "index", str: "node"}.get(type(index),
                                                            "none")
                    body += self.put("node", "child",
                                     self.put("child", "name", name) +
                                     self.put("child", which, index))
            else:
                body += self.put("node", key, value)
        return self.put(where, "node", body)

    def image(self, fd, where="export"):
        """A qcow2 image in an open file."""
        return (self.node(where, driver="file", fd=fd, label="image") +
                self.node(where, driver="qcow2", child=[("file", 0)]))
