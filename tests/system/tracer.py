"""Makes a thread of another process ask the kernel for something, by ptrace (x86-64)."""

import ctypes
import os
import signal

ATTACH, DETACH, GETREGS, SETREGS, SINGLESTEP = 16, 17, 12, 13, 9
WALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long

NAMES = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss "
         "fs_base gs_base ds es fs gs").split()


class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in NAMES]


def ptrace(request, pid, data=None):
    if libc.ptrace(request, pid, None, data) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def syscall_instruction(pid):
    """Where the program has one."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb") as mem:
        for line in maps:
            span, rights = line.split()[:2]
            if "x" not in rights or "[" in line:
                continue
            first, last = (int(x, 16) for x in span.split("-"))
            mem.seek(first)
            at = mem.read(last - first).find(b"\x0f\x05")
            if at >= 0:
                return first + at
    raise LookupError("no syscall instruction")


class Tracer:
    def __init__(self, thread):
        self.thread = thread
        self.at = syscall_instruction(thread)
        ptrace(ATTACH, thread)
        os.waitpid(thread, WALL)

    def inject(self, number, *arguments):
        """The thread makes that call in place of what it was about to do. Returns ("returned",
        value) or ("killed", signal); a thread that has returned is of no use any more."""
        registers = Registers()
        ptrace(GETREGS, self.thread, ctypes.byref(registers))
        registers.rip, registers.rax = self.at, number
        registers.orig_rax = (1 << 64) - 1  # no call is to be begun anew
        for name, value in zip("rdi rsi rdx r10 r8 r9".split(), (*arguments, *[0] * 6)):
            setattr(registers, name, value)
        ptrace(SETREGS, self.thread, ctypes.byref(registers))
        while True:
            ptrace(SINGLESTEP, self.thread)
            _, status = os.waitpid(self.thread, WALL)
            if os.WIFSIGNALED(status):
                return "killed", os.WTERMSIG(status)
            if os.WIFEXITED(status):
                return "exited", os.WEXITSTATUS(status)
            if os.WSTOPSIG(status) == signal.SIGTRAP:
                break
        ptrace(GETREGS, self.thread, ctypes.byref(registers))
        return "returned", ctypes.c_longlong(registers.rax).value

    def end(self):
        """Of the process. A thread that is traced must be waited for, or the process stays."""
        os.kill(self.thread, signal.SIGKILL)
        os.waitpid(self.thread, WALL)
