"""What a machine does that has everything it needs. Most tests share one that runs on."""

import re
import time

import disks
import harness
from client import Reply
from harness import check, check_equal, test
from machine import BOOT_S, ISA, Machine, options_qemu

PROMPT = "Once upon a time"
JOB = {"max_tokens": 12, "temperature": 0.8, "seed": 7, "logprobs": 3}

# A TCG processor computes seven tokens a second when it has a core for itself.
TEST_S = BOOT_S + 60

_shared = []


def shared():
    """A machine that serves, with two disks in front of the model that are none, and a log in which
    the kernel says all it has to say."""
    if _shared and _shared[0] and _shared[0].process.poll() is None:
        return _shared[0]
    check(_shared != [None], "the machine of the first test does not boot")
    _shared[:] = [Machine("ignore_loglevel", "sysrq_always_enabled", drives=disks.decoys())]
    try:
        return _shared[0].wait_ready()
    except BaseException:
        _shared[0].explain()
        _shared[0].stop()
        _shared[:] = [None]
        raise


def tokens(client):
    """Text, ids and log-probabilities of the same short job, wherever it runs."""
    job = client.gen(PROMPT, **JOB)
    check_equal(job.stop, "MAX_TOKENS", job.end)
    return [t.line for t in job.tokens]


_plain = []


def plain_tokens():
    """What a plain process says to the same job, with the same instruction set."""
    if not _plain:
        with harness.Server(f"isa={ISA}", "threads=1") as server, server.connect() as c:
            _plain[:] = tokens(c)
    return _plain


@test(TEST_S)
def the_appliance_boots_to_ready():
    machine = shared()
    check_equal(machine.ready.fields["isa"], ISA)
    check_equal(machine.hvc.health()["status"], "ready")
    return f"{machine.ready_s:.1f} s"


@test(TEST_S)
def the_model_is_found_behind_disks_that_are_none():
    machine = shared()
    check_equal(machine.hvc.health()["model"], "tales-4m")


@test(TEST_S)
def text_over_hvc0_is_that_of_the_plain_process():
    check_equal(tokens(shared().hvc), plain_tokens())


@test(TEST_S)
def text_over_ttyS1_is_that_of_the_plain_process():
    machine = shared()
    if machine.serial.greeting is None:
        machine.serial.greet()
    check_equal(tokens(machine.serial), plain_tokens())


@test(TEST_S)
def text_over_tcp_is_that_of_the_plain_process():
    with shared().connect() as c:
        check_equal(tokens(c), plain_tokens())


@test(TEST_S)
def log_tells_the_kernels_lines_and_wicks():
    lines = [r.words[0].decode() for r in shared().hvc.ask("LOG lines=200")[:-1]]
    text = "\n".join(lines)
    check(len(lines) > 20, lines)
    check(re.search(r"\bready\b", text), "no line of wick's:", text[-2000:])
    check(len(shared().hvc.ask("LOG lines=3")) <= 4, "lines=3")


def press(machine, letter, last):
    """Types Alt-SysRq-letter; returns what the kernel then logs, up to the line with `last`."""
    if options_qemu.kernel == "own":
        raise harness.Skip("the kernel of our own has no SysRq")
    begin = len(machine.log())
    machine.monitor.ask("send-key", keys=[{"type": "qcode", "data": k} for k in
                                          ("alt", "sysrq", letter)])
    harness.eventually(lambda: last in machine.log()[begin:], what=f"SysRq {letter}")
    return machine.log()[begin:]


@test(TEST_S)
def no_process_runs_but_pid_1_and_the_kernels_threads():
    """The kernel lists all tasks (SysRq T)."""
    text = press(shared(), "t", "Showing busy workqueues")
    tasks = [(name.strip(), int(pid), int(parent)) for name, pid, parent in
             re.findall(r"task:(.{15}) .*?pid:(\d+) +ppid:(\d+)", text)]
    kernel = [t for t in tasks if 2 in t[1:]]
    check(len(kernel) > 10, tasks)
    others = [t for t in tasks if t not in kernel]
    check_equal([t[1:] for t in others], [(1, 0)], others)
    return f"{others[0][0]} and {len(kernel)} kernel threads"


@test(TEST_S)
def wires_carry_the_protocol_and_nothing_else():
    """While the kernel writes 1000 lines to its log."""
    machine = shared()
    check_equal(machine.hvc.ask("PING")[-1].code, 200)
    press(machine, "t", "Showing busy workqueues")
    check_equal(machine.hvc.ask("PING")[-1].code, 200)
    for wire in (machine.hvc, machine.serial):
        lines = bytes(wire.bytes_read).split(b"\n")[:-1]
        check(wire is machine.serial or len(lines) > 7, lines)
        for line in lines:
            check(all(0x20 <= b < 0x7f for b in line), line)
            Reply(line)


@test(TEST_S)
def memory_beyond_the_model_is_at_most_24_MB():
    """The kernel's own account (SysRq M) of what it, its drivers and wick hold and cannot give back:
    what it manages, less what is free, and less caches (of files, and of slab that is reclaimable).
    The model's weights do not count."""
    machine = shared()
    text = press(machine, "m", "pages reserved")

    def kb(pattern, unit):
        return sum(int(n) for n in re.findall(pattern, text)) * unit

    managed = kb(r"managed:(\d+)kB", 1)
    free = kb(r"\bfree:(\d+) ", 4) + kb(r"\bfree_pcp:(\d+) ", 4)
    caches = kb(r"active_file:(\d+) inactive", 4) + kb(r"inactive_file:(\d+) iso", 4) + \
        kb(r"slab_reclaimable:(\d+) ", 4)
    weights = int(machine.hvc.health()["weight_bytes"])
    beyond = (managed - free - caches) * 1024 - weights
    check(managed > 100000 and free > 10000, text)
    note = (f"{beyond / 1e6:.1f} MB beyond {weights / 1e6:.1f} MB of weights "
            f"(and caches of {caches * 1024 / 1e6:.1f} MB)")
    check(beyond <= 24e6, note)
    return note


@test(TEST_S)
def shutdown_powers_the_machine_off():
    machine = shared()
    machine.hvc.send("GEN 9 max_tokens=8 temperature=0 seed=1 \"Once\"")
    while machine.hvc.read_for(9).code != 150:
        pass
    with machine.connect() as other:
        check_equal(other.ask("SHUTDOWN")[0].code, 161)
        # The job that runs goes on to its end, then everybody hears that it is over.
        check_equal(machine.hvc.rest(9)[-1].fields["stop"], "MAX_TOKENS")
        check_equal(machine.hvc.read_for("-").code, 261)
    machine.check_end(0, "guest-shutdown")


@test(TEST_S)
def two_processors_compute_the_same_text():
    with Machine(cpus=2) as machine:
        machine.wait_ready()
        check("2 threads" in machine.hvc.health()["device"], machine.hvc.health())
        check_equal(tokens(machine.hvc), plain_tokens())
        begin = time.monotonic()
        machine.hvc.ask("SHUTDOWN")
        machine.check_end(0, "guest-shutdown")
        return f"off after {time.monotonic() - begin:.1f} s"
