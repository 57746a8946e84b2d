"""wick-lab score, diff, bench sweeps, completion and manual pages."""

import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree

from harness import (PATIENCE_S, ROOT, Server, Skip, check, check_equal, need, options, test,
                     wickctl, work_path)
from terminal import Terminal

TEXT = ("Once upon a time there was a king who had three sons, and the youngest of them was called "
        "Jack. One day the king fell ill, and nobody could tell what would make him well again. ")


def lab(*words):
    done = subprocess.run([need(options.lab), *words], stdin=subprocess.DEVNULL,
                          capture_output=True, timeout=PATIENCE_S)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def lab_json(*words):
    status, out, err = lab(*words, "--json")
    check_equal((status, err), (0, ""))
    return json.loads(out)


def text_file(name, text):
    path = work_path(name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


@test(60)
def score_agrees_with_the_servers_score():
    path = text_file("short.txt", TEXT)
    mine = lab_json("score", need(options.model), path)
    with Server() as server:
        lines = wickctl(server, "--json", "score", "--file", path)[1].splitlines()
    theirs = json.loads(lines[-1])
    check_equal(mine["judged"], theirs["tokens"])
    check_equal(mine["windows"], 1)
    check(abs(mine["perplexity"] / theirs["perplexity"] - 1) < 1e-5, mine, theirs)
    bits = -theirs["logprob_sum"] / 0.6931471805599453 / len(TEXT)
    check(abs(mine["bits_per_byte"] / bits - 1) < 1e-5, mine, bits)


@test(60)
def score_reads_texts_longer_than_the_context_in_windows():
    path = text_file("long.txt", TEXT * 30)
    whole = lab_json("score", options.model, path, "ctx=512")
    check(whole["windows"] > 3 and whole["judged"] == whole["tokens"], whole)
    narrow = lab_json("score", options.model, path, "ctx=32", "overlap=0")
    check(narrow["judged"] == narrow["tokens"] and narrow["perplexity"] > whole["perplexity"],
          narrow, whole)
    first = lab_json("score", options.model, path, "max_tokens=40")
    check_equal((first["tokens"], first["windows"]), (40, 1))
    check(20 < first["bytes"] < 400, first)
    status, out, _ = lab("score", options.model, path, "max_tokens=40")
    check(status == 0 and re.search(r"perplexity +\d+\.\d+ \+- ", out), out)
    for words, word in (([options.model], "file="), ([options.model, "/nonexistent"], "nonexistent"),
                        ([options.model, path, "overlap=512"], "overlap"),
                        ([options.model, text_file("empty.txt", "")], "too short")):
        status, _, err = lab("score", *words)
        check(status == 2 and word in err, words, status, err)


@test(60)
def score_shows_a_bar_on_a_terminal():
    path = text_file("bar.txt", TEXT * 60)
    with Terminal([options.lab, "score", options.model, path, "isa=exact", "max_tokens=3000",
                   "chunk=4"]) as t:
        t.until(lambda: re.search(r"scoring \[#+\.+\] +\d+%  \d+ tokens, \d+/s, \d+ s left",
                                  t.screen.text()), 30)
        t.keys("\x03")


@test(60)
def diff_of_a_model_with_itself_is_nothing_and_of_another_is_something():
    path = text_file("diff.txt", TEXT * 5)
    same = lab_json("diff", options.model, f"file={path}")
    check_equal((same["kl_mean"], same["kl_max"], same["top1_agreement"]), (0, 0, 1))
    check_equal(same["perplexity_a"], same["perplexity_b"])
    scored = lab_json("score", options.model, path)
    check_equal(same["judged"], scored["judged"])
    check(abs(same["perplexity_a"] / scored["perplexity"] - 1) < 1e-9, same, scored)
    path = text_file("diff-short.txt", TEXT)
    exact = lab_json("diff", options.model, f"file={path}", "isa=exact", "isa_b=sse2")
    check_equal((exact["isa_a"], exact["isa_b"]), ("exact", "sse2"))
    check(1e-7 < exact["kl_mean"] < 1e-3 and exact["top1_agreement"] > 0.9, exact)
    check(exact["kl_median"] <= exact["kl_p90"] <= exact["kl_p99"] <= exact["kl_max"], exact)
    status, out, _ = lab("diff", options.model, f"file={path}", "isa_b=exact")
    check(status == 0 and "KL(A || B)" in out and "top 1" in out and "99 %" in out, out)


@test(60)
def diff_of_two_files_tells_which_and_refuses_other_vocabularies():
    path = text_file("two.txt", TEXT)
    made = []
    for kind in ("Q8_0", "Q2_K"):
        made.append(work_path(f"{kind}.gguf"))
        lab("make-model", f"vocab_from={options.model}", f"out={made[-1]}", f"type={kind}",
            "dim=256", "ffn=512", "layers=2", "heads=4", "kv_heads=2", "seed=3")
    status, out, err = lab("diff", *made, path)
    check_equal((status, err), (0, ""))
    check("Q8_0" in out.splitlines()[0] and "Q2_K" in out.splitlines()[1], out)
    other = os.path.join(ROOT, "..", "shared", "models", "stories260K.gguf")
    if os.path.exists(other):
        status, _, err = lab("diff", made[0], other, path)
        check(status == 2 and "vocabular" in err, status, err)
    status, _, err = lab("diff", made[0], f"file={path}", "isa_b=mmx")
    check(status == 2 and "isa" in err and "mmx" in err, status, err)


@test(60)
def bench_sweeps_are_told_and_drawn():
    for sweep, least in (("rows", 4), ("depth", 5), ("batch", 3)):
        picture = work_path(f"{sweep}.svg")
        told = lab_json("bench", options.model, f"sweep={sweep}", f"svg={picture}", "repeat=1",
                        "prompt_tokens=32", "decode_tokens=4", "chunk=16", "ctx=128", "batch=4")
        points = told["points"]
        check(len(points) >= least, told)
        xs = [p[sweep] for p in points]
        check_equal(xs, sorted(set(xs)))
        check(all(p["tokens_per_s"] > 0 and p["by_bandwidth"] > 0 for p in points), points)
        root = xml.etree.ElementTree.parse(picture).getroot()
        line = root.find(".//{http://www.w3.org/2000/svg}polyline")
        check_equal(len(line.get("points").split()), len(points))
    status, _, err = lab("bench", options.model, "sweep=rows", "svg=/nonexistent/x.svg", "repeat=1",
                         "prompt_tokens=8", "chunk=4")
    check(status == 2 and "/nonexistent/x.svg" in err, status, err)


@test(60)
def bench_decodes_sequences_together_behind_a_prompt():
    words = ["bench", options.model, "repeat=1", "prompt_tokens=8", "decode_tokens=4", "ctx=64"]
    told = lab_json(*words, "batch=3", "depth=40", "bandwidth=1G")
    check_equal((told["batch"], told["depth"], told["read_bytes_per_s"]), (3, 40, 1 << 30), told)
    alone = lab_json(*words, "bandwidth=1G")
    check(told["decode_tokens_per_s"] > 0 and told["load_s"] > 0, told)
    # Three share the weights; each reads its own 40 tokens of the KV cache.
    check(told["bytes_per_token"] < 0.6 * alone["bytes_per_token"], told, alone)
    status, _, err = lab(*words, "batch=2", "depth=61")
    check(status == 2 and "ctx=64" in err, status, err)
    status, _, err = lab(*words, "batch=2", "kv_tokens=64")
    check(status == 2 and "kv_tokens" in err, status, err)


COMPLETE = r"""
. "$1"; function=$2; shift 2
compopt() { :; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
$function
printf '%s\n' "${COMPREPLY[@]}"
"""


@test()
def threads_are_as_many_as_the_control_group_grants():
    if os.geteuid() != 0 or len(os.sched_getaffinity(0)) < 2:
        raise Skip("a control group of one processor needs root and two processors")
    for quota, threads in (("100000 100000", 1), ("110000 100000", 2), ("max 100000", None)):
        words = [need(options.lab), "bench", need(options.model), "repeat=1", "decode_tokens=2",
                 "prompt_tokens=2", "bandwidth=1", "json=1"]
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /sys/fs/cgroup && "
             f"echo {quota} >/sys/fs/cgroup/cpu.max && echo ready >&2 && exec \"$@\"", "sh",
             *words],
            capture_output=True, text=True, timeout=PATIENCE_S)
        if "ready" not in done.stderr: # a container, or a chroot
            raise Skip("no mount of our own: " + done.stderr.strip())
        told = json.loads(done.stdout)["device"]
        n = threads or len(os.sched_getaffinity(0))
        check(f", {n} thread{'s' if n > 1 else ''} on " in told, quota, told)


@test()
def completion_of_wick_and_of_wick_lab_comes_from_their_keys():
    def complete(*words):
        program = words[0]
        script = work_path(f"{program}.bash")
        with open(script, "w") as f:
            f.write(lab("completion", "bash", program)[1])
        done = subprocess.run(["bash", "-c", COMPLETE, "bash", script,
                               "_" + program.replace("-", "_"), *words], capture_output=True)
        check_equal((done.returncode, done.stderr), (0, b""))
        return done.stdout.decode().split()

    check_equal(complete("wick-lab", "sc"), ["score"])
    check_equal(complete("wick-lab", "score", "over"), ["overlap="])
    check_equal(complete("wick-lab", "bench", "sweep", "=", "r"), ["rows"])
    check_equal(complete("wick-lab", "plan", "sweep"), [])
    check_equal(complete("wick", "slo"), ["slots="])
    check_equal(complete("wick", "log", "=", ""), ["error", "warn", "info", "debug"])
    check_equal(complete("wick", "model", "=", options.model[:-3]), [options.model])
    check_equal(complete("wick-lab", "inspect", options.model[:-3]), [options.model])
    for program in ("wick", "wick-lab"):
        script = lab("completion", "zsh", program)[1]
        check(script.startswith(f"#compdef {program}\n"), script[:80])
        if shutil.which("zsh"):
            path = text_file(f"_{program}", script)
            check_equal(subprocess.run(["zsh", "-n", path]).returncode, 0)
    check_equal(lab("completion", "fish")[0], 2)


@test()
def manual_pages_have_every_key_verb_and_error():
    wick_page = lab("man", "wick")[1].replace("\\-", "-").replace("\\(ti", "~")
    done = subprocess.run([need(options.wick), "--help"], capture_output=True)
    keys = re.findall(r"^  ([a-z0-9_]+)=", done.stdout.decode(), re.M)
    check(len(keys) > 15, keys)
    for key in keys:
        check(f"\\fB{key}=" in wick_page, key)
    for word in ("GEN TAG", "SHUTDOWN", "max_tokens=1..2048", "422 INVALID_REQUEST"):
        check(f"\\fB{word}" in wick_page, word)
    lab_page = lab("man")[1].replace("\\-", "-")
    for command in re.findall(r"^  ([a-z-]+) ", lab("--help")[1], re.M):
        check(f"\\fB{command}\\fR" in lab_page, command)
        if command in ("man", "completion"):
            continue
        for key in re.findall(r"^  ([a-z0-9_]+)=", lab(command, "--help")[1], re.M):
            check(f"\\fB{key}=" in lab_page, command, key)
    check_equal(lab("man", "nothing")[0], 2)
    if not shutil.which("mandoc"):
        raise Skip("mandoc is absent: the pages were not checked by it")
    for page in ("wick", "wick-lab"):
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning"], capture_output=True,
                              input=lab("man", page)[1].encode())
        wrong = [li for li in done.stdout.decode().splitlines() if "missing date" not in li]
        check_equal(wrong, [])
