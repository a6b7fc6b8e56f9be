"""OpenAI's responses: request, answer and stream of numbered events."""

from __future__ import annotations

from itertools import count
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
    from collections.abc import Callable, Iterator

    from cross_instance.testing.provider.charging import Usage
    from cross_instance.testing.provider.wire.messages import Answer

Event = dict[str, Any]


def read_call(model: str, body: dict[str, Any], tool: str | None) -> Call:
    """Read a request; `tool`: the tool call asked for by header. Raises `BadRequest`."""
    if not body.get("input"):
        raise BadRequest("`input` is required")
    characters, images = measure(body["input"], body.get("instructions"), body.get("tools"))
    offered = [entry for entry in body.get("tools") or () if entry.get("type") == "function"]
    tools = [Tool(entry["name"], entry.get("parameters") or {}) for entry in offered]
    return Call(
        "responses",
        model,
        stream=bool(body.get("stream")),
        characters=characters,
        images=images,
        output_limit=count_field(body, "max_output_tokens"),
        tool=choose_tool(tools, tool or _forced(body.get("tool_choice"))),
        options={"tools": body.get("tools") or [], "tool_choice": body.get("tool_choice") or "auto"},
    )


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    cut = answer.stop == "length"
    return _response(call, answer, "incomplete" if cut else "completed") | {
        "output": [_item(call, answer, answer.text, "incomplete" if cut else "completed")],
        "usage": _usage(answer.usage),
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
    }


def stream(call: Call, answer: Answer) -> Iterator[Piece]:
    """From `response.created` through the deltas to `response.completed` (or `response.incomplete`)."""
    numbers = count()

    def event(kind: str, **fields: Any) -> bytes:
        data = encode({"type": kind, "sequence_number": next(numbers), **fields})
        return b"event: " + kind.encode() + b"\ndata: " + data + b"\n\n"

    opened = _response(call, answer, "in_progress")
    yield Piece(event("response.created", response=opened))
    yield Piece(event("response.in_progress", response=opened))
    started = _item(call, answer, "", "in_progress") | ({"content": []} if call.tool is None else {})
    yield Piece(event("response.output_item.added", output_index=0, item=started))
    place = {"item_id": _item_id(answer), "output_index": 0}
    yield from (_text if call.tool is None else _arguments)(answer, place, event)
    done = whole(call, answer)
    yield Piece(event("response.output_item.done", output_index=0, item=done["output"][0]))
    yield Piece(event(f"response.{done['status']}", response=done))


def _text(answer: Answer, place: Event, event: Callable[..., bytes]) -> Iterator[Piece]:
    place = place | {"content_index": 0}
    yield Piece(event("response.content_part.added", **place, part=_part("")))
    for text in answer.pieces:
        yield Piece(event("response.output_text.delta", **place, delta=text, logprobs=[]), tokens=1)
    yield Piece(event("response.output_text.done", **place, text=answer.text, logprobs=[]))
    yield Piece(event("response.content_part.done", **place, part=_part(answer.text)))


def _arguments(answer: Answer, place: Event, event: Callable[..., bytes]) -> Iterator[Piece]:
    for text in answer.pieces:
        yield Piece(event("response.function_call_arguments.delta", **place, delta=text), tokens=1)
    yield Piece(event("response.function_call_arguments.done", **place, arguments=answer.text))


def _forced(choice: Any) -> str | None:
    if choice == "required":
        return "*"
    return choice.get("name") if isinstance(choice, dict) else None


def _response(call: Call, answer: Answer, status: str) -> Event:
    return {
        "id": f"resp_{answer.number}",
        "object": "response",
        "created_at": answer.created,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": call.model,
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": call.options["tool_choice"],
        "tools": call.options["tools"],
        "usage": None,
    }


def _item(call: Call, answer: Answer, text: str, status: str) -> Event:
    head = {"id": _item_id(answer), "status": status}
    if call.tool is None:
        return head | {"type": "message", "role": "assistant", "content": [_part(text)]}
    return head | {
        "type": "function_call",
        "call_id": f"call_{answer.number}",
        "name": call.tool.name,
        "arguments": text,
    }


def _item_id(answer: Answer) -> str:
    return f"item_{answer.number}"


def _part(text: str) -> Event:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _usage(usage: Usage) -> Event:
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
