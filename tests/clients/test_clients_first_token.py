"""The time to the first token of a streamed answer is heard from the transport: nobody has to report it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.clients.support import SDKS, Side, told
from tests.clients.test_clients_sdks import ASKED, chat, chat_stream, messages, messages_stream, responses_stream

from cross_instance import dynamic_parallelism
from cross_instance.dynamic_parallelism import DynamicParallelismAdjuster, ResponseTimes
from cross_instance.testing.provider import ProviderServer

Play = Callable[..., None]
STREAMED = {"openai": (chat_stream, responses_stream), "anthropic": (messages_stream,)}
WHOLE = {"openai": chat, "anthropic": messages}
MODELS = {"openai": "gpt-test", "anthropic": "claude-test"}


@pytest.fixture
def adjuster() -> Iterator[DynamicParallelismAdjuster]:
    dynamic_parallelism.reset_parallelism_adjuster()
    yield dynamic_parallelism.get_parallelism_adjuster()
    dynamic_parallelism.reset_parallelism_adjuster()


def heard(side: Side, adjuster: DynamicParallelismAdjuster, name: str) -> ResponseTimes:
    """What this process knows of a model's times by now."""
    side.runtime._membership.activity._safely()
    return adjuster.get_response_times(name, MODELS[name])


def each_stream(*names: str) -> list[Any]:
    return [
        pytest.param(name, call, library, id=f"{call.__name__}-{library}")
        for name in names
        for call in STREAMED[name]
        for library in SDKS[name]
    ]


@pytest.mark.parametrize(("name", "call", "library"), each_stream("openai", "anthropic"))
def test_a_stream_tells_when_it_began(
    play: Play, provider: ProviderServer, adjuster: DynamicParallelismAdjuster, name: str, call: Any
) -> None:
    async def scenario(side: Side) -> None:
        await call(side, provider)
        times = heard(side, adjuster, name)
        assert (times.samples, times.streamed) == (1, 1)
        assert 0 < times.first_token_p50_ms <= times.p50_ms

    play(scenario)


@pytest.mark.parametrize(
    ("name", "library"), [(name, library) for name in ("openai", "anthropic") for library in SDKS[name]]
)
def test_an_answer_in_one_piece_has_no_first_token(
    play: Play, provider: ProviderServer, adjuster: DynamicParallelismAdjuster, name: str
) -> None:
    async def scenario(side: Side) -> None:
        await WHOLE[name](side, provider)
        times = heard(side, adjuster, name)
        assert (times.samples, times.streamed) == (1, 0)

    play(scenario)


@pytest.mark.parametrize("library", SDKS["openai"])
def test_a_stream_whose_reader_turned_away_had_a_first_token(
    play: Play, provider: ProviderServer, adjuster: DynamicParallelismAdjuster
) -> None:
    async def scenario(side: Side) -> None:
        stream = await told(
            side.openai(provider).chat.completions.create(model="gpt-test", messages=ASKED, stream=True)
        )
        assert await (anext(stream) if side.is_async else told(next(stream)))
        await told(stream.close())
        assert heard(side, adjuster, "openai").streamed == 1

    play(scenario)
