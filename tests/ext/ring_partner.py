"""The other process of a shared ring. Talks over its pipes, one word per step; run as a script.

    ring_partner.py ROOT KIND NAME ROLE [STEP ...]

Steps: ``pop:N`` takes until N records came and prints their numbers' sum, ``push:N`` pushes N numbered
records, ``wait`` says that it is ready and reads a line, ``close`` closes, ``forever`` takes for ever.
"""

from __future__ import annotations

import sys


def main(root: str, kind: str, name: str, role: str, *steps: str) -> None:
    sys.path.insert(0, root)
    import numpy as np

    from data.schema import EVENT_DTYPE
    from ext import ring_buffer

    opened = getattr(ring_buffer, kind).attach(name, role)
    end = opened
    if kind == "BroadcastRing" and role == "consumer":
        end = opened.subscribe()
    if kind == "MpscRing" and role == "producer":
        end = opened.producer()
    done = 0
    for step in steps:
        verb, _, number = step.partition(":")
        if verb == "wait":
            print("ready", flush=True)
            sys.stdin.readline()
        elif verb == "push":
            events = np.zeros(int(number), EVENT_DTYPE)
            events["order_id"] = np.arange(done, done + int(number))
            assert end.push(events, timeout_s=60) == int(number)
            done += int(number)
        elif verb == "pop":
            numbers: list[int] = []
            while len(numbers) < int(number):
                assert end.wait(timeout_s=60)
                numbers += end.pop(int(number) - len(numbers))["order_id"].tolist()
            assert numbers == sorted(numbers)
            print(sum(numbers), flush=True)
        elif verb == "close":
            end.close()
        elif verb == "forever":
            print("ready", flush=True)
            while True:
                end.wait(timeout_s=1)
                end.pop(1 << 20)
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
