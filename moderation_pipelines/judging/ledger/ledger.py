"""The rules of the ledger: what is claimed before it is sent, what is settled, what it cost, what a crash left behind.

One writer (see ``writer``), any number of readers. Every public method that writes is one transaction.
"""

from __future__ import annotations

import json
import os
import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.judging.ledger.databases import Database, PostgresDatabase, SqliteDatabase
from moderation_pipelines.judging.ledger.records import (
    ANSWER_COLUMNS,
    SETTLED,
    Answer,
    Attempt,
    Claim,
    Failure,
    Grant,
    Granted,
)
from moderation_pipelines.judging.money import Price

LAYOUT = 2

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS layout (version BIGINT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS responses (
  id {serial}, request_key {blob} NOT NULL UNIQUE, outcome TEXT NOT NULL, kind TEXT, label TEXT, clause TEXT,
  evidence TEXT, p_violating DOUBLE PRECISION, p_source TEXT, rationale TEXT, error TEXT, signals TEXT,
  model_returned TEXT, fingerprint TEXT, request_id TEXT, input_tokens BIGINT, cached_tokens BIGINT,
  cache_write_tokens BIGINT, output_tokens BIGINT, reasoning_tokens BIGINT, tier TEXT, cost BIGINT,
  latency_ms DOUBLE PRECISION, attempts BIGINT NOT NULL, via TEXT NOT NULL, first_day TEXT NOT NULL,
  created_at TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS attempts (
  id {serial}, request_key {blob} NOT NULL, run TEXT NOT NULL, account TEXT NOT NULL, day TEXT NOT NULL,
  number BIGINT NOT NULL, outcome TEXT NOT NULL, kind TEXT, billed TEXT NOT NULL, input_tokens BIGINT,
  cached_tokens BIGINT, cache_write_tokens BIGINT, output_tokens BIGINT, reasoning_tokens BIGINT, tier TEXT,
  cost BIGINT NOT NULL, ms DOUBLE PRECISION, status BIGINT, request_id TEXT, at TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS claims (
  request_key {blob} PRIMARY KEY, run TEXT NOT NULL, account TEXT NOT NULL, day TEXT NOT NULL, hold BIGINT NOT NULL,
  at TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS failures (
  request_key {blob} PRIMARY KEY, run TEXT NOT NULL, outcome TEXT NOT NULL, kind TEXT NOT NULL, error TEXT NOT NULL,
  attempts BIGINT NOT NULL, at TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS spend (
  day TEXT NOT NULL, account TEXT NOT NULL, spent BIGINT NOT NULL DEFAULT 0, maybe BIGINT NOT NULL DEFAULT 0,
  reserved BIGINT NOT NULL DEFAULT 0, PRIMARY KEY (day, account))""",
    """CREATE TABLE IF NOT EXISTS runs (
  run TEXT PRIMARY KEY, account TEXT NOT NULL, day TEXT NOT NULL, what TEXT NOT NULL, host TEXT NOT NULL,
  pid BIGINT NOT NULL, started_at TEXT NOT NULL, ended_at TEXT, summary TEXT)""",
    """CREATE TABLE IF NOT EXISTS batches (
  id {serial}, name TEXT NOT NULL UNIQUE, account TEXT NOT NULL, day TEXT NOT NULL, endpoint TEXT NOT NULL,
  state TEXT NOT NULL, reading TEXT NOT NULL, requests BIGINT NOT NULL, tokens BIGINT NOT NULL, file_id TEXT,
  batch_id TEXT, output_file_id TEXT, error_file_id TEXT, settled BIGINT NOT NULL DEFAULT 0,
  failed BIGINT NOT NULL DEFAULT 0, note TEXT, created_at TEXT NOT NULL, updated_at TEXT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS prices (
  model TEXT NOT NULL, since TEXT NOT NULL, price TEXT NOT NULL, first_used_at TEXT NOT NULL,
  PRIMARY KEY (model, since, price))""",
    """CREATE TABLE IF NOT EXISTS profiles (
  endpoint TEXT NOT NULL, model TEXT NOT NULL, profile TEXT NOT NULL, at TEXT NOT NULL,
  PRIMARY KEY (endpoint, model))""",
)  # fmt: skip
_ANSWERS = ", ".join(ANSWER_COLUMNS)
_KEEP = (
    f"INSERT INTO responses (request_key, {_ANSWERS}) VALUES (?{', ?' * len(ANSWER_COLUMNS)}) "  # noqa: S608
    "ON CONFLICT (request_key) DO NOTHING"
)
_REPLACE = _KEEP.replace("DO NOTHING", "DO UPDATE SET " + ", ".join(f"{c} = excluded.{c}" for c in ANSWER_COLUMNS))
_ATTEMPT = (
    "INSERT INTO attempts (request_key, run, account, day, number, outcome, kind, billed, input_tokens, cached_tokens, "
    "cache_write_tokens, output_tokens, reasoning_tokens, tier, cost, ms, status, request_id, at) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_FAILURE = (
    "INSERT INTO failures (request_key, run, outcome, kind, error, attempts, at) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (request_key) DO UPDATE SET run = excluded.run, outcome = excluded.outcome, kind = excluded.kind, "
    "error = excluded.error, attempts = excluded.attempts, at = excluded.at"
)
_SPEND = (
    "INSERT INTO spend (day, account, spent, maybe, reserved) VALUES (?, ?, ?, ?, ?) ON CONFLICT (day, account) DO "
    "UPDATE SET spent = spend.spent + excluded.spent, maybe = spend.maybe + excluded.maybe, "
    "reserved = spend.reserved + excluded.reserved"
)


@dataclass(frozen=True)
class Spend:
    """Picodollars of one account on one day: paid, perhaps paid, and held for calls that are out."""

    spent: int = 0
    maybe: int = 0
    reserved: int = 0

    @property
    def total(self) -> int:
        return self.spent + self.maybe + self.reserved


@dataclass(frozen=True)
class Run:
    """Who writes: one engine run for one account (judge) and day. ``budget`` in picodollars for that day, or None."""

    id: str
    account: str
    day: str
    budget: int | None = None


@dataclass(slots=True)
class Settlement:
    """The end of a call: the attempt, what is kept of it, and whether its claim goes on (for another attempt, which
    may cost ``hold_more`` than this one)."""

    claim: Claim
    attempt: Attempt | None
    answer: Answer | None = None
    failure: Failure | None = None
    again: bool = False
    hold_more: int = 0
    replace: bool = False


class Ledger:
    """Answers, attempts, claims, spending, batches and prices of one home. Not for several threads at once.

    Guarantees, whatever ends the process and whenever: what was settled is never asked again; every call that may have
    been sent is an attempt (``billed`` yes, no or maybe) or a claim, which the next run turns into ``maybe``; what was
    spent, may have been spent and is held never goes over a budget, with any number of processes.
    """

    _has_failures = True

    def __init__(self, database: Database) -> None:
        self._db = database
        with database.transaction():
            database.set_old_layout_aside()
            for statement in _SCHEMA:
                database.write(statement.format(blob=database.blob, serial=database.serial))
            found = database.rows("SELECT version FROM layout")
            if not found:
                database.write("INSERT INTO layout VALUES (?)", [LAYOUT])
            elif found[0][0] != LAYOUT:
                raise UserError(f"the ledger has layout {found[0][0]}, this version reads {LAYOUT}")

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._db.close()

    def reader(self) -> Ledger:
        """The same ledger through a connection of its own, for reading while another writes."""
        other = object.__new__(Ledger)
        other._db = self._db.reader()
        return other

    # Reading

    def known(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """The settled answers among the keys."""
        found = self._db.rows_in(f"SELECT request_key, {_ANSWERS} FROM responses WHERE request_key IN", keys)  # noqa: S608
        return {row[0]: Answer._make(row[1:]) for row in found}

    def known_keys(self, keys: Sequence[bytes]) -> set[bytes]:
        """Which of the keys are settled."""
        return {r[0] for r in self._db.rows_in("SELECT request_key FROM responses WHERE request_key IN", keys)}

    def failures(self, keys: Sequence[bytes]) -> dict[bytes, Failure]:
        """The last failure of those keys that have no answer because they failed."""
        query = "SELECT request_key, outcome, kind, error, attempts, at, run FROM failures WHERE request_key IN"
        return {row[0]: Failure(*row) for row in self._db.rows_in(query, keys)}

    def claimed(self, keys: Sequence[bytes]) -> dict[bytes, str]:
        """Who is asking for those of the keys that are being asked for: run or ``batch:<name>``."""
        return dict(self._db.rows_in("SELECT request_key, run FROM claims WHERE request_key IN", keys))

    def is_alive(self, owner: str) -> bool:
        """Whether an owner of claims goes on: a run whose process lives, or a batch."""
        return owner.startswith("batch:") or self._db.is_alive(owner)

    def spend(self, day: str, account: str) -> Spend:
        rows = self._db.rows("SELECT spent, maybe, reserved FROM spend WHERE day = ? AND account = ?", [day, account])
        return Spend(*rows[0]) if rows else Spend()

    def count(self, table: Literal["responses", "attempts", "claims", "failures"]) -> int:
        return int(self._db.rows(f"SELECT COUNT(*) FROM {table}")[0][0])  # noqa: S608

    def attempt_counts(self) -> dict[str, int]:
        """Number of attempts by whether they were billed: yes, no, maybe."""
        return dict(self._db.rows("SELECT billed, COUNT(*) FROM attempts GROUP BY billed"))

    def attempts_of(self, key: bytes) -> list[tuple[int, str, str | None, str, int]]:
        """(number, outcome, kind, billed, cost) of every attempt of a request, in order."""
        query = "SELECT number, outcome, kind, billed, cost FROM attempts WHERE request_key = ? ORDER BY id"
        return self._db.rows(query, [key])

    def usage_per_request(self, account: str) -> tuple[int, float, float] | None:
        """(answers, mean tokens read, mean tokens written) of an account's latest 2,000 billed attempts, or None."""
        query = (
            "SELECT COUNT(*), AVG(CAST(input_tokens AS DOUBLE PRECISION)), AVG(CAST(output_tokens AS DOUBLE PRECISION))"
            " FROM (SELECT input_tokens, output_tokens FROM attempts WHERE account = ? AND billed = 'yes' "
            "AND input_tokens IS NOT NULL AND output_tokens IS NOT NULL "
            "ORDER BY id DESC LIMIT 2000) AS latest"
        )
        n, read, written = self._db.rows(query, [account])[0]
        return (int(n), float(read), float(written)) if n else None

    def holds(self, owner: str) -> dict[bytes, int]:
        """What an owner has claimed: key to picodollars held."""
        return dict(self._db.rows("SELECT request_key, hold FROM claims WHERE run = ?", [owner]))

    def release_owner(self, owner: str, account: str, day: str) -> None:
        """Give back everything an owner claimed and never sent."""
        with self._db.transaction():
            self._release_owner(owner, account, day)

    def _release_owner(self, owner: str, account: str, day: str) -> None:
        held = sum(self.holds(owner).values())
        self._db.write("DELETE FROM claims WHERE run = ?", [owner])
        if held:
            self._db.write(_SPEND, [day, account, 0, 0, -held])

    @property
    def database(self) -> Database:
        return self._db

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """One process at a time, on every machine that shares the ledger; ends with the process."""
        with self._db.exclusive(name):
            yield

    # A run

    def begin(self, account: str, day: date, what: str = "", budget: int | None = None) -> Run:
        """Start to write for an account: settles what crashed runs left, then holds a lock that ends with the process.

        What a crash left claimed may have been sent: it becomes an attempt with ``billed = maybe`` at its full hold.
        """
        run = Run(uuid.uuid4().hex, account, day.isoformat(), budget)
        self._db.hold_run(run.id)
        with self._db.transaction():
            self._settle_orphaned()
            # Another run's failures may stay beside an answer then; answers are looked at first.
            self._has_failures = bool(self._db.rows("SELECT 1 FROM failures LIMIT 1"))
            insert = "INSERT INTO runs (run, account, day, what, host, pid, started_at) VALUES (?, ?, ?, ?, ?, ?, ?)"
            self._db.write(insert, [run.id, account, run.day, what, os.uname().nodename, os.getpid(), now()])
        return run

    def end(self, run: Run, summary: Mapping[str, Any] | None = None, all_written: bool = True) -> None:
        """Say that a run is over. Claims it still holds were never sent, so they go; unless not all that became of its
        calls could be written: then they stay, and the next run takes them for perhaps billed."""
        with self._db.transaction():
            if all_written:
                self._release_owner(run.id, run.account, run.day)
            text = None if summary is None else json.dumps(summary, sort_keys=True)
            self._db.write("UPDATE runs SET ended_at = ?, summary = ? WHERE run = ?", [now(), text, run.id])
        self._db.release_run(run.id)

    def settle_orphaned_claims(self) -> None:
        """Settle what runs left that are no more: it may have been billed, and is free to be asked for."""
        with self._db.transaction():
            self._settle_orphaned()

    def settle_claims_of(self, owner: str, kind: str) -> None:
        """Turn everything an owner still claims into attempts with ``billed = maybe``."""
        with self._db.transaction():
            self._settle_owner(owner, kind)

    def _settle_orphaned(self) -> None:
        for (owner,) in self._db.rows("SELECT DISTINCT run FROM claims"):
            if not self.is_alive(owner):
                self._settle_owner(owner, "crash")

    def _settle_owner(self, owner: str, kind: str) -> None:
        left = self._db.rows("SELECT request_key, account, day, hold FROM claims WHERE run = ?", [owner])
        moment = now()
        self._db.write_many(
            _ATTEMPT,
            [
                (key, owner, account, day, 0, "lost", kind, "maybe", *[None] * 6, hold, None, None, None, moment)
                for key, account, day, hold in left
            ],
        )
        for (day, account), hold in _summed((day, account, hold) for _, account, day, hold in left).items():
            self._db.write(_SPEND, [day, account, 0, hold, -hold])
        self._db.write("DELETE FROM claims WHERE run = ?", [owner])

    def claim(self, run: Run, claims: Sequence[Claim]) -> list[Grant]:
        """Claim requests before they are sent. See :class:`Grant`; in one transaction.

        Repeated keys are claimed once, the others are ``taken``.
        """
        with self._db.transaction():
            return self._claim(run, claims)

    def _claim(self, run: Run, claims: Sequence[Claim]) -> list[Grant]:
        unique = {c.key: c for c in claims}
        settled = self._settled_meanwhile(unique)
        wanted = [unique[k] for k in sorted(unique.keys() - settled)]  # in key order, which is faster
        moment = now()
        got: set[bytes] = set()
        for start in range(0, len(wanted), 500):
            part = wanted[start : start + 500]
            values: list[Any] = []
            for c in part:
                values += [c.key, run.id, run.account, run.day, c.hold, moment]
            marks = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(part))
            insert = f"INSERT INTO claims (request_key, run, account, day, hold, at) VALUES {marks} "  # noqa: S608
            rows = self._db.rows(insert + "ON CONFLICT (request_key) DO NOTHING RETURNING request_key", values)
            got |= {r[0] for r in rows}
        mine = [c for c in unique.values() if c.key in got]
        refused: set[bytes] = set()
        held = 0
        if run.budget is not None:
            left = run.budget - self.spend(run.day, run.account).total
            for c in mine:
                if held + c.hold <= left:
                    held += c.hold
                else:
                    refused.add(c.key)
            if refused:
                self._db.write_in("DELETE FROM claims WHERE request_key IN", list(refused))
        else:
            held = sum(c.hold for c in mine)
        if held:
            self._db.write(_SPEND, [run.day, run.account, 0, 0, held])
        results: list[Grant] = []
        given: set[bytes] = set()
        for c in claims:
            result: Granted = "known"
            if c.key not in settled:
                result = "over_budget" if c.key in refused else "go" if c.key in got else "taken"
                if result == "go" and c.key in given:
                    result = "taken"
                given.add(c.key)
            results.append(Grant(c.key, result))
        return results

    def _settled_meanwhile(self, claims: Mapping[bytes, Claim]) -> set[bytes]:
        """Which of the requests are settled; not those whose stored answer is to be asked for again."""
        if all(c.seen is None for c in claims.values()):
            return self.known_keys(list(claims))
        return {k for k, answer in self.known(list(claims)).items() if claims[k].seen != answer.created_at}

    def release(self, run: Run, claims: Sequence[Claim]) -> None:
        """Give claims back that were never sent."""
        with self._db.transaction():
            self._release(run, claims)

    def _release(self, run: Run, claims: Sequence[Claim]) -> None:
        self._db.write_in("DELETE FROM claims WHERE request_key IN", [c.key for c in claims])
        held = sum(c.hold for c in claims)
        if held:
            self._db.write(_SPEND, [run.day, run.account, 0, 0, -held])

    def settle(self, run: Run, settlements: Sequence[Settlement]) -> list[bool]:
        """Write what became of calls, in one transaction. True where a call may go on for another attempt."""
        with self._db.transaction():
            return self._settle(run, settlements)

    def _settle(self, run: Run, settlements: Sequence[Settlement]) -> list[bool]:
        spent = maybe = freed = 0
        attempts: list[Sequence[Any]] = []
        kept: list[Sequence[Any]] = []
        replaced: list[Sequence[Any]] = []
        failed, answered = [], []
        for s in settlements:
            a = s.attempt
            if a is not None:
                u = a.usage
                attempts.append(
                    (a.key, run.id, run.account, run.day, a.number, a.outcome, a.kind, a.billed, u.input, u.cached,
                     u.cache_write, u.output, u.reasoning, u.tier, a.cost, a.ms, a.status, a.request_id, a.at)
                )  # fmt: skip
                if a.billed == "yes":
                    spent += a.cost
                elif a.billed == "maybe":
                    maybe += a.cost
            if s.answer is not None:
                if s.answer.outcome not in SETTLED:
                    raise ValueError(f"{s.answer.outcome} is no answer and never kept")
                row = (s.claim.key, *s.answer)
                (replaced if s.replace else kept).append(row)
                answered.append(s.claim.key)
            if s.failure is not None:
                f = s.failure
                failed.append((f.key, run.id, f.outcome, f.kind, f.error, f.attempts, f.at))
        if attempts:
            self._db.write_many(_ATTEMPT, attempts)
        if kept:
            self._db.write_many(_KEEP, kept)
        if replaced:
            self._db.write_many(_REPLACE, replaced)
        if failed:
            self._has_failures = True
            self._db.write_many(_FAILURE, failed)
        if answered and self._has_failures:
            self._db.write_in("DELETE FROM failures WHERE request_key IN", answered)
        allowed, over = [], []
        left: int | None = None
        if run.budget is not None and any(s.again for s in settlements):
            left = run.budget - self.spend(run.day, run.account).total - spent - maybe
        for s in settlements:
            go_on = s.again and (left is None or left >= s.hold_more)
            allowed.append(go_on)
            if not go_on:
                over.append(s.claim.key)
                freed += s.claim.hold
                left = None if left is None else left + s.claim.hold
            elif s.hold_more:
                self._db.write("UPDATE claims SET hold = hold + ? WHERE request_key = ?", [s.hold_more, s.claim.key])
                freed -= s.hold_more
                left = None if left is None else left - s.hold_more
        if over:
            self._db.write_in("DELETE FROM claims WHERE request_key IN", over)
        if spent or maybe or freed:
            self._db.write(_SPEND, [run.day, run.account, spent, maybe, -freed])
        return allowed

    def fail(self, run: Run, failures: Sequence[Failure]) -> None:
        """Note why requests that were never sent have no answer."""
        with self._db.transaction():
            self._fail(run, failures)

    def _fail(self, run: Run, failures: Sequence[Failure]) -> None:
        self._has_failures = True
        self._db.write_many(_FAILURE, [(f.key, run.id, f.outcome, f.kind, f.error, f.attempts, f.at) for f in failures])

    # Prices and profiles

    def note_price(self, model: str, price: Price) -> None:
        """Keep which price costs were worked out with."""
        text = json.dumps(price.model_dump(mode="json", exclude={"since"}), sort_keys=True)
        insert = "INSERT INTO prices (model, since, price, first_used_at) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
        self._db.write(insert, [model, "" if price.since is None else price.since.isoformat(), text, now()])

    def prices(self) -> list[tuple[str, str, dict[str, Any]]]:
        """(model, since, price) of every price that was used."""
        found = self._db.rows("SELECT model, since, price FROM prices ORDER BY model, since, first_used_at")
        return [(model, since, json.loads(price)) for model, since, price in found]

    def profile(self, endpoint: str, model: str) -> dict[str, Any] | None:
        """What an endpoint was found to be able to do with a model, or None if it was never probed."""
        rows = self._db.rows("SELECT profile FROM profiles WHERE endpoint = ? AND model = ?", [endpoint, model])
        return json.loads(rows[0][0]) if rows else None

    def keep_profile(self, endpoint: str, model: str, profile: Mapping[str, Any]) -> None:
        insert = (
            "INSERT INTO profiles (endpoint, model, profile, at) VALUES (?, ?, ?, ?) ON CONFLICT (endpoint, model) DO "
            "UPDATE SET profile = excluded.profile, at = excluded.at"
        )
        self._db.write(insert, [endpoint, model, json.dumps(dict(profile), sort_keys=True), now()])


def _summed(rows: Iterable[tuple[str, str, int]]) -> dict[tuple[str, str], int]:
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for day, account, hold in rows:
        sums[day, account] += hold
    return sums


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def open_ledger(path: Path, environ: Mapping[str, str] | None = None) -> Ledger:
    """The ledger of a home: its SQLite file, or the PostgreSQL database that MODERATION_LEDGER names.

    MODERATION_LEDGER_SYNCHRONOUS is NORMAL (default) or FULL. Raises :class:`UserError` for anything else.
    """
    environ = os.environ if environ is None else environ
    address = environ.get("MODERATION_LEDGER", "").strip()
    if address:
        if not address.startswith(("postgresql://", "postgres://")):
            raise UserError("MODERATION_LEDGER must be an address like postgresql://host/database")
        return Ledger(PostgresDatabase(address))
    synchronous = environ.get("MODERATION_LEDGER_SYNCHRONOUS", "NORMAL").strip().upper()
    if synchronous == "NORMAL":
        return Ledger(SqliteDatabase(path, "NORMAL"))
    if synchronous == "FULL":
        return Ledger(SqliteDatabase(path, "FULL"))
    raise UserError(f'MODERATION_LEDGER_SYNCHRONOUS="{synchronous}" is neither NORMAL nor FULL')
