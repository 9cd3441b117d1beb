"""Identity and side of every text of a column."""

from __future__ import annotations

import polars as pl

from moderation_pipelines.foundation.text import side_of, text_sha256


def text_hashes(texts: pl.Series) -> pl.Series:
    """``text_sha256`` of every text of a column."""
    return pl.Series("text_sha256", [text_sha256(t) for t in texts.to_list()], dtype=pl.String)


def sides(hashes: pl.Series, eval_share: float) -> pl.Series:
    """``side_of`` every hash of a column."""
    return pl.Series("side", [side_of(h, eval_share) for h in hashes.to_list()], dtype=pl.String)
