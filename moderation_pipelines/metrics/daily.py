"""The metrics table: every judge on every release, by slice, with intervals, n and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import numpy as np
import polars as pl

from moderation_pipelines.consensus.purity import violating_probability
from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.metrics.classification import confusion_sums
from moderation_pipelines.metrics.metric import (
    METRIC_KINDS,
    Judged,
    Metric,
    Probabilities,
    denominator,
    label_metrics,
    of_probabilities,
    of_sums,
    probability_metrics,
)
from moderation_pipelines.metrics.tables import METRICS
from moderation_pipelines.stats.arrays import FloatArray
from moderation_pipelines.stats.bootstrap import bootstrap_weights
from moderation_pipelines.stats.intervals import (
    UNDEFINED,
    Interval,
    percentile_interval,
    seed_from,
    wilson_interval,
)

SLICES = ("locale", "surface", "severity", "label_confidence")
CONFIDENCE_ORDER = ("gold", "adjudication", "0.95 to 1", "0.80 to 0.95", "below 0.80")
MIN_ITEMS_TO_RESAMPLE = 10
NO_INTERVAL = "no interval: too few items, or resampling them gives the same value every time"


def label_confidence(method: pl.Expr, probability: pl.Expr) -> pl.Expr:
    """The slice of an item by how sure its reference label is."""
    return (
        pl.when(method == "gold")
        .then(pl.lit("gold"))
        .when(method == "adjudication")
        .then(pl.lit("adjudication"))
        .when(probability >= 0.95)
        .then(pl.lit("0.95 to 1"))
        .when(probability >= 0.8)
        .then(pl.lit("0.80 to 0.95"))
        .otherwise(pl.lit("below 0.80"))
    )


@dataclass(frozen=True)
class Scored:
    """One slice as arrays, one entry per item. ``flagged`` and ``p`` are NaN where missing."""

    truth: FloatArray
    flagged: FloatArray
    p: FloatArray
    weight: FloatArray
    p_label: FloatArray
    stratum: np.ndarray | None = None

    @staticmethod
    def of(frame: pl.DataFrame) -> Scored:
        floats = frame.select(
            truth=pl.col("violating").cast(pl.Float64),
            flagged=pl.when(pl.col("outcome") == "verdict").then(pl.col("flagged").cast(pl.Float64)),
            p=pl.when(pl.col("outcome") == "verdict").then(pl.col("p_violating")),
            weight=pl.col("weight"),
            p_label=pl.col("p_label"),
        ).fill_null(float("nan"))
        truth, flagged, p, weight, p_label = (floats[c].to_numpy() for c in floats.columns)
        stratum = frame["stratum"].to_numpy() if frame["stratum"].null_count() == 0 else None
        return Scored(truth, flagged, p, weight, p_label, stratum)

    def where(self, mask: np.ndarray) -> Scored:
        stratum = None if self.stratum is None else self.stratum[mask]
        return Scored(
            self.truth[mask], self.flagged[mask], self.p[mask], self.weight[mask], self.p_label[mask], stratum
        )

    def samples(self, replicates: int, seed: int) -> Iterator[FloatArray]:
        """Weights of bootstrap samples of items, samples x items; within strata where they were fixed beforehand."""
        return bootstrap_weights(len(self.truth), replicates, seed, self.weight, self.stratum)

    def samples_with_labels(self, replicates: int, seed: int) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Bootstrap samples with the reference labels drawn again from their posterior: (weights, truth)."""
        generator = np.random.default_rng(seed + 7)
        for weights in self.samples(replicates, seed):
            yield weights, (generator.random(weights.shape) < self.p_label).astype(np.float64)

    @property
    def judged(self) -> Judged:
        """What metrics see of it."""
        return Judged(self.truth, self.flagged, self.weight)

    @property
    def labels_are_sure(self) -> bool:
        return bool(np.isin(self.p_label, (0.0, 1.0)).all())


def metrics_table(
    scores: pl.DataFrame,
    releases: Sequence[Release],
    day: date,
    replicates: int = 1000,
    invalid: Mapping[tuple[str, str, str], str] | None = None,
) -> pl.DataFrame:
    """The ``metrics`` rows of ``day``: every judge x release x slice in ``scores``, sorted.

    Values are weighted to the sampling frame. Where all weights are equal rates have Wilson intervals, F1 and kappa
    a bootstrap by item; where they differ all of them have Beta draws (:func:`_beta_sums`). Probability metrics
    bootstrap, within strata where the spec does not stratify by label. A second interval includes the uncertainty
    of the reference labels: each sample draws them from the consensus posterior, as if the judge knew no more of an
    item than its votes. Items without a verdict are in no denominator; their number and the worst-case bounds stand
    beside. ``invalid`` names runs (judge, eval set, version) with too many of them, and why: their values are null with
    that note, and only the bounds stand.
    """
    frames = []
    for release in releases:
        items = sliced_items(release)
        mine = scores.filter((pl.col("eval_set") == release.name) & (pl.col("version") == release.version))
        for judge_id in sorted(mine["judge_id"].unique()):
            judged = mine.filter(pl.col("judge_id") == judge_id)
            joined = items.join(
                judged.select("item_id", "outcome", "p_violating", flagged="violating"), on="item_id", how="left"
            )
            for name, value, part in slices(joined):
                seed = seed_from(release.name, judge_id, name, value)
                rows = [
                    {
                        "eval_set": release.name,
                        "version": release.version,
                        "policy": release.policy,
                        "judge_id": judge_id,
                        "slice": name,
                        "slice_value": value,
                        **row,
                    }
                    for row in slice_metrics(Scored.of(part), replicates, seed)
                ]
                frames.append(pl.DataFrame(rows, schema={k: METRICS.schema[k] for k in rows[0]}))
    if not frames:
        return METRICS.empty()
    as_of = datetime.combine(day + timedelta(days=1), time(), UTC)
    table = _without_invalid(pl.concat(frames), invalid or {}).with_columns(as_of=pl.lit(as_of), drop_date=pl.lit(day))
    return METRICS.picked(table.lazy()).collect()


def _without_invalid(table: pl.DataFrame, invalid: Mapping[tuple[str, str, str], str]) -> pl.DataFrame:
    """Values and intervals of runs that do not count become null, with the reason as their note."""
    for (judge_id, eval_set, version), why in invalid.items():
        theirs = (pl.col("judge_id") == judge_id) & (pl.col("eval_set") == eval_set) & (pl.col("version") == version)
        numbers = ("value", "ci_low", "ci_high", "labels_ci_low", "labels_ci_high", "interval")
        table = table.with_columns(
            *(pl.when(~theirs).then(pl.col(c)).alias(c) for c in numbers),
            note=pl.when(theirs).then(pl.lit(why)).otherwise(pl.col("note")),
        )
    return table


def sliced_items(release: Release) -> pl.DataFrame:
    """A release's items with what metrics need of them: item_id, violating, weight, p_label (probability that the item
    violates), stratum (null unless strata were fixed beforehand) and the columns of SLICES."""
    items = release.items()
    return items.select(
        "item_id",
        "violating",
        "weight",
        "locale",
        "surface",
        severity=pl.col("severity").cast(pl.String),
        label_confidence=label_confidence(pl.col("method"), pl.col("probability")),
        p_label=pl.Series(violating_probability(items, release.violating_labels)),
        stratum=pl.col("stratum") if release.strata_are_fixed else pl.lit(None, dtype=pl.String),
    )


def slices(joined: pl.DataFrame, least: int = 1) -> Iterator[tuple[str, str | None, pl.DataFrame]]:
    """All rows, then those of each value of SLICES; of a slicing with fewer than ``least`` values none."""
    yield "all", None, joined
    for column in SLICES:
        filled = joined.with_columns(pl.col(column).fill_null("unknown"))
        values = sorted(filled[column].unique())
        for value in values if len(values) >= least else []:
            yield column, value, filled.filter(pl.col(column) == value)


def slice_metrics(scored: Scored, replicates: int, seed: int) -> list[dict[str, object]]:
    """All metrics of one slice: dicts with metric, value, ci_low, ci_high, interval, n, n_positive, n_missing, ...

    A metric that is undefined has a null value, its n, and a note that says why.
    """
    has_verdict = ~np.isnan(scored.flagged)
    judged = scored.where(has_verdict)
    n_missing = int((~has_verdict).sum())
    n_positive = int(judged.truth.sum())
    sums = confusion_sums(judged.weight[None, :], judged.truth, judged.flagged)
    points = {k: float(v[0]) for k, v in of_sums(sums).items()}
    draws = _replicates(judged, replicates, seed)
    labelled = None if judged.labels_are_sure else _label_replicates(judged, replicates, seed)
    out: list[dict[str, object]] = []
    known = label_metrics()
    for name, value in points.items():
        metric = known[name]
        mask = denominator(metric, judged.judged)
        n = int(mask.sum())
        interval, how = _interval(metric, value, judged.where(mask), draws)
        low, high = _worst_case(metric, scored)
        wider = _with_labels(interval, labelled, name, n)
        out.append(_row(metric, value, interval, wider, how, n, n_positive, n_missing, low, high))

    has_p = has_verdict & ~np.isnan(scored.p)
    if has_p.any():
        sure = scored.where(has_p)
        p_points, p_draws = _probability_points(sure), _probability_replicates(sure, replicates, seed)
        labelled = None if sure.labels_are_sure else _probability_label_replicates(sure, replicates, seed)
        n, n_positive, n_missing = len(sure.truth), int(sure.truth.sum()), int((~has_p).sum())
        for name, value in p_points.items():
            interval = _resampled(p_draws[name], n)
            wider = _with_labels(interval, labelled, name, n)
            out.append(
                _row(METRIC_KINDS[name], value, interval, wider, "bootstrap", n, n_positive, n_missing, None, None)
            )
    return out


def _with_labels(interval: Interval, labelled: dict[str, FloatArray] | None, metric: str, n: int) -> Interval:
    """The interval that includes label uncertainty: never narrower than the interval without it.

    Source: Rubin (1987), Multiple Imputation for Nonresponse in Surveys, chapter 3, as a bootstrap.
    """
    if labelled is None:
        return interval
    drawn = _resampled(labelled[metric], n)
    if drawn.low is None or drawn.high is None or interval.low is None or interval.high is None:
        return drawn
    return Interval(min(interval.low, drawn.low), max(interval.high, drawn.high))


def _row(
    metric: Metric,
    value: float,
    interval: Interval,
    with_labels: Interval,
    how: str,
    n: int,
    n_positive: int,
    n_missing: int,
    worst_low: float | None,
    worst_high: float | None,
) -> dict[str, object]:
    undefined = bool(np.isnan(value))
    return {
        "metric": metric.name,
        "value": None if undefined else value,
        "ci_low": None if undefined else interval.low,
        "ci_high": None if undefined else interval.high,
        "labels_ci_low": None if undefined else with_labels.low,
        "labels_ci_high": None if undefined else with_labels.high,
        "interval": None if undefined or interval.low is None else how,
        "n": n,
        "n_positive": n_positive,
        "n_missing": n_missing,
        "worst_low": worst_low,
        "worst_high": worst_high,
        "note": _why_undefined(metric, n) if undefined else NO_INTERVAL if interval.low is None else None,
    }


def _why_undefined(metric: Metric, n: int) -> str:
    return "undefined: " + (metric.undefined or ("no item has a verdict" if n == 0 else "no data"))


def _interval(metric: Metric, value: float, part: Scored, draws: dict[str, FloatArray]) -> tuple[Interval, str]:
    """``draws``: bootstrap draws of what is no rate where all weights are equal, else Beta draws of every metric."""
    if np.isnan(value):
        return UNDEFINED, ""
    if any(known.is_rate and name in draws for name, known in label_metrics().items()):
        found = percentile_interval(draws[metric.name])
        if found.low is None or found.high is None:
            return UNDEFINED, ""
        return Interval(min(found.low, value), max(found.high, value)), "beta"
    if metric.is_rate:
        n = float(len(part.weight))
        return wilson_interval(value * n, n), "wilson"
    interval = _resampled(draws[metric.name], len(part.truth))
    if metric.fallback is not None and interval.low is None:
        how, by_formula = metric.fallback
        return by_formula(part.judged), how
    return interval, "bootstrap"


def _resampled(draws: FloatArray, n: int) -> Interval:
    """Percentile interval of bootstrap samples; undefined where resampling says nothing: few items, or no variation."""
    interval = percentile_interval(draws)
    return UNDEFINED if n < MIN_ITEMS_TO_RESAMPLE or interval.low == interval.high else interval


def _replicates(judged: Scored, replicates: int, seed: int) -> dict[str, FloatArray]:
    """Draws of the metrics that have no formula for their interval: see :func:`_interval`."""
    if len(judged.weight) and np.ptp(judged.weight) > 1e-9 * judged.weight.max():
        return of_sums(_beta_sums(judged, replicates, seed))
    chunks: list[dict[str, FloatArray]] = []
    for weights in judged.samples(replicates, seed):
        metrics = of_sums(confusion_sums(weights, judged.truth, judged.flagged))
        chunks.append({k: v for k, v in metrics.items() if not METRIC_KINDS[k].is_rate})
    return {k: np.concatenate([c[k] for c in chunks]) for k in chunks[0]}


def _beta_sums(judged: Scored, replicates: int, seed: int) -> dict[str, FloatArray]:
    """Draws of the weighted confusion sums where weights differ, one group of items per weight and truth.

    The share flagged of each group is drawn from a Beta posterior, the sizes of the groups from a Dirichlet. A
    bootstrap would repeat the zeros it has seen: no flagged item among the heavy ones does not mean that there are
    none. Of each truth the prior is Jeffreys', one pseudo-item, spread over the groups by their weight: where it
    matters it is there.
    Source: Gelman et al. (2013), Bayesian Data Analysis, 3rd ed., section 2.8; Rubin (1981), Annals of Statistics 9,
    130-134 (the Bayesian bootstrap).
    """
    generator = np.random.default_rng(seed)
    key = np.stack([judged.truth, np.round(judged.weight, 9)], axis=1)
    groups, place = np.unique(key, axis=0, return_inverse=True)
    truth, weight = groups[:, 0], groups[:, 1]
    n = np.bincount(place.ravel(), minlength=len(groups)).astype(np.float64)
    flagged = np.bincount(place.ravel(), weights=judged.flagged, minlength=len(groups))
    mass = n * weight
    of_truth = np.where(truth == 1, mass[truth == 1].sum(), mass[truth == 0].sum())
    prior = np.maximum(0.5 * mass / np.maximum(of_truth, 1e-300), 1e-6)
    share = generator.beta(flagged + prior, n - flagged + prior, size=(replicates, len(groups)))
    size = generator.dirichlet(n, size=replicates) * n.sum() * weight
    positive = truth == 1
    return {
        "tp": (size * share)[:, positive].sum(axis=1),
        "fn": (size * (1 - share))[:, positive].sum(axis=1),
        "fp": (size * share)[:, ~positive].sum(axis=1),
        "tn": (size * (1 - share))[:, ~positive].sum(axis=1),
    }


def _label_replicates(judged: Scored, replicates: int, seed: int) -> dict[str, FloatArray]:
    """Every label metric over samples of items whose labels are drawn again."""
    chunks = [
        of_sums(confusion_sums(weights, truth, judged.flagged))
        for weights, truth in judged.samples_with_labels(replicates, seed)
    ]
    return {k: np.concatenate([c[k] for c in chunks]) for k in chunks[0]}


def _probability_label_replicates(sure: Scored, replicates: int, seed: int) -> dict[str, FloatArray]:
    chunks = [
        of_probabilities(Probabilities(weights, truth, sure.p))
        for weights, truth in sure.samples_with_labels(replicates, seed + 1)
    ]
    return {k: np.concatenate([c[k] for c in chunks]) for k in chunks[0]}


def _probability_points(sure: Scored) -> dict[str, float]:
    found = of_probabilities(Probabilities(sure.weight[None, :], sure.truth, sure.p))
    return {k: float(v[0]) for k, v in found.items()}


def _probability_replicates(sure: Scored, replicates: int, seed: int) -> dict[str, FloatArray]:
    chunks = [
        of_probabilities(Probabilities(weights, sure.truth, sure.p)) for weights in sure.samples(replicates, seed + 1)
    ]
    draws = {k: np.concatenate([c[k] for c in chunks]) for k in chunks[0]}
    # Resampling inflates some (every bin of a calibration error gains noise): take the bootstrap's estimate out.
    points = _probability_points(sure)
    for name, metric in probability_metrics().items():
        if metric.is_inflated:
            draws[name] = np.clip(draws[name] - (np.nanmean(draws[name]) - points[name]), 0.0, 1.0)
    return draws


def _worst_case(metric: Metric, scored: Scored) -> tuple[float | None, float | None]:
    """The rate if every missing outcome had gone one way, and the other. Null for metrics that are not such rates."""
    if not metric.worst_case or metric.of_sums is None:
        return None, None
    missing = np.isnan(scored.flagged)
    values = []
    for guess in (scored.truth, 1 - scored.truth, np.ones_like(scored.truth), np.zeros_like(scored.truth)):
        flagged = np.where(missing, guess, scored.flagged)
        found = float(metric.of_sums(confusion_sums(scored.weight[None, :], scored.truth, flagged))[0])
        if not np.isnan(found):
            values.append(found)
    return (min(values), max(values)) if values else (None, None)
