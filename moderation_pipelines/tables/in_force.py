"""What was in force on each day: which policy text, prompt, judge file, setting and release. A day is a function of it.

Recorded when a day is first run and kept from then on, so that an old day run again gives the same rows; a stated
re-run records it again. The bytes of every file lie under ``_objects/<sha256>``; without them the day is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from moderation_pipelines.foundation.errors import Problem, ReadFailure
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.tables import store
from moderation_pipelines.tables.column import moment, text
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import DROP_DATE
from moderation_pipelines.tables.warehouse import Warehouse

RELEASE, SETTING, UNUSABLE = "release", "setting", "unusable"
_NOT_FILES = (RELEASE, SETTING)

IN_FORCE = Table(
    "in_force",
    "one thing in force on one day",
    ("drop_date", "kind", "name", "version"),
    {
        "drop_date": DROP_DATE,
        "kind": text("kind of thing: policy, prompt, examples, judges, eval_sets, setting or release, among others"),
        "name": text("name: a path inside prompts/, a setting, an eval set"),
        "version": text("version: of a file the start of its hash, `unusable` when it has mistakes; a setting's value"),
        "sha256": text("SHA-256 of the bytes; of a release, of its rows"),
        "known_at": moment("time it was recorded"),
    },
)


@dataclass(frozen=True)
class Thing:
    """One thing that can be in force."""

    kind: str
    name: str
    version: str
    sha256: str


def keep_object(home: Home, data: bytes) -> str:
    """Keep bytes under their hash. Returns the hash."""
    digest = hashlib.sha256(data).hexdigest()
    place = _objects(home) / digest
    if not store.exists(place):
        store.write_bytes(place, data)
    return digest


def kept_object(home: Home, digest: str) -> bytes:
    """The bytes of a hash. Raises :class:`ReadFailure` when they are gone or are not those bytes any more."""
    place = _objects(home) / digest
    if not store.is_file(place):
        raise ReadFailure([Problem(home.relative(place), None, "is gone; restore it from a copy")])
    data = store.read_bytes(place)
    if hashlib.sha256(data).hexdigest() != digest:
        raise ReadFailure([Problem(home.relative(place), None, "is damaged; restore it from a copy")])
    return data


def _objects(home: Home) -> Path:
    return home.warehouse / "_objects"


def current_files(home: Home, kinds: Iterable[tuple[str, str]], broken: Collection[str]) -> list[Thing]:
    """The home's files by (kind, pattern) as they stand, their bytes kept. ``broken``: files with mistakes, as messages
    name them."""
    found: dict[str, Thing] = {}
    for kind, pattern in kinds:
        for path in sorted(home.prompts.glob(pattern)):
            name = path.relative_to(home.prompts).as_posix()
            if name in found or not store.is_file(path):
                continue
            digest = keep_object(home, store.read_bytes(path))
            version = UNUSABLE if home.relative(path) in broken else digest[:12]
            found[name] = Thing(kind, name, version, digest)
    return list(found.values())


def setting(name: str, value: object) -> Thing:
    """A setting as a thing in force."""
    return Thing(SETTING, name, str(value), hashlib.sha256(str(value).encode()).hexdigest())


def newest_day(warehouse: Warehouse) -> date | None:
    """The latest day that was ever run. It is open: running it again takes the files as they stand."""
    days = warehouse.days(IN_FORCE)
    return days[-1] if days else None


def is_open(warehouse: Warehouse, day: date) -> bool:
    """Whether no later day was run: only then a run may take new files and buy new answers."""
    newest = newest_day(warehouse)
    return newest is None or day >= newest


def recorded(warehouse: Warehouse, day: date) -> list[Thing]:
    """What is recorded for a day; nothing when it was never run."""
    columns = ("kind", "name", "version", "sha256")
    frame = warehouse.scan(IN_FORCE, [day]).select(columns).sort(columns).collect()
    return [Thing(*row) for row in frame.iter_rows()]


def record(warehouse: Warehouse, day: date, things: Sequence[Thing], restate: bool = False) -> list[Thing]:
    """Record files and settings for a day and return what is in force then.

    Written when nothing was recorded yet or the re-run is stated (``restate``). Else what is recorded stays, but for
    files recorded as unusable: those are taken as they stand now. Releases stay in any case.
    """
    with store.lock(warehouse.home.warehouse / "_locks" / "in_force"):
        before = recorded(warehouse, day)
        files = [t for t in before if t.kind != RELEASE]
        if not files or restate:
            chosen = list(things)
        else:
            unusable = {t.name for t in files if t.version == UNUSABLE}
            now = {t.name: t for t in things}
            chosen = [now.get(t.name, t) if t.name in unusable else t for t in files]
        return _write(warehouse, day, [*chosen, *(t for t in before if t.kind == RELEASE)])


def add_releases(warehouse: Warehouse, day: date, releases: Iterable[Thing]) -> list[Thing]:
    """Add releases a day was asked for; those recorded before stay. Returns all of them."""
    with store.lock(warehouse.home.warehouse / "_locks" / "in_force"):
        before = recorded(warehouse, day)
        new = [t for t in releases if t not in before]
        after = _write(warehouse, day, [*before, *new]) if new else before
        return [t for t in after if t.kind == RELEASE]


def _write(warehouse: Warehouse, day: date, things: Sequence[Thing]) -> list[Thing]:
    """Write a day's record and return it. What stood in it before keeps the time it was recorded."""
    before = warehouse.scan(IN_FORCE, [day]).collect()
    known = {(r["kind"], r["name"], r["version"], r["sha256"]): r["known_at"] for r in before.iter_rows(named=True)}
    now = datetime.now(UTC)
    chosen = sorted(set(things), key=lambda t: (t.kind, t.name, t.version, t.sha256))
    rows = [
        {
            "drop_date": day, "kind": t.kind, "name": t.name, "version": t.version, "sha256": t.sha256,
            "known_at": known.get((t.kind, t.name, t.version, t.sha256), now),
        }
        for t in chosen
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema=IN_FORCE.schema)
    if not frame.equals(before) or not warehouse.rows(IN_FORCE, day):
        warehouse.write(IN_FORCE, frame, day)
    return chosen


def digest(things: Iterable[Thing]) -> str:
    """One hash of the files and settings of a day: what its tables are made from beside their rows."""
    lines = sorted(f"{t.kind}\x1f{t.name}\x1f{t.sha256}" for t in things if t.kind != RELEASE)
    return hashlib.sha256("\x1e".join(lines).encode()).hexdigest()


def home_in_force(home: Home, things: Iterable[Thing]) -> Home:
    """The home with the files that were in force in place of those of today.

    Raises :class:`ReadFailure`, naming every file whose bytes are gone.
    """
    files = [t for t in things if t.kind not in _NOT_FILES]
    problems: list[Problem] = []
    data: dict[str, bytes] = {}
    for t in files:
        try:
            data[t.name] = kept_object(home, t.sha256)
        except ReadFailure as error:
            problems += [Problem(f"prompts/{t.name}", None, f"as it was in force: {p}") for p in error.problems]
    if problems:
        raise ReadFailure(problems)
    lines = sorted(f"{t.name}\x1f{t.sha256}" for t in files)
    tree = home.warehouse / "_in_force" / hashlib.sha256("\x1e".join(lines).encode()).hexdigest()[:32]
    if not store.is_folder(tree):
        with store.staging(home.warehouse) as folder:
            building = store.make_folder(folder / "prompts")
            for name, content in data.items():
                store.write_bytes(building / name, content)
            store.place_folder(building, tree)
    return replace(home, prompts_folder=tree)
