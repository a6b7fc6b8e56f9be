"""The command line: `cross-instance …`, and the user guide's own `pi_instance_status` and `pi_model_limits`.

1. A command is imported when it is called, and within `run`, so `--help` costs next to nothing and an import can be
   interrupted; the table below holds its summary.
2. What is wrong is told in one line on stderr, with exit code 2; nobody sees a traceback.
3. Ctrl-C ends with exit code 130, a reader that went away (`| head`) with 1, both without a word.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING, NamedTuple, NoReturn

import click

from cross_instance._version import __version__
from cross_instance.errors import CrossInstanceError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

WRONG, INTERRUPTED, BROKEN_PIPE = 2, 130, 1
"""Exit codes: 130 is what a shell reports for SIGINT, 1 what click gives for a broken pipe."""


class Entry(NamedTuple):
    """Where a command is, and what it does in a few words."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "config": Entry("config", "config", "Look at the configuration."),
    "demo": Entry("demo", "demo", "Four processes share one account, live: first alone, then together."),
    "doctor": Entry("doctor", "doctor", "Check that everything is in order here, and say how to mend what is not."),
    "events": Entry("events", "events", "Show what the instances tell; follow it."),
    "instances": Entry("instances", "instances", "Show each instance, its tasks and its permits; once or live."),
    "limits": Entry("limits", "limits", "Show the limits in force, their use, and where each comes from."),
    "provider": Entry("provider", "provider", "Run a local provider to test against."),
    "status": Entry("status", "status", "Show the instances, the accounts they share, and what must not stay silent."),
    "steal-demo": Entry(
        "steal_demo", "steal_demo", "Three processes, one has all the work: without stealing, and with it."
    ),
    "tasks": Entry("tasks", "tasks", "Look at tasks; cancel them, send them back, purge them."),
}


class LazyGroup(click.Group):
    """The group of all commands, each imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The commands' names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command; None for a name that is none."""
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else load(entry.module, entry.attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """The list of commands in the help, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


def load(module: str, attribute: str) -> click.Command:
    """Import a command."""
    command: click.Command = getattr(import_module(f"{__name__}.{module}"), attribute)
    return command


@click.group(cls=LazyGroup)
@click.version_option(__version__, package_name="cross-instance-runtime", prog_name="cross-instance")
def group() -> None:
    """One provider account, many agents, no 429s: processes share LLM rate limits exactly."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """`cross-instance`."""
    run(lambda: group, "cross-instance", args)


def pi_instance_status(args: Sequence[str] | None = None) -> NoReturn:
    """`pi_instance_status`, as in the user guide."""
    run(lambda: load("status", "pi_instance_status"), "pi_instance_status", args)


def pi_model_limits(args: Sequence[str] | None = None) -> NoReturn:
    """`pi_model_limits`, as in the user guide."""
    run(lambda: load("limits", "pi_model_limits"), "pi_model_limits", args)


def run(find: Callable[[], click.Command], name: str, args: Sequence[str] | None = None) -> NoReturn:
    """Find a command, run it, and end the process with its exit code."""
    _open_streams()
    try:
        code = find().main(args, prog_name=name, standalone_mode=False)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        _discard_output()
        sys.exit(BROKEN_PIPE)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(WRONG)
    except click.ClickException as error:
        _fail(name, _text(error))
    except CrossInstanceError as error:
        _fail(name, str(error))
    except OSError as error:
        _fail(name, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    sys.exit(code if isinstance(code, int) else 0)


def _open_streams() -> None:
    """Let what is told to a closed stdout or stderr (`>&-`) go nowhere, and no file of ours be opened in its place.

    What the terminal's encoding cannot say is escaped, as Python does it on stderr.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "r+"))
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _text(error: click.ClickException) -> str:
    """What is wrong with the command line, and where help is."""
    message = error.format_message()
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return message
    return f"{message.rstrip('.')}; see {error.ctx.command_path} --help"


def _fail(name: str, message: str) -> NoReturn:
    with suppress(BrokenPipeError):
        click.echo(f"{name}: {' '.join(message.split())}", err=True)
    sys.exit(WRONG)


def _discard_output() -> None:
    """Nobody reads stdout any more: let what is still buffered go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
