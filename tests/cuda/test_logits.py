"""The whole model on the device against isa=exact, which is float64 from end to end."""

import os

import compare
import device
from device import lab, logits
from harness import ROOT, check, check_equal, lab as host_lab, need, options, test, work_path

KL_MAX = 5e-4  # mean over positions; measured on the PTX machine: 2e-8 (F32) to 5e-5 (Q2_K)


def references():
    """(title, model, prompt file) of all there are."""
    own = os.path.join(ROOT, "tests", "reference", "data", "tales-4m-Q8_0")
    model = os.path.join(ROOT, "images", "tales-4m-Q8_0.gguf")
    found = [(f"tales-4m-Q8_0/{p}", model, os.path.join(own, p, "prompt.txt"))
             for p in sorted(os.listdir(own))]
    base = os.path.join(device.SHARED, "reference")
    for title in sorted(os.listdir(base)) if os.path.isdir(base) else []:
        for file in (f"{title}.gguf", f"{title.rsplit('-', 1)[0]}.gguf"):
            path = os.path.join(device.SHARED, "models", file)
            if title != "tales-4m-Q8_0" and os.path.exists(path):
                found += [(f"{title}/{p}", path, os.path.join(base, title, p, "prompt.txt"))
                          for p in sorted(os.listdir(os.path.join(base, title)))]
                break
    return found


def agree(title, model, prompt, *words):
    """Compares one prompt; returns a note."""
    exact = logits(model, prompt, on_device=False)
    own = logits(model, prompt, *words)
    check_equal([r.token for r in own], [r.token for r in exact], title)
    kl = compare.kl_listed(own, exact)
    top1 = compare.top1_agreement(own, exact)
    note = f"{title}: KL {kl:.1e}, top-1 {top1}/{len(exact)}"
    check(kl < KL_MAX, note)
    check(top1 >= len(exact) - 2, note)
    return note


@test(900)
def every_type_agrees_with_float64():
    """Each type's short prompt; the long one of the demo model. --slow: all of all."""
    notes = [agree(*entry) for entry in references()
             if device.options.slow or entry[0].endswith("/prompt0")
             or entry[0] == "tales-4m-Q8_0/prompt1"]
    if len(notes) < 3:
        notes.append("the types in ../shared are not there")
    return "\n     ".join(["", *notes])


def made(name, **keys):
    path = work_path(f"{name}.gguf")
    words = [f"{key}={value}" for key, value in keys.items()]
    if not os.path.exists(path):
        host_lab("make-model", f"out={path}", f"vocab_from={need(options.model)}", *words)
    return path


def prompt_of(text):
    path = work_path("prompt.txt")
    with open(path, "w") as f:
        f.write(text)
    return path


# Shapes that the files above do not have: pairs of NEOX, biases, heads of 80 and 128, a head that
# stands for many queries, widths that fill neither a panel nor a segment.
SHAPES = {
    "neox and biases": dict(architecture="qwen2", type="Q8_0", dim=192, ffn=320, layers=2, heads=6,
                            kv_heads=2),
    "head_dim 80": dict(type="Q4_0", dim=320, ffn=416, layers=2, heads=4, kv_heads=4),
    "head_dim 128, one KV head": dict(type="F16", dim=256, ffn=288, layers=2, heads=8, kv_heads=1,
                                      head_dim=128),
    "odd widths": dict(type="BF16", dim=72, ffn=200, layers=3, heads=3, kv_heads=3, head_dim=24,
                       tied=1),
    "super blocks": dict(type="Q4_K", dim=512, ffn=768, layers=2, heads=8, kv_heads=2),
}


@test(600)
def shapes_that_no_file_has_agree_with_float64():
    notes = []
    prompt = prompt_of("Once upon a time there was a fox who")
    for name, keys in SHAPES.items():
        notes.append(agree(name, made(name.split(",")[0].replace(" ", "-"), **keys), prompt))
    return "\n     ".join(["", *notes])


@test(600)
def rows_do_not_depend_on_the_batch_they_are_in():
    prompt = prompt_of("Once upon a time there was a fox who lived in the dark wood behind the mill")
    texts = {}
    for chunk in (1, 3, 8, 33):
        words = [f"model={need(options.model)}", f"prompt_file={prompt}", f"chunk={chunk}"]
        texts[chunk] = lab("logits", *words)[1]
    check_equal(len(set(texts.values())), 1, "different outputs")
    check(len(texts[1].splitlines()) > 15, texts[1])


@test(600)
def q8_0_cache_agrees_with_that_of_the_cpu():
    prompt = prompt_of("Once upon a time there was a fox who lived in the dark wood behind")
    model = need(options.model)
    exact = logits(model, prompt, on_device=False)
    own = logits(model, prompt, "kv=q8_0")
    kl = compare.kl_listed(own, exact)
    check(kl < 2e-3, f"KL {kl:.1e}")  # the cache's own rounding; the CPU's is as far away
    same = lab("logits", f"model={model}", f"prompt_file={prompt}", "kv=q8_0", "chunk=5")[1]
    check_equal(same, lab("logits", f"model={model}", f"prompt_file={prompt}", "kv=q8_0")[1])
    return f"KL {kl:.1e}"


@test(300)
def stages_are_not_shown():
    words = [f"model={need(options.model)}", "prompt=x", f"out={work_path('dump')}"]
    status, _, err = lab("dump", *words, good=False)
    check(status == 2 and "shows no stages" in err, status, err)
