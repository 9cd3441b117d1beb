"""Judges against each other, and releases against each other, on the items they share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from itertools import combinations

import numpy as np
import polars as pl

from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.metrics.daily import sliced_items, slices
from moderation_pipelines.metrics.paired import Difference, paired_differences
from moderation_pipelines.metrics.tables import CHOSEN_BY_LABEL, COMPARISONS, SLICES, UNLIKE, unlike_name
from moderation_pipelines.metrics.unlike import Learners, too_few
from moderation_pipelines.stats.arrays import FloatArray
from moderation_pipelines.stats.intervals import UNDEFINED, seed_from
from moderation_pipelines.stats.multiplicity import benjamini_hochberg
from moderation_pipelines.stats.paired import mcnemar_exact

Row = dict[str, object]
_NONE = Difference(np.nan, np.nan, np.nan, UNDEFINED)
_OF_VIOLATING, _OF_ONE_LABEL = ("precision", "recall", "f1"), ("recall", "fpr")


def comparisons_table(
    scores: pl.DataFrame,
    releases: Sequence[Release],
    day: date,
    replicates: int = 1000,
    learners: Learners | None = None,
) -> pl.DataFrame:
    """The ``comparisons`` rows of ``day``: every two judges on every release, by slice. One judge: no rows.

    Where one of them learnt something first on the items unlike anything either learnt, null where fewer than 30 are
    left.
    """
    frames = []
    for release in releases:
        mine = scores.filter((pl.col("eval_set") == release.name) & (pl.col("version") == release.version))
        pairs = [
            _judges(mine, release, a, b, replicates, learners)
            for a, b in combinations(sorted(mine["judge_id"].unique()), 2)
        ]
        frames += [_adjusted(pl.concat(pairs))] if pairs else []
    if not frames:
        return COMPARISONS.empty()
    return COMPARISONS.picked(pl.concat(frames).with_columns(drop_date=pl.lit(day)).lazy()).collect()


def compare_judges(
    scores: pl.DataFrame,
    release: Release,
    judge_a: str,
    judge_b: str,
    replicates: int = 1000,
    learners: Learners | None = None,
) -> pl.DataFrame:
    """Two judges on the items of a release both gave a verdict on. Columns of ``comparisons`` but the day.

    The p-value stands with accuracy, which is what it tests. Precision, recall and F1 are null in a slice in which
    nothing violates.
    """
    return _adjusted(_judges(scores, release, judge_a, judge_b, replicates, learners))


def _judges(
    scores: pl.DataFrame, release: Release, judge_a: str, judge_b: str, replicates: int, learners: Learners | None
) -> pl.DataFrame:
    verdicts = scores.filter(pl.col("outcome") == "verdict")
    joined = _items(release)
    for judge, name in ((judge_a, "first"), (judge_b, "second")):
        of = verdicts.filter(pl.col("judge_id") == judge).select("item_id", pl.col("violating").alias(name))
        joined = joined.join(of, on="item_id")
    joined = joined.with_columns(truth_first="violating", truth_second="violating")
    named = {"eval_set": release.name, "version": release.version, "policy": release.policy}
    seen = learners.seen([judge_a, judge_b], release) if learners is not None else None
    return _compared(joined, {**named, "judge_a": judge_a, "judge_b": judge_b}, replicates, seen)


def compare_releases(
    scores: pl.DataFrame,
    old: Release,
    new: Release,
    judge: str,
    replicates: int = 1000,
    learners: Learners | None = None,
) -> pl.DataFrame:
    """One judge on two releases, on the items in both that it gave a verdict on in both; weights of the new one.

    Each release has its own reference labels, so this shows what relabelling and re-asking changed, not what items came
    and went. Columns as ``comparisons``, with judge_a and judge_b the judge at the old and the new release.
    """
    verdicts = scores.filter((pl.col("outcome") == "verdict") & (pl.col("judge_id") == judge))
    joined = _items(new).rename({"violating": "truth_second"})
    before = _items(old).select("item_id", truth_first="violating")
    joined = joined.join(before, on="item_id")
    for release, name in ((old, "first"), (new, "second")):
        of = verdicts.filter((pl.col("eval_set") == release.name) & (pl.col("version") == release.version))
        joined = joined.join(of.select("item_id", pl.col("violating").alias(name)), on="item_id")
    named = {"eval_set": new.name, "version": new.version, "policy": new.policy}
    pair = {"judge_a": f"{judge} {old.version}", "judge_b": f"{judge} {new.version}"}
    learnt = [s for r in (old, new) if learners is not None and (s := learners.seen([judge], r)) is not None]
    return _adjusted(_compared(joined, {**named, **pair}, replicates, pl.concat(learnt).unique() if learnt else None))


def _adjusted(rows: pl.DataFrame) -> pl.DataFrame:
    """The rows with ``p_adjusted``: over all pairs of judges and slices among them, all items and those unlike anything
    learnt apart."""
    unlike = rows["slice"].str.starts_with(UNLIKE)
    adjusted: list[float | None] = [None] * rows.height
    for kind in (unlike, ~unlike):
        places = kind.arg_true().to_list()
        found = benjamini_hochberg(rows["p_value"].filter(kind).to_list())
        for k, p in zip(places, found, strict=True):
            adjusted[k] = p
    return rows.with_columns(p_adjusted=pl.Series(adjusted, dtype=pl.Float64))


def _items(release: Release) -> pl.DataFrame:
    return sliced_items(release).select("item_id", "violating", "weight", "cluster", *SLICES)


def _parts(joined: pl.DataFrame, seen: pl.Series | None) -> Iterator[tuple[str, str | None, pl.DataFrame, str]]:
    """(slicing, its value, items, name of the slice): first of the items unlike anything learnt, then of all."""
    parts = list(slices(joined.sort("item_id"), least=2))
    if seen is not None:
        for slicing, value, part in parts:
            yield slicing, value, part.filter(~pl.col("item_id").is_in(seen.implode())), unlike_name(slicing)
    yield from ((slicing, value, part, slicing) for slicing, value, part in parts)


def _compared(joined: pl.DataFrame, named: Row, replicates: int, seen: pl.Series | None = None) -> pl.DataFrame:
    rows: list[Row] = []
    for slicing, value, part, name in _parts(joined, seen):
        why_null = too_few(part.height, "either") if name != slicing else None
        columns = ("truth_first", "truth_second", "first", "second", "weight")
        truth_a, truth_b, first, second, weight = (_floats(part, c) for c in columns)
        test = mcnemar_exact((first == truth_a).astype(np.float64), (second == truth_b).astype(np.float64))
        seed = seed_from("compare", *named.values(), name, value)
        for metric, d in paired_differences(
            truth_a, first, second, weight, replicates, seed, _clusters(part), truth_b
        ).items():
            if metric in _OF_VIOLATING and not (truth_a.any() and truth_b.any()):
                d = _NONE
            if slicing in CHOSEN_BY_LABEL and metric not in _OF_ONE_LABEL:
                d = _NONE
            if why_null is not None:
                d = _NONE
            rows.append(
                named
                | {
                    "slice": name,
                    "slice_value": value,
                    "metric": metric,
                    "value_a": _or_null(d.first),
                    "value_b": _or_null(d.second),
                    "difference": _or_null(d.difference),
                    "ci_low": d.interval.low,
                    "ci_high": d.interval.high,
                    "n": part.height,
                    "n_only_a": test.only_first,
                    "n_only_b": test.only_second,
                    "p_value": d.p_value if metric == "accuracy" else None,
                    "interval": d.how if d.interval.low is not None else None,
                    "note": why_null,
                }
            )
    schema = {k: v for k, v in COMPARISONS.schema.items() if k not in ("p_adjusted", "drop_date")}
    return pl.DataFrame(rows, schema=schema)


def _clusters(part: pl.DataFrame) -> np.ndarray | None:
    """What items are clustered by; None where each stands alone."""
    keys = part["cluster"]
    return None if keys.null_count() or keys.n_unique() == part.height else keys.to_numpy()


def _floats(part: pl.DataFrame, column: str) -> FloatArray:
    return part[column].cast(pl.Float64).to_numpy()


def _or_null(value: float) -> float | None:
    return None if np.isnan(value) else value
