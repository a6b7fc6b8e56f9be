"""Presets: where to start with each provider, whose host is whose, who charges how."""

import pytest

from cross_instance.providers.presets import KNOWN, Charging, charging, preset, provider_for_host
from cross_instance.rules.operations import Kind, Source


@pytest.mark.parametrize(
    ("provider", "requests_per_minute", "burst"),
    [("openai", 500, 100), ("anthropic", 50, 25), ("deepseek", 1000, 200), ("gemini", 60, 15)],
)
def test_the_reference_s_presets(provider: str, requests_per_minute: int, burst: int) -> None:
    found = preset(provider)
    assert (found.requests_per_minute, found.burst) == (requests_per_minute, burst)
    assert found.concurrency is None
    assert found.source is Source.PRESET


@pytest.mark.parametrize("provider", ["azure", "my-gateway", ""])
def test_figures_nobody_stated_are_a_guess(provider: str) -> None:
    found = preset(provider)
    assert found.provider == provider
    assert (found.requests_per_minute, found.burst, found.concurrency) == (30, 10, 2)
    assert found.source is Source.GUESS


def test_the_case_of_a_provider_s_name_does_not_matter() -> None:
    assert preset("OpenAI") == preset("openai")
    assert charging("OpenAI", Kind.TOKENS) == charging("openai", Kind.TOKENS)


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("API.OpenAI.com:443", "openai"),
        ("api.openai.com.", "openai"),
        ("api.anthropic.com", "anthropic"),
        ("generativelanguage.googleapis.com", "gemini"),
        ("api.deepseek.com", "deepseek"),
        ("my-resource.openai.azure.com", "azure"),
        ("my-resource.cognitiveservices.azure.com", "azure"),
        ("openai.azure.com", None),
        ("evil-api.openai.com.example.org", None),
        ("notapi.openai.com", None),
        ("example.org", None),
        ("", None),
    ],
)
def test_hosts_are_known(host: str, provider: str | None) -> None:
    assert provider_for_host(host) == provider


def test_configured_hosts_come_first_and_may_name_a_port_or_a_pattern() -> None:
    extra = {"127.0.0.1:8080": "local", "*.corp.example": "gateway", "api.openai.com": "proxied"}
    assert provider_for_host("127.0.0.1:8080", extra) == "local"
    assert provider_for_host("127.0.0.1:8081", extra) is None
    assert provider_for_host("llm.corp.example:443", extra) == "gateway"
    assert provider_for_host("api.openai.com", extra) == "proxied"


def test_every_known_provider_is_found_by_its_hosts() -> None:
    for name in KNOWN:
        for host in preset(name).hosts:
            assert provider_for_host(host.replace("*", "some")) == name


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.CONCURRENCY])
def test_openai_returns_nothing_and_others_charge_on_usage(kind: Kind) -> None:
    for provider in ("openai", "azure"):
        assert charging(provider, kind) == Charging(correct=False, refund=False)
    for provider in ("anthropic", "gemini", "deepseek", "unheard-of"):
        assert charging(provider, kind) == Charging(correct=True, refund=True)


def test_slots_are_given_back_everywhere() -> None:
    assert charging("openai", Kind.CONCURRENCY) == Charging(correct=True, refund=True)
