"""The admin endpoint: the same as `ProviderServer`'s methods, over HTTP and in JSON with camelCase keys.

| request | what it does |
|---|---|
| `GET /_admin/stats`, `DELETE /_admin/stats` | the statistics; forget them |
| `GET /_admin/journal` | the last requests, one by one |
| `GET /_admin/limits`, `PUT /_admin/limits` | the limits in force; put others in force (an array of `Limit`) |
| `GET /_admin/faults`, `PUT /_admin/faults` | the faults in force; put others in force (an array of `Fault`) |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from cross_instance.errors import ConfigError
from cross_instance.testing.provider.config import Fault, Limit
from cross_instance.testing.provider.wire.messages import encode

if TYPE_CHECKING:
    from cross_instance.testing.provider.app import Application
    from cross_instance.testing.provider.http import Reply, Request

PREFIX = "/_admin/"
_JSON = {"content-type": "application/json"}


def serve(app: Application, request: Request, reply: Reply) -> None:
    """Answer one request to the admin endpoint."""
    try:
        answer = _answer(app, request)
    except (ConfigError, msgspec.DecodeError) as error:
        reply.send(400, _JSON, encode({"error": str(error)}) + b"\n")
        return
    if answer is None:
        wanted = "stats, journal, limits or faults, with GET, PUT or DELETE where it makes sense"
        reply.send(404, _JSON, encode({"error": f"no {request.method} {request.path}: {PREFIX} has {wanted}"}))
    else:
        reply.send(200, _JSON, encode(answer) + b"\n")


def _answer(app: Application, request: Request) -> object:
    match request.method, request.path.removeprefix(PREFIX):
        case "GET", "stats":
            return app.statistics()
        case "DELETE", "stats":
            app.reset_statistics()
            return app.statistics()
        case "GET", "journal":
            return app.journal()
        case "GET", "limits":
            return app.limits
        case "PUT", "limits":
            app.set_limits(msgspec.json.decode(request.body, type=tuple[Limit, ...]))
            return app.limits
        case "GET", "faults":
            return app.faults
        case "PUT", "faults":
            app.set_faults(msgspec.json.decode(request.body, type=tuple[Fault, ...]))
            return app.faults
    return None
