"""Tables of metrics: every judge on every release, and judges against each other."""

from __future__ import annotations

from moderation_pipelines.tables.column import count, estimate, moment, text
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import (
    EVAL_SET,
    JUDGE_ID,
    NOTE,
    POLICY,
    SCORED_DAY,
    SLICE_VALUE,
    VERSION,
    high,
    low,
    p_value,
)

SLICES = ("locale", "surface", "severity", "label_confidence")
CHOSEN_BY_LABEL = ("severity",)
_SLICE = text("slicing the row belongs to", one_of=("all", *SLICES))

METRICS = Table(
    "metrics",
    "one metric on one slice",
    ("eval_set", "version", "judge_id", "slice", "slice_value", "metric", "drop_date"),
    {
        "eval_set": EVAL_SET,
        "version": VERSION,
        "policy": POLICY,
        "judge_id": JUDGE_ID,
        "slice": _SLICE,
        "slice_value": SLICE_VALUE,
        "metric": text("name of the metric"),
        "value": estimate("value of the metric, weighted to the frame; null when undefined", minimum=-1, maximum=1),
        "ci_low": low(),
        "ci_high": high(),
        "relabelled_low": low("interval with the reference labels drawn again from their votes alone, no truth").with_(
            formerly="labels_ci_low"
        ),
        "relabelled_high": high(
            "interval with the reference labels drawn again from their votes alone, no truth"
        ).with_(formerly="labels_ci_high"),
        "shrunk": estimate(
            "value drawn towards that of all items, the more the less is known of the slice; null outside slices and without an interval",
            minimum=-1,
            maximum=1,
            added=True,
        ),
        "interval": text(
            "method of the interval: wilson, wilson_jaccard, beta, bootstrap, delong, smoothed_bootstrap, logit_t or test_inversion; null without one",
            nullable=True,
        ),
        "n": count("verdicts behind the value: the denominator's items (of prevalence: all items)", unit="items"),
        "n_effective": estimate(
            "equally weighted items that would say as much (Kish); 0 without items, null in rows of earlier versions",
            unit="items",
            added=True,
        ),
        "n_positive": count("items of the slice with a verdict whose reference label violates", unit="items"),
        "n_missing": count(
            "items of the slice without a verdict (for probability metrics: without a probability)", unit="items"
        ),
        "worst_low": estimate(
            "value if every missing outcome had gone the wrong way; null where not defined", minimum=-1, maximum=1
        ),
        "worst_high": estimate(
            "value if every missing outcome had gone the right way; null where not defined", minimum=-1, maximum=1
        ),
        "note": NOTE,
        "as_of": moment("end of the day it was computed for"),
        "drop_date": SCORED_DAY.with_(meaning="day it was computed for"),
    },
)

COMPARISONS = Table(
    "comparisons",
    "one metric of two judges on one slice of a release",
    ("eval_set", "version", "judge_a", "judge_b", "slice", "slice_value", "metric", "drop_date"),
    {
        "eval_set": EVAL_SET,
        "version": VERSION,
        "policy": POLICY,
        "judge_a": JUDGE_ID.with_(meaning="first judge of the pair (sorted by id)"),
        "judge_b": JUDGE_ID.with_(meaning="second judge of the pair"),
        "slice": _SLICE,
        "slice_value": SLICE_VALUE,
        "metric": text("name of the metric"),
        "value_a": estimate(
            "value of the first judge on the items both gave a verdict on, weighted; null when undefined",
            minimum=-1,
            maximum=1,
        ),
        "value_b": estimate("value of the second judge on the same items; null when undefined", minimum=-1, maximum=1),
        "difference": estimate("second minus first; null when undefined", minimum=-2, maximum=2),
        "ci_low": low("95 % interval of the difference"),
        "ci_high": high("95 % interval of the difference"),
        "interval": text(
            "method of interval and p-value: draws of the joint cells by weight class, or jackknife over items; null without one",
            nullable=True,
            added=True,
        ),
        "n": count("items both gave a verdict on", unit="items"),
        "n_only_a": count("items only the first got right", unit="items"),
        "n_only_b": count("items only the second got right", unit="items"),
        "p_value": p_value(
            "exact McNemar test on those two numbers where weights are equal, else by the method of the interval; metric accuracy only, else null"
        ),
        "p_adjusted": p_value(
            "Benjamini-Hochberg over the pairs of judges and the slices of the release; metric accuracy only, else null"
        ),
        "drop_date": SCORED_DAY.with_(meaning="day it was computed for"),
    },
)
