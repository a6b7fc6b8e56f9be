"""The real OpenAI SDK against the provider; every answer is held against the SDK's own types, strictly."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from cross_instance.testing.provider import Fault, Limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.testing.provider import ProviderServer

HELLO: Any = [{"role": "user", "content": "Hello there, provider!"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
TOOLS: Any = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
RESPONSE_TOOLS: Any = [{"type": "function", "name": "weather", "parameters": SCHEMA, "strict": False}]
ARGUMENTS = '{"city":"text","days":1}'


def client_of(server: ProviderServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.base_url("openai"), api_key="any", max_retries=0)


def test_chat_completion(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client:
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO)
    ChatCompletion.model_validate(answer.to_dict(), strict=True)
    assert answer.choices[0].message.content
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 16)


def test_chat_completion_cut_at_its_limit(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client:
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO, max_completion_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_chat_stream(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client:
        whole = client.chat.completions.create(model="gpt-4o", messages=HELLO)
        options: Any = {"include_usage": True}
        chunks = list(
            client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True, stream_options=options)
        )
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.to_dict(), strict=True)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage


def test_chat_stream_tells_no_usage_unless_asked(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client:
        chunks = list(client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True))
    assert all(chunk.usage is None for chunk in chunks)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_chat_tool_call_when_forced(serve: Callable[..., ProviderServer], choice: Any) -> None:
    with client_of(serve()) as client:
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO, tools=TOOLS, tool_choice=choice)
    ChatCompletion.model_validate(answer.to_dict(), strict=True)
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.tool_calls is not None
    function: Any = answer.choices[0].message.tool_calls[0]
    assert (function.function.name, function.function.arguments) == ("weather", ARGUMENTS)


def test_chat_tools_are_left_alone_unless_asked(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client:
        answer = client.chat.completions.create(model="gpt-4o", messages=HELLO, tools=TOOLS)
    assert answer.choices[0].message.tool_calls is None


def test_chat_tool_call_in_a_stream_by_header(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client:
        chunks = list(
            client.chat.completions.create(
                model="gpt-4o", messages=HELLO, tools=TOOLS, stream=True, extra_headers={"x-provider-tool": "*"}
            )
        )
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or ()]
    functions = [call.function for call in calls if call.function is not None]
    assert functions[0].name == "weather"
    assert "".join(function.arguments or "" for function in functions) == ARGUMENTS
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_response(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve(cached_input=0.5)) as client:
        answer = client.responses.create(model="gpt-4o", input="Hello there", tools=RESPONSE_TOOLS)
    Response.model_validate(answer.to_dict(), strict=True)
    assert answer.output_text
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.cached_tokens == round(answer.usage.input_tokens / 2)


@pytest.mark.parametrize("tool", [False, True])
def test_response_stream(serve: Callable[..., ProviderServer], tool: bool) -> None:
    with client_of(serve()) as client:
        extra: Any = {"tools": RESPONSE_TOOLS, "tool_choice": "required"} if tool else {}
        with client.responses.stream(model="gpt-4o", input="Hello", **extra) as stream:
            for event in stream:
                assert event.type
            final = stream.get_final_response()
        raw = list(client.responses.create(model="gpt-4o", input="Hello", stream=True, **extra))
    for event in raw:
        TypeAdapter(ResponseStreamEvent).validate_python(event.to_dict(), strict=True)
    assert [event.sequence_number for event in raw] == list(range(len(raw)))
    item: Any = final.output[0]
    assert item.arguments == ARGUMENTS if tool else final.output_text.startswith("One account")


def test_response_cut_at_its_limit(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client:
        events = list(client.responses.create(model="gpt-4o", input="Hi", max_output_tokens=2, stream=True))
    last: Any = events[-1]
    assert last.type == "response.incomplete"
    assert last.response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings(serve: Callable[..., ProviderServer], encoding: Any) -> None:
    with client_of(serve()) as client:
        options: Any = {} if encoding == "base64" else {"encoding_format": "float"}  # base64 is the SDK's own default
        answer = client.embeddings.create(model="text-embedding-3-small", input=["a", "b"], dimensions=5, **options)
    assert [entry.embedding for entry in answer.data] == [[1.0, 0.0, 0.0, 0.0, 0.0]] * 2
    assert answer.usage.prompt_tokens == 1


def test_models(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client:
        assert "gpt-4o" in [model.id for model in client.models.list()]
        assert client.models.retrieve("o9").id == "o9"


def test_azure_addresses(serve: Callable[..., ProviderServer]) -> None:
    server = serve()
    with openai.AzureOpenAI(azure_endpoint=server.url, api_key="any", api_version="2025-01-01") as client:
        assert client.chat.completions.create(model="my-deployment", messages=HELLO).model == "my-deployment"


def test_async_client(serve: Callable[..., ProviderServer]) -> None:
    async def run(server: ProviderServer) -> tuple[str | None, str, str]:
        async with openai.AsyncOpenAI(base_url=server.base_url(), api_key="any", max_retries=0) as client:
            whole = await client.chat.completions.create(model="gpt-4o", messages=HELLO)
            stream = await client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True)
            streamed = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            response = await client.responses.create(model="gpt-4o", input="Hello")
            return whole.choices[0].message.content, streamed, response.output_text

    whole, streamed, response = asyncio.run(run(serve()))
    assert whole == streamed == response


def test_rate_limit_error_and_headers(serve: Callable[..., ProviderServer]) -> None:
    server = serve(limits=(Limit("requests", 60, period=3600.0, burst=1), Limit("tokens", 100_000, period=1e7)))
    with client_of(server) as client:
        raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HELLO, max_tokens=400)
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="gpt-4o", messages=HELLO)
    headers = raw.headers
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-limit-tokens"] == "100000"
    assert headers["x-ratelimit-remaining-tokens"] == "99600"  # max_tokens, on arrival
    assert headers["x-ratelimit-reset-requests"].endswith(("ms", "s"))
    body: Any = refused.value.body
    assert (body["type"], body["code"]) == ("requests", "rate_limit_exceeded")
    assert 0 < int(refused.value.response.headers["retry-after"]) <= 60
    assert 0 < int(refused.value.response.headers["retry-after-ms"]) <= 60_000


def test_no_headers_and_no_retry_after(serve: Callable[..., ProviderServer]) -> None:
    server = serve(limits=(Limit("requests", 1),), rate_limit_headers=False, retry_after=False)
    with client_of(server) as client:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert not [name for name in refused.value.response.headers if "ratelimit" in name or "retry" in name]
    assert "Limit 1" in refused.value.message


def test_a_refusal_that_names_no_limit(serve: Callable[..., ProviderServer]) -> None:
    server = serve(limits=(Limit("requests", 1),), name_limits=False)
    with client_of(server) as client:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
        with pytest.raises(openai.RateLimitError) as refused:
            client.chat.completions.create(model="gpt-4o", messages=HELLO)
    assert "Limit" not in refused.value.message
    assert server.statistics().total.rejected == 1


def test_a_request_too_large_for_its_limit(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve(limits=(Limit("tokens", 10),))) as client, pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(model="gpt-4o", messages=HELLO, max_tokens=11)
    assert "Request too large" in refused.value.message
    assert "retry-after" not in refused.value.response.headers


def test_the_sdk_retries_as_told(serve: Callable[..., ProviderServer]) -> None:
    server = serve(faults=(Fault("429", last=2, retry_after="0.001"),))
    with openai.OpenAI(base_url=server.base_url(), api_key="any", max_retries=2) as client:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    total = server.statistics().total
    assert (total.rejected, total.served) == (2, 1)


@pytest.mark.parametrize(
    ("fault", "error", "code"),
    [
        (Fault("429"), openai.RateLimitError, "rate_limit_exceeded"),
        (Fault("slow_down"), openai.RateLimitError, "slow_down"),
        (Fault("insufficient_quota"), openai.RateLimitError, "insufficient_quota"),
        (
            Fault("insufficient_quota", code="credit_balance_exhausted"),
            openai.RateLimitError,
            "credit_balance_exhausted",
        ),
        (Fault("500"), openai.InternalServerError, None),
        (Fault("503"), openai.InternalServerError, "server_is_overloaded"),
        (Fault("529"), openai.InternalServerError, "server_is_overloaded"),
    ],
)
def test_scripted_errors(
    serve: Callable[..., ProviderServer], fault: Fault, error: type[openai.APIStatusError], code: str | None
) -> None:
    with client_of(serve(faults=(fault,))) as client, pytest.raises(error) as raised:
        client.chat.completions.create(model="gpt-4o", messages=HELLO)
    body: Any = raised.value.body
    assert body["code"] == code


def test_an_error_in_the_middle_of_a_stream(serve: Callable[..., ProviderServer]) -> None:
    with (
        client_of(serve(faults=(Fault("stream_error"),))) as client,
        client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=True) as stream,
        pytest.raises(openai.APIError, match="scripted"),
    ):
        list(stream)


def test_a_bad_request(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client, pytest.raises(openai.BadRequestError, match="messages"):
        client.chat.completions.create(model="gpt-4o", messages=[])
