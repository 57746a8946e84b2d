"""wick on the device, over its wires: texts, neighbours, prefixes, memory, the sandbox."""

import os
import threading
import time

from client import gen_line
from device import PATIENCE_S, Worker, lab
from harness import (check, check_equal, check_idle, check_quick, eventually, need, options, test,
                     work_path)

PROMPTS = ["Once upon a time", "The old woman said to the fox,", "In a dark wood there lived",
           "There was once a poor miller"]


def text_of(lab_words):
    return lab("run", f"model={need(options.model)}", "ctx=256", *lab_words)[1]


@test(300)
def candidates_give_the_text_that_all_logits_give():
    """wick-lab run looks at every logit; wick asks the device for as few as the fields allow."""
    ways = [dict(temperature=0), dict(seed=7, top_k=5), dict(seed=8, top_k=64, top_p=0.9),
            dict(seed=9, top_k=40, min_p=0.02, temperature=1.5), dict(seed=10)]
    with Worker("slots=1") as s, s.connect() as c:
        for way in ways:
            words = [f"{k}={v}" for k, v in way.items()]
            want = text_of([f"prompt={PROMPTS[0]}", "max_tokens=4", *words])
            job = c.gen(PROMPTS[0], max_tokens=4, **way)
            check_equal(job.text, want, f"{way}")


@test(300)
def neighbours_change_nothing():
    alone, together = {}, {}
    with Worker("slots=4", "chunk=16") as s:
        with s.connect() as c:
            for prompt in PROMPTS:
                alone[prompt] = c.gen(prompt, max_tokens=5, seed=3, top_k=20).text

        def ask(prompt):
            with s.connect() as c:
                together[prompt] = c.gen(prompt, max_tokens=5, seed=3, top_k=20).text

    with Worker("slots=4", "chunk=5") as s:  # a cache that knows no prompt yet
        threads = [threading.Thread(target=ask, args=(p,)) for p in PROMPTS]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    check_equal(together, alone)


@test(300)
def prefix_in_the_cache_gives_the_same_text():
    long = " ".join([PROMPTS[1], "it is cold and the wind blows through the trees,"] * 2)
    with Worker("slots=2") as s, s.connect() as c:
        first = c.gen(long, max_tokens=6, temperature=0)
        again = c.gen(long, max_tokens=6, temperature=0)
        check_equal(again.text, first.text)
        metrics = c.metrics()
        reused = [int(float(v)) for k, v in metrics.items() if "reused" in k]
        check(reused and reused[0] >= 16, metrics)


@test(300)
def score_and_logprobs_agree_with_the_cpus():
    text = "Once upon a time there was a little fox"
    with Worker() as s, s.connect() as c:
        own = [float(r.fields["logprob"]) for r in c.ask(f'SCORE 1 "{text}"', 1) if r.code == 152]
        top = c.gen(PROMPTS[0], max_tokens=3, temperature=0, logprobs=3).tokens
    with Worker("backend=cpu", "isa=exact") as s, s.connect() as c:
        exact = [float(r.fields["logprob"]) for r in c.ask(f'SCORE 1 "{text}"', 1)
                 if r.code == 152]
        top_exact = c.gen(PROMPTS[0], max_tokens=3, temperature=0, logprobs=3).tokens
    check_equal(len(own), len(exact))
    check(max(abs(a - b) for a, b in zip(own, exact)) < 0.1, own, exact)
    for a, b in zip(top, top_exact):
        check_equal(a.fields["id"], b.fields["id"])
        check(abs(float(a.fields["logprob"]) - float(b.fields["logprob"])) < 0.05, a, b)
        check_equal(len(a.fields["top"].split(",")), 3)


def calls(path):
    with open(path) as f:
        return f.read().split()


@test(300)
def device_memory_is_taken_once_and_logits_stay_there():
    trace = work_path("calls.trace")
    if os.path.exists(trace):
        os.remove(trace)
    with Worker(environment={"trace": trace}) as s, s.connect() as c:
        before = calls(trace)
        check_equal(before.count("cuMemAlloc_v2"), 1)
        check_equal(before.count("cuMemHostAlloc"), 1)
        c.gen(PROMPTS[0], max_tokens=5, temperature=0)
        greedy = calls(trace)[len(before):]
        check_equal(greedy.count("cuGraphLaunch"), 5, greedy)
        check(set(greedy) <= {"cuGraphLaunch", "cuStreamQuery", "kernel"}, greedy)
        c.gen(PROMPTS[2], max_tokens=3, seed=1)
        sampled = calls(trace)[len(before) + len(greedy):]
        check_equal(sampled.count("cuMemcpyDtoHAsync_v2"), 3, sampled)
        check(not {"cuMemAlloc_v2", "cuMemHostAlloc"} & set(sampled), sampled)
    check_equal(calls(trace)[-1], "cuDevicePrimaryCtxRelease_v2")


@test(300)
def wires_answer_while_the_device_computes():
    slow = {"latency": 20000}  # microseconds, of every kernel
    with Worker(environment=slow) as s, s.connect() as busy, s.connect() as c:
        busy.send(gen_line(PROMPTS[0], 1, max_tokens=2, temperature=0))
        worst = 0
        for _ in range(20):
            begin = time.monotonic()
            check_equal(c.ask("PING")[-1].code, 200)
            worst = max(worst, time.monotonic() - begin)
            time.sleep(0.02)
        check_quick(worst < 0.25, f"PING took {worst:.3f} s")
        check_equal(len([r for r in busy.rest(1) if r.code == 151]), 2)
    return f"slowest PING {worst * 1000:.0f} ms"


@test(300)
def sandbox_is_on_and_an_idle_worker_sleeps():
    with Worker() as s, s.connect() as c:
        c.gen(PROMPTS[0], max_tokens=2, temperature=0)
        check_equal(s.status("Seccomp"), "2")
        check_idle(s, ticks=3)


@test(300)
def job_that_is_stopped_leaves_the_device_to_others():
    with Worker("slots=1") as s, s.connect() as c:
        want = c.gen(PROMPTS[3], max_tokens=4, temperature=0).text
        c.start(PROMPTS[0], tag=1, max_tokens=200, temperature=0)
        lines, answer = c.stop(1)
        check_equal(answer.code, 230)
        check_equal(c.gen(PROMPTS[3], tag=2, max_tokens=4, temperature=0).text, want)


@test(300)
def shutdown_ends_the_process_at_once():
    with Worker() as s, s.connect() as c:
        c.gen(PROMPTS[0], max_tokens=1, temperature=0)
        c.send("SHUTDOWN")
        begin = time.monotonic()
        check_equal(s.wait_exit(PATIENCE_S), 0)
        took = time.monotonic() - begin
        check_quick(took < 5, f"{took:.1f} s")
    eventually(lambda: s.process.poll() is not None)
