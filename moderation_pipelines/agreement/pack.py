"""Agreement for any slicing: one call, one row per coefficient and slice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import polars as pl

from moderation_pipelines.agreement import notes
from moderation_pipelines.agreement.coefficient import COEFFICIENTS, Computed, Given
from moderation_pipelines.agreement.formulas import (
    percent_agreement,
    prevalence,
)
from moderation_pipelines.agreement.patterns import Patterns, Samples
from moderation_pipelines.agreement.raters import (
    RaterPairs,
    rater_pairs,
    too_many_pairs,
)
from moderation_pipelines.agreement.slices import Slice, slices_of
from moderation_pipelines.stats.arrays import FloatArray
from moderation_pipelines.stats.intervals import (
    Interval,
    around,
    bca_interval,
    percentile_interval,
    seed_from,
    t_interval,
    wilson_interval,
)
from moderation_pipelines.votes.by_item import VotesSource, as_lazy, item_votes
from moderation_pipelines.votes.one_each import repeated_votes
from moderation_pipelines.votes.scale import Kind, Scale, scale_of_votes

IntervalMethod = Literal["auto", "analytic", "percentile", "bca"]
KEY = ("slice", "slice_value", "coefficient", "label")
COEFFICIENT_SCHEMA = {
    "slice": pl.String,
    "slice_value": pl.String,
    "coefficient": pl.String,
    "label": pl.String,
    "value": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "se": pl.Float64,
    "interval": pl.String,
    "n_items": pl.Int64,
    "n_rated": pl.Int64,
    "n_raters": pl.Int64,
    "n_votes": pl.Int64,
    "note": pl.String,
}


def agreement(
    votes: VotesSource,
    scale: Scale | Kind,
    by: Sequence[str] = (),
    replicates: int = 1000,
    seed: object = 0,
    interval: IntervalMethod = "auto",
) -> pl.DataFrame:
    """The whole pack of agreement coefficients over all votes, and by each column of ``by``.

    ``votes``: a frame, a Parquet file or several, one row per counted vote: item_id, label, and where there rater_id
    and the ``by`` columns. Votes without a label are missing. ``scale`` is a label set, or just its kind ("nominal",
    "ordinal", "interval", "ratio", "set"): then the labels are those of the votes, sorted (by value if numbers).

    Columns: slice, slice_value, coefficient, label (for specific_agreement and prevalence, else null), value, ci_low,
    ci_high, se (analytic, null without one), interval (how it was made), n_items (with two or more votes), n_rated
    (with one or more), n_raters (null when a vote is anonymous), n_votes (on n_items), note. Undefined values are null
    and the note says why.

    Coefficients: percent_agreement, krippendorff_alpha (at the scale's own kind) and krippendorff_alpha_nominal,
    _ordinal, _interval, _ratio, _masi as the scale allows, fleiss_kappa, conger_kappa, cohen_kappa (mean over pairs of
    raters) and its _linear and _quadratic forms, gwet_ac1, gwet_ac2, brennan_prediger, specific_agreement, prevalence,
    and of three or more labels percent_agreement_violating and krippendorff_alpha_violating.

    ``interval``, all 95 %, by item, seeded: "auto" takes for each coefficient the one that covers best in simulation
    (docs/statistics.md): the bootstrap's BCa, but for the coefficients that look at who voted (conger_kappa,
    cohen_kappa), which are not made from label counts and have a Bayesian bootstrap, of very many pairs or labels the
    large-sample one. Below ten items there is none. Where everyone agrees percent agreement has Wilson's, the kappas
    with a Bayesian bootstrap theirs, the others none.
    Raises ValueError for a label that is not on the scale, for missing columns, and for votes that repeat a rater's
    vote on an item: they would pass for agreement between raters. Keep one of them (:func:`one_vote_each`) and give the
    repeats to :func:`intra_rater_agreement`.
    """
    if replicates < 1:
        raise ValueError(f"replicates must be 1 or more, not {replicates}")
    if interval not in get_args(IntervalMethod):
        raise ValueError(f'interval "{interval}" is not known; one of {", ".join(get_args(IntervalMethod))}')
    if isinstance(scale, str):
        scale = scale_of_votes(as_lazy(votes), scale)
    rows: list[dict[str, object]] = []
    for column in (None, *by):
        grouped = item_votes(votes, scale, column)
        if grouped.n_repeats:
            raise ValueError(
                f"{grouped.n_repeats:,} votes repeat a rater's vote on an item; keep one of them, the last, say"
            )
        reason = too_many_pairs(grouped)
        pairs = None if reason else rater_pairs(grouped)
        for k, sliced in enumerate(slices_of(grouped)):
            pack = _Pack(sliced, scale, pairs[k] if pairs else None, reason, replicates, interval)
            named = {"slice": column or "all", "slice_value": sliced.name}
            # One seed for all slices: the same votes have the same interval wherever they stand.
            rows += [named | row for row in pack.rows(seed_from(seed))]
        if column is None and not rows:
            rows += [
                {"slice": "all", "slice_value": None} | row
                for row in _Pack(_no_votes(scale), scale, None, None, replicates, interval).rows(0)
            ]
    return pl.DataFrame(rows, schema=COEFFICIENT_SCHEMA)


def intra_rater_agreement(
    votes: VotesSource, scale: Scale | Kind, by: Sequence[str] = (), replicates: int = 1000, seed: object = 0
) -> pl.DataFrame:
    """How far raters agree with themselves, from repeated votes of one rater on one item. Columns as :func:`agreement`.

    Coefficients intra_rater_agreement (mean share of agreeing pairs of one's own votes) and intra_rater_alpha
    (Krippendorff's at the scale's own kind, the several votes of a rater on an item as the raters of that item).
    n_items counts rater x item with two or more votes. Anonymous votes are left out: nobody knows whose they repeat.
    Source: Krippendorff (2018), Content Analysis, 4th ed., section 12.1, stability.
    """
    lazy = as_lazy(votes)
    if isinstance(scale, str):
        scale = scale_of_votes(lazy, scale)
    frame = repeated_votes(lazy)
    rows: list[dict[str, object]] = []
    for column in (None, *by):
        slices = slices_of(item_votes(frame, scale, column)) or ([_no_votes(scale)] if column is None else [])
        for sliced in slices:
            named = {"slice": column or "all", "slice_value": sliced.name}
            pack = _Pack(sliced, scale, None, None, replicates, "auto")
            rows += [named | row for row in pack.intra_rows(seed_from(seed, "intra"))]
    return pl.DataFrame(rows, schema=COEFFICIENT_SCHEMA)


def _no_votes(scale: Scale) -> Slice:
    return Slice(None, Patterns(np.zeros((0, len(scale.labels))), np.zeros(0)), None, None, None, 0)


@dataclass(frozen=True)
class _Pack:
    sliced: Slice
    scale: Scale
    pairs: RaterPairs | None
    no_pairs: str | None
    replicates: int
    interval: IntervalMethod

    @property
    def patterns(self) -> Patterns:
        return self.sliced.patterns

    def rows(self, seed: int) -> Iterator[dict[str, object]]:
        """Every coefficient of the slice."""
        given = Given(self.sliced, self.scale, self.pairs, self.no_pairs)
        yield from self._finished([row for coefficient in COEFFICIENTS for row in coefficient.rows(given)], seed)

    def intra_rows(self, seed: int) -> Iterator[dict[str, object]]:
        """Percent agreement and alpha of the scale, of raters with themselves."""
        given = Given(self.sliced, self.scale, None, None)
        names = {"percent_agreement": "intra_rater_agreement", "krippendorff_alpha": "intra_rater_alpha"}
        mine = [row for name in names for row in COEFFICIENTS[name].rows(given) if row.name == name]
        yield from self._finished([replace(c, name=names[c.name]) for c in mine], seed)

    def _finished(self, coefficients: Sequence[Computed], seed: int) -> Iterator[dict[str, object]]:
        p = self.patterns
        point = p.as_seen()
        with_samples = [c for c in coefficients if c.samples is not None]
        draws = self._over(with_samples, p.resampled(self.replicates, seed))
        left_out = self._over(with_samples, p.without_one()) if self._needs_jackknife(with_samples) else {}
        agreeing = float(percent_agreement(point)[0]) if len(p.items) else float("nan")
        shares = prevalence(point)[0] if len(p.items) else np.zeros(0)
        common: dict[str, object] = {
            "n_items": p.n_items,
            "n_rated": p.n_rated,
            "n_raters": self.sliced.n_paired_raters,
            "n_votes": p.n_votes,
        }
        for c in coefficients:
            value = float("nan") if not len(p.items) else float(c.samples(point)[0]) if c.samples else float("nan")
            if c.samples is None and c.estimate is not None:
                value = c.estimate.value
            row = {"coefficient": c.name, "label": c.label, **common}
            if c.n_items is not None:
                row["n_items"] = c.n_items
            if np.isnan(value):
                nothing = dict.fromkeys(("value", "ci_low", "ci_high", "se", "interval"))
                yield row | nothing | {"note": c.note or self._why_undefined(c)}
                continue
            se = c.estimate.se if c.estimate is not None and not np.isnan(c.estimate.se) else None
            believed = (
                c.believed(self.replicates, seed) if self._method(c) == "bayesian_bootstrap" and c.believed else None
            )
            drawn = draws.get(id(c)) if believed is None else believed
            interval, how, note = self._interval(c, value, drawn, left_out.get(id(c)), agreeing)
            labels = self.scale.labels
            cautions = (
                notes.few_of_rarer(c.name, p, shares, labels), notes.caution(c.name, value, agreeing, shares, labels),
            )  # fmt: skip
            said = [n for n in (note, c.note, *cautions) if n]
            yield row | {
                "value": value,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "se": se,
                "interval": how if interval.low is not None else None,
                "note": "; ".join(said) or None,
            }

    def _over(self, coefficients: Sequence[Computed], samples: Iterator[Samples]) -> dict[int, FloatArray]:
        found: dict[int, list[FloatArray]] = {id(c): [] for c in coefficients}
        for some in samples:
            for c in coefficients:
                assert c.samples is not None
                found[id(c)].append(c.samples(some))
        return {key: np.concatenate(parts) if parts else np.zeros(0) for key, parts in found.items()}

    def _method(self, c: Computed) -> str:
        if c.samples is None:
            return "analytic" if c.believed is None or self.interval == "analytic" else "bayesian_bootstrap"
        if self.interval == "auto" or (self.interval == "analytic" and c.estimate is None):
            return "bca"
        return self.interval

    def _needs_jackknife(self, coefficients: Sequence[Computed]) -> bool:
        return any(self._method(c) == "bca" for c in coefficients)

    def _interval(
        self, c: Computed, value: float, draws: FloatArray | None, left_out: FloatArray | None, agreeing: float
    ) -> tuple[Interval, str, str | None]:
        """The interval of a defined value, how it was made, and why there is none."""
        p = self.patterns
        none = Interval(None, None)
        if p.n_items < notes.FEW_ITEMS:
            return none, "", notes.FEW
        if c.name in ("percent_agreement", "intra_rater_agreement") and agreeing in (0.0, 1.0):
            return wilson_interval(agreeing * p.n_items, p.n_items), "wilson", None
        if agreeing == 1.0 and c.name != "prevalence" and c.believed is None:
            return none, "", notes.EVERYONE_AGREES
        method = self._method(c)
        if method == "analytic":
            assert c.estimate is not None
            degrees = p.n_rated - 1 if c.samples is not None or c.name == "conger_kappa" else float("inf")
            interval = t_interval(value, c.estimate.interval_se, degrees, low=c.minimum)
        elif method == "bca":
            assert draws is not None
            assert left_out is not None
            interval = bca_interval(value, draws, left_out, p.items)
        elif method == "bayesian_bootstrap":
            assert draws is not None
            interval = around(value, percentile_interval(draws))
        else:
            assert draws is not None
            interval = percentile_interval(draws)
        if interval.low is None or interval.low == interval.high:
            return none, "", notes.ONE_VALUE
        return interval, method, None

    def _why_undefined(self, c: Computed) -> str:
        if c.name == "specific_agreement" and self.patterns.n_items:
            return "undefined: no vote for this label on an item with two or more votes"
        return notes.why_undefined(self.patterns)
