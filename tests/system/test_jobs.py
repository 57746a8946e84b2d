"""Jobs: texts, sampling, stop strings, long prompts, cancelling, queueing, invariance."""

import os
import socket
import time

from client import Job, gen_line
from harness import (REFERENCE, Server, check, check_equal, check_quick, eventually,
                     greedy_reference, lab, median, need, options, test, work_path)

PROMPT = "Once upon a time"
TALES = ["Once upon a time there was a king", "The old woman said to the fox",
         "In a dark wood there lived a", "The prince rode away, and", "Far out in the sea",
         "There was once a poor miller who had"]
LONG = ("Once upon a time there was a little girl who lived with her mother at the edge of a great "
        "wood. Every day she went to the well to fetch water, and every day a small grey bird sat "
        "on the rim of the well and sang to her. ") * 4


@test()
def greedy_text_of_the_exact_path_equals_the_reference():
    prompt, want = greedy_reference()
    with Server("isa=exact", "kv=f32") as server, server.connect() as c:
        job = c.gen(prompt, temperature=0, max_tokens=48)
        n = min(len(want), len(job.text))
        check(n > 100, "compared only", n, "characters")
        check_equal(job.text[:n], want[:n])


@test()
def greedy_text_equals_the_labs():
    for prompt in TALES[:3]:
        want = lab("run", f"model={need(options.model)}", f"prompt={prompt}", "max_tokens=40",
                   "temperature=0").decode()
        with Server() as server, server.connect() as c:
            got = c.gen(prompt, temperature=0, max_tokens=40).text
        check(got and (want.startswith(got) or want.startswith(prompt + got)
                       or want.rstrip("\n") == got.rstrip("\n")), repr(got), "!=", repr(want))


@test()
def events_of_a_job_come_in_order_with_true_indices_and_counts():
    with Server() as server, server.connect() as c:
        job = c.gen(PROMPT, tag=7, max_tokens=12, temperature=0, seed=5)
        check_equal([r.code for r in job.replies], [150] + [151] * 12 + [250])
        check_equal(job.started.words[0], b"started")
        check_equal(job.started.fields["model"], c.health()["model"])
        check_equal(job.seed, 5)
        check_equal(int(job.started.fields["prompt_tokens"]), len(c.ids(PROMPT)))
        check_equal([int(r.words[0]) for r in job.tokens], list(range(12)))
        check_equal(job.end.words[0], b"end")
        check_equal(job.end.fields["tokens"], "12")
        check_equal(job.stop, "MAX_TOKENS")
        for key in ("prompt_ms", "decode_ms", "tokens_per_s"):
            check(float(job.end.fields[key]) > 0, key, job.end)


@test()
def same_seed_gives_same_text_and_the_returned_seed_reproduces():
    with Server() as server, server.connect() as c:
        how = {"max_tokens": 40, "temperature": 1.2}
        a, b = (c.gen(PROMPT, seed=42, **how) for _ in range(2))
        check_equal(a.text, b.text)
        drawn = c.gen(PROMPT, **how)
        again = c.gen(PROMPT, seed=drawn.seed, **how)
        check_equal(again.text, drawn.text)
        other = c.gen(PROMPT, **how)
        check(other.seed != drawn.seed and other.text != drawn.text, "seeds are not drawn")
        big = c.gen(PROMPT, seed=2**64 - 1, **how)
        check_equal(big.seed, 2**64 - 1)


@test()
def the_same_seed_gives_the_same_text_on_another_server_with_other_threads():
    texts = set()
    for settings in (["threads=1", "slots=1"], ["threads=2", "slots=3", "chunk=7"]):
        with Server(*settings) as server, server.connect() as c:
            texts.add(c.gen(TALES[1], seed=3, max_tokens=60).text)
    check_equal(len(texts), 1, texts)


@test()
def every_sampling_parameter_is_effective():
    with Server() as server, server.connect() as c:
        def text(**params):
            return c.gen(PROMPT, **{"max_tokens": 40, "seed": 1, "temperature": 1.5, **params}).text

        base, greedy = text(), text(temperature=0)
        check(base != greedy)
        check_equal(text(top_k=1), greedy, "top_k=1 is greedy")
        check_equal(text(top_p=0), greedy, "top_p=0 is greedy")
        check_equal(text(min_p=1), greedy, "min_p=1 is greedy")
        check(text(temperature=0.5) != base, "temperature")
        check(text(top_k=3) != base, "top_k")
        check(text(top_p=0.3) != base, "top_p")
        check(text(min_p=0.3) != base, "min_p")
        check(text(repetition_penalty=1.8) != base, "repetition_penalty")
        check(text(repetition_penalty=1.8, temperature=0) != greedy, "repetition_penalty, greedy")
        check(text(seed=2) != base, "seed")
        for off in ({"top_k": 0}, {"top_p": 1}, {"min_p": 0}, {"repetition_penalty": 1}):
            check_equal(text(**off), base, f"{off} is off")
        check_equal(text(temperature="1e-7"), greedy, "below 1e-6 is greedy")


@test()
def the_other_fields_are_effective():
    with Server() as server, server.connect() as c:
        tokens = len(c.ids(PROMPT))

        def job(prompt=PROMPT, **params):
            return c.gen(prompt, **{"max_tokens": 8, "seed": 1, "temperature": 0, **params})

        base = job()
        check_equal(int(job(bos=0).started.fields["prompt_tokens"]), tokens - 1)
        spelled = "<s>" + PROMPT
        literal = int(job(spelled).started.fields["prompt_tokens"])
        special = int(job(spelled, parse_special=1).started.fields["prompt_tokens"])
        check(special < literal, "parse_special", special, literal)
        check_equal(job(bytes=1).text, base.text)
        one = job(logprobs=1)
        check(all("id" in r.fields and float(r.fields["logprob"]) <= 0 for r in one.tokens))
        check("top" not in one.tokens[0].fields)
        five = job(logprobs=5)
        for reply in five.tokens:
            top = [pair.split(":") for pair in reply.fields["top"].split(",")]
            check_equal(len(top), 5)
            check_equal(top[0][0], reply.fields["id"], "greedy takes the best")
            scores = [float(p) for _, p in top]
            check_equal(scores, sorted(scores, reverse=True))
        check_equal(five.text, base.text)
        late = job(max_tokens=490, deadline_ms=20, ignore_eos=1)
        check_equal(late.end.code, 508)
        check_equal(late.end.words[0], b"INFERENCE_TIMEOUT")
        check_equal(late.end.fields.get("retriable"), "1")


@test()
def ignore_eos_goes_on_where_eos_ends():
    with Server() as server, server.connect() as c:
        for seed in range(40):
            job = c.gen("and they lived happily ever after.", seed=seed, max_tokens=200)
            if job.stop == "EOS":
                break
        check_equal(job.stop, "EOS", "no seed ends a text")
        check_equal(int(job.end.fields["tokens"]), len(job.tokens))
        longer = c.gen("and they lived happily ever after.", seed=seed, max_tokens=200,
                       ignore_eos=1)
        check_equal(longer.stop, "MAX_TOKENS")
        check(longer.text.startswith(job.text), repr(job.text), repr(longer.text))
        check_equal(len(longer.tokens), 200)


@test()
def every_bad_field_is_named_in_one_reply():
    bad = {"temperature": "9", "top_p": "-1", "top_k": "99999999", "min_p": "2",
           "repetition_penalty": "nan", "max_tokens": "0", "seed": "x", "logprobs": "21",
           "bytes": "2", "ignore_eos": "yes", "bos": "-1", "parse_special": "", "speed": "1",
           "deadline_ms": "-5", "stop": '"' + "x" * 101 + '"'}
    with Server() as server, server.connect() as c:
        for name, value in bad.items():
            replies = c.ask(f'GEN 3 {name}={value} "x"', 3)
            check_equal((len(replies), replies[0].code), (1, 422), name)
            check_equal(list(replies[0].fields), [name])
        words = " ".join(f"{k}={v}" for k, v in bad.items())
        replies = c.ask(f'GEN 8 {words} ""', 8)
        check(all(r.code == 422 for r in replies), replies)
        named = {k for r in replies for k in r.fields}
        check_equal(named, set(bad) | {"prompt"})
        check_equal(c.health()["slots_free"], "4")
        check_equal(c.gen(PROMPT, max_tokens=1).end.code, 250)
        reply = c.ask('GEN 9 max_tokens=1 max_tokens=2 "x"', 9)[0]
        check_equal(reply.fields, {"max_tokens": "once"})
        five = " ".join(f'stop="{i}"' for i in range(5))
        check_equal(list(c.ask(f'GEN 9 {five} "x"', 9)[0].fields), ["stop"])
        check_equal(list(c.ask('GEN "x"')[0].fields), ["tag"])
        check_equal(list(c.ask('GEN 10000 "x"')[0].fields), ["tag"])
        check_equal(list(c.ask("GEN 5", 5)[0].fields), ["prompt"])


@test()
def stop_strings_span_tokens_and_are_not_sent():
    with Server() as server, server.connect() as c:
        full = c.gen(PROMPT, temperature=0, max_tokens=40)
        pieces = [r.words[1].decode() for r in full.tokens]
        for at in (5, 12, 20):
            start = len("".join(pieces[:at]))
            stop = full.text[start - 2:start + 3]  # the end of one token, the beginning of the next
            job = c.gen(PROMPT, temperature=0, max_tokens=40, stop=[stop])
            check_equal(job.stop, "STOP_SEQUENCE")
            check_equal(job.end.fields["match"], stop)
            check_equal(job.text, full.text[:full.text.index(stop)])
        near = full.text[10:18] + "#"  # begins like the text, and never comes
        job = c.gen(PROMPT, temperature=0, max_tokens=40, stop=[near])
        check_equal((job.stop, job.text), ("MAX_TOKENS", full.text))
        stops = [full.text[30:34], "@@", full.text[20:25], "%%"]
        job = c.gen(PROMPT, temperature=0, max_tokens=40, stop=stops)
        first = min((full.text.index(s), s) for s in stops if s in full.text)
        check_equal((job.text, job.end.fields["match"]), (full.text[:first[0]], first[1]))


@test()
def a_staged_prompt_gives_the_text_of_the_same_prompt_in_one_line():
    prompt = LONG[:700] + " caf\u00e9 \u4e2d\u6587"
    with Server() as server, server.connect() as c:
        want = c.gen(prompt, temperature=0, max_tokens=20)
        check_equal(want.end.code, 250)
        for tag, piece in ((2, 240), (3, 1), (4, 13)):
            last = c.put(prompt, tag, piece)
            check_equal(last.fields["chars"], str(len(prompt)))
            check_equal(last.fields["bytes"], str(len(prompt.encode())))
            job = Job(c.ask(f"RUN {tag} temperature=0 max_tokens=20", tag))
            check_equal(job.text, want.text)
        check_equal(c.ask("RUN 2 max_tokens=3", 2)[0].code, 422)  # RUN has freed the staged text
        check_equal(list(c.ask("RUN 2 max_tokens=3", 2)[0].fields), ["prompt"])


@test()
def a_refused_run_keeps_the_staged_text_and_stop_frees_it():
    with Server() as server, server.connect() as c:
        c.put(LONG, 2)
        check_equal(c.ask("RUN 2 temperature=3", 2)[0].code, 422)
        check_equal(c.ask(f"RUN 2 max_tokens=400", 2)[0].code, 413)
        check_equal(Job(c.ask("RUN 2 max_tokens=2", 2)).end.code, 250)
        c.put(LONG, 2)
        check_equal(c.ask('GEN 2 "x"', 2)[0].code, 409)
        check_equal(c.stop(2)[1].words, [b"stopped"])
        check_equal(c.stop(2)[1].words, [b"idle"])
        check_equal(c.gen("x", tag=2, max_tokens=1).end.code, 250)


@test()
def a_prompt_has_at_most_32768_characters():
    with Server() as server, server.connect() as c:
        check_equal(c.put("ab " * 10922 + "ab", 1, 960).fields["chars"], "32768")
        refused = c.ask('PUT 1 "x"', 1)[0]
        check_equal((refused.code, list(refused.fields)), (422, ["text"]))
        check_equal(c.ask("RUN 1", 1)[0].code, 413)  # the context is far shorter
        c.stop(1)
        check_equal(c.put("\u4e2d" * 32768, 1, 240).fields["chars"], "32768")
        check_equal(c.ask('PUT 1 "x"', 1)[0].code, 422)


@test()
def prompt_plus_max_tokens_over_the_context_is_refused_and_the_rest_fills_it():
    with Server("ctx=64") as server, server.connect() as c:
        n = len(c.ids(PROMPT))
        check_equal(c.gen(PROMPT, max_tokens=64 - n, ignore_eos=1).end.fields["tokens"],
                    str(64 - n))
        over = c.gen(PROMPT, max_tokens=65 - n)
        check_equal((over.end.code, over.end.words[0]), (413, b"PROMPT_TOO_LONG"))
        rest = c.gen(PROMPT, ignore_eos=1)
        check_equal((rest.stop, rest.end.fields["tokens"]), ("MAX_TOKENS", str(64 - n)))


@test()
def stop_cancels_within_100_ms_is_idempotent_and_frees_the_slot():
    with Server("slots=1", "queue=0") as server, server.connect() as c, server.connect() as other:
        took = []
        for _ in range(7):
            c.start(PROMPT, max_tokens=490, ignore_eos=1)
            begin = time.monotonic()
            lines, answer = c.stop()
            took.append(time.monotonic() - begin)
            check_equal([r.code for r in lines if r.terminal], [250])
            check_equal(lines[-1].fields["stop"], "CANCELLED")
            check_equal(answer.words, [b"stopped"])
            took.append(eventually(lambda: other.health()["slots_free"] == "1"))
            check_equal(c.stop()[1].words, [b"idle"])
        check_quick(median(took) < 0.1, took)
        check_equal(c.gen(PROMPT, max_tokens=3).end.fields["tokens"], "3")
        check_equal(c.ask("STOP 77", 77)[0].words, [b"idle"])


@test()
def a_waiting_job_can_be_stopped():
    with Server("slots=1", "queue=2") as server, server.connect() as c:
        c.start(PROMPT, tag=1, max_tokens=490, ignore_eos=1)
        c.send(gen_line(PROMPT, 2, max_tokens=5))
        lines, answer = c.stop(2)
        check_equal([r.code for r in lines], [250])
        check_equal(lines[0].fields["stop"], "CANCELLED")
        check_equal(answer.words, [b"stopped"])
        check_equal(c.stop(1)[0][-1].fields["stop"], "CANCELLED")


@test()
def a_disconnect_frees_the_slots_within_100_ms():
    with Server("slots=2", "queue=4") as server, server.connect() as watcher:
        took = []
        for i in range(6):
            c = server.connect(server.tcp if i % 2 else server.unix)
            c.start(PROMPT, tag=1, max_tokens=490, ignore_eos=1)
            for tag in (2, 3, 4):
                c.send(gen_line(PROMPT, tag, max_tokens=490, ignore_eos=1))
            eventually(lambda: watcher.health()["queued"] == "2")
            if i == 3:  # a reset instead of an end of file
                c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            c.close()
            took.append(eventually(lambda: watcher.health()["slots_free"] == "2"
                                   and watcher.health()["queued"] == "0"))
        check_quick(median(took) < 0.1, took)
        check(int(watcher.metrics()['worker_requests_total{outcome="dropped"}']) == 24)


@test()
def a_full_queue_answers_busy_and_loses_nobody():
    with Server("slots=1", "queue=3") as server, server.connect() as c, server.connect() as d:
        c.start(PROMPT, tag=1, max_tokens=490, ignore_eos=1)
        c.send(gen_line(PROMPT, 2, max_tokens=4, temperature=0))
        eventually(lambda: c.health()["queued"] == "1")
        d.send(gen_line(PROMPT, 3, max_tokens=4, temperature=0))
        eventually(lambda: c.health()["queued"] == "2")
        c.send(gen_line(PROMPT, 4, max_tokens=4, temperature=0))
        eventually(lambda: c.health()["queued"] == "3")
        check_equal(c.health()["status"], "busy")
        busy = d.gen(PROMPT, tag=5, max_tokens=4).end
        check_equal((busy.code, busy.words[0], busy.fields["retriable"]), (503, b"BUSY", "1"))
        c.send("STOP 1")
        for client, tag in ((c, 2), (d, 3), (c, 4)):
            check_equal(Job(client.rest(tag)).end.fields["tokens"], "4")


@test()
def waiting_jobs_start_first_in_first_out():
    with Server("slots=1", "queue=8") as server, server.connect() as c:
        c.start(PROMPT, tag=9, max_tokens=490, ignore_eos=1)
        for tag in (5, 3, 8, 1):
            c.send(gen_line(PROMPT, tag, max_tokens=3))
        c.send("STOP 9")
        started, ended = [], []
        while len(ended) < 4:
            reply = c.kept.pop(0) if c.kept else c.read()
            if reply.code == 150:
                started.append(reply.tag)
            if reply.code == 250 and reply.tag != "9":
                ended.append(reply.tag)
        check_equal(started, ["5", "3", "8", "1"])
        check_equal(ended, started)


@test()
def a_tag_in_use_is_refused_and_the_running_job_goes_on():
    with Server() as server, server.connect() as c:
        c.start(PROMPT, tag=1, max_tokens=300, ignore_eos=1)
        c.send(gen_line(PROMPT, 1, max_tokens=2))
        c.send('PUT 1 "x"')
        replies = c.rest(1)
        while replies[-1].code != 250:
            replies += c.rest(1)
        check_equal([r.code for r in replies if r.code >= 200], [409, 409, 250])
        check_equal(replies[-1].fields["tokens"], "300")


@test()
def jobs_of_one_connection_run_at_the_same_time():
    with Server() as server, server.connect() as c:
        alone = [c.gen(p, temperature=0, max_tokens=60, ignore_eos=1).text for p in TALES[:4]]
        for tag, prompt in enumerate(TALES[:4], 1):
            c.send(gen_line(prompt, tag, temperature=0, max_tokens=60, ignore_eos=1))
        jobs = [Job(c.rest(tag)) for tag in (1, 2, 3, 4)]
        check_equal([j.text for j in jobs], alone)
        check_equal(sorted(j.slot for j in jobs), [0, 1, 2, 3])


@test()
def a_text_is_the_same_alone_and_beside_others_in_any_slot():
    with Server() as server:
        clients = [server.connect() for _ in range(4)]
        how = {"max_tokens": 50, "temperature": 0.9, "ignore_eos": 1}
        want = [clients[0].gen(p, seed=i, **how).text for i, p in enumerate(TALES)]
        slots = set()
        for turn in range(6):
            order = [(turn + k) % len(TALES) for k in range(4)]
            for c, i in zip(clients, order):
                c.send(gen_line(TALES[i], 1, seed=i, **how))
            for c, i in zip(clients, order):
                job = Job(c.rest(1))
                check_equal(job.text, want[i])
                slots.add((i, job.slot))
        check(len(slots) > len(TALES), "every text ran in one slot only", slots)


@test()
def a_text_is_the_same_while_prompts_of_others_are_read():
    with Server("chunk=16") as server, server.connect() as c, server.connect() as noise:
        want = c.gen(TALES[0], seed=4, max_tokens=120, ignore_eos=1).text
        c.send(gen_line(TALES[0], 1, seed=4, max_tokens=120, ignore_eos=1))
        for i in range(6):
            noise.put(f"Number {i}. " + LONG[i * 7:], 1)
            check_equal(Job(noise.ask("RUN 1 max_tokens=3", 1)).end.code, 250)
        check_equal(Job(c.rest(1)).text, want)


@test()
def a_reused_prompt_prefix_gives_the_same_text():
    with Server() as server, server.connect() as c:
        def job(text):
            c.put(text)
            return Job(c.ask("RUN 1 temperature=0 max_tokens=30", 1))

        def reused():
            return int(c.metrics()["worker_tokens_reused_total"])

        first = job(LONG)
        before = reused()
        check_equal(job(LONG).text, first.text)
        middle = reused()
        check(middle > before, "nothing was reused", before, middle)
        tail = LONG[:500] + " But one day the bird did not come, and"
        other = job(tail)
        check(reused() > middle, "a common beginning was not reused")
    with Server() as server, server.connect() as c:
        check_equal(job(tail).text, other.text)


@test()
def texts_are_whole_utf8_characters_unless_bytes_are_asked_for():
    """A random model, and a penalty far below 1: what was seen is favoured, here single bytes."""
    model = work_path("random.gguf")
    lab("make-model", f"out={model}", f"vocab_from={need(options.model)}", "type=F32", "dim=64",
        "ffn=128", "layers=1", "heads=2", "kv_heads=1", "ctx_train=512")
    prompt = "".join(map(chr, range(0x80, 0x800, 17)))  # many first bytes, many second ones
    how = {"temperature": 2, "max_tokens": 200, "ignore_eos": 1, "repetition_penalty": 0.02}
    whole = broken = 0
    with Server(model=model) as server, server.connect() as c:
        for seed in range(8):
            job = c.gen(prompt, seed=seed, **how)
            raw = c.gen(prompt, seed=seed, bytes=1, **how)
            for reply in job.tokens:
                reply.words[1].decode()  # every event by itself, or UnicodeDecodeError
            joined = b"".join(r.words[1] for r in raw.tokens)
            check_equal(job.text, joined.decode("utf-8", "replace"))
            broken += job.text.count("\ufffd")
            whole += sum("\x7f" < c != "\ufffd" for c in job.text)
    check(whole > 20 and broken > 20, "characters", whole, "broken", broken)


@test()
def tokenize_and_detokenize_are_each_others_reverse():
    texts = ["Once upon a time", "  two  spaces ", "tab\tline\nend\n",
             "caf\u00e9 \u4e2d\u6587 \U0001f600",
             "\"quoted\" \\back\\", "x", "<s> is text", LONG]
    with Server() as server, server.connect() as c:
        for text in texts:
            c.put(text, 1)
            ids = ",".join(r.fields["ids"] for r in c.ask("TOKENIZE 1", 1))
            c.put(ids, 2)
            back = b"".join(r.words[0] for r in c.ask("DETOKENIZE 2", 2) if r.words)
            check_equal(back.decode(), text)
        want = lab("tokenize", options.model, "add_bos=1", stdin=TALES[0].encode()).split()
        check_equal(c.ids(TALES[0]), [int(i) for i in want])
        ids = c.ids("<s>x", parse_special=1, bos=0)
        check(len(ids) < len(c.ids("<s>x", bos=0)))
        check_equal(c.ask("DETOKENIZE ids=1,403,2 special=1")[0].words, [b"and</s>"])
        check_equal(c.ask("DETOKENIZE ids=1,403,2")[0].words, [b"and"])
        check_equal(c.ask("DETOKENIZE ids=99999999")[0].code, 422)
        check_equal(c.ask("DETOKENIZE ids=1,x")[0].code, 422)


def read_reference():
    """[(token, log-sum-exp, {id: logit})] of the prompt's positions."""
    rows = []
    with open(os.path.join(REFERENCE, "reference.tsv")) as f:
        for line in f:
            kind, _, token, lse, top = (line.rstrip("\n").split("\t") + [""] * 5)[:5]
            if kind in ("prompt", "greedy"):
                logits = dict(pair.split(":") for pair in top.split())
                rows.append((int(token), float(lse), {int(k): float(v) for k, v in logits.items()}))
    return rows


@test()
def scores_equal_the_references_logits():
    prompt, text = greedy_reference()
    rows = read_reference()
    with Server("isa=exact", "kv=f32") as server, server.connect() as c:
        c.put(prompt + text)
        replies = c.ask("SCORE 1", 1)
        check_equal(replies[-1].fields["stop"], "DONE")
        scores = [r for r in replies if r.code == 152]
        check_equal([int(r.words[0]) for r in scores], list(range(1, len(scores) + 1)))
        ids = [1] + [int(r.fields["id"]) for r in scores]
        check_equal(ids[:len(rows)], [row[0] for row in rows][:len(ids)])
        compared = 0
        for i, reply in enumerate(scores[:len(rows)]):
            logit = rows[i][2].get(ids[i + 1])
            if logit is None:
                continue
            compared += 1
            check(abs(logit - rows[i][1] - float(reply.fields["logprob"])) < 2e-3, i, reply)
        check(compared > 20, "compared only", compared)
        total = sum(float(r.fields["logprob"]) for r in scores)
        check(abs(total - float(replies[-1].fields["logprob_sum"])) < 1e-3 * len(scores))


@test()
def scores_equal_the_log_probabilities_of_generation():
    with Server() as server, server.connect() as c:
        job = c.gen(PROMPT, temperature=0, max_tokens=30, logprobs=1)
        c.put(PROMPT + job.text)
        scores = [r for r in c.ask("SCORE 1", 1) if r.code == 152]
        got = [(r.fields["id"], r.fields["logprob"]) for r in scores][-len(job.tokens):]
        check_equal(got, [(r.fields["id"], r.fields["logprob"]) for r in job.tokens])
