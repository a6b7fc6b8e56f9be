"""OpenAI's wire format: chat completions, responses, embeddings, models; errors and `x-ratelimit-*` headers."""

from __future__ import annotations

import base64
import struct
from typing import TYPE_CHECKING, Any

from cross_instance.testing.provider.wire import openai_chat, openai_responses
from cross_instance.testing.provider.wire.messages import BadRequest, Call, Problem, encode, text_field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.testing.provider.limiter import LimitView
    from cross_instance.testing.provider.wire.messages import Answer, Piece

MODELS = ("gpt-4o", "gpt-4o-mini", "text-embedding-3-small")
_DIMENSIONS = 8
_UNITS = {
    "requests": ("requests", "requests per min (RPM)"),
    "concurrency": ("requests", "concurrent requests"),
    "tokens": ("tokens", "tokens per min (TPM)"),
    "input_tokens": ("tokens", "input tokens per min"),
    "output_tokens": ("tokens", "output tokens per min"),
}
_ERRORS = {
    "429": (429, "requests", "rate_limit_exceeded"),
    "slow_down": (429, "requests", "slow_down"),
    "insufficient_quota": (429, "insufficient_quota", "insufficient_quota"),
    "500": (500, "server_error", None),
    "503": (503, "service_unavailable_error", "server_is_overloaded"),
    "529": (529, "service_unavailable_error", "server_is_overloaded"),
    "stream_error": (500, "server_error", "server_error"),
    "bad_request": (400, "invalid_request_error", None),
    "not_found": (404, "invalid_request_error", "unknown_url"),
}


def read_call(endpoint: str, model: str, query: str, body: dict[str, Any], tool: str | None) -> Call:  # noqa: ARG001
    """See `Wire.read_call`."""
    model = model or text_field(body, "model")
    if endpoint == "chat/completions":
        return openai_chat.read_call(model, body, tool)
    if endpoint == "responses":
        return openai_responses.read_call(model, body, tool)
    return _read_embeddings(model, body)


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    """See `Wire.whole`."""
    if call.endpoint == "chat/completions":
        return openai_chat.whole(call, answer)
    if call.endpoint == "responses":
        return openai_responses.whole(call, answer)
    return _embeddings(call, answer)


def stream(call: Call, answer: Answer) -> Iterator[Piece]:
    """See `Wire.stream`."""
    if call.endpoint == "chat/completions":
        return openai_chat.stream(call, answer)
    return openai_responses.stream(call, answer)


def error(problem: Problem) -> tuple[int, dict[str, str], dict[str, Any]]:
    """See `Wire.error`."""
    status, type_, code = _ERRORS[problem.kind]
    message = problem.message
    if problem.refusal is not None:
        type_, message = _explain(problem)
    body = {"message": message, "type": type_, "param": None, "code": problem.code or code}
    return status, _retry_headers(problem), {"error": body}


def stream_error(call: Call, problem: Problem) -> bytes:  # noqa: ARG001
    """See `Wire.stream_error`."""
    return b"data: " + encode(error(problem)[2]) + b"\n\n"


def limit_headers(views: list[LimitView], wall: float) -> dict[str, str]:  # noqa: ARG001
    """See `Wire.limit_headers`. Of several limits of one unit the one with the least left is shown."""
    headers: dict[str, str] = {}
    for unit, kind in (("requests", "requests"), ("tokens", "tokens")):
        view = min((view for view in views if view.limit.kind == kind), key=lambda view: view.remaining, default=None)
        if view is not None:
            headers[f"x-ratelimit-limit-{unit}"] = str(view.limit.amount)
            headers[f"x-ratelimit-remaining-{unit}"] = str(view.remaining)
            headers[f"x-ratelimit-reset-{unit}"] = duration(view.full_in)
    return headers


def models(model: str | None) -> dict[str, Any]:
    """See `Wire.models`."""
    listed = [
        {"id": name, "object": "model", "created": 0, "owned_by": "test"} for name in ([model] if model else MODELS)
    ]
    return listed[0] if model else {"object": "list", "data": listed}


def duration(us: int) -> str:
    """A duration as OpenAI writes it: `12ms`, `1s`, `6m0s`, `1h0m0s`."""
    ms = -(-us // 1000)
    if ms < 1000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    seconds = f"{ms / 1000:g}s"
    if not minutes:
        return seconds
    return f"{minutes}m{seconds}" if minutes < 60 else f"{minutes // 60}h{minutes % 60}m{seconds}"


def _explain(problem: Problem) -> tuple[str, str]:
    refusal = problem.refusal
    assert refusal is not None
    type_, unit = _UNITS[refusal.limit.kind]
    figures = f"on {unit}: Limit {refusal.limit.amount}"
    if refusal.too_large:
        return type_, f"Request too large {figures}, Requested {refusal.requested}."
    used = max(0, refusal.limit.capacity - refusal.available)
    again = f" Please try again in {duration(refusal.wait)}." if refusal.wait else ""
    return type_, f"Rate limit reached {figures}, Used {used}, Requested {refusal.requested}.{again}"


def _retry_headers(problem: Problem) -> dict[str, str]:
    if problem.retry_after is not None:
        return {"retry-after": problem.retry_after}
    if problem.wait is None:
        return {}
    return {"retry-after": str(-(-problem.wait // 1_000_000)), "retry-after-ms": str(-(-problem.wait // 1000))}


def _read_embeddings(model: str, body: dict[str, Any]) -> Call:
    given = body.get("input")
    inputs = given if isinstance(given, list) and not all(isinstance(token, int) for token in given) else [given]
    if not inputs or inputs == [None]:
        raise BadRequest("`input` is required")
    characters = sum(len(text) if isinstance(text, str) else 4 * len(text or ()) for text in inputs)
    options = {
        "inputs": len(inputs),
        "base64": body.get("encoding_format") == "base64",
        "dimensions": body.get("dimensions") or _DIMENSIONS,
    }
    return Call("embeddings", model, stream=False, characters=characters, options=options)


def _embeddings(call: Call, answer: Answer) -> dict[str, Any]:
    vector: Any = [1.0] + [0.0] * (call.options["dimensions"] - 1)
    if call.options["base64"]:
        vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
    data = [{"object": "embedding", "index": i, "embedding": vector} for i in range(call.options["inputs"])]
    tokens = answer.usage.input_tokens
    return {
        "object": "list",
        "data": data,
        "model": call.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
