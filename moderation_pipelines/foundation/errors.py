"""What can go wrong, as types: mistakes a person can mend, and failures worth another try.

A :class:`Problem` says what was wrong, where, and how to fix it. Code that finds several collects
them all and raises one :class:`UserError`, so nobody mends mistakes one run at a time.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake: the file (relative to the home), the line (1-based, None if it has none), the message."""

    file: str
    line: int | None
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}"


class UserError(Exception):
    """Input a person has to mend. Permanent: trying again gives the same. Carries every problem found."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        if isinstance(problems, str):
            problems = [Problem("modpipe", None, problems)]
            text = problems[0].message
        else:
            text = "\n".join(str(p) for p in problems)
        super().__init__(text)
        self.problems = list(problems)


class ReadFailure(UserError):
    """Something that should be readable is not. Never to be taken for "nothing there"."""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word closest to a misspelt one, or None if none is close."""
    known = list(known)
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not found:
        folded = {k.casefold(): k for k in known}
        return folded.get(word.casefold())
    return found[0]


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The tail of a message: the nearest known word, or the short list of what is allowed."""
    near = nearest(word, known)
    if near is not None:
        return f'; did you mean "{near}"?'
    listed = ", ".join(f'"{k}"' for k in list(known)[:12])
    return f"; known: {listed}" if listed else ""
