"""A client that logs in, written from docs/PROTOCOL.md, Login, and not from the server's code."""

import hashlib
import hmac
import os
import re

from client import Client, Reply
from harness import PATIENCE_S

KEY = "8f1d6a3c5e7b90214c6f8a0b2d4e6f13"
OBSERVER_KEY = "00" * 15 + "01"
DOOR_PLACES = 16
DOOR_WAIT_S = 3


def mac(key, text):
    return hmac.new(key, text if isinstance(text, bytes) else text.encode(), hashlib.sha256)


class Refused(Exception):
    """The server did not let us in; says what it answered."""


class Sealer:
    """Numbers and MACs of the lines of one direction."""

    def __init__(self, key, nonces, side):
        self.key = mac(key, f"wick1 {side} lines {nonces}").digest()
        self.count = 0

    def trailer(self, line):
        self.count += 1
        return mac(self.key, b"%d " % (self.count - 1) + line).hexdigest()[:32].encode()


class KeyedClient(Client):
    """A Client that has logged in. `tape` keeps the bytes of both directions."""

    def __init__(self, address, key=KEY, timeout=PATIENCE_S, source=None):
        self.tape = {"C": b"", "S": b""}
        self.ours = self.theirs = None
        self.source = source
        try:
            super().__init__(address, timeout)
        except EOFError as problem:
            raise Refused(repr(problem)) from None
        self.log_in(bytes.fromhex(key))

    def log_in(self, key):
        nonce = self.greeting.fields.get("nonce")
        if nonce is None:
            return  # a wire that needs no login
        nonces = f"{nonce} {os.urandom(16).hex()}"
        self.send(f"HELLO proto=1 nonce={nonces[33:]} "
                  f"mac={mac(key, f'wick1 client hello {nonces}').hexdigest()}")
        try:
            answer = self.read()
        except (EOFError, OSError) as problem:
            raise Refused(repr(problem)) from None
        if answer.code != 220:
            raise Refused(answer)
        self.role = answer.fields["login"]
        if answer.fields["mac"] != mac(key, f"wick1 server hello {self.role} {nonces}").hexdigest():
            raise Refused("the server does not know the key")
        self.ours = Sealer(key, nonces, "client")
        self.theirs = Sealer(key, nonces, "server")

    def connect_from(self):
        return (self.source, 0) if self.source else None

    def write(self, data):
        self.tape["C"] += data
        super().write(data)

    def receive(self):
        data = super().receive()
        self.tape["S"] += data
        return data

    def send(self, line):
        line = line if isinstance(line, bytes) else line.encode()
        if self.ours:
            line += b" #" + self.ours.trailer(line)
        super().send(line)

    def read_line(self):
        line = super().read_line()
        if not self.theirs:
            return line
        text, mark, trailer = line.rpartition(b" #")
        if not mark or trailer != self.theirs.trailer(text):
            raise ValueError(f"a forged line: {line!r}")
        return text


def sealed_line(line):
    return re.fullmatch(rb"(.*) #([0-9a-f]{32})", line)


__all__ = ["KEY", "OBSERVER_KEY", "KeyedClient", "Refused", "Reply", "mac", "sealed_line"]
