#!/usr/bin/env python3
"""Writes unicode_table.c: the categories that pre-splits ask about, for every code point.

Usage: python3 src/token/unicode_table.py /usr/share/unicode > src/token/unicode_table.c
(Debian package unicode-data; the folder holds UnicodeData.txt and PropList.txt.)
"""
import re
import sys

BITS = {"L": 1, "N": 2, "P": 4, "S": 8, "M": 16}
WHITE_SPACE = 32
# Assigned in Unicode 15.1, which Debian 12's package (15.0) precedes: CJK extension I and five
# ideographic description characters. Tokenizers of today know them.
ADDED = [(0x2EBF0, 0x2EE5D, "L"), (0x2FFC, 0x2FFF, "S"), (0x31EF, 0x31EF, "S")]
LIMIT = 0x110000


def categories(folder):
    flags = bytearray(LIMIT)
    first = None
    for line in open(folder + "/UnicodeData.txt", encoding="ascii"):
        field = line.split(";")
        code, name, category = int(field[0], 16), field[1], field[2]
        if name.endswith(", First>"):
            first = code
            continue
        start = first if name.endswith(", Last>") else code
        first = None
        for c in range(start, code + 1):
            flags[c] = BITS.get(category[0], 0)
    for start, end, category in ADDED:
        for c in range(start, end + 1):
            flags[c] = BITS[category]
    for line in open(folder + "/PropList.txt", encoding="utf-8"):
        match = re.match(r"([0-9A-F]+)(?:\.\.([0-9A-F]+))?\s*;\s*White_Space\b", line)
        if match:
            for c in range(int(match[1], 16), int(match[2] or match[1], 16) + 1):
                flags[c] |= WHITE_SPACE
    return flags


def main():
    folder = sys.argv[1]
    version = open(folder + "/PropList.txt", encoding="utf-8").readline()
    version = re.search(r"-([0-9.]+)\.txt", version)[1]
    flags = categories(folder)
    ranges = [c for c in range(LIMIT) if c == 0 or flags[c] != flags[c - 1]]
    print(f"/* Made by unicode_table.py from Unicode {version} data (UnicodeData.txt, PropList.txt),")
    print(" * with the letters and symbols that 15.1 added; not for editing. One entry a range, up to the")
    print(" * next entry: first code point << 8 | flags of unicode.h. */")
    print('#include "token/unicode.h"\n')
    print("/* clang-format off */")
    print("const uint32_t unicode_ranges[] = {")
    for i in range(0, len(ranges), 8):
        print("    " + ", ".join(f"0x{c << 8 | flags[c]:X}" for c in ranges[i : i + 8]) + ",")
    print("};")
    print("/* clang-format on */")
    print(f"const uint32_t unicode_n_ranges = {len(ranges)};")


main()
