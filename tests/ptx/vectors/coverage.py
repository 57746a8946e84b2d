#!/usr/bin/env python3
"""Says which opcodes of the kernels no test vector has: a line each, then "N of M". Opcodes that
only move bits, branch or order memory need none."""

import glob
import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
OPCODE = re.compile(r"^\s*(?:@!?%\w+\s+)?([a-z][a-z0-9_]*(?:\.[A-Za-z0-9_:]+)*)\s*[^:\w]", re.M)
NONE_NEEDED = {"ld", "st", "mov", "selp", "cvta", "bra", "ret", "exit", "bar", "barrier", "membar",
               "fence", "prefetch", "trap", "call"}


def opcodes(pattern):
    found = set()
    for path in glob.glob(pattern):
        with open(path) as file:
            text = re.sub(r"//.*", "", file.read())
        found |= {o for o in OPCODE.findall(text) if o.split(".")[0] not in NONE_NEEDED}
    return found


def main():
    kernels = opcodes(os.path.join(HERE, "../../../kernels/*.ptx"))
    missing = sorted(kernels - opcodes(os.path.join(HERE, "*.ptx")))
    for opcode in missing:
        print(f"{opcode}: in the kernels, and no test vector has it")
    print(f"{len(kernels) - len(missing)} of {len(kernels)} opcodes of the kernels have vectors")
    return len(missing) != 0


if __name__ == "__main__":
    sys.exit(main())
