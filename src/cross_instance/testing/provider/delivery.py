"""How an answer goes out: after its latency, whole or streamed, charged as it is generated, spoilt where scripted."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from cross_instance.testing.provider import charging
from cross_instance.testing.provider.wire.messages import Problem, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.testing.provider.charging import Charge
    from cross_instance.testing.provider.config import Fault, FaultKind, ProviderConfig
    from cross_instance.testing.provider.http import Reply
    from cross_instance.testing.provider.limiter import Admission
    from cross_instance.testing.provider.routes import Route
    from cross_instance.testing.provider.statistics import Visit
    from cross_instance.testing.provider.wire.messages import Answer, Call

JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
_SPOILING = frozenset({"cut_before", "cut_body", "malformed", "stream_error"})


class Job(NamedTuple):
    """One model call that was let in, with all that its delivery needs."""

    route: Route
    call: Call
    answer: Answer
    visit: Visit
    charge: Charge
    admission: Admission
    headers: dict[str, str]
    fault: Fault | None

    @property
    def fault_kind(self) -> FaultKind | None:
        """What goes wrong with the delivery, if anything does."""
        return None if self.fault is None else self.fault.kind


def scripted(fault: Fault, number: int) -> Problem:
    """The error that a fault asks for, in answer to the request `number`."""
    message = f"A scripted fault: {fault.kind}"
    return Problem(fault.kind, message, number, retry_after=fault.retry_after, code=fault.code)


class Delivery:
    """Delivers answers at the configured speed; `now` tells µs since the server's start."""

    def __init__(self, config: ProviderConfig, now: Callable[[], int]) -> None:
        self._config = config
        self._now = now
        self._latencies = Random(f"{config.seed}/latency")
        self._paces = Random(f"{config.seed}/pace")

    async def deliver(self, job: Job, reply: Reply) -> None:
        """Answer a call, and note in its visit how that went; cancelled when the caller hangs up."""
        await self._take_time(job, reply)
        usage = job.answer.usage
        job.visit.status, job.visit.input_tokens = 200, usage.input_tokens
        for kind, units in charging.on_start(job.route.provider, job.charge, usage):
            job.admission.correct(kind, units, self._now())
        if job.fault_kind == "cut_before":
            reply.cut()
        elif job.call.stream:
            await self._stream(job, reply)
        else:
            await self._whole(job, reply)
        job.visit.outcome = "failed" if job.fault_kind in _SPOILING else "served"

    async def _take_time(self, job: Job, reply: Reply) -> None:
        """The latency, with signs of life where the provider sends some."""
        seconds = self._config.latency.draw(self._latencies)
        if job.fault is not None and job.fault.kind == "slow_first_byte":
            seconds += job.fault.seconds
        interval = self._config.keep_alive
        if interval is not None and seconds > interval:
            reply.start(200, job.headers | _content_type(job.call))
            await reply.write(b"")
            while seconds > interval:
                await asyncio.sleep(interval)
                await reply.write(b": keep-alive\n\n" if job.call.in_events else b"\n")
                seconds -= interval
        if seconds > 0:
            await asyncio.sleep(seconds)

    async def _whole(self, job: Job, reply: Reply) -> None:
        status, headers, body = 200, job.headers, encode(job.route.wire.whole(job.call, job.answer))
        self._generate(job, job.answer.usage.output_tokens)
        half = len(body) // 2
        if job.fault is not None and job.fault.kind == "stream_error":
            status, more, error = job.route.wire.error(scripted(job.fault, job.visit.number))
            job.visit.status, headers, body = status, headers | more, encode(error)
        elif job.fault_kind == "malformed":
            body = body[:half]
        cut = job.fault_kind == "cut_body"
        if not reply.started:
            reply.send(status, headers | JSON, body, cut_at=half if cut else None)
            return
        await reply.write(body[:half] if cut else body)
        reply.cut() if cut else reply.finish()

    async def _stream(self, job: Job, reply: Reply) -> None:
        if not reply.started:
            reply.start(200, job.headers | _content_type(job.call))
        pieces = list(job.route.wire.stream(job.call, job.answer))
        ready: list[bytes] = []
        for piece in pieces[: len(pieces) // 2] if job.fault_kind in _SPOILING else pieces:
            seconds = self._config.pace.draw(self._paces) if piece.tokens else 0.0
            if seconds > 0:
                await reply.write(b"".join(ready))
                ready.clear()
                await asyncio.sleep(seconds)
            self._generate(job, piece.tokens)
            ready.append(piece.data)
        if job.fault_kind == "cut_body":
            await reply.write(b"".join(ready))
            reply.cut()
        else:
            reply.finish(b"".join(ready) + _spoilt_end(job))

    def _generate(self, job: Job, tokens: int) -> None:
        """Output has been generated: it is charged now."""
        job.visit.output_tokens += tokens
        for kind, units in charging.on_output(job.route.provider, tokens):
            job.admission.correct(kind, units, self._now())


def _spoilt_end(job: Job) -> bytes:
    """How a stream ends that breaks off in an orderly way."""
    if job.fault is not None and job.fault.kind == "stream_error":
        return job.route.wire.stream_error(job.call, scripted(job.fault, job.visit.number))
    return b'data: {"broken": \n\n' if job.fault_kind == "malformed" else b""


def _content_type(call: Call) -> dict[str, str]:
    return EVENTS if call.in_events else JSON
