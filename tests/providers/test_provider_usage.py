"""Usage is found in every form of response, however it is cut into chunks, in bounded memory."""

import json
import tracemalloc
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from cross_instance.providers.usage import BODY_START, Usage, UsageReader


def sse(*events: object, separator: str = "\n\n") -> bytes:
    lines = [event if isinstance(event, str) else f"data: {json.dumps(event)}" for event in events]
    return (separator.join(lines) + separator).encode()


def read(chunks: Iterable[bytes]) -> Usage | None:
    reader = UsageReader()
    for chunk in chunks:
        reader.feed(chunk)
    return reader.usage()


OPENAI_USAGE = {
    "prompt_tokens": 1117,
    "completion_tokens": 46,
    "total_tokens": 1163,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0},
}
OPENAI_CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o-2024-08-06",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
    "usage": OPENAI_USAGE,
    "service_tier": "default",
}
OPENAI_CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [{"delta": {"content": "Hi"}}]}
RESPONSES_USAGE = {
    "input_tokens": 328,
    "input_tokens_details": {"cached_tokens": 28, "cache_write_tokens": 100},
    "output_tokens": 52,
    "output_tokens_details": {"reasoning_tokens": 10},
    "total_tokens": 380,
}
RESPONSE = {"id": "resp_1", "object": "response", "output": [], "usage": RESPONSES_USAGE, "metadata": {}}
ANTHROPIC_USAGE = {
    "input_tokens": 21,
    "cache_creation_input_tokens": 188,
    "cache_read_input_tokens": 1000,
    "cache_creation": {"ephemeral_5m_input_tokens": 188, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 393,
    "service_tier": "standard",
}
ANTHROPIC_MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "tool_use", "id": "t", "name": "report", "input": {"usage": {"input_tokens": 9}}}],
    "stop_reason": "tool_use",
    "usage": ANTHROPIC_USAGE,
}
ANTHROPIC_STREAM = sse(
    'event: message_start\ndata: {"type":"message_start","message":{"id":"msg_1","usage":{"input_tokens":25,'
    '"cache_creation_input_tokens":0,"cache_read_input_tokens":7,"output_tokens":1}}}',
    'event: ping\ndata: {"type": "ping"}',
    {"type": "content_block_delta", "delta": {"type": "text_delta", "text": 'say "usage": {"output_tokens": 9}'}},
    'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    '"usage":{"output_tokens":15,"input_tokens":null}}',
    'event: message_stop\ndata: {"type":"message_stop"}',
)
GEMINI_USAGE = {
    "promptTokenCount": 100,
    "candidatesTokenCount": 20,
    "totalTokenCount": 150,
    "cachedContentTokenCount": 40,
    "thoughtsTokenCount": 30,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 100}],
}
GEMINI_FIRST = {"candidates": [], "usageMetadata": {"promptTokenCount": 100, "totalTokenCount": 100}}
GEMINI_LAST = {"candidates": [{"content": {"parts": [{"text": "}{"}]}}], "usageMetadata": GEMINI_USAGE}
DEEPSEEK_USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 30,
    "total_tokens": 150,
    "prompt_cache_hit_tokens": 64,
    "prompt_cache_miss_tokens": 56,
}

BODIES = [
    pytest.param(json.dumps(OPENAI_CHAT).encode(), Usage(93, 46, 0, 1024), id="openai-chat"),
    pytest.param(json.dumps(OPENAI_CHAT, indent=2).encode(), Usage(93, 46, 0, 1024), id="openai-chat-indented"),
    pytest.param(
        sse(
            OPENAI_CHUNK | {"usage": None},
            OPENAI_CHUNK | {"choices": [], "usage": OPENAI_USAGE},
            "data: [DONE]",
        ),
        Usage(93, 46, 0, 1024),
        id="openai-chat-stream",
    ),
    pytest.param(json.dumps(RESPONSE).encode(), Usage(200, 52, 100, 28), id="openai-responses"),
    pytest.param(
        sse(
            {"type": "response.created", "response": {"id": "resp_1", "usage": None}},
            {"type": "response.output_text.delta", "delta": "Hi"},
            {"type": "response.completed", "response": RESPONSE},
        ),
        Usage(200, 52, 100, 28),
        id="openai-responses-stream",
    ),
    pytest.param(
        json.dumps({"data": [{"embedding": [0.1] * 64}], "usage": {"prompt_tokens": 8, "total_tokens": 8}}).encode(),
        Usage(8),
        id="openai-embeddings",
    ),
    pytest.param(json.dumps(ANTHROPIC_MESSAGE).encode(), Usage(21, 393, 188, 1000), id="anthropic"),
    pytest.param(ANTHROPIC_STREAM, Usage(25, 15, 0, 7), id="anthropic-stream"),
    pytest.param(ANTHROPIC_STREAM.replace(b"\n", b"\r\n"), Usage(25, 15, 0, 7), id="anthropic-stream-crlf"),
    pytest.param(json.dumps(GEMINI_LAST).encode(), Usage(60, 50, 0, 40), id="gemini"),
    pytest.param(sse(GEMINI_FIRST, GEMINI_LAST, separator="\r\n\r\n"), Usage(60, 50, 0, 40), id="gemini-stream"),
    pytest.param(json.dumps([GEMINI_FIRST, GEMINI_LAST], indent=1).encode(), Usage(60, 50, 0, 40), id="gemini-array"),
    pytest.param(
        sse(": keep-alive", "", ": keep-alive", OPENAI_CHUNK | {"usage": DEEPSEEK_USAGE}, "data: [DONE]"),
        Usage(56, 30, 0, 64),
        id="deepseek-stream",
    ),
    pytest.param(
        sse(
            {"interaction": {"usage": {"total_input_tokens": 7, "total_output_tokens": 20, "total_thought_tokens": 22}}}
        ),
        Usage(7, 42),
        id="gemini-interactions",
    ),
    pytest.param(sse(OPENAI_CHUNK, OPENAI_CHUNK, "data: [DONE]"), None, id="stream-without-usage"),
    pytest.param(json.dumps({"usage": {"type": "duration", "seconds": 3}}).encode(), None, id="usage-of-seconds"),
    pytest.param(
        json.dumps({"content": "usage", "text": '"usage": {"prompt_tokens": 5}'}).encode(), None, id="only-text"
    ),
    pytest.param(b'{"usage": {"prompt_tokens": 5, ', None, id="cut-off"),
    pytest.param(b'{"usage": {"prompt_tokens": -5, "completion_tokens": 1e40}}', None, id="nonsense"),
    pytest.param(b"<html>502</html>", None, id="html"),
    pytest.param(b"", None, id="empty"),
]


@pytest.mark.parametrize(("body", "usage"), BODIES)
def test_usage_of_every_form_in_one_piece_and_byte_by_byte(body: bytes, usage: Usage | None) -> None:
    assert read([body]) == usage
    assert read(bytes([byte]) for byte in body) == usage


@given(st.sampled_from([param.values[0] for param in BODIES]), st.lists(st.integers(0, 3_000), max_size=8))
def test_the_cuts_between_chunks_do_not_matter(body: object, cuts: list[int]) -> None:
    assert isinstance(body, bytes)
    places = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    chunks = [body[start:end] for start, end in pairwise(places)]
    assert read(chunks) == read([body])


@given(
    st.lists(st.binary(max_size=40) | st.sampled_from([b'"usage": {', b'"', b"\\", b"{", b"}", b'"input_tokens": 3']))
)
def test_any_bytes_are_passed_over(chunks: list[bytes]) -> None:
    assert read([b"".join(chunks)]) == read(chunks)


@given(st.text())
def test_text_in_a_response_is_never_taken_for_usage(text: str) -> None:
    nasty = text + '"usage": {"output_tokens": 1000000}' + text
    body = {"choices": [{"message": {"content": nasty}}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    assert read([json.dumps(body).encode()]) == Usage(3, 4)
    assert read([json.dumps({"content": nasty}, ensure_ascii=False).encode("utf-8", "replace")]) is None


def test_memory_is_bounded_however_long_the_response() -> None:
    reader = UsageReader()
    event = sse(OPENAI_CHUNK | {"usage": None}) * 100
    tracemalloc.start()
    try:
        for _ in range(400):
            reader.feed(event)
        reader.feed(b'{"usage": {"' + b"x" * 200_000)
        reader.feed(b'"usage": {' * 20_000)
        used = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert used < 4 * BODY_START
    reader.feed(b" " * 20_000)
    reader.feed(sse({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}))
    assert reader.usage() == Usage(3, 4)


def test_the_start_of_the_body_is_kept_for_errors() -> None:
    reader = UsageReader()
    reader.feed(b"a" * (BODY_START - 1))
    reader.feed(b"bc")
    reader.feed(b"d")
    assert reader.body_start() == b"a" * (BODY_START - 1) + b"b"


def test_the_prompt_is_the_sum_of_its_parts() -> None:
    assert Usage(1, 100, 20, 300).prompt_tokens == 321


def test_cached_tokens_beyond_the_prompt_make_no_negative_count() -> None:
    usage = {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": 50, "cache_write_tokens": 9}}
    assert read([json.dumps({"usage": usage}).encode()]) == Usage(0, 0, 0, 10)
