"""Requests: which are model calls, for which model, and how many tokens they ask for."""

import json

import pytest
from hypothesis import given, strategies as st

from cross_instance.providers.estimate import estimate_tokens
from cross_instance.providers.requests import RequestInfo, read_request

HELLO = [{"role": "user", "content": "Hello, how are you today?"}]
GEMINI_HELLO = {"contents": [{"role": "user", "parts": [{"text": "Hello, how are you today?"}]}]}


def read(
    path: str,
    body: object = None,
    provider: str = "openai",
    method: str = "POST",
    content_type: str = "application/json",
) -> RequestInfo | None:
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    return read_request(provider, method, path, content_type, raw)


def info(path: str, body: object, provider: str = "openai") -> RequestInfo:
    found = read(path, body, provider)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("path", "body", "model"),
    [
        ("/v1/chat/completions", {"model": "gpt-4o", "messages": HELLO}, "gpt-4o"),
        ("/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "Say hi"}, "gpt-3.5-turbo-instruct"),
        ("/v1/responses", {"model": "gpt-5", "input": "Say hi"}, "gpt-5"),
        ("/v1/responses/", {"model": "gpt-5", "input": "Say hi"}, "gpt-5"),
        ("/v1/responses/compact", {"model": "gpt-5", "input": "Say hi"}, "gpt-5"),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["a", "b"]}, "text-embedding-3-small"),
        ("/v1/images/generations", {"model": "gpt-image-1", "prompt": "A cat"}, "gpt-image-1"),
        ("/v1/audio/speech", {"model": "tts-1", "input": "Hello"}, "tts-1"),
        ("/v1/messages", {"model": "claude-sonnet-4-5", "messages": HELLO, "max_tokens": 100}, "claude-sonnet-4-5"),
        ("/v1/messages?beta=true", {"model": "claude-opus-5", "messages": HELLO}, "claude-opus-5"),
        ("/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21", {"messages": HELLO}, "my-gpt"),
        ("/openai/deployments/mine/embeddings", {"model": "other", "input": "x"}, "mine"),
        ("/openai/v1/chat/completions", {"model": "my-gpt", "messages": HELLO}, "my-gpt"),
        ("/v1beta/models/gemini-2.5-flash:generateContent", GEMINI_HELLO, "gemini-2.5-flash"),
        ("/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", GEMINI_HELLO, "gemini-2.5-flash"),
        ("models/gemini-2.5-flash:generateContent", GEMINI_HELLO, "gemini-2.5-flash"),
        (
            "/v1beta/models/gemini-embedding-001:embedContent",
            {"content": {"parts": [{"text": "x"}]}},
            "gemini-embedding-001",
        ),
        ("/v1/projects/p/locations/l/publishers/google/models/gemini-3:generateContent", GEMINI_HELLO, "gemini-3"),
        ("/v1beta/openai/chat/completions", {"model": "models/gemini-3", "messages": HELLO}, "gemini-3"),
        ("/proxy/team-a/v1/chat/completions", {"model": "llama", "messages": HELLO}, "llama"),
        ("/api/chat", {"model": "llama3", "messages": HELLO}, "llama3"),
        ("/v1/anything/new", {"model": "m", "input": "x"}, "m"),
    ],
)
def test_model_calls_are_recognised(path: str, body: object, model: str) -> None:
    found = info(path, body)
    assert found.model == model
    assert found.counts
    assert found.estimated_input > 0


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/v1/models", None),
        ("GET", "/v1/responses/resp_1", None),
        ("DELETE", "/v1/responses/resp_1", None),
        ("OPTIONS", "/v1/chat/completions", None),
        ("POST", "/v1/responses/resp_1/cancel", None),
        ("POST", "/v1/batches", {"input_file_id": "f", "endpoint": "/v1/chat/completions"}),
        ("POST", "/v1/messages/batches", {"requests": []}),
        ("POST", "/v1beta/models/gemini-3:batchGenerateContent", {"batch": {}}),
        ("POST", "/v1/fine_tuning/jobs", {"model": "gpt-4o", "training_file": "file-1"}),
        ("POST", "/v1/vector_stores", {"name": "docs"}),
        ("POST", "/v1/anything/new", [1, 2]),
    ],
)
def test_everything_else_passes_without_a_permit(method: str, path: str, body: object) -> None:
    assert read(path, body, method=method) is None


@pytest.mark.parametrize(
    ("path", "body", "streaming"),
    [
        ("/v1/chat/completions", {"model": "m", "messages": HELLO, "stream": True}, True),
        ("/v1/chat/completions", {"model": "m", "messages": HELLO, "stream": False}, False),
        ("/v1/chat/completions", {"model": "m", "messages": HELLO}, False),
        ("/v1beta/models/g:streamGenerateContent", GEMINI_HELLO, True),
        ("/v1beta/models/g:generateContent", GEMINI_HELLO, False),
    ],
)
def test_streaming(path: str, body: object, streaming: bool) -> None:
    assert info(path, body).streaming is streaming


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        ({"max_tokens": 100}, 100),
        ({"max_completion_tokens": 200}, 200),
        ({"max_output_tokens": 300}, 300),
        ({"max_tokens": 100, "max_completion_tokens": 200}, 200),
        ({"max_tokens": 100, "n": 3}, 300),
        ({"max_tokens": 100, "n": 2, "best_of": 5}, 500),
        ({"generationConfig": {"maxOutputTokens": 400, "candidateCount": 2}}, 800),
        ({"max_tokens": None}, None),
        ({"max_tokens": -1}, None),
        ({"max_tokens": "many"}, None),
        ({"max_tokens": 10**12, "n": 10**12}, 10**12),
        ({"n": 3}, None),
        ({}, None),
    ],
)
def test_the_limit_of_output(body: dict[str, object], limit: int | None) -> None:
    assert info("/v1/chat/completions", {"model": "m", "messages": HELLO} | body).output_limit == limit


def test_embeddings_generate_nothing() -> None:
    assert info("/v1/embeddings", {"model": "m", "input": "x"}).output_limit == 0
    assert info("/v1beta/models/g:batchEmbedContents", {"requests": []}).output_limit == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages/count_tokens", {"model": "claude", "messages": HELLO}),
        ("/v1/responses/input_tokens", {"model": "gpt-5", "input": "x"}),
        ("/v1beta/models/gemini-3:countTokens", GEMINI_HELLO),
        ("/v1/chat/completions", b"{not json"),
        ("/v1/chat/completions", b""),
        ("/v1/chat/completions", [1]),
    ],
)
def test_counting_tokens_and_unreadable_bodies_take_a_request_only(path: str, body: object) -> None:
    found = info(path, body)
    assert not found.counts
    assert found.estimated_input == 0


def test_a_form_takes_a_request_and_no_tokens() -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp3"\r\n\r\n' + b"\x00" * 50_000 + b"\r\n"
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n--x--\r\n'
    )
    found = read("/v1/audio/transcriptions", body, content_type="multipart/form-data; boundary=x")
    assert found == RequestInfo("whisper-1", counts=False)
    unnamed = read("/v1/files", b"--x--", content_type="Multipart/Form-Data; boundary=x")
    assert unnamed == RequestInfo("", counts=False)


# --- estimates -------------------------------------------------------------------------------------------------


def estimate(body: dict[str, object], provider: str = "openai") -> int:
    return info("/v1/chat/completions", {"model": "m"} | body, provider).estimated_input


def chat(*parts: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": list(parts)}]}


def test_text_costs_a_token_per_four_bytes_and_more_at_anthropic() -> None:
    body: dict[str, object] = {"messages": [{"role": "user", "content": "x" * 8_000}]}
    assert estimate(body) == pytest.approx(2_000, abs=10)
    assert estimate(body, "anthropic") == pytest.approx(8_000 / 3.5, abs=10)


def test_other_scripts_cost_more_per_character() -> None:
    latin, cyrillic, chinese = (
        estimate({"messages": [{"role": "user", "content": letter * 1_000}]}) for letter in ("a", "я", "水")
    )
    assert latin < cyrillic < chinese < 1_000


def test_arrays_of_token_ids_are_exact() -> None:
    assert info("/v1/embeddings", {"model": "m", "input": [[1, 2, 3], [4, 5]]}).estimated_input == 5


@pytest.mark.parametrize(
    "addition",
    [
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"description": "d" * 4_000}}}]},
        {"tools": [{"name": "f", "input_schema": {"properties": {f"field_{i}": {} for i in range(600)}}}]},
        {"system": "s" * 4_000},
        {"system": [{"type": "text", "text": "s" * 4_000}]},
        {"instructions": "s" * 4_000},
        {"systemInstruction": {"parts": [{"text": "s" * 4_000}]}},
        {"response_format": {"json_schema": {"schema": {"description": "d" * 4_000}}}},
        {"text": {"format": {"schema": {"description": "d" * 4_000}}}},
        {"generationConfig": {"responseSchema": {"description": "d" * 4_000}}},
    ],
)
def test_tools_system_prompts_and_schemas_count(addition: dict[str, object]) -> None:
    assert estimate({"messages": HELLO} | addition) > 900


@pytest.mark.parametrize(
    "addition", [{"metadata": {"a": "m" * 4_000}}, {"user": "u" * 4_000}, {"prompt_cache_key": "k" * 4_000}]
)
def test_what_the_model_does_not_read_costs_nothing(addition: dict[str, object]) -> None:
    assert estimate({"messages": HELLO} | addition) == estimate({"messages": HELLO})


BLOB = "A" * 400_000
"""300 kB that are no image: its size is not known."""


@pytest.mark.parametrize(
    ("provider", "part", "tokens"),
    [
        ("openai", {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{BLOB}"}}, 1_228),
        ("openai", {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}, 1_228),
        ("openai", {"type": "image_url", "image_url": {"url": "https://x.org/a.png", "detail": "low"}}, 85),
        ("openai", {"type": "input_image", "image_url": f"data:image/jpeg;base64,{BLOB}", "detail": "low"}, 85),
        ("openai", {"type": "input_image", "file_id": "file-1"}, 1_228),
        ("openai", {"type": "input_audio", "input_audio": {"data": BLOB, "format": "mp3"}}, 600),
        ("openai", {"type": "file", "file": {"file_data": f"data:application/pdf;base64,{BLOB}"}}, 8_000),
        ("anthropic", {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BLOB}}, 1_369),
        ("anthropic", {"type": "image", "source": {"type": "url", "url": "https://x.org/a.png"}}, 1_369),
        ("anthropic", {"type": "image", "source": {"type": "file", "file_id": "file_1"}}, 1_369),
        (
            "anthropic",
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": BLOB}},
            8_000,
        ),
        ("anthropic", {"type": "document", "source": {"type": "url", "url": "https://x.org/a.pdf"}}, 2_000),
        (
            "anthropic",
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "t" * 3_500}},
            1_000,
        ),
        ("anthropic", {"type": "thinking", "thinking": "", "signature": BLOB}, 0),
        ("anthropic", {"type": "redacted_thinking", "data": BLOB}, 0),
        ("openai", {"type": "reasoning", "summary": [], "encrypted_content": BLOB}, 0),
        ("gemini", {"inlineData": {"mimeType": "image/png", "data": BLOB}}, 1_120),
        ("gemini", {"inline_data": {"mime_type": "video/mp4", "data": BLOB}}, 600),
        ("gemini", {"inlineData": {"mimeType": "text/plain", "data": BLOB}}, 75_000),
        ("gemini", {"fileData": {"mimeType": "image/png", "fileUri": "https://x.org/f/1"}}, 1_120),
        ("gemini", {"text": "", "thoughtSignature": BLOB}, 0),
    ],
)
def test_media_are_estimated_by_their_own_rules_not_as_text(provider: str, part: object, tokens: int) -> None:
    assert estimate(chat(part), provider) - estimate(chat(), provider) == pytest.approx(tokens, abs=30)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(
            st.sampled_from(
                [
                    "model",
                    "messages",
                    "content",
                    "type",
                    "image_url",
                    "url",
                    "source",
                    "data",
                    "media_type",
                    "mimeType",
                    "format",
                ]
            )
            | st.text(),
            inner
            | st.sampled_from(["image_url", "image", "document", "base64", "data:image/png;base64,iVBORw0KGgo", "url"]),
        )
    ),
    max_leaves=20,
)


@given(
    provider=st.sampled_from(["openai", "anthropic", "gemini", "other"]),
    path=st.sampled_from(["/v1/chat/completions", "/v1/messages", "/models/g:generateContent", "/x"]) | st.text(),
    body=st.binary()
    | st.dictionaries(st.sampled_from(["model", "messages", "input", "contents", "max_tokens", "n"]), ANY_JSON).map(
        lambda body: json.dumps(body).encode()
    ),
    content_type=st.sampled_from(["application/json", "multipart/form-data"]) | st.text(),
)
def test_no_request_makes_reading_raise(provider: str, path: str, body: bytes, content_type: str) -> None:
    found = read_request(provider, "POST", path, content_type, body)
    if found is not None:
        assert found.estimated_input >= 0
        assert found.output_limit is None or found.output_limit >= 0


def test_a_deeply_nested_body_is_estimated() -> None:
    body = b'{"model": "m", "messages": ' + b"[" * 500 + b'"hello hello"' + b"]" * 500 + b"}"
    found = read_request("openai", "POST", "/v1/chat/completions", "application/json", body)
    assert found is not None
    assert found.estimated_input == 3


@pytest.mark.parametrize(
    "begin", ["data: ", "data:", 'data: {"a": 1}\n\ndata: ', "data: text/plain;base64,", "data:,", "data:x/y;base64, "]
)
def test_text_that_begins_like_a_data_url_is_text(begin: str) -> None:
    words = "word " * 10_000
    assert estimate_tokens("openai", {"prompt": begin + words}) >= estimate_tokens("openai", {"prompt": words})


def test_a_data_url_may_have_parameters() -> None:
    url = f"data:text/plain;charset=utf-8;base64,{BLOB}"
    assert estimate_tokens("openai", {"input": url}) < estimate_tokens("openai", {"input": f"x{url}"})
