"""Addresses: static (every other test uses that), DHCP, link-local, and none to be had."""

import socket
import struct

import harness
from harness import check, check_equal, test
from keyed import KEY
from machine import BOOT_S, Machine

TEST_S = BOOT_S + 45


def dump_options(name):
    """Every frame of the network card goes to a file as well."""
    path = harness.work_path(name)
    return path, ["-object", f"filter-dump,id=dump,netdev=net,file={path}"]


def ipv6_sources(path):
    """Source addresses of the IPv6 packets in a capture file (libpcap's format)."""
    with open(path, "rb") as f:
        data = f.read()
    sources, at = set(), 24
    while at + 16 <= len(data):
        length, = struct.unpack_from("<I", data, at + 8)
        frame = data[at + 16:at + 16 + length]
        if frame[12:14] == b"\x86\xdd":
            sources.add(socket.inet_ntop(socket.AF_INET6, frame[22:38]))
        at += 16 + length
    return sources


@test(TEST_S)
def an_address_comes_by_dhcp_and_a_link_local_one_is_there():
    path, extra = dump_options("frames")
    with Machine(".ip=dhcp", ".listen=tty:/dev/hvc0", ".listen=tcp:0.0.0.0:7411",
                 f".key={KEY}", ".log=debug",
                 extra=extra) as machine:
        machine.wait_ready()
        machine.wait_log(r"wick.* net .*address=10\.0\.2\.15/24", 30)
        with machine.connect() as c:
            health = c.health()
        check_equal(health["status"], "ready")
        check("notice" not in health, health)
        log = b"".join(reply.line for reply in machine.hvc.ask("LOG lines=200"))
        check(KEY.encode() not in log, "the key is in the log")
        # The address that the kernel makes of 52:54:00:12:34:56, in use (RFC 4291, appendix A).
        own = "fe80::5054:ff:fe12:3456"
        harness.eventually(lambda: own in ipv6_sources(path), what=f"a packet from {own}")
        machine.hvc.ask("SHUTDOWN")
        machine.check_end(0, "guest-shutdown")


@test(TEST_S)
def a_network_that_cannot_be_had_is_noticed_and_serving_goes_on():
    with Machine(".ip=10.0.2.15/24,dev=eth7", ".listen=tty:/dev/hvc0", ".wait_ms=500") as machine:
        machine.wait_ready()
        health = machine.hvc.health()
        check_equal(health["status"], "ready")
        check("eth7" in health.get("notice", ""), health)
        machine.hvc.ask("SHUTDOWN")
        machine.check_end(0, "guest-shutdown")
        return health["notice"]


@test(TEST_S)
def an_address_that_is_none_is_noticed_and_serving_goes_on():
    with Machine(".ip=10.0.2.300/24", ".listen=tty:/dev/hvc0") as machine:
        machine.wait_ready()
        health = machine.hvc.health()
        check_equal(health["status"], "ready")
        check("10.0.2.300" in health.get("notice", ""), health)
        machine.hvc.ask("SHUTDOWN")
        machine.check_end(0, "guest-shutdown")
        return health["notice"]
