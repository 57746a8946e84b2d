"""Wires and lines: every transport, and whatever may come over one."""

import os
import random
import re
import socket
import subprocess
import time
import tty

from client import Job, StreamClient, gen_line
from harness import (PATIENCE_S, Server, check, check_equal, check_idle, check_quick, eventually,
                     median, need, options, start, test, work_path)

PROMPT = "Once upon a time"
GREEDY = {"temperature": 0, "max_tokens": 30}


class Pty:
    """A pseudo-terminal of which wick opens the slave side; we are at the master's."""

    def __init__(self):
        self.master, self.slave = os.openpty()
        tty.setraw(self.master)
        self.path = os.ttyname(self.slave)
        self.wire = f"tty:{self.path},115200"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.close(self.master)
        os.close(self.slave)


@test()
def the_server_greets_first_and_answers_the_small_verbs():
    with Server() as server:
        for address in (server.tcp, server.unix):
            with server.connect(address) as c:
                check_equal(c.greeting.line, b"220 - wick proto=1")
                check_equal(c.ask("PING")[0].line, b"200 - pong")
                check_equal(c.ask("HELLO proto=1")[0].line, b"220 - wick proto=1")
                check_equal(c.ask("HELLO proto=2")[0].fields, {"proto": "1"})
                listing = c.ask("HELP")
                check_equal({r.code for r in listing}, {204})
                text = b"\n".join(r.line for r in listing).decode()
                for verb in ("HELLO GEN PUT RUN STOP HEALTH INFO METRICS TOKENIZE DETOKENIZE SCORE "
                             "DRAIN SHUTDOWN PING HELP BYE").split():
                    check(re.search(rf"^204[ -]- {verb}\b", text, re.M), "HELP lacks", verb)
                check_equal(c.ask("BYE")[0].line, b"221 - bye")
                check_equal(c.socket.recv(10), b"")


@test()
def the_same_job_gives_the_same_text_on_every_wire():
    with Pty() as pty, Server("slots=4", listen=[pty.wire, "stdio"], stdio=True) as server:
        clients = [server.connect(server.tcp), server.connect(server.unix),
                   StreamClient(pty.master, pty.master),
                   StreamClient(server.process.stdout.fileno(), server.process.stdin.fileno())]
        for c in clients:
            check_equal(c.greeting.code, 220)
        alone = [c.gen(PROMPT, **GREEDY).text for c in clients]
        check_equal(set(alone), {alone[0]})
        for c in clients:
            c.send(gen_line(PROMPT, 3, **GREEDY))
        check_equal([Job(c.rest(3)).text for c in clients], alone)
        info = [r.line.decode() for r in clients[0].ask("INFO")]
        check_equal(sum("listen=" in line for line in info), 4)


@test()
def stdio_alone_ends_with_status_0_when_stdin_does():
    argv = [need(options.wick), f"model={need(options.model)}", "listen=stdio"]
    process = start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    c = StreamClient(process.stdout.fileno(), process.stdin.fileno())
    while c.health()["status"] == "loading":
        time.sleep(0.01)
    c.send(gen_line(PROMPT, 1, **GREEDY))
    process.stdin.close()
    job = Job(c.rest(1))
    check_equal(job.end.fields["tokens"], "30")
    check_equal(process.wait(timeout=PATIENCE_S), 0)


@test()
def a_half_closed_connection_gets_all_its_jobs_to_the_end():
    with Server() as server:
        with server.connect() as c:
            want = c.gen(PROMPT, **GREEDY).text
        for address in (server.tcp, server.unix):
            with server.connect(address) as c:
                c.send(gen_line(PROMPT, 1, **GREEDY))
                c.send(gen_line(PROMPT, 2, **GREEDY))
                c.socket.shutdown(socket.SHUT_WR)
                check_equal(Job(c.rest(1)).text, want)
                check_equal(Job(c.rest(2)).text, want)
                check_equal(c.socket.recv(10), b"")


@test()
def many_commands_in_one_write_and_a_command_in_many_writes():
    with Server() as server, server.connect() as c:
        c.write(b"PING\r\n\n   \nPING\nHEALTH\nPING\n")
        check_equal([c.read().code for _ in range(4)], [200, 200, 201, 200])
        for byte in b"PING\n":
            c.write(bytes([byte]))
            time.sleep(0.002)
        check_equal(c.read().code, 200)


@test()
def a_line_of_1024_bytes_is_accepted_and_one_more_is_not():
    with Server() as server, server.connect() as c:
        head = 'TOKENIZE "'
        longest = head + "x" * (1024 - len(head) - 2) + '"'
        check_equal(len(longest) + 1, 1024)
        check_equal(c.ask(longest)[0].code, 240)
        check_equal(c.ask(longest[:-1] + 'x"')[-1].code, 414)
        check_equal(c.ask("PING")[0].code, 200)
        c.write(b"x" * 2000)
        check_equal(c.read().code, 414)  # at once, before the LF
        c.write(b"y" * 5000 + b"\nPING\n")
        check_equal(c.read().code, 200)


@test()
def lines_that_are_none_cost_one_400_each():
    lines = ["gen 1", "GEN", "PING \x01", "PING caf\u00e9", "PING x", 'PING "a" "b"', 'PING "a',
             'TOKENIZE "a\\q"', 'TOKENIZE "\\x4"', "G3N", "=", '"text"', "PING a=\"b\"c",
             "ABCDEFGHIJKLMNOPQ", "NOSUCH", "PING 1"]
    with Server() as server, server.connect() as c:
        for line in lines:
            c.send(line)
            reply = c.read()
            check(reply.code in (400, 405, 422) and not reply.more, line, reply)
            check(len(reply.line) < 1024)
            check_equal(c.ask("PING")[0].code, 200)
        check_equal(c.ask("NOSUCH")[0].code, 405)
        check_equal(c.ask("PING \x01")[0].code, 400)


@test()
def twenty_bad_lines_in_a_row_close_a_connection_but_not_the_server():
    with Server() as server, server.connect() as c:
        for _ in range(19):
            check_equal(c.ask("nonsense")[0].code, 400)
        check_equal(c.ask("PING")[0].code, 200)
        for _ in range(20):
            check_equal(c.ask("nonsense")[0].code, 400)
        check_equal(c.socket.recv(10), b"")
        with server.connect() as again:
            check_equal(again.ask("PING")[0].code, 200)


@test()
def http_and_tls_get_one_error_that_says_so():
    hello = bytes.fromhex("16030100c5010000c10303") + bytes(range(60))
    for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /v1/chat HTTP/1.0\r\n\r\n", hello):
        with Server() as server, server.connect() as c:
            c.write(data)
            reply = c.read()
            check_equal(reply.code, 400)
            check(b"HTTP" in reply.line or b"TLS" in reply.line, reply)
            try:
                check_equal(c.socket.recv(100), b"")
            except ConnectionResetError:
                pass
            with server.connect() as other:
                check_equal(other.gen(PROMPT, max_tokens=2).end.code, 250)


def check_not_grown(server, before_kb):
    """A connection of its own may touch its part of the arena for the first time: a large page."""
    grown = server.rss_kb() - before_kb
    check(grown <= 2048 + 256, "resident memory grew by", grown, "kB")


@test(40)
def a_hundred_megabytes_without_a_line_end_cost_one_error_and_no_memory():
    with Server() as server, server.connect() as other:
        other.gen(PROMPT, **GREEDY)
        for address in (server.tcp, server.unix):
            before = server.rss_kb()
            with server.connect(address) as c:
                block = b"A" * (1 << 20)
                for _ in range(100):
                    c.write(block)
                c.write(b"\nPING\n")
                check_equal([c.read().code, c.read().code], [414, 200])
            check_not_grown(server, before)
        check_equal(other.gen(PROMPT, max_tokens=2).end.code, 250)


@test(40)
def binary_noise_is_survived_on_every_wire():
    noise = random.Random(7)
    with Pty() as pty, Server(listen=[pty.wire]) as server, server.connect() as watcher:
        watcher.gen(PROMPT, **GREEDY)  # a first job touches what jobs use
        before = server.rss_kb()
        for i in range(60):
            data = bytes(noise.randrange(256) for _ in range(noise.randrange(1, 6000)))
            with server.connect(server.unix if i % 2 else server.tcp) as c:
                try:
                    c.write(data)
                    if i % 3:
                        c.socket.shutdown(socket.SHUT_WR)
                        while c.socket.recv(65536):
                            pass
                except (ConnectionResetError, BrokenPipeError):
                    pass
        c = StreamClient(pty.master, pty.master)
        for _ in range(20):
            c.write(bytes(noise.randrange(256) for _ in range(500)))
        c.write(b"\nPING\n")
        while c.read_line() != b"200 - pong":
            pass
        check_equal(c.gen(PROMPT, max_tokens=3).end.code, 250)
        check_equal(watcher.health()["slots_free"], "4")
        check_not_grown(server, before)


@test()
def half_a_line_and_a_disconnect_do_nothing():
    with Server() as server, server.connect() as watcher:
        eventually(lambda: watcher.metrics()["worker_connections"] == "1")
        before = server.descriptors()
        for part in (b"GEN 1 max_tokens=500 \"Once", b"PU", b"SHUTDOWN", b"\""):
            with server.connect() as c:
                c.write(part)
        eventually(lambda: server.descriptors() == before)
        check_equal(watcher.health()["status"], "ready")
        check_equal(watcher.health()["slots_free"], "4")


def hold_without_reading(server, tag_count=4):
    """A client that asks for far more than the buffers between us hold, and reads none of it."""
    c = server.connect(server.unix)
    for tag in range(1, tag_count + 1):
        c.send(gen_line(PROMPT, tag, max_tokens=480, ignore_eos=1, logprobs=20, seed=tag))
    return c


@test(40)
def a_client_that_does_not_read_pauses_only_its_own_jobs():
    with Server("slots=5", "stall_ms=1500") as server, server.connect() as c:
        want = c.gen(PROMPT, **GREEDY).text
        slow = hold_without_reading(server)
        time.sleep(1.0)  # the pause has begun, stall_ms is not over
        check_equal(c.health()["slots_free"], "1")
        begin = time.monotonic()
        check_equal(c.gen(PROMPT, **GREEDY).text, want)
        check_quick(time.monotonic() - begin < 0.5, "the others are slowed down")
        check_quick(eventually(lambda: c.health()["slots_free"] == "5",
                               what="stalled jobs end") < 4)
        ends = [slow.rest(tag)[-1] for tag in range(1, 5)]
        check(any(e.code == 508 for e in ends), ends)
        check(all(e.code in (250, 508) for e in ends), ends)
        check_equal(slow.ask("PING")[0].code, 200)
        slow.close()


@test(40)
def a_client_that_reads_late_gets_every_token():
    with Server("slots=4", "stall_ms=20000") as server, server.connect() as c:
        want = [c.gen(PROMPT, max_tokens=480, ignore_eos=1, seed=tag).text for tag in (1, 2, 3, 4)]
        slow = hold_without_reading(server)
        time.sleep(1.5)
        check_equal(c.health()["slots_free"] != "4", True, "the jobs should be paused")
        jobs = [Job(slow.rest(tag)) for tag in (1, 2, 3, 4)]
        check_equal([j.end.code for j in jobs], [250] * 4)
        check_equal([j.text for j in jobs], want)
        slow.close()


@test()
def the_65th_connection_is_refused_and_a_free_place_is_used_again():
    with Server() as server:
        clients = [server.connect() for _ in range(64)]
        refused = server.connect()
        check_equal((refused.greeting.code, refused.greeting.words[0]), (503, b"BUSY"))
        check_equal(refused.greeting.fields["retriable"], "1")
        check_equal(refused.socket.recv(10), b"")
        refused.close()
        clients.pop().close()
        def free():
            with server.connect() as c:
                return c.greeting.code == 220
        eventually(free)
        for c in clients:
            check_equal(c.ask("PING")[0].code, 200)
            c.close()


@test()
def health_answers_within_10_ms_while_four_jobs_decode():
    with Server() as server, server.connect() as c, server.connect() as watcher:
        for tag in (1, 2, 3, 4):
            c.send(gen_line(PROMPT, tag, max_tokens=490, ignore_eos=1))
        eventually(lambda: watcher.health()["slots_free"] == "0")
        took = []
        while len(took) < 50:
            begin = time.monotonic()
            health = watcher.health()
            if health["slots_free"] != "0":
                break
            took.append(time.monotonic() - begin)
        check_quick(len(took) >= 10, "the jobs were over after", len(took))
        check_quick(median(took) < 0.010, "median", median(took))
        return f"median {median(took) * 1000:.2f} ms, worst {max(took) * 1000:.2f} ms"


@test()
def the_first_token_comes_within_100_ms():
    with Server() as server, server.connect() as c:
        took = []
        for _ in range(15):
            begin = time.monotonic()
            c.start(PROMPT, max_tokens=2, ignore_eos=1)
            took.append(time.monotonic() - begin)
            c.rest(1)
        check_quick(sorted(took)[13] < 0.1, took)


@test()
def a_stale_socket_is_replaced_and_a_live_address_is_refused():
    path = work_path("stale.sock")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
    with Server(listen=[f"unix:{path}"]) as server:
        with server.connect(f"unix:{path}") as c:
            check_equal(c.ask("PING")[0].code, 200)
        second = subprocess.run([options.wick, f"model={options.model}", f"listen={server.tcp}"],
                                capture_output=True, timeout=PATIENCE_S)
        check(second.returncode != 0)
        check(str(server.port) in second.stderr.decode(), second.stderr.decode())
        with server.connect() as c:
            check_equal(c.ask("PING")[0].code, 200)


@test()
def a_session_on_a_tty_ends_with_bye_and_the_next_one_is_fresh():
    with Pty() as pty, Server(listen=[pty.wire]) as server, server.connect() as watcher:
        c = StreamClient(pty.master, pty.master)
        c.start(PROMPT, tag=1, max_tokens=490, ignore_eos=1)
        c.put("some text", 2)
        check_equal(c.ask("BYE")[-1].code, 221)
        eventually(lambda: watcher.health()["slots_free"] == "4")
        check_equal(c.ask("HELLO")[-1].code, 220)
        check_equal(Job(c.ask(gen_line(PROMPT, 1, max_tokens=2), 1)).end.code, 250)
        check_equal(c.ask("RUN 2", 2)[0].code, 422)
        for _ in range(30):
            check_equal(c.ask("nonsense")[0].code, 400)  # a tty is never closed
        check_equal(c.ask("PING")[0].code, 200)


@test()
def a_tty_that_hangs_up_ends_its_jobs_and_costs_no_time():
    pty = Pty()
    with Server(listen=[pty.wire]) as server, server.connect() as watcher:
        os.close(pty.slave)
        c = StreamClient(pty.master, pty.master)
        c.start(PROMPT, max_tokens=490, ignore_eos=1)
        os.close(pty.master)
        eventually(lambda: watcher.health()["slots_free"] == "4")
        check_idle(server, 1.5)
        check_equal(watcher.gen(PROMPT, max_tokens=2, ignore_eos=1).end.code, 250)


@test()
def closed_standard_streams_cost_no_time():
    with Server(listen=["stdio"]) as server, server.connect() as c:  # stdin is /dev/null
        check_idle(server)
        check_equal(c.gen(PROMPT, max_tokens=2, ignore_eos=1).end.code, 250)
    with Server(listen=["stdio"], stdio=True) as server, server.connect() as c:
        server.process.stdout.close()
        server.process.stdin.write(b"PING\nHEALTH\n")
        server.process.stdin.flush()
        check_idle(server)
        check_equal(c.gen(PROMPT, max_tokens=2, ignore_eos=1).end.code, 250)


@test()
def half_closed_and_silent_clients_cost_no_time():
    with Server() as server:
        clients = [server.connect(server.unix if i % 2 else server.tcp) for i in range(20)]
        for c in clients:
            c.put(PROMPT, 3)
            c.write(b"GEN 1")
        for c in clients[:10]:
            c.socket.shutdown(socket.SHUT_WR)
        check_idle(server)
        for c in clients:
            c.close()


@test(40)
def a_flood_of_commands_whose_answers_nobody_reads_is_held_back():
    with Server("log=warn") as server, server.connect() as other:
        flooder = server.connect()
        before = server.rss_kb()
        flooder.socket.settimeout(0.5)
        sent, block = 0, b"PING\n" * 10000
        try:
            while sent < 200 << 20:
                sent += flooder.socket.send(block)
        except TimeoutError:
            pass
        check(sent < 200 << 20, "the flood is swallowed without end")
        check_not_grown(server, before)
        check_equal(other.gen(PROMPT, max_tokens=3, ignore_eos=1).end.code, 250)
        check_idle(server, 0.5)
        flooder.socket.settimeout(10)
        got, left = 0, b""
        while got < sent // 5:
            data = left + flooder.socket.recv(1 << 20)
            check(data != left, "closed after", got, "of", sent // 5)
            got += data.count(b"200 - pong\n")
            left = data[data.rfind(b"\n") + 1:]
        flooder.write(b"PING\n"[sent % 5:] + b"HELLO\n")
        check_equal([flooder.read().code, flooder.read().code], [200, 220])
        flooder.close()
        return f"{sent >> 10} KiB taken before the server stopped reading"


@test()
def a_wire_may_listen_on_ipv6_and_on_any_free_port():
    with Server(listen=["tcp:[::1]:0"]) as server:
        found = re.search(r"listen tcp:\[::1\]:(\d+)", server.log())
        check(found and found[1] != "0", server.log())
        with socket.create_connection(("::1", int(found[1])), timeout=5) as s:
            check_equal(s.recv(100), b"220 - wick proto=1\n")
