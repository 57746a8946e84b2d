"""How a machine ends and starts again: power, reset, panic, watchdog, safe mode."""

import re
import select
import struct
import time

import disks
import harness
from harness import check, check_equal, options, test
from machine import BOOT_S, Debugger, Machine

TEST_S = BOOT_S + 45


def symbol(name):
    """The address of a function of the wick under test, from the symbol table (ELF64) of wick.sym,
    the same program before its symbols are taken out."""
    with open(options.wick + ".sym", "rb") as f:
        elf = f.read()
    at, = struct.unpack_from("<Q", elf, 40)
    size, n = struct.unpack_from("<HH", elf, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, at + i * size) for i in range(n)]
    for _, kind, _, _, offset, length, link, *_ in sections:
        if kind != 2:  # SHT_SYMTAB
            continue
        names = sections[link][4]
        for entry in range(offset, offset + length, 24):
            index, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", elf, entry)
            end = elf.index(b"\0", names + index)
            if elf[names + index:end] == name.encode():
                return value
    raise AssertionError(f"no symbol {name} in {options.wick}.sym")


def gdb_options(name):
    path = harness.work_path(name)
    return path, ["-chardev", f"socket,id=gdb,path={path},server=on,wait=off", "-gdb", "chardev:gdb"]


def replace_code(path, function, code):
    """Puts machine code in the place of a function's first bytes while wick runs, through QEMU's
    debugger: nothing in wick knows of the test."""
    address = symbol(function)
    with open(options.wick, "rb") as f:
        elf = f.read()
    debugger = Debugger(path)
    # The processor may stand in the kernel; PID 1's mapping is the only one, so its code is there.
    seen = debugger.read(address, 8)
    check(elf.find(seen) >= 0, f"{function} at {address:#x} holds {seen.hex()}")
    debugger.write(address, code)
    debugger.go()


LOOP = b"\xeb\xfe"  # jmp to itself
UD2 = b"\x0f\x0b"  # no instruction


@test(TEST_S)
def reboot_resets_the_machine():
    with Machine() as machine:
        machine.wait_ready()
        check_equal([r.code for r in machine.hvc.ask("REBOOT")][-1], 261)
        machine.check_end(0, "guest-reset")


@test(TEST_S)
def the_power_button_drains_and_powers_off():
    with Machine() as machine:
        machine.wait_ready()
        machine.hvc.start("Once upon a time", max_tokens=6, temperature=0, seed=1)
        machine.monitor.ask("system_powerdown")
        check_equal(machine.hvc.rest(1)[-1].fields["stop"], "MAX_TOKENS")
        check_equal(machine.hvc.read_for("-").code, 261)
        machine.check_end(0, "guest-shutdown")


@test(TEST_S)
def ctrl_alt_del_drains_and_ends():
    with Machine() as machine:
        machine.wait_ready()
        machine.hvc.start("Once upon a time", max_tokens=6, temperature=0, seed=1)
        machine.monitor.ask("send-key", keys=[{"type": "qcode", "data": k} for k in
                                              ("ctrl", "alt", "delete")])
        check_equal(machine.hvc.rest(1)[-1].fields["stop"], "MAX_TOKENS")
        check_equal(machine.hvc.read_for("-").code, 261)
        machine.check_end(0, "guest-shutdown")


@test(TEST_S)
def a_fault_of_pid_1_is_a_panic_and_told_from_a_power_off():
    path, extra = gdb_options("gdb-panic")
    with Machine(extra=extra) as machine:
        machine.wait_ready()
        replace_code(path, "server_turn", UD2)
        machine.hvc.send("PING")
        machine.check_end(1, "guest-panic")
        check("Attempted to kill init" in machine.log(), machine.log()[-2000:])
        # Wick says itself what it knows: illegal instruction, and where.
        check(re.search(rf"panic signal 4 address {symbol('server_turn'):#x}", machine.log()),
              machine.log()[-2000:])


@test(TEST_S)
def the_watchdog_resets_a_machine_whose_main_loop_stands_still():
    path, extra = gdb_options("gdb-hang")
    with Machine(".watchdog=3", extra=extra) as machine:
        machine.wait_ready()
        # Fed: it outlives the time.
        time.sleep(4)
        check_equal(machine.hvc.ask("PING")[-1].code, 200)
        replace_code(path, "server_turn", LOOP)
        begin = time.monotonic()
        machine.hvc.send("PING")
        status, reason = machine.wait_end(60)
        check(status == 0 and reason in ("guest-reset", "host-qmp-system-reset"), status, reason)
        check(b"pong" not in bytes(machine.hvc.bytes_read).split(b"pong", 1)[1], "it went on")
        return f"after {time.monotonic() - begin:.1f} s"


@test(3 * TEST_S)
def three_failed_boots_in_a_row_lead_to_safe_mode():
    """One machine that starts again after every disk error; its CMOS survives that."""
    with Machine(".on_fault=reboot", model="none", reboot=True,
                 extra=disks.bad_sector_options()) as machine:
        hvc = machine.hvc
        machine.wait_log("safe mode", 2 * BOOT_S)
        machine.wait_log("up=failed")
        # What the boots before said is of no interest; the last of it may be cut.
        hvc.send("\nHELLO")
        while hvc.read_line() != b"220 - wick proto=1" or select.select([hvc.connection], [], [], 1)[0]:
            pass
        health = hvc.health()
        check_equal((health["status"], health["code"]), ("failed", "WORKER_UNHEALTHY"), health)
        check("safe mode" in health["reason"], health)
        check_equal(len(re.findall("wick .*sector", machine.log())), 3, machine.log())
        check_equal(hvc.ask('GEN 1 max_tokens=1 "x"', 1)[-1].code, 530)
        check("safe mode" in str([r.line for r in hvc.ask("LOG lines=200")]), "LOG")
        # REBOOT is meant to try again, and does.
        check_equal(hvc.ask("REBOOT")[-1].code, 261)
        harness.eventually(lambda: len(re.findall("wick .*sector", machine.log())) == 4, BOOT_S,
                           "a fourth boot")


@test(TEST_S)
def a_process_that_is_not_pid_1_knows_no_reboot():
    with harness.Server() as server, server.connect() as c:
        reply = c.ask("REBOOT")[-1]
        check(reply.code >= 400, reply)
        check_equal(c.ask("PING")[-1].code, 200)
