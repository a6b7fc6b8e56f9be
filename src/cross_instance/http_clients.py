"""HTTP clients that SDKs are given: each attempt of a model call takes a permit (`clients`).

The libraries are imported when a client of theirs is asked for: neither is needed by who takes permits by hand.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, overload

if TYPE_CHECKING:
    import httpx  # noqa: F401  # named in the strings below
    import httpx2  # noqa: F401

Newer = TypeVar("Newer")
"""The client that httpx2 has."""
Older = TypeVar("Older")
"""The client that httpx has."""


class _HttpClients(Generic[Newer, Older]):
    _maker: ClassVar[str]
    """The function that makes a client, in each module of `clients` that is named after a library."""

    @overload
    def http_client(
        self,
        provider: str | None = None,
        library: Literal["httpx2"] = "httpx2",
        *,
        account: str | None = None,
        **options: Any,
    ) -> Newer: ...

    @overload
    def http_client(
        self,
        provider: str | None = None,
        *,
        library: Literal["httpx"],
        account: str | None = None,
        **options: Any,
    ) -> Older: ...

    @overload
    def http_client(
        self,
        provider: str | None,
        library: Literal["httpx"],
        *,
        account: str | None = None,
        **options: Any,
    ) -> Older: ...

    @overload
    def http_client(
        self,
        provider: str | None = None,
        library: str = "httpx2",
        *,
        account: str | None = None,
        **options: Any,
    ) -> Newer | Older: ...

    def http_client(
        self,
        provider: str | None = None,
        library: str = "httpx2",
        *,
        account: str | None = None,
        **options: Any,
    ) -> Any:
        """A client for SDKs whose model calls each take a permit; of an `AsyncRuntime`, for asynchronous SDKs.

        `provider`: None knows it from the host. `library`: "httpx2", or "httpx" for older SDKs; `options` are those
        of its `Client`, or `AsyncClient`. Raises `ImportError` where the library is not installed, `ValueError` for
        another one.
        """
        if library not in {"httpx", "httpx2"}:
            raise ValueError(f'library is "httpx2" or "httpx", not {library!r}')
        clients = import_module(f"cross_instance.clients.{library}")
        return getattr(clients, self._maker)(self, provider, account, **options)


class HttpClients(_HttpClients["httpx2.Client", "httpx.Client"]):
    """The clients of a `Runtime`."""

    _maker = "client"


class AsyncHttpClients(_HttpClients["httpx2.AsyncClient", "httpx.AsyncClient"]):
    """The clients of an `AsyncRuntime`."""

    _maker = "async_client"
