"""The real SDKs against the test provider: every kind of call, streamed or not, on each library, sync and async."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.clients.support import SDKS, Side, each, told

from cross_instance.testing.provider import Fault, ProviderServer

Play = Callable[..., None]
ASKED = [{"role": "user", "content": "Summarise this file."}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


async def chat(side: Side, server: ProviderServer) -> Any:
    answer = await told(side.openai(server).chat.completions.create(model="gpt-test", messages=ASKED))
    assert answer.choices[0].message.content
    return answer.usage.completion_tokens


async def chat_stream(side: Side, server: ProviderServer) -> Any:
    stream = side.openai(server).chat.completions.create(
        model="gpt-test", messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in each(stream)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    return chunks[-1].usage.completion_tokens


async def chat_tool(side: Side, server: ProviderServer) -> Any:
    function = {"name": "weather", "description": "The weather.", "parameters": SCHEMA}
    answer = await told(
        side.openai(server).chat.completions.create(
            model="gpt-test",
            messages=ASKED,
            tools=[{"type": "function", "function": function}],
            tool_choice={"type": "function", "function": {"name": "weather"}},
        )
    )
    assert json.loads(answer.choices[0].message.tool_calls[0].function.arguments)["city"]
    return answer.usage.completion_tokens


async def responses(side: Side, server: ProviderServer) -> Any:
    answer = await told(side.openai(server).responses.create(model="gpt-test", input="Summarise this file."))
    assert answer.output_text
    return answer.usage.output_tokens


async def responses_stream(side: Side, server: ProviderServer) -> Any:
    stream = side.openai(server).responses.create(model="gpt-test", input="Summarise this file.", stream=True)
    events = [event async for event in each(stream)]
    assert any(event.type == "response.output_text.delta" for event in events)
    return events[-1].response.usage.output_tokens


async def embeddings(side: Side, server: ProviderServer) -> Any:
    answer = await told(side.openai(server).embeddings.create(model="embed-test", input=["one", "two"]))
    assert len(answer.data) == 2
    return 0


async def messages(side: Side, server: ProviderServer) -> Any:
    answer = await told(side.anthropic(server).messages.create(model="claude-test", max_tokens=100, messages=ASKED))
    assert answer.content[0].text
    return answer.usage.output_tokens


async def messages_stream(side: Side, server: ProviderServer) -> Any:
    stream = side.anthropic(server).messages.create(model="claude-test", max_tokens=100, messages=ASKED, stream=True)
    events = [event async for event in each(stream)]
    assert any(event.type == "content_block_delta" for event in events)
    return next(event.usage.output_tokens for event in events if event.type == "message_delta")


async def messages_tool(side: Side, server: ProviderServer) -> Any:
    answer = await told(
        side.anthropic(server).messages.create(
            model="claude-test",
            max_tokens=100,
            messages=ASKED,
            tools=[{"name": "weather", "description": "The weather.", "input_schema": SCHEMA}],
            tool_choice={"type": "tool", "name": "weather"},
        )
    )
    assert answer.content[0].input["city"]
    return answer.usage.output_tokens


async def generate(side: Side, server: ProviderServer) -> Any:
    answer = await told(
        side.gemini(server).models.generate_content(model="gemini-test", contents="Summarise this file.")
    )
    assert answer.text
    return answer.usage_metadata.candidates_token_count


async def generate_stream(side: Side, server: ProviderServer) -> Any:
    stream = side.gemini(server).models.generate_content_stream(model="gemini-test", contents="Summarise this file.")
    chunks = [chunk async for chunk in each(stream)]
    assert "".join(chunk.text or "" for chunk in chunks)
    return chunks[-1].usage_metadata.candidates_token_count


async def generate_tool(side: Side, server: ProviderServer) -> Any:
    declaration = {"name": "weather", "description": "The weather.", "parameters": SCHEMA}
    answer = await told(
        side.gemini(server).models.generate_content(
            model="gemini-test",
            contents="Summarise this file.",
            config={
                "tools": [{"function_declarations": [declaration]}],
                "tool_config": {"function_calling_config": {"mode": "ANY"}},
                "automatic_function_calling": {"disable": True},
            },
        )
    )
    assert answer.function_calls[0].args["city"]
    return answer.usage_metadata.candidates_token_count


CALLS = {
    "openai": (chat, chat_stream, chat_tool, responses, responses_stream, embeddings),
    "anthropic": (messages, messages_stream, messages_tool),
    "gemini": (generate, generate_stream, generate_tool),
}
every_call = pytest.mark.parametrize(
    ("name", "call", "library"),
    [
        pytest.param(name, call, library, id=f"{call.__name__}-{library}")
        for name, calls in CALLS.items()
        for call in calls
        for library in SDKS[name]
    ],
)


@every_call
def test_a_call_takes_one_permit_and_its_usage_is_learned(
    play: Play, provider: ProviderServer, name: str, call: Any
) -> None:
    async def scenario(side: Side) -> None:
        output = await call(side, provider)
        assert await side.used() == 1
        visit = provider.journal()[0]
        learned = side.runtime.calibration.output(name, visit.model)
        assert learned == round(500 + (output - 500) / 10)

    play(scenario)
    assert [record.outcome for record in provider.journal()] == ["served"]


@every_call
def test_a_rejected_call_waits_its_turn_and_is_sent_again(
    play: Play, provider: ProviderServer, name: str, call: Any
) -> None:
    provider.set_faults(Fault("429", first=1, last=1, retry_after="0.02"))

    async def scenario(side: Side) -> None:
        await call(side, provider)
        assert await side.used() == 2

    play(scenario)
    assert [record.status for record in provider.journal()] == [429, 200]
