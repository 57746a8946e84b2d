"""Which backend, which device, whether it fits, and what is said when it cannot be."""

import os
import re
import subprocess

import device
from device import Worker, asked, command, settings
from harness import Server, Skip, check, check_equal, need, options, test, work_dir, work_path

USUAL = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/local/nvidia/lib64", "/usr/lib/wsl/lib",
         "/run/opengl-driver/lib", "/gpu"]


def no_driver_here():
    if any(os.path.exists(os.path.join(place, "libcuda.so.1")) for place in USUAL):
        raise Skip("this machine has a driver")


def boot(*words, prefix=()):
    """wick that does not come up: (exit status, log)."""
    argv = [*prefix, need(options.wick), f"model={need(options.model)}",
            f"listen=unix:{work_path('boot.sock')}", *words]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True,
                          timeout=device.PATIENCE_S)
    return done.returncode, done.stderr.decode("utf-8", "replace")


def refused(code, *patterns, words=(), prefix=(), status=1):
    got, log = boot(*(words or settings()), prefix=prefix)
    check_equal(got, status, log[-1500:])
    line = next((x for x in log.splitlines() if " failed code=" in x), log[-1500:])
    check(f" {code}: " in line, code, line)
    for pattern in patterns:
        check(re.search(pattern, line), pattern, line)
    return line.split(f"{code}: ")[-1]


@test(60)
def auto_takes_the_cpu_where_there_is_no_driver():
    no_driver_here()
    trace = work_path("auto.trace")
    with Server("backend=auto", prefix=("strace", "-f", "-o", trace, "-e", "trace=process")) as s:
        with s.connect() as c:
            check_equal(c.health()["backend"], "cpu")
        said = s.log()
    check(re.search(r"backend cpu, not cuda: .*libcuda\.so\.1", said), said)
    with open(trace) as f:
        made = [x for x in f if re.search(r"v?fork\(|clone3?\(", x) and "CLONE_THREAD" not in x]
    check(not made, "a process was made:", made)


@test(60)
def cuda_without_a_driver_names_every_place():
    no_driver_here()
    empty = os.path.join(work_dir(), "empty")
    os.makedirs(empty, exist_ok=True)
    return refused("CUDA_ERROR", r"libcuda\.so\.1", empty, *USUAL,
                   words=["backend=cuda", f"cuda_path={empty}"])


@test(60)
def auto_takes_the_device_and_says_so():
    with Worker("backend=auto") as s:
        with s.connect() as c:
            health = c.health()
            check_equal(health["backend"], "cuda")
            check(int(health["vram_bytes"]) > int(health["weight_bytes"]), health)
            check(re.match(r"sm_\d\d", health["isa"]), health)
        check(" backend cuda: 0 " in s.log(), s.log())


@test(60)
def device_is_chosen_by_number_or_address():
    three = {"devices": 3}
    _, out, _ = command(need(options.lab), "gpus", f"cuda_path={device.options.cuda_path}",
                        prefix=asked(**three))
    lines = out.splitlines()
    check_equal(len(lines), 3, out)
    address = re.search(r"pci=(\S+)", lines[2])[1]
    for line in lines:
        check(re.match(r"\d \S.* pci=\S+ vram_bytes=\d+ compute=\d+\.\d "
                       r"multiprocessors=\d+ driver=\d+\.\d", line), line)
    for name in ("2", address, address.split(":", 1)[1]):
        with Worker(f"device={name}", environment=three) as s, s.connect() as c:
            info = [r.fields for r in c.ask("INFO")]
            check(any(address in f.get("device", "") for f in info), name, info)
            check_equal(sum("gpu" in f for f in info), 3)
    refused("INVALID_REQUEST", r"device=9\b.*3 GPUs", words=[*settings(), "device=9"],
            prefix=asked(**three), status=2)


@test(60)
def driver_that_is_too_old_is_named_with_both_versions():
    return refused("CUDA_ERROR", r"\b11\.8\b", r"\b12\.0\b", prefix=asked(driver=11080))


@test(120)
def step_that_failed_is_in_the_error():
    refused("CUDA_ERROR", r"cuInit: CUDA_ERROR_NO_DEVICE \(100\)", prefix=asked("cuInit=error:100"))
    refused("CUDA_ERROR", "cuDevicePrimaryCtxRetain",
            prefix=asked("cuDevicePrimaryCtxRetain=error:46"))
    refused("VRAM_OOM", "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY",
            prefix=asked("cuMemAlloc_v2=error:2"))
    refused("CUDA_ERROR", "cuModuleLoadDataEx: CUDA_ERROR_INVALID_PTX",
            prefix=asked("cuModuleLoadDataEx#2=error:218"))
    refused("CUDA_ERROR", "the driver is dead: signal 11",
            prefix=asked("cuGraphInstantiateWithFlags=segv"))
    refused("CUDA_ERROR", "the driver is dead: ", prefix=asked("cuMemcpyHtoDAsync_v2#3=exit:0"))


@test(60)
def call_that_never_returns_ends_the_boot():
    return refused("CUDA_ERROR", "the driver is dead: ", words=[*settings(), "hang_ms=300"],
                   prefix=asked("cuModuleLoadDataEx=hang"))


@test(60)
def cache_of_f32_and_a_cpus_isa_are_the_cpus():
    refused("INVALID_REQUEST", r"kv=f32", words=[*settings(), "kv=f32"], status=2)
    with Worker("backend=auto", "kv=f32") as s:
        check("cpu, not cuda: kv=f32" in s.log(), s.log())
    with Worker("backend=auto", "isa=sse2") as s:
        check("cpu, not cuda: isa=" in s.log(), s.log())


@test(120)
def too_little_memory_says_what_would_fit():
    words = [*settings(), "ctx=512", "slots=4"]
    line = refused("INSUFFICIENT_VRAM", r"required \d+ bytes, available \d+ bytes",
                   words=[*words, "vram=10M"])
    ctx, slots = (int(x) for x in re.search(r"ctx=(\d+) slots=(\d+) would fit", line).groups())
    with Worker("vram=10M", f"slots={slots}", ctx=ctx) as s, s.connect() as c:
        check(int(c.health()["vram_bytes"]) <= 10 << 20)
    refused("INSUFFICIENT_VRAM", words=[*settings(), "vram=10M", f"ctx={ctx + 16}",
                                        f"slots={slots}"])
    with Worker("backend=auto", "vram=1M") as s:
        check(re.search(r"cpu, not cuda: GPU memory: required \d+", s.log()), s.log())
    return line


@test(30)
def plan_needs_no_driver():
    _, out, _ = command(need(options.lab), "plan", need(options.model), "backend=cuda", "ctx=256")
    rows = dict(re.findall(r"^(\S.*?) {2,}(\d+)", out, re.M))
    parts = [int(rows[f"GPU {x}"]) for x in ("weights", "KV cache", "activations")]
    check_equal(sum(parts), int(rows["GPU memory, in all"]), out)
    status, _, err = command(need(options.lab), "plan", need(options.model), "backend=cuda",
                             "vram=1M", good=False)
    check(status == 1 and "INSUFFICIENT_VRAM" in err, err)
