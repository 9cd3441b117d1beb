"""Agreement for any slicing: one call, one row per coefficient and slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from moderation_pipelines.agreement.coefficients import Metric, krippendorff_alpha, percent_agreement
from moderation_pipelines.agreement.patterns import FloatArray, Patterns, patterns_from_counts
from moderation_pipelines.consensus.votes import counted_votes, vote_counts, window_votes
from moderation_pipelines.metrics.intervals import percentile_interval, seed_from
from moderation_pipelines.policies.policy import Policies, Policy
from moderation_pipelines.tables.schema import AGREEMENT

SLICES = ("locale", "pool", "guideline")
UNKNOWN = "unknown"
MIN_ITEMS_FOR_INTERVAL = 10
COEFFICIENT_SCHEMA = {
    "slice": pl.String,
    "slice_value": pl.String,
    "coefficient": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "n_items": pl.Int64,
    "n_raters": pl.Int64,
    "n_votes": pl.Int64,
    "note": pl.String,
}


@dataclass(frozen=True)
class Scale:
    """What agreement needs to know of a label set.

    ``labels`` in order; ``kind`` nominal, ordinal or interval; ``positions`` on the scale (None: ranks);
    ``violating``: for each label whether it violates, for the «violating or not» variants (None: left out).
    """

    labels: tuple[str, ...]
    kind: Metric = "nominal"
    positions: tuple[float, ...] | None = None
    violating: tuple[bool, ...] | None = None

    @staticmethod
    def of(policy: Policy) -> Scale:
        positions = tuple(float(i) for i in policy.label_ids) if policy.scale == "interval" else None
        return Scale(policy.label_ids, policy.scale, positions, tuple(label.violating for label in policy.labels))


def agreement(
    votes: pl.LazyFrame, scale: Scale | Metric, by: Sequence[str] = (), replicates: int = 1000, seed: object = 0
) -> pl.DataFrame:
    """Agreement coefficients over all votes and by each column of ``by``.

    ``votes`` has one row per counted vote: item_id, label, rater_id and the ``by`` columns. ``scale`` is a label set,
    or just "nominal", "ordinal" or "interval": then the labels are those of the votes, sorted (by value if numbers).
    Items with fewer than two votes (in the slice) do not count.

    Columns: slice, slice_value, coefficient, value, ci_low, ci_high, n_items, n_raters, n_votes, note. Undefined
    values are null and the note says why. A label that is not on the scale is a ValueError. Intervals are 95 %
    percentile bootstrap by item, seeded; below ten items a bootstrap only repeats what it has, so there is none and
    the note says so.
    """
    if isinstance(scale, str):
        scale = _scale_of_votes(votes, scale)
    stray = votes.filter(~pl.col("label").is_in(list(scale.labels))).select("label").unique().head(5).collect()
    if stray.height:
        raise ValueError(f"labels not on the scale: {stray['label'].to_list()}; known: {list(scale.labels)}")
    rows: list[dict[str, object]] = []
    for slice_name, slice_value, sliced in _slices(votes, by):
        counts = vote_counts(sliced, scale.labels).collect()
        patterns = patterns_from_counts(counts.lazy(), len(scale.labels))
        paired = counts.filter(pl.sum_horizontal(pl.exclude("item_id")) >= 2).select("item_id")
        raters = sliced.join(paired.lazy(), on="item_id", how="semi").select(
            named=pl.col("rater_id").drop_nulls().n_unique(), anonymous=pl.col("rater_id").null_count()
        )
        named, anonymous = raters.collect().row(0)
        common = {
            "slice": slice_name,
            "slice_value": slice_value,
            "n_items": patterns.n_items,
            "n_raters": None if anonymous else named,
            "n_votes": patterns.n_votes,
        }
        seeds = seed_from(seed, slice_name, slice_value)
        for name, value, low, high, note in _coefficients(patterns, scale, replicates, seeds):
            rows.append({**common, "coefficient": name, "value": value, "ci_low": low, "ci_high": high, "note": note})
    return pl.DataFrame(rows, schema=COEFFICIENT_SCHEMA)


def _scale_of_votes(votes: pl.LazyFrame, kind: Metric) -> Scale:
    labels = votes.select(pl.col("label").unique()).collect()["label"].drop_nulls().to_list()
    try:
        ordered = sorted(labels, key=float)
    except ValueError:
        if kind == "interval":
            raise ValueError("labels of an interval scale must be numbers") from None
        return Scale(tuple(sorted(labels)), kind)
    return Scale(tuple(ordered), kind, tuple(float(x) for x in ordered) if kind == "interval" else None)


def _slices(votes: pl.LazyFrame, by: Sequence[str]) -> Iterator[tuple[str, str | None, pl.LazyFrame]]:
    yield "all", None, votes
    for column in by:
        filled = votes.with_columns(pl.col(column).fill_null(UNKNOWN))
        values = filled.select(pl.col(column).unique()).collect()[column].sort().to_list()
        for value in values:
            yield column, value, filled.filter(pl.col(column) == value)


def _coefficients(
    patterns: Patterns, scale: Scale, replicates: int, seed: int
) -> Iterator[tuple[str, float | None, float | None, float | None, str | None]]:
    """(coefficient, value, ci_low, ci_high, note) for each coefficient of one slice."""
    positions = None if scale.positions is None else np.array(scale.positions)
    point = patterns.items[None, :]
    draws = patterns.resampled(replicates, seed)
    binary = None
    if scale.violating is not None:
        binary = patterns.merged(np.array(scale.violating, dtype=np.int64), 2)
    metrics: list[Metric] = ["nominal"] if scale.kind == "nominal" else ["nominal", "ordinal", "interval"]

    def values(multiplicity: FloatArray) -> dict[str, FloatArray]:
        out = {"percent_agreement": percent_agreement(patterns, multiplicity)}
        alphas = {m: krippendorff_alpha(patterns, multiplicity, m, positions) for m in metrics}
        out["krippendorff_alpha"] = alphas[scale.kind]
        out |= {f"krippendorff_alpha_{m}": a for m, a in alphas.items()}
        if binary is not None and len(scale.labels) > 2:
            out["percent_agreement_violating"] = percent_agreement(binary, multiplicity)
            out["krippendorff_alpha_violating"] = krippendorff_alpha(binary, multiplicity, "nominal")
        return out

    points, samples = values(point), values(draws)
    agreeing = float(points["percent_agreement"][0])
    for name, array in points.items():
        value = float(array[0])
        if np.isnan(value):
            yield name, None, None, None, _why_undefined(patterns)
            continue
        if patterns.n_items < MIN_ITEMS_FOR_INTERVAL:
            yield name, value, None, None, f"no interval: fewer than {MIN_ITEMS_FOR_INTERVAL} items"
            continue
        interval = percentile_interval(samples[name])
        yield name, value, interval.low, interval.high, _caution(name, value, agreeing, patterns)


def _why_undefined(patterns: Patterns) -> str:
    if patterns.n_items == 0:
        return "undefined: no item has two or more votes"
    return "undefined: every vote is the same label, so there is no variation to agree on"


def _caution(name: str, value: float, agreeing: float, patterns: Patterns) -> str | None:
    if "alpha" in name and agreeing >= 0.9 and value < 0.5:
        share = patterns.items @ patterns.counts
        return (
            f"raters agree on {agreeing:.1%} of pairs, but {share.max() / share.sum():.1%} of votes are one label; "
            "alpha falls when a class is rare, so read it beside percent agreement"
        )
    return None


def agreement_table(
    votes: pl.LazyFrame, content: pl.LazyFrame, policies: Policies, start: date, end: date, replicates: int
) -> pl.DataFrame:
    """The ``agreement`` rows for the window ``start`` to ``end``: every policy, all and by locale, pool, guideline.

    ``votes`` and ``content`` are the window's rows of those tables. A vote's locale is its item's; votes on items
    whose content did not arrive in the window stand under locale «unknown». A policy without votes gives its rows
    with null values and n 0.
    """
    locales = content.sort("drop_date").unique("item_id", keep="last").select("item_id", "locale")
    counted = (
        counted_votes(window_votes(votes, policies))
        .join(locales, on="item_id", how="left")
        .select("item_id", "policy", "label", "rater_id", *SLICES)
        .collect()
    )
    frames = []
    for policy in policies:
        mine = counted.lazy().filter(pl.col("policy") == policy.id)
        table = agreement(mine, Scale.of(policy), SLICES, replicates, policy.id)
        frames.append(
            table.with_columns(
                policy=pl.lit(policy.id),
                window_start=pl.lit(start),
                window_end=pl.lit(end),
                drop_date=pl.lit(end),
            )
        )
    return AGREEMENT.conform(pl.concat(frames).lazy()).collect() if frames else AGREEMENT.empty()
