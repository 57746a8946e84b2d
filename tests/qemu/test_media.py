"""Other ways to the same machine: a whole disk through UEFI, and other buses. Slow."""

import os
import subprocess

import harness
from harness import ROOT, check, check_equal, options, test
from machine import BOOT_S, ISA, Machine, image, options_qemu, slow
from test_serving import plain_tokens, tokens

# OVMF alone takes 4 s with a core for itself.
TEST_S = 2 * BOOT_S + 60

_disk = []


def disk():
    """A disk that images/disk.sh makes of the image under test."""
    if not _disk:
        for path in ("/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
                     "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/sbin/sgdisk", "/usr/bin/mcopy"):
            harness.need(path, "run `tests/deps.sh boot`")
        out = os.path.dirname(image()[0])
        done = subprocess.run(["sh", os.path.join(ROOT, "images", "disk.sh")], cwd=ROOT, timeout=120,
                              env={**os.environ, "BUILD": harness.BUILD, "OUT": out,
                                   "MODEL": options.model}, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        check(done.returncode == 0, "images/disk.sh:", done.stderr)
        _disk.append(os.path.join(out, "disk.img"))
    return _disk[0]


def check_disk_boot(bus):
    with Machine(disk=disk(), script=["--bus", bus]) as machine:
        machine.wait_ready()
        check_equal(machine.ready.fields["isa"], ISA)
        check_equal(tokens(machine.hvc), plain_tokens())
        machine.hvc.ask("SHUTDOWN")
        machine.check_end(0, "guest-shutdown")
        return f"{machine.ready_s:.1f} s"


@test(TEST_S)
@slow
def a_disk_boots_through_uefi():
    return check_disk_boot("virtio")


@test(TEST_S)
@slow
def a_disk_boots_through_uefi_from_nvme():
    return check_disk_boot("nvme")


@test(TEST_S)
@slow
def the_model_is_read_from_nvme():
    with Machine(script=["--bus", "nvme"]) as machine:
        machine.wait_ready()
        check_equal(tokens(machine.hvc), plain_tokens())
        machine.hvc.ask("SHUTDOWN")
        machine.check_end(0, "guest-shutdown")


@test(TEST_S)
@slow
def the_kernel_of_our_own_boots_to_ready():
    from machine import image_make

    if options_qemu.kernel == "own":
        raise harness.Skip("that is the kernel of every other test here")
    harness.need(os.path.join(harness.BUILD, "image", "own", "kernel", "vmlinuz"),
                 "run `make kernel`")
    with Machine(image_of=image_make(options.wick, "image-own", "own")) as machine:
        machine.wait_ready()
        check_equal(tokens(machine.hvc), plain_tokens())
        with machine.connect() as c:
            check_equal(c.health()["status"], "ready")
        machine.hvc.ask("SHUTDOWN")
        machine.check_end(0, "guest-shutdown")
        return f"{machine.ready_s:.1f} s"
