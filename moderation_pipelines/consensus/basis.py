"""What the numbers beside a label rest on: an authority, vote shares, a model's posterior, or that calibrated."""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from moderation_pipelines.consensus.method import METHODS, Method

AUTHORITY, POSTERIOR, CALIBRATED = "authority", "posterior", "calibrated"
VOTE_SHARE, WEIGHTED_SHARE = "vote_share", "weighted_share"
BASES = (AUTHORITY, VOTE_SHARE, WEIGHTED_SHARE, POSTERIOR, CALIBRATED)
SHARES = (VOTE_SHARE, WEIGHTED_SHARE)
IN_WORDS = {
    AUTHORITY: "by gold or adjudication",
    VOTE_SHARE: "on vote shares (no probabilities)",
    WEIGHTED_SHARE: "on weighted vote shares (no probabilities)",
    POSTERIOR: "by the posterior of a model",
    CALIBRATED: "calibrated on gold",
}


def basis_of_method(method: Method) -> str:
    """What a method's numbers rest on before any calibration."""
    return {"votes": VOTE_SHARE, "weights": WEIGHTED_SHARE, None: POSTERIOR}[method.shares]


def bases_in_words(counts: Mapping[str, int]) -> str:
    """How many labels rest on what, in words: ``17 by gold or adjudication, 36 calibrated on gold``."""
    return ", ".join(f"{counts[basis]:,} {IN_WORDS[basis]}" for basis in BASES if counts.get(basis))


def decided_by_authority() -> pl.Expr:
    """Whether gold or adjudication decided a row's label; never null."""
    return pl.col("method").is_in(["gold", "adjudication"]).fill_null(False)


def with_basis(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows with ``basis`` filled where an earlier version left it out, from their ``method``.

    Such a version wrote vote shares as ``probability`` and ``posterior``: both become null there.
    """
    derived = (
        pl.when(decided_by_authority())
        .then(pl.lit(AUTHORITY))
        .when(pl.col("method").is_not_null())
        .then(
            pl.col("method").replace_strict(
                {m.name: basis_of_method(m) for m in METHODS}, default=POSTERIOR, return_dtype=pl.String
            )
        )
    )
    is_share = pl.col("basis").is_in(list(SHARES))
    return rows.with_columns(basis=pl.coalesce("basis", derived)).with_columns(
        vote_share=pl.coalesce("vote_share", pl.when(pl.col("basis") == VOTE_SHARE).then("probability")),
        probability=pl.when(is_share).then(None).otherwise("probability"),
        posterior=pl.when(is_share).then(None).otherwise("posterior"),
    )
