"""What an SDK's user meets when there is no permit, no quota or no time left."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.clients.support import CURRENT, SDKS, Side, told

from cross_instance.rules.operations import ClaimedTask, NewTask
from cross_instance.tasks import context as tasks
from cross_instance.testing.provider import Fault, ProviderServer

Play = Callable[..., None]
ASKED = [{"role": "user", "content": "Summarise this file."}]
ONE_REQUEST = {"requestsPerMinute": 1, "burst": 1}

on_libraries_of = {sdk: pytest.mark.parametrize("library", libraries, indirect=True) for sdk, libraries in SDKS.items()}


async def ask_openai(client: Any, **options: Any) -> Any:
    return await told(client.chat.completions.create(model="gpt-test", messages=ASKED, **options))


async def ask_anthropic(client: Any, **options: Any) -> Any:
    return await told(client.messages.create(model="claude-test", max_tokens=9, messages=ASKED, **options))


async def ask_gemini(client: Any, **options: Any) -> Any:
    return await told(client.models.generate_content(model="gemini-test", contents="Summarise.", **options))


def test_openai_gets_its_rate_limit_error_when_no_permit_comes_in_time(play: Play, provider: ProviderServer) -> None:
    import openai

    async def scenario(side: Side) -> None:
        client, begun = side.openai(provider, max_retries=2), time.monotonic()
        await ask_openai(client)
        with pytest.raises(openai.RateLimitError) as caught:
            await ask_openai(client, timeout=2.0)
        assert caught.value.code == "RATE_LIMIT_EXCEEDED"
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["limit"] == "requests"
        earliest = 60 - (time.monotonic() - begun)
        assert earliest <= caught.value.body["retry_after"] <= 60
        assert earliest <= int(caught.value.response.headers["retry-after"]) <= 61

    play(scenario, providers={"openai": ONE_REQUEST})
    assert provider.statistics().total.requests == 1


@on_libraries_of["anthropic"]
def test_anthropic_gets_its_rate_limit_error_when_no_permit_comes_in_time(play: Play, provider: ProviderServer) -> None:
    import anthropic

    async def scenario(side: Side) -> None:
        client = side.anthropic(provider, max_retries=2)
        await ask_anthropic(client)
        with pytest.raises(anthropic.RateLimitError) as caught:
            await ask_anthropic(client, timeout=2.0)
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["error"]["type"] == "rate_limit_error"
        assert caught.value.body["error"]["code"] == "RATE_LIMIT_EXCEEDED"

    play(scenario, providers={"anthropic": ONE_REQUEST})
    assert provider.statistics().total.requests == 1


@pytest.mark.skipif(not CURRENT, reason="google-genai is tested with the current SDKs")
def test_gemini_gets_its_client_error_when_no_permit_comes_in_time(play: Play, provider: ProviderServer) -> None:
    from google.genai.errors import ClientError

    async def scenario(side: Side) -> None:
        client = side.gemini(provider)
        await ask_gemini(client)
        with pytest.raises(ClientError) as caught:
            await ask_gemini(client, config={"http_options": {"timeout": 2000}})
        assert caught.value.code == 429
        assert caught.value.status == "RESOURCE_EXHAUSTED"
        reasons = [detail.get("reason") for detail in caught.value.details["error"]["details"]]
        assert "RATE_LIMIT_EXCEEDED" in reasons

    play(scenario, providers={"gemini": ONE_REQUEST})
    assert provider.statistics().total.requests == 1


def test_a_request_larger_than_its_limit_is_refused_and_not_retried(play: Play, provider: ProviderServer) -> None:
    import openai

    async def scenario(side: Side) -> None:
        with pytest.raises(openai.APIStatusError) as caught:
            await ask_openai(side.openai(provider, max_retries=2), max_tokens=5000)
        assert caught.value.status_code == 413
        assert caught.value.code == "REQUEST_TOO_LARGE"

    play(scenario, providers={"openai": {"tokensPerMinute": 1000}})
    assert provider.statistics().total.requests == 0


def test_an_owner_that_has_lost_its_task_is_told_so_and_sends_nothing(play: Play, provider: ProviderServer) -> None:
    import openai

    async def scenario(side: Side) -> None:
        lost = ClaimedTask(1, 1, NewTask("lost", "kind"))
        tasks.enter(tasks.RunningTask(side.runtime._membership, lost))
        with pytest.raises(openai.ConflictError, match="does not own the task 'lost' in epoch 1") as caught:
            await ask_openai(side.openai(provider, max_retries=2))
        assert caught.value.code == "STALE_TASK"

    play(scenario)
    assert provider.statistics().total.requests == 0


def test_exhausted_quota_is_asked_for_once(play: Play, provider: ProviderServer) -> None:
    import openai

    provider.set_faults(Fault("insufficient_quota"))

    async def scenario(side: Side) -> None:
        with pytest.raises(openai.RateLimitError) as caught:
            await ask_openai(side.openai(provider, max_retries=2))
        assert caught.value.code == "insufficient_quota"

    play(scenario)
    assert provider.statistics().total.requests == 1


def test_the_providers_last_answer_is_handed_over_when_time_is_up(play: Play, provider: ProviderServer) -> None:
    import openai

    provider.set_faults(Fault("429", retry_after="30"))

    async def scenario(side: Side) -> None:
        with pytest.raises(openai.RateLimitError) as caught:
            await ask_openai(side.openai(provider), timeout=20.0)
        assert caught.value.response.headers["retry-after"] == "30"
        assert caught.value.code != "RATE_LIMIT_EXCEEDED"
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["message"]

    play(scenario)
    assert provider.statistics().total.requests == 1


def test_an_overload_that_names_no_wait_is_left_to_the_sdk(play: Play, provider: ProviderServer) -> None:
    import openai

    provider.set_faults(Fault("503"))

    async def scenario(side: Side) -> None:
        with pytest.raises(openai.InternalServerError):
            await ask_openai(side.openai(provider))

    play(scenario)
    assert provider.statistics().total.requests == 1


def test_each_attempt_of_the_sdk_takes_its_turn(play: Play, provider: ProviderServer) -> None:
    provider.set_faults(Fault("500", first=1, last=2, retry_after="0.01"))

    async def scenario(side: Side) -> None:
        await ask_openai(side.openai(provider, max_retries=2))
        assert await side.used() == 3

    play(scenario)
    assert [record.status for record in provider.journal()] == [500, 500, 200]


@pytest.mark.parametrize(
    ("header", "value"), [("X-CI-Priority", "urgent"), ("X-CI-Timeout", "soon"), ("X-CI-Timeout", "-1")]
)
def test_a_wrong_header_is_told_at_once(play: Play, provider: ProviderServer, header: str, value: str) -> None:
    import openai

    async def scenario(side: Side) -> None:
        with pytest.raises(openai.BadRequestError, match=f"{header} must be .*{value}"):
            await ask_openai(side.openai(provider, max_retries=2), extra_headers={header: value})

    play(scenario)
    assert provider.statistics().total.requests == 0


@pytest.mark.parametrize("timeout", ["0", "0.5"])
def test_the_time_to_wait_can_be_given_by_header(play: Play, provider: ProviderServer, timeout: str) -> None:
    import openai

    async def scenario(side: Side) -> None:
        client = side.openai(provider)
        await ask_openai(client)
        with pytest.raises(openai.RateLimitError, match="no permit") as caught:
            await ask_openai(client, extra_headers={"X-CI-Timeout": timeout})
        assert caught.value.code == "RATE_LIMIT_EXCEEDED"

    play(scenario, providers={"openai": ONE_REQUEST})
    assert provider.statistics().total.requests == 1
