"""Floating point: conversions, arithmetic of F32, F16, BF16, and bounds of the approximations."""

from decimal import Decimal, getcontext
from fractions import Fraction

from rounding import (BF16, F16, F32, decode, encode, f32, flush, is_finite, is_infinite, is_nan,
                      parts, whole)
from vector import Vector, chooser, padded

getcontext().prec = 60
NAN = 0x7FFFFFFF

F32_EDGES = [
    0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007FFFFF, 0x00800000, 0x00800001, 0x80800000,
    0x3F800000, 0xBF800000, 0x3F7FFFFF, 0x3F800001, 0x40000000, 0x40490FDB, 0x4B000001, 0x4B7FFFFF,
    0x7F7FFFFF, 0xFF7FFFFF, 0x7F000000, 0x33800000, 0x33800001, 0x34000000, 0x0D800000, 0x72800000,
]


def f32_numbers(name, count, least=1, most=254):
    """Edges, then numbers whose exponents are biased in [least, most]."""
    pick = chooser(name)
    out = list(F32_EDGES)
    while len(out) < count:
        out.append(pick.getrandbits(1) << 31 | pick.randint(least, most) << 23 |
                   pick.getrandbits(23))
    return out[:count]


# --- conversions --------------------------------------------------------------------------------

def to_half(name, form, mode):
    """Ties, numbers around them, subnormal results, overflow, infinities."""
    opcode = f"cvt.{mode}.{name}.f32"
    step = 23 - form[1]
    pick = chooser(opcode)
    words = [0x7F800000, 0xFF800000, *F32_EDGES]
    for _ in range(18):  # a tie, and one step of F32 to either side of it
        exponent = pick.randint(100, 142) if form == F16 else pick.randint(1, 254)
        tie = (pick.getrandbits(1) << 31 | exponent << 23 | pick.getrandbits(form[1]) << step |
               1 << (step - 1))
        words += [tie - 1, tie, tie + 1]
    if form == F16:
        # 65504 is the largest; 65520 is the first that becomes infinite; 2^-25 ties to zero.
        words += [f32(65504), f32(65519), f32(65520), f32(65535), f32(-65520)]
        words += [f32(Fraction(1, 1 << 25)), f32(Fraction(1, 1 << 25)) + 1,
                  f32(Fraction(3, 1 << 25)), f32(Fraction(1, 1 << 24)), f32(Fraction(1, 1 << 26))]
    words = padded(words, 0)
    top = 1 + sum(form) - 1
    infinity = ((1 << form[0]) - 1) << form[1]
    out = []
    for w in words:
        if is_infinite(F32, w):
            out.append(w >> 31 << top | infinity)
        else:
            out.append(encode(form, decode(F32, w), mode, zero_sign=w >> 31))
    body = f"""{opcode} %h0, %a0;
        cvt.u32.u16 %d0, %h0;"""
    return Vector(f"cvt_{mode}_{name}_f32", body, [words], [out], about=opcode)


def to_pair(name, form):
    """The first source goes to the upper half."""
    opcode = f"cvt.rn.{name}x2.f32"
    upper = f32_numbers(opcode + "a", 64, 100, 140)
    lower = f32_numbers(opcode + "b", 64, 100, 140)[::-1]
    half = lambda w: encode(form, decode(F32, w), zero_sign=w >> 31)
    out = [half(u) << 16 | half(l) for u, l in zip(upper, lower)]
    return Vector(f"cvt_rn_{name}x2_f32", f"{opcode} %d0, %a0, %a1;", [upper, lower], [out],
                  about=opcode)


def from_half():
    pick = chooser("cvt.f32.f16")
    words = [0, 0x8000, 1, 0x8001, 0x3FF, 0x400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x3C00, 0x3555]
    words = padded(words + [w for w in (pick.getrandbits(16) for _ in range(60))
                            if not is_nan(F16, w)], 0)
    out = [w >> 15 << 31 | 0x7F800000 if is_infinite(F16, w) else
           encode(F32, decode(F16, w), zero_sign=w >> 15) for w in words]
    body = """cvt.u16.u32 %h0, %a0;
        cvt.f32.f16 %d0, %h0;"""
    return Vector("cvt_f32_f16", body, [words], [out], about="cvt.f32.f16")


def to_integer(kind, bits, rounding):
    """Clamped to the range; NaN becomes 0."""
    opcode = f"cvt.{rounding}.{kind}{bits}.f32"
    pick = chooser(opcode)
    halves = [f32(Fraction(n, 2)) for n in range(-9, 10)]
    limits = [0x4F000000, 0xCF000000, 0x4EFFFFFF, 0xCF000001, 0x4F800000, 0x4F7FFFFF, 0x7F800000,
              0xFF800000, NAN, 0xFFC00000, f32(Fraction(-3, 4)), f32(Fraction(1, 4))]
    words = halves + limits + [pick.getrandbits(1) << 31 | pick.randint(120, 160) << 23 |
                               pick.getrandbits(23) for _ in range(33)]
    least, most = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if kind == "s" else (0,
                                                                                 (1 << bits) - 1)
    mode = {"rni": "rn", "rzi": "rz", "rmi": "rm", "rpi": "rp"}[rounding]
    out = []
    for w in words:
        if is_nan(F32, w):
            out.append(0)
        elif is_infinite(F32, w):
            out.append((least if w >> 31 else most) & 0xFFFFFFFF)
        else:
            out.append(max(least, min(most, whole(decode(F32, w), mode))) & 0xFFFFFFFF)
    return Vector(f"cvt_{rounding}_{kind}{bits}_f32", f"{opcode} %d0, %a0;", [words], [out],
                  about=opcode)


def from_integer():
    pick = chooser("cvt.rn.f32.s32")
    words = [0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x01000001, 0x01000003, 0xFEFFFFFF,
             0xFFFFFF7F, 0xFFFFFF80]
    words = padded(words + [pick.getrandbits(32) for _ in range(22)], 0)
    signed = lambda w: w - (1 << 32) if w >> 31 else w
    out = [[f32(signed(w)) for w in words], [f32(w) for w in words],
           [f32(signed(w), "rz") for w in words]]
    body = """cvt.rn.f32.s32 %d0, %a0;
        cvt.rn.f32.u32 %d1, %a0;
        cvt.rz.f32.s32 %d2, %a0;"""
    return Vector("cvt_f32_integer", body, [words], out, about="cvt.rn.f32.s32, .u32, .rz")


def narrow():
    """Integers to eight bits with clamping; floats to whole floats."""
    pick = chooser("cvt.sat")
    words = [0, 127, 128, 255, 256, 0xFFFFFFFF, 0xFFFFFF80, 0xFFFFFF7F, 0x80000000, 0x7FFFFFFF]
    words = padded(words + [pick.getrandbits(10) for _ in range(22)], 0)
    signed = lambda w: w - (1 << 32) if w >> 31 else w
    numbers = f32_numbers("cvt.rni", 32, 120, 152)[:32]
    round_to = lambda mode: [f32(whole(decode(F32, w), mode)) | (w & 1 << 31) for w in numbers]
    out = [[max(-128, min(127, signed(w))) & 0xFFFFFFFF for w in words],
           [max(0, min(255, signed(w))) for w in words],
           round_to("rn"), round_to("rz"), round_to("rm"), round_to("rp")]
    body = """cvt.sat.s8.s32 %d0, %a0;
        cvt.sat.u8.s32 %d1, %a0;
        cvt.rni.f32.f32 %d2, %a1;
        cvt.rzi.f32.f32 %d3, %a1;
        cvt.rmi.f32.f32 %d4, %a1;
        cvt.rpi.f32.f32 %d5, %a1;"""
    return Vector("cvt_narrow", body, [words, numbers], out, about="cvt.sat.s8, .u8, cvt.rni.f32")


def convert_vectors():
    return [to_half("f16", F16, "rn"), to_half("f16", F16, "rz"), to_half("bf16", BF16, "rn"),
            to_pair("f16", F16), to_pair("bf16", BF16), from_half(),
            *[to_integer("s", 32, r) for r in ("rni", "rzi", "rmi", "rpi")],
            to_integer("u", 32, "rzi"), to_integer("u", 32, "rni"), from_integer(), narrow()]


# --- arithmetic of pairs ------------------------------------------------------------------------

def half_numbers(name, form, count):
    pick = chooser(name)
    edges = [0, 0x8000, 1, 0x8001, (1 << form[1]) - 1, 1 << form[1]]
    out = []
    while len(out) < count:
        bits = (edges[len(out)] if len(out) < len(edges) else pick.getrandbits(16))
        if is_finite(form, bits):
            out.append(bits)
    return out


def zero_of_sum(signs, mode="rn"):
    """The sign of an exact zero: that of all its terms, else minus only when rounding down."""
    return signs[0] if len(set(signs)) == 1 else int(mode == "rm")


def pair(opcode, form, sources, function):
    """function: of the halves, as (value, sign), to (value, sign of zero)."""
    columns = []
    for j in range(sources):
        low = half_numbers(f"{opcode} low {j}", form, 64)
        high = half_numbers(f"{opcode} high {j}", form, 64)
        turn = 7 * j
        columns.append([h << 16 | l for h, l in zip(high[turn:] + high[:turn],
                                                    low[turn:] + low[:turn])])
    out = []
    for words in zip(*columns):
        result = 0
        for shift in (0, 16):
            halves = [w >> shift & 0xFFFF for w in words]
            value, zero = function(*[(decode(form, h), h >> 15) for h in halves])
            result |= encode(form, value, zero_sign=zero) << shift
        out.append(result)
    operands = ", ".join(f"%a{j}" for j in range(sources))
    return Vector(opcode.replace(".", "_"), f"{opcode} %d0, {operands};", columns, [out],
                  about=opcode)


def half_vectors():
    add = lambda a, b: (a[0] + b[0], zero_of_sum([a[1], b[1]]))
    sub = lambda a, b: (a[0] - b[0], zero_of_sum([a[1], 1 - b[1]]))
    mul = lambda a, b: (a[0] * b[0], a[1] ^ b[1])
    fma = lambda a, b, c: (a[0] * b[0] + c[0], zero_of_sum([a[1] ^ b[1], c[1]]))
    # Which zero is the smaller one is written in the ISA: minus is.
    low = lambda a, b: min(a, b, key=lambda x: (x[0], -x[1]))
    high = lambda a, b: max(a, b, key=lambda x: (x[0], -x[1]))
    return [pair("add.rn.f16x2", F16, 2, add), pair("sub.rn.f16x2", F16, 2, sub),
            pair("sub.f16x2", F16, 2, sub), pair("mul.rn.f16x2", F16, 2, mul),
            pair("fma.rn.f16x2", F16, 3, fma), pair("fma.rn.bf16x2", BF16, 3, fma),
            pair("min.f16x2", F16, 2, low),
            pair("max.f16x2", F16, 2, high), pair("max.bf16x2", BF16, 2, high)]


# --- arithmetic of F32 --------------------------------------------------------------------------

def single(opcode, mode, ftz, sources, function):
    columns = []
    for j in range(sources):
        column = f32_numbers(f"{opcode} {j}", 96, 80, 174)
        turn = 11 * j
        columns.append(column[turn:] + column[:turn])
    # Sums that vanish, and sums that round: b close to -a.
    if sources > 1:
        for t in range(90, 96):
            columns[1][t] = columns[0][t] ^ 0x80000000 ^ (t & 1)
            if sources > 2:
                columns[2][t] = columns[0][t - 1]
    out = []
    for words in zip(*columns):
        if ftz:
            words = [flush(F32, w) for w in words]
        value, zero = function(*[(decode(F32, w), w >> 31) for w in words])
        out.append(encode(F32, value, mode, ftz, zero))
    operands = ", ".join(f"%a{j}" for j in range(sources))
    return Vector(opcode.replace(".", "_"), f"{opcode} %d0, {operands};", columns, [out],
                  about=opcode)


def arithmetic(mode, ftz=False):
    tail = f"{mode}{'.ftz' if ftz else ''}.f32"
    add = lambda a, b: (a[0] + b[0], zero_of_sum([a[1], b[1]], mode))
    mul = lambda a, b: (a[0] * b[0], a[1] ^ b[1])
    fma = lambda a, b, c: (a[0] * b[0] + c[0], zero_of_sum([a[1] ^ b[1], c[1]], mode))
    return [single(f"add.{tail}", mode, ftz, 2, add), single(f"mul.{tail}", mode, ftz, 2, mul),
            single(f"fma.{tail}", mode, ftz, 3, fma)]


def square_root(value, form):
    """To nearest even, from above 2^-200 on: the root of a rational, exactly enough to round."""
    scale = 1 << 400
    root = Fraction(isqrt(value.numerator * scale * scale // value.denominator), scale)
    if root * root == value:
        return encode(form, root)
    return encode(form, root + Fraction(1, scale * 2))  # strictly between two roots of rationals


def isqrt(n):
    import math
    return math.isqrt(n)


def quotients():
    """div, rcp and sqrt rounded to nearest, as IEEE 754 has them."""
    a = f32_numbers("div a", 64, 90, 160)
    b = f32_numbers("div b", 64, 90, 160)[::-1]
    b = [w if w & 0x7FFFFFFF else 0x40400000 for w in b]
    sign = lambda x, y: (x ^ y) >> 31
    div = [encode(F32, decode(F32, x) / decode(F32, y), zero_sign=sign(x, y)) for x, y in zip(a, b)]
    rcp = [encode(F32, 1 / decode(F32, y)) for y in b]
    root = [square_root(abs(decode(F32, y)), F32) for y in b]
    body = """div.rn.f32 %d0, %a0, %a1;
        rcp.rn.f32 %d1, %a1;
        abs.f32 %r1, %a1;
        sqrt.rn.f32 %d2, %r1;"""
    return Vector("div_rcp_sqrt_rn_f32", body, [a, b], [div, rcp, root],
                  about="div.rn, rcp.rn, sqrt.rn")


def specials():
    """Infinities and NaNs in, NaNs out: the bounds are the same number, or both NaN."""
    inf, minus = 0x7F800000, 0xFF800000
    one, two = 0x3F800000, 0x40000000
    cases = [  # a, b, a + b, a * b, fma(a, b, a), min, max
        (inf, minus, NAN, minus, NAN, minus, inf), (inf, inf, inf, inf, inf, inf, inf),
        (inf, 0, inf, NAN, NAN, 0, inf), (NAN, one, NAN, NAN, NAN, one, one),
        (one, 0xFFC00001, NAN, NAN, NAN, one, one), (NAN, NAN, NAN, NAN, NAN, NAN, NAN),
        (one, minus, minus, minus, minus, minus, one), (two, one, 0x40400000, two, 0x40800000, one,
                                                        two),
        (0x7F7FFFFF, 0x7F7FFFFF, inf, inf, inf, 0x7F7FFFFF, 0x7F7FFFFF),
    ]
    cases += [cases[-2]] * (32 - len(cases))
    columns = [[c[j] for c in cases] for j in range(7)]
    body = """add.rn.f32 %d0, %a0, %a1;
        mul.rn.f32 %d1, %a0, %a1;
        fma.rn.f32 %d2, %a0, %a1, %a0;
        min.f32 %d3, %a0, %a1;
        max.f32 %d4, %a0, %a1;"""
    return Vector("f32_special", body, columns[:2], columns[2:], low=columns[2:],
                  about="infinities and NaNs")


def comparisons():
    """Ordered comparisons are false with a NaN, unordered ones (.ltu and so on) true."""
    numbers = [0, 0x80000000, 0x3F800000, 0xBF800000, 0x7F800000, 0xFF800000, NAN, 0x00000001]
    a = [x for x in numbers for _ in numbers]
    b = numbers * len(numbers)
    tests = {"eq": lambda x, y: x == y, "ne": lambda x, y: x != y, "lt": lambda x, y: x < y,
             "le": lambda x, y: x <= y, "gt": lambda x, y: x > y, "ge": lambda x, y: x >= y}

    def value(w):
        if is_infinite(F32, w):
            return Decimal("-Infinity") if w >> 31 else Decimal("Infinity")
        exact = decode(F32, w)
        return Decimal(exact.numerator) / Decimal(exact.denominator)

    lines, out = [], []
    for name, test in tests.items():
        for suffix, otherwise in (("", 0), ("u", 1)):
            lines += [f"setp.{name}{suffix}.f32 %p0, %a0, %a1;",
                      f"selp.u32 %d{len(out)}, 1, 0, %p0;"]
            out.append([otherwise if is_nan(F32, x) or is_nan(F32, y) else
                        int(test(value(x), value(y))) for x, y in zip(a, b)])
    for name, wanted in (("num", 0), ("nan", 1)):
        lines += [f"setp.{name}.f32 %p0, %a0, %a1;", f"selp.u32 %d{len(out)}, 1, 0, %p0;"]
        out.append([int((is_nan(F32, x) or is_nan(F32, y)) == wanted) for x, y in zip(a, b)])
    return Vector("setp_f32", "\n".join(lines), [a, b], out, about="setp.f32, all comparisons")


def float_vectors():
    out = []
    for mode in ("rn", "rz", "rm", "rp"):
        out += arithmetic(mode)
    return out + arithmetic("rn", True) + [quotients(), specials(), comparisons()]


# --- approximations -----------------------------------------------------------------------------

def real(word):
    exact = decode(F32, word)
    return Decimal(exact.numerator) / Decimal(exact.denominator)


def bounds(values, relative):
    """F32 numbers around each value, `relative` of it away, rounded outwards."""
    low, high = [], []
    for value in values:
        exact = Fraction(value)
        slack = abs(exact) * relative
        low.append(encode(F32, exact - slack, "rm"))
        high.append(encode(F32, exact + slack, "rp"))
    return low, high


def approximation(opcode, words, function, relative, exact=()):
    """exact: (input, output) pairs that the ISA tabulates."""
    words = [w for w in words if w not in dict(exact)]
    low, high = bounds([function(real(w)) for w in words], relative)
    for w, result in exact:
        words.append(w)
        low.append(result)
        high.append(result)
    fill = -len(words) % 32
    words, low, high = words + words[:fill], low + low[:fill], high + high[:fill]
    return Vector(opcode.replace(".", "_"), f"{opcode} %d0, %a0;", [words], [high], low=[low],
                  about=f"{opcode}, relative error below {float(relative):.2g}")


def approximate_vectors():
    """The ISA bounds: ex2 2 ulp, rcp and sqrt 1 ulp, rsqrt 2^-22.9, lg2 2^-22 absolute or 2 ulp
    (older editions: ex2 2^-22 relative and so on); a little more is allowed here."""
    inf, minus = 0x7F800000, 0xFF800000
    pick = chooser("approximate")
    small = [pick.getrandbits(1) << 31 | pick.randint(100, 132) << 23 | pick.getrandbits(23)
             for _ in range(80)]
    small = [w for w in small if abs(real(w)) < 120]
    positive = [pick.randint(2, 252) << 23 | pick.getrandbits(23) for _ in range(64)]
    two_ulp, one_ulp = Fraction(1, 1 << 22), Fraction(1, 1 << 23)
    ln2 = Decimal(2).ln()
    return [
        approximation("ex2.approx.ftz.f32", small + [0x3F800000, 0xC2FC0000], lambda x: 2 ** x,
                      2 * one_ulp + one_ulp,
                      [(0, 0x3F800000), (0x80000000, 0x3F800000), (inf, inf), (minus, 0),
                       (NAN, NAN), (0x80000001, 0x3F800000), (0xC3200000, 0), (0x43200000, inf)]),
        approximation("rcp.approx.ftz.f32", positive, lambda x: 1 / x, two_ulp,
                      [(inf, 0), (minus, 0x80000000), (0, inf), (0x80000000, minus),
                       (1, inf), (0x80000001, minus), (NAN, NAN)]),
        approximation("rsqrt.approx.ftz.f32", positive, lambda x: 1 / x.sqrt(), two_ulp,
                      [(inf, 0), (minus, NAN), (0, inf), (0x80000000, minus), (1, inf),
                       (0xBF800000, NAN), (NAN, NAN)]),
        approximation("sqrt.approx.ftz.f32", positive, lambda x: x.sqrt(), two_ulp,
                      [(inf, inf), (minus, NAN), (0, 0), (0x80000000, 0x80000000), (1, 0),
                       (0xBF800000, NAN), (NAN, NAN)]),
        # Away from 1, where the error is absolute.
        approximation("lg2.approx.ftz.f32", [w for w in positive if not 125 <= w >> 23 <= 128],
                      lambda x: x.ln() / ln2, two_ulp,
                      [(inf, inf), (0, minus), (0x80000000, minus), (0xBF800000, NAN),
                       (NAN, NAN)]),
    ]
