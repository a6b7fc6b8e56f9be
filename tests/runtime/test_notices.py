"""Law 11 on the main path: what a store has to say about an account is logged and shown in the status."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from tests.runtime.doubles import settings_in

from cross_instance import Runtime, Usage
from cross_instance.stores.folder import WAKE


def test_two_configurations_of_one_account_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    strict = settings_in(tmp_path, providers={"acme": {"requestsPerMinute": 60, "burst": 6}})
    loose = settings_in(tmp_path, providers={"acme": {"requestsPerMinute": 600, "burst": 60}})
    with Runtime("one", settings=strict) as one, Runtime("two", settings=loose) as two:
        with one.permit("acme", "m-1"):
            pass
        with caplog.at_level(logging.WARNING, "cross_instance"), two.permit("acme", "m-1"):
            pass
        figures = "acme/default: requests is 60 (burst 6) in argument of one but 600 (burst 60) in argument of two"
        assert caplog.text.count(figures) == 1
        assert [event.kind for event in two.status().events] == ["limits-conflict"]
        two._membership.republish()
        assert caplog.text.count(figures) == 1, "the same is told once"
        assert any("the strictest holds" in notice for notice in two.status().notices)


def test_wake_ups_that_cannot_arrive_are_told(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, providers={"acme": {"concurrency": 1}})
    with Runtime("one", settings=settings):
        pass
    wakes = settings.runtime_dir / WAKE
    shutil.rmtree(wakes)
    wakes.touch()
    with Runtime("two", settings=settings) as runtime:
        status = runtime.status()
        assert [event.kind for event in status.events] == ["no-wake-ups"]
        assert any("wake-ups from other processes do not arrive" in notice for notice in status.notices)
        with runtime.permit("acme", "m-1", timeout=5.0):
            pass


def test_counts_that_cannot_be_end_the_permit_all_the_same(tmp_path: Path) -> None:
    settings = settings_in(tmp_path, providers={"acme": {"concurrency": 1}})
    with Runtime("one", settings=settings) as runtime:
        for tokens in (-5, 1 << 40):
            with runtime.permit("acme", "m-1", timeout=5.0) as permit:
                permit.settle(status=200, usage=Usage(input_tokens=tokens))
        assert runtime.pi_instance_status()["activeRequests"] == 0
