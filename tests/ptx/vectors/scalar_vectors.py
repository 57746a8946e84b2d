"""What compiled kernels do most: plain arithmetic, logic, comparisons and memory accesses of 8 to
64 bits."""

from integer_vectors import columns, lanewise, signed
from rounding import F32, decode, encode, is_finite
from vector import Vector, chooser

F64 = (11, 52)
MASK = {16: 0xFFFF, 32: 0xFFFFFFFF, 64: 0xFFFFFFFFFFFFFFFF}
COMPARISONS = {"eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
               "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b}


def load(bits):
    """PTX that makes values of this width: {name: where they lie}, from one or two words each."""
    if bits == 64:
        return "mov.b64 %rd5, {%a0, %a1};\nmov.b64 %rd6, {%a2, %a3};", ("%rd5", "%rd6")
    if bits == 16:
        return "cvt.u16.u32 %h0, %a0;\ncvt.u16.u32 %h1, %a1;", ("%h0", "%h1")
    return "", ("%a0", "%a1")


def store(bits, source, index):
    """PTX that writes a value to outputs from `index` on; and how many it takes."""
    if bits == 64:
        return f"mov.b64 {{%d{index}, %d{index + 1}}}, {source};", 2
    if bits == 16:
        return f"cvt.u32.u16 %d{index}, {source};", 1
    return f"mov.b32 %d{index}, {source};", 1


def operands(bits, words):
    if bits == 64:
        return words[0] | words[1] << 32, words[2] | words[3] << 32
    return words[0] & MASK[bits], words[1] & MASK[bits]


def inputs(name, bits):
    columns_in = columns(name, 4 if bits == 64 else 2)
    for t in range(24, 32):  # equal ones, and ones equal in a half
        for j in range(len(columns_in) // 2):
            columns_in[len(columns_in) // 2 + j][t] = columns_in[j][t] ^ (t & 1) * (j + 1)
    return columns_in


def comparison(bits):
    name = f"setp_{bits}"
    begin, (a, b) = load(bits)
    lines, kinds = [begin], []
    for sign in "su":
        for test in COMPARISONS:
            lines += [f"setp.{test}.{sign}{bits} %p0, {a}, {b};",
                      f"selp.u32 %d{len(kinds)}, 1, 0, %p0;"]
            kinds.append((test, sign))
    for test in ("eq", "ne"):
        lines += [f"setp.{test}.b{bits} %p0, {a}, {b};", f"selp.u32 %d{len(kinds)}, 1, 0, %p0;"]
        kinds.append((test, "u"))

    def compare(*words):
        x, y = operands(bits, words)
        return tuple(int(COMPARISONS[test](signed(x, bits), signed(y, bits)) if sign == "s" else
                         COMPARISONS[test](x, y)) for test, sign in kinds)

    return lanewise(name, f"setp, {bits} bits", inputs(name, bits), compare, "\n".join(lines),
                    len(kinds))


def arithmetic(bits):
    name = f"arithmetic_{bits}"
    begin, (a, b) = load(bits)
    scratch = {64: "%rd7", 32: "%r1", 16: "%h2"}[bits]
    table = {
        f"add.s{bits}": lambda x, y: x + y,
        f"sub.s{bits}": lambda x, y: x - y,
        f"mul.lo.s{bits}": lambda x, y: x * y,
        f"and.b{bits}": lambda x, y: x & y,
        f"or.b{bits}": lambda x, y: x | y,
        f"xor.b{bits}": lambda x, y: x ^ y,
        f"min.u{bits}": min,
        f"max.u{bits}": max,
        f"min.s{bits}": lambda x, y: min(signed(x, bits), signed(y, bits)),
        f"max.s{bits}": lambda x, y: max(signed(x, bits), signed(y, bits)),
        f"div.u{bits}": lambda x, y: x // (y or 5),
        f"rem.u{bits}": lambda x, y: x % (y or 5),
    }
    one = {f"not.b{bits}": lambda x: ~x, f"neg.s{bits}": lambda x: -x}
    lines, index = [begin], 0
    for opcode in table:
        if opcode.startswith(("div", "rem")):
            lines += [f"setp.eq.u{bits} %p0, {b}, 0;", f"selp.b{bits} {scratch}, 5, {b}, %p0;",
                      f"{opcode} {scratch}, {a}, {scratch};"]
        else:
            lines.append(f"{opcode} {scratch}, {a}, {b};")
        line, taken = store(bits, scratch, index)
        lines.append(line)
        index += taken
    for opcode in one:
        line, taken = store(bits, scratch, index)
        lines += [f"{opcode} {scratch}, {a};", line]
        index += taken
    for by in (0, 1, bits - 1, bits, bits + 7):  # beyond the width: zeros, or the sign
        for opcode in (f"shl.b{bits}", f"shr.u{bits}", f"shr.s{bits}"):
            line, taken = store(bits, scratch, index)
            lines += [f"{opcode} {scratch}, {a}, {by};", line]
            index += taken

    def calculate(*words):
        x, y = operands(bits, words)
        results = [f(x, y) for f in table.values()] + [f(x) for f in one.values()]
        for by in (0, 1, bits - 1, bits, bits + 7):
            results += [x << by, x >> by, signed(x, bits) >> by]
        out = []
        for r in results:
            r &= MASK[bits]
            out += [r & MASK[32], r >> 32] if bits == 64 else [r]
        return tuple(out)

    return lanewise(name, f"arithmetic of {bits} bits", inputs(name, bits), calculate,
                    "\n".join(lines), index)


def widths():
    """From one width to another."""
    body = """mov.b64 %rd5, {%a0, %a1};
        cvt.u16.u32 %h0, %a0;
        cvt.u64.u32 %rd6, %a0;
        mov.b64 {%d0, %d1}, %rd6;
        cvt.s64.s32 %rd6, %a0;
        mov.b64 {%d2, %d3}, %rd6;
        cvt.u32.u64 %d4, %rd5;
        cvt.u64.u16 %rd6, %h0;
        mov.b64 {%d5, %d6}, %rd6;
        cvt.s64.s16 %rd6, %h0;
        mov.b64 {%d7, %d8}, %rd6;
        cvt.s32.s16 %d9, %h0;
        mul.wide.u16 %d10, %h0, %h0;
        mul.wide.s16 %d11, %h0, %h0;
        cvt.u32.u8 %d12, %a0;
        bfi.b64 %rd6, %rd5, -1, 20, 30;
        mov.b64 {%d13, %d14}, %rd6;"""

    def convert(low, high):
        half, wide = low & 0xFFFF, low | high << 32
        field = (1 << 30) - 1
        placed = MASK[64] & ~(field << 20) | (wide & field) << 20
        s = lambda x, bits: signed(x, bits) & MASK[64]
        pairs = [low, s(low, 32)]
        out = []
        for p in pairs:
            out += [p & MASK[32], p >> 32]
        out += [low, half, 0, s(half, 16) & MASK[32], s(half, 16) >> 32, s(half, 16) & MASK[32],
                half * half, signed(half, 16) ** 2, low & 0xFF, placed & MASK[32], placed >> 32]
        return tuple(out)

    return lanewise("widths", "cvt, mul.wide, bfi.b64", columns("widths", 2), convert, body, 15)


def predicates():
    body = """setp.ne.u32 %p0, %a0, 0;
        setp.ne.u32 %p1, %a1, 0;
        and.pred %p2, %p0, %p1;
        selp.u32 %d0, 1, 0, %p2;
        or.pred %p2, %p0, %p1;
        selp.u32 %d1, 1, 0, %p2;
        xor.pred %p2, %p0, %p1;
        selp.u32 %d2, 1, 0, %p2;
        not.pred %p2, %p0;
        selp.u32 %d3, 1, 0, %p2;
        setp.lt.and.u32 %p2|%p3, %a2, 7, %p1;
        selp.u32 %d4, 1, 0, %p2;
        selp.u32 %d5, 1, 0, %p3;
        mov.u32 %d6, 5;
        @%p0 mov.u32 %d6, 6;
        @!%p1 add.u32 %d6, %d6, 10;"""
    a = [t & 1 for t in range(32)]
    b = [t >> 1 & 1 for t in range(32)]
    c = [t for t in range(32)]

    def logic(a, b, c):
        return (a & b, a | b, a ^ b, 1 - a, int(c < 7 and b), int(c >= 7 and b),
                5 + a + (0 if b else 10))

    return lanewise("predicates", "and, or, xor, not, setp.and, guards", [a, b, c], logic, body, 7)


def accesses(space):
    """Four words of each thread, written as .v4 and read back in every width, and the reverse.
    Little end first; signed bytes keep their sign."""
    name = f"access_{space}"
    pick = chooser(name)
    words = [[pick.getrandbits(32) for _ in range(32)] for _ in range(4)]
    base = ("mov.u32 %r1, space;\nmad.lo.u32 %r1, %r0, 32, %r1;" if space == "shared" else
            "mad.wide.u32 %rd5, %r0, 32, %rd0;\nadd.u64 %rd5, %rd5, 512;")
    at = "%r1" if space == "shared" else "%rd5"
    body = f"""{base}
        st.{space}.v4.u32 [{at}], {{%a0, %a1, %a2, %a3}};
        ld.{space}.u8 %d0, [{at}+3];
        ld.{space}.s8 %d1, [{at}+6];
        ld.{space}.u16 %d2, [{at}+10];
        ld.{space}.s16 %d3, [{at}+14];
        ld.{space}.v2.u32 {{%d4, %d5}}, [{at}+8];
        ld.{space}.u64 %rd6, [{at}+8];
        mov.b64 {{%d6, %d7}}, %rd6;
        st.{space}.u8 [{at}+16], %a0;
        st.{space}.u8 [{at}+17], %a1;
        cvt.u16.u32 %h0, %a2;
        st.{space}.u16 [{at}+18], %h0;
        st.{space}.u32 [{at}+20], %a3;
        mov.b64 %rd6, {{%a1, %a0}};
        st.{space}.u64 [{at}+24], %rd6;
        ld.{space}.v4.u32 {{%d8, %d9, %d10, %d11}}, [{at}+16];"""

    def read(*w):
        memory = b"".join(x.to_bytes(4, "little") for x in w)
        number = lambda at, size: int.from_bytes(memory[at:at + size], "little")
        return (number(3, 1), signed(number(6, 1), 8), number(10, 2), signed(number(14, 2), 16),
                number(8, 4), number(12, 4), number(8, 4), number(12, 4),
                w[0] & 255 | (w[1] & 255) << 8 | (w[2] & 0xFFFF) << 16, w[3], w[1], w[0])

    vector = lanewise(name, f"ld.{space}, st.{space}, all widths", words, read, body, 12)
    if space == "shared":
        vector.shared = 32 * 32
    else:
        vector.extra = [0] * 8 * 32
    return vector


def doubles():
    body = """mov.b64 %rd5, {%a0, %a1};
        mov.b64 %rd6, {%a2, %a3};
        add.rn.f64 %rd7, %rd5, %rd6;
        mov.b64 {%d0, %d1}, %rd7;
        sub.rn.f64 %rd7, %rd5, %rd6;
        mov.b64 {%d2, %d3}, %rd7;
        mul.rn.f64 %rd7, %rd5, %rd6;
        mov.b64 {%d4, %d5}, %rd7;
        fma.rn.f64 %rd7, %rd5, %rd6, %rd5;
        mov.b64 {%d6, %d7}, %rd7;
        cvt.rn.f32.f64 %d8, %rd5;
        cvt.f64.f32 %rd7, %a4;
        mov.b64 {%d9, %d10}, %rd7;"""
    pick = chooser("doubles")
    double = lambda: (pick.getrandbits(1) << 63 | pick.randint(1023 - 140, 1023 + 120) << 52 |
                      pick.getrandbits(52))
    single = lambda: next(w for w in iter(lambda: pick.getrandbits(32), None) if is_finite(F32, w))
    rows = [(double(), double(), single()) for _ in range(64)]
    for t in range(0, 64, 4):  # neighbours in size, whose sums cancel and round
        a = rows[t][0]
        rows[t] = (a, a ^ 1 << 63 ^ pick.getrandbits(30), rows[t][2])
    inputs_64 = [[r[0] & MASK[32] for r in rows], [r[0] >> 32 for r in rows],
                 [r[1] & MASK[32] for r in rows], [r[1] >> 32 for r in rows],
                 [r[2] for r in rows]]

    def calculate(a0, a1, b0, b1, c):
        a, b = decode(F64, a0 | a1 << 32), decode(F64, b0 | b1 << 32)
        out = []
        for value in (a + b, a - b, a * b, a * b + a):
            bits = encode(F64, value)
            out += [bits & MASK[32], bits >> 32]
        wide = encode(F64, decode(F32, c), zero_sign=c >> 31)
        return (*out, encode(F32, a), wide & MASK[32], wide >> 32)

    return lanewise("doubles", "add, sub, mul, fma .rn.f64, cvt", inputs_64, calculate, body, 11)


def negations():
    a, b = columns("negate", 2, 96)
    finite = lambda w: w if is_finite(F32, w) else w & 0xBFFFFFFF
    a, b = [finite(w) for w in a], [finite(w) for w in b]
    body = """sub.rn.f32 %d0, %a0, %a1;
        neg.f32 %d1, %a0;
        abs.f32 %d2, %a0;"""

    def calculate(a, b):
        value = decode(F32, a) - decode(F32, b)
        zero = (a >> 31) & (1 - (b >> 31))
        return encode(F32, value, zero_sign=zero), a ^ 1 << 31, a & 0x7FFFFFFF

    return lanewise("negate", "sub.rn.f32, neg.f32, abs.f32", [a, b], calculate, body, 3)


def scalar_vectors():
    return [comparison(b) for b in (16, 32, 64)] + [arithmetic(b) for b in (16, 32, 64)] + [
        widths(), predicates(), accesses("shared"), accesses("global"), doubles(), negations()]
