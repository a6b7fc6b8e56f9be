"""The real google-genai SDK against the provider, and the JSON array that it never asks for."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from google import genai
from google.genai import errors, types

from cross_instance.testing.provider import Fault, Limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from cross_instance.testing.provider import ProviderServer

MODEL = "gemini-2.5-flash"
WEATHER = types.FunctionDeclaration(
    name="weather",
    parameters=types.Schema(type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}),
)
FORCED = types.GenerateContentConfig(
    tools=[types.Tool(function_declarations=[WEATHER])],
    tool_config=types.ToolConfig(
        function_calling_config=types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
    ),
)


def client_of(server: ProviderServer) -> genai.Client:
    return genai.Client(api_key="any", http_options=types.HttpOptions(base_url=server.base_url("gemini")))


def details_of(error: errors.APIError) -> dict[str, dict[str, Any]]:
    body: Any = error.details
    return {entry["@type"].rpartition(".")[2]: entry for entry in body["error"].get("details", ())}


def test_generate_content(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve(characters_per_token=2.0, cached_input=0.5)) as client:
        answer = client.models.generate_content(model=MODEL, contents="Hello there!")
    assert answer.text
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.prompt_token_count == 6
    assert answer.usage_metadata.cached_content_token_count == 3
    assert answer.usage_metadata.total_token_count == 22


def test_stream_of_events(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client:
        whole = client.models.generate_content(model=MODEL, contents="Hello")
        chunks = list(client.models.generate_content_stream(model=MODEL, contents="Hello"))
    assert "".join(chunk.text or "" for chunk in chunks) == whole.text
    assert chunks[-1].usage_metadata == whole.usage_metadata
    assert [chunk.candidates[0].finish_reason for chunk in chunks if chunk.candidates][-1] == "STOP"


def test_stream_as_a_json_array(serve: Callable[..., ProviderServer]) -> None:
    server = serve()
    body = json.dumps({"contents": [{"parts": [{"text": "Hello"}]}]}).encode()
    url = f"{server.url}/v1beta/models/{MODEL}:streamGenerateContent?key=any"
    with urllib.request.urlopen(urllib.request.Request(url, body)) as answer:
        chunks = json.load(answer)
    assert len(chunks) == 16
    assert chunks[-1]["usageMetadata"]["candidatesTokenCount"] == 16
    server.set_faults(Fault("500"))
    with pytest.raises(urllib.request.HTTPError) as refused, urllib.request.urlopen(urllib.request.Request(url, body)):
        pass
    with refused.value as response:
        assert json.load(response)[0]["error"]["status"] == "INTERNAL"


def test_function_calls(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client:
        whole = client.models.generate_content(model=MODEL, contents="Hi", config=FORCED)
        chunks = list(client.models.generate_content_stream(model=MODEL, contents="Hi", config=FORCED))
    for answer in (whole, *chunks):
        assert answer.function_calls is not None
        assert (answer.function_calls[0].name, answer.function_calls[0].args) == ("weather", {"city": "text"})


def test_embeddings_counting_and_models(serve: Callable[..., ProviderServer]) -> None:
    with client_of(serve()) as client:
        contents: Any = ["a", "b", "c"]
        answer = client.models.embed_content(model="gemini-embedding-001", contents=contents)
        count = client.models.count_tokens(model=MODEL, contents="Hello there!")
        names = [model.name for model in client.models.list()]
    assert answer.embeddings is not None
    assert len(answer.embeddings) == 3
    assert count.total_tokens == 3
    assert f"models/{MODEL}" in names


def test_async_client(serve: Callable[..., ProviderServer]) -> None:
    async def run(server: ProviderServer) -> list[str]:
        async with client_of(server).aio as client:
            whole = await client.models.generate_content(model=MODEL, contents="Hello")
            stream = await client.models.generate_content_stream(model=MODEL, contents="Hello")
            return [whole.text or "", "".join([chunk.text or "" async for chunk in stream])]

    whole, streamed = asyncio.run(run(serve()))
    assert whole == streamed


def test_rate_limit_error_has_details_and_no_headers(serve: Callable[..., ProviderServer]) -> None:
    server = serve(limits=(Limit("requests", 60, period=3600.0, burst=1),))
    with client_of(server) as client:
        answer = client.models.generate_content(model=MODEL, contents="Hello")
        with pytest.raises(errors.ClientError) as refused:
            client.models.generate_content(model=MODEL, contents="Hello")
    assert answer.sdk_http_response is not None
    assert not [name for name in answer.sdk_http_response.headers or () if "ratelimit" in name]
    assert (refused.value.code, refused.value.status) == (429, "RESOURCE_EXHAUSTED")
    details = details_of(refused.value)
    violation = details["QuotaFailure"]["violations"][0]
    assert violation["quotaId"] == "GenerateRequestsPerMinutePerProjectPerModel"
    assert violation["quotaValue"] == "60"
    assert 0 < float(details["RetryInfo"]["retryDelay"].removesuffix("s")) <= 60


def test_no_retry_info(serve: Callable[..., ProviderServer]) -> None:
    server = serve(limits=(Limit("input_tokens", 1),), retry_after=False)
    with client_of(server) as client, pytest.raises(errors.ClientError) as refused:
        client.models.generate_content(model=MODEL, contents="Hello")
    assert set(details_of(refused.value)) == {"QuotaFailure"}


@pytest.mark.parametrize(
    ("fault", "code", "status", "detail"),
    [
        (Fault("429", retry_after="26"), 429, "RESOURCE_EXHAUSTED", ("RetryInfo", "retryDelay", "26s")),
        (Fault("insufficient_quota"), 429, "RESOURCE_EXHAUSTED", ("QuotaFailure", "violations", None)),
        (Fault("503"), 503, "UNAVAILABLE", None),
        (Fault("500"), 500, "INTERNAL", None),
    ],
)
def test_scripted_errors(
    serve: Callable[..., ProviderServer], fault: Fault, code: int, status: str, detail: tuple[str, str, str] | None
) -> None:
    with client_of(serve(faults=(fault,))) as client, pytest.raises(errors.APIError) as raised:
        client.models.generate_content(model=MODEL, contents="Hello")
    assert (raised.value.code, raised.value.status) == (code, status)
    if detail is not None:
        name, key, value = detail
        assert value in (None, details_of(raised.value)[name][key])


def test_a_bad_request(serve: Callable[..., ProviderServer]) -> None:
    config = types.GenerateContentConfig(max_output_tokens=-1)
    with client_of(serve()) as client, pytest.raises(errors.ClientError, match="maxOutputTokens"):
        client.models.generate_content(model=MODEL, contents="Hello", config=config)
