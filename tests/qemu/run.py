#!/usr/bin/env python3
"""Boots the appliance in QEMU (software emulation, TCG) and drives it from outside.

    tests/qemu/run.py [options] [PART-OF-A-NAME ...]

Prints one line a test and `N passed, N failed, N skipped` last; exit status 1 if one failed. Tests
that take long run with --slow only."""

import argparse
import glob
import importlib
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "system")]

import harness  # noqa: E402
import machine  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    option, qemu = harness.options, machine.options_qemu
    parser.add_argument("names", nargs="*", help="run the tests whose name contains one of these")
    parser.add_argument("--wick", default=option.wick)
    parser.add_argument("--model", default=option.model)
    parser.add_argument("--kernel", default=qemu.kernel, help="kernel of the image: debian or own")
    parser.add_argument("--image", help="folder with vmlinuz and initramfs [made from --wick]")
    parser.add_argument("--slow", action="store_true", help="run the slow tests only")
    parser.add_argument("--all", action="store_true", help="run the slow tests as well")
    parser.add_argument("--list", action="store_true", help="print the names of the tests")
    given = parser.parse_args()
    option.wick = os.path.abspath(given.wick)
    option.model = os.path.abspath(given.model)
    qemu.kernel, qemu.image = given.kernel, given.image and os.path.abspath(given.image)

    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        importlib.import_module(os.path.basename(path)[:-3])
    chosen = [(f, s) for f, s in harness.TESTS
              if any(n in f.__name__ for n in given.names) or
              not given.names and (given.all or given.slow == machine.is_slow(f))]
    if given.list:
        print("\n".join(f.__name__ for f, _ in chosen))
        return 0
    if not chosen:
        print("no test has a name like that; --list --all shows them", file=sys.stderr)
        return 2
    try:
        machine.image()
    except harness.Skip as skip:
        # One line for all: none of them can run.
        print(f"skip every test of the appliance: {skip}\n0 passed, 0 failed, {len(chosen)} skipped")
        return 0
    return harness.run(chosen)


if __name__ == "__main__":
    sys.exit(main())
