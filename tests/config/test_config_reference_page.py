"""The reference page and the table of settings say the same, and no variable is read that the page does not name."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cross_instance.config import NO_EFFECT, SETTINGS, Setting
from cross_instance.config.schema import GENERAL, LIMITS, NAMED, PLACES, is_live

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
VARIABLE = re.compile(r"\bPI_[A-Z]+(?:_[A-Z]+)*\b")


def row(setting: Setting[Any]) -> str:
    """The line of the page's table for a setting."""
    default = f"`{json.dumps(setting.default)}`" if setting.default is not None else setting.unset or "no limit"
    variable = f"`{setting.variable}`" if setting.variable else ""
    meaning = f"*{NO_EFFECT.capitalize()}.* {setting.meaning}" if setting.reserved else setting.meaning
    cells = (f"`{setting.key}`", variable, setting.form.kind, setting.form.accepted, default, meaning)
    return "| " + " | ".join(cells) + " |"


@pytest.mark.parametrize("setting", [*GENERAL, *NAMED, *LIMITS], ids=lambda setting: setting.key)
def test_every_setting_has_its_line(setting: Setting[Any]) -> None:
    assert row(setting) in PAGE.splitlines()


def test_the_page_has_no_setting_besides() -> None:
    written = {line for line in PAGE.splitlines() if re.match(r"\| `[a-z]", line)}
    assert written == {row(setting) for setting in (*GENERAL, *NAMED, *LIMITS)}


def test_what_has_no_effect_is_reserved_and_nothing_else_is() -> None:
    """A setting has an effect where what the settings make of it is read outside the configuration."""
    attributes = {
        "coordinator_port": "coordinatorPort",
        "coordinator_addr": "coordinatorAddr",
    }
    assert {setting.key for setting in SETTINGS if setting.reserved} == set(attributes.values())
    used = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "src").rglob("*.py")
        if path.parent.name != "config" and "cli" not in path.parts
    )
    assert [name for name in attributes if f"settings.{name}" in used] == []
    for name in (
        "enabled",
        "account",
        "store",
        "runtime_dir",
        "heartbeat_interval",
        "heartbeat_timeout",
        "work_stealing",
    ):
        assert f"settings.{name}" in used


def test_the_page_names_every_place_of_limits() -> None:
    assert [line for line in PAGE.splitlines() if line.startswith("- `providers.")] == [
        f"- `{place}`" for place in PLACES
    ]
    assert {setting.key for setting in SETTINGS if setting not in {*GENERAL, *NAMED}} == {
        f"{place}.{limit.key}" for place in PLACES for limit in LIMITS
    }


def test_the_page_says_what_can_change_while_a_process_runs() -> None:
    words = ("- In force at once: ", "- From the next start of the process: ")
    lines = (next(line for line in PAGE.splitlines() if line.startswith(start)) for start in words)
    live, fixed = (set(re.findall(r"`([^`]+)`", line)) for line in lines)
    assert fixed == {setting.key for setting in (*GENERAL, *NAMED) if not is_live(setting.path)}
    changing = [setting for setting in SETTINGS if is_live(setting.path)]
    assert live == {setting.path[0] for setting in changing}


def test_every_variable_in_the_code_is_on_the_page_and_conversely() -> None:
    sources = [path for path in (ROOT / "src").rglob("*") if path.suffix in {".py", ".lua"}]
    in_code = {name for path in sources for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}
    assert in_code == set(VARIABLE.findall(PAGE))
    assert in_code == {setting.variable for setting in SETTINGS if setting.variable}


def test_only_the_configuration_reads_variables() -> None:
    reading = re.compile(r"\bos\.environ(?:\.get\(|\[)|\bgetenv\b|\bimport environ\b")
    readers = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "src").rglob("*.py")
        if path.parent.name != "config" and reading.search(path.read_text(encoding="utf-8"))
    }
    assert readers == set()
