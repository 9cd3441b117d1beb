"""Parquet, read in record batches."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow.parquet as pq

from moderation_pipelines.ingest.reading import (
    BATCH_BYTES,
    READ_ERRORS,
    DropRejected,
    RawRow,
    Reader,
    Source,
    checked_header,
)

_DAMAGED = "not a valid Parquet file, or damaged; write it again"
_DAMAGED_ERRORS = (ValueError, LookupError, OverflowError, MemoryError)


def parquet_rows(source: Source, required: Sequence[str], batch_rows: int) -> Iterator[list[RawRow]]:
    """A row per row; nulls are absent. A compressed file is unpacked beside."""
    if not source.packed:
        yield from _parquet_batches(str(source.path), required, batch_rows)
        return
    with tempfile.TemporaryFile() as plain, source.plain() as stream:
        while block := stream.read(1 << 20):
            plain.write(block)
        plain.seek(0)
        yield from _parquet_batches(plain, required, batch_rows)


def _parquet_batches(source: Any, required: Sequence[str], batch_rows: int) -> Iterator[list[RawRow]]:
    try:
        file = pq.ParquetFile(source)
        names = file.schema_arrow.names
    except (*READ_ERRORS, *_DAMAGED_ERRORS):
        raise DropRejected(_DAMAGED) from None
    with file:
        checked_header(names, required)
        number = 0
        per_row = sum(file.metadata.row_group(i).total_byte_size for i in range(file.num_row_groups))
        per_row = max(1, per_row // max(1, file.metadata.num_rows))
        for record_batch in file.iter_batches(batch_size=max(1, min(batch_rows, BATCH_BYTES // per_row))):
            names = record_batch.schema.names
            try:
                columns = [column.to_pylist() for column in record_batch.columns]
            except (UnicodeDecodeError, ValueError, OverflowError):
                columns = [_cells_one_by_one(column) for column in record_batch.columns]
            batch = []
            for cells in zip(*columns, strict=True):
                number += 1
                row = RawRow(number, {n: c for n, c in zip(names, cells, strict=True) if c is not None})
                bad = next((n for n, c in row.fields.items() if isinstance(c, _Unreadable)), None)
                if bad is not None:
                    row.rule, row.message = (
                        "invalid_utf8",
                        f'column "{bad}" cannot be read as its type; write it again',
                    )
                    row.fields = {n: c for n, c in row.fields.items() if not isinstance(c, _Unreadable)}
                elif any(isinstance(c, str) and "\x00" in c for c in cells):
                    row.rule, row.message = "nul_byte", "row holds a NUL byte; remove it"
                batch.append(row)
            yield batch
        if number != file.metadata.num_rows:
            raise DropRejected(_DAMAGED)


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
