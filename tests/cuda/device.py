"""Programs on the device under test, and what it can be asked to do wrong."""

import os
import subprocess

import compare
from client import Client
from harness import BUILD, Server, Skip, check, need
from harness import options as programs


class options:
    """Set by run.py before any test runs."""

    cuda_path = os.environ.get("WICK_CUDA_PATH", os.path.join(BUILD, "ptx"))
    slow = False
    soak_seed = None


SHARED = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(
    os.path.abspath(__file__))))), "shared")
# A step of the interpreter takes seconds on a busy machine; nothing here may depend on how many.
PATIENCE_S = 180


def library():
    return need(os.path.join(options.cuda_path, "libcuda.so.1"), "run `make check` once")


def is_standin():
    with open(library(), "rb") as f:
        return b"PTX machine (test double)" in f.read()


def settings():
    library()
    return ["backend=cuda", f"cuda_path={options.cuda_path}"]


def asked(fault=None, **environment):
    """Words that go before a command line: what the stand-in shall be and do."""
    words = [f"WICK_PTX_{key.upper()}={value}" for key, value in environment.items()]
    if fault:
        words.append(f"WICK_PTX_FAULT={fault}")
    if words and not is_standin():
        raise Skip("a real driver does nothing wrong on demand")
    return ["env", *words] if words else []


class PatientClient(Client):
    def __init__(self, address, timeout=PATIENCE_S):
        super().__init__(address, timeout)


class Worker(Server):
    """wick on the device. `environment` as for asked()."""

    def __init__(self, *more, fault=None, environment=None, ready=True, ctx=256, **how):
        prefix = asked(fault, **(environment or {}))
        super().__init__(*settings(), f"ctx={ctx}", *more, prefix=prefix, ready=False,
                         client=PatientClient, **how)
        if ready:
            self.wait_ready(PATIENCE_S)


def command(*words, prefix=(), good=True):
    """Runs one of the programs to its end; returns (status, stdout, stderr)."""
    done = subprocess.run([*prefix, *words], capture_output=True, timeout=PATIENCE_S)
    out, err = (text.decode("utf-8", "replace") for text in (done.stdout, done.stderr))
    if good:
        check(done.returncode == 0, " ".join(words), "exit", done.returncode, err[-2000:])
    return done.returncode, out, err


def lab(name, *words, on_device=True, prefix=(), good=True):
    device_words = settings() if on_device else []
    return command(need(programs.lab), name, *words, *device_words, prefix=prefix, good=good)


def logits(model, prompt_file, *words, on_device=True):
    """Rows of wick-lab logits."""
    words = [f"model={model}", f"prompt_file={prompt_file}", *words]
    if not on_device:
        words.append("isa=exact")
    return compare.rows_parse(lab("logits", *words, on_device=on_device)[1])
