"""The page of commands and the commands themselves say the same."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click
from tests.docs.pages import ROOT

from cross_instance.cli import group, load

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")


def leaves(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command that can be called, by its full name; the main group counts for its own options."""
    if isinstance(command, click.Group):
        if any(isinstance(parameter, click.Option) for parameter in command.params):
            yield name, command
        context = click.Context(command)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from leaves(found, f"{name} {below}")
    else:
        yield name, command


def commands() -> dict[str, click.Command]:
    guides = {name: load(name.split("_")[-1], name) for name in ("pi_instance_status", "pi_model_limits")}
    return {**dict(leaves(group, "cross-instance")), **guides}


def documented() -> dict[str, set[str]]:
    """Options by the command in whose section they stand."""
    sections = re.split(r"^## `(.+)`$", PAGE, flags=re.MULTILINE)[1:]
    return {
        name: {
            option
            for row in re.findall(r"^\| (`--.*?) \|", text, re.MULTILINE)
            for option in re.findall(r"--[\w-]+", row)
        }
        for name, text in zip(sections[::2], sections[1::2], strict=True)
    }


def options_of(command: click.Command) -> set[str]:
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    return {name for option in options for name in (*option.opts, *option.secondary_opts)}


def test_every_command_and_option_is_documented_and_conversely() -> None:
    known = {name: options_of(command) for name, command in commands().items()}
    known["cross-instance"] |= {"--help"}
    assert documented() == known


def test_every_option_says_what_it_does() -> None:
    silent = [
        f"{name} {option.opts[0]}"
        for name, command in commands().items()
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert silent == []
