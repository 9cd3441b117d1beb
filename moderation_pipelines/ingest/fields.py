"""How one delivered value becomes one typed value, or is unfit: what was wrong and how to fix it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

ID_LIMIT = 256
TEXT_LIMIT = 1_000_000
SHOWN_VALUE = 40


# RFC 5646, section 2.1: language, extended language, script, region, variants, extensions, private use.
_LOCALE = re.compile(
    r"[A-Za-z]{2,3}(-[A-Za-z]{3})?(-[A-Za-z]{4})?(-([A-Za-z]{2}|\d{3}))?(-([A-Za-z0-9]{5,8}|\d[A-Za-z0-9]{3}))*"
    r"(-[0-9A-WY-Za-wy-z](-[A-Za-z0-9]{2,8})+)*(-[xX](-[A-Za-z0-9]{1,8})+)?"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")


def shown(value: object) -> str:
    """A value as a message may show it: short ones in full, long ones by their length, so no item text gets out."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    clean = _CONTROL.sub("�", text)
    return f'"{clean}"' if len(text) <= SHOWN_VALUE else f"({len(text):,} characters)"


class Unfit(Exception):
    """A value that does not fit its column: the rule and how to fix it."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule, self.message = rule, message


def _kind_of(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    known: dict[type, str] = {str: "text", list: "a list", dict: "an object"}
    return known.get(type(value), type(value).__name__)


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    hint = f'; write it in quotes: "{value}"' if isinstance(value, int | float) and not isinstance(value, bool) else ""
    raise Unfit("wrong_type", f"must be text, is {_kind_of(value)}{hint}")


def identifier(value: Any) -> str | None:
    """An id: text of 1 to 256 characters without outer spaces or control characters."""
    text = _text(value)
    assert text is not None
    if not text.strip():
        raise Unfit("missing_value", "is empty; every row needs one")
    if len(text) > ID_LIMIT:
        raise Unfit("overlong_id", f"has {len(text):,} characters; at most {ID_LIMIT}")
    if text != text.strip() or _CONTROL.search(text):
        raise Unfit("bad_id", "begins or ends with a space, or holds a control character; remove it")
    return text


def item_text(value: Any) -> str | None:
    """The text of an item: not empty, without NUL characters, at most a million characters."""
    text = _text(value)
    assert text is not None
    if not text.strip():
        raise Unfit("missing_value", "is empty; an item needs text")
    if "\x00" in text:
        raise Unfit("nul_byte", "holds a NUL character; remove it")
    if len(text) > TEXT_LIMIT:
        raise Unfit("overlong_text", f"has {len(text):,} characters; at most {TEXT_LIMIT:,}")
    return text


def plain(value: Any) -> str | None:
    """Any text; empty is absent."""
    text = _text(value)
    assert text is not None
    if "\x00" in text:
        raise Unfit("nul_byte", "holds a NUL character; remove it")
    return text or None


def locale(value: Any) -> str | None:
    """A BCP 47 tag in its usual case; empty is absent."""
    text = _text(value)
    assert text is not None
    if text == "":
        return None
    if not _LOCALE.fullmatch(text):
        mended = text.strip().replace("_", "-")
        hint = f'; did you mean "{canonical_locale(mended)}"?' if _LOCALE.fullmatch(mended) else "; e.g. en, pt-BR"
        raise Unfit("bad_locale", f"{shown(text)} is not a BCP 47 tag{hint}")
    return canonical_locale(text)


def canonical_locale(tag: str) -> str:
    """A BCP 47 tag in its usual case: language lower, script title, region upper (RFC 5646, section 2.1.1)."""
    parts = tag.split("-")
    out = [parts[0].lower()]
    for i, part in enumerate(parts[1:], start=1):
        if any(len(earlier) == 1 for earlier in parts[:i]):
            out.append(part.lower())
            continue
        cased = part.upper() if len(part) == 2 else part.title() if len(part) == 4 and part.isalpha() else part.lower()
        out.append(cased)
    return "-".join(out)


def timestamp(value: Any) -> datetime | None:
    """An ISO 8601 time; one without a zone is taken as UTC."""
    if value == "":
        return None
    moment = value
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            raise Unfit("bad_timestamp", f"{shown(value)} is not ISO 8601; e.g. 2026-11-21T08:30:00Z") from None
    elif isinstance(value, date) and not isinstance(value, datetime):
        moment = datetime(value.year, value.month, value.day)
    elif not isinstance(value, datetime):
        raise Unfit("wrong_type", f"must be a time as text, is {_kind_of(value)}; e.g. 2026-11-21T08:30:00Z")
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, ValueError):
        raise Unfit("bad_timestamp", f"{shown(value)} is out of range; e.g. 2026-11-21T08:30:00Z") from None


def number(low: float, high: float, whole: bool = False) -> Callable[[Any], float | int | None]:
    """A converter to numbers within bounds."""
    span = f"from {low:g} to {high:g}" if math.isfinite(high) else f"of {low:g} or more"

    def convert(value: Any) -> float | int | None:
        if value == "":
            return None
        number = value
        if isinstance(value, str):
            try:
                if "_" in value:
                    raise ValueError
                number = int(value) if re.fullmatch(r"\s*[+-]?\d{1,30}\s*", value) else float(value)
            except ValueError:
                raise Unfit("wrong_type", f"must be a number {span}, is {shown(value)}") from None
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise Unfit("wrong_type", f"must be a number {span}, is {_kind_of(value)}")
        if not math.isfinite(number) or not low <= number <= high or (whole and number != int(number)):
            kind = "a whole number" if whole else "a number"
            raise Unfit("out_of_range", f"must be {kind} {span}, is {shown(str(value))}")
        if whole and number > 2**62:
            raise Unfit("out_of_range", f"is too large: {shown(str(value))}")
        return int(number) if whole else float(number)

    return convert


def structured_text(value: Any) -> str | None:
    """Text; lists and objects as JSON."""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return plain(value)


def text_list(value: Any) -> list[str] | None:
    """A list of texts; in CSV separated by |."""
    if value == "":
        return None
    if isinstance(value, str):
        return [part.strip() for part in value.split("|") if part.strip()]
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return value
    raise Unfit("wrong_type", f"must be a list of texts (in CSV separated by |), is {_kind_of(value)}")


@dataclass(frozen=True)
class Field:
    """How one delivered field becomes one column.

    ``repeats``: most values stand many times, and each is looked at once. ``empty_is_absent``: as null.
    """

    convert: Callable[[Any], Any]
    aliases: tuple[str, ...] = ()
    repeats: bool = False
    empty_is_absent: bool = False
