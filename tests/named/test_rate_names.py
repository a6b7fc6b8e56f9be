"""`provider_limits` and `adaptive_rate` have the reference's names, documented, and answer what is in force."""

from __future__ import annotations

import inspect
import json
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.named.names import names_in, rows, snake

from cross_instance import ConfigError, RateLimitExceeded, adaptive_rate, coordinator, provider_limits
from cross_instance.config import sources_of
from cross_instance.spelling import camel

LISTED = [(module, *listed) for module, names in names_in("rate_names.txt").items() for listed in names]
NAMES = [(module, name) for module, name, _ in LISTED]


@pytest.mark.parametrize(("module", "name", "members"), LISTED)
def test_every_name_is_there_and_documented(module: str, name: str, members: tuple[str, ...] | None) -> None:
    ours, spelled = import_module(f"cross_instance.{module}"), name if members else snake(name)
    made = getattr(ours, spelled)
    assert spelled in ours.__all__
    assert inspect.getdoc(made)
    assert rows("limits.md")[name] == f"{module}.{spelled}"
    if members is not None:
        assert made.__dataclass_params__.frozen
        assert tuple(camel(field.name) for field in fields(made)) == members


def test_nothing_public_of_what_is_learned_is_left_out_of_the_list() -> None:
    listed = {name if members else snake(name) for module, name, members in LISTED if module == "adaptive_rate"}
    assert listed == set(adaptive_rate.__all__)


def test_the_table_has_no_name_besides() -> None:
    assert list(rows("limits.md")) == [name for _, name in NAMES]


# --- what they answer ----------------------------------------------------------------------------------------------


def configure(project: Path, **providers: object) -> None:
    (project / ".pi" / "config.json").write_text(json.dumps({"crossInstance": {"providers": providers}}))


def test_before_registration_it_is_what_would_be_in_force(project: Path) -> None:
    found = provider_limits.resolve_limits("OpenAI", "gpt-4o")
    assert (found.requests_per_minute, found.burst, found.source) == (500, 100, "preset")
    assert (found.provider, found.concurrency, found.tokens_per_minute) == ("openai", None, None)
    guessed = provider_limits.resolve_limits("acme")
    assert (guessed.requests_per_minute, guessed.burst, guessed.concurrency, guessed.source) == (30, 10, 2, "guess")


def test_the_most_specific_pattern_of_a_model_decides(project: Path) -> None:
    models = {"gpt-*": {"requestsPerMinute": 90}, "gpt-4o*": {"requestsPerMinute": 60, "tokensPerMinute": 1_000}}
    configure(project, openai={"requestsPerMinute": 100, "models": models, "accounts": {"b": {"concurrency": 3}}})
    found = provider_limits.resolve_limits("openai", "gpt-4o-mini")
    assert (found.pattern, found.requests_per_minute, found.tokens_per_minute) == ("gpt-4o*", 60, 1_000)
    assert provider_limits.resolve_limits("openai", "gpt-3").requests_per_minute == 90
    assert provider_limits.resolve_limits("openai", "o3").requests_per_minute == 100
    assert provider_limits.resolve_limits("openai").pattern == ""
    assert provider_limits.resolve_limits("openai", account="b").concurrency == 3
    told = found.to_dict()
    assert (told["requestsPerMinute"], told["source"], told["account"]) == (60, "configured", "default")
    assert {"model": "", "kind": "requests", "amount": 100, "period": 60.0, "source": "configured"} in told["limits"]


def test_registered_it_is_what_the_store_has_in_force(project: Path) -> None:
    configure(project, openai={"requestsPerMinute": 100, "accounts": {"b": {"requestsPerMinute": 7}}})
    coordinator.register_instance("session", project)
    runtime = coordinator.this_process.runtime
    assert runtime is not None
    with runtime.permit("openai", "gpt-4o"):
        pass
    with runtime.permit("here", "m"):
        pass
    assert provider_limits.list_providers() == ("openai", "anthropic", "deepseek", "gemini", "azure", "here")
    assert "Current usage: 1/100" in provider_limits.format_limits_summary("OpenAI")
    assert "Provider: here" in provider_limits.format_limits_summary()
    assert provider_limits.resolve_limits("openai", "gpt-4o").requests_per_minute == 100
    assert provider_limits.resolve_limits("openai", account="b").requests_per_minute == 7


def test_what_is_configured_anew_holds_at_once(project: Path) -> None:
    configure(project, openai={"requestsPerMinute": 100, "burst": 10})
    coordinator.register_instance("session", project)
    runtime = coordinator.this_process.runtime
    assert runtime is not None
    with runtime.permit("openai", "gpt-4o"):
        pass
    configure(project, openai={"requestsPerMinute": 240, "burst": 10})
    assert provider_limits.resolve_limits("openai").requests_per_minute == 100
    provider_limits.reload_limits()
    assert provider_limits.resolve_limits("openai").requests_per_minute == 240
    with runtime.permit("openai", "gpt-4o"):
        pass
    configure(project, openai={"requestsPerMinute": 0})
    with pytest.raises(ConfigError):
        provider_limits.reload_limits()
    assert provider_limits.resolve_limits("openai").requests_per_minute == 240


def test_what_was_given_as_an_argument_stays(tmp_path: Path) -> None:
    (tmp_path / ".pi").mkdir()
    arguments = {"total_max_llm": 3, "providers": {"openai": {"burst": 9}}}
    sources = sources_of(tmp_path, environ={}, home=tmp_path, **arguments)
    given = sources.load()
    configure(tmp_path, openai={"requestsPerMinute": 200, "burst": 100})
    renewed = sources.reload(given).settings
    assert renewed.providers["openai"].limits == {"requestsPerMinute": 200, "burst": 9}
    assert (renewed.total_max_llm, given.providers["openai"].limits) == (3, {"burst": 9})


def test_reloading_unregistered_only_checks(project: Path) -> None:
    provider_limits.reload_limits()
    configure(project, openai={"requestsPerMinute": 0})
    with pytest.raises(ConfigError):
        provider_limits.reload_limits()


def test_an_error_is_judged_by_its_status() -> None:
    class SdkError(Exception):
        status_code = 429

    class WithResponse(Exception):
        response = SimpleNamespace(status_code=429)

    ours = RateLimitExceeded("none", provider="openai", model="gpt-4o", limit=None, retry_after=1.0)
    for yes in (ours, SdkError(), WithResponse(), SimpleNamespace(status_code=429), 429):
        assert adaptive_rate.is_rate_limit_error(yes)
    for no in (ValueError("429 Too Many Requests"), SimpleNamespace(status_code=503), 503, None, "429"):
        assert not adaptive_rate.is_rate_limit_error(no)
