# SPDX-License-Identifier: GPL-2.0
"""Disks by netlink and without a new process, for tests that make thousands."""

import errno
import os

import genl
import lib

SYNC, _, FORCE = range(3)   # detach-mode


class Refused(Exception):
    """There is to be no such disk: the code, and the sentence as text."""

    def __init__(self, code, text):
        super().__init__(f"{errno.errorcode.get(code, code)}: {text}")
        self.code = code
        self.text = text


class Control:
    """A socket, and the requests that attach and detach images."""

    def __init__(self, timeout=3600):
        self.spec = genl.Spec()
        self.build = genl.Builder(self.spec)
        self.net = genl.Netlink(timeout=timeout)
        self.net.error_cmd = self.spec.ops["error"]["id"]
        self.disk = self.spec.sets["export"]["disk"]["id"]

    def call(self, op, payload):
        reply = self.net.call(self.spec.ops[op]["id"], payload)
        if reply.error:
            raise Refused(reply.error, reply.text)
        return reply

    def leaf(self, fd, read_only, label):
        return self.build.node(
            driver="file", fd=fd, label=label,
            option={"read-only": "on"} if read_only else {})

    def attach(self, fd, read_only=False, backing=None, data=None):
        """A disk of a qcow2 image in an open file; returns its path.

        backing and data are open files with raw data; what the header says of
        a backing file does not count.
        """
        nodes = self.leaf(fd, read_only, "image")
        count = 1
        children = [("file", 0)]
        if data is not None:
            nodes += self.leaf(data, read_only, "data")
            children.append(("data-file", count))
            count += 1
        if backing is not None:
            nodes += self.leaf(backing, True, "backing")
            nodes += self.build.node(driver="raw", child=[("file", count)],
                                     option={"read-only": "on"})
            children.append(("backing", count + 1))
        else:
            children.append(("backing", None))
        nodes += self.build.node(
            driver="qcow2", child=children,
            option={"read-only": "on"} if read_only else {})
        if read_only:
            nodes += self.build.put("export", "read-only", None)
        nodes += self.build.put("export", "no-partscan", None)
        reply = self.call("export-add", nodes)
        disk = dict(reply.messages[0])[self.disk].rstrip(b"\0").decode()
        return f"/dev/{disk}"

    def detach(self, dev, mode=SYNC):
        self.call("export-del",
                  self.build.put("export", "name", os.path.basename(dev)) +
                  self.build.put("export", "mode", mode))

    def nodes(self):
        """How many nodes there are."""
        reply = self.net.dump(self.spec.ops["node-get"]["id"])
        lib.check(not reply.error, f"node-get: {reply.error}")
        return len(reply.messages)
