"""What the fake endpoint says to one request. Pure functions of plan, item and attempt."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from moderation_pipelines.fake_endpoint.plan import CALL_FAULTS, ITEM_FAULTS, Plan

_LABELS = re.compile(r'"label": one of (\[[^\]]*\])')
_FENCED = re.compile(r"<item ([0-9a-f]+)>\n(.*)\n</item \1>", re.DOTALL)
_ORDERED = re.compile(r'"label"\s*:\s*"([^"]+)"|[Aa]nswer(?: only)? with (?:the label )?"([^"]+)"')
How = Literal["whole", "reset", "reset_in_body", "stall", "slow"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, as far as it matters. ``item`` names what is judged, over all attempts and repairs."""

    api: str
    model: str
    item: bytes
    text: str
    labels: tuple[str, ...]
    n_bytes: int
    max_tokens: int
    wants: frozenset[str]


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: status, JSON or raw bytes, headers, how it is delivered, whether it is billed."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    how: How = "whole"
    billed: bool = False
    fault: str | None = None
    tokens: int = 0


def asked(api: str, body: dict[str, Any], n_bytes: int, plan: Plan) -> Asked:
    """Read a request. Raises KeyError, IndexError or TypeError when it is none."""
    wants: set[str]
    if api == "chat":
        user = next(m for m in body["messages"] if m["role"] == "user")["content"]
        system = str(body["messages"][0]["content"])
        form = (body.get("response_format") or {}).get("json_schema", {}).get("schema", {})
        wants = {n for n in ("logprobs", "seed", "temperature", "max_tokens", "max_completion_tokens") if n in body}
        wants |= {"json_schema"} if "response_format" in body else set()
        most = body.get("max_tokens") or body.get("max_completion_tokens") or 400
    elif api == "responses":
        user, system = body["input"][0]["content"], str(body.get("instructions"))
        form = ((body.get("text") or {}).get("format") or {}).get("schema", {})
        wants = {n for n in ("temperature",) if n in body} | ({"json_schema"} if "text" in body else set())
        most = body.get("max_output_tokens") or 400
    else:
        user, system = body["input"], ""
        form = {"properties": {"label": {"enum": [c["value"] for c in body["questions"][0]["choices"]]}}}
        wants, most = set(), 100
    labels: Sequence[str] = form.get("properties", {}).get("label", {}).get("enum") or plan.labels
    if not labels and (named := _LABELS.search(system)):
        labels = json.loads(named.group(1))
    fenced = _FENCED.search(user)
    text = fenced.group(2) if fenced else user
    item = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return Asked(
        api, str(body["model"]), item, text, tuple(labels) or ("no", "yes"), n_bytes, int(most), frozenset(wants)
    )


def draw(plan: Plan, *what: object) -> float:
    """A number in [0, 1) that depends on the plan's seed and on what it is for, and on nothing else."""
    name = "\x1f".join(w.hex() if isinstance(w, bytes) else str(w) for w in (plan.seed, *what))
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=7).digest(), "big") / 2**56


def latency_seconds(plan: Plan, question: Asked, attempt: int) -> float:
    """Log-normal around the median ``latency_ms`` with ``latency_spread`` as the standard deviation of its log."""
    if not plan.latency_spread:
        return plan.latency_ms / 1000
    u, v = draw(plan, "latency", question.item, attempt), draw(plan, "latency2", question.item, attempt)
    normal = math.sqrt(-2 * math.log(1 - u)) * math.cos(2 * math.pi * v)
    return plan.latency_ms / 1000 * math.exp(plan.latency_spread * normal)


def fault_of(plan: Plan, question: Asked, attempt: int) -> str | None:
    """The fault this call meets, if any."""
    if not plan.faults:
        return None
    for names, u in (
        (ITEM_FAULTS, draw(plan, "item fault", question.item)),
        (CALL_FAULTS, draw(plan, "call fault", question.item, attempt)),
    ):
        for name in names:
            share = plan.faults.get(name, 0.0)
            if u < share:
                return name
            u -= share
    return None


def true_label(plan: Plan, question: Asked) -> str:
    """What is right for an item: as planted, else drawn by prevalence (the last label is the violating one)."""
    if question.text in plan.truth:
        return plan.truth[question.text]
    labels = question.labels
    violating = [x for x in plan.violating if x in labels] or [labels[-1]]
    others = [x for x in labels if x not in violating] or [labels[0]]
    pool = violating if draw(plan, "truth", question.item) < plan.prevalence else others
    return pool[int(draw(plan, "which", question.item) * len(pool))]


def verdict_of(plan: Plan, question: Asked, attempt: int) -> str:
    """The label a model answers: by its planted confusion, else right with ``accuracy``; obeying injections if it
    must."""
    labels = question.labels
    if plan.obeys_injections and (order := _ORDERED.search(question.text)):
        wanted = order.group(1) or order.group(2)
        if wanted in labels and draw(plan, "obey", question.item) < plan.obeys_injections:
            return wanted
    truth = true_label(plan, question)
    again = attempt if plan.unstable and draw(plan, "unstable", question.item) < plan.unstable else 0
    u = draw(plan, "verdict", question.model, question.item, again)
    row = next((m.confusion.get(truth) for m in plan.models if m.id == question.model), None)
    if row:
        for label, share in row.items():
            if u < share:
                return label
            u -= share
        return truth
    if u < plan.accuracy or len(labels) == 1:
        return truth
    others = [x for x in labels if x != truth]
    return others[int((u - plan.accuracy) / (1 - plan.accuracy) * len(others)) % len(others)]


def answer(plan: Plan, question: Asked, attempt: int) -> Said:
    """The answer to a request at an attempt (from 1)."""
    for name in question.wants & set(plan.unsupported):
        return error(400, f"Unsupported parameter: {name}", "unsupported_parameter", name)
    fault = fault_of(plan, question, attempt)
    if fault in ("rate_limited", "rate_limited_retry_after"):
        wait = ("retry-after", f"{plan.retry_after_seconds:g}") if fault != "rate_limited" else None
        return error(429, "Too many requests", "rate_limit_exceeded", fault=fault, headers=(wait,) if wait else ())
    if fault == "error_500":
        return error(500, "Internal error", "server_error", fault=fault)
    if fault == "error_503_retry_after":
        return error(503, "Busy", "busy", fault=fault, headers=(("retry-after", f"{plan.retry_after_seconds:g}"),))
    if fault == "too_long":
        return error(400, "This model's maximum context length is exceeded", "context_length_exceeded", fault=fault)
    if fault == "content_filter":
        return _azure_filter()
    text, finish, extra = _text(plan, question, attempt, fault)
    read = max(1, question.n_bytes // 4)
    written = min(question.max_tokens, max(1, len(text) // 4)) if finish == "stop" else question.max_tokens
    usage = None if fault == "no_usage" else (read, read // 2 if plan.cached_tokens and attempt > 0 else 0, written)
    body = _BODIES[question.api](question, text, finish, usage, extra)
    how: How = "whole"
    if fault in ("reset", "reset_in_body", "stall"):
        how = fault  # type: ignore[assignment]
    elif fault == "slow_body":
        how = "slow"
    raw = orjson.dumps(body)
    if fault == "garbage":
        raw = b"<html>Bad gateway</html>"
    elif fault == "empty_body":
        raw = b""
    elif fault == "error_body":
        raw = orjson.dumps({"error": {"message": "upstream failed", "code": 502}})
    return Said(200, raw, how=how, billed=True, fault=fault, tokens=read + written)


def _text(plan: Plan, question: Asked, attempt: int, fault: str | None) -> tuple[str, str, dict[str, Any]]:
    label = verdict_of(plan, question, attempt)
    violating = label in (plan.violating or question.labels[-1:])
    p = 0.5 + 0.49 * draw(plan, "p", question.model, question.item)
    said = {
        "label": label,
        "clause": "",
        "evidence": question.text[:40] if violating else "",
        "p_violating": round(p if violating else 1 - p, 3),
        "rationale": "as planned",
    }
    text = json.dumps(said, ensure_ascii=False)
    match fault:
        case "truncated":
            return text, "length", {}
        case "whitespace_loop":
            return text[:12] + " \n\t" * 200, "length", {}
        case "prose":
            return "I would say this one is rather hard to judge.", "stop", {}
        case "unknown_label":
            return json.dumps({**said, "label": "no-such-label"}), "stop", {}
        case "empty":
            return "", "stop", {}
        case "refusal":
            return "", "stop", {"refusal": "I cannot judge this."}
        case "refusal_text":
            return "I'm sorry, but I can't help with that.", "stop", {}
        case "finish_content_filter":
            return "", "content_filter", {"filters": {"violence": {"filtered": True, "severity": "high"}}}
        case _:
            return text, "stop", {"label": label, "p": said["p_violating"]}


def _usage(usage: tuple[int, int, int] | None, names: tuple[str, str]) -> dict[str, Any] | None:
    if usage is None:
        return None
    read, cached, written = usage
    return {
        f"{names[0]}_tokens": read,
        f"{names[1]}_tokens": written,
        "total_tokens": read + written,
        f"{names[0]}_tokens_details": {"cached_tokens": cached},
        f"{names[1]}_tokens_details": {"reasoning_tokens": 0},
    }


def _chat_body(
    question: Asked, text: str, finish: str, usage: tuple[int, int, int] | None, extra: dict[str, Any]
) -> dict[str, Any]:
    choice: dict[str, Any] = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": text, "refusal": extra.get("refusal")},
    }
    if "filters" in extra:
        choice["content_filter_results"] = extra["filters"]
    if "logprobs" in question.wants and "label" in extra:
        choice["logprobs"] = {"content": _tokens(question, extra["label"], extra["p"])}
    body = {
        "id": f"chatcmpl-{question.item.hex()[:12]}",
        "object": "chat.completion",
        "created": 0,
        "model": f"{question.model}-2026-01-01",
        "system_fingerprint": "fp_fake",
        "choices": [choice],
    }
    counted = _usage(usage, ("prompt", "completion"))
    return body if counted is None else {**body, "usage": counted}


def _tokens(question: Asked, label: str, p: float) -> list[dict[str, Any]]:
    """Log-probabilities of a plausible tokenization: the label is one token, its main rival the alternative."""
    violating = question.labels[-1]
    rival = question.labels[0] if label == violating else violating
    own = p if label == violating else 1 - p

    def token(text: str, *tops: tuple[str, float]) -> dict[str, Any]:
        alternatives = [{"token": t, "logprob": math.log(max(x, 1e-9))} for t, x in tops or ((text, 1.0),)]
        return {"token": text, "logprob": alternatives[0]["logprob"], "top_logprobs": alternatives}

    return [token('{"label": "'), token(label, (label, own), (rival, 1 - own)), token('"}')]


def _response_body(
    question: Asked, text: str, finish: str, usage: tuple[int, int, int] | None, extra: dict[str, Any]
) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": []}
    if "refusal" in extra:
        part = {"type": "refusal", "refusal": extra["refusal"]}
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(finish)
    body = {
        "id": f"resp_{question.item.hex()[:12]}",
        "object": "response",
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "model": question.model,
        "output": [{"type": "message", "role": "assistant", "content": [part]}],
    }
    counted = _usage(usage, ("input", "output"))
    return body if counted is None else {**body, "usage": counted}


def _decision_body(
    question: Asked, text: str, finish: str, usage: tuple[int, int, int] | None, extra: dict[str, Any]
) -> dict[str, Any]:
    answer: dict[str, Any] = {"type": "refusal", "name": "label"}
    if "label" in extra:
        violating = question.labels[-1]
        rest = 1 - extra["p"]
        others = [x for x in question.labels if x != violating]
        shares = {violating: extra["p"], **{x: rest / len(others) for x in others}}
        answer = {
            "type": "choice",
            "name": "label",
            "choice": extra["label"],
            "confidence": shares[extra["label"]],
            "probabilities": [{"value": v, "probability": p} for v, p in shares.items()],
        }
    body = {"answers": [answer], "model": question.model}
    counted = _usage(usage, ("input", "output"))
    return body if counted is None else {**body, "usage": counted}


_BODIES = {"chat": _chat_body, "responses": _response_body, "decisions": _decision_body}


def _azure_filter() -> Said:
    filters = {"hate": {"filtered": True, "severity": "high"}, "violence": {"filtered": False, "severity": "medium"}}
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": filters}
    body = {"error": {"message": "filtered", "code": "content_filter", "status": 400, "innererror": inner}}
    return Said(400, orjson.dumps(body), fault="content_filter")


def error(
    status: int,
    message: str,
    code: str,
    param: str | None = None,
    fault: str | None = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Said:
    body = {"error": {"message": message, "type": code, "code": code, "param": param}}
    return Said(status, orjson.dumps(body), headers, fault=fault)
