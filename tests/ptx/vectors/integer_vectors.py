"""Integer and bit instructions, on numbers as Python has them: without a size."""

from vector import Vector, chooser

MASK = 0xFFFFFFFF
EDGES = [0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
         0x80000001, 0xFFFFFFFE, 0xFFFFFFFF]


def signed(x, bits=32):
    x &= (1 << bits) - 1
    return x - (1 << bits) if x >> (bits - 1) else x


def columns(name, count, threads=64):
    """Edges against each other first, then numbers by lot."""
    pick = chooser(name)
    out = [[] for _ in range(count)]
    for t in range(threads):
        for j, column in enumerate(out):
            column.append(EDGES[(t * (2 * j + 1) + j * 3) % len(EDGES)] if t < 24 else
                          pick.getrandbits(32))
    return out


def lanewise(name, opcode, inputs, function, body=None, outputs=1):
    """function: of one lane's inputs, to one output or a tuple."""
    results = [function(*words) for words in zip(*inputs)]
    if outputs == 1:
        out = [[r & MASK for r in results]]
    else:
        out = [[r[j] & MASK for r in results] for j in range(outputs)]
    operands = ", ".join(f"%a{j}" for j in range(len(inputs)))
    return Vector(name, body or f"{opcode} %d0, {operands};", inputs, out, about=opcode)


def dp4a(a_type, b_type):
    opcode = f"dp4a.{a_type}.{b_type}"

    def total(a, b, c):
        byte = lambda w, i, t: signed(w >> 8 * i, 8) if t == "s32" else w >> 8 * i & 255
        return c + sum(byte(a, i, a_type) * byte(b, i, b_type) for i in range(4))

    return lanewise(opcode.replace(".", "_"), opcode, columns(opcode, 3), total)


def prmt():
    """Selector nibble: bits 0-2 choose a byte of {b, a}; bit 3 repeats that byte's sign."""
    a, b, selector = columns("prmt", 3)
    selector = [0x3210, 0x7654, 0x0123, 0xBA98, 0xFEDC, 0x5410, 0x7632, 0x6420] + selector[8:]

    def pick_bytes(a, b, c):
        word, result = b << 32 | a, 0
        for i in range(4):
            nibble = c >> 4 * i & 15
            byte = word >> 8 * (nibble & 7) & 255
            if nibble & 8:
                byte = 255 if byte & 128 else 0
            result |= byte << 8 * i
        return result

    return lanewise("prmt", "prmt.b32", [a, b, selector], pick_bytes)


def lop3(table):
    """Bit i of the table is the answer for a = i / 4 % 2, b = i / 2 % 2, c = i % 2."""
    def combine(a, b, c):
        result = 0
        for bit in range(32):
            index = (a >> bit & 1) << 2 | (b >> bit & 1) << 1 | c >> bit & 1
            result |= (table >> index & 1) << bit
        return result

    return lanewise(f"lop3_{table:02x}", f"lop3.b32, table 0x{table:02x}", columns("lop3", 3),
                    combine, body=f"lop3.b32 %d0, %a0, %a1, %a2, 0x{table:02x};")


def funnel(direction, mode):
    opcode = f"shf.{direction}.{mode}.b32"
    a, b, c = columns(opcode, 3)
    c = [0, 1, 31, 32, 33, 64, 0xFFFFFFFF, 16] * 8

    def shift(a, b, c):
        n = min(c, 32) if mode == "clamp" else c & 31
        both = b << 32 | a
        return both << n >> 32 if direction == "l" else both >> n

    return lanewise(opcode.replace(".", "_"), opcode, [a, b, c], shift)


def extract(sign):
    opcode = f"bfe.{sign}32"
    a = columns(opcode, 1)[0]
    position = [0, 1, 7, 8, 16, 24, 30, 31, 32, 40, 255, 256] * 6
    length = [0, 1, 8, 8, 31, 32, 33, 255, 4, 256] * 7

    def field(a, pos, length):
        pos, length = pos & 255, length & 255
        msb = 31
        if sign == "u" or length == 0:
            fill = 0
        else:
            fill = a >> min(pos + length - 1, msb) & 1
        result = 0
        for i in range(32):
            bit = a >> (pos + i) & 1 if i < length and pos + i <= msb else fill
            result |= bit << i
        return result

    return lanewise(opcode.replace(".", "_"), opcode, [a, position[:64], length[:64]], field)


def insert():
    a, b = columns("bfi", 2)
    position = [0, 1, 7, 8, 16, 24, 31, 32, 255, 256] * 7
    length = [0, 1, 8, 31, 32, 255, 4] * 10

    def place(a, b, pos, length):
        pos, length = pos & 255, length & 255
        for i in range(length):
            if pos + i < 32:
                b = b & ~(1 << (pos + i)) | (a >> i & 1) << (pos + i)
        return b

    return lanewise("bfi", "bfi.b32", [a, b, position[:64], length[:64]], place)


def shifts():
    a = columns("shift", 1)[0]
    by = [0, 1, 15, 31, 32, 33, 255, 0xFFFFFFFF] * 8
    body = """shl.b32 %d0, %a0, %a1;
        shr.u32 %d1, %a0, %a1;
        shr.s32 %d2, %a0, %a1;"""

    def shift(a, n):
        n = min(n, 32)
        return a << n, a >> n, signed(a) >> n

    return lanewise("shift", "shl.b32, shr.u32, shr.s32", [a, by], shift, body, 3)


def products():
    body = """mul.lo.s32 %d0, %a0, %a1;
        mul.hi.s32 %d1, %a0, %a1;
        mul.hi.u32 %d2, %a0, %a1;
        mad.lo.s32 %d3, %a0, %a1, %a2;
        mul.wide.s32 %rd5, %a0, %a1;
        mov.b64 {%d4, %d5}, %rd5;
        mul.wide.u32 %rd5, %a0, %a1;
        mov.b64 {%d6, %d7}, %rd5;
        mad.wide.s32 %rd5, %a0, %a1, %rd5;
        mov.b64 {%d8, %d9}, %rd5;"""

    def multiply(a, b, c):
        s, u = signed(a) * signed(b), a * b
        both = s + u
        return (s, s >> 32, u >> 32, a * b + c, s, s >> 32, u, u >> 32, both, both >> 32)

    return lanewise("multiply", "mul, mad: lo, hi, wide", columns("mul", 3), multiply, body, 10)


def counts():
    body = """mov.b32 {%h0, %h1}, %a0;
        popc.b32 %d0, %a0;
        clz.b32 %d1, %a0;
        brev.b32 %d2, %a0;
        bfind.u32 %d3, %a0;
        bfind.s32 %d4, %a0;
        bfind.shiftamt.u32 %d9, %a0;
        bfind.shiftamt.s32 %d10, %a0;
        abs.s32 %d5, %a0;
        neg.s32 %d6, %a0;
        cvt.s32.s8 %d7, %a0;
        cvt.u32.u16 %d8, %h0;"""

    def shift(bit):  # that brings this bit to the highest place; no bit: all ones
        return 31 - bit if bit >= 0 else MASK

    def count(a):
        highest = a.bit_length() - 1
        other = (a ^ MASK if a >> 31 else a).bit_length() - 1
        return (bin(a).count("1"), 32 - a.bit_length(), int(f"{a:032b}"[::-1], 2), highest, other,
                abs(signed(a)), -signed(a), signed(a, 8), a & 0xFFFF, shift(highest),
                shift(other))

    return lanewise("count", "popc, clz, brev, bfind, abs, neg, cvt", columns("count", 1), count,
                    body, 11)


def divisions():
    a, b = columns("div", 2)
    b = [x or 7 for x in b]
    # -2^31 / -1 has no answer in 32 bits.
    b = [3 if x == 0x80000000 and y == MASK else y for x, y in zip(a, b)]
    body = """div.s32 %d0, %a0, %a1;
        rem.s32 %d1, %a0, %a1;
        div.u32 %d2, %a0, %a1;
        rem.u32 %d3, %a0, %a1;
        min.s32 %d4, %a0, %a1;
        max.s32 %d5, %a0, %a1;
        min.u32 %d6, %a0, %a1;
        max.u32 %d7, %a0, %a1;"""

    def divide(a, b):
        x, y = signed(a), signed(b)
        quotient = abs(x) // abs(y) * (-1 if (x < 0) != (y < 0) else 1)
        return (quotient, x - quotient * y, a // b, a % b, min(x, y), max(x, y), min(a, b),
                max(a, b))

    return lanewise("divide", "div, rem, min, max", [a, b], divide, body, 8)


def integer_vectors():
    return [dp4a(a, b) for a in ("s32", "u32") for b in ("s32", "u32")] + [
        prmt(), *[lop3(t) for t in (0x80, 0xFE, 0x96, 0xE8, 0xCA, 0x2B)],
        *[funnel(d, m) for d in "lr" for m in ("wrap", "clamp")],
        extract("u"), extract("s"), insert(), shifts(), products(), counts(), divisions()]
