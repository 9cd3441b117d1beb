"""Parquet, read in record batches."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from moderation_pipelines.ingest.reading import (
    BATCH_BYTES,
    READ_ERRORS,
    DropRejected,
    RawRow,
    Reader,
    Source,
    Unreadable,
    batched,
    checked_header,
)

BATCH_CELLS = 2_000_000
LIST_VALUES = 20_000_000
DENSE_BYTES = 8 * BATCH_BYTES
_DAMAGED = "not a valid Parquet file, or damaged; write it again"
_DAMAGED_ERRORS = (ValueError, LookupError, OverflowError, MemoryError)
# What Arrow raises for a cell that Python has no value for: bytes that are no text and times out of range (ValueError,
# OverflowError), time zones nobody knows (LookupError), types without a Python value.
_CELL_ERRORS = (ValueError, OverflowError, LookupError, NotImplementedError, pa.ArrowException)


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
        chunks = [group.column(j) for group in groups for j in range(group.num_columns)]
        checked_header(names, required, of.known, of.bounds.columns)
        if metadata.num_columns > of.bounds.columns:
            raise DropRejected(f"its columns hold {metadata.num_columns:,} fields; at most {of.bounds.columns:,}")
        size = sum(group.total_byte_size for group in groups)
        if (broken := of.too_large(metadata.num_rows, size)) is not None:
            raise DropRejected(broken)
        if any(chunk.num_values > LIST_VALUES + 20 * metadata.num_rows for chunk in chunks):
            raise DropRejected(f"its lists hold over {LIST_VALUES:,} values in a few rows; write it again")
        # A few bytes in a dictionary can stand for gigabytes: such columns stay words and places.
        words = sorted({c.path_in_schema for c in chunks if c.physical_type == "BYTE_ARRAY"
                        and any("DICTIONARY" in e for e in c.encodings)})  # fmt: skip
        if words:
            file.close()
            file = pq.ParquetFile(file_or_path, read_dictionary=words)
    except (*READ_ERRORS, *_DAMAGED_ERRORS):
        raise DropRejected(_DAMAGED) from None
    with file:
        per_row = max(1, size // max(1, metadata.num_rows), _fixed_bytes(metadata))
        most = max(1, min(batch_rows, BATCH_BYTES // per_row, BATCH_CELLS // max(1, metadata.num_columns)))
        number = 0
        for batch in batched(_numbered(file.iter_batches(batch_size=most)), batch_rows):
            number += len(batch)
            yield batch
        if number != metadata.num_rows:
            raise DropRejected(_DAMAGED)


def _fixed_bytes(metadata: Any) -> int:
    """Bytes of a row in columns of fixed width, however little they take in the file."""
    columns = (metadata.schema.column(i) for i in range(metadata.num_columns))
    return sum(c.length for c in columns if c.physical_type == "FIXED_LEN_BYTE_ARRAY")


def _numbered(batches: Iterator[pa.RecordBatch]) -> Iterator[RawRow]:
    number = 0
    for record_batch in batches:
        for part in _bearable(record_batch):
            for row in _rows(part, number):
                number = row.line
                yield row


def _bearable(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """A batch in parts that can be had as Python values: halved until what stands in dictionaries is little enough."""
    if sum(_dense(column) for column in batch.columns) <= DENSE_BYTES:
        yield batch
        return
    if batch.num_rows == 1:
        raise DropRejected(f"a row stands for over {DENSE_BYTES:,} bytes; write it again")
    half = batch.num_rows // 2
    yield from _bearable(batch.slice(0, half))
    yield from _bearable(batch.slice(half))


def _dense(column: pa.Array, nested: bool = False) -> int:
    """About how many bytes a column's values take in Python; equal words of a plain dictionary column are shared."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if not nested:
            return 8 * len(column)
        lengths = pc.fill_null(pc.take(pc.binary_length(column.dictionary), column.indices), 0)
        return int(pc.sum(lengths).as_py() or 0) + 50 * len(column)
    if pa.types.is_struct(kind):
        return sum(_dense(column.field(i), nested=True) for i in range(kind.num_fields)) + 200 * len(column)
    if pa.types.is_map(kind):
        return _dense(column.keys, nested=True) + _dense(column.items, nested=True) + 200 * len(column)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _dense(column.flatten(), nested=True) + 100 * len(column)
    return int(column.nbytes) + 30 * len(column)


def _rows(batch: pa.RecordBatch, before: int) -> Iterator[RawRow]:
    names = batch.schema.names
    try:
        columns = [_cells(column) for column in batch.columns]
    except _CELL_ERRORS:
        columns = [_cells_one_by_one(column) for column in batch.columns]
    for number, cells in enumerate(zip(*columns, strict=True), start=before + 1):
        row = RawRow(number, {n: c for n, c in zip(names, cells, strict=True) if c is not None})
        row.size = sum([_weight(c) + len(n) for n, c in row.fields.items()])
        if any(c.__class__ is str and "\x00" in c for c in cells):
            row.rule, row.message = "nul_byte", "row holds a NUL byte; remove it"
        yield row


def _weight(value: Any) -> int:
    kind = value.__class__
    if kind is str or kind is bytes:
        return len(value)
    if kind is list or kind is tuple:
        return 8 + sum([_weight(v) for v in value])
    if kind is dict:
        return 8 + sum([_weight(v) + len(k) for k, v in value.items()])
    return 8


def _cells(column: pa.Array) -> list[Any]:
    """A column's values; equal ones of a dictionary are one object."""
    if pa.types.is_dictionary(column.type):
        words = column.dictionary.to_pylist()
        return [None if place is None else words[place] for place in column.indices.to_pylist()]
    return column.to_pylist()


def _cells_one_by_one(column: pa.Array) -> list[Any]:
    cells: list[Any] = []
    for scalar in column:
        try:
            cells.append(scalar.as_py())
        except _CELL_ERRORS:
            cells.append(Unreadable())
    return cells


READER = Reader("parquet", 3, (".parquet",), parquet_rows, _DAMAGED, _DAMAGED_ERRORS)
