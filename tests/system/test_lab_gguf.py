"""wick-lab inspect and make-model: what they print, write and refuse."""

import json
import os
import subprocess

from harness import PATIENCE_S, check, check_equal, need, options, test, work_path

TYPES = ("F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS "
         "Q4_K_M Q5_K_M").split()


def lab_run(*words):
    done = subprocess.run([need(options.lab), *words], stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=PATIENCE_S)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def make(name, *words):
    path = work_path(name)
    status, _, err = lab_run("make-model", f"vocab_from={options.model}", f"out={path}",
                             "dim=256", "ffn=512", "layers=2", "heads=4", "kv_heads=2", *words)
    check_equal(status, 0, err)
    return path


@test()
def inspect_tells_the_same_in_a_table_and_in_json():
    status, table, err = lab_run("inspect", options.model)
    check_equal((status, err), (0, ""))
    status, text, err = lab_run("inspect", options.model, "--json", "1")
    check_equal((status, err), (0, ""))
    said = json.loads(text)
    check_equal(said["bytes"], os.path.getsize(options.model))
    check_equal(said["key_values"]["general.architecture"], "llama")
    check_equal(len(said["key_values"]["tokenizer.ggml.tokens"]), 2048)
    last = max(said["tensors"], key=lambda t: t["offset"])
    check(last["offset"] + last["bytes"] <= said["bytes"], last)
    check_equal(sum(t["bytes"] for t in said["tensors"]), said["weight_bytes"])
    for tensor in said["tensors"]:
        check(any(line.split()[0] == tensor["name"] and str(tensor["bytes"]) in line.split()
                  for line in table.splitlines() if line), tensor)


@test()
def inspect_refuses_a_cut_file_with_its_name_and_an_offset():
    path = work_path("cut.gguf")
    with open(options.model, "rb") as whole, open(path, "wb") as cut:
        cut.write(whole.read(100000))
    status, out, err = lab_run("inspect", path)
    check_equal((status, out), (1, ""))
    check(path in err and "offset 0x" in err and "cut short" in err, err)


@test()
def make_model_writes_the_same_bytes_for_the_same_seed_only():
    files = [make(f"seed{i}.gguf", "type=Q4_K_M", f"seed={seed}")
             for i, seed in enumerate((1, 1, 2))]
    first, again, other = (open(f, "rb").read() for f in files)
    check(first == again, "the same seed gave other bytes")
    check(len(first) == len(other) and first != other, "another seed gave the same bytes")


@test(seconds=120)
def made_models_of_every_type_generate_text():
    for name in TYPES:
        path = make(f"{name}.gguf", f"type={name}")
        said = json.loads(lab_run("inspect", path, "json=1")[1])
        check(name.removesuffix("_M") in said["types"], name, said["types"])
        status, _, err = lab_run("run", path, "prompt=Once", "max_tokens=3", "temperature=0",
                                 "ctx=64")
        check_equal(status, 0, f"{name}: {err}")
        os.remove(path)


@test()
def make_model_swaps_types_whose_blocks_do_not_divide_and_says_so():
    path = work_path("odd.gguf")
    status, _, err = lab_run("make-model", f"vocab_from={options.model}", f"out={path}",
                             "type=Q4_K", "dim=288", "ffn=172", "layers=1", "heads=6", "kv_heads=2")
    check_equal(status, 0, err)
    check("rows of 288: Q5_0 instead of Q4_K" in err, err)
    check("rows of 172: F16 instead of Q4_K" in err, err)


@test()
def make_model_refuses_what_no_model_can_be_and_leaves_nothing():
    path = work_path("refused.gguf")
    for words, reason in ((["type=Q9_X"], "types are"), (["heads=3"], "kv_heads must divide"),
                          (["vocab_from=" + __file__], "not a GGUF")):
        status, _, err = lab_run("make-model", f"vocab_from={options.model}", f"out={path}", *words)
        check(status != 0 and reason in err, words, err)
        check(not os.path.exists(path), words)
