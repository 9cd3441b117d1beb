"""Tables of rater cards."""

from __future__ import annotations

import polars as pl

from moderation_pipelines.tables.column import Column, count, estimate, share, text
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import (
    POLICY,
    RATER_ID,
    WINDOW_DAY,
    high,
    high_share,
    low,
    low_share,
    p_value,
)

CONFUSION = pl.List(pl.Struct({"reference": pl.String(), "label": pl.String(), "n": pl.Int64(), "rate": pl.Float64()}))
BASES = ("gold", "leave_one_out_consensus")

RATERS = Table(
    "raters",
    "one rater x policy",
    ("rater_id", "policy", "drop_date"),
    {
        "rater_id": RATER_ID,
        "policy": POLICY,
        "pool": text("pool most of the votes came from; null when none is given", nullable=True),
        "n_votes": count("current votes in the window, abstentions included", unit="votes"),
        "n_abstain": count("abstentions among them", unit="votes"),
        "n_compared": count("votes with a reference label: the n of accuracy", unit="votes"),
        "accuracy": share("share of compared votes equal to the reference; null if none"),
        "ci_low": low_share("95 % Wilson interval"),
        "ci_high": high_share("95 % Wilson interval"),
        "n_others": count("votes on items where the other raters have a majority label", unit="votes"),
        "others_accuracy": share("share of those equal to that label, whatever the basis below is; null if none"),
        "others_ci_low": low_share("95 % Wilson interval"),
        "others_ci_high": high_share("95 % Wilson interval"),
        "accuracy_basis": text(
            "gold, or leave_one_out_consensus: majority of the other raters; null if neither",
            nullable=True,
            one_of=BASES,
        ),
        "confusion": Column(
            CONFUSION,
            "votes by reference and label given; rate: given that reference, shrunk to all raters; null if none compared",
            nullable=True,
        ),
        "bias": estimate(
            "share flagged violating minus share of references violating; above 0 flags too much; null if none compared",
            minimum=-1,
            maximum=1,
        ),
        "bias_low": low("95 % t interval; null below twenty compared votes"),
        "bias_high": high("95 % t interval; null below twenty compared votes"),
        "n_referred": count(
            "votes with gold, or else a majority of the others: the n of severity, drift and speed", unit="votes"
        ),
        "severity_bias": estimate(
            "mean severity (or rank) given minus that of the reference; null for unordered labels"
        ),
        "severity_low": low("95 % t interval; null below twenty compared votes"),
        "severity_high": high("95 % t interval; null below twenty compared votes"),
        "drift_per_week": estimate("change of accuracy per week; null below twenty votes or at one time only"),
        "drift_low": low("95 % t interval"),
        "drift_high": high("95 % t interval"),
        "drift_p": p_value("that there is no drift, Benjamini-Hochberg over the policy's raters"),
        "speed_gap": estimate(
            "accuracy on the slower half of the votes minus the faster half; null below ten in a half",
            minimum=-1,
            maximum=1,
        ),
        "speed_low": low("95 % t interval"),
        "speed_high": high("95 % t interval"),
        "n_repeats": count("items voted on more than once", unit="items"),
        "repeat_agreement": share("mean share of agreeing pairs of own votes on such an item; null without one"),
        "repeat_low": low_share("95 % Wilson interval"),
        "repeat_high": high_share("95 % Wilson interval"),
        "n_shared": count("items others voted on too", unit="items"),
        "pair_agreement": share("mean share of the others' votes on them that are the same; null without one"),
        "pair_low": low("95 % t interval"),
        "pair_high": high("95 % t interval"),
        "apart": estimate(
            "pair_agreement minus the others' agreement among themselves on the same items; below 0 stands apart; null without any",
            minimum=-1,
            maximum=1,
        ),
        "apart_low": low("95 % t interval"),
        "apart_high": high("95 % t interval"),
        "apart_p": p_value("one-sided, that apart is not below 0, Benjamini-Hochberg over the policy's raters"),
        "median_seconds": estimate("median time per vote; null without times", minimum=0, unit="s"),
        "drop_date": WINDOW_DAY,
    },
)
