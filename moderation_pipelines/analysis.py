"""What the command line does on files of one's own: agreement and consensus of any votes, comparisons, planning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from moderation_pipelines.agreement import Scale, agreement
from moderation_pipelines.agreement.item_votes import VotesSource, as_lazy, item_votes
from moderation_pipelines.agreement.pack import IntervalMethod
from moderation_pipelines.agreement.scale import Kind, scale_of_votes
from moderation_pipelines.consensus.matrix import IntArray, item_ids, matrix_of
from moderation_pipelines.consensus.methods import Method, aggregate
from moderation_pipelines.errors import UserError, did_you_mean
from moderation_pipelines.eval_sets.release import find_release
from moderation_pipelines.home import Home
from moderation_pipelines.metrics.pairs import compare_judges, compare_releases
from moderation_pipelines.tables.schema import SCORES
from moderation_pipelines.tables.warehouse import Warehouse

Votes = pl.LazyFrame | Path


def votes_file(path: Path, needed: Sequence[str] = ("item_id", "label")) -> Votes:
    """Votes from a .parquet, .csv or .jsonl file, plain; Parquet stays on disk. UserError for what cannot be read."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    readers = {
        ".parquet": lambda: pl.scan_parquet(path, glob=False),
        ".csv": lambda: pl.scan_csv(path, infer_schema=False, glob=False),
        ".jsonl": lambda: pl.scan_ndjson(path),
    }
    reader = readers.get(path.suffix)
    if reader is None:
        raise UserError(f"{path}: ends in {path.suffix or 'nothing'}; one of {', '.join(readers)} is read")
    try:
        frame = reader()
        columns = frame.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UserError(f"{path}: cannot be read as {path.suffix[1:]} ({type(error).__name__})") from None
    missing = [name for name in needed if name not in columns]
    if missing:
        hints = "; ".join(f'"{name}"{did_you_mean(name, columns)}' for name in missing)
        raise UserError(f"{path}: has no column {hints}; there: {', '.join(columns)}")
    return path if path.suffix == ".parquet" else frame


def agreement_of_file(
    path: Path, kind: Kind, by: Sequence[str], replicates: int, interval: IntervalMethod = "auto"
) -> pl.DataFrame:
    """Every agreement coefficient of a file of votes. Columns as :func:`moderation_pipelines.agreement.agreement`."""
    votes = votes_file(path, ("item_id", "label", *by))
    try:
        return agreement(votes, kind, by, replicates, interval=interval)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    except pl.exceptions.PolarsError as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__})") from None


def consensus_of_file(path: Path, method: Method, labels: Sequence[str] | None, ordered: bool) -> pl.DataFrame:
    """A label per item of a file of votes. Columns item_id, label (null: tied), probability, n_votes; sorted.

    Rows whose column ``kind`` is gold, if there is one, are gold: they teach the method and decide their item.
    Anonymous votes count as one rater together. ``labels``: the label set in order; default: those met, sorted.
    """
    votes = votes_file(path)
    frame = as_lazy(votes)
    columns = frame.collect_schema().names()
    if "kind" in columns:
        gold = frame.filter(pl.col("kind") == "gold").select("item_id", gold="label").unique("item_id", keep="last")
        frame = frame.filter(pl.col("kind").fill_null("vote") == "vote")
    else:
        gold = pl.LazyFrame(schema={"item_id": pl.String, "gold": pl.String})
    rater = pl.col("rater_id").cast(pl.String).fill_null("") if "rater_id" in columns else pl.lit("")
    frame = frame.select("item_id", "label", rater_id=rater)
    scale = Scale(tuple(labels), "ordinal" if ordered else "nominal") if labels else scale_of_votes(frame, "nominal")
    try:
        return _labelled(frame, scale, gold, method, ordered)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _labelled(source: VotesSource, scale: Scale, gold: pl.LazyFrame, method: Method, ordered: bool) -> pl.DataFrame:
    grouped = item_votes(source, scale)
    matrix, ids = matrix_of(grouped), item_ids(source, grouped)
    known = pl.DataFrame({"item_id": ids}).lazy().join(gold, on="item_id", how="left", maintain_order="left").collect()
    stray = set(known["gold"].drop_nulls()) - set(scale.labels)
    if stray:
        raise ValueError(f"gold labels not on the scale: {sorted(stray)[:5]}; known: {list(scale.labels)}")
    index = {label: k for k, label in enumerate(scale.labels)}
    fixed: IntArray = np.array([-1 if g is None else index[g] for g in known["gold"]], dtype=np.int64)
    made = aggregate(matrix, method, fixed, ordered)
    names = np.array([*scale.labels, None], dtype=object)
    sure = made.posterior[np.arange(len(ids)), np.maximum(made.label, 0)]
    return pl.DataFrame(
        {
            "item_id": ids,
            "label": pl.Series(names[made.label].tolist(), dtype=pl.String),
            "probability": pl.Series(np.where(made.label >= 0, sure, np.nan)).fill_nan(None),
            "n_votes": matrix.votes,
        }
    ).sort("item_id")


def comparison(
    home: Home, eval_set: str, versions: Sequence[str], judges: Sequence[str], replicates: int
) -> pl.DataFrame:
    """Two judges on one release, or one judge on two. UserError naming what was scored if that is not there."""
    warehouse = Warehouse(home)
    scores = warehouse.scan(SCORES).filter(pl.col("eval_set") == eval_set).collect()
    releases = [find_release(home, eval_set, v) for v in versions]
    # Of a judge's answers to one item of a release the latest counts.
    scores = scores.sort("drop_date").unique(["judge_id", "version", "item_id"], keep="last", maintain_order=True)
    for release in releases:
        there = sorted(scores.filter(pl.col("version") == release.version)["judge_id"].unique())
        for judge in judges:
            if judge not in there:
                known = ", ".join(there) or "nobody"
                raise UserError(f'judge "{judge}" did not score {eval_set} {release.version}; scored by: {known}')
    if len(releases) == 2:
        return compare_releases(scores, releases[0], releases[1], judges[0], replicates)
    mine = scores.filter(pl.col("version") == releases[0].version)
    return compare_judges(mine, releases[0], judges[0], judges[1], replicates)
