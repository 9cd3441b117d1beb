"""The landing zone: which days and files are there, and how a file gets in."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from moderation_pipelines.foundation.errors import Problem, ReadFailure, UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.ingest.feed import FEEDS
from moderation_pipelines.tables import store

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_NOT_THERE_YET = (".tmp", ".part")


@dataclass(frozen=True)
class DropFile:
    """One delivered file."""

    feed: str
    day: date
    path: Path

    @property
    def name(self) -> str:
        return self.path.name.encode("utf-8", "backslashreplace").decode()

    @property
    def place(self) -> str:
        """How messages name it: feed/day/file."""
        return f"{self.feed}/{self.day}/{self.name}"

    @property
    def fingerprint(self) -> str:
        """Changes when the file is replaced: name, size, time of last change, inode."""
        return f"{self.path.name!r}:{store.state(self.path)}"


def is_complete_name(name: str) -> bool:
    """Whether a file of this name counts as delivered; ``.*``, ``_*``, ``*.tmp``, ``*.part`` are not there yet."""
    return not name.startswith((".", "_")) and not name.endswith(_NOT_THERE_YET)


def day_from_name(name: str) -> date | None:
    if not _DAY.fullmatch(name):
        return None
    try:
        return date.fromisoformat(name)
    except ValueError:
        return None


def _listed(home: Home, folder: Path) -> list[Path]:
    try:
        return [folder / name for name in store.names(folder)]
    except ReadFailure as error:
        problems = [Problem(home.relative(folder), None, p.message) for p in error.problems]
        raise ReadFailure(problems) from None


def landing_days(home: Home) -> dict[date, list[DropFile]]:
    """Every day with at least one delivered file, in order, and its files (content first, then by name).

    A feed folder that does not exist is empty; one that exists and cannot be read raises :class:`ReadFailure`.
    """
    days: dict[date, list[DropFile]] = {}
    for feed in FEEDS.names:
        root = home.drops / feed
        for folder in _listed(home, root):
            day = day_from_name(folder.name)
            if day is not None and is_complete_name(folder.name):
                files = drop_files(home, feed, day)
                if files:
                    days.setdefault(day, []).extend(files)
    return dict(sorted(days.items()))


def misplaced(home: Home) -> list[Problem]:
    """Entries of the landing zone that no day will ever pick up, with how to fix it."""
    problems = []
    for feed in FEEDS.names:
        root = home.drops / feed
        for entry in _listed(home, root):
            if is_complete_name(entry.name) and day_from_name(entry.name) is None:
                hint = "is not a day folder; files belong in data/drops/<feed>/YYYY-MM-DD/"
                problems.append(Problem(home.relative(entry), None, hint))
    return problems


def drop_files(home: Home, feed: str, day: date) -> list[DropFile]:
    """Delivered files of one feed and day, by name. Folders and half-written files are left out."""
    folder = home.drops / feed / str(day)
    return [
        DropFile(feed, day, path)
        for path in _listed(home, folder)
        if is_complete_name(path.name) and not store.is_real_folder(path)
    ]


def day_fingerprint(files: list[DropFile]) -> str:
    """One hash for all files of a day; it changes when any file comes, goes or is replaced."""
    lines = sorted(f"{f.feed}/{f.fingerprint}" for f in files)
    return hashlib.blake2b("\n".join(lines).encode(), digest_size=12).hexdigest()


def place_drop(home: Home, source: Path, feed: str, day: date) -> Path:
    """Copy a file into the landing zone so that no reader sees half of it. Returns where it lies.

    A file of the same name delivered for that day before is replaced: that is how corrections arrive.
    """
    name = source.name
    if not is_complete_name(name):
        raise UserError(f'"{name}" would never be picked up: names starting with . or _ and .tmp, .part are skipped')
    folder = home.drops / feed / str(day)
    final = folder / name
    if final.exists() and source.resolve() == final.resolve():
        return final
    try:
        store.copy_in(source, final)
    except OSError as error:
        raise UserError(f"{source} could not be placed: {error.strerror}") from None
    return final
