#!/usr/bin/env python3
"""Tests of the CUDA backend from outside: the real static programs against a libcuda.so.1.

  tests/cuda/run.py [--slow] [--cuda-path DIR] [NAME ...]

The driver is the stand-in of tests/ptx unless --cuda-path (or WICK_CUDA_PATH) names another: with a
real one the tests that ask the stand-in for faults are skipped. --slow: every model, type and
prompt there is, and a longer soak. Ends with "N passed, N failed, N skipped"."""

import argparse
import glob
import importlib
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
for room in ("system", "reference"):
    sys.path.insert(0, os.path.join(TESTS, room))
sys.path.insert(0, HERE)

import device  # noqa: E402
import harness  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="run the tests whose name contains one of these")
    parser.add_argument("--cuda-path", default=device.options.cuda_path)
    parser.add_argument("--slow", action="store_true", help="everything, and longer")
    parser.add_argument("--soak-seed", type=int, help="repeat a soak run of that seed")
    parser.add_argument("--list", action="store_true", help="print the names of the tests")
    given = parser.parse_args()
    device.options.cuda_path = os.path.abspath(given.cuda_path)
    device.options.slow = given.slow
    device.options.soak_seed = given.soak_seed

    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        importlib.import_module(os.path.basename(path)[:-3])
    chosen = [(f, s) for f, s in harness.TESTS
              if not given.names or any(n in f.__name__ for n in given.names)]
    if given.list:
        print("\n".join(f.__name__ for f, _ in chosen))
        return 0
    if not chosen:
        print("no test has a name like that; --list shows them", file=sys.stderr)
        return 2
    return harness.run(chosen)


if __name__ == "__main__":
    sys.exit(main())
