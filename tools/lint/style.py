# SPDX-License-Identifier: GPL-2.0
"""Licence tags, sizes and white space; reads the names of the files from
standard input."""

import re
import sys

MAX_FILE = 1200
MAX_FUNCTION = 100

# The licence itself, and formats that have no comments or their own header.
NO_TAG = re.compile(r"^COPYING$|^Documentation/ABI/|\.json$|\.svg$")
# Generated: its size is not ours to choose.
GENERATED = re.compile(r"^kmod/core/nl_gen\.[ch]$|^uapi/linux/qblk\.h$")


def check_tag(path, lines):
    if NO_TAG.search(path):
        return
    script = lines and lines[0].startswith("#!")
    where = 1 if script else 0
    # Some formats, and shellcheck directives, want the first line.
    allowed = lines[:2] if re.search(r"\.(md|[1-8]|ya?ml|sh)$", path) else lines[where:where + 1]
    if not any("SPDX-License-Identifier: " in line for line in allowed):
        yield where + 1, "no SPDX-License-Identifier"


def check_functions(lines):
    """A body starts with a brace in the first column and ends with one."""
    start = name = None
    for n, line in enumerate(lines, 1):
        if line == "{" and n > 1:
            start, name = n, lines[n - 2].strip()
        elif line.startswith("}") and start:
            if n - start - 1 > MAX_FUNCTION:
                yield start, f"{n - start - 1} lines in one function: {name}"
            start = None


def check(path, text):
    lines = text.split("\n")
    yield from check_tag(path, lines)
    for n, line in enumerate(lines, 1):
        if line != line.rstrip():
            yield n, "white space at the end"
        if re.match(r"(<<<<<<<|>>>>>>>) ", line):
            yield n, "conflict marker"
    if text and not text.endswith("\n"):
        yield len(lines), "no newline at the end"
    if text.endswith("\n\n"):
        yield len(lines), "empty line at the end"
    if path == "COPYING" or GENERATED.search(path):
        return
    if re.search(r"\.[ch]$", path):
        if len(lines) - 1 > MAX_FILE:
            yield MAX_FILE, f"{len(lines) - 1} lines"
        yield from check_functions(lines)


def main():
    bad = False
    for path in sys.stdin.read().splitlines():
        with open(path, "rb") as f:
            data = f.read()
        if b"\0" in data:
            continue
        for line, what in check(path, data.decode("utf-8")):
            print(f"{path}:{line}: {what}")
            bad = True
    return bad


sys.exit(main())
