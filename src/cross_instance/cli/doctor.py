"""`cross-instance doctor`: looks at everything that has to be in order, and says how to mend what is not."""

from __future__ import annotations

import sys

import click

WORDS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@click.command()
@click.option("--store", help="Look at the store at this address in place of the one that is set.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(*, store: str | None, as_json: bool) -> None:
    """Check that everything is in order here, and say how to mend what is not.

    Looks at the SDKs, the configuration, the runtime folder, the store and its server, the clock and the limits.

    Exit code 1 where something fails; a warning is no failure. It joins nothing and mends nothing by itself.
    """
    from cross_instance.cli import checks
    from cross_instance.cli.looking import as_json as to_json

    found = list(checks.every(store))
    failed = any(check.level == "fail" for check in found)
    if as_json:
        click.echo(to_json({"ok": not failed, "checks": [check._asdict() for check in found]}))
    else:
        for check in found:
            click.echo(f"{WORDS[check.level]}  {check.name}: {check.finding}")
            if check.mend:
                click.echo(f"      {check.mend}")
    sys.exit(1 if failed else 0)
