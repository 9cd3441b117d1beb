"""The ledger: every answer that was paid for, by the hash of what was asked. Asked once, kept for ever."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from types import TracebackType
from typing import Any

from moderation_pipelines.scoring.outcomes import LabelSet

KEY_VERSION = 1
SETTLED = frozenset({"verdict", "refusal", "content_filter", "parse_error", "truncated"})

_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
  id INTEGER PRIMARY KEY,
  request_key BLOB NOT NULL UNIQUE,
  outcome TEXT NOT NULL,
  label TEXT,
  p_violating REAL,
  p_source TEXT,
  rationale TEXT,
  error TEXT,
  model_returned TEXT,
  input_tokens INTEGER,
  cached_tokens INTEGER,
  output_tokens INTEGER,
  cost_usd REAL,
  latency_ms REAL,
  attempts INTEGER NOT NULL,
  first_day TEXT NOT NULL,
  created_at TEXT NOT NULL
)
"""
_SPENT = """
CREATE TABLE IF NOT EXISTS spent (
  day TEXT NOT NULL, account TEXT NOT NULL, usd REAL NOT NULL, PRIMARY KEY (day, account)
)
"""
_COLUMNS = (
    "outcome", "label", "p_violating", "p_source", "rationale", "error", "model_returned", "input_tokens",
    "cached_tokens", "output_tokens", "cost_usd", "latency_ms", "attempts", "first_day", "created_at",
)  # fmt: skip


@dataclass(frozen=True)
class Settled:
    """What became of one request."""

    outcome: str
    label: str | None
    p_violating: float | None
    p_source: str | None
    rationale: str | None
    error: str | None
    model_returned: str | None
    input_tokens: int | None
    cached_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    latency_ms: float | None
    attempts: int
    first_day: str
    created_at: str

    @staticmethod
    def unanswered(outcome: str, error: str, day: date) -> Settled:
        """A request that was never sent; dated to the start of its day, so that a rerun says the same."""
        moment = datetime.combine(day, time(), UTC).isoformat()
        nothing = dict.fromkeys(("label", "p_violating", "p_source", "rationale", "model_returned"))
        usage = dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens", "cost_usd", "latency_ms"))
        return Settled(outcome, error=error, attempts=0, first_day=str(day), created_at=moment, **nothing, **usage)


def request_key(asked: str, body: dict[str, Any], labels: LabelSet) -> str:
    """Identity of a request: hash of who is asked, of everything the model sees, and of how its answer is read.

    Hex, 128 bits. ``asked`` names the endpoint (its address, or the baseline). Not part of it: timeout, retries,
    concurrency.
    """
    reading = [list(labels.ids), sorted(labels.violating)]
    canonical = json.dumps([KEY_VERSION, asked, body, reading], sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(canonical.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Ledger:
    """SQLite file, write-ahead log. Errors and timeouts are never kept, so the next run asks again."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, timeout=60)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(_SCHEMA)
        self._db.execute(_SPENT)
        self._db.commit()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.commit()
        self._db.close()

    def known(self, keys: Sequence[str]) -> dict[str, Settled]:
        """The settled answers among the keys."""
        found: dict[str, Settled] = {}
        columns = ", ".join(_COLUMNS)
        for start in range(0, len(keys), 500):
            chunk = [bytes.fromhex(k) for k in keys[start : start + 500]]
            marks = ",".join("?" * len(chunk))
            query = f"SELECT request_key, {columns} FROM responses WHERE request_key IN ({marks})"  # noqa: S608
            for row in self._db.execute(query, chunk):
                found[row[0].hex()] = Settled(*row[1:])
        return found

    def spent(self, day: str, account: str) -> float:
        """US dollars spent on a day on one account, what may have been billed included."""
        row = self._db.execute("SELECT usd FROM spent WHERE day = ? AND account = ?", (day, account)).fetchone()
        return float(row[0]) if row else 0.0

    def spend(self, day: str, account: str, usd: float) -> None:
        """Add to what was spent on a day."""
        add = "INSERT INTO spent VALUES (?, ?, ?) ON CONFLICT (day, account) DO UPDATE SET usd = usd + excluded.usd"
        self._db.execute(add, (day, account, usd))
        self._db.commit()

    def keep(self, answers: Iterable[tuple[str, Settled]]) -> None:
        """Write settled answers and commit. One already there stays as it is."""
        marks = ",".join("?" * (len(_COLUMNS) + 1))
        self._db.executemany(
            f"INSERT OR IGNORE INTO responses (request_key, {', '.join(_COLUMNS)}) VALUES ({marks})",  # noqa: S608
            [(bytes.fromhex(key), *(getattr(s, c) for c in _COLUMNS)) for key, s in answers if s.outcome in SETTLED],
        )
        self._db.commit()
