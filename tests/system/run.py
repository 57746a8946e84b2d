#!/usr/bin/env python3
"""Runs the system tests: the real static binaries, driven from outside.

    tests/system/run.py [options] [PART-OF-A-NAME ...]

Prints one line a test and `N passed, N failed, N skipped` last; exit status 1 if one failed."""

import argparse
import glob
import importlib
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)

import harness  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    option = harness.options
    parser.add_argument("names", nargs="*", help="run the tests whose name contains one of these")
    parser.add_argument("--wick", default=option.wick)
    parser.add_argument("--wickctl", default=option.wickctl)
    parser.add_argument("--lab", default=option.lab, help="wick-lab")
    parser.add_argument("--model", default=option.model)
    parser.add_argument("--threads", type=int, default=0, help="threads= of every server")
    parser.add_argument("--soak-seconds", type=int, default=option.soak_seconds)
    parser.add_argument("--soak-seed", type=int, help="repeat a soak run of that seed")
    parser.add_argument("--slow", action="store_true", help="run the slow tests only")
    parser.add_argument("--list", action="store_true", help="print the names of the tests")
    given = parser.parse_args()
    for name in ("wick", "wickctl", "lab", "model"):
        setattr(option, name, os.path.abspath(getattr(given, name)))
    option.threads = given.threads
    option.soak_seconds = given.soak_seconds
    option.soak_seed = given.soak_seed

    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        importlib.import_module(os.path.basename(path)[:-3])
    chosen = [(f, s) for f, s in harness.TESTS
              if any(n in f.__name__ for n in given.names) or
              not given.names and given.slow == (f in harness.SLOW)]
    if given.list:
        print("\n".join(f.__name__ for f, _ in chosen))
        return 0
    if not chosen:
        print("no test has a name like that; --list shows them", file=sys.stderr)
        return 2

    return harness.run(chosen)


if __name__ == "__main__":
    sys.exit(main())
