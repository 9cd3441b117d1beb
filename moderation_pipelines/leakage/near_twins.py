"""Near-twins of release items among everything delivered: one pass over the content, release items in memory only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
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
                "item_id", "text", "text_sha256",
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


@dataclass(frozen=True)
class NearContent:
    """Near-duplicates of released texts among everything delivered.

    ``pairs``: indexed (place of the released text), side, text_sha256, similarity, twin_ids (the two least ids of items
    with the text). Of a released text with a thousand on a side no more were looked for there.
    """

    released: ReleasedTexts
    pairs: pl.DataFrame

    @property
    def crowded(self) -> np.ndarray:
        """Whether each released text has so many that there may be more."""
        out = np.zeros(self.released.index.n, bool)
        full = self.pairs.group_by("indexed", "side").len().filter(pl.col("len") >= ENOUGH)
        out[full["indexed"].to_numpy()] = True
        return out


def near_content(
    released: ReleasedTexts, content: Iterable[pl.DataFrame], tell: Callable[[str], None] | None = None
) -> NearContent:
    """Look for near-duplicates of released texts. ``content``: frames of item_id, text, text_sha256, side; read once,
    in turn. Memory: the released texts, one frame, and up to a thousand near-duplicates of each."""
    found = _NOTHING
    n_read = 0
    for frame in content if released.index.n else ():
        for side in (EVAL, DEVELOPMENT):
            mine = frame.filter(pl.col("side") == side)
            for start in range(0, mine.height, _AT_ONCE):
                found = _with(found, released, mine.slice(start, _AT_ONCE), side)
        n_read += frame.height
        if tell is not None:
            tell(f"near-twins: {n_read:,} items read")
    return NearContent(released, found)


def near_twins_table(near: NearContent, day: date) -> pl.DataFrame:
    """The ``near_twins`` rows of ``day``. An item is no twin of itself; another item with the same text is one."""
    if not near.released.index.n:
        return NEAR_TWINS.empty()
    twins = (
        near.released.items.drop("text_sha256")
        .join(near.pairs.explode("twin_ids").rename({"twin_ids": "twin_id"}), on="indexed")
        .filter(pl.col("twin_id") != pl.col("item_id"))
        .sort("similarity", "twin_id", descending=[True, False])
        .group_by("eval_set", "version", "policy", "item_id", "side", maintain_order=True)
        .agg(pl.col("similarity").first(), pl.col("twin_id").first(), n_twins=pl.col("text_sha256").n_unique())
        .sort("eval_set", "version", "item_id", "side")
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
