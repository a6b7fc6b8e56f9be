"""What holds for the whole source tree: who imports whom, the public names, sizes, and nothing of anyone's machine."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest
from tests.docs.pages import ROOT

import cross_instance
from cross_instance.events import KINDS, NOTICES

PACKAGE = ROOT / "src" / "cross_instance"
MODULES = sorted(PACKAGE.rglob("*.py"))

PLAIN = "cross_instance.rules.operations"
"""The operations are plain data, and part of every interface."""

LAW: dict[str, set[str]] = {
    "errors": {PLAIN},
    "rules": {"cross_instance.rules", "cross_instance.errors"},
    "providers": {"cross_instance.providers", "cross_instance.rules.operations", "cross_instance.rules.values"},
    "config": {"cross_instance.config", "cross_instance.errors", "cross_instance.providers", "cross_instance.rules"},
    "stores": {
        *("cross_instance.stores", "cross_instance.rules", "cross_instance.providers", "cross_instance.errors"),
        "cross_instance.config",  # for types: `open_store` is given settings
    },
    "clients": {
        *("cross_instance.clients", "cross_instance.rules", "cross_instance.providers", "cross_instance.errors"),
    },
}
"""What each part may import of ours; parts that are not named put others together."""

TOP = {"cross_instance.cli", "cross_instance.testing"}
"""What nothing else may import: they use the rest."""

LONGEST = 400


def imported(module: Path) -> set[str]:
    """Every module of ours that this one imports, at any place in it."""
    names = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: imports are written in full"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "cross_instance"}
    return {name for name in names if name.startswith("cross_instance.")}


def is_within(name: str, allowed: set[str]) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in allowed)


def part_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("part", LAW)
def test_imports_go_one_way(part: str) -> None:
    modules = [module for module in MODULES if part_of(module) == part]
    assert modules
    wrong = {
        f"{module.relative_to(PACKAGE)}: {name}"
        for module in modules
        for name in imported(module)
        if not is_within(name, LAW[part])
    }
    assert wrong == set()


def test_nothing_rests_on_the_command_line_or_on_testing() -> None:
    wrong = {
        f"{module.relative_to(PACKAGE)}: {name}"
        for module in MODULES
        if part_of(module) not in {"cli", "testing"}
        for name in imported(module)
        if is_within(name, TOP)
    }
    assert wrong == set()


def test_testing_does_not_rest_on_the_command_line() -> None:
    wrong = {name for module in MODULES if part_of(module) == "testing" for name in imported(module)}
    assert not any(is_within(name, {"cross_instance.cli"}) for name in wrong)


PUBLIC = [
    *("AsyncPermit", "AsyncRuntime", "ConfigError", "CrossInstanceError", "DuplicateInstance", "Event"),
    *("InstanceFenced", "Outcome", "Permit", "PermitError", "Priority", "RateLimitExceeded", "RequestTooLarge"),
    *("Runtime", "StoreBusy", "StoreCorrupt", "StoreFull", "StoreUnavailable", "Subscription", "Usage"),
    *("__version__", "retry_with_backoff", "subscribe_coordinator_events"),
]
"""A name that goes from here breaks somebody's program; one that comes is a promise."""


def test_the_public_names() -> None:
    assert sorted(cross_instance.__all__) == PUBLIC
    assert all(hasattr(cross_instance, name) for name in PUBLIC)


def test_every_public_name_is_documented() -> None:
    api = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    assert [name for name in PUBLIC if not name.startswith("_") and f"`{name}" not in api] == []


def test_every_kind_of_event_is_documented_and_no_other() -> None:
    api = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    tables = api.partition("| kind | when |")[2].partition("### ")[0]
    assert set(re.findall(r"^\| `([a-z-]+)` \|", tables, re.MULTILINE)) == KINDS


def test_every_notice_is_a_kind_of_event() -> None:
    topics = re.compile(r"""(?:Notice\(|topic = )"([a-z-]+)\"""")
    source = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*") if path.suffix in {".py", ".lua"})
    assert {*NOTICES} < set(topics.findall(source)) <= KINDS


@pytest.mark.parametrize("module", MODULES, ids=lambda module: str(module.relative_to(PACKAGE)))
def test_modules_are_short_and_say_what_they_are(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST
    assert not text.strip() or module.name == "_version.py" or ast.get_docstring(ast.parse(text))


def tracked() -> list[Path]:
    """The files that are or would be committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_file_names_a_machine_or_a_registry() -> None:
    private = re.compile(
        r"/(?:root|home/\w+|Users/\w+|work)/[\w.]|(?<!emit-)index-url|https?://[\w.-]*(?:pypi|pythonhosted)[\w.-]*"
    )
    examples = re.compile(r"/home/me/")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in tracked()
        if path.suffix in {".py", ".md", ".toml", ".txt", ".in", ".sh", ".lua", ".json"} or path.name == "Makefile"
        for match in private.finditer(examples.sub("", path.read_text(encoding="utf-8", errors="replace")))
        if path != Path(__file__)
    ]
    assert found == []
