#!/usr/bin/env python3
"""Tests of the driver thread (src/cuda/foreign.h): a static musl program (rig.c) starts glibc's
loader and opens libraries that behave, and others that do not (toy.c).

    tests/foreign/run.py [PART-OF-A-NAME ...]

Prints one line a test and `N passed, N failed, N skipped` last; exit status 1 if one failed."""

import glob
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.abspath(os.environ.get("BUILD", "build"))
TESTS = []


class Skip(Exception):
    pass


def test(function):
    TESTS.append(function)
    return function


# --- what is built --------------------------------------------------------------------------------

class Bench:
    """A directory with the rig and one directory for each library."""

    def __init__(self, work):
        self.work = work
        self.rig = os.path.join(work, "rig")
        subprocess.run(
            [os.environ.get("MUSL_CC", "musl-gcc"), "-std=c11", "-O1", "-Wall", "-Wextra",
             "-Werror", "-D_GNU_SOURCE", "-fno-stack-protector", "-static", "-no-pie",
             "-I" + os.path.join(ROOT, "src"), "-idirafter", "/usr/include",
             "-idirafter", "/usr/include/x86_64-linux-gnu", os.path.join(HERE, "rig.c"),
             os.path.join(BUILD, "obj/musl/libwick.a"), "-lm", "-o", self.rig], check=True)

    def library(self, name, *flags, source="toy.c", soname="libcuda.so.1"):
        """The directory of a library that is built with these flags; built once."""
        directory = os.path.join(self.work, name)
        path = os.path.join(directory, soname)
        if not os.path.exists(path):
            os.makedirs(directory, exist_ok=True)
            subprocess.run(
                [os.environ.get("GNU_CC", "gcc"), "-std=gnu11", "-O1", "-Wall", "-Wextra",
                 "-Werror", "-Wno-infinite-recursion", "-fPIC", "-shared",
                 "-I" + os.path.join(ROOT, "src"), "-Wl,-soname," + soname,
                 os.path.join(HERE, source), "-o", path, *flags, "-lpthread"], check=True)
        return directory

    def run(self, *steps, library=None, before=(), timeout_ms=10000, env=None, rig=None):
        """Runs the rig; returns its lines and its exit status."""
        directory = self.library("good") if library is None else library
        done = subprocess.run([*before, rig or self.rig, directory, str(timeout_ms), *steps],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=120,
                              env={**os.environ, **(env or {})})
        return done.stdout.decode(errors="replace").splitlines(), done.returncode

    def expect(self, *wanted, steps, status=0, **more):
        """Each wanted line is a regular expression that the line at its place must match whole."""
        lines, code = self.run(*steps, **more)
        same = len(lines) == len(wanted) and all(
            re.fullmatch(w, line) for w, line in zip(wanted, lines))
        if not same or code != status:
            raise AssertionError("status %d, lines:\n%s\nwanted status %d, lines:\n%s" % (
                code, "\n".join(lines), status, "\n".join(wanted)))


bench = None
DEAD = r"%s: dead: %s"
TOOK = r"took \d+ ms"
DRIVER = r"the driver's thread \(\d+\)"
WORKER = r"a thread of the driver \(\d+\)"


def root_prefix():
    """What lets a test be root for chroot and new namespaces."""
    prefix = [] if os.geteuid() == 0 else ["unshare", "-r"]
    if subprocess.run([*prefix, "unshare", "-p", "-f", "true"], capture_output=True).returncode:
        raise Skip("new namespaces are not allowed here")
    return prefix


# --- what works -----------------------------------------------------------------------------------

@test
def driver_starts_and_answers():
    bench.expect("started", "toy_add: 42", steps=["start", "toy_add=41"])


@test
def driver_starts_every_time():
    for _ in range(30):
        bench.expect("started", "toy_add: 1", steps=["start", "toy_add=0"])


@test
def both_sides_wake_from_sleep():
    bench.expect("started", "toy_add: 2", "woken", timeout_ms=2000,
                 steps=["start", "rest", "toy_add=1", "rest", "naps"])


@test
def a_hundred_thousand_jobs_beside_threads_heaps_timers_and_children():
    bench.expect("started", "stress: 0 wrong, ticks", steps=["start", "stress=100000"])


@test
def the_same_as_pid_1():
    bench.expect("started", "stress: 0 wrong, ticks", steps=["start", "stress=20000"],
                 before=[*root_prefix(), "unshare", "-p", "-f"])


@test
def neither_c_library_moves_the_program_break():
    bench.expect("started", "toy_break: 1", steps=["start", "toy_break=4096"])


@test
def threads_of_the_driver_get_no_signals_but_faults():
    """Both the library's main thread and its workers, of which every second one blocks all."""
    lines, code = bench.run("start", "toy_threads=4", "masks", "toy_mask=3")
    masks = [int(line.split()[1], 16) for line in lines if line.startswith("mask ")]
    faults = sum(1 << s - 1 for s in (signal.SIGILL, signal.SIGTRAP, signal.SIGABRT, signal.SIGBUS,
                                      signal.SIGFPE, signal.SIGSEGV, signal.SIGSYS))
    others = sum(1 << s - 1 for s in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGCHLD,
                                      signal.SIGALRM, signal.SIGPIPE, signal.SIGUSR1))
    assert code == 0 and lines[-1] == "toy_mask: 3", lines
    assert len(masks) == 5, lines
    for mask in masks:
        assert mask & faults == 0 and mask & others == others, "%x" % mask


@test
def driver_reads_clocks_without_system_calls():
    lines, _ = bench.run("start", "no-clocks", "toy_clock=1000")
    if "clocks are free" not in lines:
        raise Skip("here even the host's own clock is a system call")
    assert lines[-1] == "toy_clock: 1000", lines


@test
def driver_sees_our_environment_and_its_own_but_nothing_for_the_loader():
    bench.expect("started", "toy_environment: 3", steps=["start", "toy_environment=0"],
                 env={"TOY_MINE": "here", "LD_PRELOAD": "/nonexistent.so"})


@test
def reaper_leaves_the_drivers_children_alone():
    bench.expect("started", "reap: 7, 0 stolen", steps=["start", "reap"])


@test
def child_of_the_driver_ends_with_its_own_status():
    bench.expect("started", "toy_child: 9", "alive", steps=["start", "toy_child=9", "alive"])


@test
def large_static_thread_local_storage_has_room():
    bench.expect("started", "toy_tls: 8", library=bench.library("tls", "-DTOY_TLS=16384"),
                 steps=["start", "toy_tls=5000"])


@test
def library_finds_what_it_needs_beside_itself():
    bench.library("needs", source="toy_api.c", soname="libbeside.so.1")
    directory = bench.library("needs", "-L" + os.path.join(bench.work, "needs"),
                              "-Wl,--no-as-needed", "-l:libbeside.so.1")
    bench.expect("started", "toy_add: 2", library=directory, steps=["start", "toy_add=1"])
    os.remove(os.path.join(directory, "libbeside.so.1"))
    bench.expect(r"failed: opening \S+/libcuda.so.1: libbeside.so.1: cannot open shared .*",
                 library=directory, steps=["start"], status=1)


# --- what a library may do to us ------------------------------------------------------------------

def deadly(step, text, whose=DRIVER):
    """The call kills the driver for that reason, at once, and us not."""
    name = step.split("=")[0]
    bench.expect("started", DEAD % (name, text + whose), TOOK, "alive", "dead for good",
                 steps=["start", step, "alive", "dead"])


@test
def abort_in_the_library_is_contained():
    deadly("toy_abort=0", r"signal 6 \(Aborted\) at 0x[0-9a-f]+ on ")


@test
def segfault_in_the_library_is_contained():
    deadly("toy_segv=0x18", r"signal 11 \(Segmentation fault\) at 0x[0-9a-f]+ touching 0x18 on ")


@test
def segfault_in_a_worker_that_blocks_all_signals_is_contained():
    deadly("toy_segv_worker=0x28", r"signal 11 \(.*\) at 0x[0-9a-f]+ touching 0x28 on ", WORKER)


@test
def segfault_after_the_library_took_the_signal_is_contained():
    deadly("toy_handler=0x38", r"signal 11 \(.*\) at 0x[0-9a-f]+ touching 0x38 on ")


@test
def stack_overflow_in_the_library_is_contained():
    deadly("toy_overflow=0", r"signal 11 \(.*\) at 0x[0-9a-f]+ touching 0x[0-9a-f]+ on ")


@test
def division_by_zero_in_the_library_is_contained():
    deadly("toy_divide=1", r"signal 8 \(.*\) at 0x[0-9a-f]+ on ")


@test
def jump_to_nowhere_in_the_library_is_contained():
    deadly("toy_jump=0x10", r"signal 11 \(.*\) at 0x10 touching 0x10 on ")


@test
def exit_in_the_library_is_contained():
    deadly("toy_exit=3", "exit with status 3 on ")
    deadly("toy_exit_now=0", "exit with status 0 on ")


@test
def exit_in_a_worker_is_contained():
    deadly("toy_exit_worker=4", "exit with status 4 on ", WORKER)


@test
def thread_that_ends_without_a_word_is_missed():
    bench.expect("started", DEAD % ("toy_leave", DRIVER + " has ended"), TOOK, "dead for good",
                 steps=["start", "toy_leave=0", "dead"])


@test
def library_that_blocks_for_ever_meets_the_time_out():
    start = time.monotonic()
    bench.expect("started", DEAD % ("toy_block", "no answer in 600 ms"), r"took ([6-9]\d\d|1\d\d\d) ms",
                 "alive", "dead for good", steps=["start", "toy_block=0", "alive", "dead"],
                 timeout_ms=600)
    assert time.monotonic() - start < 10


@test
def hazards_are_contained_in_pid_1_too():
    before = [*root_prefix(), "unshare", "-p", "-f"]
    for step, text in (("toy_abort=0", "signal 6 .*"), ("toy_segv_worker=8", "signal 11 .*"),
                       ("toy_exit=3", "exit with status 3 .*")):
        bench.expect("started", DEAD % (step.split("=")[0], text), TOOK, "alive",
                     steps=["start", step, "alive"], before=before)


@test
def standard_output_is_not_the_drivers():
    bench.expect("started", "toy_print: 1", steps=["start", "toy_print=1"])


@test
def driver_runs_no_programs():
    bench.expect("started", "toy_program: 127", "alive", steps=["start", "toy_program=1", "alive"])


# --- what is ours stays ours ----------------------------------------------------------------------

@test
def crash_of_ours_is_still_a_crash():
    for step, number in (("crash", signal.SIGSEGV), ("abort", signal.SIGABRT)):
        bench.expect("started", steps=["start", step], status=-number)
        bench.expect("started", "sandboxed", steps=["start", "sandbox", step], status=-number)
    bench.expect("started", "sandboxed", status=-signal.SIGSEGV,
                 steps=["start", "thread-crash", "sandbox", "release"])


@test
def sandbox_holds_our_threads_and_not_the_drivers():
    bench.expect("started", "sandboxed", "toy_map: 0", "toy_threads: 2", "toy_child: 6",
                 DEAD % ("toy_exit", "exit with status 3 on " + DRIVER), TOOK, "alive",
                 steps=["start", "sandbox", "toy_map=100000", "toy_threads=2", "toy_child=6",
                        "toy_exit=3", "alive"])
    bench.expect("started", "sandboxed", steps=["start", "sandbox", "map"], status=-signal.SIGSYS)
    bench.expect("started", "sandboxed", status=-signal.SIGSYS,
                 steps=["start", "thread-map", "sandbox", "release"])


# --- what may be missing or wrong -----------------------------------------------------------------

PLACES = ("/usr/lib/x86_64-linux-gnu:/usr/lib64:/usr/local/nvidia/lib64:/usr/lib/wsl/lib:"
          "/run/opengl-driver/lib:/gpu:/lib64:/lib/x86_64-linux-gnu")
SHIPPED = ("ld-linux-x86-64.so.2", "libc.so.6", "libdl.so.2")


def small_root():
    """A root directory with the rig, the loader, two libraries of glibc and libcuda in /gpu."""
    where = tempfile.mkdtemp(dir=bench.work)
    gpu = os.path.join(where, "gpu")
    os.makedirs(gpu)
    shutil.copy(bench.rig, os.path.join(where, "rig"))
    shutil.copy(os.path.join(bench.library("good"), "libcuda.so.1"), gpu)
    for name in SHIPPED:
        found = subprocess.run(["gcc", "-print-file-name=" + name], stdout=subprocess.PIPE,
                               check=True).stdout.decode().strip()
        shutil.copy(os.path.realpath(found), os.path.join(gpu, name))
    return where


def in_root(where, *wanted, steps, **more):
    bench.expect(*wanted, steps=steps, before=[*root_prefix(), "chroot", where], rig="/rig",
                 library="-", **more)


@test
def driver_starts_in_a_root_with_nothing_but_its_files():
    in_root(small_root(), "started", "toy_heap: 500", "toy_clock: 10",
            steps=["start", "toy_heap=500", "toy_clock=10"])


@test
def what_is_missing_is_named_with_every_place():
    for name in ("ld-linux-x86-64.so.2", "libc.so.6", "libcuda.so.1"):
        where = small_root()
        os.remove(os.path.join(where, "gpu", name))
        in_root(where, "failed: finding %s: it is in none of %s; cuda_path=DIR adds a place"
                % (re.escape(name), PLACES), steps=["start"], status=1)


@test
def cuda_path_is_looked_in_first_and_may_be_a_list():
    where = small_root()
    os.rename(os.path.join(where, "gpu"), os.path.join(where, "other"))
    bench.expect("failed: finding libcuda.so.1: it is in none of /none:/no:" + PLACES,
                 before=[*root_prefix(), "chroot", where], rig="/rig", library="/none:/no",
                 steps=["start"], status=1)
    bench.expect("started", before=[*root_prefix(), "chroot", where], rig="/rig",
                 library="/none:/other", steps=["start"])


@test
def what_the_loader_says_is_in_the_error():
    where = small_root()
    os.remove(os.path.join(where, "gpu/libdl.so.2"))
    in_root(where, "failed: starting /gpu/ld-linux-x86-64.so.2: exit with status 127 on %s; "
            "it said: wick: error while loading shared libraries: libdl.so.2: .*" % DRIVER,
            steps=["start"], status=1)


@test
def files_that_are_no_libraries_are_refused():
    for name, text in (("ld-linux-x86-64.so.2", "mapping .*: not a shared object for x86-64"),
                       ("libc.so.6", "starting .*: exit with status 127 .* invalid ELF header"),
                       ("libcuda.so.1", "opening .*: invalid ELF header")):
        where = small_root()
        with open(os.path.join(where, "gpu", name), "r+b") as file:
            file.write(b"\177ELX")
        in_root(where, "failed: " + text, steps=["start"], status=1)


@test
def loader_that_is_cut_short_is_refused_or_contained():
    whole = small_root()
    name = os.path.join(whole, "gpu/ld-linux-x86-64.so.2")
    with open(name, "rb") as file:
        data = file.read()
    for n in (0, 40, 64, 500, 4096, 40000, len(data) // 2):
        with open(name, "wb") as file:
            file.write(data[:n])
        in_root(whole, "failed: .*", steps=["start"], status=1)


@test
def library_that_fails_while_it_is_opened_fails_the_start():
    for code, text in (("exit(5)", "exit with status 5 on .*"), ("abort()", "signal 6 .*"),
                       ("*(volatile int *)64 = 1", "signal 11 .* touching 0x40 .*"),
                       ("for (;;) pause()", "no answer in 500 ms")):
        library = bench.library("load" + re.sub(r"\W", "", code), "-DTOY_LOAD=" + code)
        bench.expect(r"failed: opening \S+/libcuda.so.1: " + text, library=library,
                     steps=["start"], status=1, timeout_ms=500 if "pause" in code else 10000)


@test
def library_with_an_undefined_symbol_fails_the_start():
    bench.expect(r"failed: opening \S+: .*undefined symbol: function_that_nobody_has",
                 library=bench.library("missing", "-DTOY_MISSING"), steps=["start"], status=1)


@test
def library_that_wants_an_executable_stack_is_refused():
    bench.expect(r"failed: opening \S+: .*cannot enable executable stack.*",
                 library=bench.library("stack", "-Wl,-z,execstack"), steps=["start"], status=1)


# --- through wick itself --------------------------------------------------------------------------

def wick(*settings):
    """What wick logs and says; once it is ready, its standard input ends. And its exit status."""
    model = os.path.join(ROOT, "images/tales-4m-Q8_0.gguf")
    child = subprocess.Popen([os.path.join(BUILD, "wick"), "model=" + model, "listen=stdio",
                              "slots=1", "ctx=64", *settings], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = ""
    for line in child.stdout:
        said += line.decode(errors="replace")
        if line.startswith(b"120 -"):
            child.stdin.close()
    return said, child.wait(timeout=60)


@test
def wick_goes_on_with_the_cpu_where_the_driver_crashes_or_is_missing():
    crash = bench.library("load-crash", "-DTOY_LOAD=abort()")
    for path, why in ((crash, r"opening \S+/libcuda.so.1: signal 6 .*"),
                      ("/nonexistent", "finding libcuda.so.1: it is in none of /nonexistent:.*")):
        said, code = wick("backend=auto", "cuda_path=" + path)
        assert code == 0, said
        assert re.search("cpu, not cuda: " + why, said), said
        assert re.search(r"^120 - ready .* backend=cpu ", said, re.M), said


@test
def wick_without_a_usable_driver_fails_where_the_gpu_is_asked_for():
    for flags, why in ((["-DTOY_LOAD=exit(5)"], r"opening \S+: exit with status 5 on .*"),
                       ([], r"looking up functions in \S+: it has no cuInit"),
                       (["-DTOY_VERSION=11040"], r".* CUDA 11\.4; wick needs 12\.0 or newer .*")):
        directory = bench.library("wick" + re.sub(r"\W", "", "".join(flags)), *flags)
        said, code = wick("backend=cuda", "cuda_path=" + directory)
        assert code == 1, said
        assert re.search("error failed code=513 CUDA_ERROR: " + why, said), said


# --- the code itself ------------------------------------------------------------------------------

# What code on the driver thread may name that stands in no *_thread.c: what compilers call by
# themselves (musl's have no thread-local storage), what linkers name, and data of ours.
ALLOWED = {"memcpy", "memmove", "memset", "__executable_start", "etext", "park_state"}


def trespasses(objects):
    """Names outside that these objects use and may not, and instructions that use %fs or %gs."""
    def names(option):
        out = subprocess.run(["nm", option, *objects], stdout=subprocess.PIPE, check=True).stdout
        return {line.split()[-1] for line in out.decode().splitlines()
                if line and not line.endswith(":")}
    code = subprocess.run(["objdump", "-d", *objects], stdout=subprocess.PIPE, check=True).stdout
    return sorted(names("--undefined-only") - names("--defined-only") - ALLOWED) + sorted(
        set(re.findall(r"%[fg]s:\S*", code.decode())))


@test
def code_for_the_driver_thread_touches_nothing_of_musl():
    objects = glob.glob(os.path.join(BUILD, "obj/musl/src/*/*_thread.o"))
    sources = glob.glob(os.path.join(ROOT, "src/*/*_thread.c"))
    assert len(objects) == len(sources) > 3, (objects, sources)
    assert trespasses(objects) == [], trespasses(objects)


@test
def list_of_what_may_be_touched_finds_a_trespass():
    source = os.path.join(bench.work, "trespass.c")
    with open(source, "w") as file:
        file.write("#include <unistd.h>\n_Thread_local int mine;\n"
                   "int f(void) { mine = 1; return (int)write(1, &mine, 1); }\n")
    subprocess.run(["gcc", "-O1", "-c", source, "-o", source + ".o"], check=True)
    found = trespasses([source + ".o"])
    assert "write" in found and any(name.startswith("%fs:") for name in found), found


# --- the driver API -------------------------------------------------------------------------------

@test
def functions_are_found_by_name_and_by_address():
    for name, flags, found in (("names", [], 41), ("new", ["-DAPI_ADDRESSES=2"], 42),
                               ("old", ["-DAPI_ADDRESSES=1"], 42)):
        bench.expect("started", "api: 12020, alloc found %d" % found, steps=["start", "api"],
                     library=bench.library("api-" + name, *flags, source="toy_api.c"))


@test
def function_that_the_driver_lacks_is_named():
    bench.expect("started", r"api: looking up functions in \S+: it has no cuMemFree_v2",
                 library=bench.library("api-less", "-DAPI_WITHOUT", source="toy_api.c"),
                 steps=["start", "api"])


@test
def old_driver_is_named_with_both_versions():
    bench.expect("started", r"api: \S+ is a driver for CUDA 11\.4; wick needs 12\.0 or newer.*",
                 library=bench.library("api-11", "-DAPI_VERSION=11040", source="toy_api.c"),
                 steps=["start", "api"])


def main():
    global bench
    chosen = [t for t in TESTS
              if len(sys.argv) < 2 or any(part in t.__name__ for part in sys.argv[1:])]
    passed = failed = skipped = 0
    with tempfile.TemporaryDirectory(prefix="foreign-") as work:
        bench = Bench(work)
        for function in chosen:
            try:
                function()
            except Skip as why:
                skipped += 1
                print("skip %s: %s" % (function.__name__, why), flush=True)
            except Exception as error:  # a test that breaks is a test that fails
                failed += 1
                print("FAIL %s\n     %s" % (function.__name__, str(error).replace("\n", "\n     ")),
                      flush=True)
            else:
                passed += 1
                print("ok   %s" % function.__name__, flush=True)
    print("%d passed, %d failed, %d skipped" % (passed, failed, skipped))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
