"""Gold purity: how many of the labels called violating are right, measured on gold or else believed."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from moderation_pipelines.consensus.basis import bases_in_words, decided_by_authority, with_basis
from moderation_pipelines.stats.arrays import FloatArray

_DIGITS = 6


@dataclass(frozen=True)
class Purity:
    """``n`` items called violating, ``n_authority`` of them by gold or adjudication, which count as right.

    ``expected_right``: how many of the ``n_believed`` with a probability are right by it; null with none. It is what a
    model believes, so it has no interval: what is measured on gold stands in ``consensus_methods``. ``bases``: items by
    what their probability rests on.
    """

    n: int
    n_authority: int
    n_believed: int
    expected_right: float | None
    bases: dict[str, int]

    def as_dict(self, measured: dict[str, Any] | None) -> dict[str, Any]:
        """For a manifest: the purity measured on gold first, if any, then what the probabilities add up to."""
        expected = self.expected_right
        return {
            "n_violating": self.n,
            "n_by_authority": self.n_authority,
            "measured_on_gold": measured,
            "rests_on": self.bases,
            "n_with_probability": self.n_believed,
            "expected_right": None if expected is None else round(expected, _DIGITS),
            "believed_share": None if expected is None else round(expected / self.n_believed, _DIGITS),
        }


def label_purity(items: pl.DataFrame, violating: tuple[str, ...]) -> Purity:
    """Purity of a release's items. ``violating``: the policy's violating labels; a label is right to call an item
    violating if the truth is any of them."""
    called = with_basis(items.filter("violating").lazy()).collect()
    bases = dict(called.group_by("basis").len().sort("basis").iter_rows())
    sure = called.select(sure=decided_by_authority())["sure"]
    believed = called.filter(sure | pl.col("posterior").is_not_null())
    if believed.is_empty():
        return Purity(called.height, 0, 0, None, bases)
    by_word = believed.select(sure=decided_by_authority())["sure"].to_numpy()
    p = np.where(by_word, 1.0, violating_probability(believed, violating))
    return Purity(called.height, int(sure.sum()), believed.height, float(p.sum()), bases)


def purity_text(purity: dict[str, Any]) -> str:
    """The purity of a manifest in words: measured on gold first, then what the probabilities say."""
    n = purity["n_violating"]
    if not n:
        return "Gold purity: no item is called violating."
    said = (
        f"Labels that violate: {n:,}, of which {purity['n_by_authority']:,} by gold or adjudication, which count as "
        f"right. Basis of these labels: {bases_in_words(purity['rests_on'])}."
    )
    measured = purity["measured_on_gold"]
    first = (
        "Gold purity: not measured, because there is too little gold, or none of it is labelled violating by the "
        "methods of these labels."
        if measured is None
        else "Gold purity, of all gold of the policy and not of this set "
        f"({measured['method']}, {measured['drop_date']}): of {measured['n_called_violating']:,} gold items that the "
        f"method labels violating without seeing their gold {measured['purity']:.1%} violate (95 %: "
        f"{measured['purity_low']:.1%} to {measured['purity_high']:.1%})."
    )
    if purity["believed_share"] is None:
        return f"{first} {said}"
    believed = (
        f"Their probabilities add up to {purity['expected_right']:,.1f} of {purity['n_with_probability']:,} "
        f"({purity['believed_share']:.1%}): an expectation, not a measurement."
    )
    return f"{first} {said} {believed}"


def violating_probability(items: pl.DataFrame, violating: tuple[str, ...]) -> FloatArray:
    """Probability that each item violates, by its posterior; 0 or 1 by its label where it has no posterior."""
    mass = pl.col("posterior").list.eval(
        pl.when(pl.element().struct.field("label").is_in(list(violating)))
        .then(pl.element().struct.field("probability"))
        .otherwise(0.0)
    )
    found = items.select(
        p=pl.when(pl.col("posterior").is_not_null())
        .then(mass.list.sum())
        .otherwise(pl.col("violating").cast(pl.Float64))
    )["p"]
    return np.clip(found.to_numpy().astype(np.float64), 0.0, 1.0)


def measured_purity(methods: pl.LazyFrame, policy: str, of: Collection[str]) -> dict[str, Any] | None:
    """The latest purity of a chosen method on gold, from ``consensus_methods``, where it is one ``of`` the methods that
    labelled the items; None where none was measured."""
    rows = (
        methods.filter((pl.col("policy") == policy) & pl.col("is_chosen") & pl.col("method").is_in(list(of)))
        .filter(pl.col("n_called_violating") > 0)
        .sort("drop_date")
        .tail(1)
        .select("method", "purity", "purity_low", "purity_high", "n_called_violating", "drop_date")
        .collect()
        .to_dicts()
    )
    if not rows:
        return None
    rounded = {k: round(v, _DIGITS) if isinstance(v, float) else v for k, v in rows[0].items()}
    return {**rounded, "drop_date": str(rounded["drop_date"])}
