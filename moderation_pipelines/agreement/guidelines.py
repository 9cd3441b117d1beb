"""Guideline versions compared: did raters agree more under the new text?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from moderation_pipelines.agreement.formulas import krippendorff_alpha, percent_agreement
from moderation_pipelines.agreement.patterns import Patterns, Samples
from moderation_pipelines.agreement.slices import slices_of
from moderation_pipelines.stats.arrays import FloatArray
from moderation_pipelines.stats.intervals import UNDEFINED, Interval, percentile_interval, seed_from
from moderation_pipelines.stats.multiplicity import benjamini_hochberg
from moderation_pipelines.votes.by_item import VotesSource, as_lazy, item_votes
from moderation_pipelines.votes.scale import Scale, agreement_weights

MIN_PAIRED = 30
MIN_EACH = 10
COMPARISON_SCHEMA = {
    "guideline_a": pl.String,
    "guideline_b": pl.String,
    "coefficient": pl.String,
    "value_a": pl.Float64,
    "value_b": pl.Float64,
    "difference": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "p_value": pl.Float64,
    "p_adjusted": pl.Float64,
    "basis": pl.String,
    "n_items_a": pl.Int64,
    "n_items_b": pl.Int64,
    "n_items_both": pl.Int64,
    "note": pl.String,
}


def guideline_comparisons(
    votes: VotesSource, scale: Scale, versions: Sequence[str] | None = None, replicates: int = 1000, seed: object = 0
) -> pl.DataFrame:
    """Agreement under each guideline version against the next one, with a test for the difference.

    ``votes``: item_id, label, guideline. ``versions`` in order (default: sorted by name); each is compared with the
    one after it. Columns: guideline_a, guideline_b, coefficient (percent_agreement, krippendorff_alpha, and
    violating_share: how much of the votes flag), value_a, value_b, difference (b - a) with its 95 % percentile
    bootstrap by item, p_value, p_adjusted (Benjamini-Hochberg over the table), basis, n_items_a, n_items_b with two
    votes, n_items_both, note.

    basis "paired": 30 or more items have two votes under both versions; only they are compared, and the test swaps the
    versions of an item at random. Else "all items": the test deals the items to the versions again; then a
    difference may come from the items, not from the text, and the note says so. Null with fewer than ten items under
    one of them. Source: Good (2005), Permutation, Parametric and Bootstrap Tests, 3rd ed., chapters 3 and 5.
    """
    frame = as_lazy(votes)
    missing = {"item_id", "label", "guideline"} - set(frame.collect_schema().names())
    if missing:
        raise ValueError(f"votes have no column {', '.join(sorted(missing))}")
    frame = frame.filter(pl.col("guideline").is_not_null() & pl.col("label").is_not_null())
    stray = frame.select(pl.col("label").unique()).filter(~pl.col("label").is_in(list(scale.labels))).collect()
    if stray.height:
        raise ValueError(f"labels not on the scale: {sorted(stray['label'])[:5]}; known: {list(scale.labels)}")
    if versions is None:
        versions = sorted(frame.select(pl.col("guideline").unique()).collect()["guideline"].to_list())
    rows = []
    for a, b in pairwise(versions):
        rows += _compared(frame, scale, a, b, replicates, seed_from(seed, "guideline", a, b))
    table = pl.DataFrame(rows, schema=COMPARISON_SCHEMA)
    return table.with_columns(p_adjusted=pl.Series(benjamini_hochberg(table["p_value"].to_list()), dtype=pl.Float64))


@dataclass(frozen=True)
class _Joint:
    """Joint patterns: an item's label counts under version a, then under version b."""

    counts: FloatArray
    items: FloatArray
    n_labels: int

    @property
    def sides(self) -> tuple[FloatArray, FloatArray]:
        return self.counts[:, : self.n_labels], self.counts[:, self.n_labels :]

    def only_paired(self) -> _Joint:
        a, b = self.sides
        keep = (a.sum(axis=1) >= 2) & (b.sum(axis=1) >= 2)
        return _Joint(self.counts[keep], self.items[keep], self.n_labels)

    def values(self, multiplicity: FloatArray, value: Callable[[Samples], FloatArray]) -> tuple[FloatArray, FloatArray]:
        a, b = (value(Samples(Patterns(side, self.items), multiplicity)) for side in self.sides)
        return a, b


def _compared(frame: pl.LazyFrame, scale: Scale, a: str, b: str, replicates: int, seed: int) -> list[dict[str, object]]:
    joint_labels = tuple(f"{version}\x1f{label}" for version in "ab" for label in scale.labels)
    mine = frame.filter(pl.col("guideline").is_in([a, b])).select(
        "item_id",
        label=pl.when(pl.col("guideline") == a).then(pl.lit("a\x1f")).otherwise(pl.lit("b\x1f")) + pl.col("label"),
    )
    slices = slices_of(item_votes(mine, Scale(joint_labels), with_raters=False))
    patterns = slices[0].patterns if slices else Patterns(np.zeros((0, len(joint_labels))), np.zeros(0))
    joint = _Joint(patterns.counts, patterns.items, len(scale.labels))
    n_a, n_b = (int(joint.items[side.sum(axis=1) >= 2].sum()) for side in joint.sides)
    paired = joint.only_paired()
    n_both = int(paired.items.sum())
    basis, used = ("paired", paired) if n_both >= MIN_PAIRED else ("all items", joint)
    common: dict[str, object] = {
        "guideline_a": a,
        "guideline_b": b,
        "p_adjusted": None,
        "basis": basis,
        "n_items_a": n_a,
        "n_items_b": n_b,
        "n_items_both": n_both,
    }
    note = None if basis == "paired" else f"{n_both} items were voted on under both: the items may differ, not the text"
    if min(n_a, n_b) < MIN_EACH:
        note = f"no comparison: fewer than {MIN_EACH} items with two votes under one of them"
    out: list[dict[str, object]] = []
    for name, value in _statistics(scale).items():
        value_a, value_b = (
            (float(v[0]) for v in used.values(used.items[None, :], value)) if len(used.items) else (np.nan,) * 2
        )
        row = common | {
            "coefficient": name,
            "value_a": None if np.isnan(value_a) else value_a,
            "value_b": None if np.isnan(value_b) else value_b,
            "difference": None,
            "ci_low": None,
            "ci_high": None,
            "p_value": None,
            "note": note,
        }
        if min(n_a, n_b) >= MIN_EACH and not np.isnan(value_b - value_a):
            sure, p = _tested(used, value, value_b - value_a, replicates, seed)
            row |= {"difference": value_b - value_a, "ci_low": sure.low, "ci_high": sure.high, "p_value": p}
        elif np.isnan(value_b - value_a) and note is None:
            row["note"] = "undefined: one of the versions has one label only"
        out.append(row)
    return out


def _statistics(scale: Scale) -> dict[str, Callable[[Samples], FloatArray]]:
    places = None if scale.positions is None else scale.places
    if scale.kind == "set":
        distance = 1 - agreement_weights(scale, "masi")
        found = {"krippendorff_alpha": lambda m: krippendorff_alpha(m, distance)}
    else:
        kind = scale.kind
        found = {"krippendorff_alpha": lambda m: krippendorff_alpha(m, kind, places)}
    found = {"percent_agreement": percent_agreement, **found}
    if scale.violating is not None:
        flags = np.array(scale.violating, dtype=np.float64)
        found["violating_share"] = lambda m: _voted_shares(m) @ flags
    return found


def _voted_shares(samples: Samples) -> FloatArray:
    """Label shares over items that have votes in the side looked at."""
    votes = samples.patterns.votes
    own = samples.patterns.counts / np.maximum(votes, 1)[:, None]
    total = samples.multiplicity @ (votes > 0).astype(np.float64)
    return np.asarray(samples.multiplicity @ own / np.where(total > 0, total, np.nan)[:, None])


def _tested(
    joint: _Joint, value: Callable[[Samples], FloatArray], difference: float, replicates: int, seed: int
) -> tuple[Interval, float | None]:
    drawn = []
    for some in Patterns(joint.counts, joint.items).resampled(replicates, seed):
        a, b = joint.values(some.multiplicity, value)
        drawn.append(b - a)
    sure = percentile_interval(np.concatenate(drawn))
    dealt, multiplicity = _dealt(joint, replicates, seed + 1)
    a, b = dealt.values(multiplicity, value)
    gaps = np.abs(b - a)
    known = ~np.isnan(gaps)
    if known.sum() * 2 <= len(gaps):
        return UNDEFINED, None
    # The tolerance keeps ties of equal values ties, whatever the order of additions was.
    extreme = (gaps[known] >= abs(difference) - 1e-12).sum()
    return sure, float((1 + extreme) / (1 + known.sum()))


def _dealt(joint: _Joint, replicates: int, seed: int) -> tuple[_Joint, FloatArray]:
    """The items, their versions dealt again, as patterns and samples x patterns: swapped at random where an item has
    votes under both, else dealt so that each version keeps its number of items."""
    a, b = joint.sides
    swapped = np.concatenate([b, a], axis=1)
    counts = np.concatenate([joint.counts, swapped])
    generator = np.random.default_rng(seed)
    both = (a.sum(axis=1) > 0) & (b.sum(axis=1) > 0)
    multiplicity = np.zeros((replicates, len(counts)))
    n = len(joint.counts)
    items = joint.items.astype(np.int64)
    for k in np.flatnonzero(both):
        moved = generator.binomial(items[k], 0.5, size=replicates)
        multiplicity[:, k], multiplicity[:, n + k] = items[k] - moved, moved
    alone = np.flatnonzero(~both)
    if len(alone):
        under_a = a[alone].sum(axis=1) > 0
        n_a = int(items[alone][under_a].sum())
        to_a = generator.multivariate_hypergeometric(items[alone], n_a, size=replicates, method="marginals")
        to_b = items[alone] - to_a
        multiplicity[:, alone] = np.where(under_a, to_a, to_b)
        multiplicity[:, n + alone] = np.where(under_a, to_b, to_a)
    return _Joint(counts, np.concatenate([joint.items, joint.items]), joint.n_labels), multiplicity
