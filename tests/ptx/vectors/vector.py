"""A vector: one PTX kernel, its inputs, and what must come out; and the files they lie in.

A kernel has two parameters, the addresses of `in` and `out`. Thread t of n reads in[j * n + t] into
%a<j> and writes %d<j> to out[j * n + t]; out is all zeros before. What comes out is `exact` (bits)
or `f32` (each word lies between two numbers; both NaN: any NaN).
"""

import random

PER_LINE = 8


class Vector:
    def __init__(self, name, body, inputs, outputs, *, low=None, about="", shared=0, extra=()):
        """inputs, outputs: a list of columns, each with a word for every thread. low: the lower
        bounds where outputs are upper ones. extra: words that follow the inputs in memory."""
        self.name, self.body, self.about, self.shared = name, body, about, shared
        self.inputs, self.outputs, self.low, self.extra = inputs, outputs, low, list(extra)
        self.threads = len(inputs[0])
        assert self.threads % 32 == 0 and 0 < self.threads <= 1024
        assert all(len(c) == self.threads for c in inputs + outputs + (low or []))

    def ptx(self):
        count_in, count_out, n = len(self.inputs), len(self.outputs), self.threads
        lines = [f"// {self.about}"] if self.about else []
        lines += [f".visible .entry {self.name}(.param .u64 in, .param .u64 out)", "{",
                  f"    .reg .b32 %a<{count_in}>;",
                  f"    .reg .b32 %d<{count_out}>;",
                  "    .reg .pred %p<4>;", "    .reg .b16 %h<8>;", "    .reg .b32 %r<8>;",
                  "    .reg .b64 %rd<8>;"]
        if self.shared:
            lines.append(f"    .shared .align 16 .b8 space[{self.shared}];")
        lines += ["    ld.param.u64 %rd0, [in];", "    ld.param.u64 %rd1, [out];",
                  "    cvta.to.global.u64 %rd0, %rd0;", "    cvta.to.global.u64 %rd1, %rd1;",
                  "    mov.u32 %r0, %tid.x;", "    mul.wide.u32 %rd2, %r0, 4;",
                  "    add.u64 %rd3, %rd0, %rd2;", "    add.u64 %rd4, %rd1, %rd2;"]
        lines += [f"    ld.global.u32 %a{j}, [%rd3+{4 * n * j}];" for j in range(count_in)]
        lines += ["    " + line.strip() for line in self.body.strip().splitlines()]
        lines += [f"    st.global.u32 [%rd4+{4 * n * j}], %d{j};" for j in range(count_out)]
        return "\n".join(lines + ["    ret;", "}"]) + "\n"

    def text(self):
        words = [w for column in self.inputs for w in column] + self.extra
        out = [w for column in self.outputs for w in column]
        kind = "f32" if self.low else "exact"
        lines = [f"case {self.name} {self.threads} {len(words)} {len(out)} {kind}"]
        if self.about:
            lines.append(f"# {self.about}")
        lines += ["in", *hexadecimal(words)]
        if self.low:
            lines += ["low", *hexadecimal([w for column in self.low for w in column])]
            lines += ["high", *hexadecimal(out)]
        else:
            lines += ["out", *hexadecimal(out)]
        return "\n".join(lines) + "\n"


def hexadecimal(words):
    return [" ".join(f"{w:08x}" for w in words[i:i + PER_LINE])
            for i in range(0, len(words), PER_LINE)]


def module_text(name, vectors, version="7.0"):
    """(the PTX, the vectors) of one pair of files. version: the oldest PTX that has all of it."""
    ptx = (f"// Test vectors, module {name}: written by derive.py.\n"
           f".version {version}\n.target sm_80\n.address_size 64\n\n")
    ptx += "\n".join(v.ptx() for v in vectors)
    text = (f"# Test vectors for {name}.ptx, written by derive.py.\n"
            "# Source: derived from the PTX ISA document, not yet recorded on a GPU.\n\n")
    text += "\n".join(v.text() for v in vectors)
    return ptx, text


def chooser(name):
    """Numbers by lot, the same ones every time."""
    return random.Random("wick " + name)


def padded(values, filler):
    """Values in a whole number of warps."""
    values = list(values)
    return values + [filler] * (-len(values) % 32)
