"""Files of votes of one's own, read as the pipeline reads drops: same readers, kinds, repeats, absent raters.

Parquet is read where it lies; text formats are read row by row once, into a Parquet file beside, and what cannot be
read is left out and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from moderation_pipelines.foundation.errors import UserError, did_you_mean
from moderation_pipelines.ingest.fields import Unfit, timestamp
from moderation_pipelines.ingest.reading import DropRejected, RawRow, checked_header, read_rows, reader_of
from moderation_pipelines.tables import store
from moderation_pipelines.votes.by_item import Prepare, VoteRows
from moderation_pipelines.votes.repeats_in_files import Repeats, without_repeats
from moderation_pipelines.votes.scale import SET_SEPARATOR
from moderation_pipelines.votes.tables import VOTE_KINDS

NEEDED = ("item_id", "label")
_OPTIONAL = ("rater_id", "kind", "policy", "labeled_at")
_TIME = pl.Datetime("us", "UTC")
_WHOLE = re.compile(r"^([+-]?\d+)\.0+$")


@dataclass(frozen=True)
class FileVotes:
    """Votes of a file that count: ``votes``, of kind vote, one per named rater and item; ``repeated``: every vote of a
    rater on an item that was voted on more than once.

    ``authority``: label of gold, else adjudication, per item: columns of ``unit`` and label. ``labels``: those met,
    with how many rows have them, gold's too. ``notes``: what was left out, joined or pooled, with counts.
    """

    votes: VoteRows
    repeated: pl.DataFrame
    authority: pl.DataFrame
    labels: Mapping[str, int]
    notes: list[str]

    @property
    def unit(self) -> tuple[str, ...]:
        return self.votes.unit


@contextmanager
def votes_of_file(
    path: Path, by: Sequence[str] = (), exact: bool = False, policy: str | None = None
) -> Iterator[FileVotes]:
    """Read a file of votes as the pipeline would count them. Raises :class:`UserError`, naming the file.

    ``by``: columns that are kept to slice by. ``exact``: labels that differ only in case or outer spaces stay apart.
    ``policy``: only the votes of one policy; of several, an item under each is an item of its own.
    """
    with store.scratch() as folder, told(path):
        scan, notes = _as_parquet(path, by, folder)
        yield _counted(scan, by, exact, policy, notes)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What a person can mend, as a UserError that names the file."""
    try:
        yield
    except (DropRejected, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    except (pl.exceptions.PolarsError, pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__}); write it again") from None


def _as_parquet(path: Path, by: Sequence[str], folder: Path) -> tuple[pl.LazyFrame, list[str]]:
    """(the file's votes as Parquet, what was left out on the way)."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file of votes")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    reader, packed = reader_of(path.name)
    if reader.name == "parquet" and not packed:
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        checked_header(scan.collect_schema().names(), (*NEEDED, *by))
        return scan, []
    wanted = [*NEEDED, *_OPTIONAL, *by]
    spool = folder / "votes.parquet"
    if reader.name == "csv" and not packed and _plain_csv(path, (*NEEDED, *by), wanted, spool):
        return pl.scan_parquet(spool, glob=False), []
    left_out = _spooled(path, (*NEEDED, *by), wanted, spool)
    told = [f"{n:,} rows left out: {rule}, first at line {line:,}" for (rule, line), n in left_out.items()]
    votes = pl.scan_parquet(spool, glob=False)
    if told and not votes.select(pl.len()).collect().item():
        raise ValueError(f"not one row can be read; {'; '.join(told)}")
    return votes, told


def _plain_csv(path: Path, needed: Sequence[str], wanted: Sequence[str], spool: Path) -> bool:
    """Spool a CSV file by Arrow's reader if it is one nobody can read in two ways: no quote, no lone CR, no NUL,
    every row as long as the header. False, and nothing spooled, otherwise: then the pipeline's reader decides."""
    with store.opened(path) as stream:
        while block := stream.read(1 << 24):
            if b'"' in block or b"\r" in block or b"\x00" in block:
                return False

    ragged: list[int] = []

    def skip(row: Any) -> str:
        ragged.append(row.actual_columns)
        return "skip"

    try:
        reader = pa_csv.open_csv(
            path,
            pa_csv.ReadOptions(block_size=1 << 24),
            pa_csv.ParseOptions(invalid_row_handler=skip, quote_char=False),
            pa_csv.ConvertOptions(strings_can_be_null=True, null_values=[""], column_types=_Strings()),
        )
        header = [name.strip() for name in reader.schema.names]
        checked_header(header, needed)
        kept = [name for name in wanted if name in header]
        schema = pa.schema([(name, pa.string()) for name in kept])
        with pq.ParquetWriter(spool, schema, compression="zstd") as writer:
            for batch in reader:
                if ragged:
                    break
                columns = [batch.column(header.index(name)).cast(pa.string()) for name in kept]
                writer.write_batch(pa.record_batch(columns, schema=schema))
    except (pa.ArrowException, UnicodeDecodeError):
        ragged.append(0)
    if ragged:
        store.remove(spool)
    return not ragged


class _Strings(dict[str, pa.DataType]):
    """Every column is text."""

    def __missing__(self, name: str) -> pa.DataType:
        return pa.string()


def _spooled(path: Path, needed: Sequence[str], wanted: Sequence[str], spool: Path) -> dict[tuple[str, int], int]:
    """Spool a file through the pipeline's reader. (rule and its first line) -> rows left out by it."""
    schema = pa.schema([(name, pa.string()) for name in wanted])
    counts: Counter[str] = Counter()
    first: dict[str, int] = {}

    def leave_out(rule: str, line: int) -> None:
        counts[rule] += 1
        first.setdefault(rule, line)

    with pq.ParquetWriter(spool, schema, compression="zstd") as writer:
        for batch in read_rows(path, needed):
            rows: list[list[str | None]] = []
            for row in batch:
                values = _values(row, wanted, leave_out)
                if values is not None:
                    rows.append(values)
            columns = [pa.array([r[i] for r in rows], pa.string()) for i in range(len(wanted))]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    return {(f"{rule} ({_WORDS.get(rule, rule)})", first[rule]): n for rule, n in counts.items()}


_WORDS = {
    "ragged_row": "more or fewer cells than the header",
    "missing_value": "no item_id",
    "wrong_type": "a value that is no text, number or list of texts",
}


def _values(row: RawRow, wanted: Sequence[str], leave_out: Any) -> list[str | None] | None:
    if row.rule is not None:
        leave_out(row.rule, row.line)
        return None
    out: list[str | None] = []
    for name in wanted:
        value = row.fields.get(name)
        text = _as_text(value)
        if value is not None and text is None:
            leave_out("wrong_type", row.line)
            return None
        out.append(text)
    return out


def _as_text(value: Any) -> str | None:
    """A value as text: numbers and truth values by how they are written, lists of texts as a set."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return SET_SEPARATOR.join(sorted(set(value)))
    return None


def _counted(scan: pl.LazyFrame, by: Sequence[str], exact: bool, policy: str | None, notes: list[str]) -> FileVotes:
    schema = scan.collect_schema()
    text = _texts(schema, by)
    met = _met(text(scan))
    if policy is not None:
        if "policy" not in schema:
            raise ValueError("has no column policy; leave --policy out")
        scan = scan.filter(pl.col("policy").cast(pl.String) == policy)
        met, said = _of_policy(met, policy)
        notes += said
    n_policies = met["policy"].n_unique()
    unit = ("item_id", "policy") if n_policies > 1 else ("item_id",)
    if n_policies > 1:
        notes.append(
            f"votes of {n_policies} policies are pooled, an item under each is one of its own; --policy takes one"
        )
    if nameless := met["nameless"].sum():
        raise ValueError(f"{nameless:,} votes have no item_id; leave them out or name their item")
    kinds = _sums(met, "kind")
    _check_kinds(kinds)
    unlabelled = int(met.filter(pl.col("label").is_null())["rows"].sum())
    counts = _sums(met.drop_nulls("label"), "label")
    if unlabelled:
        notes.append(f"{unlabelled:,} rows have no label and are left out")
    joined, said = _joined_labels(counts, exact)
    notes += said
    left_out = {k: n for k, n in kinds.items() if k != "vote"}
    if left_out:
        notes.append("not counted as votes: " + ", ".join(f"{n:,} of kind {k}" for k, n in left_out.items()))

    def prepare(part: pl.LazyFrame) -> pl.LazyFrame:
        part = text(part)
        if joined:
            part = part.with_columns(pl.col("label").replace(joined))
        if left_out:
            part = part.with_columns(label=pl.when(pl.col("kind").fill_null("vote") == "vote").then("label"))
        return part

    labels: Counter[str] = Counter()
    for label, n in counts.items():
        labels[joined.get(label, label)] += n
    authority = _authority(text(scan), joined, unit, left_out)
    repeats = without_repeats(VoteRows(scan, _timed(prepare, schema), unit))
    notes += _said_of(repeats)
    votes = VoteRows(scan, prepare, unit, repeats.votes.skip)
    return FileVotes(votes, repeats.rows, authority, labels, notes)


def _texts(schema: pl.Schema, by: Sequence[str]) -> Prepare:
    """The needed columns as text, empty ones absent: what is an absent rater is decided here as in a drop."""

    def text(name: str) -> pl.Expr:
        dtype, column = schema[name], pl.col(name)
        if isinstance(dtype, pl.List):
            words = column.cast(pl.List(pl.String)).list.drop_nulls().list.unique().list.sort()
            return words.list.join(SET_SEPARATOR)
        value = column if dtype == pl.String else column.cast(pl.String)
        return pl.when(value != "").then(value) if name in ("rater_id", "label", "kind", "policy") else value

    names = [n for n in dict.fromkeys((*NEEDED, *_OPTIONAL, *by)) if n in schema and n != "labeled_at"]
    keep = ["labeled_at"] if "labeled_at" in schema else []
    return lambda part: part.select(*(text(n).alias(n) for n in names), *keep)


def _timed(prepare: Prepare, schema: pl.Schema) -> Prepare:
    """With the time of each vote, where it can be read."""
    dtype = schema.get("labeled_at")
    if dtype is None:
        return prepare
    if isinstance(dtype, pl.Datetime):
        time = pl.col("labeled_at") if dtype.time_zone else pl.col("labeled_at").dt.replace_time_zone("UTC")
        return lambda part: prepare(part).with_columns(labeled_at=time.cast(_TIME))
    return lambda part: prepare(part).with_columns(
        labeled_at=pl.col("labeled_at").cast(pl.String).map_batches(_moments, return_dtype=_TIME)
    )


def _moments(column: pl.Series) -> pl.Series:
    def moment(value: str | None) -> Any:
        try:
            return None if value is None else timestamp(value)
        except Unfit:
            return None

    return pl.Series(column.name, [moment(v) for v in column], dtype=_TIME)


def _met(text: pl.LazyFrame) -> pl.DataFrame:
    """Rows of each kind, policy and label, and how many of them name no item: one pass over the file."""
    there = text.collect_schema().names()
    absent = [pl.lit(None, dtype=pl.String).alias(c) for c in ("kind", "policy") if c not in there]
    by = text.with_columns(*absent).group_by(pl.col("kind").fill_null("vote"), "policy", "label")
    counts = by.agg(rows=pl.len().cast(pl.Int64), nameless=pl.col("item_id").is_null().sum().cast(pl.Int64))
    return counts.collect(engine="streaming").sort("kind", "policy", "label")


def _sums(met: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(met.group_by(column, maintain_order=True).agg(pl.col("rows").sum()).sort(column).iter_rows())


def _of_policy(met: pl.DataFrame, policy: str) -> tuple[pl.DataFrame, list[str]]:
    mine = met.filter(pl.col("policy") == policy)
    if mine.is_empty():
        known = met["policy"].drop_nulls().unique().sort().to_list()
        raise ValueError(f'no vote is on policy "{policy}"{did_you_mean(policy, known)}')
    others = int(met["rows"].sum()) - int(mine["rows"].sum())
    return mine, [f"{others:,} votes on other policies are left out"] if others else []


def _check_kinds(kinds: Mapping[str, int]) -> None:
    for kind in kinds:
        if kind not in VOTE_KINDS:
            hint = did_you_mean(kind, VOTE_KINDS)
            raise ValueError(f'kind "{kind[:40]}" is not known{hint}; one of {", ".join(VOTE_KINDS)}')


def _joined_labels(counts: Mapping[str, int], exact: bool) -> tuple[dict[str, str], list[str]]:
    """(label -> the spelling it is counted as, notes): labels that differ only in case, outer spaces or the ``.0`` of
    a whole number are one."""
    groups: dict[str, list[str]] = {}
    for label in counts:
        plain = label.strip().casefold()
        groups.setdefault(_WHOLE.sub(r"\1", plain), []).append(label)
    joined: dict[str, str] = {}
    notes = []
    for spellings in groups.values():
        if len(spellings) < 2:
            continue
        ordered = sorted(spellings, key=lambda label: (-counts[label], label))
        named = ", ".join(f'"{label[:40]}" ({counts[label]:,} rows)' for label in ordered)
        what = "they stay apart" if exact else f'counted as "{ordered[0][:40]}"; --exact keeps them apart'
        notes.append(f"labels {named} differ only in spelling: {what}")
        if not exact:
            joined |= dict.fromkeys(ordered[1:], ordered[0])
    return joined, notes


def _authority(
    text: pl.LazyFrame, joined: Mapping[str, str], unit: tuple[str, ...], left_out: Mapping[str, int]
) -> pl.DataFrame:
    """Label of gold, else of adjudication, per item; the last of several."""
    empty = pl.DataFrame(schema={**dict.fromkeys(unit, pl.String), "label": pl.String})
    if not {"gold", "adjudication"} & set(left_out):
        return empty
    decided = text.filter(pl.col("kind").is_in(["gold", "adjudication"]) & pl.col("label").is_not_null())
    by_rank = decided.with_columns(pl.col("label").replace(dict(joined))).sort(
        pl.col("kind") != "adjudication", maintain_order=True
    )
    return by_rank.unique(unit, keep="last", maintain_order=True).select(*unit, "label").collect()


def _said_of(repeats: Repeats) -> list[str]:
    if not repeats.n:
        return []
    how = "the last one counts" + (", by the order of the rows" if repeats.untimed else "")
    return [f"{repeats.n:,} votes repeat a rater's vote on an item: {how}"]
