"""What the process may do once it serves: no privilege, no files, and few calls, of every thread."""

import contextlib
import os
import signal

from harness import Server, Skip, check, check_equal, eventually, test
from tracer import Tracer

PROMPT = "Once upon a time"


def statuses(server):
    """Of each thread, what /proc says of it."""
    found = {}
    for task in sorted(os.listdir(f"/proc/{server.pid}/task"), key=int):
        with open(f"/proc/{server.pid}/task/{task}/status") as f:
            found[int(task)] = dict(line.split(":\t", 1) for line in f.read().splitlines()
                                    if ":\t" in line)
    return found


def confined(server):
    """Waits until every thread is in its sandbox, which the main one enters after it says READY."""
    eventually(lambda: all((s["NoNewPrivs"], s["Seccomp"]) == ("1", "2")
                           for s in statuses(server).values()), what="every thread's sandbox")
    return statuses(server)


@test()
def no_thread_keeps_a_capability():
    with Server("threads=3") as server:
        threads = confined(server)
        check_equal(len(threads), 3)
        for task, status in threads.items():
            held = {k: status[k] for k in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
            check_equal(set(held.values()), {"0" * 16}, f"thread {task}: {held}")
            check_equal((status["Seccomp"], status["NoNewPrivs"]), ("2", "1"), task)
        if os.geteuid() != 0:
            return "not root: there was none to lose"


@test()
def no_path_leads_to_a_file():
    if os.geteuid() != 0:
        raise Skip("hiding files needs root")
    with Server() as server:
        confined(server)
        for link in ("root", "cwd"):
            path = os.readlink(f"/proc/{server.pid}/{link}")
            check(path.endswith(" (deleted)"), link, "is", path)
        check_equal(os.listdir(f"/proc/{server.pid}/root"), [])
        # What is open stays open: clients come and go, and the log goes on.
        with server.connect() as c, server.connect(server.unix) as d:
            check_equal(c.gen(PROMPT, max_tokens=3).end.code, 250)
            check_equal(d.ask("PING")[0].code, 200)
        opened = server.open_files()
        check(not [p for p in opened if p.endswith(".gguf")], opened)
        return ", ".join(sorted({p.split(":")[0] for p in opened}))


# Numbers of x86-64: some of those that nobody may make (tests/unit/test_sandbox.c has more), and
# those that the thread that serves may make and one that computes may not.
NOBODY = {"mmap": 9, "mprotect": 10, "ioctl": 16, "socket": 41, "clone": 56, "execve": 59,
          "kill": 62, "ptrace": 101, "capset": 126, "reboot": 169, "openat": 257, "seccomp": 317}
SERVING = {"read": 0, "close": 3, "poll": 7, "fcntl": 72, "accept4": 288}
BOTH = {"clock_gettime": 228}
F_GETFL = 3
NOWHERE = (1 << 64) - 1  # -1: no descriptor, no address


def end_of(call, member, a=NOWHERE, b=F_GETFL):
    """Has a thread of a serving wick make that call; returns what became of the process."""
    with contextlib.ExitStack() as stack:
        server = Server("threads=2", "log=error")
        stack.callback(server.process.kill)
        threads = sorted(confined(server))  # the first one serves
        with server.connect() as c:  # it does serve, and its member has computed
            check_equal(c.gen(PROMPT, max_tokens=2).end.code, 250)
        tracer = Tracer(threads[1 if member else 0])
        end = tracer.inject(call, a, b)
        if end[0] == "returned":
            tracer.end()
        return end


@test(120)
def a_forbidden_call_of_any_thread_ends_the_process():
    checked = 0
    for member, calls in ((False, NOBODY), (True, {**NOBODY, **SERVING})):
        for name, number in calls.items():
            got = end_of(number, member)
            check_equal(got, ("killed", signal.SIGSYS), f"{name}, member={member}")
            checked += 1
    # A thread that computes writes to the log and nowhere else.
    check_equal(end_of(1, True, a=1), ("killed", signal.SIGSYS), "write to 1")
    # A check that cannot fail is none: what is allowed comes back.
    for member, calls in ((False, {**SERVING, **BOTH}), (True, BOTH)):
        for name, number in calls.items():
            got = end_of(number, member)
            check_equal(got[0], "returned", f"{name}, member={member}: {got}")
    check_equal(end_of(1, True, a=2)[0], "returned", "write to 2, the log")
    return f"{checked + 1} calls"
