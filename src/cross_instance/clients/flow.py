"""What a model call goes through, without any HTTP library: reserve → send → settle, and again after an overload.

1. Each attempt takes a permit of its own; it is closed before the next one is asked for.
2. A permit is closed on every way out: answer, error, cancellation. Only a coroutine that is thrown away cannot
   close it; then the permit notices and returns itself.
3. An overload worth retrying is settled first (which pauses the account for everyone), then the call waits in the
   shared queue and its body is sent again, until the call's budget is spent. The caller then gets the last answer.
4. The flow yields steps: functions without arguments that do the I/O. `run` calls them, `arun` awaits what they
   return; the flow cannot tell which of the two drives it.
5. Time is the clock it is given.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cross_instance.clients.attempts import Attempt
from cross_instance.clients.calls import BadHeaderError
from cross_instance.clients.refusals import Refusal, refused
from cross_instance.errors import PermitError

if TYPE_CHECKING:
    from cross_instance.clients.calls import Call, Caller, Head

T = TypeVar("T")
Step = Callable[[], Any]
Flow = Generator[Step, Any, T]

NOT_AGAIN = {"x-should-retry": "false"}
"""The header by which the SDKs of OpenAI and Anthropic are told not to try again."""

BODY_LIMIT = 32 << 20
"""Bytes of a request body from a stream that are kept so that it can be sent again; Anthropic accepts no larger
request (docs: "request size limits", Messages API 32 MB). A longer one is sent once, while it is read."""


class Wire(Protocol):
    """One request's way through an HTTP library. The methods marked *step* do I/O: with an asynchronous library
    they return what is to be awaited."""

    head: Head
    timeouts: tuple[type[BaseException], ...]
    """What this library raises when time runs out."""

    def keep_body(self, limit: int, /) -> Any:
        """*Step.* The request's body, kept to be sent again; None where it is longer than `limit`."""

    def send(self, attempt: Attempt | None, /) -> Any:
        """*Step.* The response as soon as its head has arrived; tells the attempt when the request goes out."""

    def read(self, response: Any, /) -> Any:
        """*Step.* The response's body as it was transferred; the response is closed, also after an error."""

    def metered(self, response: Any, attempt: Attempt, /) -> Any:
        """The response, with a body that is fed to the attempt while it is read, and closes its permit at the end."""

    def replayed(self, response: Any, body: bytes, headers: dict[str, str], /) -> Any:
        """The response with its body read before, and these headers on top."""

    def refuse(self, refusal: Refusal, provider: str, /) -> Any:
        """A response that was made here."""


def serve(caller: Caller, wire: Wire, clock: Callable[[], float] = time.monotonic) -> Flow[Any]:
    """Answer one request: a model call takes its turn, anything else passes through."""
    provider = caller.provider_of(wire.head)
    if provider is None:
        return (yield partial(wire.send, None))
    body = yield partial(wire.keep_body, BODY_LIMIT)
    try:
        call = caller.call(provider, wire.head, body)
    except BadHeaderError as error:
        return wire.refuse(Refusal(HTTPStatus.BAD_REQUEST, "BAD_REQUEST", str(error)), provider)
    if call is None:
        return (yield partial(wire.send, None))
    return (yield from _exchange(caller, call, wire, clock))


def _exchange(caller: Caller, call: Call, wire: Wire, clock: Callable[[], float]) -> Flow[Any]:
    deadline = clock() + call.budget
    answer: Any = None
    while True:
        permit = caller.permit(call, max(0.0, deadline - clock()))
        try:
            yield permit.acquire
        except PermitError as error:
            return wire.refuse(refused(error), call.provider) if answer is None else answer
        attempt = Attempt(call, permit, caller.runtime.calibration, clock)
        answer, again = yield from _attempt(attempt, wire)
        if not (again and call.replayable):
            return answer


def _attempt(attempt: Attempt, wire: Wire) -> Flow[tuple[Any, bool]]:
    """The answer, and whether to ask again."""
    response = yield from _closing(attempt, wire, partial(wire.send, attempt))
    attempt.answered(response.status_code, response.headers)
    if response.status_code < HTTPStatus.BAD_REQUEST:
        return wire.metered(response, attempt), False
    body = yield from _closing(attempt, wire, partial(wire.read, response))
    attempt.feed(body)
    verdict = attempt.completed()
    yield attempt.permit.close
    return wire.replayed(response, body, NOT_AGAIN if verdict.final else {}), verdict.again


def _closing(attempt: Attempt, wire: Wire, step: Step) -> Flow[Any]:
    """Take a step; if it fails, close the permit before the error goes on."""
    try:
        return (yield step)
    except GeneratorExit:  # thrown away: no step can be taken any more
        raise
    except BaseException as error:
        attempt.failed(error, wire.timeouts)
        yield attempt.permit.close
        raise


def run(flow: Flow[T]) -> T:
    """Drive a flow whose steps do their work when called."""
    resume: Callable[[], Step] = partial(next, flow)
    while True:
        try:
            step = resume()
        except StopIteration as stop:
            answer: T = stop.value
            return answer
        try:
            resume = partial(flow.send, step())
        except BaseException as error:  # noqa: BLE001 - the flow decides what it means
            resume = partial(flow.throw, error)


async def arun(flow: Flow[T]) -> T:
    """Drive a flow whose steps return something to be awaited."""
    resume: Callable[[], Step] = partial(next, flow)
    while True:
        try:
            step = resume()
        except StopIteration as stop:
            answer: T = stop.value
            return answer
        try:
            resume = partial(flow.send, await step())
        except GeneratorExit:  # the coroutine is thrown away: nothing can be awaited any more
            raise
        except BaseException as error:  # noqa: BLE001 - the flow decides what it means
            resume = partial(flow.throw, error)
