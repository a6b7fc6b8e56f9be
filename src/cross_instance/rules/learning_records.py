"""What is kept of a learner: the record at its node, and what of it outlives a boot."""

from __future__ import annotations

import msgspec

from cross_instance.rules.learning import Learner  # noqa: TC001  # msgspec reads the annotations
from cross_instance.rules.learning_risk import Risk
from cross_instance.rules.learning_simple import Simple  # noqa: TC001  # the same
from cross_instance.rules.records import Record
from cross_instance.rules.values import Kind, Learning  # noqa: TC001  # the same


class Learned(Record):
    """All that is learned at one node, an account or a model group of one.

    `started`: the rate (thousandths per minute) it began with. `ceiling`, `most_slots`, `most_tokens`: what the user
    configured, 0 for nothing. `slots`: a guess of calls at once that grows while nothing better is known, since
    `slots_at`; 0 for none. `simple`: the rate of mode `simple`, None in the other; `recovered`: how many requests had
    been accepted when it last changed. `token_kind`: what `learner.tokens` counts, `spent` how many of those were
    granted. `counted`: the grants that `risk` has seen, `cut` (ppm) what follows from it. `reason` and `changed_at`
    (wall µs) tell of the last change, `announced` (rate, slots, doubted) of the last one told. `unkept`: the durable
    copy does not have it all. `listen`: for how long (µs) the trial that comes after a pause is to be waited for.
    """

    learner: Learner
    settings: Learning
    started: int
    ceiling: int = 0
    most_slots: int = 0
    most_tokens: int = 0
    slots: int = 0
    slots_at: int = 0
    simple: Simple | None = None
    recovered: int = 0
    token_kind: Kind | None = None
    spent: int = 0
    risk: Risk = Risk()
    counted: int = 0
    cut: int = 0
    reason: str = ""
    changed_at: int = 0
    announced: tuple[int, int, int] = (0, 0, 0)
    unkept: bool = False
    listen: int = 0


class Kept(Record):
    """What was learned, at a wall time (µs)."""

    at: int
    learned: Learned


decode_learned = msgspec.msgpack.Decoder(Learned).decode
decode_kept = msgspec.msgpack.Decoder(Kept).decode
