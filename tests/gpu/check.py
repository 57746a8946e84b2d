#!/usr/bin/env python3
"""Tests wick on the GPU of this machine, with the driver's own libcuda.so.1.

    tests/gpu/check.py [--quick] [PART ...]

PART is one of: driver files vectors kernels models. WICK_LIBCUDA=FILE takes another libcuda.so.1,
BUILD=DIR other programs. --quick: each type's short prompt instead of every prompt there is. What
was found is printed as it comes, `N passed, N failed, N skipped` last; exit status 1 if a test
failed. Without a GPU: one line, everything skipped, exit status 0."""

import argparse
import glob
import os
import re
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
sys.path[:0] = [HERE, *(os.path.join(TESTS, room) for room in ("cuda", "system", "reference"))]

import device  # noqa: E402
import driver  # noqa: E402
import harness  # noqa: E402
from harness import BUILD, ROOT, check  # noqa: E402

COUNTS = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$")


class Part:
    """What all parts share: the library, and how many tests passed, failed, were skipped."""

    def __init__(self, library, quick):
        self.library, self.quick = library, quick
        self.directory = os.path.dirname(library)
        self.counts = [0, 0, 0]

    def say(self, outcome, text):
        self.counts[("ok", "FAIL", "skip").index(outcome)] += 1
        print(f"{outcome:4} {text}", flush=True)

    def run_suite(self, *command, **environment):
        """A program that prints its tests, and its counts last."""
        path = [self.directory, *filter(None, [os.environ.get("LD_LIBRARY_PATH")])]
        env = {**os.environ, "BUILD": BUILD, "LIBCUDA": self.library,
               "LD_LIBRARY_PATH": ":".join(path), **environment}
        counts = None
        with subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            for line in process.stdout:
                found = COUNTS.match(line)
                counts = [int(n) for n in found.groups()] if found else counts
                if not found:
                    print(line, end="", flush=True)
        if counts is None or (process.returncode != 0 and counts[1] == 0):
            print(f"FAIL {command[0]} ended with {process.returncode}")
            counts = counts or [0, 0, 0]
            counts[1] += 1
        self.counts = [a + b for a, b in zip(self.counts, counts)]


def part_driver(part):
    """glibc, libcuda and the GPU from inside the static binary."""
    begin = time.monotonic()
    done = subprocess.run([harness.need(harness.options.lab), "gpus",
                           f"cuda_path={part.directory}"], capture_output=True, text=True)
    took = time.monotonic() - begin
    for line in done.stdout.splitlines():
        print(f"     {line}")
    fine = done.returncode == 0 and done.stdout
    part.say("ok" if fine else "FAIL", "driver_starts_in_the_static_process "
             f"({took:.2f} s)" + ("" if fine else f": {done.stderr.strip()}"))


def part_files(part):
    """Which files libcuda really opens, to settle images/nvidia.list."""
    trace = harness.work_path("files.trace")
    strace = shutil.which("strace")
    prefix = (strace, "-f", "-o", trace, "-e", "trace=open,openat") if strace else ()
    try:
        with harness.Server(*device.settings(), "slots=1", "ctx=256", prefix=prefix, ready=False,
                            client=device.PatientClient) as worker:
            with worker.wait_ready(device.PATIENCE_S).connect() as c:
                job = c.gen("Once upon a time", max_tokens=4, temperature=0)
                check(job.end.code == 250 or len(job.tokens) == 4, job.end)
            pid = worker.pid
            if strace:
                with open(f"/proc/{pid}/task/{pid}/children") as f:
                    pid = int(f.read().split()[0])
            libraries = driver.mapped(pid)
    except harness.Skip as skip:
        return part.say("skip", f"gen_through_wick: {skip}")
    except (AssertionError, OSError) as error:
        return part.say("FAIL", f"gen_through_wick: {error}")
    part.say("ok", f"gen_through_wick: {job.text!r}")
    names = driver.image_names(ROOT)
    show("mapped after a text (/proc/PID/maps)", libraries, names)
    if strace:
        opened, others, nodes, vain = driver.traced(trace)
        show("opened besides, not mapped now", [x for x in opened if x not in libraries], names)
        show("devices opened", nodes)
        show("other files opened", others)
        show("looked for in vain", vain)
    else:
        print("     no strace here: what was opened and closed again is not known")
    return None


def show(title, paths, names=None):
    print(f"     {title}: {len(paths)}")
    for path in paths:
        foreign = names is not None and not driver.is_in_image(path, names)
        print(f"       {path}{'   (not in images/nvidia.list)' if foreign else ''}")


def part_vectors(part):
    """What instructions give on this GPU, beside what the PTX machine is tested with."""
    part.run_suite(harness.need(os.path.join(BUILD, "ptx", "run_vectors")), part.library,
                   os.path.join(TESTS, "ptx", "vectors"))


def part_kernels(part):
    """Each kernel against the CPU's and against double precision."""
    for program in sorted(glob.glob(os.path.join(BUILD, "kernels", "test_*"))):
        if os.access(program, os.X_OK) and "." not in os.path.basename(program):
            part.run_suite(program, part.library)


def part_models(part):
    """wick and wick-lab on the GPU: logits against float64, batches, texts, choice of device."""
    slow = [] if part.quick else ["--slow"]
    part.run_suite("python3", os.path.join(TESTS, "cuda", "run.py"), "--cuda-path", part.directory,
                   *slow)


PARTS = {"driver": part_driver, "files": part_files, "vectors": part_vectors,
         "kernels": part_kernels, "models": part_models}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART")
    parser.add_argument("--quick", action="store_true", help="fewer prompts")
    given = parser.parse_args()
    wrong = [p for p in given.parts if p not in PARTS]
    if wrong:
        parser.error(f"no part {wrong[0]}: they are {' '.join(PARTS)}")
    chosen = given.parts or list(PARTS)
    library, why = driver.find()
    if library is None:
        print(f"no GPU to test on: {why}\n0 passed, 0 failed, {len(chosen)} skipped")
        return 0
    device.options.cuda_path = os.path.dirname(library)
    harness.forget_the_person()
    print(f"testing with {library}", flush=True)
    total = [0, 0, 0]
    for name in chosen:
        print(f"== {name}", flush=True)
        part = Part(library, given.quick)
        try:
            PARTS[name](part)
        except harness.Skip as skip:
            part.say("skip", f"{name}: {skip}")
        finally:
            harness.end_all()
        total = [a + b for a, b in zip(total, part.counts)]
    print("{} passed, {} failed, {} skipped".format(*total))
    return 1 if total[1] else 0


if __name__ == "__main__":
    sys.exit(main())
