"""Metrics: the store's figures, of every process, with labels that do not grow without end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from tests.named.names import ROOT
from tests.runtime.doubles import Timeline, settings_in

from cross_instance import Runtime
from cross_instance.config import Settings
from cross_instance.metrics import StoreCollector
from cross_instance.status import OTHER_MODELS
from cross_instance.stores.embedded import EmbeddedStore
from cross_instance.watching import readings


def configured(folder: Path) -> Settings:
    models = {"big-*": {"requestsPerMinute": 30}}
    return settings_in(
        folder, providers={"acme": {"requestsPerMinute": 60, "burst": 10, "models": models}}, logging=False
    )


def scraped(runtime: Runtime) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(StoreCollector(runtime))
    lines = generate_latest(registry).decode().splitlines()
    found = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    assert len({key for key, _ in found}) == len(found), "a series appears twice"
    return {key: float(value) for key, value in found}


def place(provider: str, group: str = "", kind: str = "") -> str:
    first = f'{{account="default",gen_ai_provider_name="{provider}"'
    return first + (f',kind="{kind}"' if kind else "") + f',model_group="{group}"}}'


def test_one_process_tells_of_all(tmp_path: Path) -> None:
    timeline, settings = Timeline(), configured(tmp_path)
    with (
        Runtime("one", store=timeline, settings=settings) as one,
        Runtime("two", store=timeline, settings=settings) as two,
    ):
        with one.permit("acme", "big-1"), two.permit("acme", "small"), two.permit("acme", "small"):
            told = scraped(one)
            assert told == scraped(two)
        after = scraped(one)
    assert (told["cross_instance_up"], told["cross_instance_instances"]) == (1, 2)
    assert told[f"cross_instance_requests_in_flight{place('acme')}"] == 3
    assert told[f"cross_instance_requests_in_flight{place('acme', 'big-*')}"] == 1
    assert after[f"cross_instance_requests_in_flight{place('acme')}"] == 0
    assert after[f"cross_instance_requests_last_minute{place('acme')}"] == 3
    assert f"cross_instance_requests_last_minute{place('acme', 'big-*')}" not in told
    assert told[f"cross_instance_limit{place('acme', kind='requests')}"] == 60
    assert told[f"cross_instance_limit{place('acme', 'big-*', 'requests')}"] == 30
    assert told[f"cross_instance_limit_period_seconds{place('acme', kind='requests')}"] == 60
    assert told[f"cross_instance_requests_waiting{place('acme')}"] == 0


def test_a_429_is_an_overload_and_a_pause(tmp_path: Path) -> None:
    with Runtime("one", store=Timeline(), settings=configured(tmp_path)) as runtime:
        assert scraped(runtime).get(f"cross_instance_overloads_total{place('acme', kind='requests')}") is None
        with runtime.permit("acme", "small") as permit:
            permit.settle(status=429, headers={"retry-after": "7"})
        told = scraped(runtime)
    kinds = ("requests", "tokens", "concurrency")
    of = ("", OTHER_MODELS)
    series = [f"cross_instance_overloads_total{place('acme', group, kind)}" for group in of for kind in kinds]
    assert sum(told.get(one, 0) for one in series) >= 1
    assert 7 in {told.get(f"cross_instance_paused_seconds{place('acme', group)}") for group in of}


def test_models_and_instances_are_no_labels_and_accounts_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_in(tmp_path, logging=False)
    with Runtime("one", store=Timeline(), settings=settings) as runtime:
        for provider in ("a", "b", "c", "d", "e"):
            for _ in range(2 if provider == "e" else 1):
                with runtime.permit(provider, f"model-of-{provider}"):
                    pass
        everything = scraped(runtime)
        monkeypatch.setattr(readings, "MOST_NODES", 3)
        told = scraped(runtime)
    assert everything["cross_instance_nodes_omitted"] == 0
    assert f"cross_instance_requests_in_flight{place('e', OTHER_MODELS)}" in everything
    assert told["cross_instance_nodes_omitted"] == 3  # two accounts, and what is known of the other models of e
    names = {match[1] for key in told if (match := re.search(r'gen_ai_provider_name="(.*?)"', key))}
    assert names == {"e", "a", "b"}
    assert not any("model-of" in key or "one" in key for key in told)


def test_before_joining_and_without_a_store_it_is_not_up(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, logging=False)
    store = EmbeddedStore(settings.runtime_dir)
    runtime = Runtime("one", store=store, settings=settings)
    assert scraped(runtime) == {"cross_instance_up": 0}
    with runtime:
        assert scraped(runtime)["cross_instance_up"] == 1
        store.close()
        assert scraped(runtime) == {"cross_instance_up": 0}


def test_every_metric_is_documented_and_no_other(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "how-to" / "watch.md").read_text(encoding="utf-8")
    runtime = Runtime("one", store=Timeline(), settings=configured(tmp_path))
    with runtime, runtime.permit("acme", "big-1"):
        told = {key.partition("{")[0] for key in scraped(runtime)}
    assert set(re.findall(r"^\| `(cross_instance_\w+)`", page, re.MULTILINE)) == told
