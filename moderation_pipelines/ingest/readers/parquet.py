"""Parquet, read in record batches."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moderation_pipelines.ingest.reading import (
    BATCH_BYTES,
    READ_ERRORS,
    DropRejected,
    RawRow,
    Reader,
    Source,
    batched,
    checked_header,
)

BATCH_CELLS = 2_000_000
_DAMAGED = "not a valid Parquet file, or damaged; write it again"
_DAMAGED_ERRORS = (ValueError, LookupError, OverflowError, MemoryError)


def parquet_rows(source: Source, required: Sequence[str], batch_rows: int) -> Iterator[list[RawRow]]:
    """A row per row; nulls are absent. A compressed file is unpacked beside."""
    if not source.packed:
        yield from _parquet_batches(source, str(source.path), required, batch_rows)
        return
    with tempfile.TemporaryFile() as plain, source.plain() as stream:
        while block := stream.read(1 << 20):
            plain.write(block)
        plain.seek(0)
        yield from _parquet_batches(source, plain, required, batch_rows)


def _parquet_batches(of: Source, file_or_path: Any, required: Sequence[str], batch_rows: int) -> Iterator[list[RawRow]]:
    try:
        file = pq.ParquetFile(file_or_path)
        names, metadata = file.schema_arrow.names, file.metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        size = sum(group.total_byte_size for group in groups)
        checked_header(names, required, of.known, of.bounds.columns)
        if (broken := of.too_large(metadata.num_rows, size)) is not None:
            raise DropRejected(broken)
        # A few bytes in a dictionary can stand for gigabytes: such columns stay words and places.
        words = sorted({group.column(j).path_in_schema for group in groups[:1] for j in range(group.num_columns)
                        if group.column(j).physical_type == "BYTE_ARRAY"
                        and any("DICTIONARY" in e for e in group.column(j).encodings)})  # fmt: skip
        if words:
            file.close()
            file = pq.ParquetFile(file_or_path, read_dictionary=words)
    except (*READ_ERRORS, *_DAMAGED_ERRORS):
        raise DropRejected(_DAMAGED) from None
    with file:
        per_row = max(1, size // max(1, metadata.num_rows))
        most = max(1, min(batch_rows, BATCH_BYTES // per_row, BATCH_CELLS // max(1, len(names))))
        numbered = _numbered(file.iter_batches(batch_size=most))
        number = 0
        for batch in batched(numbered, batch_rows):
            number += len(batch)
            yield batch
        if number != metadata.num_rows:
            raise DropRejected(_DAMAGED)


def _numbered(batches: Iterator[pa.RecordBatch]) -> Iterator[RawRow]:
    number = 0
    for record_batch in batches:
        names = record_batch.schema.names
        if sum(_leaves(column) for column in record_batch.columns) > BATCH_CELLS * 10:
            raise DropRejected(f"its lists hold over {BATCH_CELLS * 10:,} values in a few rows; write it again")
        try:
            columns = [_cells(column) for column in record_batch.columns]
        except (UnicodeDecodeError, ValueError, OverflowError):
            columns = [_cells_one_by_one(column) for column in record_batch.columns]
        for cells in zip(*columns, strict=True):
            number += 1
            row = RawRow(number, {n: c for n, c in zip(names, cells, strict=True) if c is not None})
            row.size = sum([len(c) if c.__class__ is str or c.__class__ is bytes else 8 for c in cells])
            bad = next((n for n, c in row.fields.items() if isinstance(c, _Unreadable)), None)
            if bad is not None:
                row.rule, row.message = "invalid_utf8", f'column "{bad}" cannot be read as its type; write it again'
                row.fields = {n: c for n, c in row.fields.items() if not isinstance(c, _Unreadable)}
            elif any(isinstance(c, str) and "\x00" in c for c in cells):
                row.rule, row.message = "nul_byte", "row holds a NUL byte; remove it"
            yield row


def _cells(column: pa.Array) -> list[Any]:
    """A column's values; equal ones of a dictionary are one object."""
    if pa.types.is_dictionary(column.type):
        words = column.dictionary.to_pylist()
        return [None if place is None else words[place] for place in column.indices.to_pylist()]
    return column.to_pylist()


def _leaves(column: pa.Array) -> int:
    """How many values a column holds, those in lists counted each."""
    kind = column.type
    if pa.types.is_struct(kind):
        return sum(_leaves(column.field(i)) for i in range(kind.num_fields)) + len(column)
    if pa.types.is_map(kind):
        return _leaves(column.keys) + _leaves(column.items)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _leaves(column.flatten()) + len(column)
    return len(column)


class _Unreadable:
    """A cell that Arrow holds but Python cannot."""


def _cells_one_by_one(column: Any) -> list[Any]:
    cells = []
    for scalar in column:
        try:
            cells.append(scalar.as_py())
        except (UnicodeDecodeError, ValueError, OverflowError):
            cells.append(_Unreadable())
    return cells


READER = Reader("parquet", 3, (".parquet",), parquet_rows, _DAMAGED, _DAMAGED_ERRORS)
