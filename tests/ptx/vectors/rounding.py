"""IEEE 754 numbers in exact arithmetic: bits to rationals and back, with the rounding named."""

from fractions import Fraction

# (bits of the exponent, bits of the fraction)
F32, F16, BF16 = (8, 23), (5, 10), (8, 7)


def parts(form, bits):
    """(sign, biased exponent, fraction)"""
    exponent_bits, fraction_bits = form
    return (bits >> (exponent_bits + fraction_bits) & 1,
            bits >> fraction_bits & ((1 << exponent_bits) - 1),
            bits & ((1 << fraction_bits) - 1))


def is_nan(form, bits):
    _, exponent, fraction = parts(form, bits)
    return exponent == (1 << form[0]) - 1 and fraction != 0


def is_infinite(form, bits):
    _, exponent, fraction = parts(form, bits)
    return exponent == (1 << form[0]) - 1 and fraction == 0


def is_finite(form, bits):
    return parts(form, bits)[1] != (1 << form[0]) - 1


def is_subnormal(form, bits):
    _, exponent, fraction = parts(form, bits)
    return exponent == 0 and fraction != 0


def decode(form, bits):
    """The value of finite bits."""
    exponent_bits, fraction_bits = form
    sign, exponent, fraction = parts(form, bits)
    assert exponent != (1 << exponent_bits) - 1
    bias = (1 << (exponent_bits - 1)) - 1
    if exponent:
        fraction += 1 << fraction_bits
    value = Fraction(fraction) * Fraction(2) ** (max(exponent, 1) - bias - fraction_bits)
    return -value if sign else value


def whole(value, mode):
    """A rational to an integer: rn (ties to even), rz, rm (down), rp (up)."""
    floor = value.numerator // value.denominator
    rest = value - floor
    if rest == 0 or mode == "rm":
        return floor
    if mode == "rp":
        return floor + 1
    if mode == "rz":
        return floor if value > 0 else floor + 1
    assert mode == "rn"
    if rest * 2 == 1:
        return floor + (floor & 1)
    return floor + (rest * 2 > 1)


def encode(form, value, mode="rn", ftz=False, zero_sign=0):
    """Bits of a rational, rounded once. zero_sign: what a value of exactly 0 gets."""
    exponent_bits, fraction_bits = form
    bias = (1 << (exponent_bits - 1)) - 1
    top = exponent_bits + fraction_bits
    if value == 0:
        return zero_sign << top
    sign = int(value < 0)
    magnitude = abs(value)
    if mode in ("rm", "rp"):
        mode = "rz" if (mode == "rp") == bool(sign) else "rp"
    # The exponent of the leading bit, at least that of the smallest normal number.
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    smallest = 1 - bias
    if ftz and exponent < smallest:
        # Flushed before rounding: what a number rounds up to does not save it.
        return sign << top
    exponent = max(exponent, smallest)
    steps = whole(magnitude / Fraction(2) ** (exponent - fraction_bits), mode)
    # steps has fraction_bits + 1 bits, fewer if subnormal, one more after a carry.
    bits = ((exponent + bias - 1) << fraction_bits) + steps
    infinity = ((1 << exponent_bits) - 1) << fraction_bits
    if bits >= infinity:
        bits = infinity - 1 if mode == "rz" else infinity
    return sign << top | bits


def flush(form, bits):
    """A subnormal to the zero of its sign."""
    return bits & 1 << sum(form) if is_subnormal(form, bits) else bits


def f32(value, mode="rn"):
    return encode(F32, Fraction(value), mode)


def f16(value):
    return encode(F16, Fraction(value))


def bf16(value):
    return encode(BF16, Fraction(value))


def tf32(value):
    """The value must fit: TF32 is F32 with 10 bits of fraction."""
    bits = f32(value)
    assert bits & 0x1FFF == 0
    return bits
