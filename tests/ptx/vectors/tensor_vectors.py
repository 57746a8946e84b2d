"""mma, ldmatrix, movmatrix and cp.async, each layout written out as the PTX ISA document has it:
section "Matrix Fragments for mma.mMnNkK", one function for each shape and type, nothing shared."""

from rounding import bf16, f16, f32, tf32
from vector import Vector, chooser

LANES = 32


# --- fragments: (row, column) of element i that the lane of this group and thread holds ---------

def a_m16n8k8_16(group, thread, i):
    row = group if i in (0, 1) else group + 8
    return row, thread * 2 + (i & 1)


def b_m16n8k8_16(group, thread, i):
    return thread * 2 + i, group


def a_m16n8k16_16(group, thread, i):
    row = group if 0 <= i < 2 or 4 <= i < 6 else group + 8
    column = thread * 2 + (i & 1)
    return row, column if i < 4 else column + 8


def b_m16n8k16_16(group, thread, i):
    row = thread * 2 + (i & 1)
    return row if i < 2 else row + 8, group


def a_m16n8k4_32(group, thread, i):
    return group if i == 0 else group + 8, thread


def b_m16n8k4_32(group, thread, _):
    return thread, group


def a_m16n8k8_32(group, thread, i):
    row = group if i in (0, 2) else group + 8
    return row, thread if i in (0, 1) else thread + 4


def b_m16n8k8_32(group, thread, i):
    return thread if i == 0 else thread + 4, group


def a_m16n8k16_8(group, thread, i):
    return group if i < 4 else group + 8, thread * 4 + (i & 3)


def b_m16n8k16_8(group, thread, i):
    return thread * 4 + i, group


def a_m16n8k32_8(group, thread, i):
    row = group if 0 <= i < 4 or 8 <= i < 12 else group + 8
    column = thread * 4 + (i & 3)
    return row, column if i < 8 else column + 16


def b_m16n8k32_8(group, thread, i):
    row = thread * 4 + (i & 3)
    return row if i < 4 else row + 16, group


def c_fragment(group, thread, i):
    row = group if i < 2 else group + 8
    return row, thread * 2 + (i & 1)


LAYOUTS = {  # (k, bits of an element)
    (8, 16): (a_m16n8k8_16, 4, b_m16n8k8_16, 2),
    (16, 16): (a_m16n8k16_16, 8, b_m16n8k16_16, 4),
    (4, 32): (a_m16n8k4_32, 2, b_m16n8k4_32, 1),
    (8, 32): (a_m16n8k8_32, 4, b_m16n8k8_32, 2),
    (16, 8): (a_m16n8k16_8, 8, b_m16n8k16_8, 4),
    (32, 8): (a_m16n8k32_8, 16, b_m16n8k32_8, 8),
}

# name: (bits, to bits of a whole number, least, most)
TYPES = {
    "f16": (16, f16, -9, 9),
    "bf16": (16, bf16, -9, 9),
    "tf32": (32, tf32, -9, 9),
    "f32": (32, f32, -99, 99),
    "s8": (8, lambda x: x & 0xFF, -128, 127),
    "u8": (8, lambda x: x & 0xFF, 0, 255),
    "s32": (32, lambda x: x & 0xFFFFFFFF, -99999, 99999),
}


def registers(fragment, elements, bits, matrix, encode):
    """The registers of an operand, each a column of 32 lanes; low elements in low bits."""
    columns = []
    per_register = 32 // bits
    for first in range(0, elements, per_register):
        column = []
        for lane in range(LANES):
            word = 0
            for i in range(per_register):
                row, col = fragment(lane >> 2, lane % 4, first + i)
                word |= encode(matrix[row][col]) << (bits * i)
            column.append(word)
        columns.append(column)
    return columns


def braces(letter, first, count):
    return "{" + ", ".join(f"%{letter}{first + i}" for i in range(count)) + "}"


def mma(k, d, a, b, c, satfinite=False):
    """Whole numbers, whose sums are exact in any order."""
    modifier = ".satfinite" if satfinite else ""
    opcode = f"mma.sync.aligned.m16n8k{k}.row.col{modifier}.{d}.{a}.{b}.{c}"
    pick = chooser(opcode)
    bits, to_a, least, most = TYPES[a]
    left = [[pick.randint(least, most) for _ in range(k)] for _ in range(16)]
    _, to_b, least, most = TYPES[b]
    right = [[pick.randint(least, most) for _ in range(8)] for _ in range(k)]
    c_bits, to_c, least, most = TYPES[c]
    if satfinite:
        start = [[pick.choice((0x7FFFFFFF, -0x80000000, 5)) for _ in range(8)] for _ in range(16)]
    else:
        start = [[pick.randint(least, most) for _ in range(8)] for _ in range(16)]
    total = [[start[m][n] + sum(left[m][x] * right[x][n] for x in range(k)) for n in range(8)]
             for m in range(16)]
    if satfinite:
        total = [[max(-0x80000000, min(0x7FFFFFFF, x)) for x in row] for row in total]

    a_fragment, a_elements, b_fragment, b_elements = LAYOUTS[k, bits]
    a_columns = registers(a_fragment, a_elements, bits, left, to_a)
    b_columns = registers(b_fragment, b_elements, bits, right, to_b)
    c_columns = registers(c_fragment, 4, c_bits, start, to_c)
    d_columns = registers(c_fragment, 4, TYPES[d][0], total, TYPES[d][1])
    na, nb, nc = len(a_columns), len(b_columns), len(c_columns)
    body = (f"{opcode} {braces('d', 0, len(d_columns))}, {braces('a', 0, na)}, "
            f"{braces('a', na, nb)}, {braces('a', na + nb, nc)};")
    name = f"m16n8k{k}_{d}_{a}_{b}" + ("_satfinite" if satfinite else "")
    return Vector(name, body, a_columns + b_columns + c_columns, d_columns, about=opcode)


def mma_special():
    """Infinity times zero, and a NaN in C: one row and one column of D each are spoilt."""
    opcode = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
    infinity = 0x7C00
    left = [[f16(1)] * 16 for _ in range(16)]
    left[3][5] = infinity
    right = [[f16(2)] * 8 for _ in range(16)]
    right[5][6] = f16(0)
    start = [[f32(1)] * 8 for _ in range(16)]
    start[9][1] = 0x7FFFFFFF
    total = [[f32(33)] * 8 for _ in range(16)]
    total[3] = [0x7F800000] * 8
    total[3][6] = 0x7FFFFFFF
    total[9][1] = 0x7FFFFFFF
    for m in range(16):
        if m != 3:
            total[m][6] = f32(31)
    same = lambda x: x
    a = registers(a_m16n8k16_16, 8, 16, left, same)
    b = registers(b_m16n8k16_16, 4, 16, right, same)
    c = registers(c_fragment, 4, 32, start, same)
    d = registers(c_fragment, 4, 32, total, same)
    body = (f"{opcode} {braces('d', 0, 4)}, {braces('a', 0, 4)}, {braces('a', 4, 2)}, "
            f"{braces('a', 6, 4)};")
    return Vector("m16n8k16_f16_special", body, a + b + c, d, low=d,
                  about="infinity, infinity times zero, NaN")


def mma_wide():
    """Numbers of many sizes. Any order of at least single precision, each step rounded or cut,
    lies within 17 steps of 2^-22 of the sum of magnitudes (16 products, one accumulator)."""
    from fractions import Fraction
    from rounding import F16, F32, decode, encode
    opcode = "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
    pick = chooser(opcode + " wide")
    half = lambda: encode(F16, Fraction(pick.randint(-2047, 2047), 1 << pick.randint(5, 20)))
    left = [[half() for _ in range(16)] for _ in range(16)]
    right = [[half() for _ in range(8)] for _ in range(16)]
    start = [[encode(F32, Fraction(pick.randint(-9999999, 9999999), 1 << pick.randint(10, 40)))
              for _ in range(8)] for _ in range(16)]
    low = [[0] * 8 for _ in range(16)]
    high = [[0] * 8 for _ in range(16)]
    for m in range(16):
        for n in range(8):
            terms = [decode(F16, left[m][x]) * decode(F16, right[x][n]) for x in range(16)]
            terms.append(decode(F32, start[m][n]))
            slack = sum(abs(t) for t in terms) * 17 / Fraction(1 << 22)
            low[m][n] = encode(F32, sum(terms) - slack, "rm")
            high[m][n] = encode(F32, sum(terms) + slack, "rp")
    same = lambda x: x
    columns = (registers(a_m16n8k16_16, 8, 16, left, same) +
               registers(b_m16n8k16_16, 4, 16, right, same) +
               registers(c_fragment, 4, 32, start, same))
    body = (f"{opcode} {braces('d', 0, 4)}, {braces('a', 0, 4)}, {braces('a', 4, 2)}, "
            f"{braces('a', 6, 4)};")
    return Vector("m16n8k16_f16_wide", body, columns,
                  registers(c_fragment, 4, 32, high, same),
                  low=registers(c_fragment, 4, 32, low, same), about="sums that are not exact")


def mma_vectors():
    return [mma(8, "f32", "f16", "f16", "f32"), mma(16, "f32", "f16", "f16", "f32"),
            mma(16, "f16", "f16", "f16", "f16"), mma(8, "f32", "bf16", "bf16", "f32"),
            mma(16, "f32", "bf16", "bf16", "f32"), mma(4, "f32", "tf32", "tf32", "f32"),
            mma(8, "f32", "tf32", "tf32", "f32"), mma(16, "s32", "s8", "s8", "s32"),
            mma(32, "s32", "s8", "s8", "s32"), mma(32, "s32", "u8", "s8", "s32"),
            mma(16, "s32", "s8", "u8", "s32"), mma(32, "s32", "s8", "s8", "s32", True),
            mma_special(), mma_wide()]


# --- ldmatrix -----------------------------------------------------------------------------------

ROW_STRIDE = 48  # bytes: rows need not be neighbours


def ldmatrix(matrices, trans):
    """Matrix j has its eight row addresses in lanes 8j to 8j + 7; lane l receives elements
    2 (l % 4) and the next of row l / 4, or of column l / 4 with .trans."""
    opcode = f"ldmatrix.sync.aligned.m8n8.x{matrices}{'.trans' if trans else ''}.shared.b16"
    pick = chooser(opcode)
    words = [[pick.getrandbits(32) for _ in range(LANES)] for _ in range(12)]
    memory = b"".join(words[j][t].to_bytes(4, "little") for j in range(12) for t in range(LANES))
    order = list(range(LANES))
    pick.shuffle(order)
    offsets = [row * ROW_STRIDE for row in order]
    out = []
    for j in range(matrices):
        rows = [memory[offsets[8 * j + r]:offsets[8 * j + r] + 16] for r in range(8)]
        element = [[int.from_bytes(row[2 * c:2 * c + 2], "little") for c in range(8)]
                   for row in rows]
        column = []
        for lane in range(LANES):
            i, k = lane // 4, 2 * (lane % 4)
            pair = (element[k][i], element[k + 1][i]) if trans else (element[i][k],
                                                                     element[i][k + 1])
            column.append(pair[0] | pair[1] << 16)
        out.append(column)
    stores = "\n".join(f"st.shared.u32 [%r2+{128 * j}], %a{j};" for j in range(12))
    body = f"""mov.u32 %r1, space;
        shl.b32 %r2, %r0, 2;
        add.u32 %r2, %r2, %r1;
        {stores}
        bar.sync 0;
        add.u32 %r3, %r1, %a12;
        {opcode} {braces('d', 0, matrices)}, [%r3];"""
    name = f"ldmatrix_x{matrices}" + ("_trans" if trans else "")
    return Vector(name, body, words + [offsets], out, shared=12 * 4 * LANES, about=opcode)


def movmatrix_vectors():
    opcode = "movmatrix.sync.aligned.m8n8.trans.b16"
    pick = chooser(opcode)
    element = [[pick.getrandbits(16) for _ in range(8)] for _ in range(8)]
    source = [element[l // 4][2 * (l % 4)] | element[l // 4][2 * (l % 4) + 1] << 16
              for l in range(LANES)]
    out = [element[2 * (l % 4)][l // 4] | element[2 * (l % 4) + 1][l // 4] << 16
           for l in range(LANES)]
    return [Vector("movmatrix", f"{opcode} %d0, %a0;", [source], [out], about=opcode)]


def matrix_vectors():
    return [ldmatrix(n, trans) for n in (1, 2, 4) for trans in (False, True)]


# --- cp.async -----------------------------------------------------------------------------------

def copies(cache, size, with_source_size):
    """Each thread copies `size` bytes from a place of its own to another; bytes from the source
    size on are zeros. All are read back in order."""
    opcode = f"cp.async.{cache}.shared.global"
    name = f"cp_async_{cache}_{size}" + ("_zero_fill" if with_source_size else "")
    pick = chooser(name)
    words = size // 4
    extra = [pick.getrandbits(32) for _ in range(words * LANES)]
    memory = b"".join(w.to_bytes(4, "little") for w in extra)
    sources, targets = list(range(LANES)), list(range(LANES))
    pick.shuffle(sources)
    pick.shuffle(targets)
    lengths = [pick.randint(0, size) for _ in range(LANES)]
    if not with_source_size:
        lengths = [size] * LANES
    shared = bytearray(size * LANES)
    for t in range(LANES):
        data = memory[sources[t] * size:sources[t] * size + lengths[t]]
        shared[targets[t] * size:targets[t] * size + size] = data + bytes(size - lengths[t])
    out = [[int.from_bytes(shared[t * size + 4 * j:t * size + 4 * j + 4], "little")
            for t in range(LANES)] for j in range(words)]
    operands = f"[%r1], [%rd5], {size}" + (", %a2" if with_source_size else "")
    reads = "\n".join(f"ld.shared.u32 %d{j}, [%r3+{4 * j}];" for j in range(words))
    body = f"""mov.u32 %r2, space;
        add.u32 %r1, %r2, %a1;
        cvt.u64.u32 %rd6, %a0;
        add.u64 %rd5, %rd0, %rd6;
        {opcode} {operands};
        cp.async.commit_group;
        cp.async.wait_group 0;
        bar.sync 0;
        mad.lo.u32 %r3, %r0, {size}, %r2;
        {reads}"""
    base = 3 * 4 * LANES  # of the data in `in`
    return Vector(name, body, [[base + s * size for s in sources], [t * size for t in targets],
                               lengths],
                  out, shared=size * LANES, extra=extra, about=f"{opcode}, {size} bytes")


def groups():
    """Three groups; with one of them still under way the two older ones have landed."""
    pick = chooser("cp.async groups")
    extra = [pick.getrandbits(32) for _ in range(3 * LANES)]
    out = [extra[0:LANES], extra[LANES:2 * LANES], extra[2 * LANES:]]
    body = f"""mov.u32 %r2, space;
        shl.b32 %r1, %r0, 2;
        add.u32 %r1, %r1, %r2;
        cvt.u64.u32 %rd6, %a0;
        add.u64 %rd5, %rd0, %rd6;
        cp.async.ca.shared.global [%r1], [%rd5], 4;
        cp.async.commit_group;
        cp.async.ca.shared.global [%r1+{4 * LANES}], [%rd5+{4 * LANES}], 4;
        cp.async.commit_group;
        cp.async.ca.shared.global [%r1+{8 * LANES}], [%rd5+{8 * LANES}], 4;
        cp.async.commit_group;
        cp.async.wait_group 1;
        ld.shared.u32 %d0, [%r1];
        ld.shared.u32 %d1, [%r1+{4 * LANES}];
        cp.async.wait_all;
        ld.shared.u32 %d2, [%r1+{8 * LANES}];"""
    return Vector("cp_async_groups", body, [[4 * LANES + 4 * t for t in range(LANES)]], out,
                  shared=12 * LANES, extra=extra, about="cp.async.wait_group 1")


def async_vectors():
    return [copies("ca", 4, False), copies("ca", 8, False), copies("ca", 16, False),
            copies("cg", 16, False), copies("ca", 4, True), copies("ca", 8, True),
            copies("cg", 16, True), groups()]
