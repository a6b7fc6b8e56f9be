"""`cross-instance config show`: what it prints, and how it fails."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.cli.commands import Place

from cross_instance.cli.config import config
from cross_instance.config import SETTINGS

FILE = """{
  "crossInstance": {
    "store": "redis://me:hunter2@host/0",
    "providers": {
      "openai": { "burst": 7, "baseUrls": ["https://a.example", "b.example:1"] },
      "acme": { "requestsPerMinute": 50 }
    },
    "instances": { "a": { "priority": 3 } }
  }
}"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".pi").mkdir()
    (tmp_path / ".pi" / "config.json").write_text(FILE, encoding="utf-8")
    return tmp_path / ".pi" / "config.json"


def show(*options: str, **variables: str) -> Result:
    return CliRunner().invoke(config, ["show", *options], env=variables)


def test_it_prints_the_settings_in_force(file: Path) -> None:
    result = show(PI_TOTAL_MAX_LLM="7")
    assert result.exit_code == 0
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in result.output.splitlines()}
    assert lines["enabled"] == "true"
    assert lines["totalMaxLlm"] == "7"
    assert lines["instanceId"] == "(made from the session id, the pid and a random part)"
    assert lines["runtimeDir"] == str(file.parent / "runtime")
    assert lines["store"] == "redis://me:***@host/0"
    assert lines["providers.openai.baseUrls"] == "a.example, b.example:1"
    assert lines["providers.openai.requestsPerMinute"] == "500"
    assert lines["providers.openai.burst"] == "7"
    assert lines["providers.acme.burst"] == "5"
    assert lines["instances.a.priority"] == "3"


def test_it_says_where_each_value_came_from(file: Path) -> None:
    result = show("--origin", PI_TOTAL_MAX_LLM="7")
    origins = {line.split()[0]: line.split()[-1] for line in result.output.splitlines()}
    assert origins["totalMaxLlm"] == "PI_TOTAL_MAX_LLM"
    assert origins["enabled"] == "default"
    assert origins["store"] == f"{file}:3"
    assert origins["providers.openai.burst"] == f"{file}:5"
    assert origins["providers.openai.requestsPerMinute"] == "preset"
    assert origins["providers.acme.burst"] == "default"


def test_it_prints_json(file: Path) -> None:
    result = show("--json")
    settings = json.loads(result.output)["settings"]
    assert settings["store"] == {"value": "redis://me:***@host/0", "origin": f"{file}:3"}
    assert settings["totalMaxLlm"] == {"value": None, "origin": "default"}
    assert settings["providers.openai.baseUrls"]["value"] == ["a.example", "b.example:1"]
    assert settings["providers.gemini.requestsPerMinute"] == {"value": 60, "origin": "preset"}


@pytest.mark.parametrize("options", [(), ("--origin",), ("--json",)])
def test_a_broken_file_is_one_line_and_exit_code_2(file: Path, options: tuple[str, ...]) -> None:
    file.write_text('{\n"crossInstance": {"provider\\u0000s": {}}}', encoding="utf-8")
    here = Place(file.parents[1])
    here.project.mkdir()
    done = here.run("cross-instance", "config", "show", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"cross-instance: {file}:2 `provider\\u0000s`: unknown key; did you mean `providers`?\n")


def test_what_has_no_effect_is_marked_set_or_not(file: Path) -> None:
    """Nobody is to believe that something is active because its default says so."""
    idle = {setting.key for setting in SETTINGS if setting.reserved}
    lines = show("--origin", PI_COORDINATOR_PORT="9000").output.splitlines()
    marked = {line.split()[0]: line for line in lines if "not acted on by this version" in line}
    assert set(marked) == idle
    assert marked["coordinatorPort"].startswith("coordinatorPort")
    assert marked["coordinatorPort"].endswith("PI_COORDINATOR_PORT")
    settings = json.loads(show("--json", PI_COORDINATOR_PORT="9000").output)["settings"]
    assert {key for key, entry in settings.items() if "note" in entry} == idle
    assert file.exists()
