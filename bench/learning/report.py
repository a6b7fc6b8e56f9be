"""The lines as Markdown: the targets first, then each scene, the worst beside the mean."""

from __future__ import annotations

from statistics import mean, median
from typing import TYPE_CHECKING

from bench.learning.scenes import TOLD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.learning.scenes import Line

HOW = """\
Simulated: the rules' own code under virtual time. A provider with a limit that nobody is told, in eight shapes (bucket
of 10 s and 60 s, fixed windows of 10 s and 60 s, each with and without Retry-After); more demand than can be served
unless told otherwise; latency lognormal with a mean of 8 s; start with 60 requests per minute; 1,800 s.

- *95 %*: the end of the first minute in which 95 % of the limit was let in (60 s is the least possible). After a change
  it is counted from there; after a halving and an outage it is 90 %, with at most 5 % of the requests rejected.
- *used*, *429s*: shares of the limit and of the requests, after the first 600 s (after a change: from there on).
- *burst*: how many 429s before 600 s (after a change: in the two minutes from there).
- *told at once*: who knows of each change when it happens and paces evenly at 99 % of the limit. Where that takes
  longer than the target, no learner reaches it: a window that is full when its limit halves lets nothing in until it
  ends."""


def markdown(lines: Sequence[Line]) -> str:
    tables = (part for title, chosen in _scenes(lines) for part in _table(title, chosen))
    head = ("# Hidden limits, simulated\n", "Written by `python -m bench.learning`.\n", HOW, "")
    return "\n".join((*head, *_targets(lines), *tables))


def _targets(lines: Sequence[Line]) -> Iterator[str]:
    common = [line for line in lines if line.who == "ours" and line.limit >= 300 and line.lag <= 0.1]
    steady, halved, doubled = (
        [line for line in common if line.scene == scene] for scene in ("steady", "halved", "doubled")
    )
    yield "![The learned rate against a limit that halves and doubles](results.png)\n"
    yield "## Targets, from 300 requests per minute on, feedback within 0.1 s\n"
    yield "| figure | target | mean | worst | runs that reach it |"
    yield "|---|---|---|---|---|"
    told = {_place(line): line for line in lines if line.who == TOLD}
    yield _target("used", ">= 97 %", steady, lambda line: 100 * line.used, lambda line: line.used >= 0.97, min)
    yield _target("429s", "<= 0.5 %", steady, lambda line: 100 * line.refused, lambda line: line.refused <= 0.005, max)
    yield _target("95 % reached, s", "<= 90", steady, _after, lambda line: _after(line) <= 90, max)
    yield _target("halved, s", "<= 65", halved, _after, lambda line: _after(line) <= 65, max)
    in_reach = [line for line in halved if _after(told[_place(line)]) <= 65]
    yield _target(
        "halved, s, where one told at once can", "<= 65", in_reach, _after, lambda line: _after(line) <= 65, max
    )
    yield _target("halved, 429s", "<= 15", halved, lambda line: line.burst, lambda line: line.burst <= 15, max)
    yield _target("doubled, s", "<= 120", doubled, _after, lambda line: _after(line) <= 120, max)
    yield ""


def _place(line: Line) -> tuple[object, ...]:
    return line.scene, line.shape, line.limit, line.lag, line.seed


def _target(
    name: str,
    bound: str,
    lines: Sequence[Line],
    value: Callable[[Line], float],
    is_reached: Callable[[Line], bool],
    worst: Callable[[Sequence[float]], float],
) -> str:
    values = [value(line) for line in lines]
    count = sum(map(is_reached, lines))
    return f"| {name} | {bound} | {_text(mean(values))} | {_text(worst(values))} | {count} of {len(values)} |"


def _after(line: Line) -> float:
    return float("inf") if line.after is None else float(line.after)


def _scenes(lines: Sequence[Line]) -> Iterator[tuple[str, list[Line]]]:
    for scene in dict.fromkeys(line.scene for line in lines):
        yield scene, [line for line in lines if line.scene == scene]


def _table(title: str, lines: Sequence[Line]) -> Iterator[str]:
    yield f"## {title[0].upper()}{title[1:]}\n"
    yield "| who | limit | lag s | shape | 95 % s, median (worst) | used % (worst) | 429s % (worst) | burst |"
    yield "|---|---|---|---|---|---|---|---|"
    for who, limit, lag, shape in dict.fromkeys((line.who, line.limit, line.lag, line.shape) for line in lines):
        of = [line for line in lines if (line.who, line.limit, line.lag, line.shape) == (who, limit, lag, shape)]
        after, shares, refusals = (
            [_after(line) for line in of],
            [line.used for line in of],
            [line.refused for line in of],
        )
        yield (
            f"| {who} | {limit:,} | {lag:g} | {shape} | {_pair(median(after), max(after))} "
            f"| {_pair(100 * mean(shares), 100 * min(shares))} | {_pair(100 * mean(refusals), 100 * max(refusals))} "
            f"| {max(line.burst for line in of)} |"
        )
    yield ""


def _pair(first: float, worst: float) -> str:
    return _text(first) if _text(first) == _text(worst) else f"{_text(first)} ({_text(worst)})"


def _text(value: float) -> str:
    return "never" if value == float("inf") else f"{value:.2f}" if value < 10 else f"{value:.3g}"
