# SPDX-License-Identifier: GPL-2.0
"""Compiles every Python source; reads the names of the files from standard
input."""

import sys
import warnings


def is_python(path, first):
    return path.endswith(".py") or (first.startswith(b"#!") and b"python" in first)


def main():
    bad = False
    warnings.simplefilter("error")
    for path in sys.stdin.read().splitlines():
        with open(path, "rb") as f:
            data = f.read()
        if not is_python(path, data.split(b"\n", 1)[0]):
            continue
        try:
            compile(data, path, "exec")
        except (SyntaxError, Warning) as e:
            print(f"{path}: {e}")
            bad = True
        if data.startswith(b"#!/usr/bin/env "):
            print(f"{path}: say /usr/bin/python3, another one lacks Debian's modules")
            bad = True
    return bad


sys.exit(main())
