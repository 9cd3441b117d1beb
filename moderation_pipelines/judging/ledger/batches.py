"""The ledger's batches: where each stands, and what it was made of."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from moderation_pipelines.judging.ledger.ledger import Ledger, now


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One batch. ``reading`` is how its answers are to be read and priced, as JSON."""

    name: str
    account: str
    day: str
    endpoint: str
    state: str
    reading: str
    requests: int = 0
    tokens: int = 0
    file_id: str | None = None
    batch_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    settled: int = 0
    failed: int = 0
    note: str | None = None
    created_at: str = ""
    updated_at: str = ""

    @property
    def owner(self) -> str:
        """Who holds its claims."""
        return f"batch:{self.name}"


_COLUMNS = tuple(f.name for f in fields(BatchRow))


class Batches:
    """Every change is one transaction, committed before the caller's next step."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self._db = ledger, ledger.database

    def all(self) -> list[BatchRow]:
        rows = self._db.rows(f"SELECT {', '.join(_COLUMNS)} FROM batches ORDER BY id")  # noqa: S608
        return [BatchRow(*row) for row in rows]

    def open(self) -> list[BatchRow]:
        """Those that are out."""
        return [b for b in self.all() if b.state == "submitted"]

    def unfinished(self, account: str | None = None) -> list[BatchRow]:
        """Those a run left between building and submitting, of one judge or of all."""
        rows = [b for b in self.all() if b.state in ("building", "built", "uploaded")]
        return [b for b in rows if account in (None, b.account)]

    def begin(self, name: str, account: str, day: str, endpoint: str, reading: str) -> BatchRow:
        moment = now()
        row = BatchRow(
            name, account, day, endpoint, "building", reading, created_at=moment, updated_at=moment
        )  # fmt: skip
        marks = ", ".join("?" * len(_COLUMNS))
        insert = f"INSERT INTO batches ({', '.join(_COLUMNS)}) VALUES ({marks})"  # noqa: S608
        self._db.write(insert, [getattr(row, c) for c in _COLUMNS])
        return row

    def _change(self, row: BatchRow, **new: object) -> BatchRow:
        changed = replace(row, updated_at=now(), **new)  # type: ignore[arg-type]
        sets = ", ".join(f"{c} = ?" for c in _COLUMNS)
        update = f"UPDATE batches SET {sets} WHERE name = ?"  # noqa: S608
        self._db.write(update, [*(getattr(changed, c) for c in _COLUMNS), row.name])
        return changed

    def built(self, row: BatchRow, requests: int, tokens: int) -> BatchRow:
        return self._change(row, state="built", requests=requests, tokens=tokens)

    def uploaded(self, row: BatchRow, file_id: str) -> BatchRow:
        return self._change(row, state="uploaded", file_id=file_id)

    def submitted(self, row: BatchRow, batch_id: str) -> BatchRow:
        return self._change(row, state="submitted", batch_id=batch_id)

    def counted(self, row: BatchRow, settled: int, failed: int) -> BatchRow:
        """Add what a group of lines came to."""
        return self._change(row, settled=row.settled + settled, failed=row.failed + failed)

    def collected(self, row: BatchRow, output: str | None, errors: str | None, note: str | None) -> BatchRow:
        return self._change(row, state="collected", output_file_id=output, error_file_id=errors, note=note)

    def forget(self, row: BatchRow) -> None:
        """Take back a batch that holds nothing."""
        self._db.write("DELETE FROM batches WHERE name = ?", [row.name])

    def give_up(self, row: BatchRow) -> None:
        """Stop waiting for a batch that was created: it may have been billed, its requests are free to be asked."""
        self.ledger.settle_claims_of(row.owner, "batch_given_up")
        self._change(row, state="abandoned", note="given up by hand; it may have been billed")

    def abandon(self, row: BatchRow, note: str) -> None:
        """Give up a batch that was never created: its claims go, nothing was billed."""
        self.ledger.release_owner(row.owner, row.account, row.day)
        self._change(row, state="abandoned", note=note)
