"""The appliance in a virtual machine: images/qemu.sh as a fixture, with its wires, its log and QEMU's
own account of what happened (QMP)."""

import atexit
import json
import os
import re
import select
import shlex
import shutil
import socket
import subprocess
import sys
import time

import harness
from client import StreamClient
from harness import ROOT, Skip, check, options, work_path
from keyed import KEY, KeyedClient, Refused

SCRIPT = os.path.join(ROOT, "images", "qemu.sh")

# The processor of every machine here. TCG emulates SSE 20 times faster than FMA; the plain process
# that texts are held against gets the same instruction set.
CPU, ISA = "qemu64", "sse2"

# A boot takes 2 to 6 s alone; the machine that runs the checks may be busy with something else.
BOOT_S = 200


class options_qemu:
    """Set by run.py before any test runs."""

    kernel = os.environ.get("KERNEL", "debian")
    image = None  # folder with vmlinuz and initramfs; None: images/image.sh makes it


def image():
    """(kernel, initramfs), made once with the wick under test."""
    if image.made is None:
        image.made = image_make(options.wick, "image", options_qemu.kernel)
    return image.made


image.made = None


def image_make(init, name, kernel="debian", **settings):
    """Makes an image with that program as its init; returns (kernel, initramfs). settings: more of
    what images/image.sh reads from its environment."""
    need_qemu()
    harness.need(init)
    if options_qemu.image and init == options.wick and not settings:
        out = options_qemu.image
    else:
        out = work_path(name)
        done = subprocess.run(["sh", os.path.join(ROOT, "images", "image.sh")], cwd=ROOT, timeout=600,
                              env={**os.environ, "BUILD": harness.BUILD, "INIT": init, "OUT": out,
                                   "KERNEL": kernel, **settings}, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        if done.returncode != 0 and ("cannot download" in done.stderr or "apt" in done.stderr):
            raise Skip(f"no kernel package: {done.stderr.strip().splitlines()[-1]}")
        check(done.returncode == 0, "images/image.sh:", done.stderr)
    return os.path.join(out, "vmlinuz"), os.path.join(out, "initramfs")


def key_file():
    path = work_path("key")
    with open(path, "w") as f:
        f.write(KEY + "\n")
    return path


def need_qemu():
    if not shutil.which("qemu-system-x86_64"):
        raise Skip("qemu-system-x86_64 is not installed: run `make deps-check`")


class WireClient(StreamClient):
    """A protocol wire that keeps every byte it has read."""

    def __init__(self, path, timeout=BOOT_S):
        self.connection = connect_unix(path)
        self.bytes_read = bytearray()
        super().__init__(self.connection.fileno(), self.connection.fileno(), greeting=False,
                         timeout=timeout)
        receive = self.receive

        def receive_and_keep():
            data = receive()
            self.bytes_read += data
            return data

        self.receive = receive_and_keep
        self.close = self.connection.close

    def greet(self):
        """Reads up to the greeting of the session that begins."""
        self.greeting = self.read()
        check(self.greeting.code == 220, "greeting", self.greeting)
        return self

    def wait_ready(self, trouble=lambda: None, seconds=BOOT_S):
        """Reads up to `120 - ready`; raises what trouble() finds meanwhile."""
        end = time.monotonic() + seconds
        while True:
            while not self.buffer and not select.select([self.connection], [], [], 0.25)[0]:
                found = trouble()
                check(not found, found)
                check(time.monotonic() < end, f"not ready after {seconds} s")
            reply = self.read_for("-")
            if reply.code == 120:
                return reply
            check(reply.code in (110, 220), "in place of 'ready':", reply)


def connect_unix(path, seconds=20):
    end = time.monotonic() + seconds
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
            return connection
        except OSError:
            connection.close()
            if time.monotonic() > end:
                raise
            time.sleep(0.01)


class Monitor:
    """QMP: commands, and the events that say why a machine ended."""

    def __init__(self, path):
        self.connection = connect_unix(path)
        self.file = self.connection.makefile("rwb")
        self.events = []
        self.receive()  # the greeting
        self.ask("qmp_capabilities")

    def receive(self, seconds=20):
        """The next message; events are kept as well. None: QEMU has ended."""
        self.connection.settimeout(seconds)
        line = self.file.readline()
        if not line:
            return None
        message = json.loads(line)
        if "event" in message:
            self.events.append(message)
        return message

    def ask(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self.file.flush()
        while (message := self.receive()) is not None:
            if "return" in message or "error" in message:
                check("return" in message, command, message)
                return message["return"]
        raise EOFError("QEMU has ended")

    def wait_event(self, name, seconds=BOOT_S):
        end = time.monotonic() + seconds
        while True:
            message = self.receive(max(0.1, end - time.monotonic()))
            check(message is not None, "QEMU ended before", name, self.events)
            if message.get("event") == name:
                return message

    def read_all(self):
        """What QEMU said before it ended."""
        try:
            while self.receive() is not None:
                pass
        except OSError:
            pass
        return self.events


class Machine:
    """One appliance that runs. `append` are words of the kernel command line, a leading dot standing
    for `wick.`; `extra` are QEMU's own options. `bare` starts the clock at QEMU, not at the script."""

    count = 0
    running = []  # all of them, ended at exit

    def __init__(self, *append, model=None, drives=(), memory=None, cpus=1, reboot=False, script=(),
                 extra=(), image_of=None, disk=None, bare=False):
        need_qemu()
        Machine.count += 1
        name = f"machine-{Machine.count}"
        self.port = harness.free_port()
        self.tcp = f"tcp:127.0.0.1:{self.port}"
        self.log_path = work_path(f"{name}.log")
        self.error_path = work_path(f"{name}.err")
        wires = {w: work_path(f"{name}.{w}") for w in ("hvc", "serial", "qmp")}
        self.argv = [SCRIPT, "--accel", "tcg", "--cpu", CPU, "--cpus", str(cpus),
                     "--port", str(self.port), "--wire", f"unix:{wires['hvc']}",
                     "--serial", f"unix:{wires['serial']}", "--log", f"file:{self.log_path}",
                     "--monitor", f"unix:{wires['qmp']}", "--key", key_file()]
        if disk:
            self.argv += ["--disk", "--disk-image", disk]
        else:
            kernel, initramfs = image_of or image()
            self.argv += ["--vmlinuz", kernel, "--initramfs", initramfs,
                          "--model", model or harness.need(options.model)]
        if memory:
            self.argv += ["--memory", str(memory)]
        if reboot:
            self.argv.append("--reboot")
        for drive in drives:
            self.argv += ["--drive", drive]
        for word in append:
            self.argv += ["--append", "wick" + word if word.startswith(".") else word]
        self.argv += [*script, "--", *extra]
        command = ["sh", *self.argv]
        if bare:
            at = self.argv.index("--")
            command = shlex.split(subprocess.check_output(
                ["sh", *self.argv[:at], "--dry-run", *self.argv[at:]], cwd=ROOT, text=True))
        self.started = time.monotonic()
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL,
                                        stdout=open(self.error_path, "wb"), stderr=subprocess.STDOUT)
        Machine.running.append(self)
        try:
            self.monitor = Monitor(wires["qmp"])
            self.hvc = WireClient(wires["hvc"])
            self.serial = WireClient(wires["serial"])
        except OSError as error:
            raise AssertionError(f"QEMU does not start ({error}): {self.errors()}") from None

    def errors(self):
        with open(self.error_path, errors="replace") as f:
            return f.read()

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read().replace("\r", "")

    def wait_log(self, pattern, seconds=BOOT_S):
        """Waits for a line in the log; returns the match."""
        end = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.log(), re.M)
            if found:
                return found
            if time.monotonic() > end:
                raise AssertionError(f"no {pattern!r} in the log within {seconds} s")
            time.sleep(0.05)

    def wait_ready(self):
        """Greeting and READY on hvc0; returns the machine."""
        def trouble():
            if self.process.poll() is not None:
                return f"QEMU has ended with {self.process.returncode}"
            return "the boot failed" if "up=failed" in self.log() else None

        self.ready = self.hvc.greet().wait_ready(trouble)
        self.ready_s = time.monotonic() - self.started
        return self

    def connect(self, seconds=30):
        """A client over TCP. QEMU accepts before the guest listens, and then hangs up."""
        end = time.monotonic() + seconds
        while True:
            try:
                return KeyedClient(self.tcp, timeout=60)
            except (OSError, EOFError, Refused):
                if time.monotonic() > end or self.process.poll() is not None:
                    raise
                time.sleep(0.1)

    def wait_end(self, seconds=60):
        """Waits until QEMU ends; returns (its exit status, QMP's reason). Reasons are
        guest-shutdown, guest-reset, guest-panic and what else QAPI's ShutdownCause has."""
        try:
            status = self.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the machine still runs after {seconds} s") from None
        reasons = [e["data"].get("reason") for e in self.monitor.read_all()
                   if e["event"] == "SHUTDOWN"]
        return status, reasons[-1] if reasons else None

    def panicked(self):
        return any(e["event"] == "GUEST_PANICKED" for e in self.monitor.events)

    def check_end(self, status, reason, seconds=60):
        got = self.wait_end(seconds)
        check(got == (status, reason), "the machine ended with", got, "want", (status, reason))
        check(self.panicked() == (reason == "guest-panic"), "pvpanic:", self.monitor.events)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self in Machine.running:
            Machine.running.remove(self)
        for wire in ("hvc", "serial"):
            if hasattr(self, wire):
                getattr(self, wire).close()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.stop()
        if exc[0] is not None and not issubclass(exc[0], Skip):
            self.explain()

    def explain(self):
        """The end of what the machine said, for whoever has to find out."""
        said = f"{self.errors()}{self.log()[-3000:]}"
        for wire in ("hvc", "serial"):
            if hasattr(self, wire):
                said += f"\n{wire}: {bytes(getattr(self, wire).bytes_read[-1000:])!r}"
        print(f"    {' '.join(self.argv)}\n" + "".join(f"    | {s}\n" for s in said.splitlines()),
              file=sys.stderr)


@atexit.register
def stop_all():
    for machine in list(Machine.running):
        machine.stop()


class Debugger:
    """QEMU's side of gdb's remote protocol, as little as putting bytes into a running program takes.
    The machine stands still while it is connected."""

    def __init__(self, address):
        self.socket = connect_unix(address)
        self.socket.settimeout(20)
        self.buffer = b""

    def ask(self, command):
        body = command.encode()
        self.socket.sendall(b"$" + body + b"#%02x" % (sum(body) % 256))
        while True:
            packet = re.search(rb"\$([^#]*)#..", self.buffer)
            if packet:
                self.buffer = self.buffer[packet.end():]
                self.socket.sendall(b"+")
                if not packet[1].startswith(b"T"):  # that is only: the machine has stopped
                    return packet[1].decode()
                continue
            data = self.socket.recv(4096)
            check(data, "QEMU's debugger hung up")
            self.buffer += data

    def read(self, address, n):
        return bytes.fromhex(self.ask(f"m{address:x},{n:x}"))

    def write(self, address, data):
        answer = self.ask(f"M{address:x},{len(data):x}:{data.hex()}")
        check(answer == "OK", f"writing {len(data)} bytes at {address:#x}:", answer)

    def go(self):
        """Lets the machine run on."""
        self.ask("D")
        self.socket.close()


def slow(function):
    """Marks a test that `make check` leaves to `make check-slow`."""
    function.slow = True
    return function


def is_slow(function):
    return getattr(function, "slow", False)
