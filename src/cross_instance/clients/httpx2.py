"""Clients of httpx2 whose model calls take their turn: for openai from 3.0, anthropic from 1.0 and google-genai."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cross_instance.clients.transports import Library, require

if TYPE_CHECKING:
    import httpx2

    from cross_instance.clients.calls import Runtime

_LIBRARY = Library(require("httpx2"))


def client(runtime: Runtime, provider: str | None = None, account: str | None = None, **options: Any) -> httpx2.Client:
    """A client for the synchronous SDKs; `options` are those of `httpx2.Client`."""
    made: httpx2.Client = _LIBRARY.client(_LIBRARY.http.Client, runtime, provider, account, **options)
    return made


def async_client(
    runtime: Runtime, provider: str | None = None, account: str | None = None, **options: Any
) -> httpx2.AsyncClient:
    """A client for the asynchronous SDKs; `options` are those of `httpx2.AsyncClient`."""
    made: httpx2.AsyncClient = _LIBRARY.client(_LIBRARY.http.AsyncClient, runtime, provider, account, **options)
    return made
