"""A bad serial cable: CRC trailers and REPLAY, with wickctl at the other end."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time

from client import StreamClient
from harness import (HERE, PATIENCE_S, Server, check, check_equal, eventually, options, test,
                     wickctl)
from test_wires import Pty

PROMPTS = ["Once upon a time", "The fox said", "One day, a little girl", "In the forest",
           "Tom and his dog", "It was raining", "She looked at the sea", "A big red ball"]

# Of each byte. The contract's cable: bit errors at 1e-3, bytes dropped and doubled, breaks.
NOISE = {"flip": 1e-3, "drop": 2e-4, "double": 2e-4, "break": 1e-4, "silence": 0}
SEED = int(os.environ.get("CABLE_SEED", 20240611))


class NoisyCable:
    """A bad cable between wick and wickctl; one process that does harm by a seed."""

    def __init__(self, seed=SEED, **noise):
        self.noise = {**NOISE, **noise}
        self.seed = seed

    def __enter__(self):
        self.ends = [Pty(), Pty()]
        masters = [end.master for end in self.ends]
        self.process = subprocess.Popen(
            [sys.executable, os.path.join(HERE, "noisy_cable.py"), *map(str, masters),
             str(self.seed), *(str(self.noise[k]) for k in ("flip", "drop", "double", "break",
                                                            "silence"))],
            pass_fds=masters, stderr=subprocess.PIPE, text=True)
        self.server, self.client = (end.wire for end in self.ends)
        return self

    def end(self):
        """What it did."""
        self.process.send_signal(signal.SIGINT)
        return self.process.stderr.read().strip().splitlines()[-1]

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for end in self.ends:
            os.close(end.slave)
            os.close(end.master)


def wanted(server, jobs):
    """What each of the jobs says when nothing is in its way, and how to ask for it."""
    want = {}
    for prompt, seed, tokens in jobs:
        status, out, err = wickctl(server.unix, *words(prompt, seed, tokens))
        check_equal(status, 0, err)
        want[prompt, seed, tokens] = out
    return want


def words(prompt, seed, tokens):
    return ["gen", "-q", f"seed={seed}", f"max_tokens={tokens}", "ignore_eos=1", prompt]


def completed(server):
    with server.connect(server.unix) as c:
        metrics = c.metrics()
    return {k: int(metrics[f'worker_requests_total{{outcome="{k}"}}'])
            for k in ("completed", "cancelled", "failed", "dropped")}


def run_jobs(cables, n, seconds):
    """n jobs over those cables, each cable its own client; every text must be whole. Returns a
    note."""
    rng = random.Random(SEED)
    kinds = [(p, s, t) for p in PROMPTS for s in (1, 2) for t in (3, 12, 40)]
    with Server("slots=4", listen=[c.server for c in cables]) as server:
        want = wanted(server, kinds)
        before = completed(server)
        jobs = [rng.choice(kinds) for _ in range(n)]
        wrong, took, lock = [], [], threading.Lock()
        begin = time.monotonic()

        def work(cable):
            while True:
                with lock:
                    if not jobs or wrong or time.monotonic() - begin > seconds:
                        return
                    job = jobs.pop()
                start = time.monotonic()
                status, out, err = wickctl(cable.client, *words(*job), seconds=120)
                with lock:
                    took.append(time.monotonic() - start)
                    if (status, out) != (0, want[job]):
                        wrong.append((job, status, out, want[job], err))

        threads = [threading.Thread(target=work, args=(c,)) for c in cables]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        check(not wrong, "a job that is not as it should be:", *wrong)
        check(not jobs, f"{len(jobs)} jobs were not done within {seconds} s")
        after = completed(server)
        # None ran twice, and none was lost half way.
        check_equal({k: after[k] - before[k] for k in after},
                    {"completed": n, "cancelled": 0, "failed": 0, "dropped": 0})
    harm = "; ".join(c.end() for c in cables)
    return f"{n} jobs in {time.monotonic() - begin:.0f} s, longest {max(took):.1f} s; {harm}"


def bad_cables(n_cables, n_jobs, seconds, **noise):
    with contextlib.ExitStack() as stack:
        cables = [stack.enter_context(NoisyCable(SEED + i, **noise)) for i in range(n_cables)]
        return run_jobs(cables, n_jobs, seconds)


@test(120)
def no_job_is_lost_repeated_or_altered_by_a_noisy_cable():
    return bad_cables(6, 150, 100)


@test(1200, slow=True)
def none_of_1000_jobs_is_lost_repeated_or_altered_by_cables_that_are_silent_as_well():
    return bad_cables(6, 1000, 1100, silence=2e-5)


@test(120)
def long_texts_and_questions_come_through_a_noisy_cable():
    text = " ".join(random.Random(SEED).choices([w for p in PROMPTS for w in p.split()], k=240))
    with NoisyCable(SEED + 9) as cable, Server("ctx=512", listen=[cable.server]) as server:
        for command in (["gen", "-q", "seed=3", "max_tokens=30"], ["tokenize"], ["score"]):
            want = wickctl(server.unix, *command, stdin=text.encode())
            check_equal(want[0], 0, want[2])
            got = wickctl(cable.client, *command, stdin=text.encode(), seconds=60)
            check_equal(got[:2], want[:2], command[0] + got[2])
        ids = wickctl(server.unix, "tokenize", stdin=text.encode())[1]
        check_equal(wickctl(cable.client, "detokenize", stdin=ids.encode(), seconds=60)[1].strip(),
                    text)
        check_equal(wickctl(cable.client, "ping", seconds=60)[0], 0)
        health = wickctl(cable.client, "health", seconds=60)
        check("status        ready" in health[1], health)
        status, out, err = wickctl(cable.client, "repl", "-q", "temperature=0", "max_tokens=20",
                                   stdin="\n".join(PROMPTS).encode(), seconds=60)
        want = wickctl(server.unix, "repl", "-q", "temperature=0", "max_tokens=20",
                       stdin="\n".join(PROMPTS).encode())
        check_equal((status, out), want[:2], err)
        # STOP, in the middle of a text.
        process = subprocess.Popen([options.wickctl, "-c", cable.client, "gen", "max_tokens=500",
                                    "ignore_eos=1", PROMPTS[0]], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        process.stdout.read(20)
        process.send_signal(signal.SIGINT)
        check(process.wait(PATIENCE_S) in (0, 130), process.stderr.read())  # 0: it was done already
        with server.connect(server.unix) as c:
            eventually(lambda: c.health()["slots_free"] == "4")
        check_equal(wickctl(cable.client, "drain", seconds=60)[:2], (0, "drained\n"))
