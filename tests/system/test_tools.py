"""wickctl's tools for people: top, bench, profiles, completion, manual pages, colours, progress."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import xml.etree.ElementTree

from harness import (PATIENCE_S, ROOT, Server, Skip, check, check_equal, check_quick, eventually,
                     free_port, need, options, start, test, wickctl, work_path)
from terminal import Terminal

PROMPT = "Once upon a time"


def commands_of(program_help):
    """The names under "Commands:" of a help text."""
    part = program_help.split("Commands:\n")[1].split("\n\n")[0]
    return re.findall(r"^  ([a-z-]+)", part, re.M)


@test(30)
def top_shows_the_load_in_place_and_leaves_the_terminal_as_it_was():
    with Server("slots=2", "queue=3", "isa=exact") as server, server.connect() as c:
        with Terminal([need(options.wickctl), "-c", server.tcp, "top", "-i", "0.1"]) as t:
            t.keys("")
            t.until("0 of 2 busy")
            check_equal(t.screen.page, 1)
            check(not t.screen.cursor, "the cursor is in the way")
            for tag in (1, 2, 3):
                c.send(f'GEN {tag} max_tokens=480 ignore_eos=1 "{PROMPT}"')
            t.until(lambda: "2 of 2 busy" in t.screen.text() and "1 of 3 waiting" in t.screen.text())
            t.until(lambda: re.search(r"[1-9]\d*\.\d tokens/s generated", t.screen.text()))
            check(re.search(r"KV +\[[#=.]{24}\] [1-9]\d* used", t.screen.text()), t.screen.text())
            t.until("3 completed")
            lines = t.screen.lines()
            check(max(len(line) for line in lines) <= 79 and t.screen.widest <= 79, lines)
            check(lines[0].startswith("wick") and "tales-4m" in lines[0], lines)
            t.resize(8, 50)
            t.screen.rows, t.screen.columns, t.screen.widest = 8, 50, 0
            t.screen.pages[1] = t.screen.blank()
            t.pump(0.5)
            t.until(lambda: t.screen.widest > 0)
            check(t.screen.widest < 50 and t.screen.row < 8, t.screen.widest)
            t.keys("q")
            check_equal(t.wait(), 0)
            check(t.as_it_was(), "the terminal is not as it was")
        for ending in (signal.SIGINT, signal.SIGTERM):
            with Terminal([options.wickctl, "-c", server.tcp, "top"]) as t:
                t.until("0 of 2 busy")
                t.process.send_signal(ending)
                check_equal(t.wait(), 0)
                check(t.as_it_was(), "the terminal is not as it was after a signal")
        with Terminal([options.wickctl, "-c", server.tcp, "top", "-i", "0.1"]) as t:
            t.until("0 of 2 busy")
            server.process.kill()
            check_equal(t.wait(), 5)
            check(t.as_it_was() and "lost" in t.screen.text(), t.screen.text())


@test()
def top_without_a_terminal_prints_one_picture_or_json_lines():
    with Server("slots=2") as server:
        status, out, err = wickctl(server, "top", "-i", "0.1", "--color", "always")
        check_equal((status, err), (0, ""))
        check("\033" not in out and "0 of 2 busy" in out, out)
        status, out, _ = wickctl(server, "top", "--json", "--count", "3", "-i", "0.1")
        looks = [json.loads(line) for line in out.splitlines()]
        check_equal((status, len(looks)), (0, 3))
        check_equal((looks[0]["slots"], looks[0]["slots_free"], looks[0]["status"]),
                    (2, 2, "ready"))


@test(40)
def bench_counts_every_job_and_tells_percentiles():
    with Server("slots=2", "queue=1") as server, server.connect() as c:
        status, out, err = wickctl(server, "bench", "--json", "--clients", "1,4", "--requests",
                                   "12", "max_tokens=10")
        check_equal(status, 0, err)
        rows = [json.loads(line) for line in out.splitlines()]
        check_equal([(r["clients"], r["jobs"], r["failed"], r["tokens"]) for r in rows],
                    [(1, 12, 0, 120), (4, 12, 0, 120)])
        for row in rows:
            check_equal((row["first_ms"]["n"], row["gap_ms"]["n"], row["job_ms"]["n"]),
                        (12, 108, 12))
            for name in ("first_ms", "gap_ms", "job_ms"):
                s = row[name]
                check(0 < s["p50"] <= s["p90"] <= s["p95"] <= s["p99"] <= s["max"], s)
            check(row["first_ms"]["p50"] < row["job_ms"]["p50"], row)
            check(abs(row["tokens_per_s"] * row["seconds"] / 120 - 1) < 0.01, row)
        check_equal(c.metrics()['worker_requests_total{outcome="completed"}'], "24")
        begin = time.monotonic()
        status, out, _ = wickctl(server, "bench", "--json", "-n", "4", "-r", "10", "--rate", "20",
                                 "max_tokens=1")
        took = time.monotonic() - begin
        check_quick(status == 0 and 0.4 < took < 5, took)
        check(json.loads(out)["jobs_per_s"] < 25, out)


@test(40)
def bench_draws_a_sweep_and_uses_the_kv_cache_only_when_told():
    picture = work_path("sweep.svg")
    with Server() as server, server.connect() as c:
        status, out, err = wickctl(server, "bench", "-n", "1,2", "-r", "4", "max_tokens=8",
                                   "--svg", picture, PROMPT * 3)
        check_equal(status, 0, err)
        check_equal(len(out.splitlines()), 4)
        check(max(len(line) for line in out.splitlines()) <= 80, out)
        root = xml.etree.ElementTree.parse(picture).getroot()
        lines = root.findall(".//{http://www.w3.org/2000/svg}polyline")
        check_equal(len(lines), 5)
        check_equal(len(lines[0].get("points").split()), 2)
        check_equal(c.metrics()["worker_tokens_reused_total"], "0")
        wickctl(server, "bench", "-r", "4", "max_tokens=8", "--same", PROMPT * 3)
        check(int(c.metrics()["worker_tokens_reused_total"]) > 0)
        status, out, _ = wickctl(server, "bench", "-r", "2", "temperature=9")
        check(status == 4 and "temperature=0..2" in out, status, out)
        for words in (["-n", "0"], ["-n", "2,1"], ["-n", "65"], ["-n", "1,"], ["-r", "0"],
                      ["--rate", "x"]):
            check_equal(wickctl(server, "bench", *words)[0], 1, words)


@test()
def gen_reads_a_file_byte_for_byte():
    path = work_path("prompt.txt")
    with open(path, "wb") as f:
        f.write(PROMPT.encode() + b"\n")
    with Server() as server:
        how = ["--json", "gen", "max_tokens=1", "temperature=0"]
        from_file = wickctl(server, *how, "--file", path)[1]
        with_lf = wickctl(server, *how, PROMPT + "\n")[1]
        without = wickctl(server, *how, PROMPT)[1]
        tokens = [json.loads(o.splitlines()[0])["prompt_tokens"]
                  for o in (from_file, with_lf, without)]
        check(tokens[0] == tokens[1] > tokens[2], tokens)
        check_equal(wickctl(server, "gen", "--file", path, "x")[0], 1)
        status, _, err = wickctl(server, "gen", "--file", "/nonexistent")
        check(status == 1 and "/nonexistent" in err, err)
        check_equal(wickctl(server, "health", "--file", path)[0], 1)


@test(30)
def wait_waits_for_the_server_and_shows_that_it_loads():
    port = free_port()
    with Terminal([need(options.wickctl), "-c", f"tcp:127.0.0.1:{port}", "--wait", "20", "gen",
                   "-q", "max_tokens=3", "temperature=0", PROMPT]) as t:
        time.sleep(0.3)
        check(t.process.poll() is None, "did not wait")
        start([need(options.wick), f"model={options.model}", f"listen=tcp:127.0.0.1:{port}"],
              stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        check_equal(t.wait(), 0)
        check_equal(t.screen.text(), " there was a")
    begin = time.monotonic()
    check_equal(wickctl(f"tcp:127.0.0.1:{free_port()}", "-w", "0.5", "ping")[0], 2)
    check_quick(0.4 < time.monotonic() - begin < 5)


def profile(text):
    folder = work_path("config")
    os.makedirs(os.path.join(folder, "wick"), exist_ok=True)
    with open(os.path.join(folder, "wick", "wickctl.conf"), "w") as f:
        f.write(text)
    return {"XDG_CONFIG_HOME": folder}


def plain(*words, env):
    """wickctl without an address on its command line."""
    done = subprocess.run([need(options.wickctl), *words], capture_output=True, timeout=PATIENCE_S,
                          stdin=subprocess.DEVNULL, env={**os.environ, **env})
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@test()
def a_profile_gives_what_the_command_line_does_not():
    with Server() as server, Server() as other:
        env = profile(f"""
quiet = 1                    # for every profile
max_tokens = 3
[default]
connect = {server.tcp}
temperature = 0
[other]
connect = "{other.unix}"
""")
        check_equal(plain("gen", PROMPT, env=env), (0, " there was a", ""))
        check_equal(plain("gen", "max_tokens=1", PROMPT, env=env)[1], " there")
        check(server.tcp in plain("ping", env=env)[1])
        check(other.unix in plain("-p", "other", "ping", env=env)[1])
        check(other.unix in plain("ping", "--profile=other", env=env)[1])
        check(other.unix in plain("ping", env={**env, "WICK_PROFILE": "other"})[1])
        check(other.tcp in plain("ping", env={**env, "WICK_CONNECT": other.tcp})[1])
        check(other.tcp in plain("-c", other.tcp, "ping",
                                 env={**env, "WICK_CONNECT": server.tcp})[1])
        status, _, err = plain("-p", "none", "ping", env=env)
        check(status == 1 and "[none]" in err, err)
    for text, word in (("x\n", "line 1"), ("\nspeed = 9\n", 'line 2: no setting "speed"'),
                       ("color = red\n", "color"), ("max_tokens =\n", "max_tokens")):
        status, _, err = plain("ping", env=profile(text))
        check(status == 1 and word in err, text, err)
    env = {"XDG_CONFIG_HOME": work_path("nowhere")}
    check_equal(plain("completion", "bash", env=env)[0], 0)
    status, _, err = plain("-p", "lab", "ping", env=env)
    check(status == 1 and "nowhere" in err, err)


@test()
def colours_are_for_terminals_that_want_them():
    with Server() as server:
        how = [need(options.wickctl), "-c", server.tcp, "repl", "max_tokens=2", PROMPT]
        for env, color, want in (({}, "auto", True), ({"NO_COLOR": "1"}, "auto", False),
                                 ({"TERM": "dumb"}, "auto", False), ({}, "never", False),
                                 ({"NO_COLOR": "1"}, "always", True)):
            with Terminal([*how, "--color", color], env=env) as t:
                check_equal(t.wait(), 0)
                check_equal(b"\x1b[1m" in t.seen and b"\x1b[2m" in t.seen, want, (env, color))
        for args, want in (([], False), (["--color=always"], True)):
            _, out, err = wickctl(server, "repl", "max_tokens=2", PROMPT, *args)
            check_equal("\033[1m" in out and "\033[2m" in err, want)


BASH = r"""
. "$1"; shift
compopt() { :; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
_wickctl
printf '%s\n' "${COMPREPLY[@]}"
"""


@test()
def bash_completes_commands_options_keys_and_values():
    script = work_path("wickctl.bash")
    with open(script, "w") as f:
        f.write(plain("completion", "bash", env={})[1])
    help_text = plain("--help", env={})[1]

    def complete(*words):
        done = subprocess.run(["bash", "-c", BASH, "bash", script, "wickctl", *words],
                              capture_output=True, timeout=PATIENCE_S)
        check_equal((done.returncode, done.stderr), (0, b""))
        return done.stdout.decode().split()

    check(set(commands_of(help_text)) <= set(complete("")), complete(""))
    check_equal(complete("ge"), ["gen"])
    check_equal(complete("gen", "--fi"), ["--file"])
    check_equal(complete("gen", "max_"), ["max_tokens="])
    check_equal(complete("gen", "bos", "=", ""), ["0", "1"])
    check_equal(complete("--color", "a"), ["auto", "always"])
    check_equal(complete("health", "max_"), [])
    check_equal(complete("health", "--cl"), [])
    check_equal(complete("bench", "--cl"), ["--clients"])
    check_equal(complete("gen", "--file", script[:-3]), [script])
    check_equal(complete("completion", "z"), ["zsh"])
    check_equal(plain("completion", "fish", env={})[0], 1)


@test(40)
def zsh_completes_commands_and_keys():
    if not shutil.which("zsh"):
        raise Skip("zsh is absent")
    script = work_path("_wickctl")
    with open(script, "w") as f:
        f.write(plain("completion", "zsh", env={})[1])
    with Terminal(["zsh", "-f", "-i"]) as t:
        t.keys("PROMPT='$ '; autoload -U compinit; compinit -u -D; "
               f"source {script}; clear; print READY\r")
        t.until(lambda: t.screen.text().startswith("READY"), 20)
        for typed, want in (("wickctl shutd", "wickctl shutdown"),
                            ("wickctl gen max_t", "wickctl gen max_tokens="),
                            ("wickctl bench --cl", "wickctl bench --clients"),
                            ("wickctl --color ne", "wickctl --color never"),
                            ("wickctl gen bos=", "0  1")):
            t.keys(typed)
            t.until(typed)
            t.keys("\t")
            t.until(want)
            t.keys("\x15\x0c")
            t.until(lambda: t.screen.text() == "$")


@test()
def the_manual_page_has_every_command_option_and_parameter():
    page = plain("man", env={})[1]
    text = page.replace("\\-", "-")
    help_text = plain("--help", env={})[1]
    for command in commands_of(help_text):
        check(f"\\fB{command}" in text, command)
    for option in re.findall(r"^  (--[a-z-]+)", help_text, re.M):
        check(f"\\fB{option}" in text, option)
    for key in re.findall(r"^  ([a-z_]+)=", help_text, re.M):
        check(f"\\fB{key}=" in text, key)
    if not shutil.which("mandoc"):
        raise Skip("mandoc is absent: the page was not checked by it")
    done = subprocess.run(["mandoc", "-T", "lint", "-W", "warning"], input=page.encode(),
                          capture_output=True)
    wrong = [line for line in done.stdout.decode().splitlines() if "missing date" not in line]
    check_equal(wrong, [])
