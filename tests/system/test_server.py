"""The process: boot, memory, loading, draining, metrics, silence."""

import os
import re
import shutil
import signal
import subprocess
import time

from client import Client, gen_line
from harness import (PATIENCE_S, Server, Skip, check, check_equal, check_idle, check_quick,
                     eventually, free_port, lab, median, need, options, start, test, work_path)
from test_wires import hold_without_reading

PROMPT = "Once upon a time"


def boot(*settings, model=None, seconds=20):
    """Runs wick to its end; returns (exit status, stderr)."""
    argv = [need(options.wick), f"model={model or need(options.model)}",
            f"listen=tcp:127.0.0.1:{free_port()}", *settings]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
    return done.returncode, done.stderr.decode(errors="replace")


@test()
def sigterm_lets_running_jobs_finish_refuses_new_ones_and_ends_with_0():
    with Server() as server, server.connect() as c, server.connect() as d:
        c.start(PROMPT, max_tokens=480, ignore_eos=1)
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: d.health()["status"] == "draining")
        refused = d.gen(PROMPT, max_tokens=2).end
        check_equal((refused.code, refused.words[0]), (505, b"SHUTTING_DOWN"))
        check_equal(refused.fields["retriable"], "1")
        check_equal(c.rest(1)[-1].fields["tokens"], "480")
        check_equal(c.read().line, b"261 - shutdown")
        check_equal(c.socket.recv(10), b"")
        check_equal(server.wait_exit(), 0)


@test()
def shutdown_ends_waiting_and_running_jobs_first():
    with Server("slots=1") as server, server.connect() as c, server.connect() as d:
        c.start(PROMPT, tag=1, max_tokens=200, ignore_eos=1)
        c.send(gen_line(PROMPT, 2, max_tokens=3, ignore_eos=1))
        eventually(lambda: d.health()["queued"] == "1")
        d.send("SHUTDOWN")
        reply = d.read()
        check_equal((reply.code, reply.fields["jobs"]), (161, "2"))
        check_equal(c.rest(1)[-1].fields["tokens"], "200")
        check_equal(c.rest(2)[-1].fields["tokens"], "3")
        check_equal(d.read().line, b"261 - shutdown")
        check_equal(server.wait_exit(), 0)


@test()
def jobs_that_outlast_drain_ms_end_with_an_error_and_the_exit_status_is_0():
    with Server("slots=1", "drain_ms=100") as server, server.connect() as c:
        for tag in (1, 2, 3, 4, 5):
            c.send(gen_line(PROMPT, tag, max_tokens=490, ignore_eos=1))
        c.send("SHUTDOWN")
        ends = [c.rest(tag)[-1].code for tag in (1, 2, 3, 4, 5)]
        check(ends.count(505) >= 1 and set(ends) <= {250, 505}, ends)
        check_equal(server.wait_exit(), 0)


@test()
def a_second_signal_cuts_at_once():
    with Server("slots=1") as server, server.connect() as c:
        for tag in range(1, 9):
            c.send(gen_line(PROMPT, tag, max_tokens=490, ignore_eos=1))
        c.read_for(1)
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.05)
        begin = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        check_equal(server.wait_exit(), 0)
        check_quick(time.monotonic() - begin < 0.5)
        ends = [c.rest(tag)[-1].code for tag in range(1, 9)]
        check(505 in ends, ends)


@test()
def drain_refuses_new_jobs_tells_when_the_last_has_ended_and_keeps_serving_questions():
    with Server() as server, server.connect() as c, server.connect() as d:
        c.start(PROMPT, max_tokens=300, ignore_eos=1)
        d.send("DRAIN")
        check_equal(d.read().fields["jobs"], "1")
        check_equal(d.health()["status"], "draining")
        check_equal(d.gen(PROMPT, tag=4, max_tokens=2).end.code, 505)
        check_equal(d.read_for("-").line, b"260 - drained")
        check_equal(c.rest(1)[-1].fields["tokens"], "300")
        check_equal(d.ask("PING")[0].code, 200)


def big_model():
    """About 150 MB of random weights: long enough to load that it can be watched."""
    path = work_path("big.gguf")
    if not os.path.exists(path):
        lab("make-model", f"out={path}", f"vocab_from={need(options.model)}", "type=Q8_0",
            "dim=1024", "ffn=2816", "layers=12", "heads=16", "kv_heads=8", "ctx_train=512")
    return path


@test(90)
def memory_never_holds_two_copies_of_the_weights():
    model = big_model()
    with Server("ctx=128", "slots=1", model=model) as server:
        peak, now = (1024 * int(server.status(key).split()[0]) for key in ("VmHWM", "VmRSS"))
        check(now > os.path.getsize(model), now, os.path.getsize(model))
        check(peak < now + os.path.getsize(model) / 2, f"peak {peak}, now {now}")


@test(90)
def loading_is_told_in_percent_and_jobs_are_refused_until_ready():
    model = big_model()
    with Server("ctx=128", "slots=1", model=model, ready=False) as server:
        def connected():
            try:
                return server.connect()
            except OSError:
                return None
        found = []
        eventually(lambda: found.append(connected()) or found[-1] is not None, what="connection")
        with found[-1] as c:
            lines, states = [], set()
            c.send(gen_line(PROMPT, 1, max_tokens=2))
            c.send("TOKENIZE \"x\"")
            c.send("HEALTH")
            c.socket.settimeout(60)
            while not any(r.code == 120 for r in lines):
                lines.append(c.read())
            percents = [int(r.fields["percent"]) for r in lines if r.code == 110]
            check_equal(percents, sorted(set(percents)))
            check(set(percents) <= {0, 25, 50, 75, 100} and 100 in percents, percents)
            health = next(r for r in lines if r.code == 201)
            check_equal(health.fields["status"], "loading")
            check(0 <= int(health.fields["percent"]) <= 100)
            refused = [r for r in lines if r.code == 504]
            check_equal(len(refused), 2, lines)
            check_equal((refused[0].words[0], refused[0].fields["retriable"]),
                        (b"NOT_READY", "1"))
            check_equal(c.health()["status"], "ready")
            check_equal(c.gen(PROMPT, max_tokens=2, ignore_eos=1).end.code, 250)
            return f"{os.path.getsize(model) >> 20} MiB, percents seen {percents}"


@test(60)
def a_signal_while_loading_ends_with_0():
    with Server("ctx=128", model=big_model(), ready=False) as server:
        time.sleep(0.1)
        server.process.terminate()
        check_equal(server.wait_exit(), 0)


@test(90)
def a_step_of_many_milliseconds_delays_neither_health_nor_stop():
    with Server("slots=2", model=big_model()) as server:
        with server.connect() as c, server.connect() as watcher:
            waits, stops = [], []
            for staged in (False, True):  # decoding, and reading a long prompt
                for _ in range(3):
                    if not staged:
                        c.start(PROMPT, tag=2, max_tokens=400, ignore_eos=1)
                    else:
                        c.put("Once upon a time there was a king. " * 30, 2)
                        c.send("RUN 2 max_tokens=100 ignore_eos=1")
                        eventually(lambda: watcher.health()["slots_free"] == "1")
                    for _ in range(10):
                        begin = time.monotonic()
                        watcher.health()
                        waits.append(time.monotonic() - begin)
                    begin = time.monotonic()
                    lines, _ = c.stop(2)
                    stops.append(time.monotonic() - begin)
                    check_equal(lines[-1].fields["stop"], "CANCELLED")
                    freed = eventually(lambda: watcher.health()["slots_free"] == "2")
                    check_quick(freed <= 0.1, "the slot was free after", freed)
            check_quick(median(waits) < 0.010, "HEALTH took", median(waits))
            check_quick(median(stops) < 0.1, "STOP took", stops)
            return (f"HEALTH {median(waits) * 1e3:.1f} ms, at most {max(waits) * 1e3:.1f}; "
                    f"STOP {median(stops) * 1e3:.1f} ms, at most {max(stops) * 1e3:.1f}")


@test()
def shutdown_does_not_wait_for_a_client_that_does_not_read():
    with Server("slots=4", "drain_ms=300", "stall_ms=1000") as server, server.connect() as c:
        slow = hold_without_reading(server)
        time.sleep(0.5)
        begin = time.monotonic()
        c.send("SHUTDOWN")
        check_equal(server.wait_exit(), 0)
        slow.close()
        return f"{time.monotonic() - begin:.1f} s"


@test()
def a_log_that_nobody_reads_does_not_stop_the_server():
    read, write = os.pipe()
    port = free_port()
    process = start([need(options.wick), f"model={need(options.model)}", "log=debug",
                     f"listen=tcp:127.0.0.1:{port}"], stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL, stderr=write)
    os.close(write)
    c = connect_when_ready(port)
    for _ in range(2000):  # each leaves two lines in a pipe that holds 64 KiB
        Client(f"tcp:127.0.0.1:{port}").close()
    check_equal(c.gen(PROMPT, max_tokens=3, ignore_eos=1).end.code, 250)
    check_equal(c.ask("SHUTDOWN")[-1].code, 261)
    check_equal(process.wait(timeout=PATIENCE_S), 0)
    os.close(read)


SAMPLE = re.compile(r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{[a-zA-Z_]\w*="(\\.|[^"\\])*"(,[a-zA-Z_]\w*='
                    r'"(\\.|[^"\\])*")*\})? (-?[0-9.e+-]+|\+Inf|NaN)$')


@test()
def metrics_are_prometheus_text_and_count_what_happened():
    with Server("slots=1", "queue=0") as server, server.connect() as c, server.connect() as d:
        c.gen(PROMPT, max_tokens=7, ignore_eos=1)
        c.ask('GEN 1 temperature=7 "x"', 1)
        c.start(PROMPT, max_tokens=480, ignore_eos=1)
        check_equal(d.gen(PROMPT, max_tokens=2).end.code, 503)
        running = d.metrics()
        check_equal(running["requests_processing"], "1")
        c.stop()
        typed, names = {}, set()
        for reply in d.ask("METRICS")[:-1]:
            line = reply.line[6:].decode()
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split()
                typed[name] = kind
            elif not line.startswith("#"):
                check(SAMPLE.match(line), "not a sample:", line)
                names.add(re.split(r"[{ ]", line)[0])
        for name in names:
            base = re.sub(r"_(bucket|sum|count)$", "", name)
            check(name in typed or typed.get(base) == "histogram", "no TYPE for", name)
        metrics = d.metrics()
        for outcome, count in (("completed", 1), ("cancelled", 1), ("refused", 1), ("invalid", 1),
                               ("failed", 0), ("dropped", 0)):
            check_equal(metrics[f'worker_requests_total{{outcome="{outcome}"}}'], str(count),
                        outcome)
        check(int(metrics["worker_tokens_generated_total"]) >= 8)
        check_equal(metrics["worker_tokens_in_total"],
                    str(2 * len(d.ids(PROMPT))))
        check_equal(metrics["worker_inference_duration_ms_count"], "2")
        check_equal(metrics['worker_inference_duration_ms_bucket{le="+Inf"}'], "2")
        check_equal(metrics["requests_processing"], "0")
        check_equal(metrics["worker_connections"], "2")


@test()
def health_and_info_state_the_contracts_facts():
    with Server("slots=3", "queue=5", "ctx=256") as server, server.connect() as c:
        health = c.health()
        for key in ("status model architecture quantisation resident weight_bytes kv_bytes "
                    "arena_bytes vram_bytes tokenizer vocab ctx slots_free slots queued queue "
                    "uptime_s backend isa device proto build").split():
            check(key in health, "HEALTH lacks", key)
        check_equal((health["status"], health["architecture"], health["quantisation"]),
                    ("ready", "llama", "Q8_0"))
        check_equal((health["slots"], health["slots_free"], health["queue"], health["ctx"]),
                    ("3", "3", "5", "256"))
        check_equal((health["vocab"], health["resident"], health["vram_bytes"]),
                    ("2048", "yes", "0"))
        info = {}
        for reply in c.ask("INFO"):
            info.update(reply.fields)
        for key, want in (("layers", "5"), ("dim", "256"), ("ffn", "768"), ("heads", "8"),
                          ("kv_heads", "4"), ("head_dim", "32"), ("ctx_train", "512"),
                          ("bos", "1"), ("eos", "2"), ("line_bytes", "1024"),
                          ("prompt_chars", "32768"), ("max_tokens", "2048")):
            check_equal(info.get(key), want, key)
        check_equal(info["build"], health["build"])


@test()
def what_the_plan_says_is_what_the_process_has():
    with Server("slots=4", "ctx=512") as server, server.connect() as c:
        log = server.log()
        arena = int(c.health()["arena_bytes"])
        check(str(arena) in log, "the plan in the log does not name", arena, log)
        mapped = int(server.status("VmSize").split()[0]) << 10
        binary = os.path.getsize(options.wick)
        check(arena <= mapped < arena + binary + (8 << 20), arena, mapped)
        for i in range(4):
            c.gen(PROMPT, max_tokens=400, ignore_eos=1)
        check(server.rss_kb() << 10 < arena + binary + (2 << 20), server.rss_kb(), arena)
        check_equal(server.status("VmSize"), f"{mapped >> 10} kB")


@test()
def too_little_memory_names_what_is_needed_and_what_would_fit():
    status, log = boot("memory=40M", "slots=64")
    check(status != 0)
    check("INSUFFICIENT_RESOURCES" in log, log)
    line = next(li for li in log.splitlines() if "INSUFFICIENT_RESOURCES" in li)
    check("required" in line and "available" in line and str(40 << 20) in line, line)
    fits = re.search(r"ctx=(\d+)", line), re.search(r"slots=(\d+)", line)
    check(all(fits), "what would fit is not said:", line)
    with Server("memory=40M", *(f.group(0) for f in fits)) as server, server.connect() as c:
        check_equal(c.gen(PROMPT, max_tokens=2, ignore_eos=1).end.code, 250)
    status, log = boot("memory=100K")
    check(status != 0 and "INSUFFICIENT_RESOURCES" in log, log)


@test(40)
def where_packed_weights_do_not_fit_mapped_ones_do_and_say_the_same():
    plan = {words: lab("plan", need(options.model), "backend=cpu", "slots=2", words).decode()
            for words in ("weights=packed", "weights=mapped")}
    packed, mapped = (int(re.search(r"^arena, in all\s+(\d+)", told, re.M)[1])
                      for told in plan.values())
    saved = int(re.search(r"^saved\s+(\d+)", plan["weights=mapped"], re.M)[1])
    check_equal(saved, packed - mapped)
    check(saved > 4000000, "saves only", saved)
    middle = f"memory={(packed + mapped) // 2}"
    with Server("backend=cpu", "slots=2") as server, server.connect() as c:
        want = c.gen(PROMPT, max_tokens=60, seed=5).text
    status, log = boot("backend=cpu", "slots=2", middle)
    check_equal(status, 1, log)
    check("weights=mapped ctx=512 slots=2 would fit" in log, log)
    with Server("backend=cpu", "slots=2", middle, "weights=mapped") as server:
        with server.connect() as c:
            check_equal(c.gen(PROMPT, max_tokens=60, seed=5).text, want)
            check_equal(int(c.health()["arena_bytes"]), mapped)
        with open(f"/proc/{server.pid}/maps") as f:
            check(os.path.basename(options.model) in f.read(), "the file is not mapped any more")
    status, log = boot("backend=cuda", "weights=mapped")
    check("weights=mapped is of the CPU" in log and status == 2, status, log)


@test()
def a_mapped_file_that_is_cut_while_serving_ends_wick_which_names_the_offset():
    path = work_path("cut.gguf")
    shutil.copy(need(options.model), path)
    server = Server("backend=cpu", "weights=mapped", model=path)
    with server.connect() as c:
        c.gen(PROMPT, max_tokens=5, ignore_eos=1)
        half = os.path.getsize(path) // 2 & ~4095
        os.truncate(path, half)
        c.send(f'GEN 9 max_tokens=5 "{PROMPT}"')
        check_equal(server.wait_exit(), 1)
    offset = re.search(rf"error disk {re.escape(path)}: no data at offset (\d+) ", server.log())
    check(offset and int(offset[1]) >= half, server.log()[-500:])
    server.log_file.close()


@test()
def a_bad_model_file_is_refused_naming_file_and_reason():
    with open(need(options.model), "rb") as f:
        good = f.read()
    cases = {
        "absent": None,
        "empty": b"",
        "magic": b"GGUX" + good[4:],
        "version": good[:4] + b"\x09\0\0\0" + good[8:],
        "header-only": good[:24],
        "cut-in-metadata": good[:5000],
        "cut-in-tensors": good[:-100000],
        "many-tensors": good[:8] + b"\xff" * 8 + good[16:],
        "text": b"this is no model\n" * 1000,
    }
    for name, data in cases.items():
        path = work_path(f"{name}.gguf")
        if data is not None:
            with open(path, "wb") as f:
                f.write(data)
        status, log = boot(model=path)
        check(status == 1, name, status, log)
        check("MODEL_LOAD_FAILED" in log and path in log, name, log)
        if name.startswith("cut") or name in ("version", "many-tensors"):
            check(re.search(r"(offset|byte|at) \d+|\d+ bytes", log), name, "names no offset", log)
    status, log = boot(model="/tmp")
    check(status == 1 and "/tmp" in log, log)


@test()
def a_bad_setting_is_refused_naming_it():
    for setting, words in (("slots=0", ["slots", "1"]), ("slots=x", ["slots"]),
                           ("slotz=3", ["slotz", "slots"]), ("ctx=99999999", ["ctx"]),
                           ("listen=carrier:pigeon", ["carrier"]), ("backend=cuda", ["cuda"]),
                           ("isa=mmx", ["isa"]), ("cpus=0,", ["cpus", "character 3", "0-3,8"]),
                           ("cpus=1023", ["cpus", "1023"]), ("kv=q3", ["kv"]),
                           ("listen=tcp:127.0.0.1:99999", ["99999"]),
                           ("listen=tty:/dev/nosuchtty", ["/dev/nosuchtty"])):
        status, log = boot(setting)
        check(status not in (0, -6, -11), setting, status, log)
        check(all(w in log for w in words), setting, log)


def allowed_processors(pid):
    """{thread: processors it may run on}, from the kernel."""
    found = {}
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/status") as f:
            found[int(task)] = re.search(r"^Cpus_allowed_list:\s*(\S+)", f.read(), re.M)[1]
    return found


@test()
def each_thread_stays_on_its_processor_of_cpus():
    mine = os.sched_getaffinity(0)
    if len(mine) < 2:
        raise Skip("this machine lends one processor only")
    low, high = sorted(mine)[:2]
    texts = []
    for settings, shown, first, rest in (
            ((f"cpus={high},{low}",), f"{high},{low}", high, [low]),
            ((f"cpus={high}",), f"{high}", high, []),
            ((f"cpus={high},{low}", "threads=1"), f"{high}", high, [])):
        with Server("backend=cpu", *settings) as server, server.connect() as c:
            where = allowed_processors(server.pid)
            check_equal(where.pop(server.pid), str(first), settings)
            check_equal(sorted(where.values()), [str(cpu) for cpu in rest], settings)
            facts = {}
            for reply in c.ask("INFO"):
                facts.update(reply.fields)
            threads = 1 + len(rest)
            plural = "s" if rest else ""
            check(facts["device"].endswith(f", {threads} thread{plural} on processor{plural} {shown}"),
                  facts["device"])
            check(f"threads={threads} on processors {shown}" in server.log(), server.log())
            texts.append(c.gen(PROMPT, max_tokens=40, seed=3).text)
    check_equal(len(set(texts)), 1, texts)
    try:
        os.sched_setaffinity(0, {low})
        status, log = boot("backend=cpu", f"cpus={low},{high}")
        check_equal(status, 2, log)
        check(f"cpus=: processor {high} is not there" in log and f"mask has {low}" in log, log)
    finally:
        os.sched_setaffinity(0, mine)


@test(60)
def after_ready_no_call_that_allocates_or_opens_is_made():
    if not shutil.which("strace"):
        raise Skip("strace is not installed")
    trace = work_path("trace")
    with Server(prefix=["strace", "-f", "-qq", "-s", "60", "-o", trace]) as server:
        with server.connect() as c, server.connect(server.unix) as d:
            for i in range(3):
                c.gen(PROMPT, max_tokens=30)
                c.put(PROMPT * 60, 2)
                d.ids(PROMPT * 10)
                d.ask("HEALTH"), d.ask("INFO"), d.ask("METRICS"), d.ask("nonsense")
                d.ask('SCORE 3 "Once upon a time"', 3)
            c.start(PROMPT, max_tokens=400)
            c.stop()
        check_equal(server.connect().ask("SHUTDOWN")[-1].code, 261)
        server.process.wait(timeout=PATIENCE_S)
    with open(trace, errors="replace") as f:
        lines = f.read().splitlines()
    begin = next((i for i, li in enumerate(lines) if re.search(r"write\(2.*\bready\b", li)), None)
    check(begin is not None, "no READY in the trace", lines[-5:])
    served = [re.sub(r"^\d+\s+", "", li) for li in lines[begin + 1:]]
    calls = [m.group(1) for m in (re.match(r"(\w+)\(", li) for li in served) if m]
    check(len(calls) > 50, "traced only", len(calls))
    banned = {"mmap", "brk", "mremap", "munmap", "clone", "clone3", "fork", "vfork", "open",
              "openat", "execve", "madvise", "mprotect"}
    made = sorted(set(calls) & banned)
    check(not made, "made", made, [li for li in served if li.startswith(tuple(made))][:3])
    return f"{len(calls)} calls after READY: {', '.join(sorted(set(calls)))}"


@test()
def a_call_that_allocates_would_be_fatal_after_ready():
    with Server() as server:
        eventually(lambda: server.status("Seccomp") == "2", what="the sandbox")
        check_equal(server.status("NoNewPrivs"), "1")


@test()
def an_idle_server_sleeps():
    with Server() as server, server.connect() as c:
        c.gen(PROMPT, max_tokens=20)
        time.sleep(0.3)
        check_idle(server)
        switches = server.voluntary_switches()
        time.sleep(2)
        check(server.voluntary_switches() - switches <= 20, "wakes up",
              server.voluntary_switches() - switches)
        return f"{server.voluntary_switches() - switches} wake-ups in 2 s"


@test()
def the_log_never_appears_on_a_protocol_wire():
    argv = [need(options.wick), f"model={need(options.model)}", "listen=stdio", "log=debug"]
    done = subprocess.run(argv, input=b'HEALTH\nGEN 1 max_tokens=5 "x"\nnonsense\n',
                          capture_output=True, timeout=PATIENCE_S)
    check_equal(done.returncode, 0)
    for line in done.stdout.splitlines():
        check(re.match(rb"[1-5]\d\d[ -](-|\d+)( |$)", line), line)
    check(done.stderr, "no log at all")


def connect_when_ready(port):
    found = []

    def ready():
        try:
            found.append(Client(f"tcp:127.0.0.1:{port}"))
        except OSError:
            return False
        return found[-1].health()["status"] == "ready"

    eventually(ready, what="ready")
    return found[-1]


@test()
def a_closed_log_does_not_end_the_server():
    read, write = os.pipe()
    port = free_port()
    argv = [need(options.wick), f"model={need(options.model)}", f"listen=tcp:127.0.0.1:{port}",
            "log=debug"]
    process = start(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=write)
    os.close(write)
    os.read(read, 100)
    os.close(read)
    c = connect_when_ready(port)
    check_equal(c.gen(PROMPT, max_tokens=3, ignore_eos=1).end.code, 250)
    c.ask("SHUTDOWN")
    check_equal(process.wait(timeout=PATIENCE_S), 0)
