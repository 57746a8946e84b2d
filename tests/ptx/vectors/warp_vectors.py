"""shfl, vote, match and redux, by the pseudo-code of the PTX ISA."""

from vector import Vector, chooser

LANES = 32


def shuffle(mode):
    """Every warp has its own b and c; c is the clamp value in bits 0-4 and the segment mask in
    bits 8-12."""
    opcode = f"shfl.sync.{mode}.b32"
    pick = chooser(opcode)
    clamp = 0 if mode == "up" else 31
    settings = [(b, (32 - width) << 8 | clamp)
                for width in (32, 8) for b in (0, 1, 5, 31) if b < width]
    settings += [(33, clamp), (5, 0x1000 | 11)]  # b beyond 31: its low five bits; an odd clamp
    source = [pick.getrandbits(32) for _ in range(LANES * len(settings))]
    bs, cs, data, valid = [], [], [], []
    for warp, (b, c) in enumerate(settings):
        for lane in range(LANES):
            bval, cval, mask = b & 31, c & 31, c >> 8 & 31
            max_lane = (lane & mask) | (cval & ~mask & 31)
            min_lane = lane & mask
            if mode == "up":
                j = lane - bval
                inside = j >= max_lane
            elif mode == "down":
                j = lane + bval
                inside = j <= max_lane
            elif mode == "bfly":
                j = lane ^ bval
                inside = j <= max_lane
            else:
                j = min_lane | (bval & ~mask & 31)
                inside = j <= max_lane
            bs.append(b)
            cs.append(c)
            data.append(source[warp * LANES + (j if inside else lane)])
            valid.append(int(inside))
    body = f"""{opcode} %d0|%p0, %a0, %a1, %a2, 0xffffffff;
        selp.u32 %d1, 1, 0, %p0;"""
    return Vector(f"shfl_{mode}", body, [source, bs, cs], [data, valid], about=opcode)


def shuffle_own_b():
    """idx with a source lane that differs from lane to lane."""
    pick = chooser("shfl own b")
    source = [pick.getrandbits(32) for _ in range(LANES)]
    b = [pick.randrange(LANES) for _ in range(LANES)]
    return Vector("shfl_idx_gather", "shfl.sync.idx.b32 %d0, %a0, %a1, 31, 0xffffffff;",
                  [source, b], [[source[x] for x in b]], about="shfl.sync.idx, a lane each")


def shuffle_half():
    """The lower half of the warp alone; the others write what they held before."""
    pick = chooser("shfl half")
    source = [pick.getrandbits(32) for _ in range(LANES)]
    out = [source[t ^ 3] if t < 16 else 7 for t in range(LANES)]
    body = """mov.u32 %d0, 7;
        setp.ge.u32 %p0, %r0, 16;
        @%p0 bra SKIP;
        shfl.sync.bfly.b32 %d0, %a0, 3, 31, 0x0000ffff;
        SKIP:"""
    return Vector("shfl_half_warp", body, [source], [out], about="membermask 0xffff")


def vote(pattern_name, patterns):
    """patterns: a bit for each lane, a warp each."""
    bits, votes = [], [[], [], [], []]
    for pattern in patterns:
        for lane in range(LANES):
            bits.append(pattern >> lane & 1)
            votes[0].append(int(pattern == 0xFFFFFFFF))
            votes[1].append(int(pattern != 0))
            votes[2].append(int(pattern in (0, 0xFFFFFFFF)))
            votes[3].append(pattern)
    body = """setp.ne.u32 %p0, %a0, 0;
        vote.sync.all.pred %p1, %p0, 0xffffffff;
        selp.u32 %d0, 1, 0, %p1;
        vote.sync.any.pred %p1, %p0, 0xffffffff;
        selp.u32 %d1, 1, 0, %p1;
        vote.sync.uni.pred %p1, %p0, 0xffffffff;
        selp.u32 %d2, 1, 0, %p1;
        vote.sync.ballot.b32 %d3, %p0, 0xffffffff;"""
    return Vector(f"vote_{pattern_name}", body, [bits], votes, about="all, any, uni, ballot")


def vote_half():
    """Lanes outside the membermask count as false in a ballot."""
    out = [0x0000AAAA if t < 16 else 0 for t in range(LANES)]
    body = """mov.u32 %d0, 0;
        setp.ge.u32 %p0, %r0, 16;
        @%p0 bra SKIP;
        setp.ne.u32 %p1, %a0, 0;
        vote.sync.ballot.b32 %d0, %p1, 0x0000ffff;
        SKIP:"""
    return Vector("vote_half_warp", body, [[t & 1 for t in range(LANES)]], [out],
                  about="ballot, membermask 0xffff")


def signed(x):
    return x - (1 << 32) if x >> 31 else x


def redux():
    pick = chooser("redux")
    source = [pick.getrandbits(32) for _ in range(LANES)]
    folds = {
        "add.u32": sum(source) & 0xFFFFFFFF,
        "add.s32": sum(source) & 0xFFFFFFFF,
        "min.u32": min(source),
        "max.u32": max(source),
        "min.s32": min(source, key=signed),
        "max.s32": max(source, key=signed),
    }
    conjunction, disjunction, parity = 0xFFFFFFFF, 0, 0
    for x in source:
        conjunction &= x | 0x00F0
        disjunction |= x & 0x0F0F
        parity ^= x
    lines = [f"redux.sync.{name} %d{i}, %a0, 0xffffffff;" for i, name in enumerate(folds)]
    lines += ["or.b32 %r1, %a0, 0x00f0;", "redux.sync.and.b32 %d6, %r1, 0xffffffff;",
              "and.b32 %r1, %a0, 0x0f0f;", "redux.sync.or.b32 %d7, %r1, 0xffffffff;",
              "redux.sync.xor.b32 %d8, %a0, 0xffffffff;"]
    values = list(folds.values()) + [conjunction, disjunction, parity]
    return Vector("redux", "\n".join(lines), [source], [[v] * LANES for v in values],
                  about="redux.sync: " + ", ".join(list(folds) + ["and", "or", "xor"]))


def warp_vectors():
    pick = chooser("vote")
    patterns = [0, 0xFFFFFFFF, 1, 0x80000000, 0xFFFF0000, pick.getrandbits(32)]
    return [shuffle(m) for m in ("up", "down", "bfly", "idx")] + [
        shuffle_own_b(), shuffle_half(), vote("patterns", patterns), vote_half(), redux()]
