"""The test provider's decisions: read a request, ask faults and limiter, refuse it or hand it to delivery.

1. A scripted error comes before the limiter, as a provider's front end would; a fault in the delivery after it.
2. What a request costs follows its provider's rule (`charging`): on arrival, when the real input is known, and as
   output is generated.
3. A slot is held from arrival until the last byte is sent, or until the caller hangs up.
4. Counting tokens and listing models is free and unlimited.
"""

from __future__ import annotations

import re
import time
from random import Random
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import msgspec

from cross_instance.testing.provider import charging
from cross_instance.testing.provider.charging import Usage
from cross_instance.testing.provider.config import ERROR_FAULTS
from cross_instance.testing.provider.delivery import JSON, Delivery, Job, scripted
from cross_instance.testing.provider.faults import FaultPlan
from cross_instance.testing.provider.limiter import Limiter, Refusal
from cross_instance.testing.provider.routes import Route, find_route, wire_of
from cross_instance.testing.provider.statistics import Recorder
from cross_instance.testing.provider.wire.messages import (
    IMAGE_TOKENS,
    Answer,
    BadRequest,
    Call,
    Problem,
    encode,
    fragments,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cross_instance.testing.provider.charging import Charge
    from cross_instance.testing.provider.config import Fault, Limit, ProviderConfig
    from cross_instance.testing.provider.http import Reply, Request
    from cross_instance.testing.provider.statistics import Record, Statistics, Visit

TOOL_HEADER = "x-provider-tool"
"""Asks for a call of the tool it names, or of the first one offered (`*`)."""

OUTPUT_HEADER = "x-provider-output-tokens"
"""Asks for an answer of so many tokens."""

CLIENT_HEADER = "x-client"
"""Names the caller in the statistics; `client/NAME` in the User-Agent does too."""

_CLIENT_IN_AGENT = re.compile(r"client/(\S+)")
_MOST_OUTPUT = 1_000_000
_FREE = frozenset({"messages/count_tokens", "countTokens"})
_WITHOUT_OUTPUT = _FREE | {"embeddings", "embedContent", "batchEmbedContents"}


class Application:
    """One provider: its limits, faults and figures. Everything here runs in one event loop."""

    def __init__(self, config: ProviderConfig) -> None:
        self.config = config
        self._started_ns = time.monotonic_ns()
        self._limiter = Limiter(config.limits)
        self._recorder = Recorder(config.journal, now=0)
        self._delivery = Delivery(config, self.now)
        self._token_ratio = config.token_ratio
        self._accounts: dict[tuple[str, str], str] = {}
        self.set_faults(config.faults)

    def now(self) -> int:
        """µs since the server's start."""
        return (time.monotonic_ns() - self._started_ns) // 1000

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits in force."""
        return self._limiter.limits

    def set_limits(self, limits: Sequence[Limit]) -> None:
        """Put other limits in force; see `Limiter.replace`."""
        self._limiter.replace(limits, self.now())

    @property
    def faults(self) -> tuple[Fault, ...]:
        """The faults in force."""
        return self._plan.faults

    def set_faults(self, faults: Sequence[Fault]) -> None:
        """Put other faults in force; their numbers and times count from now."""
        self._plan = FaultPlan(faults, Random(f"{self.config.seed}/faults"), self.now())

    def statistics(self) -> Statistics:
        """Everything seen since the start or the last reset."""
        return self._recorder.statistics(self.now())

    def journal(self) -> tuple[Record, ...]:
        """The last requests, in the order in which they ended."""
        return self._recorder.journal()

    def reset_statistics(self) -> None:
        """Forget everything seen so far."""
        self._recorder.reset(self.now())

    async def serve(self, request: Request, reply: Reply) -> None:
        """Answer one request to one of the providers' addresses."""
        route = find_route(request.method, request.path, request.headers)
        if route is None:
            problem = Problem("not_found", f"no provider has {request.method} {request.path}")
            _send_error(wire_of("openai").error(problem), reply)
        elif route.endpoint == "models":
            reply.send(200, JSON, encode(route.wire.models(route.model)))
        else:
            await self._serve_call(route, request, reply)

    async def _serve_call(self, route: Route, request: Request, reply: Reply) -> None:
        try:
            call = _read_call(route, request)
            length = self._output_length(call, request)
        except BadRequest as error:
            self._turn_away(route, request, str(error), reply)
            return
        if call.endpoint in _FREE:
            reply.send(200, JSON, encode(route.wire.whole(call, self._answer(call, 0, length))))
            return
        visit = self._arrive(route, call.model, request)
        try:
            await self._decide(route, call, visit, length, reply)
        finally:
            self._recorder.leave(visit, self.now())

    async def _decide(self, route: Route, call: Call, visit: Visit, length: int, reply: Reply) -> None:
        now = self.now()
        answer = self._answer(call, visit.number, length)
        charge = charging.on_arrival(
            route.provider, estimate=call.estimate, real_input=answer.usage.input_tokens, output_limit=call.output_limit
        )
        fault = self._plan.next(call.model, now)
        if fault is not None and fault.kind in ERROR_FAULTS:
            self._refuse(route, call, visit, charge, scripted(fault, visit.number), reply)
            return
        verdict = self._limiter.admit(visit.account, route.provider, call.model, charge, now)
        if isinstance(verdict, Refusal):
            wait = verdict.wait if self.config.retry_after else None
            problem = Problem("429", "", visit.number, refusal=verdict, wait=wait)
            self._refuse(route, call, visit, charge, problem, reply)
            return
        self._recorder.accept(visit, now)
        try:
            headers = self._headers(route, call, visit)
            await self._delivery.deliver(Job(route, call, answer, visit, charge, verdict, headers, fault), reply)
        finally:
            verdict.finish(self.now())

    def _refuse(self, route: Route, call: Call, visit: Visit, charge: Charge, problem: Problem, reply: Reply) -> None:
        charged = self.config.charge_failed
        if route.provider == "openai" if charged is None else charged:
            self._limiter.penalise(visit.account, route.provider, call.model, charge, self.now())
        named = problem if self.config.name_limits else problem._replace(refusal=None)
        visit.status, headers, body = route.wire.error(named)
        visit.outcome = "rejected" if visit.status == 429 else "failed"
        if visit.status == 429:
            self._recorder.reject(problem.refusal.limit.kind if problem.refusal else problem.kind)
        headers = headers | self._headers(route, call, visit) | JSON
        reply.send(visit.status, headers, encode([body] if call.stream and not call.in_events else body))

    def _turn_away(self, route: Route, request: Request, message: str, reply: Reply) -> None:
        visit = self._arrive(route, route.model, request)
        visit.outcome, visit.status = "invalid", 400
        _send_error(route.wire.error(Problem("bad_request", message, visit.number)), reply)
        self._recorder.leave(visit, self.now())

    def _arrive(self, route: Route, model: str, request: Request) -> Visit:
        client = request.headers.get(CLIENT_HEADER)
        if client is None:
            named = _CLIENT_IN_AGENT.search(request.headers.get("user-agent", ""))
            client = named[1] if named else ""
        account = self._account(route.provider, request)
        return self._recorder.arrive((route.provider, model, route.endpoint), client, account, self.now())

    def _account(self, provider: str, request: Request) -> str:
        if self.config.share_accounts:
            return provider
        key = _api_key(request)
        known = self._accounts.get((provider, key))
        if known is None:
            number = 1 + sum(other == provider for other, _ in self._accounts)
            known = self._accounts[provider, key] = f"{provider}/{number}"
        return known

    def _headers(self, route: Route, call: Call, visit: Visit) -> dict[str, str]:
        headers = {"x-request-id": f"req_{visit.number}"}
        if self.config.rate_limit_headers:
            views = self._limiter.views(visit.account, route.provider, call.model, self.now())
            headers |= route.wire.limit_headers(views, time.time())
        return headers

    def _output_length(self, call: Call, request: Request) -> int:
        """Output tokens wanted, by header or by configuration, before the request's own limit."""
        if call.endpoint in _WITHOUT_OUTPUT:
            return 0
        wanted = request.headers.get(OUTPUT_HEADER)
        if wanted is None:
            return self.config.output_tokens
        if not (wanted.isascii() and wanted.isdigit() and 1 <= int(wanted) <= _MOST_OUTPUT):
            raise BadRequest(f"{OUTPUT_HEADER} must be a whole number from 1 to {_MOST_OUTPUT}")
        return int(wanted)

    def _answer(self, call: Call, number: int, length: int) -> Answer:
        pieces, stop = words(min(length, call.output_limit or length)), "stop"
        if call.tool is not None:
            pieces, stop = fragments(call.tool), "tool"
        elif len(pieces) < length:
            stop = "length"
        characters, tokens = self._token_ratio
        input_tokens = -(-call.characters * tokens // characters) + call.images * IMAGE_TOKENS
        usage = Usage(input_tokens, round(input_tokens * self.config.cached_input), len(pieces))
        return Answer(number, int(time.time()), pieces, stop, usage)


def _read_call(route: Route, request: Request) -> Call:
    try:
        body = msgspec.json.decode(request.body)
    except msgspec.DecodeError as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise BadRequest("the body must be a JSON object")
    try:
        return route.wire.read_call(route.endpoint, route.model, request.query, body, request.headers.get(TOOL_HEADER))
    except (AttributeError, KeyError, TypeError) as error:
        raise BadRequest(f"the body is not of the documented form: {error!r}") from None


def _api_key(request: Request) -> str:
    for name in ("x-api-key", "api-key", "x-goog-api-key", "authorization"):
        if name in request.headers:
            return request.headers[name].removeprefix("Bearer ")
    return parse_qs(request.query).get("key", [""])[0]


def _send_error(error: tuple[int, dict[str, str], dict[str, Any]], reply: Reply) -> None:
    status, headers, body = error
    reply.send(status, headers | JSON, encode(body))
