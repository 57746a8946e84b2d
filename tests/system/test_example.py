"""docs/examples/client.py, the client that docs/PROTOCOL.md ends with."""

import os
import re
import subprocess
import sys

from harness import PATIENCE_S, ROOT, Server, check, check_equal, free_port, test, wickctl
from keyed import KEY, KeyedClient

EXAMPLE = os.path.join(ROOT, "docs", "examples", "client.py")
PROMPT = "Once upon a time"


def example(server, *words, key=None):
    env = {**os.environ, "WICK_KEY": key} if key else dict(os.environ)
    done = subprocess.run([sys.executable, EXAMPLE, "127.0.0.1", str(server.port), *words],
                          capture_output=True, text=True, timeout=PATIENCE_S, env=env)
    return done.returncode, done.stdout, done.stderr


@test()
def the_example_has_60_lines_and_is_the_one_in_the_protocol_page():
    with open(EXAMPLE) as f:
        code = f.read()
    check(code.count("\n") <= 60, "lines:", code.count("\n"))
    with open(os.path.join(ROOT, "docs", "PROTOCOL.md")) as f:
        check_equal(re.findall(r"```python\n(.*?)```", f.read(), re.S), [code])


@test()
def the_example_talks_with_and_without_a_key():
    how = ("temperature=0", "max_tokens=20")
    with Server() as plain, Server(f"key={KEY}", client=KeyedClient) as server:
        want = wickctl(plain, "gen", "-q", *how, PROMPT)[1].strip("\n")
        check_equal(example(plain, PROMPT, *how), (0, want + "\n", ""))
        check_equal(example(server, PROMPT, *how, key=KEY), (0, want + "\n", ""))
        long = 'He said "\\é\n" and ' * 40
        want = wickctl(plain, "gen", "-q", *how, stdin=long.encode())[1].strip("\n")
        check_equal(example(server, long, *how, key=KEY)[1].strip("\n"), want)
        status, out, err = example(server, PROMPT, key="00" * 16)
        check_equal((status, out), (1, ""))
        check("LOGIN_REFUSED" in err, err)
        check_equal(example(server, PROMPT, "temperature=9", key=KEY)[0], 1)
    with Server(f"key={KEY}", f"listen=tcp:0.0.0.0:{free_port()}", client=KeyedClient) as server:
        check_equal(example(server, PROMPT, *how, key=KEY)[0], 0)
