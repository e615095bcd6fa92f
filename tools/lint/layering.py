# SPDX-License-Identifier: GPL-2.0
"""Who may know what; reads the names of the files from standard input."""

import re
import sys

COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.M)

# What the code of a folder may not contain: (folder, pattern, reason)
FORBIDDEN = [
    (r"kmod/(?!compat/)", r"\b(LINUX_VERSION_CODE|KERNEL_VERSION)\b",
     "kernel versions are known in kmod/compat only"),
    (r"kmod/", r"\bBUG(_ON)?\s*\(", "no BUG()"),
    (r"kmod/(?!export/|compat/)", r"\bstruct request(_queue)?\b",
     "struct request is known in kmod/export only"),
    (r"kmod/(?!export/|compat/)", r"\bblk_mq_\w+\s*\(",
     "blk-mq is known in kmod/export only"),
]

# (folder, pattern of the included name, reason)
FORBIDDEN_INCLUDE = [
    (r"kmod/(?!export/|compat/)", r"linux/blk-mq\.h",
     "blk-mq is known in kmod/export only"),
    (r"kmod/(format|filter|protocol)/", r"(.*/)?export(_priv)?(/.*|\.h)",
     "a driver does not know what is above it"),
    (r"kmod/(format|filter|protocol|export)/", r"(.*/)?core\.h",
     "the core's private header"),
    (r"kmod/(?!compat/)", r"linux/version\.h",
     "kernel versions are known in kmod/compat only"),
    (r"userspace/", r".*kmod/.*", "user space uses uapi/ only"),
]


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def check(path, text):
    # Keep the lines where they are.
    code = COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)
    for folder, pattern, reason in FORBIDDEN:
        if re.match(folder, path):
            for m in re.finditer(pattern, code):
                yield line_of(code, m.start()), m.group().strip(), reason
    for m in INCLUDE.finditer(code):
        for folder, pattern, reason in FORBIDDEN_INCLUDE:
            if re.match(folder, path) and re.fullmatch(pattern, m.group(1)):
                yield line_of(code, m.start(1)), m.group(1), reason


def main():
    bad = False
    for path in sys.stdin.read().splitlines():
        if not re.search(r"^(kmod|userspace)/.*\.[ch]$", path):
            continue
        with open(path, encoding="utf-8") as f:
            text = f.read()
        for line, what, reason in check(path, text):
            print(f"{path}:{line}: {what}: {reason}")
            bad = True
    return bad


sys.exit(main())
