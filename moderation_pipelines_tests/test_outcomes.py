"""Outcomes: what becomes of an answer, with its evidence; and probabilities from tokens."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation_pipelines.judging.requests.outcomes import (
    OUTCOMES,
    LabelSet,
    classify,
    filter_signals,
    refused_by_filter,
)
from moderation_pipelines_tests.engine_help import LABELS, completion


@pytest.mark.parametrize(
    ("response", "outcome", "label", "p"),
    [
        (completion('{"label": "bad", "p_violating": 0.9, "rationale": "r"}'), "verdict", "bad", 0.9),
        (completion('```json\n{"label": "fine", "p_violating": 0.1}\n```'), "verdict", "fine", 0.1),
        (completion('Sure! {"label": "BAD"} Hope it helps.'), "verdict", "bad", None),
        (completion("Label: bad"), "verdict", "bad", None),
        (completion('"fine".'), "verdict", "fine", None),
        (completion('{"label": "bad", "p_violating": 7}'), "verdict", "bad", None),
        (completion('{"label": "bad", "p_violating": true}'), "verdict", "bad", None),
        (completion('{"label": "awful", "p_violating": 0.9}'), "parse_error", None, None),
        (completion("It could be fine or bad."), "parse_error", None, None),
        (completion('{"label": "fine"} or {"label": "bad"}'), "parse_error", None, None),
        (completion('<think>maybe {"label": "fine"}</think>{"label": "bad", "p_violating": 1}'), "verdict", "bad", 1.0),
        (completion('{"label": "bad", "p_violating": 1' + "0" * 400 + "}"), "verdict", "bad", None),
        (completion('{"label": "fine"}', finish_reason="error"), "api_error", None, None),
        ({"error": {"code": 502}}, "api_error", None, None),
        ({"choices": [{"message": "hello"}]}, "parse_error", None, None),
        (completion(""), "parse_error", None, None),
        (completion(None), "parse_error", None, None),
        ({"choices": []}, "parse_error", None, None),
        (completion("I'm sorry, I can't help with that."), "refusal", None, None),
        (completion(None, message={"refusal": "no"}), "refusal", None, None),
        # Truncated output can be valid JSON: the finish reason is looked at first.
        (completion('{"label": "bad"}', finish_reason="length"), "truncated", None, None),
        (completion('{"label": "bad"}', finish_reason="content_filter"), "content_filter", None, None),
    ],
)
def test_each_answer_is_one_outcome(response: dict[str, Any], outcome: str, label: str | None, p: float | None) -> None:
    verdict = classify(response, LABELS)
    assert (verdict.outcome, verdict.label, verdict.p_violating) == (outcome, label, p)
    assert (verdict.error is None) == (verdict.kind is None) == (outcome == "verdict")


def token(text: str, **alternatives: float) -> dict[str, Any]:
    tops = [{"token": t, "logprob": math.log(p)} for t, p in alternatives.items()]
    return {"token": text, "logprob": -0.1, "top_logprobs": tops}


def test_probability_comes_from_the_token_that_decides_the_label() -> None:
    tokens = [token('{"label'), token('": "'), token("bad", bad=0.6, fine=0.2, ba=0.1, other=0.05), token('"}')]
    response = completion('{"label": "bad"}', logprobs={"content": tokens})
    verdict = classify(response, LABELS)
    # bad and ba can only become "bad": 0.7 against 0.2 for fine; other fits neither.
    assert verdict.p_violating == pytest.approx(0.7 / 0.9)
    assert verdict.p_source == "logprobs"


def test_a_shared_beginning_is_decided_by_the_next_token() -> None:
    labels = LabelSet(("none", "nonsense"), frozenset({"nonsense"}))
    tokens = [token('{"label": "'), token("non", non=1.0), token("e", e=0.75, sense=0.25), token('"}')]
    verdict = classify(completion('{"label": "none"}', logprobs={"content": tokens}), labels)
    assert verdict.p_violating == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("content", "finish", "kind"),
    [
        ('{"label": ' + " \n\t" * 40, "length", "whitespace_loop"),
        ('{"label": "bad"', "length", "finish_length"),
        ("It is hard to say.", "stop", "prose"),
        ('{"label": "awful"}', "stop", "unknown_label"),
        ('{"label": "fine"} {"label": "bad"}', "stop", "several_labels"),
        ("   ", "stop", "empty"),
        ("I'm sorry, but I can't help with that.", "stop", "refusal_text"),
    ],
)
def test_every_unreadable_answer_has_its_kind(content: str, finish: str, kind: str) -> None:
    assert classify(completion(content, finish_reason=finish), LABELS).kind == kind


def test_clause_and_evidence_are_read_and_only_clauses_of_the_policy_count() -> None:
    labels = LabelSet(("fine", "bad"), frozenset({"bad"}), ("H1", "H2"))
    said = {"label": "bad", "clause": "H2", "evidence": "you pest", "p_violating": 0.7, "rationale": "insult"}
    verdict = classify(completion(json.dumps(said)), labels)
    assert (verdict.clause, verdict.evidence, verdict.rationale) == ("H2", "you pest", "insult")
    verdict = classify(completion(json.dumps({**said, "clause": "H9", "evidence": " "})), labels)
    assert (verdict.outcome, verdict.clause, verdict.evidence) == ("verdict", None, None)


AZURE = {
    "error": {
        "code": "content_filter",
        "innererror": {
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {
                "hate": {"filtered": True, "severity": "high"},
                "violence": {"filtered": False, "severity": "medium"},
                "self_harm": {"filtered": False, "severity": "safe"},
                "jailbreak": {"filtered": True, "detected": True},
            },
        },
    }
}


def test_azures_refusal_keeps_its_severities() -> None:
    verdict = refused_by_filter(400, AZURE)
    assert verdict is not None
    assert (verdict.outcome, verdict.kind) == ("content_filter", "http_content_filter")
    assert json.loads(verdict.signals or "") == {"hate": "high", "violence": "medium", "jailbreak": "filtered"}
    assert refused_by_filter(400, {"error": {"code": "bad_parameter"}}) is None
    assert refused_by_filter(500, AZURE) is None
    assert filter_signals({"hate": {"filtered": False, "severity": "safe"}}) is None


def test_a_finished_filter_keeps_its_severities_too() -> None:
    filters = {"violence": {"filtered": True, "severity": "high"}}
    verdict = classify(completion("", finish_reason="content_filter", content_filter_results=filters), LABELS)
    assert (verdict.kind, verdict.signals) == ("finish_content_filter", '{"violence": "high"}')


def response(text: str, **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text}
    return {"status": "completed", "output": [{"type": "message", "content": [part]}], **more}


@pytest.mark.parametrize(
    ("answer", "outcome", "label"),
    [
        (response('{"label": "bad"}'), "verdict", "bad"),
        (response('{"label": "bad"}', incomplete_details={"reason": "max_output_tokens"}), "truncated", None),
        (response("", incomplete_details={"reason": "content_filter"}), "content_filter", None),
        (response("x", status="failed"), "api_error", None),
        ({"output": [{"type": "message", "content": [{"type": "refusal", "refusal": "no"}]}]}, "refusal", None),
        ({"output": [{"type": "reasoning"}]}, "parse_error", None),
        ({"output": None}, "parse_error", None),
    ],
)
def test_the_responses_interface(answer: dict[str, Any], outcome: str, label: str | None) -> None:
    verdict = classify(answer, LABELS, "responses")
    assert (verdict.outcome, verdict.label) == (outcome, label)


def test_the_decisions_interface_gives_probabilities() -> None:
    labels = LabelSet(("fine", "bad", "awful"), frozenset({"bad", "awful"}))
    shares = [
        {"value": "fine", "probability": 0.2},
        {"value": "bad", "probability": 0.5},
        {"value": "awful", "probability": 0.3},
    ]
    answer = {"answers": [{"type": "choice", "choice": "bad", "probabilities": shares}]}
    verdict = classify(answer, labels, "decisions")
    assert (verdict.label, verdict.p_source) == ("bad", "decision")
    assert verdict.p_violating == pytest.approx(0.8)
    assert classify({"answers": [{"type": "refusal"}]}, labels, "decisions").outcome == "refusal"
    assert classify({"answers": []}, labels, "decisions").outcome == "parse_error"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    ["choices", "message", "content", "finish_reason", "error", "refusal", "logprobs", "output", "answers", "usage"]
)


@given(st.dictionaries(KEYS, JSON, max_size=6), st.sampled_from(["chat", "responses", "decisions"]))
def test_no_json_object_breaks_it_and_only_verdicts_have_labels(answer: dict[str, Any], api: str) -> None:
    verdict = classify(answer, LABELS, api)
    assert verdict.outcome in OUTCOMES
    assert (verdict.label is not None) == (verdict.outcome == "verdict")


@given(st.text(max_size=200))
def test_no_text_breaks_it(content: str) -> None:
    verdict = classify(completion(content), LABELS)
    assert (verdict.label is not None) == (verdict.outcome == "verdict")
