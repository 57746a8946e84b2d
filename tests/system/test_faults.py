"""What goes wrong around a server: a client that is stopped, a disk that is full, a signal at any
moment. No job lies, nothing leaks, and the end is clean."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

from client import Client, gen_line
from harness import (HERE, PATIENCE_S, Server, check, check_equal, check_quick, eventually,
                     free_port, need, options, start, test, wickctl, work_path)
from test_server import connect_when_ready

PROMPT = "Once upon a time"
LONG = {"max_tokens": 480, "ignore_eos": 1}


@test(40)
def a_client_that_is_stopped_gets_everything_when_it_goes_on():
    # Far more than a socket holds while nobody reads it.
    words = ["gen", "-q", "seed=7", "max_tokens=480", "ignore_eos=1", "logprobs=20", PROMPT]
    with Server("slots=2", "stall_ms=20000") as server, server.connect() as c:
        status, want, err = wickctl(server.unix, *words)
        check_equal(status, 0, err)
        short = c.gen(PROMPT, max_tokens=30, seed=1).text
        process = start([need(options.wickctl), "-c", server.unix, *words], stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        begun = process.stdout.read(10)
        process.send_signal(signal.SIGSTOP)
        for _ in range(20):  # everybody else is served as before
            begin = time.monotonic()
            check_equal(c.gen(PROMPT, max_tokens=30, seed=1).text, short)
            check_quick(time.monotonic() - begin < 1)
        time.sleep(0.5)
        check_equal(c.health()["slots_free"], "1", "its job waits")
        process.send_signal(signal.SIGCONT)
        rest, err = process.communicate(timeout=PATIENCE_S)
        check_equal((process.returncode, (begun + rest).decode()), (0, want), err)
        eventually(lambda: c.health()["slots_free"] == "2")


# Asks for more than all buffers hold, and says what has come.
CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from client import Client, Job, gen_line
c = Client(sys.argv[2])
c.socket.settimeout(30)
for tag in (1, 2):
    c.send(gen_line(sys.argv[3], tag, max_tokens=480, ignore_eos=1, logprobs=20, seed=tag))
print("asked", flush=True)
sys.stdin.readline()
for tag in (1, 2):
    job = Job(c.rest(tag))
    print(job.end.code, job.text.replace("\\n", "|"), flush=True)
"""


@test(40)
def a_client_that_stays_stopped_loses_its_jobs_and_is_told_so():
    with Server("slots=2", "stall_ms=700") as server, server.connect() as c:
        want = [c.gen(PROMPT, seed=tag, **LONG).text.replace("\n", "|") for tag in (1, 2)]
        before = server.rss_kb()
        process = start([sys.executable, "-c", CHILD, HERE, server.unix, PROMPT],
                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        check_equal(process.stdout.readline(), "asked\n")
        process.send_signal(signal.SIGSTOP)
        eventually(lambda: c.health()["slots_free"] == "0", what="its jobs run")
        eventually(lambda: c.health()["slots_free"] == "2", what="the slots are given back")
        failed = c.metrics()['worker_requests_total{outcome="failed"}']
        check(server.rss_kb() - before < 1024, "grew by kB", server.rss_kb() - before)
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate("go on\n", timeout=PATIENCE_S)
        ends = [line.split(" ", 1) for line in out.splitlines()]
        for (code, text), whole in zip(ends, want):
            check(whole.startswith(text), "not how it begins:", text)
            check(code == "508" or (code, text) == ("250", whole), code, text)
        codes = [code for code, _ in ends]
        check("508" in codes, "nobody was too slow:", codes)
        return f"{codes}, failed={failed}"


def serve_with_log(log):
    """A wick whose log goes to that file; returns (process, client)."""
    port = free_port()
    process = start([need(options.wick), f"model={need(options.model)}", "log=debug",
                     f"listen=tcp:127.0.0.1:{port}"], stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL, stderr=log)
    return process, connect_when_ready(port)


def check_serves_without_a_log(process, c, want):
    for _ in range(3):
        job = c.gen(PROMPT, max_tokens=40, seed=3)
        check_equal((job.end.code, job.text), (250, want))
    kept = c.ask("LOG lines=50")
    check(any(b"client number=" in r.line for r in kept), "LOG still has it:", kept[-3:])
    check_equal(c.ask("SHUTDOWN")[-1].code, 261)
    check_equal(process.wait(timeout=PATIENCE_S), 0)


@test(40)
def a_full_disk_of_logs_stops_nobody():
    with Server() as server, server.connect() as c:
        want = c.gen(PROMPT, max_tokens=40, seed=3).text
    with open("/dev/full", "wb", buffering=0) as log:  # every write: no space left
        process, c = serve_with_log(log)
        check_serves_without_a_log(process, c, want)
    if os.geteuid() != 0:
        return "not root: /dev/full only"
    place = work_path("small")
    os.mkdir(place)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "wick-test", place],
                      capture_output=True).returncode != 0:
        return "no mount: /dev/full only"
    try:
        with open(os.path.join(place, "log"), "wb", buffering=0) as log:
            process, c = serve_with_log(log)
            for _ in range(300):
                Client(f"tcp:127.0.0.1:{c.socket.getpeername()[1]}").close()
            c.ask("PING")
            size = os.fstat(log.fileno()).st_size
            check_equal(size, 16384, "the disk is full")
            check_serves_without_a_log(process, c, want)
    finally:
        subprocess.run(["umount", "-l", place], check=True)


class Asker(threading.Thread):
    """Asks for one job after the other until the server is gone; keeps what is wrong."""

    def __init__(self, address, want, seed):
        super().__init__(daemon=True)
        self.address, self.want, self.seed = address, want, seed
        self.ends, self.wrong = [], []
        self.over = False  # there is no server to wait for any more

    def run(self):
        try:
            self.ask_on()
        except Exception as problem:
            self.wrong.append(repr(problem))

    def ask_on(self):
        random_of = random.Random(self.seed)
        end = time.monotonic() + 15
        while time.monotonic() < end:
            try:
                with Client(self.address, timeout=10) as c:
                    while self.ask(c, random_of):
                        pass
                return
            except (OSError, EOFError, ConnectionError):
                if self.ends or self.over:
                    return
                time.sleep(0.005)  # not there yet
        self.wrong.append("was still asking after 15 s")

    def ask(self, c, random_of):
        seed = random_of.choice(list(self.want))
        c.send(gen_line(PROMPT, 1, seed=seed, **LONG))
        text, started = b"", False
        while True:
            try:
                reply = c.read_for(1)
            except (OSError, EOFError, ConnectionError):
                if started:
                    self.wrong.append(f"no last word for seed {seed} after {text!r}")
                raise
            started = started or reply.code == 150
            if reply.code == 151:
                text += reply.words[1]
            if not self.want[seed].startswith(text):
                self.wrong.append(f"seed {seed}: {text!r}")
            if reply.code >= 200:
                break
        self.ends.append(reply.code)
        if reply.code == 250 and text != self.want[seed]:
            self.wrong.append(f"the end of seed {seed} after {text!r}")
        if reply.code not in (250, 503, 504, 505):
            self.wrong.append(f"ended with {reply.line!r}")
        return reply.code != 505


@test(90)
def sigterm_at_any_moment_is_an_end_without_lies():
    seed = random.randrange(2**32)
    random_of = random.Random(seed)
    rounds, early, ends, longest = 15, 0, {}, 0
    with Server() as server, server.connect() as c:
        want = {s: c.gen(PROMPT, seed=s, **LONG).text.encode() for s in (1, 2, 3)}
    for i in range(rounds):
        with_drain = random_of.choice((0, 20, 30000))
        server = Server("slots=2", f"drain_ms={with_drain}", ready=False)
        askers = [Asker(server.unix if n else server.tcp, want, random_of.random())
                  for n in range(3)]
        for asker in askers:
            asker.start()
        time.sleep(random_of.choice((0.02, 0.2, 0.8)) * random_of.random())
        server.process.send_signal(signal.SIGTERM)
        if i % 4 == 3:
            time.sleep(0.05 * random_of.random())
            server.process.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        status = server.wait_exit(20)
        longest = max(longest, time.monotonic() - begin)
        log = server.log()
        # Before there is a wire, nobody has been promised anything.
        fine = status == 0 or (status == -signal.SIGTERM and " listen " not in log)
        check(fine, f"round {i}, seed {seed}: status {status}", log[-1000:])
        early += status != 0
        for asker in askers:
            asker.over = True
            asker.join(10)
            check(not asker.is_alive(), f"round {i}, seed {seed}: hangs after {asker.ends}")
            check(not asker.wrong, f"round {i}, seed {seed}:", *asker.wrong[:3])
            for code in asker.ends:
                ends[code] = ends.get(code, 0) + 1
        server.log_file.close()
    check(ends.get(250, 0) > 0, "no job came to its end:", ends)
    return (f"{rounds} rounds, {early} before there was a wire; ends {dict(sorted(ends.items()))}; "
            f"over after {longest:.1f} s at most")
