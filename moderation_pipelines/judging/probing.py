"""Finding out once what an endpoint can do with a model: a handful of tiny requests."""

from __future__ import annotations

from typing import Any

import orjson

from moderation_pipelines.judging.calls.calls import answered, unanswered
from moderation_pipelines.judging.calls.engine import EndpointStop, api_key, run_async
from moderation_pipelines.judging.calls.transport import DirectTransport, NoReply, SdkTransport, transport_for
from moderation_pipelines.judging.judges_file import Endpoint
from moderation_pipelines.judging.requests.outcomes import LabelSet
from moderation_pipelines.judging.requests.wire import PATHS

_LABELS = LabelSet(("no", "yes"), frozenset({"yes"}))
_TOKENS = 16
_ASK = "Answer with the word no."
_SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "string", "enum": ["no", "yes"]}},
    "required": ["label"],
    "additionalProperties": False,
}


def probe(endpoint: Endpoint, model: str) -> dict[str, Any]:
    """Capabilities found by asking: each parameter alone, on top of the plainest request that works.

    Costs at most seven requests of some twenty tokens. A capability counts as there when the endpoint accepts its
    parameter (and, for log-probabilities, sends some). Raises :class:`EndpointStop` when it cannot be asked at all.
    """
    found: dict[str, Any] = run_async(_probe(endpoint, model, api_key(endpoint)))
    return found


async def _probe(endpoint: Endpoint, model: str, key: str) -> dict[str, Any]:
    transport = transport_for(endpoint, key)
    try:
        if endpoint.api == "chat":
            found = await _probe_chat(transport, endpoint, model)
        else:
            found = await _probe_other(transport, endpoint, model)
        found["batch"] = await _has_batches(transport)
        return found
    finally:
        await transport.close()


async def _ask(
    transport: DirectTransport | SdkTransport, endpoint: Endpoint, body: dict[str, Any]
) -> dict[str, Any] | None:
    """The answer's JSON, or None if this very request is refused."""
    try:
        reply = await transport.post(PATHS[endpoint.api], orjson.dumps(body))
    except NoReply as error:
        raise EndpointStop(f"{endpoint.base_url} cannot be probed: {unanswered(error).verdict.error}") from None
    call = answered(reply, _LABELS, endpoint.api, endpoint)
    if call.stop is not None:
        raise EndpointStop(call.stop)
    if call.result in ("broken", "limited"):
        raise EndpointStop(f"{endpoint.base_url} cannot be probed now: {call.verdict.error}")
    if reply.status != 200:
        return None
    try:
        value = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        raise EndpointStop(f"{endpoint.base_url} cannot be probed: HTTP 200, but the body is not JSON") from None
    return value if isinstance(value, dict) else None


async def _probe_chat(transport: DirectTransport | SdkTransport, endpoint: Endpoint, model: str) -> dict[str, Any]:
    plain: dict[str, Any] = {"messages": [{"role": "user", "content": _ASK}], "model": model}
    fields = ["max_completion_tokens", "max_tokens"]
    field = None
    for name in fields:
        if field is None and await _ask(transport, endpoint, {**plain, name: _TOKENS}) is not None:
            field = name
    if field is None:
        raise EndpointStop(f"{endpoint.base_url} refuses the plainest chat completion; declare what it can do")
    base = {**plain, field: _TOKENS}
    schema = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": _SCHEMA}}
    logs = await _ask(transport, endpoint, {**base, "logprobs": True, "top_logprobs": 20})
    return {
        "max_tokens_field": field,
        "temperature": await _ask(transport, endpoint, {**base, "temperature": 0.0}) is not None,
        "seed": await _ask(transport, endpoint, {**base, "seed": 0}) is not None,
        "logprobs": logs is not None and _has_logprobs(logs),
        "json_schema": await _ask(transport, endpoint, {**base, "response_format": schema}) is not None,
    }


async def _probe_other(transport: DirectTransport | SdkTransport, endpoint: Endpoint, model: str) -> dict[str, Any]:
    if endpoint.api == "decisions":
        return {"json_schema": False, "logprobs": False, "seed": False, "temperature": False}
    base = {"input": _ASK, "model": model, "max_output_tokens": _TOKENS, "store": False}
    schema = {"type": "json_schema", "name": "answer", "strict": True, "schema": _SCHEMA}
    return {
        "temperature": await _ask(transport, endpoint, {**base, "temperature": 0.0}) is not None,
        "seed": False,
        "logprobs": await _ask(transport, endpoint, {**base, "top_logprobs": 20}) is not None,
        "json_schema": await _ask(transport, endpoint, {**base, "text": {"format": schema}}) is not None,
    }


def _has_logprobs(answer: dict[str, Any]) -> bool:
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else {}
    logprobs = choice.get("logprobs") if isinstance(choice, dict) else None
    return isinstance(logprobs, dict) and bool(logprobs.get("content"))


async def _has_batches(transport: DirectTransport | SdkTransport) -> bool:
    try:
        return (await transport.get("/batches?limit=1")).status == 200
    except NoReply:
        return False
