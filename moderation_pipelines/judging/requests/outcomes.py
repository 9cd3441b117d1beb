"""From an endpoint's answer to an outcome. An error, a refusal or a filter block is never a label."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

Outcome = Literal[
    "verdict", "refusal", "content_filter", "parse_error", "truncated", "timeout", "api_error", "over_budget"
]
OUTCOMES: tuple[Outcome, ...] = (
    "verdict", "refusal", "content_filter", "parse_error", "truncated", "timeout", "api_error", "over_budget",
)  # fmt: skip

_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_REFUSAL = re.compile(
    r"^\W*(i['’]?m sorry|i am sorry|sorry[,.]|i can(?:no|['’])t (?:help|assist|comply|do)|i am unable|i['’]?m unable|"
    r"i won['’]?t|as an ai|抱歉|对不起|我无法|我不能)",
    re.IGNORECASE,
)


_LOOP = re.compile(r"\s{64,}\Z")


@dataclass(slots=True)
class Verdict:
    """What an answer says. ``label`` and the rest are None unless the outcome is ``verdict``.

    ``kind`` is why there is no verdict, as one word for machines; ``error`` the same for people. ``signals`` are the
    severities a content filter gave, as JSON. ``said`` is the text that could not be read, for one repair; never kept.
    """

    outcome: Outcome
    label: str | None = None
    p_violating: float | None = None
    p_source: str | None = None
    rationale: str | None = None
    error: str | None = None
    kind: str | None = None
    clause: str | None = None
    evidence: str | None = None
    signals: str | None = None
    said: str | None = None


@dataclass(frozen=True)
class LabelSet:
    """The labels a judge may answer with, which of them violate, and the ids of the policy's clauses."""

    ids: tuple[str, ...]
    violating: frozenset[str]
    clauses: tuple[str, ...] = ()


def answer_schema(labels: LabelSet) -> dict[str, Any]:
    """The JSON schema asked for where the endpoint can hold to one. The label comes first: its token decides."""
    clause = {"type": "string", "enum": ["", *labels.clauses]} if labels.clauses else None
    properties = {
        "label": {"type": "string", "enum": list(labels.ids)},
        **({"clause": clause} if clause else {}),
        "evidence": {"type": "string"},
        "p_violating": {"type": "number"},
        "rationale": {"type": "string"},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


@dataclass(slots=True)
class _Reply:
    """An answer in the terms all interfaces share."""

    content: object
    finish: object
    refusal: bool = False
    logprobs: object = None
    filters: object = None


def classify(response: dict[str, Any], labels: LabelSet, api: str = "chat") -> Verdict:
    """The outcome of an answer with HTTP 200, given as its JSON.

    ``finish_reason`` is looked at before parsing: truncated output can be valid JSON. ``p_violating`` comes from the
    log-probabilities of the label's first deciding token where there are any, else from what the judge stated.
    """
    if response.get("error"):
        return Verdict("api_error", error="HTTP 200, but the body is an error", kind="error_body")
    if api == "decisions":
        return _decision(response, labels)
    reply = _response_reply(response) if api == "responses" else _chat_reply(response)
    if isinstance(reply, Verdict):
        return reply
    if reply.finish == "error":
        return Verdict("api_error", error="HTTP 200, but the answer ended in an error", kind="error_body")
    if reply.finish == "content_filter":
        return Verdict(
            "content_filter", error="finish_reason is content_filter", kind="finish_content_filter",
            signals=filter_signals(reply.filters),
        )  # fmt: skip
    if reply.refusal:
        return Verdict("refusal", error="the message carries a refusal", kind="refusal_field")
    content = reply.content
    if reply.finish in ("length", "max_output_tokens"):
        if isinstance(content, str) and _LOOP.search(content):
            return Verdict("truncated", error="the answer runs on in white space", kind="whitespace_loop")
        return Verdict("truncated", error="finish_reason is length", kind="finish_length")
    if not isinstance(content, str) or not content.strip():
        return Verdict("parse_error", error="the answer is empty", kind="empty")
    found = parsed_answer(content, labels)
    if isinstance(found, str):
        if _REFUSAL.match(content.strip()):
            return Verdict("refusal", error="the answer reads as a refusal", kind="refusal_text")
        return Verdict("parse_error", error=_UNREADABLE[found], kind=found, said=content[:2000])
    p, source = found.p_violating, None if found.p_violating is None else "stated"
    from_tokens = p_from_logprobs(reply.logprobs, labels)
    if from_tokens is not None:
        p, source = from_tokens, "logprobs"
    return Verdict(
        "verdict", found.label, p, source, found.rationale, clause=found.clause, evidence=found.evidence,
        signals=filter_signals(reply.filters),
    )  # fmt: skip


_UNREADABLE = {
    "prose": "no label of the policy can be read from the answer",
    "unknown_label": "the answer names a label the policy does not know",
    "several_labels": "the answer names several labels",
}


def _chat_reply(response: dict[str, Any]) -> _Reply | Verdict:
    choices = response.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return Verdict("parse_error", error="the answer has no choices", kind="no_choices")
    choice = choices[0]
    message = choice.get("message")
    finish = "error" if choice.get("error") else choice.get("finish_reason")
    if not isinstance(message, dict):
        if finish in ("error", "content_filter"):
            message = {}
        else:
            return Verdict("parse_error", error="the answer has no message", kind="no_message")
    filters = choice.get("content_filter_results") or message.get("content_filter_results")
    refused = bool(message.get("refusal"))
    return _Reply(message.get("content"), finish, refused, choice.get("logprobs"), filters)


def _response_reply(response: dict[str, Any]) -> _Reply | Verdict:
    """A Responses object: the text of its message parts; why it is incomplete stands apart."""
    output = response.get("output")
    if not isinstance(output, list):
        return Verdict("parse_error", error="the answer has no output", kind="no_choices")
    details = response.get("incomplete_details")
    finish = details.get("reason") if isinstance(details, dict) else None
    if response.get("status") in ("failed", "cancelled"):
        finish = "error"
    texts, refused, tokens = [], False, []
    for entry in output:
        parts = entry.get("content") if isinstance(entry, dict) and entry.get("type") == "message" else None
        for part in parts if isinstance(parts, list) else []:
            if not isinstance(part, dict):
                continue
            refused = refused or part.get("type") == "refusal"
            if isinstance(part.get("text"), str):
                texts.append(part["text"])
            if isinstance(part.get("logprobs"), list):
                tokens += part["logprobs"]
    return _Reply("".join(texts), finish, refused, {"content": tokens} if tokens else None)


def _decision(response: dict[str, Any], labels: LabelSet) -> Verdict:
    """A typed answer with a probability for every label."""
    answers = response.get("answers")
    answer = answers[0] if isinstance(answers, list) and answers and isinstance(answers[0], dict) else {}
    if answer.get("type") == "refusal":
        return Verdict("refusal", error="the judge declined the question", kind="refusal_field")
    label = _label(answer.get("choice"), labels)
    if label is None:
        return Verdict("parse_error", error=_UNREADABLE["unknown_label"], kind="unknown_label")
    p = 0.0
    probabilities = answer.get("probabilities")
    for entry in probabilities if isinstance(probabilities, list) else []:
        value = _probability(entry.get("probability")) if isinstance(entry, dict) else None
        if value is not None and _label(entry.get("value"), labels) in labels.violating:
            p += value
    known = isinstance(probabilities, list) and bool(probabilities)
    return Verdict("verdict", label, min(p, 1.0) if known else None, "decision" if known else None)


def filter_signals(results: object) -> str | None:
    """What a content filter found, as compact JSON of category to severity (or "filtered"); None if all was safe."""
    if not isinstance(results, dict):
        return None
    found: dict[str, str] = {}
    for category, result in sorted(results.items()):
        if not isinstance(result, dict):
            continue
        severity = result.get("severity")
        if isinstance(severity, str) and severity != "safe":
            found[_clean(str(category))[:40]] = _clean(severity)[:20]
        elif result.get("filtered") is True or result.get("detected") is True:
            found[_clean(str(category))[:40]] = "filtered"
    return json.dumps(found, sort_keys=True) if found else None


def refused_by_filter(status: int, body: object) -> Verdict | None:
    """Azure's HTTP 400 ``content_filter``, with its severities as a signal; None if the body is another error."""
    error = body.get("error") if isinstance(body, dict) else None
    error = error if isinstance(error, dict) else body if isinstance(body, dict) else {}
    inner = error.get("innererror")
    inner = inner if isinstance(inner, dict) else {}
    names = {"content_filter", "ResponsibleAIPolicyViolation", "content_policy_violation"}
    if status not in (400, 422) or not names & {str(error.get("code")), str(inner.get("code"))}:
        return None
    signals = filter_signals(inner.get("content_filter_result") or inner.get("content_filter_results"))
    return Verdict(
        "content_filter", error=f"HTTP {status}, content filter", kind="http_content_filter", signals=signals
    )


@dataclass(slots=True)
class Parsed:
    """What could be read from an answer's text."""

    label: str
    p_violating: float | None = None
    rationale: str | None = None
    clause: str | None = None
    evidence: str | None = None


def parsed_answer(content: str, labels: LabelSet) -> Parsed | str:
    """What an answer says, read tolerantly; or why not (``prose``, ``unknown_label``, ``several_labels``).

    Takes a JSON object, also inside a code fence or surrounded by words, or an answer that is a label and nothing
    else; what a model thinks aloud between <think> marks is left out. A label is matched exactly, then without regard
    to case; an answer naming two labels is no answer.
    """
    try:
        value = orjson.loads(content)
    except (orjson.JSONDecodeError, RecursionError):
        pass
    else:
        if isinstance(value, dict) and (label := _label(value.get("label"), labels)) is not None:
            return _parsed(label, value, labels)
    content = _THOUGHT.sub("", content)
    found, named = [], False
    for candidate in [content, *_fenced(content), *_objects(content)]:
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            label = _label(value.get("label"), labels)
            named = named or "label" in value
            if label is not None:
                found.append(_parsed(label, value, labels))
    if found:
        return found[0] if len({p.label for p in found}) == 1 else "several_labels"
    bare = re.sub(r"^\W*label\W*", "", content.strip(), flags=re.IGNORECASE).strip(" \t\n\"'`.*")
    label = _label(bare, labels) or _label(content.strip(), labels)
    if label is not None:
        return Parsed(label)
    return "unknown_label" if named else "prose"


def _parsed(label: str, value: dict[str, Any], labels: LabelSet) -> Parsed:
    rationale, evidence, clause = value.get("rationale"), value.get("evidence"), value.get("clause")
    return Parsed(
        label,
        _probability(value.get("p_violating")),
        _clean(rationale) if isinstance(rationale, str) else None,
        clause if isinstance(clause, str) and clause in labels.clauses else None,
        _clean(evidence) if isinstance(evidence, str) and evidence.strip() else None,
    )


def _fenced(content: str) -> list[str]:
    """What stands in code fences, the first twenty."""
    return [part.removeprefix("json") for part in content.split("```")[1:40:2]]


def _objects(content: str) -> list[str]:
    """Every balanced {...} at the outermost level of the text."""
    found, depth, start = [], 0, 0
    in_string = escaped = False
    for i, c in enumerate(content):
        if in_string:
            escaped = c == "\\" and not escaped
            if c == '"' and not escaped:
                in_string = False
            continue
        if c == '"' and depth:
            in_string, escaped = True, False
        elif c == "{":
            start = i if depth == 0 else start
            depth += 1
        elif c == "}" and depth:
            depth -= 1
            if depth == 0:
                found.append(content[start : i + 1])
    return found[:20]


def _label(value: object, labels: LabelSet) -> str | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    if text in labels.ids:
        return text
    folded = [i for i in labels.ids if i.casefold() == text.casefold()]
    return folded[0] if len(folded) == 1 else None


def _probability(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= 1 else None


def _clean(text: str) -> str:
    """Text that every database can store: half surrogate pairs replaced, no NUL, at most 2,000 characters."""
    return text[:2000].replace("\x00", "").encode("utf-8", "replace").decode()


def p_from_logprobs(logprobs: object, labels: LabelSet) -> float | None:
    """Probability of a violating label from the token that decides it, or None.

    Finds the token where the value of "label" begins and sums the probabilities of the alternatives there that can
    only become a violating label, against those that can only become one that is not. Alternatives that fit both or
    neither are left out; None when nothing is left.
    """
    tokens = logprobs.get("content") if isinstance(logprobs, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(t, dict) for t in tokens):
        return None
    text = "".join(str(t.get("token", "")) for t in tokens)
    place = re.search(r'"label"\s*:\s*"', text)
    start = place.end() if place else len(text) - len(text.lstrip()) if text.strip() else None
    if start is None:
        return None
    position, written = 0, ""
    for token in tokens:
        end = position + len(str(token.get("token", "")))
        if end > start:
            lead = max(0, start - position)
            weights = _sides(token.get("top_logprobs"), lead, written, labels)
            if weights is not None:
                return weights
            written += str(token.get("token", ""))[lead:]
            if '"' in written:
                return None
        position = end
    return None


def _sides(alternatives: object, lead: int, written: str, labels: LabelSet) -> float | None:
    if not isinstance(alternatives, list):
        return None
    sums = {True: 0.0, False: 0.0}
    for alternative in alternatives:
        if not isinstance(alternative, dict) or not isinstance(alternative.get("logprob"), int | float):
            continue
        begun = (written + str(alternative.get("token", ""))[lead:]).split('"')[0].strip()
        if not begun:
            continue
        fits = {i in labels.violating for i in labels.ids if i.startswith(begun) or begun == i}
        if len(fits) == 1:
            sums[fits.pop()] += math.exp(min(float(alternative["logprob"]), 0.0))
    total = sums[True] + sums[False]
    return sums[True] / total if total > 0 and min(sums.values()) >= 0 and _decides(sums) else None


def _decides(sums: dict[bool, float]) -> bool:
    return sums[True] + sums[False] > 0.5


def label_set(ids: Sequence[str], violating: Sequence[str], clauses: Sequence[str] = ()) -> LabelSet:
    return LabelSet(tuple(ids), frozenset(violating), tuple(clauses))
