"""wickctl chat: what the server is sent, and what a person sees and can do."""

import json
import os
import signal
import socket
import struct
import threading

from client import quote
from harness import (Server, check, check_equal, eventually, need, options, test, wickctl,
                     work_path)
from terminal import Terminal

CHATML = "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"


def key_values_end(data):
    """Offset behind the last key-value of a GGUF."""
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def u64(at):
        return struct.unpack_from("<Q", data, at)[0]

    def skip(kind, at):
        if kind == 8:
            return at + 8 + u64(at)
        if kind != 9:
            return at + sizes[kind]
        element, count = struct.unpack_from("<IQ", data, at)
        at += 12
        for _ in range(count):
            at = skip(element, at)
        return at

    at = 24
    for _ in range(u64(16)):
        at += 8 + u64(at)
        at = skip(struct.unpack_from("<I", data, at)[0], at + 4)
    return at


def with_template(name, template):
    """The demo model with a chat template."""
    with open(need(options.model), "rb") as f:
        data = f.read()
    end = key_values_end(data)
    key = b"tokenizer.chat_template"
    entry = (struct.pack("<Q", len(key)) + key + struct.pack("<I", 8)
             + struct.pack("<Q", len(template)) + template.encode())
    # Tensor data is aligned to 32 bytes of the file: filler in the template keeps it where it is.
    entry_size = (len(entry) + 31) // 32 * 32
    template += " " * (entry_size - len(entry))
    entry = (struct.pack("<Q", len(key)) + key + struct.pack("<I", 8)
             + struct.pack("<Q", len(template)) + template.encode())
    count = struct.unpack_from("<Q", data, 16)[0]
    path = work_path(name)
    with open(path, "wb") as f:
        f.write(data[:16] + struct.pack("<Q", count + 1) + data[24:end] + entry + data[end:])
    return path


class Script:
    """A server that speaks the protocol by heart and notes what it is asked."""

    def __init__(self, chat_format, answers, refuse=0, slow=0.0):
        self.chat_format, self.answers, self.refuse, self.slow = chat_format, answers, refuse, slow
        self.asked = []
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.tcp = "tcp:127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def serve(self):
        try:
            while True:
                peer, _ = self.listener.accept()
                with peer, peer.makefile("rb") as lines:
                    self.talk(peer, lines)
        except (OSError, ValueError):
            pass

    def talk(self, peer, lines):
        def say(line):
            peer.sendall(line.encode() + b"\n")

        say("220 - wick proto=1")
        answers = iter(self.answers)
        for line in lines:
            line = line.decode()
            verb = line.split()[0]
            if verb == "HEALTH":
                say('201 - status=ready model="script" architecture=llama ctx=512')
            elif verb == "INFO":
                say("202-- ctx=512")
                say(f'202-- chat_format="{self.chat_format}"')
                say("202 - end")
            elif verb == "STOP":
                say("230 1 idle")
            elif verb in ("GEN", "RUN", "PUT"):
                self.asked.append(line.rstrip("\n"))
                if verb == "PUT":
                    say("210 1 put chars=1 bytes=1")
                    continue
                if self.refuse:
                    self.refuse -= 1
                    say('413 1 PROMPT_TOO_LONG "too long"')
                    continue
                say('150 1 started model="script" seed=1 prompt_tokens=100 slot=0')
                if self.slow:
                    threading.Event().wait(self.slow)
                say("151 1 0 " + quote(next(answers)))
                say("250 1 end stop=EOS tokens=1 prompt_ms=1.0 decode_ms=1.0 tokens_per_s=1")


@test()
def chat_writes_the_conversation_in_the_models_format():
    with Script("chatml", ["A fox.", "The wood."]) as script:
        status, out, err = wickctl(script.tcp, "chat", "-q", "--system", "Be brief.",
                                   stdin=b"Who?\nWhere \"from\"?\n")
        check_equal((status, out, err), (0, "A fox.\nThe wood.\n", ""))
        first, second = script.asked
        check(first.endswith('"<|im_start|>system\\nBe brief.<|im_end|>\\n<|im_start|>user\\nWho?'
                             '<|im_end|>\\n<|im_start|>assistant\\n"'), first)
        check(second.endswith('<|im_start|>assistant\\nA fox.<|im_end|>\\n<|im_start|>user\\nWhere '
                              '\\"from\\"?<|im_end|>\\n<|im_start|>assistant\\n"'), second)
        for field in ('parse_special="1"', 'stop="<|im_end|>"', 'max_tokens="128"',
                      'temperature="0.7"'):
            check(field in first, field, first)
    with Script("none", [" hi"]) as script:
        status, out, _ = wickctl(script.tcp, "chat", "-q", "max_tokens=5", "stop=X", "Hello")
        check_equal((status, out), (0, "hi\n"))
        asked = script.asked[0]
        check(asked.endswith('"User: Hello\\nAssistant:"'), asked)
        check("parse_special" not in asked and asked.count("stop=") == 1
              and 'max_tokens="5"' in asked, asked)
    with Script("chatml", ["x"]) as script:
        wickctl(script.tcp, "chat", "-q", "--format", "mistral", "Hello")
        check(script.asked[0].endswith('"[INST] Hello [/INST]"'), script.asked)
        status, _, err = wickctl(script.tcp, "chat", "--format", "gemma", "Hello")
        check(status == 1 and "llama3" in err, status, err)


@test()
def chat_leaves_out_the_oldest_messages_when_the_server_says_it_is_too_long():
    with Script("chatml", ["one", "two", "three", "four"]) as script:
        with Terminal([need(options.wickctl), "-c", script.tcp, "chat", "--color", "never"]) as t:
            t.prompt()
            t.say("first")
            t.say("second")
            script.refuse = 1
            t.keys("third\r")
            t.until("[the context is full: 1 earlier message is no longer sent]")
            t.prompt()
            check_equal(len(script.asked), 4)
            check("first" in script.asked[2] and "third" in script.asked[2], script.asked[2])
            check("first" not in script.asked[3] and "second" in script.asked[3], script.asked[3])
            t.say("/history")
            check("first  [no longer sent]" in t.screen.text(), t.screen.text())
            t.say("fourth")
        check("first" not in script.asked[4], script.asked[4])


@test()
def a_message_that_is_refused_is_not_part_of_the_conversation():
    with Script("chatml", ["fine"], refuse=1) as script:
        status, out, err = wickctl(script.tcp, "chat", "-q", stdin=b"too long\nshort\n")
        check(status == 3 and "PROMPT_TOO_LONG" in err and out == "fine\n", status, out, err)
        check("too long" not in script.asked[1], script.asked)


@test(40)
def chat_on_a_terminal_edits_undoes_saves_and_loads():
    saved = work_path("talk.jsonl")
    model = with_template("chatml.gguf", CHATML)
    with Server(model=model) as server:
        check(["chat_format", "chatml"] in
              [line.split() for line in wickctl(server, "info")[1].splitlines()])
        with Terminal([need(options.wickctl), "-c", server.tcp, "chat", "max_tokens=8",
                       "ignore_eos=1", "seed=1"], rows=40,
                      env={"XDG_STATE_HOME": work_path("state")}) as t:
            t.until("Chat format: chatml")
            t.prompt()
            t.keys("Tell me a tail\x1b[D\x1b[D\x1b[3~\x1b[Fe\r")  # tail, tal, tale
            t.prompt()
            check("> Tell me a tale\n" in t.screen.text() and "[8 tokens" in t.screen.text(),
                  t.screen.text())
            t.say("/system Be\u00a0brief.")
            t.say("/system")
            t.say("caf\u00e9 \u4e2d")
            t.keys("/edit\r")  # the prompt shows the last message, to be changed
            t.until(lambda: t.screen.text().split("\n")[-1] == "> caf\u00e9 \u4e2d")
            t.keys("!\r")
            t.prompt()
            t.say(f"/save {saved}")
            check("2 messages saved" in t.screen.text(), t.screen.text())
            with open(saved, encoding="utf-8") as f:
                messages = [json.loads(line) for line in f]
            check_equal([m["role"] for m in messages],
                        ["system", "user", "assistant", "user", "assistant"])
            check_equal((messages[0]["content"], messages[1]["content"], messages[3]["content"]),
                        ("Be\u00a0brief.", "Tell me a tale", "caf\u00e9 \u4e2d!"))
            t.say("/regen")
            t.say("/undo")
            t.say("/undo")
            t.say("/undo")
            check("nothing has been said yet" in t.screen.text(), t.screen.text())
            t.say(f"/load {saved}")
            check("> caf\u00e9 \u4e2d!" in "\n".join(t.screen.lines()[-12:]), t.screen.text())
            t.say("/reset")
            t.say("/history")
            t.say("/frobnicate")
            check("no command /frobnicate" in t.screen.text(), t.screen.text())
            t.keys("\x1b[A\x1b[A\r")  # /history again, from the lines typed before
            t.prompt()
            t.keys("/qu\t\r")
            check_equal(t.wait(), 0)
            check(t.as_it_was(), "the terminal is not as it was")
        with Terminal([options.wickctl, "-c", server.tcp, "chat", "--load", saved],
                      env={"XDG_STATE_HOME": work_path("state")}) as t:
            t.prompt()
            t.keys("\x12tale")  # the history is there, and can be searched
            t.until('(search "tale") Tell me a tale')
            t.keys("\x07\x04")
            check_equal(t.wait(), 0)
    with open(os.path.join(work_path("state"), "wick", "history")) as f:
        check("Tell me a tale\n" in f.read())


@test(30)
def regen_with_a_fixed_seed_gives_another_answer_and_the_same_ones_again():
    with Server() as server:
        def answers():
            out = wickctl(server, "--json", "chat", "seed=5", "max_tokens=12", "ignore_eos=1",
                          stdin=b"Hello\n/regen\n/regen\n")[1]
            texts = [[]]
            for event in map(json.loads, out.splitlines()):
                if event["event"] == "token":
                    texts[-1].append(event["text"])
                if event["event"] == "end":
                    texts.append([])
            return ["".join(t) for t in texts[:-1]]

        first = answers()
        check_equal((len(first), len(set(first))), (3, 3), first)
        check_equal(answers(), first)


@test(30)
def ctrl_c_stops_an_answer_and_keeps_what_there_is():
    with Server("slots=1") as server, server.connect() as c:
        with Terminal([need(options.wickctl), "-c", server.tcp, "chat", "max_tokens=400",
                       "ignore_eos=1", "-q"]) as t:
            t.prompt()
            t.keys("Hello\r")
            eventually(lambda: c.health()["slots_free"] == "0")
            t.keys("\x03")
            t.prompt()
            check_equal(c.health()["slots_free"], "1")
            t.keys("abc\x03")  # an unfinished line is dropped
            t.prompt()
            t.say(f"/save {work_path('cut.jsonl')}")
            with open(work_path("cut.jsonl")) as f:
                check_equal([json.loads(line)["role"] for line in f], ["user", "assistant"])
            t.keys("half a line")
            t.until("> half a line")
            t.process.send_signal(signal.SIGTERM)
            check_equal(t.wait(), 130)
            check(t.as_it_was(), "ended, but the terminal is not as it was")


@test()
def ctrl_z_gives_the_terminal_to_the_shell_and_fg_takes_it_back():
    with Script("none", []) as script:
        command = (f"set -m; {need(options.wickctl)} -c {script.tcp} chat -q; echo STOPPED; "
                   "stty -a | grep -o -e '-\\?echo\\b'; fg >/dev/null; echo ENDED $?")
        with Terminal(["sh", "-c", command]) as t:
            t.prompt()
            t.keys("abc")
            t.until("> abc")
            t.keys("\x1a")
            t.until("STOPPED\necho")
            t.until(lambda: t.screen.text().split("\n")[-1] == "> abc")
            t.keys("\x15\x04")
            t.until("ENDED 0")


@test()
def a_pasted_text_of_several_lines_is_one_message():
    with Script("chatml", ["ok"]) as script:
        with Terminal([need(options.wickctl), "-c", script.tcp, "chat", "-q"]) as t:
            t.prompt()
            check(b"\x1b[?2004h" in t.seen, "pasting is not announced")
            t.keys("\x1b[200~one\rtwo\x1b[201~\r")
            t.prompt()
        check("user\\none\\ntwo<|im_end|>" in script.asked[0], script.asked)


@test()
def what_takes_long_is_shown_on_a_terminal_and_goes_away():
    with Script("none", ["done"], slow=1.0) as script:
        with Terminal([need(options.wickctl), "-c", script.tcp, "gen", "x"]) as t:
            t.until("reading 100 tokens")
            check_equal(t.wait(), 0)
            check(t.screen.text().startswith("done\n"), t.screen.text())
        status, out, err = wickctl(script.tcp, "gen", "-q", "x")
        check_equal((status, out, err), (0, "done\n".rstrip("\n"), ""))
