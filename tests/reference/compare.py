"""Numbers against numbers: checkpoint tensors, reference.tsv tables, distributions.

A stage is a list of float32 values (array('f')) under the name it has in index.tsv. The tolerances
are the worker contract's: largest absolute difference on an F32 model."""

import array
import math
import os

# checkpoint, its stages (one of each layer, unless FINAL), tolerance
CHECKPOINTS = [
    ("1", "RMSNorm", ["attn_norm", "ffn_norm"], 1e-5),
    ("1B", "RoPE on Q and K", ["q_rope", "k_rope"], 1e-5),
    ("2", "Q, K, V", ["q", "k", "v"], 1e-4),
    ("4", "softmax(Q K^T / sqrt(head_dim))", ["attn_weights"], 1e-4),
    ("5", "attention output", ["attn_heads", "attn_out"], 1e-4),
    ("6", "SwiGLU FFN", ["ffn_gate", "ffn_up", "ffn_swiglu", "ffn_out"], 1e-4),
    ("7", "one block", ["ffn_inp", "block_out"], 1e-4),
    ("8", "final norm and head", ["final_norm", "logits"], 1e-3),
]
FINAL = ("final_norm", "logits")

LOGIT_TOLERANCE = 1e-3

# llama.cpp's own mean KL from the exact evaluation of tales-4m, over the 82 positions of prompt1.
# Types it was not measured for take the figure of the nearest format.
KL_BOUND = {
    "F16": 7.2e-5,  # Q8_0
    "BF16": 7.2e-5,  # Q8_0
    "Q8_0": 7.2e-5,
    "Q4_0": 7.0e-5,
    "Q4_1": 7.0e-5,  # Q4_0
    "IQ4_NL": 7.0e-5,  # Q4_0
    "Q5_0": 9.6e-5,
    "Q5_1": 9.6e-5,  # Q5_0
    "Q6_K": 2.7e-4,
    "Q5_K_M": 2.7e-4,  # Q6_K
    "Q4_K_M": 2.7e-4,
    "Q3_K_M": 2.7e-4,  # Q4_K_M
    "IQ4_XS": 2.6e-4,
    "Q2_K": 3.4e-4,
}


def is_unrounded(kind, isa):
    """Whether `isa` leaves the activations of such weights as they are. Tiles take bfloat16."""
    return kind == "F32" or kind in ("F16", "BF16") and not isa.startswith("amx")



def stages_read(directory):
    """{name: values} and {name: shape} of a directory with an index.tsv."""
    stages, shapes = {}, {}
    with open(os.path.join(directory, "index.tsv")) as index:
        for line in index:
            if line.startswith("#"):
                continue
            name, shape = line.split()
            with open(os.path.join(directory, name + ".f32"), "rb") as f:
                stages[name] = array.array("f", f.read())
            shapes[name] = tuple(int(d) for d in shape.split(","))
            if math.prod(shapes[name]) != len(stages[name]):
                raise AssertionError(f"{name}: {len(stages[name])} values for shape {shape}")
    return stages, shapes


def difference(a, b):
    """Largest absolute difference; infinite if they cannot be compared."""
    if a is None or b is None or len(a) != len(b):
        return math.inf
    worst = 0.0
    for x, y in zip(a, b):
        d = abs(x - y)
        if not d <= worst:  # a NaN is not
            worst = d if d == d else math.inf
    return worst


def checkpoint_names(checkpoint, n_layers):
    """The stage names of one row of CHECKPOINTS."""
    names = []
    for stage in checkpoint[2]:
        names += [stage] if stage in FINAL else [f"{stage}-{n}" for n in range(n_layers)]
    return names


def checkpoint_difference(checkpoint, stages, reference, n_layers):
    """(largest difference, the stage it is in)."""
    return max(
        (difference(stages.get(name), reference.get(name)), name)
        for name in checkpoint_names(checkpoint, n_layers)
    )


class Row:
    """A line of reference.tsv: the token that was fed, and the logits after it."""

    def __init__(self, line):
        kind, index, token, logsumexp, top = line.rstrip("\n").split("\t")
        self.kind, self.index, self.token = kind, int(index), int(token)
        self.logsumexp = float(logsumexp)
        self.top = [(int(i), float(x)) for i, x in (t.split(":") for t in top.split())]


def rows_parse(text):
    lines = text.splitlines()
    if not lines or not lines[0].startswith("# kind\t"):
        raise AssertionError("no head line")
    return [Row(line) for line in lines[1:]]


def tokens_of(rows, kind):
    return [row.token for row in rows if row.kind == kind]


def logits_difference(rows, reference):
    """The largest difference over every listed logit. An id that only one side lists is at most as
    large as the other side's smallest listed."""
    worst = 0.0
    for mine, theirs in zip(rows, reference):
        have = dict(mine.top)
        floor = mine.top[-1][1]
        for token, logit in theirs.top:
            worst = max(worst, abs(have[token] - logit) if token in have else logit - floor)
        worst = max(worst, abs(mine.logsumexp - theirs.logsumexp))
    return worst


def kl_listed(rows, reference):
    """Mean KL(reference || rows) over the tokens both list, all others as one."""
    total = 0.0
    for mine, theirs in zip(rows, reference):
        have = dict(mine.top)
        rest_p = rest_q = 1.0
        for token, logit in theirs.top:
            if token not in have:
                continue
            log_p, log_q = logit - theirs.logsumexp, have[token] - mine.logsumexp
            total += math.exp(log_p) * (log_p - log_q)
            rest_p -= math.exp(log_p)
            rest_q -= math.exp(log_q)
        if rest_p > 0.0 and rest_q > 0.0:
            total += rest_p * math.log(rest_p / rest_q)
    return total / len(reference)


def log_softmax(logits):
    top = max(logits)
    lse = top + math.log(sum(math.exp(x - top) for x in logits))
    return [x - lse for x in logits]


def kl_full(logits, reference, vocab):
    """Mean KL(reference || logits) over whole distributions, (rows, vocab) each."""
    if len(logits) != len(reference):
        return math.inf
    n = len(reference) // vocab
    total = 0.0
    for i in range(n):
        p = log_softmax(reference[i * vocab : (i + 1) * vocab])
        q = log_softmax(logits[i * vocab : (i + 1) * vocab])
        total += sum(math.exp(a) * (a - b) for a, b in zip(p, q))
    return total / n


def top1_agreement(rows, reference):
    """How many rows have the same likeliest token."""
    return sum(a.top[0][0] == b.top[0][0] for a, b in zip(rows, reference))
