"""What the system tests stand on: a registry of tests, and the programs under test as fixtures."""

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))

# Limits only end what hangs: on a machine that is busy with something else, a minute may pass
# before what takes a moment is done. What is said of a time is said by check_quick().
PATIENCE_S = 60
LIMIT_S = 300  # a whole test may take so much longer than it should
PAUSES_S = (1, 5, 15, 30)  # before a test is run again that was slow only

REFERENCE = os.path.join(ROOT, "tests", "reference", "data", "tales-4m-Q8_0", "prompt0")
BUILD = os.path.join(ROOT, os.environ.get("BUILD", "build"))


class options:
    """Set by run.py before any test runs."""

    wick = os.path.join(BUILD, "wick")
    wickctl = os.path.join(BUILD, "wickctl")
    lab = os.path.join(BUILD, "wick-lab")
    model = os.path.join(ROOT, "images", "tales-4m-Q8_0.gguf")
    soak_seconds = 60
    soak_seed = None
    threads = 0


TESTS = []
SLOW = []  # those that `make check` leaves to `make check-slow`


def test(seconds=20, slow=False):
    """Registers a function as a test that should be over in `seconds` (or in what that returns)."""

    def register(function):
        TESTS.append((function, seconds))
        if slow:
            SLOW.append(function)
        return function

    return register


class Skip(Exception):
    """Raised with the reason why a test cannot run here."""


def check(condition, *what):
    """assert that stays on under -O and says what it saw."""
    if not condition:
        raise AssertionError(" ".join(str(w) for w in what) or "check failed")


class TooSlow(AssertionError):
    """What took too long may have been other work of this machine: the test is run again later."""


def check_quick(condition, *what):
    """check() of a time."""
    if not condition:
        raise TooSlow(" ".join(str(w) for w in what))


def check_equal(got, want, what=""):
    if got != want:
        prefix = f"{what}: " if what else ""
        raise AssertionError(f"{prefix}got {got!r}, want {want!r}")


_work = None


def work_dir():
    """A directory that is gone when the tests are over."""
    global _work
    if _work is None:
        _work = tempfile.mkdtemp(prefix="wick-system-")
        atexit.register(shutil.rmtree, _work, ignore_errors=True)
    return _work


def work_path(name):
    return os.path.join(work_dir(), name)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


_running = []


def end_all():
    """Ends what a test left running."""
    while _running:
        process = _running.pop()
        if process.poll() is None:
            process.kill()
            process.wait()


def start(argv, **how):
    process = subprocess.Popen(argv, **how)
    _running.append(process)
    return process


def need(path, make="run `make` first"):
    if not os.path.exists(path):
        raise Skip(f"{path} is absent: {make}")
    return path


class Server:
    """One running wick. `listen` names further wires; tcp and unix are always there."""

    count = 0

    def __init__(self, *settings, model=None, ready=True, prefix=(), listen=(), stdio=False,
                 client=None):
        from client import Client

        self.client_class = client or Client
        Server.count += 1
        self.port = free_port()
        self.tcp = f"tcp:127.0.0.1:{self.port}"
        self.unix = f"unix:{work_path(f'wick-{Server.count}.sock')}"
        self.log_path = work_path(f"wick-{Server.count}.log")
        self.argv = [*prefix, need(options.wick), f"model={model or need(options.model)}",
                     f"listen={self.tcp}", f"listen={self.unix}",
                     *(f"listen={wire}" for wire in listen), *settings]
        if options.threads and not any(s.startswith("threads=") for s in settings):
            self.argv.append(f"threads={options.threads}")
        pipe = subprocess.PIPE if stdio else subprocess.DEVNULL
        self.log_file = open(self.log_path, "wb")
        self.process = start(self.argv, stdin=pipe, stdout=pipe, stderr=self.log_file)
        self.pid = self.process.pid
        if ready:
            self.wait_ready()

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def wait_ready(self, seconds=PATIENCE_S):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                with self.connect() as c:
                    if c.health().get("status") in ("ready", "busy"):
                        return self
            except (OSError, EOFError):  # not yet; or a worker that just ends to start anew
                pass
            time.sleep(0.02)
        raise AssertionError(f"wick is not ready after {seconds} s (exit {self.process.poll()}): "
                             f"{self.log()[-2000:]}")

    def connect(self, address=None):
        return self.client_class(address or self.tcp)

    def wait_exit(self, seconds=PATIENCE_S):
        return self.process.wait(timeout=seconds)

    def traced(self):
        """wick behind strace: that would leave it running when it is ended itself."""
        if os.path.basename(self.argv[0]) != "strace":
            return None
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as f:
            return next((int(child) for child in f.read().split()), None)

    def stop(self):
        if self.process.poll() is None:
            os.kill(self.traced() or self.pid, signal.SIGTERM)
            try:
                self.process.wait(timeout=PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log_file.close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()
        if exc[0] is not None:
            tail = self.log()[-1500:]
            print(f"    log of {' '.join(self.argv[1:])}:\n"
                  + "".join(f"    | {line}\n" for line in tail.splitlines()), file=sys.stderr)
        elif self.process.returncode not in (0, -signal.SIGKILL):
            raise AssertionError(f"wick ended with {self.process.returncode}: {self.log()[-1500:]}")

    # What the kernel says about the process.

    def status(self, key):
        with open(f"/proc/{self.pid}/status") as f:
            return re.search(rf"^{key}:\s*(.*)$", f.read(), re.M).group(1)

    def rss_kb(self):
        return int(self.status("VmRSS").split()[0])

    def cpu_ticks(self):
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/stat") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total

    def voluntary_switches(self):
        total = 0
        for task in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{task}/status") as f:
                total += int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", f.read(), re.M)[1])
        return total

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def open_files(self):
        """What its descriptors stand for. One that is closed meanwhile, of a client that has just
        left, is none."""
        found = []
        for fd in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{self.pid}/fd/{fd}"))
            except FileNotFoundError:
                pass
        return sorted(found)


def eventually(condition, seconds=PATIENCE_S, what="condition"):
    """Polls until condition() is true; returns the seconds it took."""
    begin = time.monotonic()
    while True:
        if condition():
            return time.monotonic() - begin
        if time.monotonic() - begin > seconds:
            raise AssertionError(f"{what} not true after {seconds} s")
        time.sleep(0.002)


def check_idle(server, seconds=1.0, ticks=2):
    """Some stretch of time passes in which the process does next to nothing. (The clock charges a
    whole tick to whom it finds, on a busy machine to some who have hardly run.)"""
    used = []
    while len(used) < 10 and (not used or used[-1] > ticks):
        before = server.cpu_ticks()
        time.sleep(seconds)
        used.append(server.cpu_ticks() - before)
    check(used[-1] <= ticks, f"a busy loop: ticks in each {seconds} s:", used)


def wickctl(server, *words, stdin=None, seconds=PATIENCE_S, env=None):
    """Runs wickctl to its end; returns (exit status, stdout, stderr)."""
    address = server if isinstance(server, str) else server.tcp
    done = subprocess.run([need(options.wickctl), "-c", address, *words], timeout=seconds,
                          input=stdin if stdin is not None else b"", capture_output=True,
                          env={**os.environ, **(env or {})})
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def greedy_reference():
    """(prompt, continuation) that the file's weights give when evaluated exactly."""
    folder = need(REFERENCE, "it belongs to the source tree")
    with open(os.path.join(folder, "prompt.txt")) as f:
        prompt = f.read()
    with open(os.path.join(folder, "greedy.txt")) as f:
        return prompt, f.read()


def lab(*words, stdin=b""):
    """Runs wick-lab; returns its stdout."""
    done = subprocess.run([need(options.lab), *words], input=stdin, capture_output=True,
                          timeout=PATIENCE_S)
    check(done.returncode == 0, "wick-lab", *words, done.stderr.decode())
    return done.stdout


def median(values):
    return sorted(values)[len(values) // 2]


class TimeOut(BaseException):
    """Not an Exception: no `except Exception` of a test may swallow it."""


def on_alarm(_signal, _frame):
    raise TimeOut()


def lost(seconds=1.0):
    """The share of the time that a busy loop was not let run: gaps of a millisecond and more."""
    begin = last = time.monotonic()
    gaps = 0.0
    while last < begin + seconds:
        now = time.monotonic()
        if now - last > 0.001:
            gaps += now - last
        last = now
    return gaps / (last - begin)


def run_one(function, seconds):
    """Returns (outcome, what to say about it)."""
    for pause in (*PAUSES_S, None):
        outcome, note, slow = run_once(function, LIMIT_S + seconds)
        share = lost() if slow and pause is None else 0
        if share > 0.2:  # nobody can tell times here
            return "skip", (f"this machine keeps a busy loop waiting for {100 * share:.0f} % of the "
                            f"time: {note.strip().splitlines()[-1]}")
        if not slow or pause is None:
            return outcome, note
        print(f"again in {pause} s: {function.__name__}: {note.strip().splitlines()[-1]}",
              flush=True)
        time.sleep(pause)


def run_once(function, seconds):
    """Returns (outcome, what to say about it, whether it was slow only)."""
    signal.signal(signal.SIGALRM, on_alarm)
    signal.alarm(seconds)
    try:
        note = function()
        return "ok", note or "", False
    except Skip as skip:
        return "skip", str(skip), False
    except TimeOut:
        return "FAIL", f"still running after {seconds} s\n{traceback.format_exc()}", False
    except Exception as error:
        return "FAIL", "\n" + traceback.format_exc(), isinstance(error, TooSlow)
    finally:
        signal.alarm(0)
        end_all()


def forget_the_person():
    """Programs under test neither read nor write what the person at this machine has set up."""
    for name in ("WICK_CONNECT", "WICK_PROFILE", "WICK_KEY", "WICK_KEY_FILE", "NO_COLOR"):
        os.environ.pop(name, None)
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        os.environ[name] = work_path("home")


def run(chosen):
    """Runs (function, seconds) one after the other, a line each; returns the exit status."""
    forget_the_person()
    count = {"ok": 0, "FAIL": 0, "skip": 0}
    begin = time.monotonic()
    for function, seconds in chosen:
        seconds = seconds() if callable(seconds) else seconds
        start_s = time.monotonic()
        outcome, note = run_one(function, seconds)
        count[outcome] += 1
        took = time.monotonic() - start_s
        print(f"{outcome:4} {function.__name__} ({took:.2f} s){': ' + note if note else ''}",
              flush=True)
    print(f"{time.monotonic() - begin:.1f} s in all")
    print(f"{count['ok']} passed, {count['FAIL']} failed, {count['skip']} skipped")
    return 1 if count["FAIL"] else 0
