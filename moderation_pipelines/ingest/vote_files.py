"""Files of votes of one's own, read as the pipeline reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from moderation_pipelines.foundation.errors import UserError, did_you_mean
from moderation_pipelines.votes.by_item import as_lazy
from moderation_pipelines.votes.one_each import one_vote_each

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
def read_failures_told(path: Path) -> Iterator[None]:
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
    with read_failures_told(path):
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
