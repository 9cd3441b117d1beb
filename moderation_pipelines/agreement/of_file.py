"""Agreement of any file of votes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from moderation_pipelines.agreement.pack import IntervalMethod, agreement, intra_rater_agreement
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.ingest.vote_files import votes_of_file
from moderation_pipelines.votes.scale import Kind, scale_of, scale_of_labels


def agreement_of_file(
    path: Path,
    kind: Kind,
    by: Sequence[str] = (),
    replicates: int = 1000,
    interval: IntervalMethod = "auto",
    labels: Sequence[str] | None = None,
    exact: bool = False,
    policy: str | None = None,
) -> tuple[pl.DataFrame, list[str]]:
    """Every agreement coefficient of a file of votes, and what was left out. Columns as :func:`agreement`.

    A rater's repeated votes count once, the last, and give the intra_rater rows (of raters and items with repeats).
    ``labels``: the label set in order; default: those met. ``exact`` and ``policy`` as in :func:`votes_of_file`.
    """
    for column in by:
        if column in ("item_id", "label", "rater_id"):
            raise UserError(f"--by {column}: slice by a property of items or votes, such as locale or pool")
    with votes_of_file(path, by, exact, policy, labels, kind == "set") as counted:
        scale = scale_of(labels, kind) if labels else scale_of_labels(list(counted.labels), kind)
        table = agreement(counted.votes, scale, by, replicates, interval=interval)
        if counted.repeated.height:
            again = counted.repeated.with_columns(item_id=_one_id(counted.unit))
            table = pl.concat([table, intra_rater_agreement(again, scale, by, replicates)])
        return table, counted.notes


def _one_id(unit: Sequence[str]) -> pl.Expr:
    return pl.col("item_id") if len(unit) == 1 else pl.struct(*unit).struct.json_encode()
