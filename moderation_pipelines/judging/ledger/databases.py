"""Where a ledger lies: one SQLite file, or PostgreSQL when several machines share it. Same statements, same guarantees.

Statements are written once with ``?`` and what both understand (``ON CONFLICT``, ``RETURNING``). A run proves that it
is alive by a lock that ends with its process, so neither clocks nor process numbers decide whose claims are orphans.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

from moderation_pipelines.foundation.errors import UserError

Rows = list[tuple[Any, ...]]


class Database(Protocol):
    """What the ledger needs of a database."""

    blob: str
    serial: str

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Rows: ...
    def write(self, statement: str, values: Sequence[Any] = ()) -> None: ...
    def write_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None: ...
    def rows_in(self, statement: str, keys: Sequence[bytes], first: Sequence[Any] = ()) -> Rows: ...
    def write_in(self, statement: str, keys: Sequence[bytes]) -> None: ...
    def transaction(self) -> Any: ...
    def hold_run(self, run: str) -> None: ...
    def release_run(self, run: str) -> None: ...
    def is_alive(self, run: str) -> bool: ...
    def set_old_layout_aside(self) -> None: ...
    def exclusive(self, name: str) -> Any: ...
    def reader(self) -> Database: ...
    def close(self) -> None: ...


class SqliteDatabase:
    """One file, write-ahead log: one writer, any number of readers in any process.

    A commit survives the end of the process at any moment. With ``synchronous="NORMAL"`` a power cut can take the last
    commits back (never corrupt them); ``FULL`` waits for the disk on every commit.
    """

    blob, serial = "BLOB", "INTEGER PRIMARY KEY"
    _PER_QUERY = 2000

    def __init__(self, path: Path, synchronous: Literal["NORMAL", "FULL"] = "NORMAL", cache_kib: int = 6_000) -> None:
        self.path, self._synchronous = path, synchronous
        self._locks: dict[str, int] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._plain_errors():
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(f"PRAGMA synchronous={synchronous}")
            self._db.execute(f"PRAGMA cache_size=-{cache_kib}")
            self._db.execute("PRAGMA mmap_size=0")

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
            if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
                raise
            hint = {
                "SQLITE_FULL": "the disk is full: free some space and run again",
                "SQLITE_IOERR": "the disk cannot be read or written",
                "SQLITE_READONLY": "it may not be written: check its permissions",
                "SQLITE_CANTOPEN": "it cannot be opened: check the folder and its permissions",
                "SQLITE_NOTADB": "it is not a ledger: move the file away, or put the right one back",
                "SQLITE_CORRUPT": "it is damaged: put a copy back",
                "SQLITE_BUSY": "another process has been writing for a minute",
            }
            name = getattr(error, "sqlite_errorname", "") or ""
            why = next((text for code, text in hint.items() if name.startswith(code)), str(error))
            raise UserError(f"ledger {self.path}: {why}; what was settled before is in it") from None

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Rows:
        with self._plain_errors():
            return self._db.execute(statement, values).fetchall()

    def write(self, statement: str, values: Sequence[Any] = ()) -> None:
        with self._plain_errors():
            self._db.execute(statement, values)

    def write_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._plain_errors():
            self._db.executemany(statement, rows)

    def rows_in(self, statement: str, keys: Sequence[bytes], first: Sequence[Any] = ()) -> Rows:
        """Rows of a statement that ends in ``IN``, for any number of keys; looked up in key order, which is faster."""
        found: Rows = []
        ordered = sorted(keys)
        with self._plain_errors():
            for start in range(0, len(ordered), self._PER_QUERY):
                part = ordered[start : start + self._PER_QUERY]
                marks = ",".join("?" * len(part))
                found += self._db.execute(f"{statement} ({marks})", [*first, *part]).fetchall()
        return found

    def write_in(self, statement: str, keys: Sequence[bytes]) -> None:
        with self._plain_errors():
            for start in range(0, len(keys), self._PER_QUERY):
                part = list(keys[start : start + self._PER_QUERY])
                self._db.execute(f"{statement} ({','.join('?' * len(part))})", part)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; other writers wait."""
        self.write("BEGIN IMMEDIATE")
        try:
            yield
            self.write("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _lock_file(self, run: str) -> Path:
        return self.path.with_name(f"{self.path.name}.run-{run}")

    def hold_run(self, run: str) -> None:
        try:
            handle = os.open(self._lock_file(run), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(f"ledger {self.path}: its lock file cannot be written: {error.strerror}") from None
        self._locks[run] = handle

    def release_run(self, run: str) -> None:
        handle = self._locks.pop(run, None)
        if handle is not None:
            self._lock_file(run).unlink(missing_ok=True)
            os.close(handle)

    def is_alive(self, run: str) -> bool:
        if run in self._locks:
            return True
        try:
            handle = os.open(self._lock_file(run), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            self._lock_file(run).unlink(missing_ok=True)
            return False
        finally:
            os.close(handle)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        handle = os.open(self.path.with_name(f"{self.path.name}.lock-{name}"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def set_old_layout_aside(self) -> None:
        """Answers of the first layout stay in the file as ``responses_1``; their keys mean something else now."""
        columns = {row[1] for row in self.rows("PRAGMA table_info(responses)")}
        if columns and "via" not in columns:
            self.write("ALTER TABLE responses RENAME TO responses_1")

    def reader(self) -> SqliteDatabase:
        """A second connection, for reading beside the writer."""
        return SqliteDatabase(self.path, self._synchronous, cache_kib=4000)

    def close(self) -> None:
        for run in list(self._locks):
            self.release_run(run)
        self._db.close()


class PostgresDatabase:
    """A ledger that several machines share. Needs the extra ``postgres`` (psycopg 3)."""

    blob, serial = "BYTEA", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"

    def __init__(self, address: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise UserError(
                "a ledger in PostgreSQL needs psycopg: pip install 'moderation-pipelines[postgres]'"
            ) from None
        self._address, self._errors = address, psycopg.Error
        try:
            psycopg.conninfo.conninfo_to_dict(address)
        except psycopg.ProgrammingError:  # its message repeats the address, password and all
            raise UserError("MODERATION_LEDGER cannot be read as a PostgreSQL address") from None
        with self._plain_errors():
            self._db = psycopg.connect(
                address, autocommit=True, application_name="moderation_pipelines", client_encoding="utf8"
            )

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        try:
            yield
        except self._errors as error:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UserError(f"ledger in PostgreSQL (MODERATION_LEDGER): {why}") from None

    @staticmethod
    def _own(statement: str) -> str:
        return statement.replace("%", "%%").replace("?", "%s")

    def rows(self, statement: str, values: Sequence[Any] = ()) -> Rows:
        with self._plain_errors():
            return [_plain(r) for r in self._db.execute(self._own(statement), values).fetchall()]

    def write(self, statement: str, values: Sequence[Any] = ()) -> None:
        with self._plain_errors():
            self._db.execute(self._own(statement), values)

    def write_many(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        with self._plain_errors(), self._db.cursor() as cursor:
            cursor.executemany(self._own(statement), rows)

    def rows_in(self, statement: str, keys: Sequence[bytes], first: Sequence[Any] = ()) -> Rows:
        own = self._own(statement.removesuffix(" IN")) + " = ANY(%s)"
        with self._plain_errors():
            return [_plain(r) for r in self._db.execute(own, [*first, list(keys)]).fetchall()]

    def write_in(self, statement: str, keys: Sequence[bytes]) -> None:
        with self._plain_errors():
            self._db.execute(self._own(statement.removesuffix(" IN")) + " = ANY(%s)", [list(keys)])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        # One writer at a time, as in SQLite: no deadlocks, and what was read stays true until the commit.
        with self._plain_errors(), self._db.transaction():
            self._db.execute("SELECT pg_advisory_xact_lock(%s)", [self._number("ledger writer")])
            yield

    @staticmethod
    def _number(run: str) -> int:
        return int.from_bytes(hashlib.blake2b(run.encode(), digest_size=8).digest(), "big", signed=True)

    def hold_run(self, run: str) -> None:
        self.rows("SELECT pg_advisory_lock(?)", [self._number(run)])

    def release_run(self, run: str) -> None:
        self.rows("SELECT pg_advisory_unlock(?)", [self._number(run)])

    def is_alive(self, run: str) -> bool:
        number = self._number(run)
        high, low = (number >> 32) & 0xFFFFFFFF, number & 0xFFFFFFFF
        query = (
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
            "AND classid = ?::bigint::oid AND objid = ?::bigint::oid"
        )
        return bool(self.rows(query, [high, low]))

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        self.hold_run(f"exclusive {name}")
        try:
            yield
        finally:
            self.release_run(f"exclusive {name}")

    def set_old_layout_aside(self) -> None:
        """PostgreSQL never had another layout."""

    def reader(self) -> PostgresDatabase:
        return PostgresDatabase(self._address)

    def close(self) -> None:
        self._db.close()


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Rows as SQLite gives them: memoryviews as bytes, decimals (sums of whole numbers) as integers."""
    from decimal import Decimal

    return tuple(bytes(v) if isinstance(v, memoryview) else int(v) if isinstance(v, Decimal) else v for v in row)
