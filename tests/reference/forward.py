"""A Llama forward pass in plain Python, in float64, for F32 files: a second opinion that can be set
wrong on purpose. With `Settings()` its stages match the reference; every other setting is a mistake
that engines have made, and the comparison must see it."""

import array
import math
import struct
from dataclasses import dataclass

GGUF_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
GGUF_STRING, GGUF_ARRAY = 8, 9


class Gguf:
    """Key-values and F32 tensors of a GGUF file."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.bytes = f.read()
        self.at = 0
        magic, version, n_tensors, n_kv = self.take("<IIQQ")
        if magic != 0x46554747 or version not in (2, 3):
            raise ValueError(f"{path}: not a GGUF")
        self.kv = {self.text(): self.value(self.take("<I")[0]) for _ in range(n_kv)}
        headers = [self.header() for _ in range(n_tensors)]
        alignment = self.kv.get("general.alignment", 32)
        start = (self.at + alignment - 1) // alignment * alignment
        self.tensors = {}
        for name, dims, kind, offset in headers:
            if kind != 0:
                raise ValueError(f"{name} is not F32")
            size = 4 * math.prod(dims)
            values = array.array("f", self.bytes[start + offset : start + offset + size])
            cols = dims[0]
            self.tensors[name] = [list(values[i : i + cols]) for i in range(0, len(values), cols)]

    def take(self, layout):
        values = struct.unpack_from(layout, self.bytes, self.at)
        self.at += struct.calcsize(layout)
        return values

    def text(self):
        (n,) = self.take("<Q")
        self.at += n
        return self.bytes[self.at - n : self.at].decode("utf-8", "replace")

    def value(self, kind):
        if kind == GGUF_STRING:
            return self.text()
        if kind == GGUF_ARRAY:
            element, n = self.take("<IQ")
            return [self.value(element) for _ in range(n)]
        return self.take("<" + GGUF_SCALARS[kind])[0]

    def header(self):
        name = self.text()
        (n,) = self.take("<I")
        dims = self.take(f"<{n}Q")
        return name, dims, *self.take("<IQ")


@dataclass
class Settings:
    eps: float = None  # None: the file's
    score_scale: str = "1/sqrt(d)"
    post_norm: bool = False
    neox_pairs: bool = False
    start: int = 0  # position of the first token
    last_position: int = None  # position of the last token, if it is not the next
    rope_on_v: bool = False
    causal: bool = True
    kv_head_modulo: bool = False  # query head h reads KV head h % n instead of h // group
    swap_kv: bool = False
    no_output_projection: bool = False
    silu_on_up: bool = False
    one_residual: bool = False
    no_final_norm: bool = False


def product(matrix, x):
    return [sum(map(float.__mul__, row, x)) for row in matrix]


def add(a, b):
    return [x + y for x, y in zip(a, b)]


def norm(x, weight, eps):
    scale = 1.0 / math.sqrt(sum(v * v for v in x) / len(x) + eps)
    return [v * scale * w for v, w in zip(x, weight)]


def silu(v):
    return v / (1.0 + math.exp(-v))


def rope(values, position, head_dim, base, neox):
    out = list(values)
    half = head_dim // 2
    for start in range(0, len(values), head_dim):
        for i in range(half):
            theta = position * base ** (-2.0 * i / head_dim)
            a, b = (start + i, start + i + half) if neox else (start + 2 * i, start + 2 * i + 1)
            out[a] = values[a] * math.cos(theta) - values[b] * math.sin(theta)
            out[b] = values[a] * math.sin(theta) + values[b] * math.cos(theta)
    return out


class Llama:
    def __init__(self, path):
        gguf = Gguf(path)
        kv = {k.removeprefix("llama."): v for k, v in gguf.kv.items()}
        self.w = gguf.tensors
        self.layers = kv["block_count"]
        self.dim = kv["embedding_length"]
        self.heads = kv["attention.head_count"]
        self.kv_heads = kv.get("attention.head_count_kv", self.heads)
        self.head_dim = self.dim // self.heads
        self.eps = kv["attention.layer_norm_rms_epsilon"]
        self.base = kv.get("rope.freq_base", 10000.0)

    def attend(self, s, q, keys, values, last):
        """One row's heads and its softmax weights, a list for each head."""
        d = self.head_dim
        scale = {"1/sqrt(d)": 1 / math.sqrt(d), "1/d": 1 / d, "1": 1.0}[s.score_scale]
        out, all_weights = [], []
        n = last + 1 if s.causal else len(keys)
        for h in range(self.heads):
            group = self.heads // self.kv_heads
            at = (h % self.kv_heads if s.kv_head_modulo else h // group) * d
            mine = q[h * d : (h + 1) * d]
            scores = [sum(map(float.__mul__, mine, k[at : at + d])) * scale for k in keys[:n]]
            top = max(scores)
            weights = [math.exp(x - top) for x in scores]
            total = sum(weights)
            weights = [w / total for w in weights]
            all_weights.append(weights)
            out += [sum(w * v[at + e] for w, v in zip(weights, values)) for e in range(d)]
        return out, all_weights

    def forward(self, tokens, settings=Settings()):
        """{stage name: values} as index.tsv names them."""
        s, rows = settings, range(len(tokens))
        eps = self.eps if s.eps is None else s.eps
        stages = {}

        def keep(name, per_row):
            stages[name] = array.array("f", [v for row in per_row for v in row])

        positions = [s.start + i for i in rows]
        if s.last_position is not None:
            positions[-1] = s.last_position
        x = [self.w["token_embd.weight"][t] for t in tokens]
        for n in range(self.layers):
            def w(name):
                return self.w[f"blk.{n}.{name}.weight"]

            pre = not s.post_norm
            h = [norm(x[i], w("attn_norm")[0], eps) if pre else x[i] for i in rows]
            keep(f"attn_norm-{n}", h)
            q, k, v = ([product(w(name), h[i]) for i in rows] for name in ("attn_q", "attn_k", "attn_v"))
            if s.swap_kv:
                k, v = v, k
            for name, values in (("q", q), ("k", k), ("v", v)):
                keep(f"{name}-{n}", values)

            def turn(values):
                return [rope(values[i], positions[i], self.head_dim, self.base, s.neox_pairs) for i in rows]

            q, k, v = turn(q), turn(k), turn(v) if s.rope_on_v else v
            keep(f"q_rope-{n}", q)
            keep(f"k_rope-{n}", k)
            attended = [self.attend(s, q[i], k, v, i) for i in rows]
            padding = [0.0] * 256
            stages[f"attn_weights-{n}"] = array.array(
                "f", [v for head in range(self.heads) for i in rows for v in (attended[i][1][head] + padding)[:256]]
            )
            heads = [a[0] for a in attended]
            keep(f"attn_heads-{n}", heads)
            out = heads if s.no_output_projection else [product(w("attn_output"), heads[i]) for i in rows]
            keep(f"attn_out-{n}", out)
            x = [add(x[i], out[i]) for i in rows]
            if s.post_norm:
                x = [norm(x[i], w("attn_norm")[0], eps) for i in rows]
            keep(f"ffn_inp-{n}", x)
            h = [norm(x[i], w("ffn_norm")[0], eps) if pre else x[i] for i in rows]
            keep(f"ffn_norm-{n}", h)
            gate, up = ([product(w(name), h[i]) for i in rows] for name in ("ffn_gate", "ffn_up"))
            keep(f"ffn_gate-{n}", gate)
            keep(f"ffn_up-{n}", up)
            a, b = (up, gate) if s.silu_on_up else (gate, up)
            swiglu = [[silu(g) * u for g, u in zip(a[i], b[i])] for i in rows]
            keep(f"ffn_swiglu-{n}", swiglu)
            out = [product(w("ffn_down"), swiglu[i]) for i in rows]
            keep(f"ffn_out-{n}", out)
            x = out if s.one_residual else [add(x[i], out[i]) for i in rows]
            if s.post_norm:
                x = [norm(x[i], w("ffn_norm")[0], eps) for i in rows]
            keep(f"block_out-{n}", x)
        final = x if s.no_final_norm else [norm(row, self.w["output_norm.weight"][0], eps) for row in x]
        keep("final_norm", final)
        head = self.w.get("output.weight", self.w["token_embd.weight"])
        keep("logits", [product(head, row) for row in final])
        return stages


# name, what is wrong, the checkpoints whose comparison must fail
MISTAKES = [
    ("eps 1e-6 for 1e-5", dict(eps=1e-6), ["1"]),
    ("post-norm for pre-norm", dict(post_norm=True), ["1", "7", "8"]),
    ("halves as rotated pairs", dict(neox_pairs=True), ["1B", "4"]),
    ("start_pos off by one", dict(start=1), ["1B"]),
    ("last position restarts at 1", dict(last_position=1), ["1B", "4", "8"]),
    ("RoPE on V too", dict(rope_on_v=True), ["5"]),
    ("K and V swapped", dict(swap_kv=True), ["2", "4"]),
    ("scores over head_dim", dict(score_scale="1/d"), ["4", "5"]),
    ("scores not scaled", dict(score_scale="1"), ["4", "5"]),
    ("no causal mask", dict(causal=False), ["4", "5"]),
    ("query heads on the wrong KV head", dict(kv_head_modulo=True), ["4", "5"]),
    ("no output projection", dict(no_output_projection=True), ["5", "7"]),
    ("silu on up", dict(silu_on_up=True), ["6"]),
    ("no residual around the FFN", dict(one_residual=True), ["7"]),
    ("no final norm", dict(no_final_norm=True), ["8"]),
]
