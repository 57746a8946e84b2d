"""A minute of everything at once: 32 clients, 4 slots, and half of the clients misbehave."""

import collections
import random
import socket
import threading
import time

from client import Job, gen_line, quote
from harness import Server, check, check_equal, eventually, options, test

CLIENTS = 32
SLOTS = 4
QUEUE = 16

BEGINNINGS = ["Once upon a time", "The old woman said to the fox,", "In a dark wood there lived",
              "\"Who are you?\" asked the king.", "Far out in the sea, where the water is as blue",
              "There was once a poor miller"]
STORY = ("A man had a donkey, who had carried the sacks to the mill for many a long year, but his "
         "strength was going, and he was growing more and more unfit for work. ")


class Request:
    """One thing to ask for, and the text that a quiet server gives."""

    def __init__(self, prompt, staged=False, **params):
        self.prompt, self.staged, self.params = prompt, staged, params
        self.text = None

    def send(self, client, tag):
        if self.staged:
            reply = client.put(self.prompt, tag)
            if reply.code != 210:
                return reply  # every staging place is taken
            words = [f"{k}={v}" for k, v in self.params.items() if k != "stop"]
            words += [f"stop={quote(s)}" for s in self.params.get("stop", [])]
            client.send(" ".join(["RUN", str(tag), *words]))
        else:
            client.send(gen_line(self.prompt, tag, **self.params))
        return None


def catalogue(rng):
    requests = []
    for i, prompt in enumerate(BEGINNINGS):
        requests.append(Request(prompt, temperature=0, max_tokens=10 + 10 * i))
        requests.append(Request(prompt, seed=rng.randrange(2**64), max_tokens=60, top_p=0.9,
                                repetition_penalty=1.1))
        requests.append(Request(prompt, seed=i, temperature=1.7, max_tokens=25, bytes=1))
        requests.append(Request(prompt, seed=i, max_tokens=80, top_k=40, stop=[" the", ", and"]))
    for n in (1, 2, 4, 5):  # long prompts with a common beginning
        requests.append(Request(STORY * n + BEGINNINGS[n % 6], staged=True, seed=n, min_p=0.05,
                                max_tokens=30))
    requests.append(Request(BEGINNINGS[0], seed=1, max_tokens=400, ignore_eos=1))
    return requests


class Soak:
    def __init__(self, server, seed, seconds):
        self.server, self.seed = server, seed
        self.requests = catalogue(random.Random(seed))
        self.end = time.monotonic() + seconds
        self.count = collections.Counter()
        self.failures = []
        self.lock = threading.Lock()

    def note(self, what):
        with self.lock:
            self.count[what] += 1

    def expect_all(self):
        """Each text from a server that has never seen another, with one slot and one thread."""
        for request in self.requests:
            with Server("slots=1", "threads=1", "log=error") as quiet, quiet.connect() as c:
                check(request.send(c, 1) is None)
                job = Job(c.rest(1))
                check_equal(job.end.code, 250)
                request.text = job.text

    # What a client may do. Each is given a connection, and says whether it is still usable.

    def finish(self, client, request, tag):
        """Reads a job to its end and holds it against what it should be."""
        job = Job(client.rest(tag))
        if job.end.code in (503, 504) and not job.started:
            self.note("busy")
            if request.staged:
                client.stop(tag)
            time.sleep(0.02)
            return
        check_equal(job.end.code, 250, job.end)
        if job.stop == "CANCELLED":
            check(job.started or not job.text, "a text without a started event")
            check(request.text.startswith(job.text.rstrip("\ufffd")), "a cancelled text",
                  repr(job.text), "is no beginning of", repr(request.text))
            self.note("cancelled")
        else:
            check(job.started, "no started event")
            check_equal(job.text, request.text, f"{request.prompt[:40]!r} {request.params}")
            indices = [int(r.words[0]) for r in job.tokens if not r.more]
            check_equal(indices, list(range(len(indices))))
            check_equal(int(job.end.fields["tokens"]), len(indices))
            self.note("completed")

    def silent_after(self, client, *tags):
        """The terminal line of a job is its last."""
        check_equal(client.ask("PING")[-1].code, 200)
        late = [r for r in client.kept if r.tag in map(str, tags) and r.code != 230]
        check(not late, "after the terminal line:", late)
        client.kept.clear()

    def generate(self, client, rng):
        request = rng.choice(self.requests)
        refused = request.send(client, 5)
        if refused:
            check_equal(refused.code, 503)
            client.stop(5)
            self.note("no staging place")
            return True
        self.finish(client, request, 5)
        self.silent_after(client, 5)
        return True

    def generate_two(self, client, rng):
        pair = [(tag, rng.choice(self.requests[:20])) for tag in (1, 9999)]
        for tag, request in pair:
            request.send(client, tag)
        for tag, request in pair:
            self.finish(client, request, tag)
        self.silent_after(client, 1, 9999)
        return True

    def cancel(self, client, rng):
        request = rng.choice(self.requests[:24] + self.requests[-1:])
        request.send(client, 7)
        replies = []
        for _ in range(rng.randrange(12)):
            replies.append(client.read_for(7))
            if replies[-1].terminal:
                break
        ended = bool(replies) and replies[-1].terminal
        lines, _ = client.stop(7)
        if ended:
            check_equal(lines, [])
        if rng.random() < 0.5:
            check_equal(client.stop(7)[1].words, [b"idle"])
        replies += lines
        check_equal(sum(r.terminal for r in replies), 1, replies[-3:])
        client.kept[:0] = replies
        self.finish(client, request, 7)
        self.silent_after(client, 7)
        return True

    def disconnect(self, client, rng):
        request = rng.choice(self.requests)
        if request.send(client, 1) is None:
            for _ in range(rng.randrange(8)):
                if client.read_for(1).terminal:
                    break
        if rng.random() < 0.3:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.note("disconnected")
        return False

    def half_close(self, client, rng):
        request = rng.choice(self.requests[:24])
        request.send(client, 3)
        client.socket.shutdown(socket.SHUT_WR)
        self.finish(client, request, 3)
        rest = client.buffer
        while data := client.socket.recv(65536):
            rest += data
        check(b" 3 " not in rest, "after the terminal line:", rest)
        return False

    def garbage(self, client, rng):
        data = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 3000)))
        client.write(data if rng.random() < 0.7 else b"Z" * rng.randrange(100000))
        self.note("garbage")
        if rng.random() < 0.5:
            return False
        try:
            client.write(b"\nPING\n")
            while client.read_line() != b"200 - pong":
                pass
            return True
        except (EOFError, ConnectionError):
            return False  # 20 bad lines in a row

    def slow(self, client, rng):
        request = rng.choice(self.requests[:24])
        params = {**request.params, "logprobs": 20}
        client.send(gen_line(request.prompt, 4, **params))
        time.sleep(rng.uniform(0.1, 1.0))
        self.finish(client, request, 4)
        self.silent_after(client, 4)
        self.note("read late")
        return True

    def abandon_text(self, client, rng):
        client.put(STORY, 11)
        client.write(b'PUT 12 "half a line')
        self.note("abandoned")
        return False

    def ask(self, client, rng):
        check(client.health()["status"] in ("ready", "busy"))
        check_equal(client.ask("METRICS")[-1].line, b"203 - # EOF")
        check_equal(client.ask('GEN 1 temperature=3 "x"', 1)[-1].code, 422)
        return True

    def live(self, number):
        rng = random.Random(f"{self.seed}/{number}")
        actions = [self.generate] * 6 + [self.generate_two, self.cancel, self.cancel,
                                         self.disconnect, self.half_close, self.garbage, self.slow,
                                         self.abandon_text, self.ask]
        client, action = None, None
        try:
            while time.monotonic() < self.end and not self.failures:
                if client is None:
                    client = self.server.connect(rng.choice([self.server.tcp, self.server.unix]))
                    client.socket.settimeout(20)
                action = rng.choice(actions)
                if not action(client, rng):
                    client.close()
                    client = None
        except Exception as problem:  # told by the main thread
            self.failures.append(f"client {number}, {action.__name__ if action else 'connect'}: "
                                 f"{type(problem).__name__}: {problem}")
        finally:
            if client:
                client.close()


@test(lambda: options.soak_seconds + 60)
def thirty_two_clients_on_four_slots_get_what_each_would_get_alone():
    seed = options.soak_seed if options.soak_seed is not None else random.randrange(2**32)
    with Server(f"slots={SLOTS}", f"queue={QUEUE}", "log=warn") as server:
        soak = Soak(server, seed, options.soak_seconds)
        soak.expect_all()
        for c in [server.connect() for _ in range(60)]:  # touches every client's memory
            c.ask("METRICS")
            c.close()
        watcher = server.connect()
        eventually(lambda: watcher.metrics()["worker_connections"] == "1")
        descriptors = server.descriptors()
        soak.end = time.monotonic() + options.soak_seconds
        threads = [threading.Thread(target=soak.live, args=(i,), daemon=True)
                   for i in range(CLIENTS)]
        for thread in threads:
            thread.start()
        time.sleep(options.soak_seconds / 4)
        warm_kb = server.rss_kb()
        for thread in threads:
            thread.join(options.soak_seconds + 40)
        again = f"(--soak-seed {seed} repeats the clients' choices)"
        check(not soak.failures, again, *soak.failures[:3])
        check(not any(t.is_alive() for t in threads), again, "clients hang")
        eventually(lambda: watcher.health()["slots_free"] == str(SLOTS), what="all slots free")
        check_equal(watcher.health()["queued"], "0")
        check_equal(watcher.health()["status"], "ready")
        eventually(lambda: server.descriptors() == descriptors, what="no descriptor is left")
        grown = server.rss_kb() - warm_kb
        check(grown < 1024, again, "resident memory grew by", grown, "kB")
        metrics = watcher.metrics()
        check_equal(metrics['worker_requests_total{outcome="failed"}'], "0")
        check_equal((metrics["requests_processing"], metrics["requests_deferred"]), ("0", "0"))
        for request in soak.requests:
            check(request.send(watcher, 1) is None)
            check_equal(Job(watcher.rest(1)).text, request.text, "afterwards")
        for what in ("completed", "cancelled", "disconnected", "garbage", "read late", "busy"):
            check(soak.count[what] > 0 or options.soak_seconds < 10, again, "no", what)
        told = ", ".join(f"{n} {what}" for what, n in sorted(soak.count.items()))
        return f"seed {seed}: {told}; resident {warm_kb} kB, {grown:+} kB later"
