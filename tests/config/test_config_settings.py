"""The settings in force: the guide's examples, defaults, hosts, weights, origins, passwords."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from cross_instance.config import Adaptive, Settings, load_settings, without_password
from cross_instance.errors import ConfigError
from cross_instance.rules.operations import Learning

GUIDE_FILE = """{
  "crossInstance": {
    "enabled": true,
    "coordinatorPort": 8765,
    "instanceId": "instance-1",
    "coordinatorAddr": "localhost:8765",
    "providers": {
      "openai": {
        "requestsPerMinute": 500,
        "burst": 100
      },
      "anthropic": {
        "requestsPerMinute": 50,
        "burst": 25
      }
    }
  }
}"""
GUIDE_RAISED = """# .pi/config.json
{
  "crossInstance": {
    "providers": {
      "openai": {
        "requestsPerMinute": 1000,  # 増やす
        "burst": 200
      }
    }
  }
}"""
GUIDE_ADAPTIVE = """// 適応学習が有効な場合、自動的に調整される
{
  "crossInstance": {
    "adaptiveRateControl": {
      "enabled": true,
      "reductionFactor": 0.9,      // エラー時に10%減少
      "recoveryFactor": 1.05,      // 成功時に5%増加
      "minRequestsPerMinute": 100, // 最小制限
      "maxRequestsPerMinute": 1000 // 最大制限
    }
  }
}"""
GUIDE_INSTANCES = """// 重要なインスタンスに高い優先度を割り当てる
{
  "crossInstance": {
    "instances": {
      "critical-worker": {
        "priority": 10,
        "reservedCapacity": 100
      },
      "background-worker": {
        "priority": 1,
        "reservedCapacity": 50
      }
    }
  }
}"""


def load(tmp_path: Path, text: str | None = None, environ: dict[str, str] | None = None, **given: Any) -> Settings:
    if text is not None:
        (tmp_path / ".pi").mkdir(exist_ok=True)
        (tmp_path / ".pi" / "config.json").write_text(text, encoding="utf-8")
    return load_settings(tmp_path, home=tmp_path, environ=environ or {}, **given)


def test_the_guide_s_configuration_file(tmp_path: Path) -> None:
    settings = load(tmp_path, GUIDE_FILE)
    assert (settings.enabled, settings.instance_id) == (True, "instance-1")
    assert (settings.coordinator_port, settings.coordinator_addr) == (8765, "localhost:8765")
    assert settings.providers["anthropic"].limits == {"requestsPerMinute": 50, "burst": 25}
    assert settings.account_spec("openai").origin == str(tmp_path / ".pi" / "config.json")
    assert settings.origin_of("providers.openai.burst") == f"{tmp_path / '.pi' / 'config.json'}:10"


def test_the_guide_s_raised_limits_with_their_comments(tmp_path: Path) -> None:
    settings = load(tmp_path, GUIDE_RAISED)
    assert settings.providers["openai"].limits == {"requestsPerMinute": 1000, "burst": 200}


def test_the_guide_s_adaptive_rate_control(tmp_path: Path) -> None:
    assert load(tmp_path, GUIDE_ADAPTIVE).adaptive == Adaptive(
        enabled=True,
        mode="simple",
        reduction_factor=0.9,
        recovery_factor=1.05,
        min_requests_per_minute=100,
        max_requests_per_minute=1000,
    )


def test_the_guide_s_instances(tmp_path: Path) -> None:
    settings = load(tmp_path, GUIDE_INSTANCES)
    assert settings.weight_and_reserve("critical-worker") == (10, 100)
    assert settings.weight_and_reserve("background-worker") == (1, 50)
    assert settings.weight_and_reserve("another") == (1, 0)


def test_the_guide_s_variables(tmp_path: Path) -> None:
    environ = {
        "PI_CROSS_INSTANCE_ENABLED": "true",
        "PI_COORDINATOR_PORT": "9000",
        "PI_INSTANCE_ID": "instance-1",
        "PI_COORDINATOR_ADDR": "[::1]:9000",
    }
    settings = load(tmp_path, environ=environ)
    assert (settings.enabled, settings.instance_id) == (True, "instance-1")
    assert (settings.coordinator_port, settings.coordinator_addr) == (9000, "[::1]:9000")


def test_the_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert (settings.enabled, settings.instance_id, settings.account) == (True, None, "default")
    assert (settings.heartbeat_interval, settings.heartbeat_timeout) == (15.0, 60.0)
    assert (settings.profile, settings.total_max_llm, settings.default_total_max_llm) == ("default", None, 6)
    assert (settings.work_stealing, settings.ageing, settings.logging) == (True, 0, True)
    assert (settings.adaptive.mode, settings.adaptive.max_requests_per_minute) == ("estimate", None)
    assert (settings.providers, settings.instances) == ({}, {})


def test_the_stable_profile_and_the_address_that_follows_the_port(tmp_path: Path) -> None:
    settings = load(tmp_path, environ={"PI_RUNTIME_PROFILE": "stable", "PI_COORDINATOR_PORT": "9000"})
    assert (settings.default_total_max_llm, settings.total_max_llm) == (4, None)
    assert settings.coordinator_addr == "localhost:9000"


def test_the_mode_that_was_chosen_goes_before_the_factors(tmp_path: Path) -> None:
    given = {"mode": "estimate", "reductionFactor": 0.5}
    assert load(tmp_path, adaptive_rate_control=given).adaptive.mode == "estimate"
    assert load(tmp_path, adaptive_rate_control={"recoveryFactor": 1.5}).adaptive.mode == "simple"


@pytest.mark.parametrize(
    ("given", "learning"),
    [
        ({}, Learning()),
        ({"enabled": False}, None),
        ({"reductionFactor": 0.5}, Learning(simple=True, reduction=500_000)),
        ({"recoveryFactor": 1.5}, Learning(simple=True, recovery=1_500_000)),
        ({"mode": "simple"}, Learning(simple=True)),
        ({"minRequestsPerMinute": 10, "maxRequestsPerMinute": 90}, Learning(lowest=10_000, highest=90_000)),
        ({"predictive": True}, Learning(predicts=True)),
    ],
)
def test_accounts_say_how_their_limits_are_learned(
    tmp_path: Path, given: dict[str, object], learning: Learning | None
) -> None:
    assert load(tmp_path, adaptive_rate_control=given).account_spec("openai").learning == learning


def test_settings_do_not_change(tmp_path: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load(tmp_path).account = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"heartbeat_timeout_ms": 10_000},
            "argument `heartbeatTimeoutMs`: must be more than `heartbeatIntervalMs`, which is 15000 (default)",
        ),
        (
            {"heartbeat_interval_ms": 60_000},
            "argument `heartbeatIntervalMs`: must be less than `heartbeatTimeoutMs`, which is 60000 (default)",
        ),
        (
            {"adaptive_rate_control": {"minRequestsPerMinute": 2, "maxRequestsPerMinute": 1}},
            (
                "argument `adaptiveRateControl.minRequestsPerMinute`: must be at most "
                "`adaptiveRateControl.maxRequestsPerMinute`, which is 1 (argument)"
            ),
        ),
        (
            {"providers": {"a": {"baseUrls": ["x.example"]}, "b": {"baseUrls": ["http://X.example/v1"]}}},
            "argument `providers.b.baseUrls`: x.example is `a` already",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, **given)
    assert str(caught.value) == message


def test_equal_bounds_of_the_learned_rate_are_fine(tmp_path: Path) -> None:
    loaded = load(tmp_path, adaptive_rate_control={"minRequestsPerMinute": 2, "maxRequestsPerMinute": 2})
    assert (loaded.adaptive.min_requests_per_minute, loaded.adaptive.max_requests_per_minute) == (2, 2)


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"),
        ("api.openai.com:443", "openai"),
        ("LLM.example.com", "openai"),
        ("llm.example.com:8443", "openai"),
        ("127.0.0.1:9001", "anthropic"),
        ("127.0.0.1:9002", "acme"),
        ("127.0.0.1:9003", None),
        ("127.0.0.1", None),
        ("one.example", "acme"),
        ("one.example:80", "acme"),
        ("one.example:81", None),
        ("[::1]:9001", "acme"),
        ("[::1]:9003", None),
        ("a.cloud.example", "acme"),
        ("own.cloud.example:444", "openai"),
        ("llm.example.com:9", "zeta"),
        ("unknown.example", None),
    ],
)
def test_a_host_belongs_to_a_provider(tmp_path: Path, host: str, provider: str | None) -> None:
    providers = {
        "openai": {"baseUrls": ["https://llm.example.com/v1", "own.cloud.example"]},
        "anthropic": {"baseUrls": ["http://127.0.0.1:9001"]},
        "zeta": {"baseUrls": ["llm.example.com:9"]},
        "acme": {"baseUrls": ["*.cloud.example", "127.0.0.1:9002", "one.example:80", "http://[::1]:9001/v1"]},
    }
    assert load(tmp_path, providers=providers).provider_for_host(host) == provider


def test_a_spec_names_the_sources_of_its_own_account_only(tmp_path: Path) -> None:
    file = tmp_path / ".pi" / "config.json"
    text = '{"crossInstance": {"providers": {"openai": {"accounts": {"a": {"burst": 5}, "b": {"burst": 6}}}}}}'
    given = {"openai": {"accounts": {"b": {"requestsPerMinute": 9}}, "baseUrls": ["x.example"]}}
    settings = load(tmp_path, text, providers=given)
    origins = {account: settings.account_spec("openai", account).origin for account in ("a", "b", "c")}
    assert origins == {"a": str(file), "b": f"{file}, argument", "c": "preset"}


def test_where_each_value_came_from(tmp_path: Path) -> None:
    file = tmp_path / ".pi" / "config.json"
    text = '{"crossInstance": {"providers": {\n"OpenAI": {"models": {"gpt-4.1*": {\n"concurrency": 2}}},'
    text += '"acme": {"requestsPerMinute": 5}, "bare": {"requestsPerDay": 5}}}}'
    settings = load(tmp_path, text, {"PI_TOTAL_MAX_LLM": "3"}, account="me")
    origins = {
        "totalMaxLlm": "PI_TOTAL_MAX_LLM",
        "account": "argument",
        "enabled": "default",
        "store": "default",
        "providers.openai.models.gpt-4.1*.concurrency": f"{file}:3",
        "providers.openai.models.gpt-4.1*.burst": "default",
        "providers.openai.burst": "preset",
        "providers.openai.concurrency": "default",
        "providers.acme.burst": "default",
        "providers.acme.concurrency": "default",
        "providers.bare.burst": "guess",
        "providers.unheard-of.concurrency": "guess",
        "instances.any.priority": "default",
    }
    assert {key: settings.origin_of(key) for key in origins} == origins
    with pytest.raises(KeyError):
        settings.origin_of("providers.openai.rpm")


@pytest.mark.parametrize(
    ("store", "shown"),
    [
        ("/home/me/a@b", "/home/me/a@b"),
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user:secret@host/0", "redis://user:***@host/0"),
        ("rediss://:secret@host", "rediss://:***@host"),
        ("http://secret@host:8765", "http://***@host:8765"),
        ("redis://user:sec/re@t?x@host/0", "redis://user:***@host/0"),
        ("redis://host/0?db=1&password=secret&x=1", "redis://host/0?db=***&password=***&x=***"),
        ("redis://h/0?pwd=secret", "redis://h/0?pwd=***"),
        ("redis://h/0?namespace=team-a&password=secret", "redis://h/0?namespace=team-a&password=***"),
        ("https://h/x?sig=secret&secret#secret", "https://h/x?sig=***&***#***"),
        ("redis://:se=cret@h/0", "redis://:***@h/0"),
        ("unix:///run/redis.sock?Auth_Token=secret", "unix:///run/redis.sock?Auth_Token=***"),
    ],
)
def test_a_password_is_never_shown(tmp_path: Path, store: str, shown: str) -> None:
    assert without_password(store) == shown
    settings = load(tmp_path, store=store)
    assert settings.store == store
    assert next(entry for entry in settings.entries() if entry.key == "store").text == shown
    assert "secret" not in repr(settings)
