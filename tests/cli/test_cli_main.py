"""The main command: help without imports, errors in one line, Ctrl-C and readers that go away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.commands import Place, command_line

from cross_instance import __version__
from cross_instance.cli import COMMANDS, group, load

CLI = Path(__file__).parents[2] / "src" / "cross_instance" / "cli"


def test_the_help_names_every_command(place: Place) -> None:
    done = place.run("cross-instance", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    for name, entry in COMMANDS.items():
        assert name in done.stdout
        assert entry.summary.split()[0] in done.stdout


def test_every_command_can_be_imported_and_its_help_agrees() -> None:
    for name, entry in COMMANDS.items():
        command = load(entry.module, entry.attribute)
        assert command.name == name
        assert command.help
        assert command.get_short_help_str(200)


def test_help_imports_no_command() -> None:
    program = (
        "import sys; from click.testing import CliRunner; from cross_instance.cli import group; "
        "assert CliRunner().invoke(group, ['--help']).exit_code == 0; "
        "print([name for name in sys.modules if name.startswith(('cross_instance.cli.', 'rich', 'openai'))"
        " or name in ('lmdb', 'asyncio', 'cross_instance.runtime', 'cross_instance.config')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_every_file_of_commands_is_in_the_table() -> None:
    """A file with a click command that nobody registered would be a command that nobody finds."""
    marks = ("@click.command", "@click.group()")
    files = {path for path in CLI.glob("*.py") if any(mark in path.read_text() for mark in marks)}
    assert {path.stem for path in files} | {"demo", "steal_demo", "config"} == {
        entry.module for entry in COMMANDS.values()
    }


def test_the_version(place: Place) -> None:
    assert place.run("cross-instance", "--version").stdout == f"cross-instance, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nope"], "No such option '--nope'; see cross-instance --help"),
        (["frobnicate"], "No such command 'frobnicate'; see cross-instance --help"),
        (["limits", "--nope"], "No such option '--nope'; see cross-instance limits --help"),
        (["doctor", "extra"], "Got unexpected extra argument (extra); see cross-instance doctor --help"),
        (
            ["limits", "--provider", "openai", "reset"],
            "options of limits do not go with reset; see cross-instance limits",
        ),
        (["tasks", "retry", "1", "--kind", "x"], "--kind goes with --state, not with tasks that are named; see"),
        (["demo", "--seconds", "0"], "Invalid value for '--seconds': 0.0 is not in the range 1<=x<=600"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(place: Place, arguments: list[str], message: str) -> None:
    done = place.run("cross-instance", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"cross-instance: {message}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("raised", "code"), [("KeyboardInterrupt", 130), ("BrokenPipeError", 1)])
def test_an_interrupted_command_ends_without_a_word(place: Place, raised: str, code: int) -> None:
    program = (
        "import click, cross_instance.cli as cli\n"
        f"@click.command()\ndef command(): raise {raised}\n"
        "cli.run(lambda: command, 'command', [])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (code, "", "")
    assert place.project.exists()


def test_a_reader_that_goes_away_is_no_error(place: Place) -> None:
    writer = subprocess.Popen(
        command_line("cross-instance", "config", "show"),
        cwd=place.project,
        env=place.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        writer.stdout.close()
        assert writer.wait(timeout=60) == 1
        assert writer.stderr.read() == b""


def test_what_an_encoding_cannot_say_is_escaped(place: Place) -> None:
    place.configure({"instanceId": "日本語"})
    done = subprocess.run(
        command_line("cross-instance", "config", "show"),
        cwd=place.project,
        env=place.variables | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u65e5\\u672c\\u8a9e" in done.stdout


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_closed_streams_are_no_error(place: Place, closed: tuple[int, ...]) -> None:
    """As a shell closes them: `cross-instance config show >&-`."""
    done = subprocess.run(
        [
            "sh",
            "-c",
            f'"$@" {" ".join(f"{stream}>&-" for stream in closed)}',
            "sh",
            *command_line("cross-instance", "config", "show"),
        ],
        cwd=place.project,
        env=place.variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) is (1 not in closed)


def test_the_entry_points_of_the_package_exist() -> None:
    import cross_instance.cli as cli

    scripts = (Path(__file__).parents[2] / "pyproject.toml").read_text().partition("[project.scripts]")[2]
    names = {line.partition("=")[0].strip() for line in scripts.partition("[")[0].split("\n") if "=" in line}
    assert names == {"cross-instance", "pi_instance_status", "pi_model_limits"}
    assert all(callable(getattr(cli, attribute)) for attribute in ("main", "pi_instance_status", "pi_model_limits"))
    assert group.name == "group"


@pytest.mark.parametrize("arguments", [(), ("config",)])
def test_without_a_command_the_help_is_printed_as_it_is(place: Place, arguments: tuple[str, ...]) -> None:
    helped = place.run("cross-instance", *arguments, "--help")
    done = place.run("cross-instance", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == helped.stdout


@pytest.mark.parametrize("name", ["pi_instance_status", "pi_model_limits", "cross-instance"])
def test_an_interrupted_import_of_a_command_ends_without_a_word(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def interrupted(module: str) -> None:
        raise KeyboardInterrupt(module)

    monkeypatch.setattr("cross_instance.cli.import_module", interrupted)
    done = place.run(name, *(["status"] if name == "cross-instance" else []))
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "")


def test_windows_is_refused_with_the_way_out() -> None:
    program = "import sys; sys.platform = 'win32'\ntry: import cross_instance\nexcept ImportError as e: print(e)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "cross-instance-runtime does not support Windows; use it within WSL 2\n"


def test_public_names_come_when_they_are_used() -> None:
    program = (
        "import sys, cross_instance; assert 'cross_instance.runtime' not in sys.modules; "
        "assert set(cross_instance.__all__) <= set(dir(cross_instance)); "
        "from cross_instance import *; assert Runtime is cross_instance.Runtime; print(hasattr(cross_instance, 'nope'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False\n"
