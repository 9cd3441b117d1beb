"""Near-twins of release items among everything delivered: one pass over the content, release items in memory only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date

import numpy as np
import polars as pl

from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.foundation.text import DEVELOPMENT, EVAL
from moderation_pipelines.leakage.tables import NEAR_TWINS
from moderation_pipelines.similarity.near import TextIndex

ENOUGH = 1_000


class ReleasedTexts:
    """The different texts of some releases, indexed; and which items have them."""

    def __init__(self, releases: Sequence[Release]) -> None:
        frames = [
            r.items().select(
                "item_id", "text", "text_sha256", "locale",
                eval_set=pl.lit(r.name), version=pl.lit(r.version), policy=pl.lit(r.policy),
            )
            for r in releases
        ]  # fmt: skip
        self.items = pl.concat(frames) if frames else pl.DataFrame()
        texts = self.items.unique("text_sha256", maintain_order=True) if frames else None
        self.index = TextIndex([] if texts is None else texts["text"].to_list())
        if texts is not None:
            places = (
                texts.select("text_sha256").with_row_index("indexed").with_columns(pl.col("indexed").cast(pl.Int64))
            )
            self.items = self.items.drop("text").join(places, on="text_sha256")


def near_twins_table(
    released: ReleasedTexts, content: Iterable[pl.DataFrame], day: date, tell: Callable[[str], None] | None = None
) -> pl.DataFrame:
    """The ``near_twins`` rows of ``day``. ``content``: frames of item_id, text, text_sha256, side; read once, in turn.

    An item is no twin of itself; another item with the same text is one. Memory: the released texts, one frame, and
    what was found.
    """
    found: list[pl.DataFrame] = []
    n_found = {side: np.zeros(released.index.n, np.int64) for side in (EVAL, DEVELOPMENT)}
    n_read = 0
    for frame in content if released.index.n else ():
        for side, counted in n_found.items():
            mine = frame.filter(pl.col("side") == side)
            texts = mine.unique("text_sha256", maintain_order=True)
            pairs = released.index.near(texts["text"].to_list(), counted < ENOUGH)
            counted += np.bincount(pairs["indexed"].to_numpy(), minlength=released.index.n)
            named = pairs.with_columns(text_sha256=texts["text_sha256"][pairs["query"]])
            found.append(
                mine.select("text_sha256", "side", twin_id="item_id").unique(maintain_order=True)
                .join(named, on="text_sha256").select("indexed", "text_sha256", "twin_id", "side", "similarity")
            )  # fmt: skip
        n_read += frame.height
        if tell is not None:
            tell(f"near-twins: {n_read:,} items read")
    if not found:
        return NEAR_TWINS.empty()
    twins = (
        released.items.drop("text_sha256")
        .join(pl.concat(found), on="indexed")
        .filter(pl.col("twin_id") != pl.col("item_id"))
        .sort("similarity", "twin_id", descending=[True, False])
        .group_by("eval_set", "version", "policy", "item_id", "side", maintain_order=True)
        .agg(
            pl.col("similarity").first(), pl.col("twin_id").first(), n_twins=pl.col("text_sha256").n_unique()
        )
        .sort("eval_set", "version", "item_id", "side")
    )  # fmt: skip
    return NEAR_TWINS.picked(twins.with_columns(drop_date=pl.lit(day)).lazy()).collect()
