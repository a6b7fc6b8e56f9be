"""The acquire protocol: how a permit is asked for, waited for and withdrawn, without any I/O.

`negotiate` is a generator that yields what is to be done and is sent what came of it: an operation (its result), a
`Wait` (the wake that ended it, or None), a `Rejoin` (None). A synchronous and an asynchronous driver of a few lines
perform the steps; everything else is the same code.

1. A request keeps its (incarnation, seq) through every repetition, so the store never grants it twice.
2. A wake says when to ask again; so does the answer itself. Only the store decides.
3. Fenced: the instance joins anew and the request starts over with what is left of its time.
4. At its deadline a request leaves the queue, and where coordination is switched off: then it needs no permit.
   Whatever else ends the wait, the driver withdraws the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

from cross_instance.errors import InstanceFenced
from cross_instance.membership.accounts import account_key
from cross_instance.refusals import refusal, too_late
from cross_instance.rules.operations import (
    FOREVER,
    SECOND,
    Acquire,
    Cancel,
    Configured,
    Fenced,
    Granted,
    Operation,
    Refused,
    Stale,
    Waiting,
    Wake,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from cross_instance.membership.membership import Membership

MAX_REJOINS = 3
"""How often in a row an instance may be removed between joining and asking before it gives up."""


class Rejoins:
    """Counts how often in a row an instance was removed while it asked for one thing."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership
        self._count = 0

    def count(self) -> None:
        """Once more. Raises `InstanceFenced` where there is no end to it."""
        self._count += 1
        if self._count > MAX_REJOINS:
            raise InstanceFenced(f"{self._membership.instance_id} is removed whenever it joins")


class Wait(NamedTuple):
    """Wait for a wake for a permit, at most `seconds`."""

    permit: tuple[int, int]
    seconds: float


class Rejoin(NamedTuple):
    """Join anew: the store has removed this incarnation."""

    incarnation: int


S = TypeVar("S")
R = TypeVar("R")
Step: TypeAlias = "Operation[Any] | Wait | Rejoin"
Steps: TypeAlias = "Generator[Step, Any, Granted | None]"
Answer: TypeAlias = "Granted | Waiting | Refused | Stale | Fenced | None"


class Request(Protocol):
    """What the protocol needs of a permit: the question, and the name under which the store knows it."""

    membership: Membership
    provider: str
    model: str
    account: str
    timeout: int
    """µs."""
    task: str | None
    task_epoch: int
    incarnation: int
    seq: int
    question: Acquire | None
    """What the store was asked last; it is withdrawn when nobody waits for the answer."""

    def operation(self) -> Acquire:
        """The question for the present limits of the account, kept as `question`."""

    def rename(self) -> None:
        """Take a new name, of the present incarnation."""


def negotiate(request: Request, answer: Answer, now: Callable[[], int]) -> Steps:
    """Go on from the store's first answer (None: not asked yet) until the permit is granted.

    None: coordination was switched off meanwhile. `now` is the store's clock (µs). Raises `RateLimitExceeded`,
    `RequestTooLarge`, `InstanceFenced`.
    """
    started = now()
    deadline = min(started + request.timeout, FOREVER)
    rejoins = Rejoins(request.membership)
    while not isinstance(answer, Granted):
        if isinstance(answer, Waiting):
            request.membership.waiting.note(request, answer, now() - started)
            yield from _wait_turn(request, min(answer.check_at, deadline), now)
            if request.membership.switch.is_off:
                yield Cancel(request.incarnation, request.seq)
                return None
            if now() >= deadline:
                yield Cancel(request.incarnation, request.seq)
                request.question = None
                raise too_late(request, answer, now() - started, now())
            answer = yield from _ask_again(request)
        elif isinstance(answer, Refused):
            request.question = None
            raise refusal(request, answer)
        elif isinstance(answer, Fenced):
            rejoins.count()
            yield Rejoin(request.incarnation)
            request.timeout = max(0, deadline - now())
            request.rename()
            answer = None
        else:
            answer = yield from _resolve(request, answer)
    return answer


def _ask_again(request: Request) -> Generator[Step, Any, Answer]:
    assert request.question is not None
    answer: Answer = yield request.question
    return answer


def _wait_turn(request: Request, until: int, now: Callable[[], int]) -> Generator[Step, Wake | None, None]:
    """Wait until it is time to ask again: at `until`, or earlier where a wake says so."""
    permit = request.incarnation, request.seq
    request.membership.begin_waiting(permit)
    try:
        while (left := until - now()) > 0 and not request.membership.switch.is_off:
            wake = yield Wait(permit, left / SECOND)
            if wake is not None:
                until = min(until, wake.at)
    finally:
        request.membership.waiters.discard(permit)


def _resolve(request: Request, stale: Stale | None) -> Generator[Step, Any, Answer]:
    """Ask with the account's present patterns; publish its limits first where this instance has not yet.

    Of many that find them unpublished one publishes, and the others ask: their way to the store is behind it.
    """
    accounts, account = request.membership.accounts, account_key(request.provider, request.account)
    if account in accounts.publishing and not (stale is not None and stale.revision):
        answer: Answer = yield request.operation()
        if not isinstance(answer, Stale):
            return answer
        stale = answer
    if stale is not None and stale.revision:
        accounts.learn(account, stale.revision, stale.patterns)
    elif stale is not None or account not in accounts.published():
        configured = yield from _publish(request, account)
        if isinstance(configured, Fenced):
            return configured
        request.membership.learn(account, configured)
    answer = yield request.operation()
    return answer


def _publish(request: Request, account: str) -> Generator[Step, Any, Configured | Fenced]:
    accounts = request.membership.accounts
    accounts.publishing.add(account)
    try:
        configured: Configured | Fenced = yield accounts.publication(request.incarnation, account)
    finally:
        accounts.publishing.discard(account)
    return configured


# --- drivers -------------------------------------------------------------------------------------------------------


def drive(flow: Generator[S, Any, R], perform: Callable[[S], object]) -> R:
    """Perform a flow's steps one after the other; what it returns."""
    try:
        step = next(flow)
        while True:
            step = flow.send(perform(step))
    except StopIteration as done:
        result: R = done.value
        return result
    finally:
        flow.close()


async def drive_async(flow: Generator[S, Any, R], perform: Callable[[S], Awaitable[object]]) -> R:
    """Perform a flow's steps one after the other, awaiting each; what it returns."""
    try:
        step = next(flow)
        while True:
            step = flow.send(await perform(step))
    except StopIteration as done:
        result: R = done.value
        return result
    finally:
        flow.close()
