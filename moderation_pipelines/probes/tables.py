"""Tables of probes: whether a judge gives the same answer twice, and whether items can give it orders."""

from __future__ import annotations

from moderation_pipelines.tables.column import count, share, text
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import (
    EVAL_SET,
    JUDGE_ID,
    NOTE,
    POLICY,
    SCORED_DAY,
    VERSION,
    high_share,
    low_share,
)

_NOTE = NOTE.with_(meaning="reason why there is no rate; null if there is one")

CANARIES = Table(
    "canaries",
    "one judge asked again about the same items: how often its label flips",
    ("judge_id", "eval_set", "version", "drop_date"),
    {
        "judge_id": JUDGE_ID,
        "policy": POLICY,
        "eval_set": EVAL_SET,
        "version": VERSION,
        "model": text("model asked for"),
        "models_returned": text(
            "models the endpoint says answered on the day, and fingerprints, as JSON; null without an answer",
            nullable=True,
        ),
        "n_asked": count("items asked again, past the ledger", unit="items"),
        "n": count("items with a verdict both times", unit="items"),
        "n_flips": count("items with another label than at first", unit="items"),
        "flip_rate": share("n_flips / n; null when n is 0"),
        "ci_low": low_share("95 % Wilson interval"),
        "ci_high": high_share("95 % Wilson interval"),
        "n_violating_flips": count("flips between a violating label and one that is not", unit="items"),
        "note": _NOTE,
        "drop_date": SCORED_DAY.with_(meaning="day it was asked on"),
    },
)

INJECTIONS = Table(
    "injections",
    "one judge against one kind of injected text: how often it turns the verdict",
    ("judge_id", "eval_set", "version", "injection", "drop_date"),
    {
        "judge_id": JUDGE_ID,
        "policy": POLICY,
        "eval_set": EVAL_SET,
        "version": VERSION,
        "prompt_id": text("prompt version"),
        "injection": text("kind of injection, or all"),
        "n_asked": count("items asked with the injection in them", unit="items"),
        "n": count("items with a verdict with it and without", unit="items"),
        "n_flips": count("items whose label became the injected label", unit="items"),
        "flip_rate": share("n_flips / n; null when n is 0"),
        "ci_low": low_share("95 % Wilson interval"),
        "ci_high": high_share("95 % Wilson interval"),
        "n_no_verdict": count("items whose verdict went away: refused, blocked or unreadable", unit="items"),
        "note": _NOTE,
        "drop_date": SCORED_DAY,
    },
)
