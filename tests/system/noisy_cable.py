#!/usr/bin/env python3
"""Joins two pseudo-terminals' masters like a bad serial cable.

    noisy_cable.py FD_A FD_B SEED FLIP DROP DOUBLE BREAK SILENCE

FLIP, DROP, DOUBLE, BREAK and SILENCE are probabilities for each byte: one bit of it changes; it
gets lost; it comes twice; a break (a zero byte) comes before it; the cable is dead for 5 s, and
what is sent meanwhile is lost. At the end (of input, or a SIGINT) it writes what it did to
stderr."""

import os
import random
import select
import signal
import sys
import time

SILENCE_S = 5


def main():
    # Who was started in the background ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    ends = [int(fd) for fd in sys.argv[1:3]]
    flip, drop, double, brk, silence = (float(x) for x in sys.argv[4:9])
    random_of = {fd: random.Random(f"{sys.argv[3]} {i}") for i, fd in enumerate(ends)}
    # The byte before which the next accident of each kind happens is drawn, not each byte's fate.
    rates = {"flip": flip, "drop": drop, "double": double, "break": brk, "silence": silence}
    left = {fd: {what: draw(random_of[fd], rate) for what, rate in rates.items()} for fd in ends}
    done = dict.fromkeys(rates, 0)
    dead_until, total, lost = 0, 0, 0
    try:
        while True:
            for fd in select.select(ends, [], [])[0]:
                data = os.read(fd, 4096)
                other = ends[1] if fd == ends[0] else ends[0]
                out = bytearray()
                for byte in data:
                    total += 1
                    for what, rate in rates.items():
                        left[fd][what] -= 1
                        if left[fd][what] >= 0:
                            continue
                        left[fd][what] = draw(random_of[fd], rate)
                        done[what] += 1
                        if what == "flip":
                            byte ^= 1 << random_of[fd].randrange(8)
                        elif what == "drop":
                            byte = None
                            break
                        elif what == "double":
                            out.append(byte)
                        elif what == "break":
                            out.append(0)
                        else:
                            dead_until = time.monotonic() + SILENCE_S
                    if time.monotonic() < dead_until if dead_until else False:
                        lost += 1
                    elif byte is not None:
                        out.append(byte)
                if out:
                    os.write(other, out)
    except (OSError, KeyboardInterrupt):
        pass
    finally:
        said = ", ".join(f"{n} {what}s" for what, n in done.items())
        print(f"{total} bytes, {said}, {lost} lost to silence", file=sys.stderr, flush=True)


def draw(rng, rate):
    """Bytes until the next accident."""
    return int(rng.expovariate(rate)) if rate > 0 else 1 << 60


if __name__ == "__main__":
    main()
