"""Clients of httpx whose model calls take their turn: for openai before 3.0, anthropic before 1.0, litellm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cross_instance.clients.transports import Library, require

if TYPE_CHECKING:
    import httpx

    from cross_instance.clients.calls import Runtime

_LIBRARY = Library(require("httpx"))


def client(runtime: Runtime, provider: str | None = None, account: str | None = None, **options: Any) -> httpx.Client:
    """A client for the synchronous SDKs; `options` are those of `httpx.Client`."""
    made: httpx.Client = _LIBRARY.client(_LIBRARY.http.Client, runtime, provider, account, **options)
    return made


def async_client(
    runtime: Runtime, provider: str | None = None, account: str | None = None, **options: Any
) -> httpx.AsyncClient:
    """A client for the asynchronous SDKs; `options` are those of `httpx.AsyncClient`."""
    made: httpx.AsyncClient = _LIBRARY.client(_LIBRARY.http.AsyncClient, runtime, provider, account, **options)
    return made
