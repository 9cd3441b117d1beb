"""Tables of metrics: every judge on every release, and judges against each other."""

from __future__ import annotations

from moderation_pipelines.tables.column import Column, count, estimate, flag, moment, share, text
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
    high_share,
    low,
    low_share,
    p_value,
)

SLICES = ("locale", "surface", "severity", "label_confidence")
CHOSEN_BY_LABEL = ("severity",)
UNLIKE = "unlike_learnt"


def unlike_name(slicing: str) -> str:
    """The name of a slicing of the items unlike anything the judge learnt."""
    return UNLIKE if slicing == "all" else f"{UNLIKE}_{slicing}"


_UNLIKE = tuple(unlike_name(s) for s in ("all", *SLICES))
_SLICE = text(
    "slicing the row belongs to; unlike_learnt and unlike_learnt_*: the same of the items unlike anything the judge learnt",
    one_of=("all", *SLICES, *_UNLIKE),
)

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
        "value": estimate(
            "value of the metric, weighted to the frame, -1 to 1; expected_cost: from 0, in the unit of the policy's costs; null when undefined"
        ),
        "ci_low": low(),
        "ci_high": high(),
        "relabelled_low": low(
            "interval with the reference labels drawn again from their votes alone, no truth; null where a label has no probability"
        ).with_(formerly="labels_ci_low"),
        "relabelled_high": high(
            "interval with the reference labels drawn again from their votes alone, no truth; null where a label has no probability"
        ).with_(formerly="labels_ci_high"),
        "shrunk": estimate(
            "value drawn towards that of all items, the more the less is known of the slice; null outside slices and without an interval",
            added=True,
        ),
        "interval": text(
            "method of the interval: wilson, wilson_jaccard, beta, bootstrap, delong, smoothed_bootstrap, logit_t or test_inversion; null without one",
            nullable=True,
        ),
        "n": count("verdicts behind the value: the denominator's items (of prevalence: all items)", unit="items"),
        "n_effective": estimate(
            "equally weighted, independent items that would say as much (Kish); 0 without items, null in rows of earlier versions",
            unit="items",
            added=True,
        ),
        "design_effect": estimate(
            "variance over that of as many independent items, from 1 (prevalence: over the variance of its interval), where "
            "items are clustered by side_key; the interval is widened by it and, for few clusters, by t; null where items "
            "are not clustered and where the value is null",
            added=True,
            minimum=1,
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
        "slice": _SLICE.with_(
            meaning="slicing the row belongs to; unlike_learnt and unlike_learnt_*: the same of the items unlike anything "
            "either judge learnt"
        ),
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
            "method of interval and p-value: draws of the joint cells by weight class, or jackknife over items, or over clusters where items are clustered; null without one",
            nullable=True,
            added=True,
        ),
        "n": count("items both gave a verdict on", unit="items"),
        "n_only_a": count("items only the first got right", unit="items"),
        "n_only_b": count("items only the second got right", unit="items"),
        "p_value": p_value(
            "exact McNemar test on those two numbers where weights are equal and items are not clustered, else by the method of the interval; metric accuracy only, else null"
        ),
        "p_adjusted": p_value(
            "Benjamini-Hochberg over the pairs of judges and the slices of the release, all items and those unlike anything learnt apart; metric accuracy only, else null"
        ),
        "note": NOTE.with_(added=True),
        "drop_date": SCORED_DAY.with_(meaning="day it was computed for"),
    },
)


def _with_interval(name: str, of: str) -> dict[str, Column]:
    return {
        name: share(f"{of}; null when undefined"),
        f"{name}_low": low_share(),
        f"{name}_high": high_share(),
    }


_LOCALE = text("locale of the items; null for all", nullable=True)
_ITEMS = text(
    "items it is measured on: all, or those unlike anything the judge learnt; null in rows of earlier versions, which are "
    "of all",
    nullable=True,
    one_of=("all", UNLIKE),
    added=True,
)

OPERATING_POINTS = Table(
    "operating_points",
    "one threshold on a judge's probability, on a release or one locale of it",
    ("eval_set", "version", "locale", "items", "judge_id", "threshold", "drop_date"),
    {
        "eval_set": EVAL_SET,
        "version": VERSION,
        "policy": POLICY,
        "locale": _LOCALE,
        "items": _ITEMS,
        "judge_id": JUDGE_ID,
        "threshold": share("probability from which an item is flagged", nullable=False),
        **_with_interval("precision", "share of flagged items that violate"),
        **_with_interval("recall", "share of violating items that are flagged"),
        **_with_interval("fpr", "share of fine items that are flagged"),
        **_with_interval("flag_rate", "share of items that are flagged"),
        "expected_cost": estimate(
            "mean cost of an item by the policy's kpis.costs, in their unit; null without costs", minimum=0
        ),
        "expected_cost_low": low(),
        "expected_cost_high": high(),
        "n": count("items with a probability", unit="items"),
        "n_positive": count("of them those whose reference label violates", unit="items"),
        "n_flagged": count("of them those that are flagged", unit="items"),
        "n_missing": count(
            "items without a probability; they count in expected_cost only, and only where a review has a cost",
            unit="items",
        ),
        "note": NOTE.with_(added=True),
        "drop_date": SCORED_DAY.with_(meaning="day it was computed for"),
    },
)

JUDGE_VALIDITY = Table(
    "judge_validity",
    "one judge compared with each rater of a policy, on the items of its releases or one locale of them",
    ("policy", "locale", "items", "judge_id", "drop_date"),
    {
        "policy": POLICY,
        "locale": _LOCALE,
        "items": _ITEMS,
        "judge_id": JUDGE_ID,
        "winning_rate": share(
            "share of the tested raters the judge does as well as, to within the margin; null when fewer than three could be tested, or fewer than thirty items are unlike anything it learnt"
        ),
        "ci_low": low_share("95 % Clopper-Pearson interval over raters"),
        "ci_high": high_share("95 % Clopper-Pearson interval over raters"),
        "may_replace": flag("whether winning_rate is a half or more; null with it", nullable=True),
        "margin": share("largest tolerated shortfall of the judge's advantage behind the rater's", nullable=False),
        "n_raters": count("named raters that were tested", unit="raters"),
        "n_won": count("of them those the judge does as well as", unit="raters"),
        "n_items": count("different items of these tests", unit="items"),
        "advantage": share(
            "mean over the tested raters of how often the judge agrees with the others at least as well; null with winning_rate"
        ),
        "advantage_low": low_share("95 % t interval over raters"),
        "advantage_high": high_share("95 % t interval over raters"),
        "agreement": share(
            "mean share of an item's votes that are the judge's label; null without items, or with fewer than thirty unlike anything it learnt"
        ),
        "agreement_low": low_share("95 % t interval over items, or clusters of them"),
        "agreement_high": high_share("95 % t interval over items, or clusters of them"),
        "rater_agreement": share("mean share of pairs of votes on these items that agree; null with agreement"),
        "rater_agreement_low": low_share("95 % t interval over items, or clusters of them"),
        "rater_agreement_high": high_share("95 % t interval over items, or clusters of them"),
        "n_agreement": count("items with a verdict and two votes or more", unit="items"),
        "note": NOTE,
        "drop_date": SCORED_DAY.with_(meaning="day it was computed for"),
    },
)
