"""All access to storage: read, list, write atomically, publish, lock.

Every place is a path or a ``file:`` URI. Nothing else opens, renames or removes data; a test holds that. A reader never
sees half a file and half a folder: both come into being by one rename, after they were written and flushed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from moderation_pipelines.foundation.errors import Problem, ReadFailure, UserError

Uri = Path | str
STAGING = ".staging-"
TEMPORARY = ".tmp"
ORPHAN_SECONDS = 24 * 3600.0
_BLOCK = 1 << 20


class Incomplete(RuntimeError):
    """A folder about to be published lacks files. A defect of what built it, or another process removed them."""


def local_path(uri: Uri) -> Path:
    """The folder or file a URI names. Raises :class:`UserError` for a scheme that is not ``file``."""
    if isinstance(uri, Path):
        return uri
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        return Path(unquote(parts.path) if parts.scheme else uri)
    raise UserError(f'"{uri}": only local folders and file: addresses are storage here')


def exists(uri: Uri) -> bool:
    return local_path(uri).exists()


def is_file(uri: Uri) -> bool:
    return local_path(uri).is_file()


def is_folder(uri: Uri) -> bool:
    return local_path(uri).is_dir()


def names(folder: Uri) -> list[str]:
    """Names in a folder, sorted by their bytes; none when it does not exist.

    Raises :class:`ReadFailure` when it exists and cannot be read: that is not an empty folder.
    """
    path = local_path(folder)
    try:
        return sorted(os.listdir(path), key=os.fsencode)
    except FileNotFoundError:
        return []
    except OSError as error:
        message = f"folder cannot be read ({error.strerror}); nothing is taken to be empty"
        raise ReadFailure([Problem(str(path), None, message)]) from None


def read_bytes(uri: Uri) -> bytes:
    """The bytes of a file. Raises :class:`ReadFailure` when it cannot be read."""
    path = local_path(uri)
    try:
        return path.read_bytes()
    except OSError as error:
        raise ReadFailure([Problem(str(path), None, f"cannot be read ({error.strerror})")]) from None


def read_json(uri: Uri) -> Any:
    """The value in a JSON file. Raises :class:`ReadFailure` when it cannot be read as JSON."""
    try:
        return json.loads(read_bytes(uri))
    except ValueError:
        raise ReadFailure([Problem(str(local_path(uri)), None, "is not JSON; restore it from a copy")]) from None


def opened(uri: Uri) -> BinaryIO:
    """A file open for reading. Raises OSError."""
    return local_path(uri).open("rb")


def tail(uri: Uri, n: int) -> bytes:
    """The last ``n`` bytes of a file, or all of it. Raises OSError."""
    with opened(uri) as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - n))
        return stream.read(n)


def size(uri: Uri) -> int:
    return local_path(uri).lstat().st_size


def is_regular_file(uri: Uri) -> bool:
    """Whether it is a file itself: no link, folder, pipe or device. Raises OSError."""
    return stat.S_ISREG(local_path(uri).lstat().st_mode)


def is_real_folder(uri: Uri) -> bool:
    """Whether it is a folder itself, no link to one. Raises OSError."""
    return stat.S_ISDIR(local_path(uri).lstat().st_mode)


def state(uri: Uri) -> str:
    """Changes when a file is replaced: size, time of the last change, inode. Raises OSError."""
    s = local_path(uri).lstat()
    return f"{s.st_size}:{s.st_mtime_ns}:{s.st_ino}"


def changed_at(uri: Uri) -> float:
    """Time of the last change, in seconds since 1970."""
    return local_path(uri).stat().st_mtime


def sha256(uri: Uri) -> str:
    """SHA-256 of a file's bytes. Raises OSError."""
    with opened(uri) as stream:
        return hashlib.file_digest(cast(io.BufferedReader, stream), "sha256").hexdigest()


def make_folder(uri: Uri) -> Path:
    path = local_path(uri)
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def replacing(final: Uri, mode: int = 0o644) -> Iterator[Path]:
    """A temporary path beside ``final`` that replaces it in one step when the block ends well."""
    target = local_path(final)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", suffix=TEMPORARY, dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        put(temporary, target, mode)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def put(temporary: Path, final: Uri, mode: int = 0o644) -> None:
    """Give a finished file, flushed, its final name in one step. Both lie on one file system."""
    with temporary.open("rb+") as stream:
        os.fsync(stream.fileno())
    temporary.chmod(mode)
    os.replace(temporary, local_path(final))


def write_bytes(final: Uri, data: bytes) -> None:
    """Write a file in one rename."""
    with replacing(final) as temporary:
        temporary.write_bytes(data)


def write_private(final: Uri, data: bytes) -> None:
    """Write a file only its owner can read, in one rename."""
    with replacing(final, 0o600) as temporary:
        temporary.write_bytes(data)


def write_text(final: Uri, text: str) -> None:
    """Write a text file as UTF-8 in one rename."""
    write_bytes(final, text.encode())


def write_json(final: Uri, value: Any) -> None:
    """Write a value as JSON in one rename; same value, same bytes."""
    write_text(final, json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


def copy_in(source: Uri, final: Uri) -> None:
    """Copy a file so that no reader sees half of it. Raises OSError."""
    with replacing(final) as temporary, opened(source) as read, temporary.open("wb") as write:
        while block := read.read(_BLOCK):
            write.write(block)


def keep_copy(source: Uri, final: Uri) -> None:
    """A second name for a file that is about to be replaced; a copy where the file system has no hard links."""
    target = make_folder(local_path(final).parent) / local_path(final).name
    try:
        os.link(local_path(source), target)
    except FileExistsError:
        return
    except OSError:
        copy_in(source, target)


@contextmanager
def staging(parent: Uri) -> Iterator[Path]:
    """A folder of one's own inside ``parent``, removed when the block ends."""
    make_folder(parent)
    with tempfile.TemporaryDirectory(prefix=STAGING, dir=local_path(parent), ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder of one's own outside any home, removed when the block ends."""
    with tempfile.TemporaryDirectory(prefix="modpipe-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def publish(building: Path, final: Uri, expected: Collection[str]) -> None:
    """Make a built folder appear under its final name, read-only, whole or not at all.

    Raises :class:`Incomplete` when a file of ``expected`` is missing or empty, and FileExistsError when the final name
    is taken: what is published is never written again.
    """
    missing = [n for n in sorted(expected) if not (building / n).is_file() or not (building / n).stat().st_size]
    if missing:
        raise Incomplete(f"{local_path(final).name} is not published: {', '.join(missing)} missing or empty")
    for name in os.listdir(building):
        with (building / name).open("rb") as stream:
            os.fsync(stream.fileno())
        (building / name).chmod(0o444)
    target = local_path(final)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        raise FileExistsError(target)
    building.chmod(0o755)
    os.rename(building, target)


def place_folder(source: Uri, final: Uri) -> None:
    """Give a folder another name, where another process may do the same: whichever is first stays."""
    target = local_path(final)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(local_path(source), target)
    except OSError:
        if not target.is_dir():
            raise


def move_folder(source: Uri, final: Uri) -> None:
    """Give a folder another name; what stood there before is removed."""
    remove_folder(final)
    target = local_path(final)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(local_path(source), target)


def remove(uri: Uri) -> None:
    """Remove a file, if it is there."""
    local_path(uri).unlink(missing_ok=True)


def remove_folder(uri: Uri) -> None:
    """Remove a folder and what is in it, if it is there."""
    shutil.rmtree(local_path(uri), ignore_errors=True)


@contextmanager
def lock(uri: Uri) -> Iterator[None]:
    """Hold a lock between processes of one machine, named by a file that stays. Waits until it is free."""
    path = local_path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(stream, fcntl.LOCK_UN)


def sweep(folder: Uri, older_than: float = ORPHAN_SECONDS, now: float | None = None) -> list[str]:
    """Remove staging folders and temporary files that killed processes left behind, at any depth.

    Only what has not changed for ``older_than`` seconds. Returns what was removed, relative to ``folder``.
    """
    root = local_path(folder)
    limit = (time.time() if now is None else now) - older_than
    removed: list[str] = []
    for place, folders, files in os.walk(root):
        for name in [*folders, *files]:
            orphan = name.startswith(STAGING) or (name.startswith(".") and name.endswith(TEMPORARY))
            path = Path(place, name)
            if not orphan or _newest_change(path) > limit:
                continue
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
            removed.append(str(path.relative_to(root)))
        folders[:] = [n for n in folders if not n.startswith(STAGING)]
    return sorted(removed)


def _newest_change(path: Path) -> float:
    try:
        changes = [path.lstat().st_mtime]
        for place, _, files in os.walk(path):
            changes += [Path(place, n).lstat().st_mtime for n in files]
    except FileNotFoundError:
        return float("inf")
    return max(changes)
