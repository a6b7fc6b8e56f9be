"""HTTP clients that SDKs are given: each attempt of a model call takes a permit (`clients`).

The libraries are imported when a client of theirs is asked for: neither is needed by who takes permits by hand.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, overload

if TYPE_CHECKING:
    import httpx
    import httpx2


class HttpClients:
    """The clients of a `Runtime`."""

    @overload
    def http_client(
        self,
        provider: str | None = None,
        library: Literal["httpx2"] = "httpx2",
        *,
        account: str | None = None,
        **options: Any,
    ) -> httpx2.Client: ...

    @overload
    def http_client(
        self,
        provider: str | None = None,
        *,
        library: Literal["httpx"],
        account: str | None = None,
        **options: Any,
    ) -> httpx.Client: ...

    @overload
    def http_client(
        self,
        provider: str | None,
        library: Literal["httpx"],
        *,
        account: str | None = None,
        **options: Any,
    ) -> httpx.Client: ...

    @overload
    def http_client(
        self,
        provider: str | None = None,
        library: str = "httpx2",
        *,
        account: str | None = None,
        **options: Any,
    ) -> httpx2.Client | httpx.Client: ...

    def http_client(
        self,
        provider: str | None = None,
        library: str = "httpx2",
        *,
        account: str | None = None,
        **options: Any,
    ) -> Any:
        """A client for SDKs whose model calls each take a permit.

        `provider`: None knows it from the host. `library`: "httpx2", or "httpx" for older SDKs; `options` are those
        of its `Client`. Raises `ImportError` where the library is not installed, `ValueError` for another one.
        """
        return _maker("client", library)(self, provider, account, **options)


class AsyncHttpClients:
    """The clients of an `AsyncRuntime`."""

    @overload
    def http_client(
        self,
        provider: str | None = None,
        library: Literal["httpx2"] = "httpx2",
        *,
        account: str | None = None,
        **options: Any,
    ) -> httpx2.AsyncClient: ...

    @overload
    def http_client(
        self,
        provider: str | None = None,
        *,
        library: Literal["httpx"],
        account: str | None = None,
        **options: Any,
    ) -> httpx.AsyncClient: ...

    @overload
    def http_client(
        self,
        provider: str | None,
        library: Literal["httpx"],
        *,
        account: str | None = None,
        **options: Any,
    ) -> httpx.AsyncClient: ...

    @overload
    def http_client(
        self,
        provider: str | None = None,
        library: str = "httpx2",
        *,
        account: str | None = None,
        **options: Any,
    ) -> httpx2.AsyncClient | httpx.AsyncClient: ...

    def http_client(
        self,
        provider: str | None = None,
        library: str = "httpx2",
        *,
        account: str | None = None,
        **options: Any,
    ) -> Any:
        """A client for asynchronous SDKs whose model calls each take a permit; see `Runtime.http_client`."""
        return _maker("async_client", library)(self, provider, account, **options)


def _maker(name: str, library: str) -> Any:
    if library not in {"httpx", "httpx2"}:
        raise ValueError(f'library is "httpx2" or "httpx", not {library!r}')
    return getattr(import_module(f"cross_instance.clients.{library}"), name)
