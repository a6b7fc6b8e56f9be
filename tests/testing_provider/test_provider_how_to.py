"""The how-to's code runs as written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from cross_instance.testing.provider.config import DeliveryFault, ErrorFault, Fault, Limit, LimitKind, ProviderConfig

PAGE = (Path(__file__).parents[2] / "docs/how-to/test-provider.md").read_text(encoding="utf-8")
COMMAND = f"""#!/bin/sh
shift
exec {sys.executable} -c 'from cross_instance.cli.provider import provider; provider()' "$@"
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", blocks("python"))
def test_python_blocks(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, "test-provider.md", "exec"), {})
    assert capsys.readouterr().out


@pytest.mark.skipif(shutil.which("curl") is None and "CI" not in os.environ, reason="needs curl")
@pytest.mark.parametrize("block", blocks("bash"))
def test_shell_blocks(block: str, tmp_path: Path) -> None:
    command = tmp_path / "cross-instance"
    command.write_text(COMMAND)
    command.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euc", block], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    statistics = json.loads("".join(done.stdout.rpartition('{"startedAt"')[1:]))
    assert statistics["clients"]["me"]["served"] == 1


@pytest.mark.parametrize("form", [Limit, Fault, ProviderConfig])
def test_every_setting_is_told(form: type[Limit | Fault | ProviderConfig]) -> None:
    untold = {"kind", "limits", "faults", "host", "port", "journal"}
    assert not [name for name in form.__struct_fields__ if name not in untold and f"`{name}" not in PAGE]


def test_every_kind_is_told() -> None:
    for kinds in (LimitKind, ErrorFault, DeliveryFault):
        assert not [kind for kind in get_args(kinds) if f"`{kind}`" not in PAGE]
