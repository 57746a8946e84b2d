"""make gpu-check and make gpu-bench: what they say without a GPU, and that they work end to end,
with the stand-in in the place of a GPU's driver."""

import json
import os
import re
import subprocess
import sys

import device
from harness import BUILD, ROOT, Skip, check, check_equal, need, test, work_dir, work_path
from test_choice import no_driver_here

GPU = os.path.join(ROOT, "tests", "gpu")


def script(name, *words, libcuda=None):
    """(exit status, stdout) of one of the two, with that library or with what this machine has."""
    env = {k: v for k, v in os.environ.items() if k != "WICK_LIBCUDA"}
    if libcuda:
        env["WICK_LIBCUDA"] = libcuda
    done = subprocess.run([sys.executable, os.path.join(GPU, name), *words], env=env, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL,
                          timeout=device.PATIENCE_S)
    return done.returncode, done.stdout, done.stderr


def with_standin(name, *words):
    if not device.is_standin():
        raise Skip("only the stand-in is asked to be a GPU")
    status, out, err = script(name, *words, libcuda=os.path.abspath(device.library()))
    check_equal(status, 0, out[-2000:] + err[-2000:])
    return out


@test(60)
def without_a_gpu_both_end_with_one_clear_line():
    no_driver_here()
    status, out, _ = script("bench.py")
    check_equal((status, len(out.splitlines())), (0, 1), out)
    check(out.startswith("no GPU to measure: no libcuda.so.1 in "), out)
    status, out, _ = script("check.py")
    check_equal(status, 0)
    first, last = out.splitlines()
    check(first.startswith("no GPU to test on: no libcuda.so.1 in "), out)
    check_equal(last, "0 passed, 0 failed, 5 skipped")


@test(180)
def bench_measures_the_device_and_the_models():
    need(os.path.join(BUILD, "gpu", "rates"), "run `make check` once")
    file = work_path("bench.json")
    out = with_standin("bench.py", "--tiny", "Q8_0", "Q4_K", "--json", file,
                       "--dir", os.path.join(work_dir(), "models"))
    with open(file) as f:
        told = json.load(f)
    check("PTX machine (test double)" in told["gpu"], told["gpu"])
    for rate in ("copy_bytes_per_s", "read_bytes_per_s", "f16_operations_per_s",
                 "s8_operations_per_s"):
        check(told["rates"][rate] > 0, rate)
    check_equal([m["type"] for m in told["models"]], ["Q8_0", "Q4_K"])
    for model in told["models"]:
        check_equal(sorted(model["contexts"]), ["16", "32"])
        check(model["load_s"] > 0)
        for context in model["contexts"].values():
            check(context["prompt_of_matrix_rate"] > 0, context)
            check_equal(sorted(context["decode"]), ["1", "2", "4"])
            # Bytes of a token by that fraction: all weights for one sequence, a share for four.
            read = {n: f["of_copy"] * told["rates"]["copy_bytes_per_s"] / f["tokens_per_s"]
                    for n, f in context["decode"].items()}
            check(0.3 < read["1"] / model["weight_bytes"] < 2, read, model["weight_bytes"])
            check(read["1"] / 5 < read["4"] < read["1"] / 2, read)
    rows = [x for x in out.splitlines() if x.startswith("| tiny |")]
    check_equal(len(rows), 8, out)
    for row in rows:
        pending = row.count("pending")
        check_equal(pending, 2 if "Q8_0" in row or "Q4_K" in row else 6, row)
    return rows[2]


@test(120)
def check_shows_what_libcuda_opened():
    out = with_standin("check.py", "--quick", "driver", "files")
    check(out.endswith("2 passed, 0 failed, 0 skipped\n"), out)
    check(re.search(r"mapped after a text.*\n(\s+/.*\n)*\s+\S+/libcuda\.so\.1", out), out)
    for name in ("libc.so.6", "ld-linux-x86-64.so.2"):
        check(re.search(rf"^\s+/\S+/{re.escape(name)}$", out, re.M), name, out)
