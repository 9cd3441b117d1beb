"""One day of drops: files in; content, votes, quarantine and drops out. Rows in = rows out, counted.

Two passes, so that memory does not grow with the files: the first streams every file through the row rules into
staging files; the second looks only at small fingerprints to find repeated deliveries, then streams what is kept.
"""

from __future__ import annotations

import hashlib
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from moderation_pipelines.foundation.errors import SHOWN_VALUE, UserError
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.foundation.text import BY_CLUSTER
from moderation_pipelines.ingest.feed import FEEDS, Delivery, Feed
from moderation_pipelines.ingest.landing import DropFile, drop_files
from moderation_pipelines.ingest.looks_like import columns_unread
from moderation_pipelines.ingest.reading import DropRejected, read_rows
from moderation_pipelines.ingest.rule_words import rule_words
from moderation_pipelines.ingest.rules import checked_batch
from moderation_pipelines.ingest.sides import SideRule, side_rule
from moderation_pipelines.ingest.tables import CONVERSIONS, DROPS, QUARANTINE
from moderation_pipelines.policies.policy import Policies
from moderation_pipelines.tables import store
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.warehouse import Warehouse

Progress = Callable[[str, int], None]
BUCKET_ROWS = 500_000
_LOOKED_AT = 1_000


class AccountingError(RuntimeError):
    """Rows in do not equal rows out. A defect of the pipeline, never of the data."""


class StagedFrames:
    """Frames appended to one Parquet file, one row group each. No file until the first row."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = 0
        self._writer: pq.ParquetWriter | None = None

    def append(self, frame: pl.DataFrame) -> None:
        if frame.is_empty():
            return
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, table.schema, compression="zstd")
        self._writer.write_table(table)
        self.rows += frame.height

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def frames(self) -> Iterator[pl.DataFrame]:
        """The frames as they were appended."""
        if self.rows:
            with pq.ParquetFile(self.path) as file:
                for group in range(file.num_row_groups):
                    frame = pl.from_arrow(file.read_row_group(group))
                    assert isinstance(frame, pl.DataFrame)
                    yield frame


@dataclass
class FileResult:
    """What became of one delivered file."""

    feed: str
    day: date
    name: str
    sha256: str | None
    size: int
    rows: int | None = None
    quarantined: int = 0
    duplicates: int = 0
    reason: str | None = None
    notes: list[str] = field(default_factory=list)
    rules: Counter[str] = field(default_factory=Counter)
    conversions: Counter[tuple[str, str]] = field(default_factory=Counter)
    good: StagedFrames | None = None
    bad: StagedFrames | None = None
    conflicting: StagedFrames | None = None

    @property
    def place(self) -> str:
        return f"{self.feed}/{self.day}/{self.name}"

    def quarantine_frames(self) -> Iterator[pl.DataFrame]:
        """The file's quarantine rows, frame by frame."""
        for staged in (self.bad, self.conflicting):
            if staged is not None:
                yield from staged.frames()

    @property
    def accepted(self) -> int:
        return 0 if self.rows is None else self.rows - self.quarantined - self.duplicates

    @property
    def status(self) -> str:
        """What became of it: rejected as a whole; quarantined, every one of its rows; else accepted."""
        if self.reason is not None:
            return "rejected"
        return "quarantined" if self.rows and self.quarantined == self.rows else "accepted"

    @property
    def why(self) -> str | None:
        """Why nothing of it went on, or None."""
        if self.status != "quarantined":
            return self.reason
        rules = ", ".join(f"{rule} {n:,}" for rule, n in sorted(self.rules.items(), key=lambda r: (-r[1], r[0])))
        return f"all {self.rows:,} rows are quarantined ({rules}); {rule_words(self.rules.most_common(1)[0][0])}"


@dataclass
class DayIngest:
    """What became of a day."""

    day: date
    files: list[FileResult]

    @property
    def rejected(self) -> list[FileResult]:
        """Files of which nothing went on."""
        return [f for f in self.files if f.status != "accepted"]

    def total(self, feed: str, count: str) -> int:
        return sum(getattr(f, count) or 0 for f in self.files if f.feed == feed)


def stage_file(
    drop: DropFile,
    staging: Path,
    policies: Policies,
    settings: Settings,
    progress: Progress | None = None,
    broken: Collection[str] = (),
    sides: SideRule | None = None,
) -> FileResult:
    """First pass over one file: rows through the rules into staging. A rejected file leaves nothing behind.

    ``sides``: how items are divided, by text without it.
    What no rule foresaw rejects the file too: one odd file never costs a day. Raises :class:`UserError` for a file that
    takes longer than the bounds allow: it is no fault of the file alone.
    """
    tag = hashlib.blake2b(drop.place.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
    good, bad = StagedFrames(staging / f"{tag}.good"), StagedFrames(staging / f"{tag}.bad")
    result, feed = FileResult(drop.feed, drop.day, drop.name, None, 0), FEEDS[drop.feed]
    rows, bounds, started = 0, settings.bounds, time.monotonic()
    delivery = Delivery(drop.day, drop.name, sides or SideRule(eval_share=settings.eval_share))
    met: dict[str, None] = {}
    try:
        before = drop.fingerprint
        result.size = store.size(drop.path)
        with suppress(OSError):
            if store.is_regular_file(drop.path):
                result.sha256 = store.sha256(drop.path)
        for batch in read_rows(drop.path, feed.required, bounds=bounds, known=sorted(feed.known)):
            for row in batch[: _LOOKED_AT if not rows else 0]:
                if len(met) < bounds.columns:
                    met.update(dict.fromkeys(row.fields))
            if not rows:
                _refuse_misnamed(met, feed)
            checked = checked_batch(batch, feed, drop.day, drop.name, policies, broken, bounds.cell)
            rows += len(batch)
            bad.append(checked.bad)
            result.rules.update(checked.bad["rule"].to_list())
            result.conversions.update(checked.conversions)
            if time.monotonic() - started > bounds.seconds:
                raise _TooLong
            good.append(feed.finished(checked.good, delivery, policies, settings))
            if progress is not None:
                progress(drop.place, len(batch))
        if drop.fingerprint != before:
            raise DropRejected("the file changed while it was read; write to a name ending in .tmp and rename")
    except _TooLong:
        raise UserError(
            f"{drop.place}: took over {bounds.seconds:,} s to read; remove the file or raise MODERATION_DROP_SECONDS"
        ) from None
    except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001 - the net: whatever a file holds, the others of the day go on
        result.reason = _why_rejected(error, rows)
        result.rules.clear()
        result.conversions.clear()
        good.close()
        bad.close()
        store.remove(good.path)
        store.remove(bad.path)
        return result
    good.close()
    bad.close()
    result.rows, result.quarantined, result.good, result.bad = rows, bad.rows, good, bad
    result.notes = _notes(met, feed, result)
    return result


class _TooLong(Exception):
    """Reading takes longer than the bounds allow."""


def _refuse_misnamed(met: Collection[str], feed: Feed) -> None:
    """Raises :class:`DropRejected` where a field that decides what a row is has another name."""
    for column, name in columns_unread([n for n in met if len(n) <= SHOWN_VALUE], feed.never_misnamed):
        raise DropRejected(f'the column "{column}" looks like {name}, which tells gold from votes; rename it to {name}')


def _why_rejected(error: BaseException, rows: int) -> str:
    if isinstance(error, DropRejected):
        return str(error)
    if isinstance(error, OSError):
        return f"the file cannot be read ({error.strerror})"
    at = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"something in the rows after the first {rows:,} could not be handled ({type(error).__name__} in "
        f"{Path(at.filename).name}:{at.lineno}); nothing of the file was kept: please report it, this is a defect"
    )


def _notes(met: Collection[str], feed: Feed, result: FileResult) -> list[str]:
    """What should be known of a file though it was read: columns that look misnamed, times that could not be read."""
    names = [n for n in met if len(n) <= SHOWN_VALUE]
    known = sorted({*feed.fields, *(alias for name, alias in feed.aliases if name not in met)})
    # A field that came under its other name is there.
    there = [*names, *(name for name, alias in feed.aliases if alias in met)]
    notes = [
        f'column "{column}" is kept in extra only; rename it to {name} if that is what it holds'
        for column, name in columns_unread(there, known)
    ]
    if lost := sum(n for (column, _), n in result.conversions.items() if column == feed.ordered_by):
        notes.append(
            f"{feed.ordered_by} could not be read in {lost:,} rows: among repeated votes in them the order in the file "
            "decides"
        )
    if result.rows == 0:
        notes.append("the file has no rows")
    return notes


def settle_day(files: Sequence[FileResult], feed: Feed, policies: Policies) -> list[pl.DataFrame]:
    """Second look at a feed's staged rows: which are kept. One frame per staged file, rows in its order.

    Columns: keep (bool) and what the feed marks. Counts duplicates on the results; where the feed says so it also adds
    quarantine rows for a key delivered again with other fields.
    """
    staged = [f for f in files if f.good is not None and f.good.rows]
    if not staged:
        return []
    prints = pl.concat([_fingerprints(f, i, feed, policies) for i, f in enumerate(staged)], rechunk=False)
    verdicts = _verdicts(prints.with_row_index("row"), feed)
    out = []
    for i, result in enumerate(staged):
        mine = verdicts.filter(prints["file"] == i)
        conflicts = mine["conflict"].arg_true().to_list()
        result.duplicates = mine.filter(~pl.col("keep")).height - len(conflicts)
        if conflicts:
            _quarantine_conflicts(result, feed, conflicts)
        out.append(mine.drop("conflict"))
    return out


def _verdicts(prints: pl.DataFrame, feed: Feed) -> pl.DataFrame:
    """keep, conflict and the feed's marks of every row. Rows that could concern each other are looked at bucket by
    bucket, so that the work space is a bucket's, not the day's."""
    keep, conflict = (np.zeros(prints.height, dtype=bool) for _ in range(2))
    buckets = prints.height // BUCKET_ROWS + 1
    for b in range(buckets):
        part = prints.filter(pl.col("id_1") % buckets == b).with_columns(
            keep=pl.struct("id_1", "id_2").is_first_distinct()
        )
        rows = part["row"].to_numpy()
        keep[rows] = part["keep"].to_numpy()
        if feed.on_conflict == "quarantine":
            firsts = part.filter("keep").select("id_1", "id_2", first_1="fields_1", first_2="fields_2")
            joined = part.join(firsts, on=["id_1", "id_2"], how="left", maintain_order="left")
            differs = (pl.col("fields_1") != pl.col("first_1")) | (pl.col("fields_2") != pl.col("first_2"))
            conflict[rows] = joined.select(differs).to_series().to_numpy()
    verdicts = pl.DataFrame({"keep": keep, "conflict": conflict})
    if not feed.marks_schema():
        return verdicts
    kept = pl.Series(keep)
    parts = [feed.marks(prints.filter(kept & (prints[feed.bucket()] % buckets == b))) for b in range(buckets)]
    marks = pl.concat(parts).sort("row")
    marked = pl.DataFrame({"row": pl.Series(np.arange(prints.height, dtype=np.uint32))}).join(
        marks, on="row", how="left", maintain_order="left"
    )
    return pl.concat([verdicts, marked.drop("row")], how="horizontal")


def _fingerprints(result: FileResult, index: int, feed: Feed, policies: Policies) -> pl.DataFrame:
    """128-bit hashes, as two columns each, of a row's key and, where conflicts matter, its fields; and what the feed
    looks at."""
    assert result.good is not None
    parts = []
    for frame in result.good.frames():
        key = pl.col(feed.key)
        columns = [pl.lit(index, dtype=pl.Int32).alias("file"), key.hash(1).alias("id_1"), key.hash(2).alias("id_2")]
        if feed.on_conflict == "quarantine":
            fields = pl.struct(
                pl.col(c).list.join("\x1e") if isinstance(t, pl.List) else pl.col(c)
                for c, t in frame.schema.items()
                if c not in feed.apart
            )
            columns += [fields.hash(3).alias("fields_1"), fields.hash(4).alias("fields_2")]
        parts.append(frame.select(*columns, *feed.fingerprints(frame, policies)))
    return pl.concat(parts)


def _quarantine_conflicts(result: FileResult, feed: Feed, rows: list[int]) -> None:
    assert result.good is not None
    result.conflicting = StagedFrames(result.good.path.with_suffix(".conflicting"))
    offset = 0
    for frame in result.good.frames():
        here = [r - offset for r in rows if 0 <= r - offset < frame.height]
        offset += frame.height
        if not here:
            continue
        result.conflicting.append(
            frame[here].select(
                feed=pl.lit(result.feed),
                drop_date=pl.lit(result.day),
                drop_file=pl.lit(result.name),
                drop_line="drop_line",
                rule=pl.lit("conflicting_item"),
                column=pl.lit(feed.key),
                # An id of several words may be a text in the wrong column.
                value=pl.when(pl.col(feed.key).str.contains(r"^[!-~]{1,64}$")).then(feed.key),
                message=pl.format(
                    "this {} was already delivered on this day with other fields; deliver an item once a day, or a "
                    "corrected file under the same name",
                    pl.lit(feed.key),
                ),
                raw=pl.struct(pl.exclude("duplicate_of")).struct.json_encode().str.head(10_000),
            )
        )
    result.conflicting.close()
    result.rules["conflicting_item"] += len(rows)
    result.quarantined += len(rows)


class _Publisher:
    """Streams frames into one Parquet file that replaces the table's partition when all went well."""

    def __init__(self, table: Table, path: Path) -> None:
        schema = table.empty().to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        self._writer = pq.ParquetWriter(path, schema, compression="zstd")
        self._schema = schema
        self.rows = 0

    def append(self, frame: pl.DataFrame) -> None:
        if frame.height:
            self._writer.write_table(frame.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(self._schema))
            self.rows += frame.height

    def close(self) -> None:
        self._writer.close()


def ingest_day(
    warehouse: Warehouse,
    policies: Policies,
    day: date,
    settings: Settings,
    progress: Progress | None = None,
    made_from: Mapping[str, str] | None = None,
    broken: Collection[str] = (),
) -> DayIngest:
    """Read every delivered file of a day and replace the day's rows in the tables of ingestion. Where items are divided
    by near-duplicate clusters days are read one at a time.

    A day without files writes empty tables. Raises :class:`ReadFailure` when the landing zone cannot be read, and
    :class:`AccountingError` if rows in and rows out ever differ, before anything is published. ``made_from``: versions
    of what the rows depend on beside the files. ``broken``: policies whose files have mistakes; their votes go to
    quarantine until they are mended.
    """
    feeds = list(FEEDS)
    drops = [d for feed in feeds for d in drop_files(warehouse.home, feed.name, day)]
    sides = side_rule(warehouse.home, settings.eval_share)
    with store.staging(warehouse.home.warehouse) as staging:
        files = [stage_file(drop, staging, policies, settings, progress, broken, sides) for drop in drops]
        of = {feed.name: [f for f in files if f.feed == feed.name] for feed in feeds}
        verdicts = {feed.name: settle_day(of[feed.name], feed, policies) for feed in feeds}
        along = [table for feed in feeds for table in feed.along]
        tables = (*along, *(feed.table for feed in feeds), QUARANTINE, CONVERSIONS, DROPS)
        # Clusters of two days that are read at once would not know of each other.
        alone = (
            store.lock(warehouse.home.warehouse / "_locks" / "ingest.lock") if sides.by == BY_CLUSTER else nullcontext()
        )
        with alone, warehouse.replacing_all(tables, day, made_from) as paths:
            written = {t.name: _Publisher(t, p) for t, p in zip(tables, paths, strict=True)}
            quarantine, converted, delivered = (written[t.name] for t in (QUARANTINE, CONVERSIONS, DROPS))
            for feed in feeds:
                mine, kept = of[feed.name], verdicts[feed.name]
                completed = feed.completed(_kept(mine, kept), warehouse, day, settings, sides)
                for frame in _kept(mine, kept):
                    written[feed.table.name].append(feed.published(frame, completed))
                for table, rows in zip(feed.along, feed.made_along(completed), strict=True):
                    written[table.name].append(rows)
            for file in files:
                for frame in file.quarantine_frames():
                    quarantine.append(frame)
            converted.append(conversions_frame(files))
            delivered.append(drops_frame(files))
            for publisher in written.values():
                publisher.close()
            _check_accounting(files, {f.name: written[f.table.name].rows for f in feeds}, quarantine.rows)
    return DayIngest(day, files)


def check_file(
    drop: DropFile, staging: Path, policies: Policies, settings: Settings
) -> tuple[FileResult, pl.DataFrame]:
    """(result, quarantine rows) one file would give on its own. Nothing is written outside ``staging``."""
    result = stage_file(drop, staging, policies, settings)
    settle_day([result], FEEDS[drop.feed], policies)
    return result, pl.concat([QUARANTINE.empty(), *result.quarantine_frames()]).sort("drop_line")


def _kept(files: Sequence[FileResult], verdicts: Sequence[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """Kept rows of a feed's files in delivery order, frame by frame, with the feed's marks."""
    staged = [f for f in files if f.good is not None and f.good.rows]
    for result, verdict in zip(staged, verdicts, strict=True):
        assert result.good is not None
        offset = 0
        for frame in result.good.frames():
            mine = verdict.slice(offset, frame.height)
            offset += frame.height
            both = frame.drop([c for c in mine.columns if c in frame.columns]).hstack(mine)
            yield both.filter("keep").drop("keep")


def _check_accounting(files: Sequence[FileResult], rows: Mapping[str, int], quarantine: int) -> None:
    for feed, written in rows.items():
        mine = [f for f in files if f.feed == feed]
        accepted = sum(f.accepted for f in mine)
        if accepted != written or any(f.accepted < 0 for f in mine):
            raise AccountingError(f"{feed}: {accepted} rows accepted, {written} written")
    if quarantine != sum(f.quarantined for f in files):
        raise AccountingError(f"{sum(f.quarantined for f in files)} rows quarantined, {quarantine} written")


def conversions_frame(files: Sequence[FileResult]) -> pl.DataFrame:
    """The ``conversions`` rows of a day."""
    rows = [
        {"feed": f.feed, "drop_date": f.day, "drop_file": f.name, "column": column, "rule": rule, "n": n}
        for f in files
        for (column, rule), n in sorted(f.conversions.items())
    ]
    return pl.DataFrame(rows, schema=CONVERSIONS.schema)


def drops_frame(files: Sequence[FileResult]) -> pl.DataFrame:
    """The ``drops`` rows of a day."""
    return pl.DataFrame(
        [
            {
                "feed": f.feed,
                "drop_date": f.day,
                "drop_file": f.name,
                "sha256": f.sha256,
                "bytes": f.size,
                "rows": f.rows,
                "accepted": f.accepted,
                "quarantined": f.quarantined,
                "duplicates": f.duplicates,
                "status": f.status,
                "reason": f.why,
                "note": "; ".join(f.notes) or None,
            }
            for f in files
        ],
        schema=DROPS.schema,
    )
