"""What a request asks for, read from its path and body.

1. A model call is a POST to a path known as one, or one whose body names a model and has something for it to read.
   Anything else (lists, files' contents, batches: they have limits of their own) passes without a permit.
2. The model comes from the path where it stands there (Gemini, Azure deployments), else from the body.
3. What cannot be read still takes a request: the provider counts it too.
4. Counting tokens, and forms with files, take a request and no tokens.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

import msgspec

from cross_instance.providers.estimate import estimate_tokens
from cross_instance.providers.reading import LARGEST_COUNT, count_of, decode_json, dig, text_at

if TYPE_CHECKING:
    from collections.abc import Mapping

_GOOGLE_CALL = re.compile(r"(?:^|/)(?:models|tunedModels|endpoints)/([^/:]+):([A-Za-z]+)$")
"""Gemini and Vertex: `v1beta/models/MODEL:generateContent`."""
_GENERATING = frozenset(
    {
        "generateContent",
        "streamGenerateContent",
        "embedContent",
        "batchEmbedContents",
        "rawPredict",
        "streamRawPredict",
    }
)
_DEPLOYMENT = re.compile(r"/deployments/([^/]+)/")
_CALL = re.compile(
    r"(?:^|/)(?:chat/completions|completions|responses|embeddings|messages|interactions"
    r"|moderations|rerank|images/generations|audio/speech)$"
)
_COUNTING = re.compile(r"(?:^|/)(?:messages/count_tokens|responses/input_tokens)$")
_BATCH = re.compile(r"(?:^|/)batches$|:(?:asyncBatchEmbedContent|batchGenerateContent)$")
_EMBEDDING = re.compile(r"(?:^|/)embeddings$|:(?:embedContent|batchEmbedContents)$")
_READ_BY_MODELS = ("messages", "input", "prompt", "contents", "query")
_OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_CHOICES = ("n", "best_of")
_FORM_MODEL = re.compile(rb'name="model"\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,200})\r\n')


OTHER = "other"
_OPERATIONS = (
    ("chat", re.compile(r"(?:^|/)(?:chat/completions|responses|messages|interactions)$")),
    ("text_completion", re.compile(r"(?:^|/)completions$")),
    ("embeddings", _EMBEDDING),
    ("generate_content", re.compile(r":(?:generateContent|streamGenerateContent)$")),
)
OPERATIONS = (*(name for name, _ in _OPERATIONS), OTHER)
"""What is asked for, as the semantic conventions for generative AI name it (`gen_ai.operation.name`)."""


class RequestInfo(msgspec.Struct, frozen=True):
    """What is known of a request before it is sent.

    `estimated_input`: tokens, not calibrated. `output_limit`: the most tokens it may generate, over all choices;
    None: not limited. `counts` false: it takes a request, but no tokens. `operation`: one of `OPERATIONS`.
    """

    model: str
    streaming: bool = False
    estimated_input: int = 0
    output_limit: int | None = None
    counts: bool = True
    operation: str = OTHER


def read_request(provider: str, method: str, path: str, content_type: str, body: bytes) -> RequestInfo | None:
    """What a request asks for; None: it is no model call and needs no permit. `path` may carry its query."""
    path, _, query = path.partition("?")
    path = unquote(path).rstrip("/")
    if method.upper() != "POST" or _BATCH.search(path):
        return None
    if content_type.lower().startswith("multipart/"):
        return _form(path, body)
    request = decode_json(body)
    if not isinstance(request, dict):
        request = {}
    google = _GOOGLE_CALL.search(path)
    if google is None and not _is_call(path, request):
        return None
    counts = google[2] in _GENERATING if google else not _COUNTING.search(path)
    return RequestInfo(
        model=_model(path, request),
        streaming=dig(request, "stream") is True or "alt=sse" in query or ":stream" in path,
        estimated_input=estimate_tokens(provider.lower(), request) if counts and request else 0,
        output_limit=0 if _EMBEDDING.search(path) else _output_limit(request),
        counts=counts and bool(request),
        operation=next((name for name, path_of in _OPERATIONS if path_of.search(path)), OTHER),
    )


def _is_call(path: str, request: Mapping[str, object]) -> bool:
    if _CALL.search(path) or _COUNTING.search(path):
        return True
    return bool(text_at(request, "model")) and any(name in request for name in _READ_BY_MODELS)


def _model(path: str, request: Mapping[str, object]) -> str:
    named = _GOOGLE_CALL.search(path) or _DEPLOYMENT.search(path)
    return named[1] if named else text_at(request, "model").removeprefix("models/")


def _output_limit(request: Mapping[str, object]) -> int | None:
    config = dig(request, "generationConfig")
    limits = [count_of(dig(request, name)) for name in _OUTPUT_LIMITS]
    limits.append(count_of(dig(config, "maxOutputTokens")))
    choices = [count_of(dig(request, name)) for name in _CHOICES]
    choices.append(count_of(dig(config, "candidateCount")))
    stated = [limit for limit in limits if limit is not None]
    if not stated:
        return None
    return min(LARGEST_COUNT, max(stated) * max(1, *(choice or 1 for choice in choices)))


def _form(path: str, body: bytes) -> RequestInfo:
    model = _FORM_MODEL.search(body)
    name = model[1].decode("utf-8", "replace") if model else ""
    return RequestInfo(model=name or _model(path, {}), counts=False)
