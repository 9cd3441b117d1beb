"""Agreement of any file of votes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from moderation_pipelines.agreement.pack import IntervalMethod, agreement, intra_rater_agreement
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.ingest.vote_files import counted_in_file, read_failures_told
from moderation_pipelines.votes.by_item import as_lazy
from moderation_pipelines.votes.scale import Kind, scale_of, scale_of_votes


def agreement_of_file(
    path: Path,
    kind: Kind,
    by: Sequence[str] = (),
    replicates: int = 1000,
    interval: IntervalMethod = "auto",
    labels: Sequence[str] | None = None,
) -> tuple[pl.DataFrame, list[str]]:
    """Every agreement coefficient of a file of votes, and what was left out. Columns as :func:`agreement`.

    A rater's repeated votes count once, the last, and give the intra_rater rows. ``labels``: the label set in order.
    """
    for column in by:
        if column in ("item_id", "label", "rater_id"):
            raise UserError(f"--by {column}: slice by a property of items or votes, such as locale or pool")
    counted = counted_in_file(path, ("item_id", "label", *by))
    with read_failures_told(path):
        scale = scale_of(labels, kind) if labels else scale_of_votes(as_lazy(counted.votes), kind)
        table = agreement(counted.votes, scale, by, replicates, interval=interval)
        if counted.with_repeats is not None:
            table = pl.concat([table, intra_rater_agreement(counted.with_repeats, scale, by, replicates)])
    return table, counted.notes
