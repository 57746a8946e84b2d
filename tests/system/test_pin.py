"""sha256=: the model is the one that was meant, or nothing is served."""

import hashlib
import os
import re
import subprocess

from harness import Server, Skip, check, check_equal, need, options, test, work_path
from test_server import boot

FLAG = "sha256="


def digest_of(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def told(server):
    with server.connect() as c:
        return [r.line.decode() for r in c.ask("INFO") if b"sha256" in r.line]


@test()
def the_model_that_was_meant_is_served_and_info_tells_its_digest():
    want = digest_of(need(options.model))
    for given in (want, want.upper(), "show"):
        with Server(FLAG + given) as server:
            check_equal(told(server), [f'202-- sha256="{want}"'], given)
    with Server() as server:
        check_equal(told(server), [])


@test(30)
def another_file_than_the_one_that_was_meant_is_refused_before_it_serves():
    want = digest_of(need(options.model))
    with open(options.model, "rb") as f:
        data = bytearray(f.read())
    path = work_path("pinned.gguf")
    for what, change in (("last byte", lambda d: d[:-1] + bytes([d[-1] ^ 1])),
                         ("a weight", lambda d: d[:3000000] + bytes([d[3000000] ^ 1]) + d[3000001:]),
                         ("longer", lambda d: d + b"\0")):
        with open(path, "wb") as f:
            f.write(change(data))
        status, log = boot(FLAG + want, model=path)
        check_equal(status, 1, what + log)
        check("MODEL_LOAD_FAILED" in log and digest_of(path) in log and "ready" not in log, log)
        with Server(FLAG + digest_of(path), model=path):
            pass  # it is the digest that was in the way
    for bad in ("", "12", want + "0", want[:-1] + "g", "none"):
        status, log = boot(FLAG + bad)
        check_equal(status, 2, bad)
        check("sha256=" in log, log)


@test(30)
def a_pinned_file_is_looked_for_at_the_front_of_a_disk():
    if os.geteuid() != 0:
        raise Skip("a loop device needs root")
    need(options.model)
    path = work_path("disk")
    with open(path, "wb") as f, open(options.model, "rb") as g:
        f.write(g.read())
        f.write(os.urandom(1 << 20))
    made = subprocess.run(["losetup", "--show", "-rf", path], capture_output=True, text=True)
    if made.returncode != 0:
        raise Skip(f"no loop device: {made.stderr.strip()}")
    disk = made.stdout.strip()
    try:
        want = digest_of(options.model)
        with Server(FLAG + want, model=disk) as server:
            check_equal(told(server), [f'202-- sha256="{want}"'])
        status, log = boot(FLAG + "0" * 64, model=disk)
        check_equal(status, 1, log)
        check(re.search(want, log), log)
    finally:
        subprocess.run(["losetup", "-d", disk], check=True)
