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
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from moderation_pipelines.foundation.errors import UserError, did_you_mean, folded, nearest
from moderation_pipelines.ingest.feed import FEEDS
from moderation_pipelines.ingest.fields import Unfit, timestamp
from moderation_pipelines.ingest.reading import DropRejected, RawRow, checked_header, read_rows, reader_for
from moderation_pipelines.tables import store
from moderation_pipelines.votes.by_item import Prepare, VoteRows
from moderation_pipelines.votes.repeats_in_files import Repeats, without_repeats
from moderation_pipelines.votes.scale import SET_SEPARATOR
from moderation_pipelines.votes.tables import VOTE_KINDS

NEEDED = ("item_id", "label")
_OPTIONAL = ("rater_id", "kind", "policy", "labeled_at")
_KNOWN = sorted(FEEDS["labels"].known)
_TIME = pl.Datetime("us", "UTC")
_WHOLE = re.compile(r"^([+-]?\d+)\.0+$")


@dataclass(frozen=True)
class FileVotes:
    """Votes of a file that count: ``votes``, of kind vote, one per named rater and item; ``repeated``: every vote of a
    rater on an item that was voted on more than once.

    ``authority``: label of gold, else adjudication, per item: columns of ``unit`` and label. ``labels``: those of the
    votes, with how many rows have them. ``notes``: what was left out, joined or pooled, with counts.
    """

    votes: VoteRows
    repeated: pl.DataFrame
    authority: pl.DataFrame
    labels: Mapping[str, int]
    notes: list[str]

    @property
    def every_label(self) -> list[str]:
        """Labels of the votes and of authorities, sorted."""
        return sorted({*self.labels, *self.authority["label"]})

    @property
    def unit(self) -> tuple[str, ...]:
        return self.votes.unit


@contextmanager
def votes_of_file(
    path: Path,
    by: Sequence[str] = (),
    exact: bool = False,
    policy: str | None = None,
    labels: Sequence[str] | None = None,
    sets: bool = False,
) -> Iterator[FileVotes]:
    """Read a file of votes as the pipeline would count them. Raises :class:`UserError`, naming the file.

    ``by``: columns that are kept to slice by. ``exact``: labels that differ only in case or outer spaces stay apart.
    ``policy``: only the votes of one policy; of several, an item under each is an item of its own. ``labels``: how
    labels are spelt; default: as most rows do. ``sets``: a label is a set of words, in any order.
    """
    with store.scratch() as folder, told(path):
        scan, notes = _as_parquet(path, by, folder)
        yield _counted(scan, by, _Spelling(exact, tuple(labels or ()), sets), policy, notes)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """What a person can mend, as a UserError that names the file."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read ({type(error).__name__}); write it again") from None
    except (DropRejected, ValueError) as error:
        raise UserError(f"{path}: {error}") from None


def _as_parquet(path: Path, by: Sequence[str], folder: Path) -> tuple[pl.LazyFrame, list[str]]:
    """(the file's votes as Parquet, empty cells absent; what was left out and noticed on the way)."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file of votes")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    reader, packed = reader_for(path)
    needed, wanted = (*NEEDED, *by), list(dict.fromkeys((*NEEDED, *_OPTIONAL, *by)))
    if reader.name == "parquet" and not packed:
        pq.ParquetFile(path).close()  # raises for what Polars would end the process on
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        there = scan.collect_schema().names()
        checked_header(there, needed, _KNOWN)
        return _plain_texts(scan), _near_misses(there, wanted)
    spool = folder / "votes.parquet"
    if reader.name == "csv" and not packed and (header := _plain_csv(path, needed, wanted, spool)) is not None:
        return pl.scan_parquet(spool, glob=False), _near_misses(header, wanted)
    there, left_out = _spooled(path.resolve() if path.is_symlink() else path, needed, wanted, spool)
    told = [f"{n:,} rows left out: {rule}, first at line {line:,}" for (rule, line), n in left_out.items()]
    votes = pl.scan_parquet(spool, glob=False)
    if told and not votes.select(pl.len()).collect().item():
        raise ValueError(f"not one row can be read; {'; '.join(told)}")
    if there:
        checked_header(there, by, _KNOWN)
    return votes, told + _near_misses(there, wanted)


def _plain_texts(scan: pl.LazyFrame) -> pl.LazyFrame:
    """Empty texts absent, as readers of text formats have them."""
    texts = [name for name, dtype in scan.collect_schema().items() if dtype == pl.String]
    return scan.with_columns(pl.when(pl.col(name) != "").then(pl.col(name)).alias(name) for name in texts)


def _near_misses(there: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Notes on columns that are nearly one that is read. Raises ValueError where only case or signs differ."""

    others = [name for name in there if name not in wanted]
    notes = []
    for name in _OPTIONAL:
        if name in there:
            continue
        for other in others:
            if folded(other) == folded(name):
                raise ValueError(f'no column "{name}"; rename "{other}" if it is that, or leave it out')
        if (near := nearest(name, others)) is not None:
            notes.append(f'no column "{name}"; "{near}" is not read: rename it if it is that')
    return notes


def _plain_csv(path: Path, needed: Sequence[str], wanted: Sequence[str], spool: Path) -> list[str] | None:
    """Spool a CSV file by Arrow's reader if it is one nobody can read in two ways: UTF-8, no quote, no CR, no NUL,
    every row as long as the header. Returns the header; None, and nothing spooled, otherwise: then the pipeline's
    reader decides."""
    with store.opened(path) as stream:
        first = stream.readline(1 << 20)
        block = first
        while block:
            if b'"' in block or b"\r" in block or b"\x00" in block:
                return None
            block = stream.read(1 << 24)
    try:
        names = first.decode("utf-8-sig").rstrip("\n").split(",")
    except UnicodeDecodeError:
        return None
    header = [name.strip() for name in names]
    if not any(header):
        return None
    if any(c not in header for c in needed):
        return None
    checked_header(header, needed, _KNOWN)
    ragged: list[int] = []

    def skip(row: Any) -> str:
        ragged.append(row.actual_columns)
        return "skip"

    try:
        reader = pa_csv.open_csv(
            path,
            pa_csv.ReadOptions(block_size=1 << 24, column_names=header, skip_rows=1),
            pa_csv.ParseOptions(invalid_row_handler=skip, quote_char=False),
            # Every column is named, and text: nothing is guessed from what stands in it.
            pa_csv.ConvertOptions(
                strings_can_be_null=True, null_values=[""], column_types=dict.fromkeys(header, pa.string())
            ),
        )
        kept = [name for name in wanted if name in header]
        schema = pa.schema([(name, pa.string()) for name in kept])
        with pq.ParquetWriter(spool, schema, compression="zstd") as writer:
            for batch in reader:
                if ragged:
                    break
                columns = [batch.column(header.index(name)) for name in kept]
                writer.write_batch(pa.record_batch(columns, schema=schema))
    except (pa.ArrowException, UnicodeDecodeError):
        ragged.append(0)
    if ragged:
        store.remove(spool)
        return None
    return header


def _spooled(
    path: Path, needed: Sequence[str], wanted: Sequence[str], spool: Path
) -> tuple[list[str], dict[tuple[str, int], int]]:
    """Spool a file through the pipeline's reader. Returns the columns met, and (rule and its first line) -> rows left
    out by it."""
    schema = pa.schema([(name, pa.string()) for name in wanted])
    counts: Counter[str] = Counter()
    first: dict[str, int] = {}
    there: dict[str, None] = {}

    def leave_out(rule: str, line: int) -> None:
        counts[rule] += 1
        first.setdefault(rule, line)

    with pq.ParquetWriter(spool, schema, compression="zstd") as writer:
        for batch in read_rows(path, needed, known=_KNOWN):
            rows: list[list[str | None]] = []
            for row in batch:
                there.update(dict.fromkeys(row.fields))
                values = _values(row, wanted, leave_out)
                if values is not None:
                    rows.append(values)
            columns = [pa.array([r[i] for r in rows], pa.string()) for i in range(len(wanted))]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    return list(there), {
        (f"{rule} ({_WORDS.get(rule, 'see docs/drops.md')})", first[rule]): n for rule, n in counts.items()
    }


_WORDS = {
    "ragged_row": "more or fewer cells than the header",
    "missing_value": "no item_id",
    "invalid_utf8": "save the file as UTF-8",
    "nul_byte": "a NUL byte",
    "broken_csv": "quotes that do not close",
    "broken_json": "no JSON object",
    "wrong_type": "a value that is no text, number or list of texts",
}


def _values(row: RawRow, wanted: Sequence[str], leave_out: Any) -> list[str | None] | None:
    if row.rule is not None:
        leave_out(row.rule, row.line)
        return None
    out: list[str | None] = []
    for name in wanted:
        value = row.fields.get(name)
        value = None if value == "" or value != value else value
        text = _as_text(value)
        if value is not None and text is None:
            leave_out("wrong_type", row.line)
            return None
        if text is not None and not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
            leave_out("invalid_utf8", row.line)
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
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(int(value)) if value == value.to_integral_value() else str(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return SET_SEPARATOR.join(sorted(set(value)))
    return None


@dataclass(frozen=True)
class _Spelling:
    """How labels are told apart: see :func:`votes_of_file`."""

    exact: bool
    given: tuple[str, ...]
    sets: bool


def _counted(
    scan: pl.LazyFrame, by: Sequence[str], spelling: _Spelling, policy: str | None, notes: list[str]
) -> FileVotes:
    schema = scan.collect_schema()
    text = _texts(schema, by)
    met = _met(text(scan))
    if policy is not None:
        if "policy" not in schema:
            raise ValueError("has no column policy; leave --policy out")
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
    joined, said = _joined_labels(counts, spelling)
    notes += said
    left_out = {k: n for k, n in kinds.items() if k != "vote"}
    if left_out:
        notes.append("not counted as votes: " + ", ".join(f"{n:,} of kind {k}" for k, n in left_out.items()))

    mine = pl.lit(True) if policy is None else pl.col("policy").eq_missing(policy)
    a_vote = mine & (pl.col("kind").fill_null("vote") == "vote") if left_out else mine

    def spelt(part: pl.LazyFrame) -> pl.LazyFrame:
        return text(part).with_columns(pl.col("label").replace(joined)) if joined else text(part)

    def prepare(part: pl.LazyFrame) -> pl.LazyFrame:
        if policy is None and not left_out:
            return spelt(part)
        return spelt(part).with_columns(label=pl.when(a_vote).then("label"))

    labels: Counter[str] = Counter()
    for label, n in _sums(met.filter(kind="vote").drop_nulls("label"), "label").items():
        labels[joined.get(label, label)] += n
    authority, said = _authority(_timed(spelt, schema)(scan).filter(mine), unit, left_out)
    repeats = without_repeats(VoteRows(scan, _timed(prepare, schema), unit))
    notes += said + _said_of(repeats)
    votes = VoteRows(scan, prepare, unit, repeats.votes.skip)
    return FileVotes(votes, repeats.rows, authority, labels, notes)


def _texts(schema: pl.Schema, by: Sequence[str]) -> Prepare:
    """The needed columns as text: sets with their words in order, whole numbers without ``.0``, NaN absent."""

    def text(name: str) -> pl.Expr:
        dtype, column = schema[name], pl.col(name)
        if isinstance(dtype, pl.List):
            words = column.cast(pl.List(pl.String)).list.drop_nulls().list.unique().list.sort()
            return words.list.join(SET_SEPARATOR)
        if dtype.is_float():
            whole = (column == column.round()) & (column.abs() < 2.0**63)
            return (
                pl.when(whole).then(column.cast(pl.Int64, strict=False).cast(pl.String))
                .when(column.is_not_nan()).then(column.cast(pl.String))
            )  # fmt: skip
        return column if dtype == pl.String else column.cast(pl.String)

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


def _joined_labels(counts: Mapping[str, int], spelling: _Spelling) -> tuple[dict[str, str], list[str]]:
    """(label -> the spelling it is counted as, notes). Of sets every word is looked at, and the words are put in
    order."""
    if not spelling.sets:
        return _joined(counts, spelling.exact, spelling.given)
    words: Counter[str] = Counter()
    for label, n in counts.items():
        words.update(dict.fromkeys(_words(label), n))
    given = dict.fromkeys(word for label in spelling.given for word in _words(label))
    joined, notes = _joined(words, spelling.exact, tuple(given))
    as_sets = {label: SET_SEPARATOR.join(sorted({joined.get(w, w) for w in _words(label)})) for label in counts}
    return {label: as_set for label, as_set in as_sets.items() if label != as_set}, notes


def _words(label: str) -> list[str]:
    return [word for part in label.split(SET_SEPARATOR) if (word := part.strip())]


def _joined(counts: Mapping[str, int], exact: bool, given: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    """Labels that differ only in case, outer spaces or the ``.0`` of a whole number are one: as ``given``, else as most
    rows have it. Spellings that are both given stay apart."""

    def folded(label: str) -> str:
        return _WHOLE.sub(r"\1", label.strip().casefold())

    stated: dict[str, list[str]] = {}
    for label in given:
        stated.setdefault(folded(label), []).append(label)
    groups: dict[str, list[str]] = {}
    for label in counts:
        groups.setdefault(folded(label), []).append(label)
    joined: dict[str, str] = {}
    notes = []
    for key, spellings in groups.items():
        ordered = sorted(spellings, key=lambda label: (-counts[label], label))
        wanted = stated.get(key, ordered[:1])
        others = [label for label in ordered if label not in wanted]
        if not others or len(wanted) > 1:
            continue
        shown = [f'"{label[:40]}" ({counts.get(label, 0):,} rows)' for label in (*wanted, *others)]
        what = "they stay apart" if exact else f'counted as "{wanted[0][:40]}"; --exact keeps them apart'
        notes.append(f"labels {', '.join(shown)} differ only in spelling: {what}")
        if not exact:
            joined |= dict.fromkeys(others, wanted[0])
    return joined, notes


def _authority(
    votes: pl.LazyFrame, unit: tuple[str, ...], left_out: Mapping[str, int]
) -> tuple[pl.DataFrame, list[str]]:
    """Label of gold, else of adjudication, per item: the last of several, by time where it is known; and how many items
    have several that differ."""
    if not {"gold", "adjudication"} & set(left_out):
        return pl.DataFrame(schema={**dict.fromkeys(unit, pl.String), "label": pl.String}), []
    decided = votes.filter(pl.col("kind").is_in(["gold", "adjudication"]) & pl.col("label").is_not_null())
    order = [pl.col("kind") != "adjudication"]
    if "labeled_at" in decided.collect_schema():
        order.append(pl.col("labeled_at"))
    by_rank = decided.sort(order, nulls_last=False, maintain_order=True).collect()
    chosen = by_rank.unique(unit, keep="last", maintain_order=True)
    several = by_rank.group_by(*unit, "kind").agg(pl.col("label").n_unique()).filter(pl.col("label") > 1)
    n = several.select(unit).unique().height
    notes = [f"{n:,} items have several labels by an authority: the last one counts"] if n else []
    return chosen.select(*unit, "label"), notes


def _said_of(repeats: Repeats) -> list[str]:
    if not repeats.n:
        return []
    how = f", for {repeats.untimed:,} votes by the order of the rows" if repeats.untimed else ""
    return [f"{repeats.n:,} votes repeat a rater's vote on an item: the last one counts{how}"]
