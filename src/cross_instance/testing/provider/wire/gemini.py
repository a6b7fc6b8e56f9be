"""Gemini's wire format: generateContent, streamGenerateContent (SSE or a JSON array), embeddings, models; errors.

There are no headers that tell the limits; a refusal may say in its body what was hit and when to come back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cross_instance.testing.provider.wire.messages import (
    BadRequest,
    Call,
    Piece,
    Problem,
    Tool,
    choose_tool,
    count_field,
    encode,
    example,
    measure,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cross_instance.testing.provider.limiter import LimitView
    from cross_instance.testing.provider.wire.messages import Answer

MODELS = ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-embedding-001")
FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "tool": "STOP"}
_DIMENSIONS = 8
_ERRORS = {
    "429": (429, "RESOURCE_EXHAUSTED"),
    "slow_down": (429, "RESOURCE_EXHAUSTED"),
    "insufficient_quota": (429, "RESOURCE_EXHAUSTED"),
    "500": (500, "INTERNAL"),
    "503": (503, "UNAVAILABLE"),
    "529": (529, "UNAVAILABLE"),
    "stream_error": (503, "UNAVAILABLE"),
    "bad_request": (400, "INVALID_ARGUMENT"),
    "not_found": (404, "NOT_FOUND"),
}
_QUOTAS = {
    "requests": ("generate_requests_per_model", "GenerateRequestsPerMinutePerProjectPerModel"),
    "concurrency": ("concurrent_requests_per_model", "ConcurrentRequestsPerProjectPerModel"),
    "tokens": ("generate_content_input_token_count", "GenerateContentInputTokensPerModelPerMinute"),
    "input_tokens": ("generate_content_input_token_count", "GenerateContentInputTokensPerModelPerMinute"),
    "output_tokens": ("generate_content_output_token_count", "GenerateContentOutputTokensPerModelPerMinute"),
}
_DAY = ("generate_requests_per_model_per_day", "GenerateRequestsPerDayPerProjectPerModel")
_RPC = "type.googleapis.com/google.rpc."


def read_call(endpoint: str, model: str, query: str, body: dict[str, Any], tool: str | None) -> Call:
    """See `Wire.read_call`."""
    if endpoint in {"embedContent", "batchEmbedContents"}:
        return _read_embeddings(endpoint, model, body)
    if not isinstance(body.get("contents"), list) or not body["contents"]:
        raise BadRequest("contents is not specified")
    characters, images = measure(body["contents"], body.get("systemInstruction"), body.get("tools"))
    return Call(
        endpoint,
        model,
        stream=endpoint == "streamGenerateContent",
        characters=characters,
        images=images,
        output_limit=count_field(body.get("generationConfig") or {}, "maxOutputTokens"),
        tool=choose_tool(_tools(body), tool or _forced(body)),
        options={"sse": "alt=sse" in query.split("&")},
    )


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    """See `Wire.whole`."""
    if call.endpoint == "countTokens":
        return {"totalTokens": answer.usage.input_tokens}
    if call.endpoint == "embedContent":
        return {"embedding": _vector(call)}
    if call.endpoint == "batchEmbedContents":
        return {"embeddings": [_vector(call)] * call.options["inputs"]}
    part = {"text": answer.text} if call.tool is None else _function_call(call.tool)
    return _response(call, answer, part, answer.usage.output_tokens, FINISH[answer.stop])


def stream(call: Call, answer: Answer) -> Iterator[Piece]:
    """See `Wire.stream`: each piece is a whole response; a function call comes in one piece."""
    if call.tool is not None:
        pieces = [(_function_call(call.tool), len(answer.pieces))]
    else:
        pieces = [({"text": text}, 1) for text in answer.pieces]
    done = 0
    for index, (part, tokens) in enumerate(pieces):
        done += tokens
        last = index == len(pieces) - 1
        data = encode(_response(call, answer, part, done, FINISH[answer.stop] if last else None))
        if call.options["sse"]:
            yield Piece(b"data: " + data + b"\r\n\r\n", tokens)
        else:
            yield Piece((b"[" if index == 0 else b",\r\n") + data + (b"]" if last else b""), tokens)


def error(problem: Problem) -> tuple[int, dict[str, str], dict[str, Any]]:
    """See `Wire.error`."""
    code, status = _ERRORS[problem.kind]
    body: dict[str, Any] = {"code": code, "message": problem.message, "status": status}
    if details := _details(problem):
        body["details"] = details
    headers = {} if problem.retry_after is None else {"retry-after": problem.retry_after}
    return code, headers, {"error": body}


def stream_error(call: Call, problem: Problem) -> bytes:
    """See `Wire.stream_error`."""
    data = encode(error(problem)[2])
    return b"data: " + data + b"\r\n\r\n" if call.in_events else b",\r\n" + data + b"]"


def limit_headers(views: list[LimitView], wall: float) -> dict[str, str]:  # noqa: ARG001
    """See `Wire.limit_headers`: Gemini has none."""
    return {}


def models(model: str | None) -> dict[str, Any]:
    """See `Wire.models`."""
    methods = ["generateContent", "countTokens", "embedContent"]
    listed = [
        {"name": f"models/{name}", "displayName": name, "supportedGenerationMethods": methods}
        for name in ([model] if model else MODELS)
    ]
    return listed[0] if model else {"models": listed}


def _tools(body: dict[str, Any]) -> list[Tool]:
    declared = [entry for tool in body.get("tools") or () for entry in tool.get("functionDeclarations") or ()]
    return [
        Tool(entry["name"], entry.get("parameters") or entry.get("parametersJsonSchema") or {}) for entry in declared
    ]


def _forced(body: dict[str, Any]) -> str | None:
    config = (body.get("toolConfig") or {}).get("functionCallingConfig") or {}
    if str(config.get("mode", "")).upper() != "ANY":
        return None
    allowed: list[str] = config.get("allowedFunctionNames") or ["*"]
    return allowed[0]


def _read_embeddings(endpoint: str, model: str, body: dict[str, Any]) -> Call:
    requests = body.get("requests") if endpoint == "batchEmbedContents" else [body]
    if not isinstance(requests, list) or not requests:
        raise BadRequest("requests is not specified")
    characters, images = measure([request.get("content") for request in requests])
    options = {"inputs": len(requests), "dimensions": requests[0].get("outputDimensionality") or _DIMENSIONS}
    return Call(endpoint, model, stream=False, characters=characters, images=images, options=options)


def _vector(call: Call) -> dict[str, Any]:
    return {"values": [1.0] + [0.0] * (call.options["dimensions"] - 1)}


def _function_call(tool: Tool) -> dict[str, Any]:
    return {"functionCall": {"name": tool.name, "args": example(tool.schema)}}


def _response(call: Call, answer: Answer, part: dict[str, Any], output: int, finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": [part], "role": "model"}, "index": 0}
    if finish is not None:
        candidate["finishReason"] = finish
    usage = {
        "promptTokenCount": answer.usage.input_tokens,
        "candidatesTokenCount": output,
        "totalTokenCount": answer.usage.input_tokens + output,
    }
    if answer.usage.cached:
        usage["cachedContentTokenCount"] = answer.usage.cached
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": call.model,
        "responseId": f"response-{answer.number}",
    }


def _details(problem: Problem) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = []
    if problem.refusal is not None:
        limit = problem.refusal.limit
        metric, quota = _DAY if limit.period >= 86_400 else _QUOTAS[limit.kind]
        details.append(_quota_failure(metric, quota, limit.amount))
    elif problem.kind == "insufficient_quota":
        details.append(_quota_failure(*_DAY, 0))
    if problem.retry_after is not None:
        delay = f"{problem.retry_after}s" if problem.retry_after.isdigit() else problem.retry_after
        details.append({"@type": f"{_RPC}RetryInfo", "retryDelay": delay})
    elif problem.wait is not None:
        seconds = f"{problem.wait / 1e6:.6f}".rstrip("0").rstrip(".")
        details.append({"@type": f"{_RPC}RetryInfo", "retryDelay": f"{seconds}s"})
    return details


def _quota_failure(metric: str, quota: str, amount: int) -> dict[str, Any]:
    violation = {
        "quotaMetric": f"generativelanguage.googleapis.com/{metric}",
        "quotaId": quota,
        "quotaValue": str(amount),
    }
    return {"@type": f"{_RPC}QuotaFailure", "violations": [violation]}
