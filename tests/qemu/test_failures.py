"""What a machine does that lacks something: it stays reachable, and HEALTH says what is wrong."""

import re

import disks
from harness import check, check_equal, test
from machine import BOOT_S, Machine

TEST_S = BOOT_S + 30


def check_down(machine, code, word, *patterns):
    """The machine answers on hvc0 though it cannot serve: HEALTH says why, jobs are refused with
    that, LOG answers, SHUTDOWN powers off."""
    machine.hvc.greet()
    health = machine.hvc.health()
    check_equal((health["status"], health.get("code")), ("failed", word), health)
    for pattern in patterns:
        check(re.search(pattern, health["reason"]), "want", pattern, "in", health["reason"])
    refused = machine.hvc.ask('GEN 1 max_tokens=1 "x"', 1)[-1]
    check_equal((refused.code, refused.words[0]), (code, word.encode()), refused)
    log = b"\n".join(r.words[0] for r in machine.hvc.ask("LOG lines=200")[:-1])
    check(word.encode() in log, "the fault is not in the log:", log)
    check_equal(machine.hvc.ask("PING")[-1].code, 200)
    check_equal([r.code for r in machine.hvc.ask("SHUTDOWN")], [161, 261])
    machine.check_end(0, "guest-shutdown")
    return health["reason"]


@test(TEST_S)
def an_unknown_key_is_named():
    with Machine(".modle=auto") as machine:
        return check_down(machine, 422, "INVALID_REQUEST", "'modle'", "model")


@test(TEST_S)
def a_missing_disk_is_told():
    with Machine(".wait_ms=500", model="none") as machine:
        return check_down(machine, 520, "MODEL_LOAD_FAILED", "GGUF")


@test(TEST_S)
def a_disk_that_is_no_model_is_not_taken():
    with Machine(".wait_ms=500", model=disks.decoys()[0]) as machine:
        return check_down(machine, 520, "MODEL_LOAD_FAILED", "GGUF")


@test(TEST_S)
def a_label_that_no_partition_has_is_named():
    disk = disks.gpt("gpt", [("decoy", disks.random_bytes(4096, 3)), ("tales", disks.model_bytes())])
    with Machine(".wait_ms=500", ".model=label:tails", model=disk) as machine:
        return check_down(machine, 520, "MODEL_LOAD_FAILED", "tails")


@test(TEST_S)
def a_truncated_model_is_told():
    with Machine(model=disks.truncated()) as machine:
        return check_down(machine, 520, "MODEL_LOAD_FAILED", "vda", "past|end|beyond|short")


@test(TEST_S)
def a_corrupt_model_is_told():
    with Machine(model=disks.corrupt()) as machine:
        return check_down(machine, 520, "MODEL_LOAD_FAILED", "vda")


@test(TEST_S)
def a_model_with_a_damaged_header_is_told():
    with Machine(model=disks.damaged()) as machine:
        return check_down(machine, 520, "MODEL_LOAD_FAILED", "vda", "offset 0x")


@test(TEST_S)
def too_little_memory_is_told_with_what_would_fit():
    with Machine(".slots=64", ".kv_tokens=200000", memory=192) as machine:
        return check_down(machine, 510, "INSUFFICIENT_RESOURCES", r"\d+ .*bytes")


@test(TEST_S)
def a_wire_that_cannot_be_opened_leaves_the_others():
    with Machine(".listen=tty:/dev/hvc0", ".listen=tty:/dev/ttyS9", ".wait_ms=500") as machine:
        machine.wait_ready()
        health = machine.hvc.health()
        check_equal(health["status"], "ready")
        check("ttyS9" in health.get("notice", ""), health)
        machine.hvc.ask("SHUTDOWN")
        machine.check_end(0, "guest-shutdown")


@test(TEST_S)
def a_disk_error_ends_in_a_reboot_and_names_the_sector():
    """The host refuses to read one sector in the middle of the model (QEMU's blkdebug)."""
    sector = disks.bad_sector()
    with Machine(".on_fault=reboot", model="none", extra=disks.bad_sector_options()) as machine:
        machine.check_end(0, "guest-reset", BOOT_S)
        log = machine.log()
        found = re.search(r"wick.*\bsector\D{0,3}(\d+)", log)
        check(found, log[-3000:])
        # A page is 8 sectors; the error is told for the page or for the sector.
        check(abs(int(found[1]) - sector) < 8, found[0], "want", sector)
        check(b" 151 " not in machine.hvc.bytes_read)
