"""OpenAI's chat completions: request, answer and stream."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cross_instance.testing.provider.wire.messages import (
    BadRequest,
    Call,
    Piece,
    Tool,
    choose_tool,
    count_field,
    encode,
    measure,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.testing.provider.charging import Usage
    from cross_instance.testing.provider.wire.messages import Answer

FINISH = {"stop": "stop", "length": "length", "tool": "tool_calls"}


def read_call(model: str, body: dict[str, Any], tool: str | None) -> Call:
    """Read a request; `tool`: the tool call asked for by header. Raises `BadRequest`."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise BadRequest("`messages` is required and must be a non-empty array")
    characters, images = measure(messages, body.get("tools"))
    functions = [entry["function"] for entry in body.get("tools") or () if "function" in entry]
    tools = [Tool(function["name"], function.get("parameters") or {}) for function in functions]
    return Call(
        "chat/completions",
        model,
        stream=bool(body.get("stream")),
        characters=characters,
        images=images,
        output_limit=count_field(body, "max_completion_tokens", "max_tokens"),
        tool=choose_tool(tools, tool or _forced(body.get("tool_choice"))),
        options={"usage": bool((body.get("stream_options") or {}).get("include_usage"))},
    )


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text, "refusal": None}
    if call.tool is not None:
        message |= {"content": None, "tool_calls": [_tool_call(call.tool, answer, answer.text)]}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": FINISH[answer.stop]}
    return _frame(call, answer, "chat.completion") | {"choices": [choice], "usage": _usage(answer.usage)}


def stream(call: Call, answer: Answer) -> Iterator[Piece]:
    """The role, a chunk per token, the finish, the usage where asked for, `[DONE]`."""
    frame = _frame(call, answer, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return _event(frame | {"choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]})

    if call.tool is None:
        yield Piece(chunk({"role": "assistant", "content": "", "refusal": None}))
    else:
        yield Piece(chunk({"role": "assistant", "tool_calls": [{"index": 0} | _tool_call(call.tool, answer, "")]}))
    for text in answer.pieces:
        delta = {"content": text} if call.tool is None else _arguments(text)
        yield Piece(chunk(delta), tokens=1)
    yield Piece(chunk({}, FINISH[answer.stop]))
    if call.options["usage"]:
        yield Piece(_event(frame | {"choices": [], "usage": _usage(answer.usage)}))
    yield Piece(b"data: [DONE]\n\n")


def _forced(choice: Any) -> str | None:
    if choice == "required":
        return "*"
    return choice.get("function", {}).get("name") if isinstance(choice, dict) else None


def _frame(call: Call, answer: Answer, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{answer.number}", "object": kind, "created": answer.created, "model": call.model}


def _tool_call(tool: Tool, answer: Answer, arguments: str) -> dict[str, Any]:
    return {
        "id": f"call_{answer.number}",
        "type": "function",
        "function": {"name": tool.name, "arguments": arguments},
    }


def _arguments(text: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "function": {"arguments": text}}]}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
    }


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + encode(data) + b"\n\n"
