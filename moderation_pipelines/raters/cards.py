"""Rater cards: how often a rater is right, about what, how steadily, how fast, and whether they stand by it."""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl

from moderation_pipelines.agreement.disagreement import APART_SCHEMA, raters_apart
from moderation_pipelines.policies.policy import Policies
from moderation_pipelines.raters.tables import RATERS
from moderation_pipelines.stats.intervals import UNDEFINED, Interval, t_interval, wilson_interval
from moderation_pipelines.stats.multiplicity import benjamini_hochberg
from moderation_pipelines.votes.authority import authority_labels
from moderation_pipelines.votes.scale import Scale
from moderation_pipelines.votes.window import window_votes

GOLD = "gold"
LEAVE_ONE_OUT = "leave_one_out_consensus"
KEY = ["rater_id", "policy"]
SHRINKAGE = 10.0
MIN_VOTES = 20
MIN_DAYS = 3


def rater_cards(votes: pl.LazyFrame, policies: Policies, day: date) -> pl.DataFrame:
    """The ``raters`` rows for a window ending on ``day``: one per named rater and policy, sorted.

    The reference is gold where the rater voted on any gold item; else the majority label of the *other* raters'
    votes on the item (tied or absent: not compared). ``accuracy_basis`` names which. Anonymous votes make no card
    but do count among the others.

    Confusion rates are shrunk towards those of all raters of the policy by ten pseudo-votes. Severity bias, drift
    (least-squares slope of being right over time, per week, robust error) and speed gap (accuracy on the slower half
    of one's votes minus the faster half) are against gold where the item has it, else the majority of the others:
    ``n_referred`` such votes. They have 95 % t intervals, and none below twenty votes. p-values of drift and of
    standing apart are Benjamini-Hochberg adjusted within the policy. No drift is told from fewer than three days or
    where one vote has half the leverage. Its standard error is HC3: MacKinnon & White (1985), Journal of Econometrics
    29, 305-325.
    """
    counting = window_votes(votes, policies).collect().lazy()
    given = counting.filter(pl.col("kind") == "vote")
    named = given.filter(pl.col("rater_id").is_not_null() & pl.col("is_current"))
    counted = given.filter(pl.col("is_current") & ~pl.col("is_abstain"))
    named_votes = _with_references(counted, authority_labels(counting)).filter(pl.col("rater_id").is_not_null())
    # In the order of delivery: sums of fractions depend on it in the last digit.
    referred = named_votes.sort("vote_row").collect()
    compared = _valued(referred.lazy(), policies)
    steady = _valued(referred.lazy().with_columns(reference=pl.coalesce("gold_label", "others")), policies)
    against_others = referred.lazy().filter(pl.col("others").is_not_null())
    cards = (
        named.group_by(KEY)
        .agg(
            pool=pl.col("pool").drop_nulls().sort().mode().sort().first(),
            n_votes=pl.len().cast(pl.Int64),
            n_abstain=pl.col("is_abstain").sum().cast(pl.Int64),
            median_seconds=pl.col("seconds").median(),
        )
        .join(
            compared.lazy()
            .group_by(KEY)
            .agg(
                n_compared=pl.len().cast(pl.Int64),
                n_right=pl.col("is_right").sum(),
                accuracy_basis=pl.col("basis").first(),
                bias=_too_many_flags().mean(),
                bias_se=pl.when(pl.len() >= MIN_VOTES).then(_standard_error(_too_many_flags())),
                bias_n=pl.len().cast(pl.Int64) + 1,
            ),
            on=KEY,
            how="left",
        )
        .join(
            against_others.group_by(KEY).agg(
                n_others=pl.len().cast(pl.Int64), n_as_others=(pl.col("label") == pl.col("others")).sum()
            ),
            on=KEY,
            how="left",
        )
        .join(_confusion(compared).lazy(), on=KEY, how="left")
        .join(steady.lazy().group_by(KEY).agg(n_referred=pl.len().cast(pl.Int64)), on=KEY, how="left")
        .join(_severity(steady), on=KEY, how="left")
        .join(_drift(steady), on=KEY, how="left")
        .join(_speed(steady), on=KEY, how="left")
        .join(_repeats(given), on=KEY, how="left")
        .join(_apart(counted, policies), on=KEY, how="left")
        .with_columns(
            pl.col("n_compared", "n_others", "n_referred", "n_repeats", "n_shared").fill_null(0), drop_date=pl.lit(day)
        )
        .sort("policy", "rater_id")
        .collect()
    )
    return RATERS.picked(
        cards.with_columns(
            *_rate(cards, "n_right", "n_compared", ("accuracy", "ci_low", "ci_high")),
            *_rate(cards, "n_as_others", "n_others", ("others_accuracy", "others_ci_low", "others_ci_high")),
            *_rate(cards, "n_same", "n_repeats", ("repeat_agreement", "repeat_low", "repeat_high")),
            *_around(cards, "bias", "bias_se", "bias_n", ("bias_low", "bias_high")),
            *_around(cards, "severity_bias", "severity_se", "severity_n", ("severity_low", "severity_high")),
            *_around(cards, "drift_per_week", "drift_se", "drift_n", ("drift_low", "drift_high")),
            *_around(cards, "speed_gap", "speed_se", "speed_n", ("speed_low", "speed_high")),
            _adjusted(cards, _p_values(cards, "drift_per_week", "drift_se", "drift_n"), "drift_p"),
            _adjusted(cards, cards["apart_p"].to_list(), "apart_p"),
        ).lazy()
    ).collect()


def _valued(votes: pl.LazyFrame, policies: Policies) -> pl.DataFrame:
    """Votes with a reference, what label and reference are worth, and whether the vote is right."""
    of_reference = {"label": "reference", "flags": "reference_flags", "degree": "reference_degree"}
    values = _label_values(policies)
    return (
        votes.filter(pl.col("reference").is_not_null())
        .join(values, on=["policy", "label"], how="left")
        .join(values.rename(of_reference), on=["policy", "reference"], how="left")
        .with_columns(is_right=(pl.col("label") == pl.col("reference")).cast(pl.Float64))
        .sort("vote_row")
        .collect()
    )


def _too_many_flags() -> pl.Expr:
    """1 where a vote flags and its reference does not, -1 the other way round, else 0."""
    return pl.col("flags").cast(pl.Int64) - pl.col("reference_flags").cast(pl.Int64)


def _label_values(policies: Policies) -> pl.LazyFrame:
    """Per policy and label: whether it flags, and its degree: severity where every label has one, else its rank on an
    ordered scale, else null."""
    rows = []
    for p in policies:
        severities = [label.severity for label in p.labels]
        for k, label in enumerate(p.labels):
            degree: float | None = None
            if all(s is not None for s in severities):
                degree = float(severities[k] or 0)
            elif p.scale != "nominal":
                degree = float(k)
            rows.append((p.id, label.id, label.violating, degree))
    schema = {"policy": pl.String, "label": pl.String, "flags": pl.Boolean, "degree": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row").lazy()


def _rate(cards: pl.DataFrame, right: str, n: str, names: tuple[str, str, str]) -> list[pl.Series]:
    """A share and the two ends of its Wilson interval, under the given names; null where n is 0."""
    pairs = cards.select(right, n).rows()
    intervals = [wilson_interval(k or 0, m) for k, m in pairs]
    columns = ([k / m if m else None for k, m in pairs], [i.low for i in intervals], [i.high for i in intervals])
    return [pl.Series(name, values, dtype=pl.Float64) for name, values in zip(names, columns, strict=True)]


def _around(cards: pl.DataFrame, value: str, se: str, n: str, names: tuple[str, str]) -> list[pl.Series]:
    """The two ends of value +- t x se."""
    found: list[Interval] = [
        UNDEFINED if v is None or s is None else t_interval(v, s, m - 2, low=-np.inf, high=np.inf)
        for v, s, m in cards.select(value, se, n).iter_rows()
    ]
    ends = ([i.low for i in found], [i.high for i in found])
    return [pl.Series(name, values, dtype=pl.Float64) for name, values in zip(names, ends, strict=True)]


def _p_values(cards: pl.DataFrame, value: str, se: str, n: str) -> list[float | None]:
    from scipy.special import stdtr

    rows = cards.select(value, se, n).iter_rows()
    return [None if v is None or not s else float(2 * stdtr(m - 2, -abs(v) / s)) for v, s, m in rows]


def _adjusted(cards: pl.DataFrame, p_values: list[float | None], name: str) -> pl.Series:
    """Benjamini-Hochberg within each policy."""
    out: list[float | None] = [None] * cards.height
    of = cards["policy"].to_list()
    for policy in set(of):
        places = [k for k, p in enumerate(of) if p == policy]
        for k, p in zip(places, benjamini_hochberg([p_values[k] for k in places]), strict=True):
            out[k] = p
    return pl.Series(name, out, dtype=pl.Float64)


def _with_references(counted: pl.LazyFrame, authority: pl.LazyFrame) -> pl.LazyFrame:
    """Votes with columns reference (null: none) and basis, one basis per rater x policy, and others: the majority of
    the other raters (null: tied or none)."""
    item = ["item_id", "policy"]
    tally = counted.group_by(*item, "label").agg(votes=pl.len().cast(pl.Int64))
    mine = (
        counted.with_row_index("vote_row")
        .select("vote_row", "rater_id", *item, "label")
        .join(tally.rename({"label": "other_label"}), on=item, how="inner")
        .with_columns(votes=pl.col("votes") - (pl.col("label") == pl.col("other_label")))
        .filter(pl.col("votes") > 0)
    )
    leave_one_out = (
        mine.with_columns(top=pl.col("votes").max().over("vote_row"))
        .filter(pl.col("votes") == pl.col("top"))
        .group_by("vote_row")
        .agg(tops=pl.len(), others=pl.col("other_label").first())
        .filter(pl.col("tops") == 1)
        .select("vote_row", "others")
    )
    gold = authority.select(*item, "gold_label").filter(pl.col("gold_label").is_not_null())
    joined = (
        counted.with_row_index("vote_row")
        .join(leave_one_out, on="vote_row", how="left")
        .join(gold, on=item, how="left")
        .with_columns(has_gold=pl.col("gold_label").is_not_null().any().over(KEY))
    )
    return joined.with_columns(
        reference=pl.when("has_gold").then("gold_label").otherwise("others"),
        basis=pl.when("has_gold").then(pl.lit(GOLD)).otherwise(pl.lit(LEAVE_ONE_OUT)),
    )


def _confusion(compared: pl.DataFrame) -> pl.DataFrame:
    """Per rater the votes by reference and label, with shrunk rates: every label anyone gave to a reference met."""
    cell = ["policy", "reference", "label"]
    counts = compared.lazy().group_by("rater_id", *cell).agg(n=pl.len().cast(pl.Int64))
    of_all = counts.group_by(cell).agg(pl.col("n").sum())
    rates = of_all.with_columns(rate_of_all=pl.col("n") / pl.col("n").sum().over("policy", "reference")).drop("n")
    met = counts.group_by(*KEY, "reference").agg(of_rater=pl.col("n").sum())
    cells = (
        met.join(rates, on=["policy", "reference"])
        .join(counts, on=["rater_id", *cell], how="left")
        .with_columns(pl.col("n").fill_null(0))
        .with_columns(
            rate=(pl.col("n") + SHRINKAGE * pl.col("rate_of_all")) / (pl.col("of_rater") + SHRINKAGE),
        )
        .sort(*KEY, "reference", "label")
        .group_by(KEY, maintain_order=True)
        .agg(confusion=pl.struct("reference", "label", "n", "rate"))
    )
    return cells.collect()


def _standard_error(x: pl.Expr) -> pl.Expr:
    """Standard error of a mean of whole numbers, from sums that are exact whatever their order."""
    n = x.count()
    return ((x**2).sum() - x.sum() ** 2 / n).clip(0).truediv(n * (n - 1)).sqrt()


def _severity(referred: pl.DataFrame) -> pl.LazyFrame:
    off = pl.col("degree") - pl.col("reference_degree")
    return (
        referred.lazy()
        .filter(off.is_not_null())
        .group_by(KEY, maintain_order=True)
        .agg(
            severity_bias=off.mean(),
            severity_se=pl.when(pl.len() >= MIN_VOTES).then(_standard_error(off)),
            severity_n=pl.len().cast(pl.Int64) + 1,
        )
    )


def _drift(referred: pl.DataFrame) -> pl.LazyFrame:
    """Slope of being right over time, per week. Rows only where votes and days are enough to tell."""
    made = pl.coalesce("labeled_at", pl.col("drop_date").cast(pl.Datetime("us", "UTC")))
    x = pl.col("weeks") - pl.col("weeks").mean()
    y = pl.col("is_right") - pl.col("is_right").mean()
    spread = (x**2).sum()
    slope = (x * y).sum() / spread
    leverage = 1 / pl.len() + x**2 / spread
    return (
        referred.lazy()
        .with_columns(weeks=made.dt.epoch("s") / (7 * 86400), day=made.dt.date())
        .group_by(KEY, maintain_order=True)
        .agg(
            drift_n=pl.len().cast(pl.Int64),
            days=pl.col("day").n_unique(),
            leverage=leverage.max(),
            drift_per_week=slope,
            drift_se=(x * (y - slope * x) / (1 - leverage)).pow(2).sum().sqrt() / spread,
        )
        .filter((pl.col("drift_n") >= MIN_VOTES) & (pl.col("days") >= MIN_DAYS) & (pl.col("leverage") < 0.5))
        .drop("days", "leverage")
    )


def _speed(referred: pl.DataFrame) -> pl.LazyFrame:
    """Accuracy on the slower half of a rater's votes minus that on the faster half, votes at the median left out."""
    seconds = pl.col("seconds")
    slow, fast = seconds > seconds.median(), seconds < seconds.median()
    right = pl.col("is_right")

    def error(half: pl.Expr) -> pl.Expr:
        return _standard_error(right.filter(half)) ** 2

    return (
        referred.lazy()
        .filter(seconds.is_not_null())
        .group_by(KEY, maintain_order=True)
        .agg(
            speed_n=(slow | fast).sum().cast(pl.Int64),
            speed_gap=right.filter(slow).mean() - right.filter(fast).mean(),
            speed_se=(error(slow) + error(fast)).sqrt(),
            smaller=pl.min_horizontal(slow.sum(), fast.sum()),
        )
        .filter(pl.col("smaller") >= MIN_VOTES / 2)
        .drop("smaller")
    )


def _repeats(given: pl.LazyFrame) -> pl.LazyFrame:
    """Items a rater voted on more than once, and how often the votes agree (mean share of agreeing pairs, summed)."""
    n = pl.col("n").sum()
    return (
        given.filter(pl.col("rater_id").is_not_null() & ~pl.col("is_abstain"))
        .group_by(*KEY, "item_id", "label")
        .agg(n=pl.len().cast(pl.Float64))
        .group_by(*KEY, "item_id")
        .agg(votes=n, same=(pl.col("n") * (pl.col("n") - 1)).sum() / (n * (n - 1)))
        .filter(pl.col("votes") >= 2)
        .sort(*KEY, "item_id")
        .group_by(KEY)
        .agg(n_repeats=pl.len().cast(pl.Int64), n_same=pl.col("same").sum())
    )


def _apart(counted: pl.LazyFrame, policies: Policies) -> pl.LazyFrame:
    """How far raters agree with the others. The anonymous votes of an item count as a rater each."""
    held = counted.select("item_id", "policy", "label", rater_id=_one_each("rater_id")).collect()
    frames = [
        raters_apart(held.filter(pl.col("policy") == p.id), Scale.of(p)).with_columns(policy=pl.lit(p.id))
        for p in policies
        if held.filter(pl.col("policy") == p.id).height
    ]
    empty = pl.DataFrame(schema={**APART_SCHEMA, "policy": pl.String})
    return (pl.concat(frames) if frames else empty).lazy()


def _one_each(rater: str) -> pl.Expr:
    return pl.coalesce(rater, pl.format("\x00{}", pl.int_range(pl.len())))
