"""The real Anthropic SDK against the provider; every answer is held against the SDK's own types, strictly."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anthropic
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from cross_instance.testing.provider import Fault, Limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.testing.provider import ProviderServer

CALL: Any = {
    "model": "claude-sonnet-5-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "Hello there, provider!"}],
}
TOOLS: Any = [
    {"name": "noise", "input_schema": {"type": "object"}},
    {"name": "weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}},
]


def client_of(server: ProviderServer) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.base_url("anthropic"), api_key="any", max_retries=0)


def test_message(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve(cached_input=0.5)) as client:
        answer = client.messages.create(**CALL)
    Message.model_validate(answer.to_dict(), strict=True)
    assert answer.stop_reason == "end_turn"
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens) == (3, 3)
    assert answer.usage.output_tokens == 16


def test_message_cut_at_its_limit(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client:
        answer = client.messages.create(**CALL | {"max_tokens": 4})
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 4)


def test_stream_of_events(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client:
        events = list(client.messages.create(**CALL, stream=True))
        with client.messages.stream(**CALL) as stream:
            final = stream.get_final_message()
    for event in events:
        TypeAdapter[Any](RawMessageStreamEvent).validate_python(event.to_dict(), strict=True)
    kinds = [event.type for event in events]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert (final.usage.input_tokens, final.usage.output_tokens) == (6, 16)


@pytest.mark.parametrize("choice", [{"type": "tool", "name": "weather"}, None])
def test_tool_use_whole_and_streamed(serve: Callable[..., ProviderServer], choice: Any) -> None:
    extra: Any = {"tools": TOOLS} | ({"tool_choice": choice} if choice else {})
    headers = {} if choice else {"x-provider-tool": "weather"}
    with client_of(serve()) as client:
        whole = client.messages.create(**CALL, **extra, extra_headers=headers)
        with client.messages.stream(**CALL, **extra, extra_headers=headers) as stream:
            streamed = stream.get_final_message()
    for answer in (whole, streamed):
        block: Any = answer.content[0]
        assert (block.name, block.input, answer.stop_reason) == ("weather", {"city": "text"}, "tool_use")


def test_count_tokens_and_models_are_free(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve(limits=(Limit("requests", 1),))) as client:
        for _ in range(3):
            assert client.messages.count_tokens(model="m", messages=CALL["messages"]).input_tokens == 6
            assert [model.type for model in client.models.list()] == ["model", "model"]


def test_async_client(serve: Callable[..., ProviderServer]) -> None:
    async def run(server: ProviderServer) -> list[str]:
        async with anthropic.AsyncAnthropic(
            base_url=server.base_url("anthropic"), api_key="any", max_retries=0
        ) as client:
            whole: Any = await client.messages.create(**CALL)
            async with client.messages.stream(**CALL) as stream:
                return [whole.content[0].text, await stream.get_final_text()]

    whole, streamed = asyncio.run(run(serve()))
    assert whole == streamed


def test_rate_limit_error_and_headers(serve: Callable[..., ProviderServer]) -> None:
    limits = (
        Limit("requests", 60, period=3600.0, burst=1),
        Limit("input_tokens", 40_000),
        Limit("output_tokens", 8_000),
    )
    with client_of(serve(limits=limits)) as client:
        raw = client.messages.with_raw_response.create(**CALL)
        with pytest.raises(anthropic.RateLimitError) as refused:
            client.messages.create(**CALL)
    prefix = "anthropic-ratelimit-"
    assert raw.headers[prefix + "requests-limit"] == "60"
    assert raw.headers[prefix + "requests-remaining"] == "0"
    assert raw.headers[prefix + "input-tokens-limit"] == "40000"
    assert raw.headers[prefix + "input-tokens-remaining"] == "40000"  # rounded to thousands
    assert raw.headers[prefix + "output-tokens-limit"] == "8000"
    reset = datetime.fromisoformat(raw.headers[prefix + "requests-reset"])
    assert 0 <= (reset - datetime.now(UTC)).total_seconds() + 1 < 62
    assert refused.value.response.headers["retry-after"] != "0"
    body: Any = refused.value.body
    assert body["error"]["type"] == "rate_limit_error"


def test_output_is_charged_as_generated_and_max_tokens_is_not(serve: Callable[..., ProviderServer]) -> None:
    server = serve(limits=(Limit("output_tokens", 60, burst=20, period=3600.0),))
    with client_of(server) as client:
        client.messages.create(**CALL | {"max_tokens": 4000})  # 16 of 20
        client.messages.create(**CALL)  # 4 were left: let in, and owes 12
        with pytest.raises(anthropic.RateLimitError, match="output tokens"):
            client.messages.create(**CALL)


def test_cache_reads_do_not_count_as_input(serve: Callable[..., ProviderServer]) -> None:
    call = CALL | {"messages": [{"role": "user", "content": "x" * 4000}]}
    limits = (Limit("input_tokens", 1000, period=3600.0),)
    with client_of(serve(limits=limits, cached_input=1.0)) as client:
        for _ in range(3):
            client.messages.create(**call)
    with client_of(serve(limits=limits)) as client:
        client.messages.create(**call)
        with pytest.raises(anthropic.RateLimitError):
            client.messages.create(**call)


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        (Fault("429", retry_after="7"), 429, "rate_limit_error"),
        (Fault("slow_down"), 429, "rate_limit_error"),
        (Fault("500"), 500, "api_error"),
        (Fault("529"), 529, "overloaded_error"),
    ],
)
def test_scripted_errors(serve: Callable[..., ProviderServer], fault: Fault, status: int, kind: str) -> None:
    with client_of(serve(faults=(fault,))) as client, pytest.raises(anthropic.APIStatusError) as raised:
        client.messages.create(**CALL)
    body: Any = raised.value.body
    assert (raised.value.status_code, body["error"]["type"]) == (status, kind)
    assert raised.value.response.headers.get("retry-after") == fault.retry_after


def test_a_spend_limit_has_its_code_and_no_retry_after(serve: Callable[..., ProviderServer]) -> None:
    server = serve(faults=(Fault("insufficient_quota"),))
    with client_of(server) as client, pytest.raises(anthropic.RateLimitError) as raised:
        client.messages.create(**CALL)
    body: Any = raised.value.body
    assert body["error"]["details"]["error_code"] == "enforced_spend_limit_reached"
    assert "retry-after" not in raised.value.response.headers


def test_an_error_in_the_middle_of_a_stream(serve: Callable[..., ProviderServer]) -> None:
    with (
        client_of(serve(faults=(Fault("stream_error"),))) as client,
        client.messages.create(**CALL, stream=True) as stream,
        pytest.raises(anthropic.APIStatusError, match="scripted"),
    ):
        list(stream)


def test_a_bad_request(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client, pytest.raises(anthropic.BadRequestError, match="messages"):
        client.messages.create(**CALL | {"messages": []})
