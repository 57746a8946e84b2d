#!/usr/bin/env python3
"""Measures wick on the GPU of this machine, beside what the GPU can do at best.

    tests/gpu/bench.py [--seconds N] [--dir DIR] [--json FILE] [--tiny] [SHAPE | TYPE | SHAPE/TYPE ...]

Shapes 1B, 7B and 8B (TinyLlama's, Llama 2's, Llama 3's) with random weights, in F16, Q8_0, Q4_0 and
Q4_K: time from the file to the first token's logits, prompt and decode tokens a second with 512 and
8192 tokens in the context, 1, 4, 8 and 32 sequences at once. Models are made in DIR as they are
needed (16 GB at most) and removed. What there was no time for after --seconds (540) stays 'pending'.
--tiny: small shapes, to try this script with a stand-in. WICK_LIBCUDA=FILE takes another
libcuda.so.1. Without a GPU: one line, and exit status 0."""

import argparse
import json
import os
import platform
import struct
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)

import driver  # noqa: E402

BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))
LAB = os.path.join(BUILD, "wick-lab")

SHAPES = {
    "7B": dict(dim=4096, ffn=11008, layers=32, heads=32, kv_heads=32, vocab=32000),
    "8B": dict(dim=4096, ffn=14336, layers=32, heads=32, kv_heads=8, vocab=128256),
    "1B": dict(dim=2048, ffn=5632, layers=22, heads=32, kv_heads=4, vocab=32000),
}
TINY = {"tiny": dict(dim=128, ffn=256, layers=1, heads=2, kv_heads=1, vocab=512)}
TYPES = ["F16", "Q8_0", "Q4_0", "Q4_K"]
BATCHES = [1, 4, 8, 32]
SHORT, LONG, DECODED, REPEAT = 512, 8192, 32, 3
TINY_SHORT, TINY_LONG, TINY_DECODED = 16, 32, 4  # for an interpreter
# Of the time of one model, to fill the KV cache of the long context: fewer sequences otherwise.
FILL_S = 25
LAB_S = 240  # one run of wick-lab at most


class Late(Exception):
    """The time is over."""


class Bench:
    def __init__(self, given, library):
        self.given, self.library = given, library
        self.began = time.monotonic()
        self.folder = os.path.abspath(given.dir)
        self.results = []
        os.makedirs(self.folder, exist_ok=True)

    def left(self):
        return self.given.seconds - (time.monotonic() - self.began)

    def say(self, text):
        print(f"[{time.monotonic() - self.began:4.0f} s] {text}", file=sys.stderr, flush=True)

    def run(self, *command, env=None):
        """stdout of a command, or None with its complaint told."""
        if self.left() < 5:
            raise Late
        try:
            done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT,
                                  timeout=min(LAB_S, self.left()), env={**os.environ, **(env or {})})
        except subprocess.TimeoutExpired:
            if self.left() < 5:
                raise Late from None
            self.say(f"  no answer within {LAB_S} s: {' '.join(command)}")
            return None
        if done.returncode != 0:
            lines = (done.stderr or done.stdout).strip().splitlines()
            self.say(f"  failed: {lines[-1] if lines else done.returncode}")
            return None
        return done.stdout

    def rates_measure(self):
        """What the GPU can do at best."""
        path = os.path.dirname(self.library)
        small = ["4", "1", "1"] if self.given.tiny else []
        out = self.run(os.path.join(BUILD, "gpu", "rates"), self.library, *small,
                       env={"KERNELS": "tests/gpu", "LD_LIBRARY_PATH":
                            ":".join(filter(None, [path, os.environ.get("LD_LIBRARY_PATH")]))})
        gpus = self.run(LAB, "gpus", f"cuda_path={path}") or ""
        self.rates = json.loads(out) if out else {}
        self.gpu = gpus.splitlines()[0] if gpus else "?"
        self.say(f"{self.gpu}")
        self.say("copy {:.0f} GB/s, read {:.0f} GB/s, mma.sync F16 {:.0f} and INT8 {:.0f} Top/s".format(
            *(self.rates.get(k, 0) / d for k, d in
              [("copy_bytes_per_s", 1e9), ("read_bytes_per_s", 1e9),
               ("f16_operations_per_s", 1e12), ("s8_operations_per_s", 1e12)])))

    # --- one model

    def lab_bench(self, file, batch, depth, chunk=512):
        decoded, repeat = (TINY_DECODED, 1) if self.given.tiny else (DECODED, REPEAT)
        words = [f"model={file}", "backend=cuda", f"cuda_path={os.path.dirname(self.library)}",
                 f"ctx={depth + decoded}", f"chunk={chunk}", "sweep=batch", f"batch={batch}",
                 f"depth={depth}", f"decode_tokens={decoded}", f"repeat={repeat}", "kv=f16",
                 "json=1",
                 f"bandwidth={int(self.rates.get('copy_bytes_per_s', 0))}"]
        out = self.run(LAB, "bench", *words)
        return json.loads(out) if out else None

    def model_measure(self, shape, facts, kind):
        result = {"shape": shape, "type": kind, "contexts": {}}
        self.results.append(result)
        short, long = self.depths
        most = 4 if self.given.tiny else BATCHES[-1]
        file = os.path.join(self.folder, f"bench-{shape}-{kind}.gguf")
        try:
            begin = time.monotonic()
            self.model_make(file, facts, kind, long + DECODED)
            self.say(f"{shape} {kind}: {os.path.getsize(file) / 1e9:.2f} GB written in "
                     f"{time.monotonic() - begin:.0f} s")
            result["file_bytes"] = os.path.getsize(file)
            told = self.lab_bench(file, most, short)
            if told is None:
                return
            self.take(result, short, told)
            # As many sequences as there is time to fill, then as fit.
            rate = max(told["prompt_tokens_per_s"], 1)
            while most > 1 and most * long / rate > min(FILL_S, self.left() / 4):
                most //= 2
            while most >= 1 and (told := self.lab_bench(file, most, long)) is None:
                most //= 4 if most > 8 else 2
            if told:
                self.take(result, long, told)
        finally:
            if os.path.exists(file):
                os.remove(file)

    def model_make(self, file, facts, kind, ctx):
        words = [f"{k}={v}" for k, v in facts.items() if k != "vocab"]
        if self.run(LAB, "make-model", f"out={file}", f"vocab_from={self.vocabulary(facts['vocab'])}",
                    f"type={kind}", f"ctx_train={ctx}", *words) is None:
            raise SystemExit("no model can be made here")

    def take(self, result, depth, told):
        """Keeps what wick-lab told, with the fractions of the GPU's best."""
        facts = self.facts[result["shape"]]
        products = 2.0 * matrix_weights(facts)
        best = self.rates.get("f16_operations_per_s" if result["type"] == "F16"
                              else "s8_operations_per_s", 0)
        result["weight_bytes"] = told["weight_bytes"]
        result["load_s"] = min(told["load_s"], result.get("load_s", 1e9))
        result["contexts"][depth] = {
            "prompt_tokens_per_s": told["prompt_tokens_per_s"],
            "prompt_of_matrix_rate": told["prompt_tokens_per_s"] * products / best if best else 0,
            "decode": {p["batch"]: {"tokens_per_s": p["tokens_per_s"],
                                    "of_copy": p["tokens_per_s"] / p["by_bandwidth"]
                                    if p["by_bandwidth"] else 0} for p in told["points"]}}
        self.say("  " + line_of(result, depth))

    def vocabulary(self, n):
        """A GGUF file with nothing but n tokens: the first ones and the bytes as SPM has them."""
        path = os.path.join(self.folder, f"vocabulary-{n}.gguf")
        if os.path.exists(path):
            return path
        tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
        kinds = [2, 3, 3] + [6] * 256  # unknown, control, byte; 1 is normal
        tokens += [f"t{i}" for i in range(n - len(tokens))]
        kinds += [1] * (n - len(kinds))

        def text(s):
            return struct.pack("<Q", len(s)) + s.encode()

        def array(kind, items):
            return struct.pack("<IIQ", 9, kind, len(items)) + b"".join(items)

        keys = {"tokenizer.ggml.model": struct.pack("<I", 8) + text("llama"),
                "tokenizer.ggml.tokens": array(8, [text(t) for t in tokens]),
                "tokenizer.ggml.scores": array(6, [struct.pack("<f", -i) for i in range(n)]),
                "tokenizer.ggml.token_type": array(5, [struct.pack("<i", k) for k in kinds])}
        for i, name in enumerate(("unknown", "bos", "eos")):
            keys[f"tokenizer.ggml.{name}_token_id"] = struct.pack("<II", 4, i)
        with open(path, "wb") as f:
            f.write(struct.pack("<4sIQQ", b"GGUF", 3, 0, len(keys)))
            f.write(b"".join(text(k) + v for k, v in keys.items()))
        return path


def matrix_weights(facts):
    """Weights that a token is multiplied with, the output head not counted: a prompt's rows but the
    last do without it."""
    head = facts["dim"] // facts["heads"]
    attention = facts["dim"] * head * (2 * facts["heads"] + 2 * facts["kv_heads"])
    return facts["layers"] * (attention + 3 * facts["dim"] * facts["ffn"])


def line_of(result, depth):
    """One line of the table, in Markdown."""
    told = result["contexts"].get(depth)
    cells = [result["shape"], result["type"], str(depth)]
    if told is None:
        return "| " + " | ".join(cells + ["pending"] * (2 + len(BATCHES))) + " |"
    cells += [f"{result['load_s']:.2f}", f"{told['prompt_tokens_per_s']:.0f} "
              f"({100 * told['prompt_of_matrix_rate']:.0f} %)"]
    for batch in BATCHES:
        found = told["decode"].get(batch)
        cells.append(f"{found['tokens_per_s']:.1f} ({100 * found['of_copy']:.0f} %)" if found
                     else "pending")
    return "| " + " | ".join(cells) + " |"


def table_of(bench):
    head = ["shape", "type", "context", "load s", "prompt", *(f"decode {b}" for b in BATCHES)]
    rows = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for shape in bench.facts:
        for kind in TYPES:
            result = next((r for r in bench.results if (r["shape"], r["type"]) == (shape, kind)),
                          {"shape": shape, "type": kind, "contexts": {}})
            rows += [line_of(result, depth) for depth in bench.depths]
    return "\n".join(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="SHAPE | TYPE | SHAPE/TYPE")
    parser.add_argument("--seconds", type=float, default=540)
    parser.add_argument("--dir", default=os.path.join(BUILD, "gpu", "models"))
    parser.add_argument("--json", default=os.path.join(BUILD, "gpu", "bench.json"))
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    library, why = driver.find()
    if library is None:
        print(f"no GPU to measure: {why}")
        return 0
    bench = Bench(given, library)
    bench.facts = TINY if given.tiny else SHAPES
    bench.depths = (TINY_SHORT, TINY_LONG) if given.tiny else (SHORT, LONG)
    try:
        bench.rates_measure()
        for shape, facts in bench.facts.items():
            for kind in TYPES:
                names = {shape, kind, f"{shape}/{kind}"}
                if not given.names or names & set(given.names):
                    bench.model_measure(shape, facts, kind)
    except Late:
        bench.say(f"{given.seconds:.0f} s are over; what is left stays pending")
    document = {"date": time.strftime("%Y-%m-%d"), "gpu": getattr(bench, "gpu", "?"),
                "machine": platform.processor() or platform.machine(), "rates": bench.rates,
                "models": bench.results}
    with open(given.json, "w") as f:
        json.dump(document, f, indent=1)
    rate = bench.rates
    print(f"{document['date']}: {document['gpu']}\n"
          f"copy {rate.get('copy_bytes_per_s', 0) / 1e9:.0f} GB/s (read and written), "
          f"read {rate.get('read_bytes_per_s', 0) / 1e9:.0f} GB/s; mma.sync "
          f"F16 {rate.get('f16_operations_per_s', 0) / 1e12:.0f} Top/s, "
          f"INT8 {rate.get('s8_operations_per_s', 0) / 1e12:.0f} Top/s\n\n"
          f"{table_of(bench)}\n\n"
          f"tokens/s; of decode the share of the copy bandwidth, of a prompt that of the matrix rate\n"
          f"all of it: {given.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
