"""Disks for the appliance: a GPT with named partitions, decoys, and models that are broken."""

import os
import random
import struct
import uuid
import zlib

import harness
from harness import options, work_path

SECTOR = 512
ENTRIES, ENTRY_BYTES = 128, 128  # what every GPT has
ENTRY_SECTORS = ENTRIES * ENTRY_BYTES // SECTOR
ALIGNMENT = 2048  # sectors: partitions begin at whole MiB
LINUX_DATA = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")


def write(name, data):
    path = work_path(name)
    with open(path, "wb") as f:
        f.write(data)
    return path


def model_bytes():
    with open(harness.need(options.model), "rb") as f:
        return f.read()


def random_bytes(n, seed):
    return random.Random(seed).randbytes(n)


def gpt(name, partitions):
    """A disk with these partitions, [(name, content)] (UEFI specification, chapter 5)."""
    entries, at, body = b"", ALIGNMENT, {}
    for i, (label, content) in enumerate(partitions):
        sectors = -(-len(content) // SECTOR)
        entries += struct.pack("<16s16sQQQ72s", LINUX_DATA.bytes_le, uuid.UUID(int=i + 1).bytes_le, at,
                               at + sectors - 1, 0, label.encode("utf-16-le"))
        body[at] = content
        at += -(-sectors // ALIGNMENT) * ALIGNMENT
    entries = entries.ljust(ENTRIES * ENTRY_BYTES, b"\0")
    last = at + ENTRY_SECTORS  # the second header, behind the second table

    def header(own, other, table):
        def pack(crc):
            return struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, crc, 0, own, other,
                               2 + ENTRY_SECTORS, at - 1, uuid.UUID(int=99).bytes_le, table, ENTRIES,
                               ENTRY_BYTES, zlib.crc32(entries))
        return pack(zlib.crc32(pack(0)))

    path = work_path(name)
    with open(path, "wb") as f:
        f.truncate((last + 1) * SECTOR)
        protective = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, last)
        f.seek(446)
        f.write(protective)
        f.seek(510)
        f.write(b"\x55\xaa")
        f.write(header(1, last, 2))
        f.seek(2 * SECTOR)
        f.write(entries)
        for sector, content in body.items():
            f.seek(sector * SECTOR)
            f.write(content)
        f.seek(at * SECTOR)
        f.write(entries)
        f.seek(last * SECTOR)
        f.write(header(last, 1, at))
    return path


def decoys():
    """Disks that are no model: random bytes, and one that begins as a GGUF file does."""
    return [write("decoy-random", random_bytes(1 << 20, 1)),
            write("decoy-gguf", b"GGUF" + random_bytes((1 << 20) - 4, 2))]


def truncated():
    """The model without its second half."""
    data = model_bytes()
    return write("truncated", data[:len(data) // 2 // SECTOR * SECTOR])


def corrupt():
    """The model with its counts of tensors and key-values overwritten."""
    data = bytearray(model_bytes())
    data[8:24] = b"\xff" * 16
    return write("corrupt", bytes(data))


def damaged():
    """The model with random bytes among its key-values."""
    data = bytearray(model_bytes())
    data[200:4096] = random_bytes(4096 - 200, 4)
    return write("damaged", bytes(data))


def bad_sector():
    """One in the middle of the model."""
    return os.path.getsize(harness.need(options.model)) // SECTOR // 2


def bad_sector_options():
    """A disk with the model of which the host refuses to read that sector (QEMU's blkdebug)."""
    rules = write("blkdebug", b'[inject-error]\nevent = "read_aio"\nerrno = "5"\n'
                  b'sector = "%d"\nonce = "off"\n' % bad_sector())
    return ["-drive", f"if=none,id=bad,format=raw,readonly=on,file=blkdebug:{rules}:{options.model}",
            "-device", "virtio-blk-pci,drive=bad"]
