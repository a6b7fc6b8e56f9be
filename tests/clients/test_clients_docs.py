"""The how-to on SDKs: its code blocks run as written, each provider's host being a local one."""

import json
import re
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.clients.support import CURRENT

from cross_instance.clients.calls import DEFAULT_BUDGET
from cross_instance.clients.flow import BODY_LIMIT
from cross_instance.testing.provider import ProviderServer
from cross_instance.testing.provider.config import Provider

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "sdks.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
VARIABLES: dict[Provider, tuple[str, str]] = {
    "openai": ("OPENAI_BASE_URL", "OPENAI_API_KEY"),
    "anthropic": ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY"),
    "gemini": ("GOOGLE_GEMINI_BASE_URL", "GEMINI_API_KEY"),
}


@pytest.mark.skipif(not CURRENT, reason="the page shows the current SDKs")
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs_as_written(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as stack:
        servers = {name: stack.enter_context(ProviderServer()) for name in VARIABLES}
        for name, (url, key) in VARIABLES.items():
            monkeypatch.setenv(url, servers[name].base_url(name))
            monkeypatch.setenv(key, "none")
        providers = {name: {"baseUrls": [server.url]} for name, server in servers.items()}
        (tmp_path / ".pi").mkdir()
        (tmp_path / ".pi" / "config.json").write_text(json.dumps({"crossInstance": {"providers": providers}}))
        exec(compile(block, "sdks.md", "exec"), {"__name__": "__main__"})
        assert sum(server.statistics().total.served for server in servers.values()) == 1
    assert capsys.readouterr().out.startswith("One account shared")


def test_the_figures_of_the_page_are_those_of_the_code() -> None:
    assert f"{DEFAULT_BUDGET:.0f} s too where there is no timeout" in PAGE
    assert f"up to {BODY_LIMIT >> 20} MiB" in PAGE
