"""What can go wrong, as types: mistakes a person can mend, and failures worth another try.

A :class:`Problem` says what was wrong, where, and how to fix it. Code that finds several collects
them all and raises one :class:`UserError`, so nobody mends mistakes one run at a time.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice


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


SHOWN_VALUE = 40
_NEAR, _NEAR_ENOUGH_TO_SHOW = 0.6, 0.75
_COMPARED = 2_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")
_NO_WORDS = re.compile(r"[\d\s:+.,/TZeE%-]*\d[\d\s:+.,/TZeE%-]*")


def nearest(word: str, known: Iterable[str], cutoff: float = _NEAR) -> str | None:
    """The known word closest to a misspelt one, or None if none is close. One that differs in case, spaces or signs
    only goes first. Of very many the first are compared."""
    known = list(islice(known, _COMPARED))
    for fold in (str.casefold, folded):
        same = [k for k in known if fold(k) == fold(word) and fold(word)]
        if same:
            return same[0]
    found = difflib.get_close_matches(word[:200], known, n=1, cutoff=cutoff)
    return found[0] if found else None


def folded(word: str) -> str:
    """A name without case, spaces and signs: what names that mean the same have in common."""
    return "".join(c for c in word.casefold() if c.isalnum())


def masked(value: object) -> str:
    """A value by its length and hash: enough to find it again, nothing of what it says."""
    text = _as_text(value)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"({len(text):,} characters, sha256 {digest})"


def shown(value: object, known: Iterable[str] = ()) -> str:
    """A value as a message may show it: in full if it nearly is a known one or holds no words, else masked.

    What stands in a wrong column may be the text of an item, whose words must not get into a log.
    """
    text = _as_text(value)
    if len(text) <= SHOWN_VALUE and (
        _NO_WORDS.fullmatch(text) or nearest(text, known, _NEAR_ENOUGH_TO_SHOW) is not None
    ):
        clean = _CONTROL.sub("\ufffd", text)
        return f'"{clean}"'
    return masked(text)


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """The tail of a message: the nearest known word, or the short list of what is allowed."""
    near = nearest(word, known)
    if near is not None:
        return f'; did you mean "{near}"?'
    listed = ", ".join(f'"{k}"' for k in list(known)[:12])
    return f"; known: {listed}" if listed else ""
