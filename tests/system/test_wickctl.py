"""wickctl: what scripts and people rely on."""

import json
import os
import signal
import socket
import subprocess
import threading
import time

from harness import (PATIENCE_S, Server, check, check_equal, check_quick, eventually, free_port,
                     need, options, start, test, wickctl, work_path)
from test_wires import Pty

PROMPT = "Once upon a time"


@test()
def gen_prints_the_text_alone_on_stdout_and_a_summary_on_stderr():
    with Server() as server:
        with server.connect() as c:
            want = c.gen(PROMPT, temperature=0, max_tokens=30).text
        for words in (["max_tokens=30", "temperature=0", PROMPT],
                      ["--max-tokens", "30", "--temperature=0", *PROMPT.split()],
                      [PROMPT, "max_tokens=30", "temperature=0"]):
            status, out, err = wickctl(server, "gen", *words)
            check_equal((status, out), (0, want))
            check("30 tokens" in err and "MAX_TOKENS" in err and "seed" in err, err)
        status, out, err = wickctl(server, "-q", "gen", "max_tokens=30", "temperature=0", PROMPT)
        check_equal((status, out, err), (0, want, ""))
        status, out, err = wickctl(server.unix, "gen", "-q", "max_tokens=30", "temperature=0", "-",
                                   stdin=PROMPT.encode() + b"\n")
        check_equal((status, out, err), (0, want, ""))


@test()
def gen_streams_while_the_server_generates():
    with Server() as server:
        process = start([need(options.wickctl), "-c", server.tcp, "gen", "-q", "ignore_eos=1",
                         "max_tokens=480", PROMPT], stdout=subprocess.PIPE,
                        stdin=subprocess.DEVNULL)
        check(os.read(process.stdout.fileno(), 65536))
        check(process.poll() is None, "the first text came at the end")
        process.stdout.read()
        check_equal(process.wait(), 0)


@test()
def gen_sends_any_prompt_whole():
    with Server("slots=1") as server, server.connect() as c:
        for prompt in ("quotes \" and \\ and\nlines\tand x=1", "caf\u00e9 \u4e2d\u6587 " * 40,
                       PROMPT * 50, ("the king and " * 90)[:1010]):
            c.put(prompt, 1)
            ids = sum(len(r.fields["ids"].split(",")) for r in c.ask("TOKENIZE 1", 1))
            status, out, err = wickctl(server, "--json", "gen", "max_tokens=1",
                                       stdin=prompt.encode())
            check_equal(status, 0, err)
            check_equal(json.loads(out.splitlines()[0])["prompt_tokens"], ids)
        status, _, err = wickctl(server, "gen", "max_tokens=1", stdin=b"z" * 33000)
        check_equal(status, 3)
        check("32768" in err, err)
        check_equal(wickctl(server, "gen", stdin=b"z" * 200000)[0], 1)
        check_equal(c.health()["slots_free"], "1")


@test()
def gen_json_is_one_object_an_event():
    with Server() as server, server.connect() as c:
        want = c.gen(PROMPT, seed=9, max_tokens=10, logprobs=3)
        status, out, err = wickctl(server, "--json", "gen", "max_tokens=10", "seed=9", "logprobs=3",
                                   PROMPT)
        check_equal(status, 0)
        events = [json.loads(line) for line in out.splitlines()]
        kinds = [e["event"] for e in events]
        check_equal(kinds, ["started"] + ["token"] * (len(kinds) - 2) + ["end"])
        check_equal(events[0]["seed"], "9")
        check_equal([e["index"] for e in events[1:-1]], list(range(len(kinds) - 2)))
        check_equal("".join(e["text"] for e in events[1:-1]), want.text)
        check_equal((events[-1]["tokens"], events[-1]["stop"]), (10, want.stop))
        status, out, err = wickctl(server, "--json", "gen", "temperature=7", "top_p=3", "x")
        check_equal(status, 3)
        error = json.loads(out)
        check_equal((error["event"], error["code"], error["error"], error["retriable"],
                     error["temperature"]), ("error", 422, "INVALID_REQUEST", False, "0..2"))


@test()
def the_exit_status_tells_what_went_wrong():
    nowhere = f"tcp:127.0.0.1:{free_port()}"
    status, out, err = wickctl(nowhere, "health")
    check_equal((status, out), (2, ""))
    for word in (nowhere, "refused", "wick"):
        check(word in err, err)
    for address in ("pigeon:1", "tcp:127.0.0.1", "unix:/nonexistent/s", "tty:/dev/null"):
        status, _, err = wickctl(address, "ping")
        check(status == 2 and address in err, address, status, err)
    for words in ([], ["nosuch"], ["gen", "--max-tokens"], ["health", "x"], ["--nosuch"],
                  ["ping", "--x", "1"]):
        status, _, err = wickctl(nowhere, *words)
        check(status == 1 and "--help" in err or "no value" in err, words, status, err)
    with Server("slots=1", "queue=0") as server, server.connect() as c:
        status, _, err = wickctl(server, "gen", "temperature=9", "speed=1", "x")
        check_equal(status, 3)
        check("temperature" in err and "0..2" in err and "speed" in err, err)
        c.start(PROMPT, max_tokens=490, ignore_eos=1)
        status, _, err = wickctl(server, "gen", "x")
        check(status == 4 and "BUSY" in err, status, err)
        c.stop()
        process = start([need(options.wickctl), "-c", server.tcp, "gen", "max_tokens=490",
                         "ignore_eos=1", "x"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE)
        process.stdout.read(1)
        server.process.kill()
        _, err = process.communicate(timeout=PATIENCE_S)
        check_equal(process.returncode, 5)
        check(b"lost" in err, err)


@test()
def something_that_is_no_wick_is_told_apart():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = "tcp:127.0.0.1:%d" % listener.getsockname()[1]

        def serve():
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                time.sleep(0.2)

        threading.Thread(target=serve, daemon=True).start()
        status, _, err = wickctl(address, "health")
        check(status == 2 and "SSH-2.0" in err, status, err)


@test()
def ctrl_c_stops_the_job_and_leaves_with_130():
    with Server("slots=1", "queue=0") as server, server.connect() as c:
        process = start([need(options.wickctl), "-c", server.tcp, "gen", "max_tokens=490",
                         "ignore_eos=1", PROMPT], stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
        check_equal(process.returncode, 130)
        check(b"CANCELLED" in err, err)
        eventually(lambda: c.health()["slots_free"] == "1")
        check_equal(c.metrics()['worker_requests_total{outcome="cancelled"}'], "1")


@test()
def a_second_ctrl_c_leaves_at_once():
    """Against a server that never answers STOP."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = "tcp:127.0.0.1:%d" % listener.getsockname()[1]
        process = start([need(options.wickctl), "-c", address, "gen", "x"],
                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        peer, _ = listener.accept()
        with peer:
            peer.sendall(b"220 - wick proto=1\n")
            lines = peer.makefile("rb")
            check(lines.readline().startswith(b"GEN 1 "))
            peer.sendall(b'150 1 started model="m" seed=1 prompt_tokens=1 slot=0\n151 1 0 "a"\n')
            process.stdout.read(1)
            process.send_signal(signal.SIGINT)
            check_equal(lines.readline(), b"STOP 1\n")
            check(process.poll() is None, "left before the job's end")
            begin = time.monotonic()
            process.send_signal(signal.SIGINT)
            check_equal(process.wait(timeout=PATIENCE_S), 130)
            check_quick(time.monotonic() - begin <= 5)


@test()
def health_info_and_metrics_print_tables_or_json():
    with Server("slots=3") as server:
        status, out, _ = wickctl(server, "health")
        check_equal(status, 0)
        table = dict(line.split(None, 1) for line in out.splitlines())
        check_equal((table["status"], table["slots"]), ("ready", "3"))
        check_equal(len({len(li) - len(li.split(None, 1)[1]) for li in out.splitlines()}), 1,
                    "columns")
        health = json.loads(wickctl(server, "health", "--json")[1])
        check_equal((health["status"], health["slots"], health["resident"]), ("ready", 3, True))
        info = json.loads(wickctl(server, "--json", "info")[1])
        check_equal((info["layers"], len(info["listen"])), (5, 2))
        status, out, _ = wickctl(server, "metrics")
        check(status == 0 and "worker_requests_total{" in out and "203" not in out.split("\n")[0])
        check_equal(wickctl(server, "ping")[0], 0)
        with server.connect() as c:
            c.start(PROMPT, max_tokens=480, ignore_eos=1)
            c.send("DRAIN")
            eventually(lambda: c.health()["status"] == "draining")
            status, out, err = wickctl(server, "health")
            check(status == 4 and "draining" in out and "draining" in err, status, out, err)


@test()
def tokenize_detokenize_and_score_go_through_pipes():
    text = "Once upon a time, \u00e9\n\"x\"" + PROMPT * 80
    with Server() as server:
        status, ids, _ = wickctl(server, "tokenize", "bos=0", stdin=text.encode())
        check(status == 0 and len(ids.split()) > 300, status, ids[:80])
        check_equal(wickctl(server, "detokenize", stdin=ids.encode())[:2], (0, text))
        out = wickctl(server, "--json", "tokenize", "bos=0", "-", stdin=text.encode())[1]
        check_equal(json.loads(out)["ids"], [int(i) for i in ids.split()])
        status, out, _ = wickctl(server, "score", PROMPT)
        check(status == 0 and "perplexity" in out, out)
        out = wickctl(server, "--json", "score", PROMPT)[1]
        events = [json.loads(line) for line in out.splitlines()]
        total = sum(e["logprob"] for e in events if e["event"] == "score")
        check(abs(total - events[-1]["logprob_sum"]) < 0.01, events)
        status, _, err = wickctl(server, "detokenize", "99999999")
        check(status == 3 and "ids" in err, err)


@test()
def raw_is_a_pipe_of_lines():
    with Server() as server:
        commands = b'PING\nGEN 3 temperature=0 max_tokens=2 "x"\n'
        status, out, _ = wickctl(server, "raw", stdin=commands)
        check_equal(status, 0)
        lines = out.splitlines()
        check_equal(lines[:2], ["220 - wick proto=1", "200 - pong"])
        check(lines[-1].startswith("250 3 end"), lines)


@test()
def drain_and_shutdown_wait_for_their_end():
    with Server() as server:
        check_equal(wickctl(server, "drain")[:2], (0, "drained\n"))
        check_equal(wickctl(server, "shutdown")[0], 0)
        check_equal(server.wait_exit(), 0)


@test()
def the_address_comes_from_the_environment_too():
    with Server() as server:
        done = subprocess.run([options.wickctl, "ping"], capture_output=True, timeout=PATIENCE_S,
                              env={**os.environ, "WICK_CONNECT": server.unix})
        check_equal(done.returncode, 0)
        check(server.unix.encode() in done.stdout, done.stdout)


class Cable:
    """Two pseudo-terminals whose masters are joined: a serial cable."""

    def __enter__(self):
        self.ends = [Pty(), Pty()]
        threading.Thread(target=self.copy, daemon=True).start()
        return self

    def copy(self):
        import select

        a, b = (end.master for end in self.ends)
        try:
            while True:
                for fd in select.select([a, b], [], [])[0]:
                    os.write(b if fd == a else a, os.read(fd, 4096))
        except (OSError, ValueError):
            pass

    def __exit__(self, *_):
        for end in self.ends:
            os.close(end.slave)


@test(40)
def everything_works_over_a_serial_cable():
    with Cable() as cable, Server(listen=[cable.ends[0].wire]) as server:
        tty = cable.ends[1].wire
        check_equal(wickctl(tty, "health")[0], 0)
        for _ in range(3):
            want = wickctl(server, "gen", "-q", "temperature=0", "max_tokens=30", PROMPT)[1]
            check_equal(wickctl(tty, "gen", "-q", "temperature=0", "max_tokens=30", PROMPT)[:2],
                        (0, want))
        prompt = (PROMPT + ", ") * 60
        check_equal(wickctl(tty, "gen", "-q", "temperature=0", "max_tokens=5",
                            stdin=prompt.encode())[0], 0)
        process = start([options.wickctl, "-c", tty, "gen", "max_tokens=490", "ignore_eos=1",
                         PROMPT], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                        stderr=subprocess.DEVNULL)
        process.stdout.read(1)
        process.kill()  # no BYE: the next session must cope
        process.wait()
        check_equal(wickctl(tty, "ping")[0], 0)
        with server.connect() as c:
            eventually(lambda: c.health()["slots_free"] == "4")


@test()
def a_silent_tty_is_told_after_some_seconds():
    with Pty() as pty:
        begin = time.monotonic()
        status, _, err = wickctl(pty.wire, "ping")
        check(status == 2 and "no answer" in err and "baud" in err, status, err)
        check_quick(time.monotonic() - begin < 14)


@test()
def repl_continues_each_line_of_stdin_and_tells_a_tale_when_there_is_none():
    with Server() as server:
        how = ["repl", "temperature=0", "max_tokens=10", "-q"]
        status, out, err = wickctl(server, *how)
        check_equal(status, 0, err)
        check(out.startswith("Once upon a time") and len(out) > 30, out)
        status, two, _ = wickctl(server, *how, stdin=b"Once upon a time\nThe fox said")
        check_equal(status, 0)
        check(two.startswith(out.rstrip("\n")) and "The fox said" in two, two)
        commands = b"/set max_tokens=3\n/params\n/quit\n"
        status, text, _ = wickctl(server, "repl", "-q", stdin=commands)
        check("max_tokens=3\n" in text and "temperature=0.8\n" in text, text)
        check("\033" not in out + two + text, "colours without a terminal")


@test(30)
def repl_on_a_terminal_talks_stops_at_ctrl_c_and_quits_at_ctrl_d():
    with Server("slots=1") as server, server.connect() as c:
        master, slave = os.openpty()
        process = start([options.wickctl, "-c", server.tcp, "repl", "ignore_eos=1"],
                        stdin=slave, stdout=slave, stderr=slave,
                        env={**os.environ, "TERM": "xterm", "NO_COLOR": "1"},
                        preexec_fn=lambda: (os.setsid(), __import__("fcntl").ioctl(0, 0x540E, 0)))
        os.close(slave)
        seen = bytearray()

        def until(word, seconds=PATIENCE_S):
            import select
            end = time.monotonic() + seconds
            while word not in seen:
                check(time.monotonic() < end, "no", word, "in", bytes(seen))
                if select.select([master], [], [], 0.2)[0]:
                    seen.extend(os.read(master, 4096))
            del seen[:seen.index(word) + len(word)]

        until(b"> ")
        os.write(master, b"/set max_tokens=5\n")
        until(b"> ")
        os.write(master, b"Once upon a time\n")
        until(b"[5 tokens, MAX_TOKENS")
        until(b"> ")
        os.write(master, b"/set max_tokens=490\n")
        until(b"> ")
        os.write(master, b"Once upon a time\n")
        eventually(lambda: c.health()["slots_free"] == "0")
        os.write(master, b"\x03")
        until(b"CANCELLED")
        until(b"> ")
        check_equal(c.health()["slots_free"], "1")
        check(b"\033" not in seen, "NO_COLOR is not honoured")
        os.write(master, b"\x04")
        check_equal(process.wait(timeout=PATIENCE_S), 0)
        os.close(master)


@test(30)
def repl_waits_for_the_server_to_come_up():
    port = free_port()
    process = start([options.wickctl, "-c", f"tcp:127.0.0.1:{port}", "repl", "max_tokens=3", "-q"],
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(0.5)
    check(process.poll() is None, "did not wait")
    start([need(options.wick), f"model={options.model}", f"listen=tcp:127.0.0.1:{port}"],
          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    out, err = process.communicate(timeout=PATIENCE_S)
    check_equal(process.returncode, 0, err)
    check(out.startswith(b"Once upon a time"), out)


@test()
def help_names_every_command_and_exit_status():
    done = subprocess.run([need(options.wickctl), "--help"], capture_output=True,
                          timeout=PATIENCE_S)
    check_equal(done.returncode, 0)
    for word in ("gen repl health info metrics tokenize detokenize score drain shutdown ping raw "
                 "--json --quiet --connect 130").split():
        check(word in done.stdout.decode(), word)
