"""All metrics of one slice, with intervals, n and what is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from moderation_pipelines.metrics.classification import confusion_sums
from moderation_pipelines.metrics.costs import EXPECTED_COST, cost_per_item
from moderation_pipelines.metrics.metric import (
    METRIC_KINDS,
    Estimate,
    Metric,
    Probabilities,
    denominator,
    label_metrics,
    of_probabilities,
    of_sums,
    probability_metrics,
)
from moderation_pipelines.metrics.scored import Scored
from moderation_pipelines.policies.policy import Costs
from moderation_pipelines.stats.arrays import FloatArray
from moderation_pipelines.stats.intervals import (
    UNDEFINED,
    Interval,
    around,
    effective_sample_size,
    holding_both,
    percentile_interval,
    stratified_share_interval,
    weights_differ,
    wilson_interval,
)
from moderation_pipelines.stats.ranking import MIN_PER_CLASS

MIN_ITEMS_TO_RESAMPLE = 10
NO_INTERVAL = "no interval: too few items, or resampling them gives the same value every time"
NO_COSTS = "no interval: fewer than ten items, or no item of one of the two classes"
CHOSEN_BY_LABEL = (
    "undefined: the slice is chosen by the reference label, so only rates of one label mean anything in it"
)
Draws = Mapping[str, FloatArray]
Row = dict[str, object]


@dataclass(frozen=True)
class Counted:
    """What stands behind a value. ``n``: items of its denominator; ``n_effective``: as many equally weighted ones."""

    n: int
    n_effective: float
    n_positive: int
    n_missing: int


def slice_metrics(
    scored: Scored,
    replicates: int,
    seed: int,
    chosen_by_label: bool = False,
    weigh_missing: bool = False,
    unlabelled: float = 0.0,
    costs: Costs | None = None,
) -> list[Row]:
    """All metrics of one slice: dicts with metric, value, ci_low, ci_high, interval, n, n_positive, n_missing, ...

    A metric that is undefined has a null value, its n, and a note that says why. ``chosen_by_label``: whether the slice
    holds one kind of label only, such as a severity; then only rates of that kind are defined. ``weigh_missing``: the
    verdicts of a stratum stand for its missing ones. ``unlabelled``: share of items that have no label and so are not
    in the release; bounds of prevalence. ``costs``: of errors; with them there is ``expected_cost``.
    """
    has_verdict = ~np.isnan(scored.flagged)
    judged = scored.weighted_for_missing(has_verdict) if weigh_missing else scored.where(has_verdict)
    n_missing, n_positive = int((~has_verdict).sum()), int(judged.truth.sum())
    points = {k: float(v[0]) for k, v in of_sums(_sums(judged)).items()}
    draws = _replicates(judged, replicates, seed)
    relabelled = _relabelled_of(judged, lambda: _relabelled(judged, replicates, seed))
    known = label_metrics()
    out: list[Row] = []
    for name, value in points.items():
        metric = known[name]
        if metric.of_reference:
            out.append(_reference_row(metric, scored, unlabelled))
            continue
        mask = denominator(metric, judged.judged)
        part = judged.where(mask)
        counted = Counted(int(mask.sum()), effective_sample_size(part.weight), n_positive, n_missing)
        estimate = estimated(metric, value, part, draws)
        wider = _with_labels(estimate.interval, relabelled, name, counted.n)
        out.append(_row(metric, value, estimate, wider, counted, _worst_case(metric, scored)))
    if costs is not None:
        out.append(_cost_row(scored, judged, costs, replicates, seed, n_positive, n_missing))
    out += _probability_rows(scored, replicates, seed, weigh_missing)
    return [_only_of_one_label(row) for row in out] if chosen_by_label else out


def _cost_row(
    scored: Scored, judged: Scored, costs: Costs, replicates: int, seed: int, n_positive: int, n_missing: int
) -> Row:
    """Mean cost of an item, by Beta draws: costs are rare and large, so a bootstrap would repeat the zeros."""
    missing = float(scored.weight[np.isnan(scored.flagged)].sum() / scored.weight.sum()) if len(scored.truth) else 0.0
    value = float(cost_per_item(_sums(judged), costs, missing)[0])
    n = len(judged.truth)
    estimate = Estimate(UNDEFINED, note=NO_COSTS)
    if n >= MIN_ITEMS_TO_RESAMPLE and 0 < n_positive < n:
        drawn = cost_per_item(drawn_sums(judged, replicates, seed), costs, missing)
        estimate = Estimate(percentile_interval(drawn), "beta")
    counted = Counted(n, effective_sample_size(judged.weight), n_positive, n_missing)
    return _row(Metric(EXPECTED_COST, 0), value, estimate, estimate.interval, counted, (None, None))


def _probability_rows(scored: Scored, replicates: int, seed: int, weigh_missing: bool) -> list[Row]:
    has_p = ~np.isnan(scored.flagged) & ~np.isnan(scored.p)
    if not has_p.any():
        return []
    sure = scored.weighted_for_missing(has_p) if weigh_missing else scored.where(has_p)
    points = of_probabilities(Probabilities(sure.weight[None, :], sure.truth, sure.p))
    relabelled = _relabelled_of(sure, lambda: _relabelled_probabilities(sure, replicates, seed + 1))
    counted = Counted(len(sure.truth), effective_sample_size(sure.weight), int(sure.truth.sum()), int((~has_p).sum()))
    out = []
    for name, metric in probability_metrics().items():
        value, estimate = float(points[name][0]), Estimate(UNDEFINED)
        if not np.isnan(value):
            estimate = _probability_estimate(metric, sure, value, replicates, seed)
            value = value if estimate.value is None else estimate.value
        has_interval = estimate.interval.low is not None
        wider = _with_labels(estimate.interval, relabelled, name, counted.n) if has_interval else UNDEFINED
        out.append(_row(metric, value, estimate, wider, counted, (None, None)))
    return out


def _probability_estimate(metric: Metric, sure: Scored, value: float, replicates: int, seed: int) -> Estimate:
    """By the metric's own method, else a bootstrap over items. No interval with few items of a class."""
    few = sure.labelled.n_of_rarer < MIN_PER_CLASS
    if metric.measure is None:
        chunks = [metric.of(Probabilities(w, sure.truth, sure.p)) for w in sure.samples(replicates, seed + 1)]
        estimate = Estimate(_resampled(np.concatenate(chunks), len(sure.truth)), "bootstrap")
    else:
        estimate = metric.measure(sure.labelled, replicates, seed + 1)
    if estimate.interval.low is None and few:
        n_positive = int(sure.truth.sum())
        told = f"{n_positive} violating and {len(sure.truth) - n_positive} fine items"
        said = [f"no interval: {told}, {MIN_PER_CLASS} of each are needed", *([estimate.note] if estimate.note else [])]
        return Estimate(UNDEFINED, None, estimate.value, "; ".join(said))
    return estimate


def _only_of_one_label(row: Row) -> Row:
    """The row if its metric is a rate of one kind of label, else without a value."""
    metric = label_metrics().get(str(row["metric"]))
    if metric is not None and metric.denominator in ("violating", "fine"):
        return row
    numbers = ("value", "ci_low", "ci_high", "relabelled_low", "relabelled_high", "interval", "worst_low", "worst_high")
    return {**row, **dict.fromkeys(numbers), "note": CHOSEN_BY_LABEL}


def _reference_row(metric: Metric, scored: Scored, unlabelled: float) -> Row:
    """A share of the reference labels: of all items, whoever judged them, drawn by stratum from the frame."""
    n = len(scored.truth)
    value = float(scored.weight @ scored.truth / scored.weight.sum()) if n else float("nan")
    interval = stratified_share_interval(scored.truth, scored.weight, scored.codes, scored.strata_hold_labels)
    counted = Counted(n, effective_sample_size(scored.weight), int(scored.truth.sum()), 0)
    bounds = (None, None) if np.isnan(value) else (value * (1 - unlabelled), value * (1 - unlabelled) + unlabelled)
    return _row(metric, value, Estimate(interval, "wilson"), interval, counted, bounds)


def _row(
    metric: Metric,
    value: float,
    estimate: Estimate,
    relabelled: Interval,
    counted: Counted,
    worst: tuple[float | None, float | None],
) -> Row:
    undefined, interval = bool(np.isnan(value)), estimate.interval
    note = estimate.note
    if undefined:
        interval, relabelled, note = UNDEFINED, UNDEFINED, _why_undefined(metric, counted.n)
    elif interval.low is not None and interval.high is not None:
        interval = around(value, interval)
        relabelled = holding_both(interval, relabelled)
    elif note is None:
        note = NO_INTERVAL
    return {
        "metric": metric.name,
        "value": None if undefined else value,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "relabelled_low": relabelled.low,
        "relabelled_high": relabelled.high,
        "interval": None if interval.low is None else estimate.how,
        "n": counted.n,
        "n_effective": counted.n_effective,
        "n_positive": counted.n_positive,
        "n_missing": counted.n_missing,
        "worst_low": worst[0],
        "worst_high": worst[1],
        "note": note,
    }


def _why_undefined(metric: Metric, n: int) -> str:
    return "undefined: " + (metric.undefined or ("no item has a verdict" if n == 0 else "no data"))


def estimated(metric: Metric, value: float, part: Scored, draws: Draws) -> Estimate:
    """The interval of a metric of labels on the items of its denominator.

    ``draws``: bootstrap draws of what is no rate where all weights are equal, else Beta draws of every metric.
    """
    if np.isnan(value):
        return Estimate(UNDEFINED)
    if any(known.is_rate and name in draws for name, known in label_metrics().items()):
        return Estimate(percentile_interval(draws[metric.name]), "beta")
    if metric.is_rate:
        n = float(len(part.weight))
        return Estimate(wilson_interval(value * n, n), "wilson")
    interval = _resampled(draws[metric.name], len(part.truth))
    if metric.fallback is not None and interval.low is None:
        how, by_formula = metric.fallback
        return Estimate(by_formula(part.judged), how)
    return Estimate(interval, "bootstrap")


def _resampled(draws: FloatArray, n: int) -> Interval:
    """Percentile interval of bootstrap samples; undefined where resampling says nothing: few items, or no variation
    but that of rounding."""
    interval = percentile_interval(draws)
    if n < MIN_ITEMS_TO_RESAMPLE or interval.low is None or interval.high is None:
        return UNDEFINED
    return UNDEFINED if interval.high - interval.low < 1e-9 else interval


def _relabelled_of(items: Scored, draw: Callable[[], Draws]) -> Draws | None:
    """Draws with the labels drawn again; none where every label is sure, None where of one nothing is known."""
    if items.labels_are_unknown:
        return None
    return {} if items.labels_are_sure else draw()


def _with_labels(interval: Interval, relabelled: Draws | None, metric: str, n: int) -> Interval:
    """The interval with the labels drawn again from their posterior: never narrower than without, there where it is;
    undefined where a label has no probability.

    Source: Rubin (1987), Multiple Imputation for Nonresponse in Surveys, chapter 3, as a bootstrap.
    """
    if relabelled is None:
        return UNDEFINED
    drawn = _resampled(relabelled[metric], n) if metric in relabelled else UNDEFINED
    return interval if drawn.low is None else holding_both(interval, drawn)


def _sums(judged: Scored) -> dict[str, FloatArray]:
    return confusion_sums(judged.weight[None, :], judged.truth, judged.flagged)


def _replicates(judged: Scored, replicates: int, seed: int) -> dict[str, FloatArray]:
    """Draws of the metrics that have no formula for their interval: see :func:`_estimate`."""
    if weights_differ(judged.weight):
        return of_sums(drawn_sums(judged, replicates, seed))
    chunks: list[dict[str, FloatArray]] = []
    for weights in judged.samples(replicates, seed):
        metrics = of_sums(confusion_sums(weights, judged.truth, judged.flagged))
        chunks.append({k: v for k, v in metrics.items() if not METRIC_KINDS[k].is_rate})
    return {k: np.concatenate([c[k] for c in chunks]) for k in chunks[0]}


def drawn_sums(judged: Scored, replicates: int, seed: int) -> dict[str, FloatArray]:
    """Draws of the weighted confusion sums, one group of items per weight and truth.

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


def _relabelled(judged: Scored, replicates: int, seed: int) -> dict[str, FloatArray]:
    """Every label metric over samples of items whose labels are drawn again."""
    chunks = [
        of_sums(confusion_sums(weights, truth, judged.flagged))
        for weights, truth in judged.samples_with_labels(replicates, seed)
    ]
    return {k: np.concatenate([c[k] for c in chunks]) for k in chunks[0]}


def _relabelled_probabilities(sure: Scored, replicates: int, seed: int) -> dict[str, FloatArray]:
    chunks = [
        of_probabilities(Probabilities(weights, truth, sure.p))
        for weights, truth in sure.samples_with_labels(replicates, seed)
    ]
    return {k: np.concatenate([c[k] for c in chunks]) for k in chunks[0]}


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
