#!/usr/bin/env python3
"""Measures wick beside llama.cpp: the same file, threads, context and points, in turns.

    tests/bench/peer.py [--rounds 3] [--threads N] [--isa NAME] [--weights HOW]
                        [--variant NAME] [--json FILE] [--quick] [--points PATTERN] [MODEL ...]

MODEL is a GGUF file, or SHAPE/TYPE, which wick-lab make-model then writes to build/bench: shapes 1B
(dim 2048, ffn 5632, 22 layers, 32/4 heads) and 7B (Llama 2's). Without one: 1B in F16, BF16, Q8_0,
Q4_0, Q4_K and Q6_K, 7B in Q4_0 and Q4_K_M, and the demo model. Points: prompts of 32, 128, 512 and
2048 tokens; decoding behind 0, 2048 and 4096 tokens; 1, 4, 8 and 16 sequences at once; from start
to the first token; peak memory. --quick leaves out the deep and the long ones, --points all whose
name PATTERN is not found in ("prompt 512|decode at 0").

Every figure is the median of the rounds; a ratio above 1 is for wick. Both run with as many threads
as this process may use, pinned by nobody but themselves. `make bench-peer` installs llama.cpp (a
prebuilt npm package, pinned in package-lock.json) and calls this."""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
BENCH = os.path.join(BUILD, "bench")
LAB = os.path.join(BUILD, "wick-lab")
PACKAGE = os.path.join(BENCH, "node_modules", "@node-llama-cpp", "linux-x64", "bins", "linux-x64")
DEMO = os.path.join(ROOT, "images", "tales-4m-Q8_0.gguf")
VOCABULARY = os.environ.get("BENCH_VOCAB", DEMO)

SHAPES = {
    "1B": dict(dim=2048, ffn=5632, layers=22, heads=32, kv_heads=4, ctx_train=8192),
    "7B": dict(dim=4096, ffn=11008, layers=32, heads=32, kv_heads=32, ctx_train=8192),
}
DEFAULT = [f"1B/{t}" for t in ("Q8_0", "Q4_0", "Q4_K", "Q6_K", "F16", "BF16")] + \
    ["7B/Q4_0", "7B/Q4_K_M", DEMO]
PROMPTS, DEPTHS, BATCHES = [32, 128, 512, 2048], [0, 2048, 4096], [1, 4, 8, 16]
DECODED = 32


def libraries(variant):
    """Their folder; with a variant one that has llama.cpp's kernels for that processor alone."""
    if not variant:
        return PACKAGE
    folder = os.path.join(BENCH, f"peer-{variant}")
    os.makedirs(folder, exist_ok=True)
    for name in os.listdir(PACKAGE):
        kernels = re.fullmatch(r"libggml-cpu-(.*)\.so", name)
        link = os.path.join(folder, name)
        if (not kernels or kernels[1] == variant) and not os.path.lexists(link):
            os.symlink(os.path.join(PACKAGE, name), link)
    if not os.path.exists(os.path.join(folder, f"libggml-cpu-{variant}.so")):
        sys.exit(f"peer.py: llama.cpp has no libggml-cpu-{variant}.so in {PACKAGE}")
    return folder


def library(stem):
    names = [n for n in os.listdir(PACKAGE) if n.startswith(stem) and n.endswith(".so")]
    return names[0]


def run(command, what):
    """(its JSON object, peak memory in bytes)."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    out, err = process.communicate()
    if process.returncode != 0:
        sys.exit(f"{what} failed: {' '.join(command)}\n{err or out}")
    return json.loads(out)


class Peak:
    """Peak memory of a child, from a process of its own that has no other children."""

    CODE = ("import json,resource,subprocess,sys\n"
            "d=subprocess.run(sys.argv[1:],capture_output=True,text=True)\n"
            "sys.stderr.write(d.stderr)\n"
            "if d.returncode: sys.exit(d.returncode)\n"
            "o=json.loads(d.stdout.strip().splitlines()[-1])\n"
            "o['peak_bytes']=resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss*1024\n"
            "print(json.dumps(o))\n")

    @classmethod
    def run(cls, command, what):
        return run([sys.executable, "-c", cls.CODE, *command], what)


def wick(given, model, prompt=None, decode=None):
    words = [LAB, "bench", f"model={model}", f"threads={given.threads}", "repeat=1", "json=1",
             "log=error", f"isa={given.isa}", f"weights={given.weights}",
             f"prompt_tokens={prompt or 1}"]
    ctx = prompt or 1
    if decode:
        count, depth, batch = decode
        words += [f"decode_tokens={count}", f"depth={depth}", f"batch={batch}", f"slots={batch}"]
        ctx = max(ctx, depth + count)
    else:
        words += ["decode_tokens=1", "bandwidth=1"]
    return Peak.run([*words, f"ctx={max(64, ctx + 1)}"], "wick-lab bench")


def llama(given, model, prompt=None, decode=None):
    point = f"prompt={prompt}" if prompt else "decode={},{},{}".format(*decode)
    command = [os.path.join(BENCH, "peer"), libraries(given.variant), library("libggml."),
               library("libllama."), model, str(given.threads), point]
    return Peak.run(command, "llama.cpp")


def points(given, model):
    """[(name, prompt, decode)]; the demo model knows 512 positions."""
    small = os.path.samefile(model, DEMO)
    longest = 512 if small else 1 << 20
    count = 128 if small else DECODED
    prompts = [n for n in PROMPTS if n < longest and not (given.quick and n > 512)]
    depths = [n for n in DEPTHS if n + count < longest and not (given.quick and n > 0)]
    found = [(f"prompt {n}", n, None) for n in prompts]
    found += [(f"decode at {n}", None, (count, n, 1)) for n in depths]
    found += [(f"decode, batch {n}", None, (count, 0, n)) for n in BATCHES if n > 1]
    return [point for point in found if re.search(given.points, point[0])]


def figure(result, decode):
    return result["decode_tokens_per_s" if decode else "prompt_tokens_per_s"]


def measure(given, name, model):
    rows = []
    loads, peaks, reads = {"wick": [], "llama.cpp": []}, {"wick": [], "llama.cpp": []}, []
    for label, prompt, decode in points(given, model):
        seen, of_read = {"wick": [], "llama.cpp": []}, []
        for turn in range(given.rounds):
            order = [("wick", wick), ("llama.cpp", llama)]
            for who, how in order if turn % 2 == 0 else reversed(order):
                print(f"{name}: {label}, {who}, round {turn + 1} of {given.rounds} ", end="\r",
                      file=sys.stderr, flush=True)
                result = how(given, model, prompt, decode)
                seen[who].append(figure(result, decode))
                loads[who].append(result["load_s"])
                if prompt:  # the others hold a gigabyte to measure the bandwidth with
                    peaks[who].append(result["peak_bytes"])
                if who == "wick" and decode:
                    reads.append(result["read_bytes_per_s"])
                    of_read.append(result["of_read_bandwidth"])
        ours, theirs = (statistics.median(seen[who]) for who in ("wick", "llama.cpp"))
        row = {"point": label, "wick": ours, "llama.cpp": theirs, "ratio": ours / theirs}
        if decode and decode[2] == 1:
            row["of_read_bandwidth"] = statistics.median(of_read)
        rows.append(row)
        share = f"  {row['of_read_bandwidth']:6.1%} of read" if "of_read_bandwidth" in row else ""
        print(f"  {label:18} {ours:10.2f} {theirs:10.2f} tokens/s {row['ratio']:7.2f}{share}",
              flush=True)
    for label, kept, unit, scale in (("start to first", loads, "s", 1), ("peak memory", peaks, "MB", 1e6)):
        if not kept["wick"]:  # no point that measures it
            continue
        ours, theirs = (statistics.median(kept[who]) / scale for who in ("wick", "llama.cpp"))
        rows.append({"point": label, "wick": ours, "llama.cpp": theirs, "ratio": theirs / ours})
        print(f"  {label:18} {ours:10.2f} {theirs:10.2f} {unit:8} {theirs / ours:7.2f}", flush=True)
    read = statistics.median(reads) if reads else None
    return {"model": name, "read_bytes_per_s": read, "rows": rows}


def model_made(name):
    if os.path.isfile(name):
        return name
    shape, _, kind = name.partition("/")
    if shape not in SHAPES or not kind:
        sys.exit(f"peer.py: {name}: no such file, nor a shape and a type such as 1B/Q8_0")
    path = os.path.join(BENCH, f"{shape}-{kind}.gguf")
    if not os.path.exists(path):
        print(f"making {path}", file=sys.stderr, flush=True)
        words = [f"{key}={value}" for key, value in SHAPES[shape].items()]
        subprocess.run([LAB, "make-model", f"out={path}.new", f"vocab_from={VOCABULARY}",
                        f"type={kind}", *words], check=True)
        os.rename(path + ".new", path)
    return path


def machine():
    with open("/proc/cpuinfo") as f:
        name = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "?")
    return f"{name}, {len(os.sched_getaffinity(0))} processors, Linux {platform.release()}"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=DEFAULT)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", help="write the figures to this file, too")
    parser.add_argument("--isa", default="auto", help="wick's instruction set")
    parser.add_argument("--weights", default="packed", help="wick's: packed or mapped")
    parser.add_argument("--variant", metavar="NAME",
                        help="llama.cpp's kernels, such as haswell for AVX2; else its choice")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--points", default="", metavar="PATTERN")
    given = parser.parse_args()
    print(f"{machine()}; {given.threads} threads, isa={given.isa}, "
          f"weights={given.weights}, llama.cpp for {given.variant or 'this processor'}, "
          f"medians of {given.rounds} rounds, "
          f"load {os.getloadavg()[0]:.1f}")
    found = []
    for name in given.models:
        model = model_made(name)
        print(f"{name}, {os.path.getsize(model) / 1e6:.0f} MB"
              f"\n  {'':18} {'wick':>10} {'llama.cpp':>10} {'':8} {'ratio':>7}")
        found.append(measure(given, name, model))
        if given.json:
            with open(given.json, "w") as f:
                json.dump({"machine": machine(), "threads": given.threads,
                           "rounds": given.rounds, "models": found}, f, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
