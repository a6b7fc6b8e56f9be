"""Where a request goes: the provider it is meant for is known by its path, as the providers' own hosts would know."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from cross_instance.testing.provider.wire import anthropic, gemini, openai

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cross_instance.testing.provider.limiter import LimitView
    from cross_instance.testing.provider.wire.messages import Answer, Call, Piece, Problem


class Wire(Protocol):
    """What a wire format can do."""

    def read_call(self, endpoint: str, model: str, query: str, body: dict[str, Any], tool: str | None) -> Call:
        """Read a request's body. `model` and `query` from the URL; `tool`: the tool call asked for by header.

        Raises `BadRequest`.
        """

    def whole(self, call: Call, answer: Answer) -> Any:
        """The body of an answer that is not streamed."""

    def stream(self, call: Call, answer: Answer) -> Iterator[Piece]:
        """The pieces of a streamed answer, each with the number of output tokens in it."""

    def error(self, problem: Problem) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Status, headers and body of an error."""

    def stream_error(self, call: Call, problem: Problem) -> bytes:
        """An error in the middle of a stream."""

    def limit_headers(self, views: list[LimitView], wall: float) -> dict[str, str]:
        """The headers that tell the limits; `wall`: Unix time."""

    def models(self, model: str | None) -> dict[str, Any]:
        """The list of models, or one of them."""


class Route(NamedTuple):
    """Where a request goes: the provider, its wire format, the endpoint, and the model where the URL names it."""

    provider: str
    wire: Wire
    endpoint: str
    model: str = ""


_WIRES: Mapping[str, Wire] = {"openai": openai, "anthropic": anthropic, "gemini": gemini}
_CALLS = (
    ("anthropic", re.compile(r"/v1/(?P<endpoint>messages(?:/count_tokens)?)")),
    (
        "gemini",
        re.compile(
            r"/v1(?:alpha|beta)?/models/(?P<model>[^/:]+)"
            r":(?P<endpoint>generateContent|streamGenerateContent|embedContent|batchEmbedContents|countTokens)"
        ),
    ),
    (
        "openai",
        re.compile(
            r"(?:/openai)?(?:/v1)?(?:/deployments/(?P<model>[^/]+))?"
            r"/(?P<endpoint>chat/completions|responses|embeddings)"
        ),
    ),
)
_MODELS = re.compile(r"(?:/openai)?(?:/v1(?P<beta>alpha|beta)?)?/models(?:/(?P<model>[^/:]+))?")


def find_route(method: str, path: str, headers: Mapping[str, str]) -> Route | None:
    """The route of a request; None where no provider has such an address."""
    if method == "GET":
        return _models_route(path, headers)
    for provider, pattern in _CALLS:
        if method == "POST" and (found := pattern.fullmatch(path)):
            fields = found.groupdict()
            return Route(provider, _WIRES[provider], fields["endpoint"], fields.get("model") or "")
    return None


def wire_of(provider: str) -> Wire:
    """The wire format of a provider."""
    return _WIRES[provider]


def _models_route(path: str, headers: Mapping[str, str]) -> Route | None:
    """All three list their models at the same address; their SDKs' headers tell them apart."""
    found = _MODELS.fullmatch(path)
    if found is None:
        return None
    if found["beta"] or "x-goog-api-key" in headers:
        provider = "gemini"
    else:
        provider = "anthropic" if "anthropic-version" in headers else "openai"
    return Route(provider, _WIRES[provider], "models", found["model"] or "")
