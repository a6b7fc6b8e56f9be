"""One attempt at a model call: what its permit is told, and when.

1. An attempt counts as sent when its first byte goes out. One that never got so far is ignored: it cost nothing.
2. It ends once. Answered in full: what the status says, with the usage found in the body. Turned away from by its
   caller: success of unknown usage, for the provider had it. Broken off: timeout or error. A redirect is ignored: it
   is not the model that answered.
3. The bytes of a body are looked at in a copy; nothing that goes wrong here changes what the caller gets.
"""

from __future__ import annotations

import time
from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from cross_instance.clients.decoding import Decoder, UndecodableError
from cross_instance.providers.signals import outcome_of, read_signals, worth_retrying
from cross_instance.providers.tokens import UsageReader
from cross_instance.rules.operations import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cross_instance.clients.calls import Call
    from cross_instance.providers.tokens import Calibration, Usage
    from cross_instance.rules.operations import Signals


LAST_EVENT = b"data: [DONE]"
"""Ends OpenAI's streams; its SDK reads no further and closes the response."""


class Permit(Protocol):
    """What is used of a `Permit` or an `AsyncPermit`; the latter's `acquire` and `close` are to be awaited."""

    def acquire(self) -> Any:
        """Wait for the grant; raises `PermitError`."""

    def sent(self) -> None:
        """The request goes out now."""

    def settle(
        self,
        *,
        outcome: Outcome,
        signals: Signals | None = None,
        usage: Usage | None = None,
        first_token: float | None = None,
        operation: str | None = None,
    ) -> None:
        """Record how it ended; `first_token` in seconds from sending, `operation`: what was asked for."""

    def close(self) -> Any:
        """Give the permit back; a second time does nothing."""


class Verdict(msgspec.Struct, frozen=True):
    """What follows from an error answer: `again`, wait in the queue and send it again; `final`, nobody should."""

    again: bool
    final: bool


class Attempt:
    """Follows one attempt from its grant to its end and records the end on its permit."""

    def __init__(
        self,
        call: Call,
        permit: Permit,
        calibration: Calibration,
        clock: Callable[[], float] = time.monotonic,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self.permit = permit
        self._call = call
        self._calibration = calibration
        self._clock = clock
        self._wall_us = wall_us
        self._sent_at: float | None = None
        self._first_token: float | None = None
        self._status = 0
        self._headers: Mapping[str, str] = {}
        self._decoder: Decoder | None = None
        self._reader = UsageReader()
        self._tail = b""
        self._ended = False

    def sent(self) -> None:
        """The request's first byte goes out now; only the first call counts."""
        if self._sent_at is None:
            self._sent_at = self._clock()
            self.permit.sent()

    def answered(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of the response has arrived; its body follows through `feed`."""
        self.sent()
        self._status, self._headers = status, headers
        with suppress(UndecodableError):
            self._decoder = Decoder(headers.get("content-encoding", ""))

    def feed(self, chunk: bytes) -> None:
        """Look at a piece of the body, as it was transferred."""
        if self._decoder is None:
            return
        try:
            text = self._decoder.decode(chunk)
        except UndecodableError:
            self._decoder = None
            return
        self._reader.feed(text)
        self._tail = (self._tail + text)[-len(LAST_EVENT) - 4 :]
        if self._first_token is None and self._call.info.streaming and _says_something(text):
            self._first_token = self._clock() - (self._sent_at or 0.0)

    def completed(self) -> Verdict:
        """The body has arrived in full."""
        signals = read_signals(
            self._call.provider, self._status, self._headers, self._reader.body_start(), self._wall_us()
        )
        outcome = outcome_of(self._status, signals)
        usage = None if self._decoder is None else self._reader.usage()
        if usage is not None and not self._ended:
            self._calibration.observe(self._call.provider, self._call.info.model, self._call.info, usage)
        self._end(outcome, signals, usage)
        waits = outcome is Outcome.REJECTED or bool(signals.retry_after)
        return Verdict(again=waits and worth_retrying(self._status, signals), final=signals.exhausted is not None)

    def abandoned(self) -> None:
        """The caller closed the body, before its end or after the last event."""
        if LAST_EVENT in self._tail:
            self.completed()
        self._end(Outcome.SUCCESS)

    def failed(self, error: BaseException, timeouts: tuple[type[BaseException], ...]) -> None:
        """It broke off, or its caller was cancelled; `timeouts` are the errors that mean that time ran out."""
        if self._sent_at is None:
            self._end(Outcome.IGNORED)
        elif isinstance(error, timeouts):
            self._end(Outcome.TIMEOUT)
        elif isinstance(error, Exception):
            self._end(Outcome.ERROR)
        else:
            self._end(Outcome.SUCCESS)

    def _end(self, outcome: Outcome, signals: Signals | None = None, usage: Usage | None = None) -> None:
        if self._ended:
            return
        self._ended = True
        if HTTPStatus.MULTIPLE_CHOICES <= self._status < HTTPStatus.BAD_REQUEST:
            outcome = Outcome.IGNORED
        self.permit.settle(
            outcome=outcome,
            signals=signals,
            usage=usage,
            first_token=self._first_token,
            operation=self._call.info.operation,
        )


def _says_something(text: bytes) -> bool:
    """Whether this is more than the empty lines and comments that keep a waiting connection open."""
    text = text.lstrip()
    return bool(text) and not text.startswith(b":")
