"""Fixed windows, recognised: when the provider's present one began, and when it ends.

1. A block of rejections ends between the last one and the first request after the pause. Ends that are whole spans
   apart, for one of the usual spans alone, are a window's, if one block at least lasted longer than a bucket would have
   made it. What lasted longer than a span rules that one out.
2. A recognised window is held on to while blocks end with it; each narrows down when. A block that ends otherwise is
   the first evidence of something else.
3. Clocks run apart: an instant is less sure with time.
"""

from __future__ import annotations

import msgspec

from cross_instance.rules.learning_values import Mark
from cross_instance.rules.values import MINUTE, SECOND

SPANS = (10 * SECOND, MINUTE)
"""The spans that providers use."""
ENDS = 3
KEPT = 4
"""So many ends, each surer than a third of the span, make a window; so many are kept."""
DRIFT = 10_000
"""Clocks run apart by one part in so many, at most."""
UNKNOWN = -1


class Window(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a provider's windows, in µs. `span`: their length, 0 where none is recognised. One of them began
    between `low` and `high`. `began`: the beginning of the present one, its count `UNKNOWN` where it was missed,
    `previous` that of the one before, of which a slow 429 may speak; `passed`: how many were accepted in that, if it
    was climbed in. `ends`: between which instants the last blocks ended; `longest`: how long one of them lasted at
    least; `proven`: whether one outlasted a bucket's.
    """

    span: int = 0
    low: int = 0
    high: int = 0
    began: Mark = Mark(0, UNKNOWN)
    passed: int = 0
    ends: tuple[tuple[int, int], ...] = ()
    longest: int = 0
    proven: int = 0
    previous: Mark = Mark(0, UNKNOWN)


def end_of(window: Window, at: int) -> tuple[int, int]:
    """Between which instants the window ends that an instant is in."""
    low, high = _moved(window, max(0, (at - window.high) // window.span + 1))
    return max(low, at), high


def rolled(window: Window, now: int, accepted: int, *, climbs: bool) -> Window:
    """A request goes, `accepted` having been accepted before it: if it is the first in its window for sure, that began
    with it. `climbs`: whether the rate is climbing."""
    if not window.span:
        return window
    low, high = _moved(window, (now - window.high) // window.span)
    if now < high or high - window.began.at < window.span // 2:
        return window
    idle = (high - low) // 2
    passed = accepted - window.began.count if climbs and window.began.count != UNKNOWN else 0
    return msgspec.structs.replace(
        window, began=Mark(high - idle, accepted, idle), previous=window.began, passed=passed
    )


def ended(window: Window, now: int, low: int, high: int, lasted: int, proven: int) -> Window:
    """A block ended between `low` and `high`, having lasted for `lasted` at least."""
    if window.span:
        first, last = _moved(window, (low - window.high) // window.span + 1)
        if max(first, low) <= min(last, high) and lasted <= window.span:
            return _placed(msgspec.structs.replace(window, low=max(first, low), high=min(last, high)), now)
        window = Window()
    ends, longest = (*window.ends, (low, high))[-KEPT:], max(window.longest, lasted)
    seen = Window(ends=ends, longest=longest, proven=window.proven | proven)
    found = [one for span in SPANS if span >= longest and (one := _agreed(seen, span)) is not None]
    return _placed(found[0], now) if len(found) == 1 and seen.proven else seen


def _placed(window: Window, now: int) -> Window:
    """A window whose present one has begun elsewhere than it was thought: how many went before is not known."""
    _, began = _moved(window, (now - window.high) // window.span)
    missed = began - window.began.at >= window.span // 2
    unknown = Mark(began, UNKNOWN)
    return msgspec.structs.replace(window, began=unknown, previous=unknown) if missed else window


def _moved(window: Window, spans: int) -> tuple[int, int]:
    by = spans * window.span
    return window.low + by - by // DRIFT, window.high + by + by // DRIFT


def _agreed(seen: Window, span: int) -> Window | None:
    """The window of this span that all ends agree with; None where there is none, or too few are sure enough."""
    if sum(high - low <= span // ENDS for low, high in seen.ends) < ENDS:
        return None
    low, high = seen.ends[-1]
    for first, last in seen.ends[-2::-1]:
        away = (low - first + span // 2) // span * span
        low, high = max(low, first + away - away // DRIFT), min(high, last + away + away // DRIFT)
    return None if low > high else msgspec.structs.replace(seen, span=span, low=low, high=high)
