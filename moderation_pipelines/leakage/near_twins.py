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

    An item is no twin of itself; another item with the same text is one. Of a released text with a thousand different
    near-duplicates on a side no more are looked for there. Memory: the released texts, one frame, and up to a thousand
    near-duplicates of each.
    """
    found = _NOTHING
    n_read = 0
    for frame in content if released.index.n else ():
        for side in (EVAL, DEVELOPMENT):
            mine = frame.filter(pl.col("side") == side)
            for start in range(0, mine.height, _AT_ONCE):
                part = mine.slice(start, _AT_ONCE)
                found = _with(found, released, part, side)
        n_read += frame.height
        if tell is not None:
            tell(f"near-twins: {n_read:,} items read")
    twins = (
        released.items.drop("text_sha256")
        .join(found.explode("twin_ids").rename({"twin_ids": "twin_id"}), on="indexed")
        .filter(pl.col("twin_id") != pl.col("item_id"))
        .sort("similarity", "twin_id", descending=[True, False])
        .group_by("eval_set", "version", "policy", "item_id", "side", maintain_order=True)
        .agg(pl.col("similarity").first(), pl.col("twin_id").first(), n_twins=pl.col("text_sha256").n_unique())
        .sort("eval_set", "version", "item_id", "side")
        if released.index.n
        else NEAR_TWINS.empty().drop("drop_date")
    )
    return NEAR_TWINS.picked(twins.with_columns(drop_date=pl.lit(day)).lazy()).collect()


_AT_ONCE = 5_000
_PAIR = ["indexed", "side", "text_sha256"]
# A near-duplicate of a released text, and the two least ids of items that have it: one of them is another item.
_NOTHING = pl.DataFrame(
    schema={
        "indexed": pl.Int64, "side": pl.String, "text_sha256": pl.String, "similarity": pl.Float64,
        "twin_ids": pl.List(pl.String),
    }
)  # fmt: skip


def _with(found: pl.DataFrame, released: ReleasedTexts, part: pl.DataFrame, side: str) -> pl.DataFrame:
    """What was found, and the near-duplicates among some more rows of a side."""
    counted = np.zeros(released.index.n, np.int64)
    for indexed, n in found.filter(pl.col("side") == side).group_by("indexed").len().iter_rows():
        counted[indexed] = n
    texts = part.unique("text_sha256", maintain_order=True)
    pairs = released.index.near(texts["text"].to_list(), counted < ENOUGH)
    if pairs.is_empty():
        return found
    ids = part.group_by("text_sha256").agg(twin_ids=pl.col("item_id").unique().sort().head(2))
    new = (
        pairs.with_columns(text_sha256=texts["text_sha256"][pairs["query"]], side=pl.lit(side))
        .join(ids, on="text_sha256")
        .select(found.columns)
    )
    return (
        pl.concat([found, new])
        .group_by(_PAIR)
        .agg(
            pl.col("similarity").first(),
            pl.col("twin_ids").list.explode(keep_nulls=False, empty_as_null=False).unique().sort().head(2),
        )
        .sort(_PAIR)
    )
