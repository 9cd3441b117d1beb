"""A label per item of any file of votes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from moderation_pipelines.consensus.aggregate import aggregate
from moderation_pipelines.ingest.vote_files import counted_in_file, read_failures_told
from moderation_pipelines.votes.by_item import as_lazy
from moderation_pipelines.votes.matrix import matrix_of_ids
from moderation_pipelines.votes.scale import Scale, scale_of, scale_of_votes


def consensus_of_file(
    path: Path, method: str, labels: Sequence[str] | None, ordered: bool
) -> tuple[pl.DataFrame, list[str]]:
    """A label per item of a file of votes, and what was left out. Columns item_id, label (null: tied), method (gold for
    items an authority decided), probability, n_votes; sorted.

    Rows of kind gold (else adjudication) teach the method and decide their item. Anonymous votes count as one rater
    together. ``labels``: the label set in order; default: those met, gold's too, sorted.
    """
    counted = counted_in_file(path)
    with read_failures_told(path):
        frame = as_lazy(counted.votes)
        named = "rater_id" in frame.collect_schema().names()
        rater = pl.col("rater_id").cast(pl.String).fill_null("") if named else pl.lit("")
        votes = frame.select(pl.col("item_id").cast(pl.String), pl.col("label").cast(pl.String), rater=rater)
        gold = counted.authority.collect()
        met = pl.concat([votes.select("label"), gold.lazy().select(pl.col("label").cast(pl.String))])
        scale = scale_of(labels, "ordinal" if ordered else "nominal") if labels else scale_of_votes(met, "nominal")
        return _labelled(votes, scale, gold, method, ordered), counted.notes


def _labelled(votes: pl.LazyFrame, scale: Scale, gold: pl.DataFrame, method: str, ordered: bool) -> pl.DataFrame:
    held = votes.collect()
    if held["item_id"].null_count():
        raise ValueError(f"{held['item_id'].null_count():,} votes have no item_id; leave them out or name their item")
    index = {label: k for k, label in enumerate(scale.labels)}
    stray = sorted((set(held["label"].drop_nulls()) | set(gold["label"].drop_nulls())) - set(index))
    if stray:
        raise ValueError(f"labels not on the scale: {stray[:5]}; known: {list(scale.labels)}")
    held = held.filter(pl.col("label").is_not_null())
    ids = pl.concat([held["item_id"], gold["item_id"]]).unique().sort()
    if not len(ids):
        empty = {"label": pl.String, "method": pl.String, "probability": pl.Float64, "n_votes": pl.Int64}
        return pl.DataFrame(schema={"item_id": pl.String, **empty})
    matrix = matrix_of_ids(held.lazy(), ids, scale.labels)
    known = pl.DataFrame({"item_id": ids}).join(gold, on="item_id", how="left", maintain_order="left")["label"]
    fixed = np.array([-1 if label is None else index[label] for label in known], dtype=np.int64)
    made = aggregate(matrix, method, fixed, ordered)
    names = np.array([*scale.labels, None], dtype=object)
    sure = made.posterior[np.arange(len(ids)), np.maximum(made.label, 0)]
    return pl.DataFrame(
        {
            "item_id": ids,
            "label": pl.Series(names[made.label].tolist(), dtype=pl.String),
            "method": np.where(fixed >= 0, "gold", method),
            "probability": pl.Series(np.where(made.label >= 0, sure, np.nan)).fill_nan(None),
            "n_votes": matrix.votes,
        }
    )
