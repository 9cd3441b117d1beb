"""Tables of leakage: near-twins of release items, and what of a release a judge has learnt."""

from __future__ import annotations

from moderation_pipelines.ingest.tables import BOTH_SIDES
from moderation_pipelines.tables.column import count, flag, share, text
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import (
    EVAL_SET,
    ITEM_ID,
    JUDGE_ID,
    NOTE,
    POLICY,
    SCORED_DAY,
    VERSION,
    high_share,
    low_share,
)

USED_AS = ("trained", "shown", "calibrated")
MEASURES = ("exact", "near_duplicate", "same_author", "same_conversation", "same_group")

_DAY = SCORED_DAY.with_(meaning="day it was computed for")
_SIMILARITY = share("Jaccard similarity of character 3-grams to the nearest of them, from .7", nullable=False)
_USED_AS = text(
    "what the judge used it for: it was trained on it, shown it as an example, or calibrated on it", one_of=USED_AS
)

NEAR_TWINS = Table(
    "near_twins",
    "one item of a release that has near-twins among the other items delivered on one side",
    ("eval_set", "version", "item_id", "side", "drop_date"),
    {
        "eval_set": EVAL_SET,
        "version": VERSION,
        "policy": POLICY,
        "item_id": ITEM_ID,
        "side": text("side of the near-twins", one_of=BOTH_SIDES),
        "similarity": _SIMILARITY,
        "twin_id": text("id of the nearest", about="item"),
        "n_twins": count(
            "different texts of the near-twins among items delivered up to the day; no more are looked for once there are 1,000",
            unit="texts",
        ),
        "drop_date": _DAY,
    },
)

SEEN_ITEMS = Table(
    "seen_items",
    "one item of a release of which a judge has learnt the text, a near-twin, or another item of its group",
    ("eval_set", "version", "judge_id", "used_as", "item_id", "drop_date"),
    {
        "eval_set": EVAL_SET,
        "version": VERSION,
        "policy": POLICY,
        "judge_id": JUDGE_ID,
        "used_as": _USED_AS,
        "item_id": ITEM_ID,
        "similarity": share(
            "Jaccard similarity of character 3-grams to the nearest text the judge learnt, from .7; null where only the "
            "group is the same"
        ),
        "same_group": flag(
            "whether the judge learnt an item with the same group_key; null where the item has none, or nothing it learnt has one",
            nullable=True,
        ),
        "drop_date": _DAY,
    },
)

LEAKAGE = Table(
    "leakage",
    "one measure of what a judge learnt, on one release; no rows for a judge that learnt nothing of this home",
    ("eval_set", "version", "judge_id", "used_as", "measure", "drop_date"),
    {
        "eval_set": EVAL_SET,
        "version": VERSION,
        "policy": POLICY,
        "judge_id": JUDGE_ID,
        "used_as": _USED_AS,
        "measure": text(
            "what an item of the release shares with something the judge learnt: its text, a text nearly the same, its author, conversation or group",
            one_of=MEASURES,
        ),
        "n_learnt": count("different texts the judge learnt", unit="texts"),
        "n": count(
            "items of the release; for author, conversation and group those that have the key",
            unit="items",
        ),
        "n_shared": count("of them those that share it", unit="items"),
        "share": share("n_shared / n, unweighted; null where n is 0, or nothing the judge learnt has the key"),
        "ci_low": low_share("95 % Wilson interval"),
        "ci_high": high_share("95 % Wilson interval"),
        "note": NOTE,
        "drop_date": _DAY,
    },
)
