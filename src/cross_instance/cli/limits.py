"""`cross-instance limits`, what was learned of them, and `pi_model_limits` as the user guide prints it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cross_instance.cli.looking import as_json, columns, known_providers, look
from cross_instance.config import load_settings
from cross_instance.errors import ConfigError
from cross_instance.explaining import explanations, text_of
from cross_instance.rules.operations import Snapshot, Unlearn
from cross_instance.spelling import camel_keys
from cross_instance.status import Place, format_model_limits, limits_of
from cross_instance.stores.urls import open_store

if TYPE_CHECKING:
    from cross_instance.config import Settings
    from cross_instance.rules.operations import World
    from cross_instance.status import Limit

DAY = 86_400
HEADINGS = ("account", "model", "limit", "amount", "at once", "available", "last 60 s", "source")
NUMBERS = frozenset({3, 4, 5, 6})


@click.group(invoke_without_command=True)
@click.option("--provider", help="Show the limits of one provider only.")
@click.option("--explain", is_flag=True, help="Tell what was configured, told and learned, and why.")
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
@click.pass_context
def limits(context: click.Context, *, provider: str | None, explain: bool, as_json_: bool) -> None:
    """Show the limits in force, their use by all instances, and where each comes from.

    Sources: configured, told by the provider, learned, preset, or a guess. An account that nobody uses at the moment
    is shown as it would be used.
    """
    if context.invoked_subcommand is not None:
        if provider is not None or explain or as_json_:
            raise click.UsageError(f"options of limits do not go with {context.invoked_subcommand}")
        return
    settings, world, provider = _look(provider)
    if explain:
        _explain(world, provider, settings, as_json_=as_json_)
        return
    found = limits_of(world, settings, provider)
    if as_json_:
        click.echo(as_json({"limits": [camel_keys(limit) for limit in found]}))
    elif found:
        click.echo("\n".join(columns([HEADINGS, *(_row(limit) for limit in found)], NUMBERS)))
    else:
        click.echo("No limit is configured or in use.")


def _explain(world: World | None, provider: str | None, settings: Settings, *, as_json_: bool) -> None:
    explained = explanations(world, provider)
    if as_json_:
        click.echo(as_json({"limits": [camel_keys(one) for one in explained]}))
    elif explained:
        click.echo("\n\n".join(text_of(one, learning=settings.adaptive.enabled) for one in explained))
    else:
        click.echo("No account has been used since the machine was started.")


@limits.command()
@click.argument("provider", required=False)
@click.argument("model", required=False)
def reset(provider: str | None, model: str | None) -> None:
    """Forget what was learned of limits: of all, of a PROVIDER, or of the group of limits that a MODEL belongs to."""
    settings = load_settings()
    address = settings.store or str(settings.runtime_dir)
    provider = (provider or "").lower()
    nodes: tuple[str, ...] = ()
    world: World | None = None
    if "://" in address or Path(address).exists():
        store = open_store(address, settings)
        try:
            nodes = store.run(Unlearn(provider=provider, model=model or "")).nodes
            world = store.run(Snapshot(counts=False))
        finally:
            store.close()
    if provider and not nodes:
        _must_be_known(provider, settings, world)
    click.echo(f"Forgotten: what was learned of {', '.join(nodes)}." if nodes else "Nothing was learned.")


@click.command()
@click.option("--provider", help="Show the limits of one provider only.")
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def pi_model_limits(*, provider: str | None, as_json_: bool) -> None:
    """Show each provider's limits and their current use, as in the user guide."""
    settings, world, provider = _look(provider)
    if as_json_:
        click.echo(as_json(_by_provider(limits_of(world, settings, provider))))
    else:
        click.echo(format_model_limits(world, provider, settings))


def _look(provider: str | None) -> tuple[Settings, World | None, str | None]:
    """Settings, state and the provider asked for. Raises `ConfigError` for one that is not known."""
    settings = load_settings()
    world = look(settings)
    if provider is not None:
        provider = provider.lower()
        _must_be_known(provider, settings, world)
    return settings, world, provider


def _must_be_known(provider: str, settings: Settings, world: World | None) -> None:
    """Raises `ConfigError` for a provider that nobody knows."""
    known = known_providers(settings, world)
    if provider not in known:
        raise ConfigError(f"unknown provider {provider!r}; known are {', '.join(known)}")


def _row(limit: Limit) -> tuple[str, ...]:
    return (
        Place(limit.provider, limit.account, "").label or "(all accounts)",
        limit.model or "all",
        limit.kind.replace("requests_day", "requests").replace("_", " "),
        f"{limit.amount:,}{_period(limit)}",
        f"{limit.burst or limit.amount:,}",
        f"{limit.available:,}",
        "" if limit.used is None else f"{limit.used:,}",
        limit.source,
    )


def _period(limit: Limit) -> str:
    if not limit.period:
        return ""
    return {60: "/min", DAY: "/day"}.get(round(limit.period), f"/{limit.period:g} s")


def _by_provider(found: tuple[Limit, ...]) -> dict[str, Any]:
    """Each account's requests per minute as in the guide's Example 4, and all of its limits."""
    providers: dict[str, Any] = {}
    for limit in found:
        label = Place(limit.provider, limit.account, "").label
        if limit.used is not None:
            providers[label] = {
                "requestsPerMinute": round(limit.amount * 60 / limit.period),
                "burst": limit.burst,
                "currentUsage": limit.used,
                "burstAvailable": max(0, limit.available),
                "source": limit.source,
            }
        providers.setdefault(label, {}).setdefault("limits", []).append(camel_keys(limit))
    providers.pop("", None)
    return {"providers": providers}
