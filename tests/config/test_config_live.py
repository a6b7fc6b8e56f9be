"""Settings that follow their files: what counts as a change, what of it can take effect, and what is wrong."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from cross_instance.config import SETTINGS, LiveSettings, load_settings, sources_of
from cross_instance.config.live import YOUNG
from cross_instance.config.schema import is_live
from cross_instance.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

LONG_AGO = 1_700_000_000


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / ".pi").mkdir(parents=True)
    (tmp_path / "home").mkdir()
    return tmp_path / "project"


def file_of(project: Path) -> Path:
    return project / ".pi" / "config.json"


def write(project: Path, section: dict[str, Any] | str, *, at: int | None = None) -> None:
    """A file of settings; `at`: its time of change."""
    text = section if isinstance(section, str) else json.dumps({"crossInstance": section})
    file_of(project).write_text(text)
    if at is not None:
        os.utime(file_of(project), (at, at))


def limits(requests: int) -> dict[str, Any]:
    return {"providers": {"acme": {"requestsPerMinute": requests}}}


def live(project: Path, **arguments: object) -> LiveSettings:
    return LiveSettings.of(sources_of(project, environ={}, home=project.parent / "home", **arguments))


def requests_in(settings: LiveSettings) -> int:
    return settings.settings.providers["acme"].limits["requestsPerMinute"]


def test_what_a_file_says_anew_is_taken_over_and_named(project: Path) -> None:
    write(project, limits(60))
    settings = live(project)
    assert settings.look() is None
    write(project, limits(120) | {"instances": {"a": {"priority": 10}}})
    reloaded = settings.look()
    assert reloaded is not None
    assert reloaded.changed == ("instances.a.priority", "providers.acme.requestsPerMinute")
    assert reloaded.waiting == ()
    assert requests_in(settings) == 120
    assert settings.settings.weight_and_reserve("a") == (10, 0)
    assert settings.look() is None


def test_a_file_that_was_touched_or_written_again_as_it_was_has_not_changed(project: Path) -> None:
    write(project, limits(60), at=LONG_AGO)
    settings = live(project)
    write(project, limits(60), at=LONG_AGO + 60)
    assert settings.look() is None
    file_of(project).rename(project / "kept")
    write(project, limits(60), at=LONG_AGO + 60)
    assert settings.look() is None


def test_two_changes_within_one_stamp_are_both_seen(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock of a file system ticks slower than files can be written: equal length, inode and time of change."""
    monkeypatch.setattr("cross_instance.config.live._stamp", lambda path: (path.exists(), YOUNG))
    monkeypatch.setattr("time.time_ns", lambda: YOUNG)
    write(project, limits(60))
    settings = live(project)
    for requests in (61, 62):
        write(project, limits(requests))
        assert settings.look() is not None
        assert requests_in(settings) == requests


def test_files_that_lie_still_are_not_read(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(project, limits(60))
    settings = live(project)
    later = file_of(project).stat().st_ctime_ns + 2 * YOUNG
    monkeypatch.setattr("time.time_ns", lambda: later)
    settings.look()
    monkeypatch.setattr("cross_instance.config.live._contents", lambda path: pytest.fail(f"{path} was read"))
    assert settings.look() is None


def test_a_comment_changes_origins_and_nothing_else(project: Path) -> None:
    write(project, limits(60))
    settings = live(project)
    write(project, "# a comment\n" + json.dumps({"crossInstance": limits(60)}))
    reloaded = settings.look()
    assert reloaded is not None
    assert (reloaded.changed, reloaded.waiting) == ((), ())
    assert settings.settings.origin_of("providers.acme.requestsPerMinute") == f"{file_of(project)}:2"


@pytest.mark.parametrize("wrong", ['{"crossInstance": ', '{"crossInstance": {"burts": 1}}', ""])
def test_a_wrong_file_changes_nothing_and_is_told_once(project: Path, wrong: str) -> None:
    write(project, limits(60))
    settings = live(project)
    write(project, wrong)
    with pytest.raises(ConfigError, match=r"config\.json"):
        settings.look()
    assert settings.problem is not None
    assert settings.look() is None
    write(project, wrong, at=LONG_AGO)
    assert settings.look() is None
    assert requests_in(settings) == 60
    write(project, limits(30))
    assert settings.look() is not None
    assert requests_in(settings) == 30
    assert settings.problem is None


@pytest.mark.parametrize(
    ("mistake", "named"),
    [({"totalMaxLlm": 0}, "totalMaxLlm"), ({"heartbeatIntervalMs": 90_000}, "heartbeatTimeoutMs")],
    ids=["refused by itself", "refused only at a start"],
)
def test_what_is_right_beside_a_mistake_waits_for_its_correction(
    project: Path, mistake: dict[str, int], named: str
) -> None:
    write(project, limits(60))
    settings = live(project)
    write(project, limits(120) | mistake)
    with pytest.raises(ConfigError, match=named):
        settings.look()
    assert requests_in(settings) == 60


def test_what_says_who_and_where_waits_for_the_next_start(project: Path) -> None:
    write(project, limits(60))
    settings = live(project)
    before = settings.settings
    write(project, limits(60) | {"store": "redis://:secret@elsewhere", "account": "other", "totalMaxLlm": 3})
    reloaded = settings.look()
    assert reloaded is not None
    assert (reloaded.changed, reloaded.waiting) == (("totalMaxLlm",), ("account", "store"))
    now = settings.settings
    assert (now.store, now.account, now.total_max_llm) == (before.store, "default", 3)
    assert "secret" not in repr(reloaded)


def test_a_file_that_is_put_in_anothers_place_is_never_seen_as_none(project: Path) -> None:
    write(project, limits(60))
    settings = live(project)
    file_of(project).unlink()
    assert settings.look() is None
    write(project, limits(120))
    reloaded = settings.look()
    assert reloaded is not None
    assert reloaded.changed == ("providers.acme.requestsPerMinute",)


def test_a_file_that_stays_away_takes_its_settings_with_it(project: Path) -> None:
    write(project, limits(60))
    settings = live(project)
    file_of(project).unlink()
    assert settings.look() is None
    reloaded = settings.look()
    assert reloaded is not None
    assert reloaded.changed == ("providers.acme.requestsPerMinute",)
    assert settings.settings.providers == {}
    assert settings.look() is None


def test_a_pipe_in_the_place_of_a_file_is_a_mistake_and_is_not_waited_for(project: Path) -> None:
    write(project, limits(60))
    settings = live(project)
    file_of(project).unlink()
    os.mkfifo(file_of(project))
    with pytest.raises(ConfigError, match="is not a regular file"):
        settings.look()
    assert requests_in(settings) == 60


def test_files_that_come_later_are_found(project: Path) -> None:
    """The project's second file, the user's, and one in a folder above, whose folder does not become the project's."""
    settings = LiveSettings.of(sources_of(project / "below", environ={}, home=project.parent / "home"))
    folder = settings.settings.project_dir
    for place, burst in ((project.parent / "home", 3), (project, 5)):
        (place / ".pi" / "config").mkdir(parents=True, exist_ok=True)
        (place / ".pi" / "config" / "provider-limits.json").write_text(json.dumps({"acme": {"burst": burst}}))
        assert settings.look() is not None
        assert settings.settings.providers["acme"].limits == {"burst": burst}
    write(project, limits(60))
    assert settings.look() is not None
    assert settings.settings.providers["acme"].limits == {"burst": 5, "requestsPerMinute": 60}
    assert settings.settings.project_dir == folder


def test_arguments_variables_and_folders_are_those_of_the_start(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("HOME", str(project.parent / "home"))
    monkeypatch.setenv("PI_TOTAL_MAX_LLM", "7")
    write(project, limits(60))
    settings = LiveSettings.of(sources_of(providers={"acme": {"requestsPerMinute": 90}}, runtime_dir="own"))
    monkeypatch.setenv("PI_TOTAL_MAX_LLM", "not a number")
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.chdir("/")
    write(project, limits(120) | {"ageingMs": 5, "totalMaxLlm": 2})
    reloaded = settings.look()
    assert reloaded is not None
    assert (reloaded.changed, reloaded.waiting) == (("ageingMs",), ())
    assert requests_in(settings) == 90
    assert settings.settings.total_max_llm == 7
    assert settings.settings.runtime_dir == project / "own"


def test_settings_given_ready_made_follow_nothing(project: Path) -> None:
    write(project, limits(60))
    settings = LiveSettings(load_settings(project, environ={}, home=project.parent))
    write(project, limits(120))
    assert settings.look() is None


def test_every_setting_says_whether_it_can_change() -> None:
    fixed = {setting.key for setting in SETTINGS if not is_live(setting.path)}
    assert fixed == {
        *("enabled", "instanceId", "account", "store", "runtimeDir", "profile", "heartbeatIntervalMs"),
        *(
            "heartbeatTimeoutMs",
            "logging",
            "logFormat",
            "coordinatorPort",
            "coordinatorAddr",
        ),
    }
