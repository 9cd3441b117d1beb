"""What the numbers beside a label rest on: an authority, vote shares, a model's posterior, or that calibrated."""

from __future__ import annotations

import polars as pl

from moderation_pipelines.consensus.method import METHODS

AUTHORITY, VOTE_SHARE, POSTERIOR, CALIBRATED = "authority", "vote_share", "posterior", "calibrated"
BASES = (AUTHORITY, VOTE_SHARE, POSTERIOR, CALIBRATED)
IN_WORDS = {
    AUTHORITY: "by an authority",
    VOTE_SHARE: "vote shares, which are no probabilities",
    POSTERIOR: "posterior of a model, not calibrated",
    CALIBRATED: "posterior calibrated on gold",
}


def decided_by_authority() -> pl.Expr:
    """Whether gold or adjudication decided a row's label; never null."""
    return pl.col("method").is_in(["gold", "adjudication"]).fill_null(False)


def with_basis(rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows with ``basis`` filled where an earlier version left it out, from their ``method``.

    Such a version wrote vote shares as ``probability`` and ``posterior``: both become null there.
    """
    shares = [m.name for m in METHODS if m.gives_shares]
    derived = (
        pl.when(decided_by_authority())
        .then(pl.lit(AUTHORITY))
        .when(pl.col("method").is_in(shares))
        .then(pl.lit(VOTE_SHARE))
        .when(pl.col("method").is_not_null())
        .then(pl.lit(POSTERIOR))
    )
    is_share = pl.col("basis") == VOTE_SHARE
    return rows.with_columns(basis=pl.coalesce("basis", derived)).with_columns(
        vote_share=pl.coalesce("vote_share", pl.when(is_share).then("probability")),
        probability=pl.when(is_share).then(None).otherwise("probability"),
        posterior=pl.when(is_share).then(None).otherwise("posterior"),
    )
