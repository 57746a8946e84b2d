"""A wick client in a page: what docs/PROTOCOL.md asks of one, and no more."""

import re
import socket

from harness import PATIENCE_S

TOKEN = re.compile(rb'\s*(?:([A-Za-z_][A-Za-z0-9_]*)=)?(?:"((?:[^"\\]|\\.)*)"|([^\s"]+))')
ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|.)", re.S)
LETTER = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b'"': b'"', b"\\": b"\\"}


def quote(text):
    """A quoted string of the protocol; bytes that do not print become \\xHH."""
    out = []
    for byte in text if isinstance(text, bytes) else text.encode():
        c = chr(byte)
        out.append({"\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}.get(c)
                   or (c if 32 <= byte < 127 else f"\\x{byte:02x}"))
    return '"' + "".join(out) + '"'


def unquote(text):
    return ESCAPE.sub(lambda m: bytes([int(m[1][1:], 16)]) if m[1][:1] == b"x" else LETTER[m[1]],
                      text)


class Reply:
    """`151 7 0 " was"`: code 151, tag "7", words ["0", " was"]; `key=value` goes to fields."""

    def __init__(self, line):
        head = re.match(rb"(\d{3})([- ])(\S+)", line)
        if not head:
            raise ValueError(f"not a reply: {line[:200]!r}")
        self.line = line
        self.code, self.more, self.tag = int(head[1]), head[2] == b"-", head[3].decode()
        self.words, self.fields = [], {}
        for key, quoted, bare in TOKEN.findall(line, head.end()):
            value = unquote(quoted) if quoted or not bare else bare
            if key:
                self.fields[key.decode()] = value.decode("utf-8", "replace")
            else:
                self.words.append(value)

    @property
    def terminal(self):
        return self.code >= 200

    def __repr__(self):
        return self.line.decode("ascii", "backslashreplace")


class Client:
    """A connection to wick over tcp:HOST:PORT or unix:PATH, or over a pair of descriptors."""

    def __init__(self, address, timeout=PATIENCE_S):
        kind, _, rest = address.partition(":")
        self.buffer, self.kept = b"", []
        self.socket = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
        self.socket.settimeout(timeout)
        if kind == "unix":
            self.socket.connect(rest)
        else:
            host, _, port = rest.rpartition(":")
            if self.connect_from():
                self.socket.bind(self.connect_from())
            self.socket.connect((host, int(port)))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.greeting = self.read()

    def connect_from(self):
        """Our own address, for those who care."""
        return None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def write(self, data):
        self.socket.sendall(data)

    def receive(self):
        return self.socket.recv(65536)

    def send(self, line):
        self.write((line if isinstance(line, bytes) else line.encode()) + b"\n")

    def read_line(self):
        while b"\n" not in self.buffer:
            data = self.receive()
            if not data:
                raise EOFError(f"connection closed, rest {self.buffer[:200]!r}")
            self.buffer += data
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r")

    def read(self):
        return Reply(self.read_line())

    def read_for(self, tag):
        """Next reply of that tag; others are kept for whoever asks for them."""
        tag = str(tag)
        for i, reply in enumerate(self.kept):
            if reply.tag == tag:
                return self.kept.pop(i)
        while True:
            reply = self.read()
            if reply.tag == tag:
                return reply
            self.kept.append(reply)

    def ask(self, line, tag="-"):
        """Sends a line; returns all lines of its reply, the terminal one last."""
        self.send(line)
        return self.rest(tag)

    def rest(self, tag="-"):
        replies = [self.read_for(tag)]
        while replies[-1].more or not replies[-1].terminal:
            replies.append(self.read_for(tag))
        return replies

    def gen(self, prompt, tag=1, **params):
        """Runs a job to its end."""
        return Job(self.ask(gen_line(prompt, tag, **params), tag))

    def start(self, prompt, tag=1, **params):
        """Starts a job and waits for its first token; returns the replies so far."""
        self.send(gen_line(prompt, tag, **params))
        replies = [self.read_for(tag)]
        while replies[-1].code < 151:
            replies.append(self.read_for(tag))
        return replies

    def stop(self, tag=1):
        """Sends STOP; returns (lines of the job that came before the answer, the answer)."""
        self.send(f"STOP {tag}")
        replies = [self.read_for(tag)]
        while replies[-1].code != 230:
            replies.append(self.read_for(tag))
        return replies[:-1], replies[-1]

    def put(self, text, tag=1, piece=240):
        """Stages a text; returns the last acknowledgement (or the first refusal)."""
        data = text if isinstance(text, bytes) else text.encode()
        for at in range(0, len(data), piece):
            reply = self.ask(f"PUT {tag} {quote(data[at:at + piece])}", tag)[-1]
            if reply.code != 210:
                break
        return reply

    def ids(self, text, **params):
        words = [f"{k}={v}" for k, v in params.items()]
        replies = self.ask(" ".join(["TOKENIZE", *words, quote(text)]))
        if replies[-1].code != 240:
            raise ValueError(replies[-1])
        return [int(i) for r in replies for i in r.fields["ids"].split(",") if i]

    def metrics(self):
        lines = [bytes(r.line[6:]).decode() for r in self.ask("METRICS")]
        return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

    def health(self):
        fields = {}
        for reply in self.ask("HEALTH"):
            fields.update(reply.fields)
        return fields


def gen_line(prompt, tag=1, **params):
    stops = params.pop("stop", [])
    words = [f"{k}={v}" for k, v in params.items()] + [f"stop={quote(s)}" for s in stops]
    return " ".join(["GEN", str(tag), *words, quote(prompt)])


class Job:
    """All replies of one job, read."""

    def __init__(self, replies):
        self.replies = replies
        self.started = next((r for r in replies if r.code == 150), None)
        self.tokens = [r for r in replies if r.code == 151]
        self.end = replies[-1]
        self.text = b"".join(r.words[1] for r in self.tokens).decode("utf-8", "replace")
        self.stop = self.end.fields.get("stop")

    @property
    def seed(self):
        return int(self.started.fields["seed"])

    @property
    def slot(self):
        return int(self.started.fields["slot"])


class StreamClient(Client):
    """The same over two descriptors: a pseudo-terminal's master side, or a process's pipes."""

    def __init__(self, read_fd, write_fd, greeting=True, timeout=PATIENCE_S):
        import os
        import select

        self.buffer, self.kept = b"", []
        self.close = lambda: None

        def receive():
            if not select.select([read_fd], [], [], timeout)[0]:
                raise socket.timeout("nothing to read")
            return os.read(read_fd, 65536)

        def write(data):
            while data:
                data = data[os.write(write_fd, data):]

        self.receive, self.write = receive, write
        self.greeting = self.read() if greeting else None
