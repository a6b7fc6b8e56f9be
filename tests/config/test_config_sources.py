"""Sources: which file and variable is read, which one wins, and what each error says."""

import json
import os
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given, strategies as st

from cross_instance import Runtime
from cross_instance.config import SETTINGS, Settings, load_settings
from cross_instance.errors import ConfigError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def project(home: Path) -> Path:
    folder = home / "work" / "project"
    folder.mkdir(parents=True)
    return folder


def write(folder: Path, content: Any, name: str = ".pi/config.json") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def write_section(folder: Path, section: Any) -> Path:
    return write(folder, {"crossInstance": section})


def load(project: Path, home: Path, environ: dict[str, str] | None = None, **arguments: Any) -> Settings:
    return load_settings(project, home=home, environ=environ or {}, **arguments)


def failure(project: Path, home: Path, environ: dict[str, str] | None = None, **arguments: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(project, home, environ, **arguments)
    assert "\n" not in str(caught.value)
    return caught.value


def test_each_source_gives_way_to_the_stronger_one(project: Path, home: Path) -> None:
    assert load(project, home).coordinator_port == 8765
    write_section(home, {"coordinatorPort": 1})
    assert load(project, home).coordinator_port == 1
    write_section(project, {"coordinatorPort": 2})
    assert load(project, home).coordinator_port == 2
    assert load(project, home, {"PI_COORDINATOR_PORT": "3"}).coordinator_port == 3
    assert load(project, home, {"PI_COORDINATOR_PORT": "3"}, coordinator_port=4).coordinator_port == 4


def test_limits_are_merged_key_by_key_and_each_has_its_origin(project: Path, home: Path) -> None:
    user = write_section(home, {"providers": {"openai": {"requestsPerMinute": 1, "burst": 1, "concurrency": 1}}})
    limits = write(project, {"openai": {"requestsPerMinute": 2, "burst": 2}}, ".pi/config/provider-limits.json")
    file = write(project, '{"crossInstance": {"providers": {\n"openai": {\n"requestsPerMinute": 3}}}}')
    settings = load(project, home, providers={"openai": {"tokensPerMinute": 4}})
    assert settings.providers["openai"].limits == {
        "requestsPerMinute": 3,
        "burst": 2,
        "concurrency": 1,
        "tokensPerMinute": 4,
    }
    origins = {key: settings.origin_of(f"providers.openai.{key}") for key in settings.providers["openai"].limits}
    assert origins == {
        "requestsPerMinute": f"{file}:3",
        "burst": f"{limits}:1",
        "concurrency": f"{user}:1",
        "tokensPerMinute": "argument",
    }


def test_provider_limits_may_stand_under_their_key(project: Path, home: Path) -> None:
    write(project, {"providers": {"openai": {"burst": 2}}}, ".pi/config/provider-limits.json")
    assert load(project, home).providers["openai"].limits == {"burst": 2}


def test_the_project_is_searched_upward(project: Path, home: Path) -> None:
    write_section(project, {"account": "team"})
    below = project / "src" / "deep"
    below.mkdir(parents=True)
    settings = load(below / ".." / "deep", home)
    assert (settings.account, settings.project_dir) == ("team", project)


def test_without_a_file_the_start_is_the_project(project: Path, home: Path) -> None:
    write_section(home, {"account": "mine"})
    settings = load(project, home)
    assert (settings.account, settings.project_dir) == ("mine", project)
    assert load(home, home).project_dir == home


def test_a_relative_folder_is_relative_to_the_file_or_the_working_directory(
    project: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_section(project, {"runtimeDir": "shared", "store": "state"})
    below = project / "below"
    below.mkdir()
    settings = load(below, home)
    assert (settings.runtime_dir, settings.store) == (project / "shared", str(project / "state"))
    monkeypatch.chdir(below)
    assert load(below, home, {"PI_RUNTIME_DIR": "mine"}).runtime_dir == below / "mine"
    assert load(below, home, {"PI_RUNTIME_DIR": "~/mine"}).runtime_dir == home / "mine"
    assert load(below, home, runtime_dir=Path("given")).runtime_dir == below / "given"
    assert load_settings(environ={}, home=home).project_dir == project


def test_the_default_folder_is_in_the_home_folder(project: Path, home: Path) -> None:
    settings = load(project, home)
    assert (settings.runtime_dir, settings.store) == (home / ".pi" / "runtime", None)


def test_keys_of_others_are_left_alone_but_not_a_misspelled_section(project: Path, home: Path) -> None:
    write(project, {"model": "x", "extensions": [], "instance": {}})
    load(project, home)
    file = write(project, {"crossinstance": {}})
    assert str(failure(project, home)) == f"{file}:1 `crossinstance`: unknown key; did you mean `crossInstance`?"


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ({"enabeld": True}, "enabeld", "did you mean `enabled`?"),
        ({"total_max_llm": 3}, "total_max_llm", "did you mean `totalMaxLlm`?"),
        ({"zzz": 1}, "zzz", "unknown key; accepted are enabled, instanceId"),
        ({"enabled": "true"}, "enabled", 'must be true or false, not "true"'),
        ({"enabled": None}, "enabled", "must be true or false, not null"),
        ({"totalMaxLlm": True}, "totalMaxLlm", "must be a whole number from 1 to 1,000,000,000, not true"),
        ({"totalMaxLlm": 0}, "totalMaxLlm", "not 0"),
        ({"totalMaxLlm": -1}, "totalMaxLlm", "not -1"),
        ({"totalMaxLlm": 2.0}, "totalMaxLlm", "not 2.0"),
        ({"totalMaxLlm": 10**40}, "totalMaxLlm", "not a number too large"),
        ({"totalMaxLlm": {}}, "totalMaxLlm", "not an object"),
        ({"instanceId": ""}, "instanceId", "a text of 1 to 200 characters without control characters, not an empty"),
        ({"instanceId": "a\nb"}, "instanceId", r"not \"a\nb\"".replace('\\"', '"')),
        ({"instanceId": "x" * 201}, "instanceId", "a text of 1 to 200 characters"),
        ({"instanceId": "\ud800"}, "instanceId", "without control characters"),
        ({"coordinatorPort": 65_536}, "coordinatorPort", "from 1 to 65,535, not 65536"),
        ({"coordinatorAddr": "http://x"}, "coordinatorAddr", "must be host:port or host"),
        ({"coordinatorAddr": "x:70000"}, "coordinatorAddr", "must be host:port or host"),
        ({"profile": "fast"}, "profile", 'must be "default" or "stable", not "fast"'),
        ({"runtimeDir": "~other/x"}, "runtimeDir", "must be a folder"),
        ({"runtimeDir": "http://x"}, "runtimeDir", "must be a folder"),
        ({"providers": []}, "providers", "must be an object"),
        ({"providers": {"openai": 5}}, "providers.openai", "must be an object"),
        ({"providers": {"": {}}}, "providers.", "a name must be a text of 1 to 200 characters"),
        ({"providers": {"OpenAI": {}, "openai": {}}}, "providers.openai", "upper and lower case are the same"),
        ({"providers": {"openai": {"rpm": 1}}}, "providers.openai.rpm", "unknown key; accepted are baseUrls"),
        (
            {"providers": {"openai": {"models": {"gpt-4.1": {"requestPerMinute": 1}}}}},
            "providers.openai.models.gpt-4.1.requestPerMinute",
            "did you mean `requestsPerMinute`?",
        ),
        (
            {"providers": {"openai": {"accounts": {"a": {"baseUrls": []}}}}},
            "providers.openai.accounts.a.baseUrls",
            "unknown key",
        ),
        ({"providers": {"x": {"baseUrls": "h"}}}, "providers.x.baseUrls", "must be a list of URLs or hosts"),
        ({"providers": {"x": {"baseUrls": ["h:x"]}}}, "providers.x.baseUrls", "must be a list of URLs or hosts"),
        ({"providers": {"x": {"baseUrls": [""]}}}, "providers.x.baseUrls", "must be a list of"),
        ({"providers": {"open/ai": {}}}, "providers.open/ai", "without control characters, / and #"),
        ({"providers": {"a#b": {"burst": 1}}}, "providers.a#b", "without control characters, / and #"),
        ({"providers": {"": {"burst": 1}}}, "providers.", "a text of 1 to 200 characters"),
        ({"providers": {"x": {"accounts": {"a/b": {}}}}}, "providers.x.accounts.a/b", "/ and #"),
        ({"account": "team#1"}, "account", "/ and #, not"),
        ({"adaptiveRateControl": {"reductionFactor": 1}}, "adaptiveRateControl.reductionFactor", "below 1, not 1"),
        ({"adaptiveRateControl": {"recoveryFactor": 1}}, "adaptiveRateControl.recoveryFactor", "a number above 1"),
        ({"instances": {"a": {"priority": 0}}}, "instances.a.priority", "from 1 to 1,000, not 0"),
        ({"instances": {"a": {"reservedCapacity": -1}}}, "instances.a.reservedCapacity", "from 0 to"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(project: Path, home: Path, section: Any, key: str, message: str) -> None:
    file = write_section(project, section)
    error = failure(project, home)
    assert (error.origin, error.key) == (f"{file}:1", key)
    assert message in str(error)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        *(
            ("PI_TOTAL_MAX_LLM", value, "must be a whole number")
            for value in ("0", "-1", "6.0", " 6", "1_0", "\uff16", "x")
        ),
        ("PI_TOTAL_MAX_LLM", "9" * 5_000, "must be a whole number from 1 to 1,000,000,000"),
        (
            "PI_HEARTBEAT_INTERVAL_MS",
            "",
            "must be a whole number of milliseconds from 1 to 86,400,000, not an empty text",
        ),
        ("PI_HEARTBEAT_TIMEOUT_MS", "1e4", "must be a whole number of milliseconds"),
        ("PI_COORDINATOR_PORT", "80000", "from 1 to 65,535, not 80000"),
        ("PI_CROSS_INSTANCE_ENABLED", "maybe", 'must be true or false, not "maybe"'),
        ("PI_RUNTIME_PROFILE", "Stable", 'must be "default" or "stable"'),
        ("PI_INSTANCE_ID", "\udcff", "without control characters"),
        ("PI_STORE", "", "must be a folder or a URL"),
        ("PI_ACCOUNT", "", "not an empty text"),
    ],
)
def test_what_is_wrong_in_a_variable_is_said(
    project: Path, home: Path, variable: str, value: str, message: str
) -> None:
    error = failure(project, home, {variable: value})
    assert error.origin == variable
    assert message in str(error)


@pytest.mark.parametrize("text", ["false", "0", "no", "OFF"])
def test_a_switch_can_be_turned_off_by_a_variable(project: Path, home: Path, text: str) -> None:
    settings = load(project, home, {"PI_CROSS_INSTANCE_ENABLED": text, "PI_ENABLE_WORK_STEALING": text})
    assert not settings.enabled
    assert not settings.work_stealing


def test_an_argument_must_be_right_too(project: Path, home: Path) -> None:
    assert str(failure(project, home, instnce_id="a")) == (
        "argument `instnce_id`: unknown key; did you mean `instance_id`?"
    )
    assert "must be a whole number" in str(failure(project, home, total_max_llm=float("nan")))
    assert "not a value of type object" in str(failure(project, home, account=object()))
    assert load(project, home, account=None).account == "default"
    endless: dict[str, Any] = {}
    endless["openai"] = endless
    assert failure(project, home, providers=endless).key == "providers.openai.openai"


def test_a_password_is_never_quoted(project: Path, home: Path) -> None:
    write_section(project, {"store": "redis://me:hunter2@host\u0000"})
    assert "hunter2" not in str(failure(project, home))
    assert "hunter2" not in str(failure(project, home, {"PI_STORE": "redis://me:hunter2@host\n"}))
    write_section(project, {"store": "redis://me:hunter2@host"})
    assert "hunter2" not in repr(load(project, home))


def test_a_file_that_cannot_be_read_is_named(project: Path, home: Path) -> None:
    file = project / ".pi" / "config.json"
    file.mkdir(parents=True)
    error = failure(project, home)
    assert error.origin == str(file)
    assert "cannot be read" in str(error)
    file.rmdir()
    os.mkfifo(file)
    assert str(failure(project, home)) == f"{file}: is not a regular file"
    file.unlink()
    file.write_bytes(b'{\n"a": "\xff"}')
    assert str(failure(project, home)) == f"{file}:2: is not UTF-8 text"
    file.write_bytes(b'\xef\xbb\xbf{"crossInstance": {"account": "bom"}}')
    assert load(project, home).account == "bom"


WORDS = sorted({part for setting in SETTINGS for part in setting.path} | {"openai", "gpt-4*", "crossInstance"})
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from([1, 10, 999_999_937, 10**9, "default", "redis://x", ["h:1"]])
)
TREES = st.recursive(
    VALUES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=10,
)


def loaded_or_refused(folder: Path, environ: dict[str, str] | None = None, **given: Any) -> Settings | ConfigError:
    try:
        return load(folder, folder, environ, **given)
    except ConfigError as error:
        return error


@hypothesis.settings(deadline=None)
@given(TREES, TREES)
def test_arbitrary_json_is_accepted_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, section: Any, limits: Any
) -> None:
    folder = tmp_path_factory.getbasetemp() / "arbitrary"
    write_section(folder, section)
    write(folder, limits, ".pi/config/provider-limits.json")
    outcome = loaded_or_refused(folder)
    if isinstance(outcome, ConfigError):
        assert str(folder) in str(outcome.origin)
    else:
        for provider in {"openai", *outcome.providers}:
            outcome.account_spec(provider, wall=0)


@hypothesis.settings(deadline=None)
@given(st.dictionaries(st.sampled_from([s.path[0] for s in SETTINGS]), TREES, max_size=4))
def test_arbitrary_arguments_are_accepted_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, arguments: dict[str, Any]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    outcome = loaded_or_refused(folder, **arguments)
    assert isinstance(outcome, Settings) or outcome.origin == "argument"


@hypothesis.settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([s.variable for s in SETTINGS if s.variable]),
        st.text(st.characters(exclude_characters="\0"), max_size=8) | st.integers().map(str),
    )
)
def test_arbitrary_variables_are_accepted_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, environ: dict[str, str]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    outcome = loaded_or_refused(folder, environ)
    assert isinstance(outcome, Settings) or outcome.origin in environ


def test_a_wrong_host_is_not_quoted_it_may_hold_a_password(project: Path, home: Path) -> None:
    write_section(project, {"providers": {"x": {"baseUrls": "https://user:hunter2@gw.example/v1"}}})
    assert "hunter2" not in str(failure(project, home))


@pytest.mark.parametrize(
    ("argument", "key"),
    [
        ({"instance_id": "evil\x1b[31m\nInstance: fake"}, "instanceId"),
        ({"instance_id": ""}, "instanceId"),
        ({"instance_id": "x" * 300}, "instanceId"),
        ({"account": "team#1"}, "account"),
        ({"account": "a/b"}, "account"),
        ({"account": ""}, "account"),
        ({"store": "a\nb"}, "store"),
    ],
)
@pytest.mark.parametrize("given", [False, True], ids=["settings loaded", "settings given"])
def test_the_arguments_of_a_runtime_are_checked_as_settings_are(
    project: Path, home: Path, argument: dict[str, str], key: str, given: bool
) -> None:
    loaded = load_settings(project, home=home, environ={})
    with pytest.raises(ConfigError) as caught:
        Runtime(**argument, **({"settings": loaded} if given else {}))  # type: ignore[arg-type]
    assert (caught.value.origin, caught.value.key) == ("argument", key)


def test_a_setting_without_effect_is_told_once(project: Path, home: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_section(project, {"coordinatorAddr": "localhost:9", "coordinatorPort": 8765, "ageingMs": 5})
    load_settings(project, home=home, environ={})
    settings = load_settings(project, home=home, environ={})
    told = [entry.key for entry in settings.reserved()]
    assert told == ["coordinatorPort", "coordinatorAddr"]
    assert [record.getMessage() for record in caplog.records] == [
        f"accepted, not acted on by this version: {told[0]} ({file}:1), {told[1]} ({file}:1)"
    ]


@pytest.mark.parametrize(
    ("provider", "account"),
    [("", None), ("open/ai", None), ("a#b", None), ("a\nb", None), ("openai", "x/y"), ("openai", "team#1"), (5, None)],
)
def test_a_permit_refuses_names_that_cannot_be_one(project: Path, home: Path, provider: Any, account: Any) -> None:
    runtime = Runtime(settings=load_settings(project, home=home, environ={}))
    with pytest.raises(ValueError, match=r"the name of (provider|account) must be a text of 1 to 200 characters"):
        runtime.permit(provider, "m", account=account)
    assert not (home / ".pi").exists()
