"""A device that fails while wick serves: the job ends with its code, HEALTH says why, the next jobs
are refused, and the wires answer all along."""

import random
import threading
import time

import device
from client import gen_line
from device import PATIENCE_S, Worker
from harness import check, check_equal, check_quick, eventually, test

PROMPT = "Once upon a time"

# What goes wrong in the stand-in, and what the reason must name. The first graph is the warm-up at
# boot.
FAULTS = {
    "launch that fails": ("cuGraphLaunch#4=error:719", "cuGraphLaunch: CUDA_ERROR_LAUNCH_FAILED"),
    "illegal address": ("kernel#400=error:700", "CUDA_ERROR_ILLEGAL_ADDRESS"),
    "driver call that hangs": ("cuGraphLaunch#4=hang", "hang"),
    "driver that crashes": ("cuGraphLaunch#4=segv", "signal 11"),
    "driver that aborts": ("cuGraphLaunch#4=abort", "signal 6"),
    "driver that calls exit": ("cuGraphLaunch#4=exit:0", "exit"),
    "device out of memory": ("cuGraphLaunch#4=error:2", "CUDA_ERROR_OUT_OF_MEMORY"),
    "kernel that never ends": ("kernel#400=hang", "hangs"),
}


def told(worker, pattern):
    """After a fault: HEALTH, jobs and wires as they must be."""
    with worker.connect() as c:
        health = c.health()
        check_equal((health["status"], health["code"]), ("failed", "WORKER_UNHEALTHY"))
        check(pattern in health["reason"], pattern, health["reason"])
        check_equal(c.gen(PROMPT, tag=5, max_tokens=1).end.code, 530)
        check_equal(c.ask("PING")[-1].code, 200)
        check(int(c.ids("fox")[0]) > 0, "TOKENIZE")
    return health["reason"]


def fail_once(name):
    fault, pattern = FAULTS[name]
    # A step of the stand-in takes a second, and many on a busy machine.
    patience = "hang_ms=8000" if "hang" in pattern else "hang_ms=60000"
    with Worker(patience, fault=fault) as s:
        with s.connect() as c, s.connect() as other:
            c.send(gen_line(PROMPT, 1, max_tokens=50, temperature=0, ignore_eos=1))
            c.send(gen_line(PROMPT, 2, max_tokens=50, temperature=0, ignore_eos=1))
            ends, took, stop = [], [], time.monotonic() + PATIENCE_S
            reader = threading.Thread(target=lambda: ends.extend([c.rest(1)[-1], c.rest(2)[-1]]))
            reader.start()
            while reader.is_alive() and time.monotonic() < stop:
                begin = time.monotonic()
                check_equal(other.ask("PING")[-1].code, 200)
                took.append(time.monotonic() - begin)
                time.sleep(0.05)
            codes = {r.code for r in ends}
            check(codes in ({512}, {513}), name, ends)
            # A main loop that waits for the driver would wait for all of hang_ms. A busy machine
            # may delay one answer, not most of them.
            check_quick(max(took) < 3 and sorted(took)[len(took) // 2] < 0.25, "PING took", took)
        reason = told(s, pattern)
        with s.connect() as c:
            c.send("SHUTDOWN")
        check_equal(s.wait_exit(PATIENCE_S), 0)
    return f"{name}: {reason}"


@test(900)
def each_fault_ends_the_jobs_and_leaves_the_wires():
    return "\n     ".join(["", *(fail_once(name) for name in FAULTS)])


@test(300)
def fault_while_nobody_asks_is_seen_by_health():
    with Worker("hang_ms=60000", fault="cuGraphLaunch#3=segv") as s, s.connect() as c:
        c.send(gen_line(PROMPT, 1, max_tokens=50, temperature=0))
        check_equal(c.rest(1)[-1].code, 513)
        check_quick(eventually(lambda: c.health()["status"] == "failed") <= 5, "HEALTH was late")


@test(300)
def worker_starts_anew_where_that_is_asked_for():
    with Worker("on_gpu_fault=restart", fault="cuGraphLaunch#6=error:719") as s:
        first = s.pid
        with s.connect() as c:
            want = c.gen(PROMPT, max_tokens=3, temperature=0).text
            lost = c.gen(PROMPT, tag=2, max_tokens=50, temperature=0, ignore_eos=1)
            check_equal(lost.end.code, 513)
            replies = []
            try:
                while True:
                    replies.append(c.read())
            except EOFError:
                pass
            check(replies and replies[-1].code == 221 or replies[-1].code == 261, replies)
        s.wait_ready(PATIENCE_S)
        with s.connect() as c:
            check_equal(c.gen(PROMPT, max_tokens=3, temperature=0).text, want)
        check_equal(s.pid, first)
        check("restart a GPU has failed" in s.log(), s.log()[-500:])
        s.process.terminate()
        check_equal(s.wait_exit(PATIENCE_S), 0)


# --- soak -------------------------------------------------------------------------------------------


class Soak:
    """Clients that ask and stop and leave, over a device that fails now and then."""

    def __init__(self, seed, seconds):
        self.rng = random.Random(seed)
        self.until = time.monotonic() + seconds
        self.wanted = {}  # request -> its text
        self.lock = threading.Lock()
        self.count = {"right": 0, "failed": 0, "stopped": 0, "lost": 0}
        self.wrong = []

    def add(self, what):
        with self.lock:
            self.count[what] += 1

    def ask(self, client, rng):
        seed = rng.randrange(4)
        words = dict(max_tokens=1 + seed, seed=seed, top_k=rng.choice([1, 8]))
        job = client.gen(PROMPT, **words)
        if job.end.code == 250:
            key = tuple(words.items())
            with self.lock:
                if self.wanted.setdefault(key, job.text) != job.text:
                    self.wrong.append((key, job.text, self.wanted[key]))
            self.add("right")
        elif job.end.code in (503, 504, 505, 512, 513, 530):
            self.add("failed")
        else:
            self.wrong.append(job.end)

    def client(self, worker, seed):
        rng = random.Random(seed)
        while time.monotonic() < self.until and not self.wrong:
            try:
                with worker.connect() as c:
                    while time.monotonic() < self.until and not self.wrong:
                        if rng.random() < 0.2:
                            c.start(PROMPT, tag=9, max_tokens=30, temperature=0)
                            c.stop(9)
                            self.add("stopped")
                        elif rng.random() < 0.1:
                            c.send(gen_line(PROMPT, 8, max_tokens=30))
                            break
                        else:
                            self.ask(c, rng)
            except (OSError, EOFError, IndexError):
                self.add("lost")
                time.sleep(0.2)


@test(900)
def soak_with_faults():
    seed = device.options.soak_seed or random.randrange(2**32)
    seconds = 240 if device.options.slow else 30
    rng = random.Random(seed)
    kinds = ["error:719", "error:700", "segv", "exit:1", "abort"]
    fault = f"cuGraphLaunch#{rng.randrange(5, 20)}={rng.choice(kinds)}"
    print(f"     seed {seed}: {fault}", flush=True)
    with Worker("slots=3", "queue=4", "on_gpu_fault=restart", "hang_ms=20000", fault=fault) as s:
        soak = Soak(seed, seconds)
        threads = [threading.Thread(target=soak.client, args=(s, rng.randrange(2**32)))
                   for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        check(not soak.wrong, soak.wrong[:3])
        check(soak.count["right"] > 3, soak.count)
        s.wait_ready(PATIENCE_S)
        restarts = s.log().count("restart a GPU has failed")
        s.process.terminate()
        s.wait_exit(PATIENCE_S)
    return f"{soak.count}, {restarts} restarts"
