"""The appliance with a GPU's driver in its image: the stand-in for libcuda.so.1 that the PTX machine
gives (tests/ptx/standin.h), so that wick as PID 1 computes on backend=cuda where there is no GPU."""

import os
import shutil

import harness
import machine
from harness import check, check_equal, need, test, work_path
from machine import BOOT_S, Machine
from test_failures import check_down

# The emulated processor interprets each warp of each kernel.
TEST_S = BOOT_S + 240
ANSWER_S = 120

PROMPT = "Once upon a time"
JOB = {"max_tokens": 3, "temperature": 0, "seed": 7}
SETTINGS = ("backend=cuda", "ctx=64", "slots=1", "kv_tokens=64")
# Words of the kernel command line that it does not know become its init's environment.
CALM = {"WICK_PTX_CALM": "1", "WICK_PTX_THREADS": "1"}

_made = {}


def once(make):
    """The same file for all tests."""
    if make not in _made:
        _made[make] = make()
    return _made[make]


def model():
    """One layer with random weights: enough for every kernel of a step."""
    path = work_path("tiny.gguf")
    harness.lab("make-model", f"out={path}", f"vocab_from={need(harness.options.model)}", "type=Q8_0",
                "dim=64", "ffn=128", "layers=1", "heads=2", "kv_heads=1", "head_dim=32",
                "ctx_train=128")
    return path


def standin():
    return need(os.path.join(harness.BUILD, "ptx", "libcuda.so.1"), "run `make ptx-machine` first")


def image():
    """An image with the stand-in as an unpacked driver without kernel modules; glibc is this
    machine's. The compiler that a driver brings along is named by nvidia.list, and not used."""
    driver = work_path("driver")
    os.makedirs(driver)
    shutil.copy(standin(), os.path.join(driver, "libcuda.so.0.0"))
    shutil.copy(standin(), os.path.join(driver, "libnvidia-ptxjitcompiler.so.0.0"))
    return machine.image_make(harness.options.wick, "image-gpu", machine.options_qemu.kernel,
                              NVIDIA=driver, NVIDIA_MODULES="no")


def appliance(*settings, **environment):
    words = [f"{name}={value}" for name, value in {**CALM, **environment}.items()]
    return Machine(*words, *(f".{s}" for s in (*SETTINGS, *settings)), model=once(model),
                   image_of=once(image))


def tokens(client):
    return [t.line for t in client.gen(PROMPT, **JOB).tokens]


@test(TEST_S)
def the_appliance_computes_on_the_gpu_what_a_process_does_and_reboots_when_it_fails():
    standin()
    for name, value in CALM.items():
        os.environ[name] = value
    path = f"cuda_path={os.path.dirname(standin())}"
    with harness.Server(*SETTINGS, path, model=once(model), ready=False) as server:
        server.wait_ready(ANSWER_S)
        with server.connect() as c:
            want = tokens(c)
    check_equal(len(want), JOB["max_tokens"])
    # Six steps are what the texts take, and one at boot.
    with appliance("on_gpu_fault=restart", WICK_PTX_FAULT="cuGraphLaunch#12=error:719") as there:
        there.hvc.timeout = ANSWER_S
        there.wait_ready()
        check_equal(there.ready.fields["isa"], "sm_80")
        check("test double" in there.hvc.health()["device"], there.hvc.health())
        check_equal(tokens(there.hvc), want)
        with there.connect() as c:
            c.timeout = ANSWER_S
            check_equal(tokens(c), want)
        lost = there.hvc.gen(PROMPT, tag=2, max_tokens=40, temperature=0, ignore_eos=1)
        check_equal(lost.end.code, 513, lost.end)
        there.check_end(0, "guest-reset")
        return f"ready after {there.ready_s:.1f} s"


@test(TEST_S)
def a_driver_that_crashes_leaves_pid_1_alive():
    standin()
    with appliance(WICK_PTX_FAULT="cuInit=segv") as there:
        return check_down(there, 513, "CUDA_ERROR", "signal 11", "on the driver.s thread")


@test(TEST_S)
def an_image_without_a_gpu_driver_says_what_it_lacks():
    with Machine(".backend=cuda") as there:
        return check_down(there, 513, "CUDA_ERROR", "without GPU kernels", "NVIDIA=DIR")
