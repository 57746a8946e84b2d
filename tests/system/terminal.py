"""A program on a pseudo-terminal: keys in, a picture out."""

import fcntl
import os
import re
import select
import struct
import termios
import time

from harness import PATIENCE_S, check, start

SEQUENCE = re.compile(rb"\x1b\[(\??)([0-9;]*)([A-Za-z])")


class Screen:
    """What a terminal of that size shows, as far as our programs need one."""

    def __init__(self, rows, columns):
        self.rows, self.columns = rows, columns
        self.pages = [self.blank(), self.blank()]
        self.page = self.row = self.column = 0
        self.saved = (0, 0)
        self.cursor = True
        self.rest = b""
        self.widest = 0

    def blank(self):
        return [[" "] * self.columns for _ in range(self.rows)]

    def feed(self, data):
        data = self.rest + data
        at = 0
        while at < len(data):
            if data[at] == 0x1b:
                found = SEQUENCE.match(data, at)
                if not found:
                    if len(data) - at < 16:
                        break
                    raise AssertionError(f"no sequence: {data[at:at + 16]!r}")
                self.sequence(found[1], found[2].decode(), found[3].decode())
                at = found.end()
                continue
            size = 1 if data[at] < 0x80 else 2 if data[at] < 0xE0 else 3 if data[at] < 0xF0 else 4
            if at + size > len(data):
                break
            self.put(data[at:at + size].decode("utf-8", "replace"))
            at += size
        self.rest = data[at:]

    def put(self, char):
        if char == "\r":
            self.column = 0
        elif char == "\n":
            self.row += 1
            if self.row == self.rows:
                self.row -= 1
                self.pages[self.page] = self.pages[self.page][1:] + [[" "] * self.columns]
        elif char == "\b":
            self.column = max(0, self.column - 1)
        elif char >= " ":
            if self.column >= self.columns:
                self.put("\r")
                self.put("\n")
            self.pages[self.page][self.row][self.column] = char
            self.column += 1
            self.widest = max(self.widest, self.column)

    def sequence(self, private, numbers, kind):
        n = int(numbers or 0) if numbers.isdigit() or not numbers else 0
        page = self.pages[self.page]
        if private and n == 1049:
            if kind == "h":
                self.saved = (self.row, self.column)
                self.page, self.pages[1] = 1, self.blank()
            else:
                self.page = 0
                self.row, self.column = self.saved
        elif private and n == 25:
            self.cursor = kind == "h"
        elif kind == "A":
            self.row = max(0, self.row - max(n, 1))
        elif kind == "B":
            self.row = min(self.rows - 1, self.row + max(n, 1))
        elif kind == "C":
            self.column = min(self.columns - 1, self.column + max(n, 1))
        elif kind == "D":
            self.column = max(0, self.column - max(n, 1))
        elif kind == "H":
            self.row = self.column = 0
        elif kind == "K":
            page[self.row][self.column:] = [" "] * (self.columns - self.column)
        elif kind == "J":
            first = 0 if n == 2 else self.row
            for row in range(first, self.rows):
                begin = self.column if row == self.row and n != 2 else 0
                page[row][begin:] = [" "] * (self.columns - begin)
        elif kind not in "mhl":
            raise AssertionError(f"unknown sequence ESC [ {private!r} {numbers} {kind}")

    def lines(self):
        return ["".join(row).rstrip() for row in self.pages[self.page]]

    def text(self):
        return "\n".join(self.lines()).rstrip()


class Terminal:
    """A process whose stdin, stdout and stderr are one terminal of its own."""

    def __init__(self, argv, rows=24, columns=80, env=None):
        self.master, self.slave = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.screen = Screen(rows, columns)
        self.seen = bytearray()

        def own():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = start(argv, stdin=self.slave, stdout=self.slave, stderr=self.slave,
                             preexec_fn=own,
                             env={**os.environ, "TERM": "xterm", "LANG": "C.UTF-8", **(env or {})})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        os.close(self.slave)
        os.close(self.master)

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave if hasattr(self, "slave") else self.master, termios.TIOCSWINSZ,
                    struct.pack("HHHH", rows, columns, 0, 0))

    def keys(self, text):
        os.write(self.master, text if isinstance(text, bytes) else text.encode())

    def pump(self, seconds=0.0):
        if select.select([self.master], [], [], seconds)[0]:
            data = os.read(self.master, 65536)
            self.seen += data
            self.screen.feed(data)
            return True
        return False

    def until(self, condition, seconds=PATIENCE_S):
        """Reads until condition() holds, or the screen shows that text."""
        if isinstance(condition, str):
            text, condition = condition, lambda: text in self.screen.text()
        end = time.monotonic() + seconds
        while not condition():
            check(time.monotonic() < end, "not seen in time; the screen:\n" + self.screen.text())
            self.pump(0.05)

    def prompt(self, seconds=PATIENCE_S):
        """Reads until an empty prompt is the last line."""
        self.until(lambda: self.screen.text().split("\n")[-1] == ">" and not self.pump(0.05),
                   seconds)

    def say(self, line):
        self.keys(line + "\r")
        self.pump(0.05)
        self.prompt()

    def wait(self, seconds=PATIENCE_S):
        """Its exit status; what it still writes is read."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            check(time.monotonic() < end, "does not end; the screen:\n" + self.screen.text())
            self.pump(0.02)
        while self.pump(0.02):
            pass
        return self.process.returncode

    def as_it_was(self):
        """Is the terminal in the state in which the program found it?"""
        return (termios.tcgetattr(self.slave) == self.before and self.screen.cursor
                and self.screen.page == 0)
