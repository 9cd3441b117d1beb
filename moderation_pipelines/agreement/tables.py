"""Tables of agreement: coefficients, confused labels, pairs of raters, guideline versions."""

from __future__ import annotations

from moderation_pipelines.tables.column import count, day, estimate, share, text
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import (
    NOTE,
    POLICY,
    RATER_ID,
    SLICE_VALUE,
    WINDOW_DAY,
    high,
    high_share,
    low,
    low_share,
    p_value,
)

SLICES = ("locale", "pool", "guideline", "surface")

AGREEMENT = Table(
    "agreement",
    "one coefficient on one slice",
    ("policy", "slice", "slice_value", "coefficient", "label", "drop_date"),
    {
        "policy": POLICY,
        "slice": text("slicing the row belongs to", one_of=("all", *SLICES)),
        "slice_value": SLICE_VALUE,
        "coefficient": text("name of the coefficient"),
        "label": text("label of specific_agreement and prevalence; null for the others", nullable=True),
        "value": estimate("value of the coefficient; null when undefined, the note says why"),
        "ci_low": low(),
        "ci_high": high(),
        "se": estimate("analytic standard error; null where the coefficient has none", minimum=0),
        "interval": text(
            "method of the interval (bootstraps by item: bca, percentile, bayesian_bootstrap); null without one",
            nullable=True,
            one_of=("analytic", "bca", "percentile", "bayesian_bootstrap", "wilson"),
        ),
        "n_items": count(
            "items with two or more counted votes (intra_rater: rater x item; cohen_kappa: in the pairs used)",
            unit="items",
        ),
        "n_rated": count("items with one counted vote or more, behind the chance terms", unit="items"),
        "n_raters": count("different named raters among those votes; null when votes are anonymous", nullable=True),
        "n_votes": count("counted votes on n_items", unit="votes"),
        "window_start": day("first day of the window"),
        "window_end": WINDOW_DAY,
        "note": NOTE,
        "drop_date": WINDOW_DAY,
    },
)

DISAGREEMENTS = Table(
    "disagreements",
    "one pair of labels raters confuse, on one slice",
    ("policy", "slice", "slice_value", "label_a", "label_b", "drop_date"),
    {
        "policy": POLICY,
        "slice": text("slicing the row belongs to", one_of=("all", *SLICES, "clause")),
        "slice_value": SLICE_VALUE,
        "label_a": text("first label of the pair; in slice clause the clause's label"),
        "label_b": text("second label of the pair"),
        "n_items": count("items that got both labels", unit="items"),
        "n_disputed": count(
            "items whose votes differ (slice clause: with the clause's label among them)", unit="items"
        ),
        "share": share("share of all disagreement (slice clause: of that with the clause's label); null without any"),
        "ci_low": low_share("95 % percentile bootstrap interval by item"),
        "ci_high": high_share("95 % percentile bootstrap interval by item"),
        "lift": estimate(
            "share over what chance gives with these label frequencies; 1: as by chance; null without disagreement",
            minimum=0,
        ),
        "lift_low": low("95 % interval", minimum=0),
        "lift_high": high("95 % interval", minimum=0),
        "drop_date": WINDOW_DAY,
    },
)

RATER_PAIRS = Table(
    "rater_pairs",
    "two raters who voted on the same ten items or more",
    ("policy", "rater_a", "rater_b", "drop_date"),
    {
        "policy": POLICY,
        "rater_a": RATER_ID.with_(meaning="first rater of the pair (sorted by id)"),
        "rater_b": RATER_ID.with_(meaning="second rater of the pair"),
        "n_items": count("items both voted on", unit="items"),
        "percent_agreement": share("share of those items with the same label; null without items"),
        "ci_low": low_share("95 % Wilson interval"),
        "ci_high": high_share("95 % Wilson interval"),
        "cohen_kappa": estimate("Cohen's kappa; null where both used one label only", maximum=1),
        "kappa_low": low("95 % large-sample interval"),
        "kappa_high": high("95 % large-sample interval"),
        "drop_date": WINDOW_DAY,
    },
)

GUIDELINE_COMPARISONS = Table(
    "guideline_comparisons",
    "one coefficient under two guideline versions",
    ("policy", "guideline_a", "guideline_b", "coefficient", "drop_date"),
    {
        "policy": POLICY,
        "guideline_a": text("earlier guideline version"),
        "guideline_b": text("later guideline version"),
        "coefficient": text("percent_agreement, krippendorff_alpha or violating_share"),
        "value_a": estimate("value under the earlier version; null when undefined"),
        "value_b": estimate("value under the later version; null when undefined"),
        "difference": estimate("later minus earlier; null when undefined"),
        "ci_low": low("95 % percentile bootstrap interval by item"),
        "ci_high": high("95 % percentile bootstrap interval by item"),
        "p_value": p_value("two-sided permutation test that the version makes no difference"),
        "p_adjusted": p_value("the same after Benjamini-Hochberg over the policy's comparisons"),
        "basis": text("paired: the same items under both versions; or all items"),
        "n_items_a": count("items with two or more votes under the earlier version", unit="items"),
        "n_items_b": count("items with two or more votes under the later version", unit="items"),
        "n_items_both": count("items with two or more votes under both", unit="items"),
        "note": NOTE,
        "drop_date": WINDOW_DAY,
    },
)
