"""`cross-instance status`, and `pi_instance_status` as the user guide prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cross_instance.cli.looking import as_json, columns, look, notices_of
from cross_instance.config import load_settings, without_password
from cross_instance.events import LIMITS_GUESSED, SETTINGS_IGNORED
from cross_instance.prediction import Prediction, prediction_of
from cross_instance.rules.operations import SECOND, World
from cross_instance.spelling import camel_keys
from cross_instance.status import (
    NOBODY,
    Status,
    format_instance_status,
    group_of,
    guessed_accounts,
    instance_status,
    place_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.config import Settings
    from cross_instance.rules.operations import InstanceState, NodeState

INSTANCE_HEADINGS = ("instance", "pid", "host", "joined", "last beat", "held", "waiting")
INSTANCE_NUMBERS = frozenset({1, 3, 4, 5, 6})
ACCOUNT_HEADINGS = ("account", "model", "last 60 s", "held", "ghosts", "waiting", "guard", "paused")
ACCOUNT_NUMBERS = frozenset({2, 3, 4, 5, 6, 7})
SHARE_HEADINGS = ("instance", "account", "priority", "reserve", "last 60 s")
SHARE_NUMBERS = frozenset({2, 3, 4})
REFUSED_HEADINGS = ("429s of account", "model", "10 min", "30 min", "60 min", "risk", "proactive cut")
REFUSED_NUMBERS = frozenset({2, 3, 4, 5, 6})


@click.command()
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def status(*, as_json_: bool) -> None:
    """Show the instances, the accounts they share, and what must not stay silent.

    Held: permits for calls under way. Ghosts: slots of instances that fell silent, counted for a while because their
    calls may still run. Guard: requests left unspent so that delays cause no 429. Instances that have a priority or a
    reserve are listed with both, as they are in force now. 429s: the share of requests that met one, where limits are
    learned, the risk it implies, and by how much the rate would be cut for it beforehand; that is off unless
    adaptiveRateControl.predictive is set.
    """
    settings = load_settings()
    world = look(settings)
    click.echo(as_json(_to_dict(settings, world)) if as_json_ else "\n".join(_lines(settings, world)))


@click.command()
@click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
def pi_instance_status(*, as_json_: bool) -> None:
    """Show every instance, its requests under way and its use of each provider, as in the user guide."""
    settings = load_settings()
    world = look(settings)
    if as_json_:
        instances = () if world is None else world.instances
        click.echo(as_json([instance_status(_seen_by(instance, settings, world)) for instance in instances]))
    else:
        click.echo(NOBODY if world is None else format_instance_status(world, settings.heartbeat_timeout))


def _seen_by(instance: InstanceState, settings: Settings, world: World | None) -> Status:
    return Status(
        instance_id=instance.instance_id,
        incarnation=instance.incarnation,
        enabled=settings.enabled,
        store=_store(settings),
        degraded=None,
        notices=(),
        world=world,
    )


def _store(settings: Settings) -> str:
    return without_password(settings.store or str(settings.runtime_dir))


def _to_dict(settings: Settings, world: World | None) -> dict[str, Any]:
    return {
        "store": _store(settings),
        "enabled": settings.enabled,
        "ignored": [entry.key for entry in settings.reserved()],
        "guessed": list(guessed_accounts(world)),
        "instances": [] if world is None else camel_keys(world.instances),
        "accounts": [] if world is None else camel_keys(world.nodes),
        "prediction": [{"account": node.node, **seen.to_dict()} for node, seen in _predictions(world)],
        "locks": [] if world is None else camel_keys(world.locks),
    }


def _lines(settings: Settings, world: World | None) -> Iterator[str]:
    yield f"Store: {_store(settings)}"
    if not settings.enabled:
        yield "Coordination is switched off for processes with these settings: every request passes at once."
    if world is None or not world.instances:
        yield NOBODY
    if world is None:
        return
    if world.instances:
        rows = [INSTANCE_HEADINGS, *(_instance_row(world, instance) for instance in world.instances)]
        yield from ("", *columns(rows, INSTANCE_NUMBERS))
    if world.nodes:
        rows = [ACCOUNT_HEADINGS, *(_account_row(world, node) for node in world.nodes)]
        yield from ("", *columns(rows, ACCOUNT_NUMBERS))
    shares = list(_share_rows(world))
    if shares:
        yield from ("", *columns([SHARE_HEADINGS, *shares], SHARE_NUMBERS))
    refused = [_refused_row(node, seen) for node, seen in _predictions(world)]
    if refused:
        yield from ("", *columns([REFUSED_HEADINGS, *refused], REFUSED_NUMBERS))
    notices = [f"{notice.topic}: {notice.text}" for notice in notices_of(world)]
    notices += [f"{LIMITS_GUESSED}: nothing is known of the limits of {name}" for name in guessed_accounts(world)]
    notices += [f"{SETTINGS_IGNORED}: {entry.place} has no effect" for entry in settings.reserved()]
    if notices:
        yield from ("", *notices)


def _instance_row(world: World, instance: InstanceState) -> tuple[str, ...]:
    return (
        instance.instance_id,
        str(instance.pid),
        instance.host,
        ago(world.at.wall - instance.joined_at),
        ago(world.at.wall - instance.beat_at),
        str(instance.held),
        str(instance.waiting),
    )


def _account_row(world: World, node: NodeState) -> tuple[str, ...]:
    place, group = place_of(node.node), group_of(node.node)
    pause = max(0, node.paused_until - world.at.mono)
    return (
        place.label or "(all accounts)",
        group or "all",
        "" if group or not place.provider else str(node.used),
        str(node.held),
        str(node.ghosts),
        str(node.waiting),
        str(max((limit.guard for limit in node.limits), default=0)),
        f"{pause / SECOND:.1f} s" if pause else "",
    )


def _share_rows(world: World) -> Iterator[tuple[str, ...]]:
    """Who has a priority or a reserve at an account."""
    names = {instance.incarnation: instance.instance_id for instance in world.instances}
    for node in world.nodes:
        for flow in node.flows:
            if flow.weight != 1 or flow.reserve:
                name, label = names.get(flow.incarnation, ""), place_of(node.node).label
                yield name, label, str(flow.weight), f"{flow.reserve}/min", str(flow.used)


def _predictions(world: World | None) -> Iterator[tuple[NodeState, Prediction]]:
    """Where limits are learned."""
    for node in () if world is None else world.nodes:
        if node.learned is not None:
            yield node, prediction_of(node.learned)


def _refused_row(node: NodeState, seen: Prediction) -> tuple[str, ...]:
    place = place_of(node.node)
    shares = (f"{share:.2%}" for share in seen.shares)
    return place.label, place.pattern or "all", *shares, f"{seen.risk:.0%}", seen.cut_text


def ago(microseconds: int) -> str:
    """How long ago something was, in a few words."""
    seconds = max(0, microseconds) // SECOND
    if seconds < 60:
        return f"{seconds} s ago"
    if seconds < 3600:
        return f"{seconds // 60} min ago"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min ago"
