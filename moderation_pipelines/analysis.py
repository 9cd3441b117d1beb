"""What the command line does on files of one's own: agreement and consensus of any votes, comparisons, planning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from moderation_pipelines.agreement.pack import IntervalMethod, agreement, intra_rater_agreement
from moderation_pipelines.consensus.methods import Method, aggregate
from moderation_pipelines.eval_sets.release import find_release
from moderation_pipelines.foundation.errors import UserError, did_you_mean
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.judging.tables import SCORES
from moderation_pipelines.metrics.pairs import compare_judges, compare_releases
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines.votes.by_item import as_lazy
from moderation_pipelines.votes.matrix import matrix_of_ids
from moderation_pipelines.votes.one_each import one_vote_each
from moderation_pipelines.votes.scale import Kind, Scale, scale_of_votes

Votes = pl.LazyFrame | Path
_KINDS = ("vote", "gold", "adjudication", "audit")
_MANY_ROWS = 20_000_000


def votes_file(path: Path, needed: Sequence[str] = ("item_id", "label")) -> Votes:
    """Votes from a .parquet, .csv or .jsonl file, plain; Parquet stays on disk. UserError for what cannot be read."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file of votes")
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
    if not path.stat().st_size:
        raise UserError(f"{path}: is empty")
    try:
        frame = reader()
        columns = frame.collect_schema().names()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error) from None
    missing = [name for name in needed if name not in columns]
    if missing:
        same = {c.lower(): c for c in columns}
        hints = [f'"{n}"' + (f'; rename "{same[n]}"' if n in same else did_you_mean(n, columns)) for n in missing]
        raise UserError(f"{path}: has no column {', no column '.join(hints)}; there: {', '.join(columns)}")
    return path if path.suffix == ".parquet" else frame


def _unreadable(path: Path, error: Exception) -> UserError:
    right = {
        ".csv": "it must be UTF-8, with commas and the same number of cells in every row",
        ".jsonl": "every line must be one JSON object",
        ".parquet": "it is no Parquet file, or damaged",
    }[path.suffix]
    return UserError(f"{path}: cannot be read as {path.suffix[1:]}: {right} ({type(error).__name__})")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What a person can mend, as a UserError that names the file."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(path, error) from None


@dataclass(frozen=True)
class FileVotes:
    """Votes of a file that count: ``votes`` of kind vote, one per named rater and item (the last); all of them in
    ``with_repeats``; ``authority``: item_id and label of gold, else adjudication. ``notes``: what was left out."""

    votes: Votes
    with_repeats: Votes | None
    authority: pl.LazyFrame
    notes: list[str]


def counted_in_file(path: Path, needed: Sequence[str] = ("item_id", "label")) -> FileVotes:
    """Read a file of votes as the pipeline would count them. UserError for a kind that is not known."""
    source = votes_file(path, needed)
    frame = as_lazy(source)
    columns = frame.collect_schema().names()
    notes: list[str] = []
    authority = pl.LazyFrame(schema={"item_id": pl.String, "label": pl.String})
    with _told(path):
        if "kind" in columns:
            kinds = dict(frame.group_by(pl.col("kind").fill_null("vote")).len().sort("kind").collect().iter_rows())
            stray = [k for k in kinds if k not in _KINDS]
            if stray:
                raise UserError(
                    f'{path}: kind "{stray[0]}" is not known{did_you_mean(stray[0], _KINDS)}; one of {_KINDS}'
                )
            by_rank = frame.filter(pl.col("kind").is_in(["gold", "adjudication"])).sort(
                pl.col("kind") != "adjudication"
            )
            authority = by_rank.unique("item_id", keep="last", maintain_order=True).select(
                pl.col("item_id").cast(pl.String), "label"
            )
            left_out = {k: n for k, n in kinds.items() if k != "vote"}
            if left_out:
                said = ", ".join(f"{n:,} of kind {k}" for k, n in left_out.items())
                notes.append(f"not counted as votes: {said}")
                frame = frame.filter(pl.col("kind").fill_null("vote") == "vote")
                source = frame
        if "policy" in columns and (n := frame.select(pl.col("policy").n_unique()).collect().item()) > 1:
            notes.append(f"votes of {n} policies are pooled; --by policy keeps them apart")
        if "rater_id" not in columns:
            return FileVotes(source, None, authority, notes)
        rows = frame.select(pl.len()).collect().item()
        if rows > _MANY_ROWS:
            return FileVotes(source, None, authority, notes)
        pairs = frame.filter(pl.col("rater_id").is_not_null() & pl.col("label").is_not_null())
        pairs = pairs.select("item_id", "rater_id", *(["policy"] if "policy" in columns else []))
        repeats = rows and pairs.collect().pipe(lambda d: d.height - d.unique().height)
    if not repeats:
        return FileVotes(source, None, authority, notes)
    notes.append(f"{repeats:,} votes repeat a rater's vote on an item: the last one counts")
    over = ["item_id", "rater_id", *(["policy"] if "policy" in columns else [])]
    return FileVotes(one_vote_each(frame.filter(pl.col("label").is_not_null()), over), frame, authority, notes)


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
    with _told(path):
        scale = _scale(labels, kind) if labels else scale_of_votes(as_lazy(counted.votes), kind)
        table = agreement(counted.votes, scale, by, replicates, interval=interval)
        if counted.with_repeats is not None:
            table = pl.concat([table, intra_rater_agreement(counted.with_repeats, scale, by, replicates)])
    return table, counted.notes


def _scale(labels: Sequence[str], kind: Kind) -> Scale:
    numeric = kind in ("interval", "ratio")
    return Scale(tuple(labels), kind, tuple(float(x) for x in labels) if numeric else None)


def consensus_of_file(
    path: Path, method: Method, labels: Sequence[str] | None, ordered: bool
) -> tuple[pl.DataFrame, list[str]]:
    """A label per item of a file of votes, and what was left out. Columns item_id, label (null: tied), method (gold for
    items an authority decided), probability, n_votes; sorted.

    Rows of kind gold (else adjudication) teach the method and decide their item. Anonymous votes count as one rater
    together. ``labels``: the label set in order; default: those met, gold's too, sorted.
    """
    counted = counted_in_file(path)
    with _told(path):
        frame = as_lazy(counted.votes)
        named = "rater_id" in frame.collect_schema().names()
        rater = pl.col("rater_id").cast(pl.String).fill_null("") if named else pl.lit("")
        votes = frame.select(pl.col("item_id").cast(pl.String), pl.col("label").cast(pl.String), rater=rater)
        gold = counted.authority.collect()
        met = pl.concat([votes.select("label"), gold.lazy().select(pl.col("label").cast(pl.String))])
        scale = _scale(labels, "ordinal" if ordered else "nominal") if labels else scale_of_votes(met, "nominal")
        return _labelled(votes, scale, gold, method, ordered), counted.notes


def _labelled(votes: pl.LazyFrame, scale: Scale, gold: pl.DataFrame, method: Method, ordered: bool) -> pl.DataFrame:
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


def comparison(
    home: Home, eval_set: str, versions: Sequence[str], judges: Sequence[str], replicates: int
) -> pl.DataFrame:
    """Two judges on one release, or one judge on two. UserError naming what was scored if that is not there."""
    releases = [find_release(home, eval_set, v) for v in versions]
    if len(releases) == 2 and releases[0].version >= releases[1].version:
        raise UserError("give the earlier version first, then a later one")
    scores = Warehouse(home).scan(SCORES).filter(pl.col("eval_set") == eval_set).collect()
    # Of a judge's answers to one item of a release the latest counts.
    scores = scores.sort("drop_date").unique(["judge_id", "version", "item_id"], keep="last", maintain_order=True)
    for release in releases:
        there = sorted(scores.filter(pl.col("version") == release.version)["judge_id"].unique())
        for judge in judges:
            if judge not in there:
                known = ", ".join(there) or "nobody"
                hint = "" if there else " (a day keeps the scores of the release in force when it last ran)"
                raise UserError(f'judge "{judge}" did not score {eval_set} {release.version}; scored by: {known}{hint}')
    if len(releases) == 2:
        return compare_releases(scores, releases[0], releases[1], judges[0], replicates)
    mine = scores.filter(pl.col("version") == releases[0].version)
    return compare_judges(mine, releases[0], judges[0], judges[1], replicates)
