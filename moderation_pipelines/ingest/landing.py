"""The landing zone: which days and files are there, and how a file gets in."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from moderation_pipelines.foundation.errors import Problem, ReadFailure, UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.ingest.feed import FEEDS

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
        s = self.path.lstat()
        return f"{self.path.name!r}:{s.st_size}:{s.st_mtime_ns}:{s.st_ino}"


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


def _listed(folder: Path, what: str) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda p: os.fsencode(p.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ReadFailure(
            [Problem(what, None, f"folder cannot be read ({error.strerror}); nothing is taken to be empty")]
        ) from None


def landing_days(home: Home) -> dict[date, list[DropFile]]:
    """Every day with at least one delivered file, in order, and its files (content first, then by name).

    A feed folder that does not exist is empty; one that exists and cannot be read raises :class:`ReadFailure`.
    """
    days: dict[date, list[DropFile]] = {}
    for feed in FEEDS.names:
        root = home.drops / feed
        for folder in _listed(root, home.relative(root)):
            day = day_from_name(folder.name)
            if day is not None and is_complete_name(folder.name):
                files = drop_files(home, feed, day)
                if files:
                    days.setdefault(day, []).extend(files)
    return dict(sorted(days.items()))


def misplaced(home: Home) -> list[Problem]:
    """Entries of the landing zone that no day will ever pick up, with what would be right."""
    problems = []
    for feed in FEEDS.names:
        root = home.drops / feed
        for entry in _listed(root, home.relative(root)):
            if is_complete_name(entry.name) and day_from_name(entry.name) is None:
                hint = "is not a day folder; files belong in data/drops/<feed>/YYYY-MM-DD/"
                problems.append(Problem(home.relative(entry), None, hint))
    return problems


def drop_files(home: Home, feed: str, day: date) -> list[DropFile]:
    """Delivered files of one feed and day, by name. Folders and half-written files are left out."""
    folder = home.drops / feed / str(day)
    return [
        DropFile(feed, day, path)
        for path in _listed(folder, home.relative(folder))
        if is_complete_name(path.name) and not stat.S_ISDIR(path.lstat().st_mode)
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
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / name
    if final.exists() and source.resolve() == final.resolve():
        return final
    temporary = folder / f".{name}.{os.getpid()}.tmp"
    try:
        with source.open("rb") as read, temporary.open("wb") as write:
            while block := read.read(1 << 20):
                write.write(block)
            write.flush()
            os.fsync(write.fileno())
        os.replace(temporary, final)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{source} could not be placed: {error.strerror}") from None
    return final
