"""From an endpoint's answer to an outcome. An error, a refusal or a filter block is never a label."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Outcome = Literal[
    "verdict", "refusal", "content_filter", "parse_error", "truncated", "timeout", "api_error", "over_budget"
]
OUTCOMES: tuple[Outcome, ...] = (
    "verdict", "refusal", "content_filter", "parse_error", "truncated", "timeout", "api_error", "over_budget",
)  # fmt: skip

_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_REFUSAL = re.compile(
    r"^\W*(i['’]?m sorry|i am sorry|sorry[,.]|i can(?:no|['’])t (?:help|assist|comply|do)|i am unable|i['’]?m unable|"
    r"i won['’]?t|as an ai|抱歉|对不起|我无法|我不能)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Verdict:
    """What an answer says. ``label`` and the rest are None unless the outcome is ``verdict``."""

    outcome: Outcome
    label: str | None = None
    p_violating: float | None = None
    p_source: str | None = None
    rationale: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class LabelSet:
    """The labels a judge may answer with, and which of them violate."""

    ids: tuple[str, ...]
    violating: frozenset[str]


def answer_schema(labels: LabelSet) -> dict[str, Any]:
    """The JSON schema asked for where the endpoint can hold to one."""
    return {
        "type": "object",
        "properties": {
            "label": {"type": "string", "enum": list(labels.ids)},
            "p_violating": {"type": "number"},
            "rationale": {"type": "string"},
        },
        "required": ["label", "p_violating", "rationale"],
        "additionalProperties": False,
    }


def classify(response: dict[str, Any], labels: LabelSet) -> Verdict:
    """The outcome of a chat completion (HTTP 200), given as its JSON.

    ``finish_reason`` is looked at before parsing: truncated output can be valid JSON. ``p_violating`` comes from the
    log-probabilities of the label's first deciding token where there are any, else from what the judge stated.
    """
    choices = response.get("choices")
    if response.get("error"):
        return Verdict("api_error", error="HTTP 200, but the body is an error")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return Verdict("parse_error", error="the answer has no choices")
    choice = choices[0]
    reason = choice.get("finish_reason")
    if choice.get("error") or reason == "error":
        return Verdict("api_error", error="HTTP 200, but the answer ended in an error")
    message = choice.get("message")
    if not isinstance(message, dict):
        return Verdict("parse_error", error="the answer has no message")
    if reason == "content_filter":
        return Verdict("content_filter", error="finish_reason is content_filter")
    if message.get("refusal"):
        return Verdict("refusal", error="the message carries a refusal")
    if reason == "length":
        return Verdict("truncated", error="finish_reason is length")
    content = message.get("content")
    if not isinstance(content, str) or not content.strip():
        return Verdict("parse_error", error="the answer is empty")
    found = parsed_answer(content, labels)
    if found is None:
        if _REFUSAL.match(content.strip()):
            return Verdict("refusal", error="the answer reads as a refusal")
        return Verdict("parse_error", error="no label of the policy can be read from the answer")
    label, stated, rationale = found
    from_tokens = p_from_logprobs(choice.get("logprobs"), labels)
    if from_tokens is not None:
        return Verdict("verdict", label, from_tokens, "logprobs", rationale)
    return Verdict("verdict", label, stated, None if stated is None else "stated", rationale)


def parsed_answer(content: str, labels: LabelSet) -> tuple[str, float | None, str | None] | None:
    """(label, stated probability, rationale) read tolerantly, or None.

    Takes a JSON object, also inside a code fence or surrounded by words, or an answer that is a label and nothing
    else; what a model thinks aloud between <think> marks is left out. A label is matched exactly, then without regard
    to case; an answer naming two labels is no answer.
    """
    content = _THOUGHT.sub("", content)
    found = []
    for candidate in [content, *(_FENCE.findall(content)), *_objects(content)]:
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and (label := _label(value.get("label"), labels)) is not None:
            rationale = value.get("rationale")
            text = _clean(rationale) if isinstance(rationale, str) else None
            found.append((label, _probability(value.get("p_violating")), text))
    if found:
        return found[0] if len({label for label, _, _ in found}) == 1 else None
    bare = re.sub(r"^\W*label\W*", "", content.strip(), flags=re.IGNORECASE).strip(" \t\n\"'`.*")
    label = _label(bare, labels) or _label(content.strip(), labels)
    return None if label is None else (label, None, None)


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
    """Text that can be stored: half surrogate pairs replaced, at most 2,000 characters."""
    return text[:2000].encode("utf-8", "replace").decode()


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


def token_counts(response: dict[str, Any]) -> tuple[int | None, int | None, int | None]:
    """(input, cached input, output) tokens as billed; None where the endpoint does not say."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return None, None, None

    def whole(value: object) -> int | None:
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None

    details = usage.get("prompt_tokens_details")
    cached = whole(details.get("cached_tokens")) if isinstance(details, dict) else None
    return whole(usage.get("prompt_tokens")), cached, whole(usage.get("completion_tokens"))


def label_set(ids: Sequence[str], violating: Sequence[str]) -> LabelSet:
    return LabelSet(tuple(ids), frozenset(violating))
