"""Everything in the README and in docs/ runs as written.

Python runs against local providers that stand in for the real ones, shell in a project and a home of its own, JSON is
read by the configuration. What would install something, or takes minutes, is checked but not run.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.docs.pages import BLOCKS, PAGES, ROOT, Block, blocks_in, blocks_of

from cross_instance.cli.demo.figures import ProcessFigures, RunFigures
from cross_instance.cli.demo.scene import PARTS, SECONDS
from cross_instance.cli.demo.view import table_text
from cross_instance.config import load_settings
from cross_instance.testing.provider import ProviderServer

if TYPE_CHECKING:
    from collections.abc import Iterator

LANGUAGES = {"python", "bash", "json", "jsonc", "text"}
NOT_RUN = ("make ", "pip install ", "cross-instance demo")
ALLOWED = {
    *("cross-instance", "pi_instance_status", "pi_model_limits", "python", "curl"),
    *("cat", "export", "head", "kill", "rm", "sleep", "tail", "until", "wait"),
}
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
URLS = {"openai": "OPENAI_BASE_URL", "anthropic": "ANTHROPIC_BASE_URL", "gemini": "GOOGLE_GEMINI_BASE_URL"}
KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY")


def ids(block: Block) -> str:
    return block.place


@pytest.fixture(scope="module")
def urls() -> Iterator[dict[str, str]]:
    """A local provider in place of each real one."""
    with ProviderServer() as openai, ProviderServer() as anthropic, ProviderServer() as gemini:
        yield {
            "openai": openai.base_url("openai"),
            "anthropic": anthropic.base_url("anthropic"),
            "gemini": gemini.base_url("gemini"),
        }


@pytest.fixture
def project(tmp_path: Path, urls: dict[str, str]) -> Path:
    """A project whose configuration knows the local providers, with this repository's code, in a home of its own."""
    folder = tmp_path / "project"
    (folder / ".pi").mkdir(parents=True)
    providers = {name: {"baseUrls": [url]} for name, url in urls.items()}
    (folder / ".pi" / "config.json").write_text(json.dumps({"crossInstance": {"providers": providers}}))
    for name in ("examples", "src"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run(command: list[str], project: Path, urls: dict[str, str]) -> tuple[int, str]:
    """Its exit code, and everything it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PI_")}
    environment |= {URLS[name]: url for name, url in urls.items()} | dict.fromkeys(KEYS, "any")
    environment |= {"HOME": str(project.parent), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    output = project.parent / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            command, cwd=project, env=environment, stdout=file, stderr=subprocess.STDOUT, process_group=0
        )
        try:
            code = process.wait(timeout=120)
        finally:
            with suppress(ProcessLookupError):  # what a block that failed has left running
                os.killpg(process.pid, signal.SIGKILL)
    return code, output.read_text()


def has_python(page: Path) -> bool:
    return any(block.language == "python" and block.saved_as is None for block in blocks_of(page))


def is_run(block: Block) -> bool:
    return not any(line.startswith(NOT_RUN) for line in block.code.splitlines())


# --- code ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [page for page in PAGES if has_python(page)], ids=lambda page: page.name)
def test_python_runs(page: Path, project: Path, urls: dict[str, str]) -> None:
    code, said = run([sys.executable, str(Path(__file__).with_name("run_page.py")), str(page)], project, urls)
    assert code == 0, said


@pytest.mark.parametrize("block", [block for block in blocks_in("bash") if is_run(block)], ids=ids)
def test_shell_runs(block: Block, project: Path, urls: dict[str, str]) -> None:
    if "curl " in block.code and shutil.which("curl") is None:
        pytest.skip("needs curl")
    for earlier in blocks_of(block.page):
        if earlier.saved_as is not None:
            (project / earlier.saved_as).write_text(earlier.code)
    code, said = run(["bash", "-euc", block.code], project, urls)
    assert code == 0, said


@pytest.mark.parametrize("block", blocks_in("bash"), ids=ids)
def test_shell_uses_known_commands_only(block: Block) -> None:
    for line in block.code.splitlines():
        words = [word for word in line.split() if not re.match(r"\w+=", word)]
        assert not words or line.startswith(NOT_RUN) or words[0] in ALLOWED, line


@pytest.mark.parametrize("block", [block for block in blocks_in("bash") if "> provider.out" in block.code], ids=ids)
def test_a_provider_s_address_is_not_read_from_an_earlier_run(block: Block) -> None:
    """The shell that reads the file may be there before the one that begins it anew."""
    assert block.code.startswith("rm -f provider.out\n")


@pytest.mark.parametrize("block", blocks_in("json", "jsonc"), ids=ids)
def test_json_is_a_configuration(block: Block, tmp_path: Path) -> None:
    (tmp_path / ".pi").mkdir()
    (tmp_path / ".pi" / "config.json").write_text(block.code)
    assert load_settings(tmp_path, environ={}, home=tmp_path).providers


def test_no_block_is_of_another_kind() -> None:
    assert [block.place for block in BLOCKS if block.language not in LANGUAGES] == []


def test_a_broken_block_would_be_seen(project: Path, urls: dict[str, str]) -> None:
    page = project / "page.md"
    page.write_text("# A page\n\n```python\nfrom cross_instance import Nothing\n```\n")
    code, said = run([sys.executable, str(Path(__file__).with_name("run_page.py")), str(page)], project, urls)
    assert code == 1
    assert 'page.md", line 4' in said


# --- what is not run -----------------------------------------------------------------------------------------------


def lines_starting(word: str) -> list[str]:
    return [line for block in blocks_in("bash") for line in block.code.splitlines() if line.startswith(word)]


def test_every_target_of_make_exists() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {line.split()[1] for line in lines_starting("make ")} >= {"demo", "test"}
    assert {line.split()[1] for line in lines_starting("make ")} <= targets


def test_what_is_installed_has_its_extra() -> None:
    extras = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    known = set(re.findall(r"^(\w+) =", extras, re.MULTILINE))
    for line in lines_starting("pip install "):
        assert set(re.findall(r"\[(\w+)\]", line)) <= known, line


# --- pages ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_index_links_every_page() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target).resolve() for target in LINK.findall(index.read_text(encoding="utf-8"))}
    assert {page for page in PAGES if ROOT / "docs" in page.parents} - linked == {index}


def test_the_readme_shows_the_demo_s_table() -> None:
    shown = next(block.code for block in blocks_of(ROOT / "README.md") if block.code.startswith("One account"))
    processes = tuple(ProcessFigures(part.name, part.tasks, 1, 0, 0, 1.0, 1.0) for part in PARTS)
    alone, shared = (RunFigures(of, 1, 240.0, 1.0, 654.5, 0.5, 0, processes) for of in (SECONDS / 2, SECONDS))
    printed = table_text(alone, shared).splitlines()
    assert shown.splitlines()[0] == printed[0]
    assert [line[:32].rstrip() for line in shown.splitlines()[2:11]] == [line[:32].rstrip() for line in printed[2:11]]
