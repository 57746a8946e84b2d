#!/usr/bin/env python3
"""Measures power-on to READY with the demo model, under TCG, against an init that only loads the
modules and says READY (images/hello.c), in turns, so that both see the same machine.

    tests/qemu/boot_time.py [--kernel debian] [--kernel own] [--runs 5]

Power-on is the start of the QEMU process; READY is the line on hvc0. wick's own part is the
difference of the two medians: network, finding and mapping the model, packing it, one forward pass.
Where wick's time goes is then told by the times of its own lines in the kernel log."""

import argparse
import os
import re
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(os.path.dirname(HERE), "system")]

import harness  # noqa: E402
import machine  # noqa: E402
from machine import BOOT_S, Machine  # noqa: E402


def hello():
    """images/hello.c, compiled."""
    program = harness.work_path("hello")
    subprocess.run([os.environ.get("MUSL_CC", "musl-gcc"), "-std=c11", "-static", "-O2",
                    "-D_GNU_SOURCE", os.path.join(harness.ROOT, "images", "hello.c"), "-o", program],
                   check=True)
    return program


def time_hello(image):
    with Machine(image_of=image, bare=True) as m:
        line = m.hvc.read_line()
        took = time.monotonic() - m.started
        harness.check_equal(line, b"READY")
        m.check_end(0, "guest-shutdown", BOOT_S)
        return took


# Each stage ends with the last line in the log that fits.
STAGES = [("kernel", r"boot build="), ("modules", r"boot modules="),
          ("network, consoles", r"disk .*model="), ("header, plan, arena", r"listen "),
          ("packing, first pass", r"load percent=100"), ("sealing, filter", r"ready ")]


def stages(log):
    """[seconds] that each stage took, by the kernel's times."""
    ends = []
    for _, pattern in STAGES:
        found = re.findall(rf"^\[ *([\d.]+)\] wick \w+ {pattern}", log, re.M)
        harness.check(found, "no line", pattern, "in the log:", log)
        ends.append(float(found[-1]))
    return [end - begin for begin, end in zip([0, *ends], ends)]


def time_wick(image):
    """Returns (seconds to READY, seconds of each stage)."""
    with Machine(image_of=image, bare=True) as m:
        m.wait_ready()
        harness.check_equal(m.hvc.health()["status"], "ready")
        log = b"\n".join(r.words[0] for r in m.hvc.ask("LOG lines=200")[:-1]).decode()
        m.hvc.ask("SHUTDOWN")
        m.check_end(0, "guest-shutdown")
        return m.ready_s, stages(log)


def line(name, seconds):
    return (f"  {name:26} median {harness.median(seconds):6.2f} s   "
            f"{' '.join(f'{s:.2f}' for s in sorted(seconds))}")


def measure(kernel, runs):
    images = {"hello": machine.image_make(hello(), f"hello-{kernel}", kernel),
              "wick": machine.image_make(harness.options.wick, f"wick-{kernel}", kernel)}
    took = {"hello": [], "wick": []}
    parts = []
    for _ in range(runs):
        took["hello"].append(time_hello(images["hello"]))
        ready_s, stage_s = time_wick(images["wick"])
        took["wick"].append(ready_s)
        parts.append(stage_s)
    own_s = harness.median(took["wick"]) - harness.median(took["hello"])
    sizes = [os.path.getsize(path) for path in images["wick"]]
    print(f"kernel {kernel}: {sizes[0]} bytes, initramfs {sizes[1]} bytes; {runs} runs each, TCG, "
          f"-cpu {machine.CPU}, 1 processor, load {os.getloadavg()[0]:.1f}")
    print(line("power-on to hello's READY", took["hello"]))
    print(line("power-on to wick's READY", took["wick"]))
    print(f"  {'wick less hello':26} {own_s * 1000:10.0f} ms")
    for (name, _), seconds in zip(STAGES, zip(*parts)):
        print(f"    {name:24} median {harness.median(seconds) * 1000:6.0f} ms   "
              f"{' '.join(f'{s * 1000:.0f}' for s in sorted(seconds))}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", action="append", help="debian, own; repeatable [debian, and own "
                        "when there is one]")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--wick", default=harness.options.wick)
    given = parser.parse_args()
    harness.options.wick = os.path.abspath(given.wick)
    own = os.path.join(harness.BUILD, "image", "own", "kernel", "vmlinuz")
    for kernel in given.kernel or ["debian", *(["own"] if os.path.exists(own) else [])]:
        try:
            measure(kernel, given.runs)
        except harness.Skip as skip:
            print(f"skip {kernel}: {skip}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
