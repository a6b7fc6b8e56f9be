"""Anthropic's wire format: messages, count_tokens, models; errors and `anthropic-ratelimit-*` headers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from cross_instance.testing.provider.wire.messages import (
    BadRequest,
    Call,
    Piece,
    Problem,
    Tool,
    choose_tool,
    count_field,
    encode,
    example,
    measure,
    text_field,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.testing.provider.limiter import LimitView
    from cross_instance.testing.provider.wire.messages import Answer

MODELS = ("claude-sonnet-5-5", "claude-haiku-5-5")
STOP = {"stop": "end_turn", "length": "max_tokens", "tool": "tool_use"}
_HEADERS = {
    "requests": "requests",
    "tokens": "tokens",
    "input_tokens": "input-tokens",
    "output_tokens": "output-tokens",
}
_ERRORS = {
    "429": (429, "rate_limit_error"),
    "slow_down": (429, "rate_limit_error"),
    "insufficient_quota": (429, "rate_limit_error"),
    "500": (500, "api_error"),
    "503": (503, "api_error"),
    "529": (529, "overloaded_error"),
    "stream_error": (529, "overloaded_error"),
    "bad_request": (400, "invalid_request_error"),
    "not_found": (404, "not_found_error"),
}


def read_call(endpoint: str, model: str, query: str, body: dict[str, Any], tool: str | None) -> Call:  # noqa: ARG001
    """See `Wire.read_call`."""
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        raise BadRequest("messages: field required")
    characters, images = measure(body.get("system"), body["messages"], body.get("tools"))
    output_limit = count_field(body, "max_tokens")
    if output_limit is None and endpoint == "messages":
        raise BadRequest("max_tokens: field required")
    tools = [Tool(entry["name"], entry.get("input_schema") or {}) for entry in body.get("tools") or ()]
    return Call(
        endpoint,
        text_field(body, "model"),
        stream=bool(body.get("stream")),
        characters=characters,
        images=images,
        output_limit=output_limit,
        tool=choose_tool(tools, tool or _forced(body.get("tool_choice"))),
    )


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    """See `Wire.whole`."""
    if call.endpoint == "messages/count_tokens":
        return {"input_tokens": answer.usage.input_tokens}
    block: dict[str, Any] = {"type": "text", "text": answer.text}
    if call.tool is not None:
        block = _tool_use(call.tool, answer)
        block["input"] = example(call.tool.schema)
    return _message(call, answer) | {
        "content": [block],
        "stop_reason": STOP[answer.stop],
        "usage": _usage(answer, answer.usage.output_tokens),
    }


def stream(call: Call, answer: Answer) -> Iterator[Piece]:
    """See `Wire.stream`: the usage of the input comes first, that of the output last."""
    yield _event("message_start", message=_message(call, answer))
    block = {"type": "text", "text": ""} if call.tool is None else _tool_use(call.tool, answer)
    yield _event("content_block_start", index=0, content_block=block)
    yield _event("ping")
    for text in answer.pieces:
        delta = {"type": "text_delta", "text": text}
        if call.tool is not None:
            delta = {"type": "input_json_delta", "partial_json": text}
        yield _event("content_block_delta", 1, index=0, delta=delta)
    yield _event("content_block_stop", index=0)
    end = {"stop_reason": STOP[answer.stop], "stop_sequence": None}
    yield _event("message_delta", delta=end, usage={"output_tokens": answer.usage.output_tokens})
    yield _event("message_stop")


def error(problem: Problem) -> tuple[int, dict[str, str], dict[str, Any]]:
    """See `Wire.error`."""
    status, type_ = _ERRORS[problem.kind]
    error_: dict[str, Any] = {"type": type_, "message": problem.message}
    if problem.refusal is not None:
        error_["message"] = _explain(problem)
    if problem.kind == "insufficient_quota":
        error_["details"] = {"error_code": problem.code or "enforced_spend_limit_reached"}
    headers = {}
    if problem.retry_after is not None:
        headers = {"retry-after": problem.retry_after}
    elif problem.wait is not None:
        headers = {"retry-after": str(-(-problem.wait // 1_000_000))}
    return status, headers, {"type": "error", "error": error_, "request_id": f"req_{problem.number}"}


def stream_error(call: Call, problem: Problem) -> bytes:  # noqa: ARG001
    """See `Wire.stream_error`."""
    return b"event: error\ndata: " + encode(error(problem)[2]) + b"\n\n"


def limit_headers(views: list[LimitView], wall: float) -> dict[str, str]:
    """See `Wire.limit_headers`. Resets tell when all is there again; remaining tokens are rounded to thousands."""
    headers: dict[str, str] = {}
    for kind, name in _HEADERS.items():
        view = min((view for view in views if view.limit.kind == kind), key=lambda view: view.remaining, default=None)
        if view is None:
            continue
        remaining = view.remaining
        if kind != "requests":
            remaining = min(view.limit.amount, round(remaining, -3))
        reset = datetime.fromtimestamp(wall + view.full_in / 1e6, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        headers[f"anthropic-ratelimit-{name}-limit"] = str(view.limit.amount)
        headers[f"anthropic-ratelimit-{name}-remaining"] = str(remaining)
        headers[f"anthropic-ratelimit-{name}-reset"] = reset
    return headers


def models(model: str | None) -> dict[str, Any]:
    """See `Wire.models`."""
    listed = [
        {
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": "2025-01-01T00:00:00Z",
            "lifecycle": "active",
        }
        for name in ([model] if model else MODELS)
    ]
    if model:
        return listed[0]
    return {"data": listed, "has_more": False, "first_id": listed[0]["id"], "last_id": listed[-1]["id"]}


def _forced(choice: Any) -> str | None:
    if not isinstance(choice, dict):
        return None
    return "*" if choice.get("type") == "any" else choice.get("name")


def _message(call: Call, answer: Answer) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.number}",
        "type": "message",
        "role": "assistant",
        "model": call.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(answer, 1),
    }


def _usage(answer: Answer, output_tokens: int) -> dict[str, Any]:
    return {
        "input_tokens": answer.usage.input_tokens - answer.usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": answer.usage.cached,
        "output_tokens": output_tokens,
    }


def _tool_use(tool: Tool, answer: Answer) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{answer.number}", "name": tool.name, "input": {}}


def _explain(problem: Problem) -> str:
    refusal = problem.refusal
    assert refusal is not None
    if refusal.limit.kind == "concurrency":
        return "Number of concurrent connections has exceeded your rate limit. Please try again later."
    unit = _HEADERS[refusal.limit.kind].replace("-", " ")
    if refusal.too_large:
        return f"This request would exceed the rate limit of {refusal.limit.amount} {unit} by itself."
    return f"This request would exceed your organization's rate limit of {refusal.limit.amount} {unit} per minute."


def _event(kind: str, tokens: int = 0, **fields: Any) -> Piece:
    data = encode({"type": kind, **fields})
    return Piece(b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n", tokens)
