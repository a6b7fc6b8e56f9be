"""A process that submits, claims and ends tasks, and tells each time what it was answered.

Started as `python submitting_program.py FOLDER`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from cross_instance.rules.operations import Claim, Claimed, Finish, Finished, Join, Joined, NewTask, Push, TaskEnd
from cross_instance.stores.embedded import EmbeddedStore

ROUNDS = 6
PAYLOAD = bytes(range(256)) * 20


def say(*words: object) -> None:
    os.write(1, f"told {' '.join(map(str, words))}\n".encode())


def main(folder: Path) -> None:
    store = EmbeddedStore(folder)
    joined = store.run(Join("one", "nonce", os.getpid(), "machine", "host"))
    assert isinstance(joined, Joined)
    for number in range(1, ROUNDS + 1):
        pushed = store.run(Push(tuple(NewTask(f"{number}.{part}", "kind", PAYLOAD) for part in range(3))))
        say("pushed", *pushed.tasks)
        claimed = store.run(Claim(joined.incarnation, number, most=2))
        assert isinstance(claimed, Claimed)
        ended, running = claimed.tasks
        say("epochs", ended.epoch, running.epoch)
        finished = store.run(Finish(joined.incarnation, (TaskEnd(ended.spec.task, ended.epoch, result=b"result"),)))
        assert isinstance(finished, Finished)
        say("done", ended.spec.task)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
