#!/usr/bin/env python3
"""Writes the first inputs of each fuzz entry to tests/fuzz/corpus/ENTRY/: valid ones, small, so that
a fuzzer starts from what gets far. Run by hand when a format changes; the files are committed."""

import os
import struct

CORPUS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
U32, F32, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5
SPACE = "\u2581"


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def value(kind, v):
    if kind == STRING:
        return string(v)
    return struct.pack({U32: "<I", F32: "<f", BOOL: "<B", I32: "<i"}[kind], v)


def gguf(pairs, tensors=(), version=3):
    """pairs: (key, kind, value) or (key, (ARRAY, kind), values); tensors: (name, dims, type, bytes)."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs))
    for key, kind, v in pairs:
        out += string(key)
        if isinstance(kind, tuple):
            out += struct.pack("<IIQ", ARRAY, kind[1], len(v)) + b"".join(value(kind[1], x) for x in v)
        else:
            out += struct.pack("<I", kind) + value(kind, v)
    data = b""
    for name, dims, type_, bytes_ in tensors:
        data += bytes(-len(data) % 32)
        out += string(name) + struct.pack("<I", len(dims)) + b"".join(struct.pack("<Q", d) for d in dims)
        out += struct.pack("<IQ", type_, len(data))
        data += bytes_
    return out + bytes(-len(out) % 32) + data if tensors else out


def spm_pairs():
    pieces = ["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)]
    words = [SPACE, "a", "b", "c", SPACE + "a", "ab", "abc", SPACE + "abc", "\u00e9", "<tool>"]
    kinds = [2, 3, 3] + [6] * 256 + [1] * 9 + [4]
    scores = [0.0] * 259 + [-float(i) for i in range(len(words))]
    return [("tokenizer.ggml.model", STRING, "llama"),
            ("tokenizer.ggml.tokens", (ARRAY, STRING), pieces + words),
            ("tokenizer.ggml.scores", (ARRAY, F32), scores),
            ("tokenizer.ggml.token_type", (ARRAY, I32), kinds),
            ("tokenizer.ggml.bos_token_id", U32, 1), ("tokenizer.ggml.eos_token_id", U32, 2),
            ("tokenizer.ggml.add_bos_token", BOOL, 1)]


def byte_letters():
    """GPT-2's letter for each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters, extra = {}, 256
    for b in range(256):
        letters[b] = chr(b) if b in plain else chr(extra)
        extra += b not in plain
    return [letters[b] for b in range(256)]


def bpe_pairs(pre):
    letters = byte_letters()
    space = letters[32]
    merges = ["a b", "ab c", f"{space} a", f"{space}a b", "1 2"]
    pieces = letters + [m.replace(" ", "") for m in merges] + ["<|endoftext|>", "<|im_end|>"]
    kinds = [1] * (256 + len(merges)) + [3, 4]
    return [("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, pre),
            ("tokenizer.ggml.tokens", (ARRAY, STRING), pieces),
            ("tokenizer.ggml.token_type", (ARRAY, I32), kinds),
            ("tokenizer.ggml.merges", (ARRAY, STRING), merges),
            ("tokenizer.ggml.eos_token_id", U32, 256 + len(merges))]


def model(architecture, type_, block_bytes, block_values):
    """One layer, 32 wide."""
    dim, vocab, ffn = 32, 3, 32

    def matrix(name, rows, cols):
        return (name, (cols, rows), type_, bytes(range(1, 1 + block_bytes)) * (rows * cols // block_values))

    def vector(name, n):
        return (name, (n,), 0, struct.pack("<f", 1.0) * n)

    kv = 16
    tensors = [matrix("token_embd.weight", vocab, dim), vector("output_norm.weight", dim),
               vector("blk.0.attn_norm.weight", dim), matrix("blk.0.attn_q.weight", dim, dim),
               matrix("blk.0.attn_k.weight", kv, dim), matrix("blk.0.attn_v.weight", kv, dim),
               matrix("blk.0.attn_output.weight", dim, dim), vector("blk.0.ffn_norm.weight", dim),
               matrix("blk.0.ffn_gate.weight", ffn, dim), matrix("blk.0.ffn_up.weight", ffn, dim),
               matrix("blk.0.ffn_down.weight", dim, ffn)]
    if architecture == "qwen2":
        tensors += [vector("blk.0.attn_q.bias", dim), vector("blk.0.attn_k.bias", kv),
                    vector("blk.0.attn_v.bias", kv)]
    pairs = [("general.architecture", STRING, architecture)]
    for key, kind, v in [("context_length", U32, 32), ("embedding_length", U32, dim),
                         ("block_count", U32, 1), ("feed_forward_length", U32, ffn),
                         ("attention.head_count", U32, dim // 16), ("attention.head_count_kv", U32, 1),
                         ("rope.dimension_count", U32, 16), ("rope.freq_base", F32, 10000.0),
                         ("attention.layer_norm_rms_epsilon", F32, 1e-5)]:
        pairs.append((f"{architecture}.{key}", kind, v))
    pairs += [("tokenizer.ggml.model", STRING, "llama"),
              ("tokenizer.ggml.tokens", (ARRAY, STRING), ["<unk>", "a", "b"])]
    return gguf(pairs, tensors)


def write(entry, name, data):
    folder = os.path.join(CORPUS, entry)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def vocab(pairs, options, text):
    file = gguf(pairs)
    return struct.pack("<I", len(file)) + file + bytes([options]) + text


TEXTS = {"plain": b"Once upon a time, abc ab  12\n\n it's IT'S  42.5",
         "mixed": "caf\u00e9 \u4f60\u597d \U0001f600 \u0915\u094d\u0937 \u00a0x".encode(),
         "broken": b"\xff\xc3(\xe2\x82 abc\xf0\x9f\x98", "special": b"<s>[INST] <tool> </s><|im_end|>"}

LINES = {"session": b'HELLO proto=1\nGEN 7 max_tokens=3 temperature=0 seed=1 "Once \\x41 \\n"\nSTOP 7\nBYE\n',
         "put": b'PUT 1 "a \\"b\\" \\\\ \\t"\r\nRUN 1 top_k=4 stop="x" stop="y" logprobs=2\n',
         "wrong": b'GEN 99999 "x\nGEN 1 a=b=c "\\q"\n\n  \n\x00\xff\n',
         "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "tls": b"\x16\x03\x01\x02\x00\x01\x00",
         "long": b"x" * 1100 + b"\nPING\n"}

COMMANDS = [b'GEN 1 max_tokens=8 temperature=0.7 top_p=0.9 top_k=40 min_p=0.05 seed=7 stop="\\n" "a"',
            b'SCORE 2 bos=1 logprobs=3 "text"', b'TOKENIZE parse_special=1 "<s>"', b'DETOKENIZE ids="1,2 3"',
            b"LOG lines=5", b"HELLO proto=1", b"HEALTH", b'GEN 3 temperature=9 top_p=-1 seed=1e3 "x"',
            b"RUN 4 deadline_ms=100 repetition_penalty=1.1 ignore_eos=1 bytes=1"]

SETTINGS = [b"\1BOOT_IMAGE=/k console=ttyS0 wick.model=auto wick.slots=2 wick.listen=\"tcp:0.0.0.0:1\" wick.ip=dhcp quiet",
            b"\1wick.nonsense=1 wick.ctx=x wick.listen=tty:/dev/ttyS1,115200 wick.memory=3G",
            b"\0model=a.gguf\n--slots=4\n--ctx\n512\nlisten=stdio\nkv=q8_0", b"\0--help", b"\0a.gguf\nb.gguf",
            b"\x08prompt=x\ntemperature=0.5\nstop=a\nstop=b\nseed=18446744073709551615",
            b"\0cpus=0-3,8\ncpus=1,,2\ncpus=3-1\ncpus=0-1023",
            b"\x10out=x\ndim=64\ntype=Q4_K\nrope_base=1e6\ntied=1"]


def main():
    write("gguf", "spm", gguf(spm_pairs()))
    write("gguf", "bpe-v2", gguf(bpe_pairs("llama-bpe"), version=2))
    for name, architecture, type_, size, n in [("llama-f32", "llama", 0, 4, 1), ("qwen2-q8_0", "qwen2", 8, 34, 32),
                                               ("llama-q4_0", "llama", 2, 18, 32)]:
        write("model", name, model(architecture, type_, size, n))
    for name, text in TEXTS.items():
        write("presplit", name, text)
        write("vocab", f"spm-{name}", vocab(spm_pairs(), 7, text))
        write("vocab", f"bpe-{name}", vocab(bpe_pairs("qwen2"), 2, text))
    for name, lines in LINES.items():
        write("frame", name, lines)
    for i, line in enumerate(COMMANDS):
        write("command", f"{i:02}", line)
    for i, settings in enumerate(SETTINGS):
        write("config", f"{i:02}", settings)


main()
