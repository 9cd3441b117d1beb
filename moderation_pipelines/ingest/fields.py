"""How one delivered value becomes one typed value, or is unfit: what was wrong and how to fix it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from moderation_pipelines.foundation.errors import masked, shown

ID_LIMIT = 256
SHORT_LIMIT = 128
TIME_LIMIT = 64
LIST_LIMIT = 1_000
NUMBER_AS_TEXT = "number_as_text"
_EXACT = 2**53
_ANY_NUMBER = (int, float, Decimal)


# RFC 5646, section 2.1: language, extended language, script, region, variants, extensions, private use.
_LOCALE = re.compile(
    r"[A-Za-z]{2,3}(-[A-Za-z]{3})?(-[A-Za-z]{4})?(-([A-Za-z]{2}|\d{3}))?(-([A-Za-z0-9]{5,8}|\d[A-Za-z0-9]{3}))*"
    r"(-[0-9A-WY-Za-wy-z](-[A-Za-z0-9]{2,8})+)*(-[xX](-[A-Za-z0-9]{1,8})+)?"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")


class Unfit(Exception):
    """A value that does not fit its column: the rule and how to fix it."""

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(message)
        self.rule, self.message = rule, message


@dataclass(frozen=True)
class Mended:
    """A value that was written otherwise, and by which rule it was read: counted in ``conversions``."""

    value: Any
    rule: str


def _kind_of(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float | Decimal):
        return "a number"
    known: dict[type, str] = {str: "text", list: "a list", dict: "an object"}
    return known.get(type(value), type(value).__name__)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise Unfit("wrong_type", f"must be text, is {_kind_of(value)}")


def _word(value: Any) -> tuple[str, bool]:
    """A value that names something, and whether it was a whole number: those name too."""
    if type(value) is str:
        return value, False
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value), True
    if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value():
        return str(int(value)), True
    if isinstance(value, float) and abs(value) <= _EXACT and value.is_integer():
        return str(int(value)), True
    if isinstance(value, UUID):
        return str(value), False
    if isinstance(value, float | Decimal):
        raise Unfit("wrong_type", "must be text, is a number that is not whole or not exact; write it in quotes")
    return _text(value), False


def _named(text: str, is_number: bool) -> Any:
    return Mended(text, NUMBER_AS_TEXT) if is_number else text


def identifier(value: Any) -> Any:
    """An id: text of 1 to 256 characters without outer spaces or control characters, or a whole number."""
    text, is_number = _word(value)
    if not text.strip():
        raise Unfit("missing_value", "is empty; every row needs one")
    if len(text) > ID_LIMIT:
        raise Unfit("overlong_id", f"has {len(text):,} characters; at most {ID_LIMIT}")
    if text != text.strip() or _CONTROL.search(text):
        raise Unfit("bad_id", "begins or ends with a space, or holds a control character; remove it")
    return _named(text, is_number)


def key_value(value: Any) -> Any:
    """A key that several rows share: as an id, but empty is absent."""
    text, _ = _word(value)
    if not text:
        return None
    if not text.strip():
        raise Unfit("bad_id", "holds spaces only; leave it out")
    return identifier(value)


_MADE_HERE = re.compile(r"\d{4}-\d{2}-\d{2}/.+:\d+", re.DOTALL)


def vote_identifier(value: Any) -> Any:
    """An id that is not of the form the pipeline gives to votes without one: two votes would share it."""
    if isinstance(value, str) and _MADE_HERE.fullmatch(value):
        raise Unfit(
            "bad_id", "has the form DAY/FILE:LINE, which votes without an id get; leave it out or name it otherwise"
        )
    return identifier(value)


def item_text(value: Any) -> str | None:
    """The text of an item: not empty, without NUL characters."""
    text = _text(value)
    if not text.strip():
        raise Unfit("missing_value", "is empty; an item needs text")
    if "\x00" in text:
        raise Unfit("nul_byte", "holds a NUL character; remove it")
    return text


def plain(value: Any) -> str | None:
    """Any text; empty is absent."""
    text = _text(value)
    if "\x00" in text:
        raise Unfit("nul_byte", "holds a NUL character; remove it")
    return text or None


def label_name(value: Any) -> Any:
    """Text of at most 256 characters, or a whole number; empty is absent."""
    return _name(value, ID_LIMIT)


def short_name(value: Any) -> Any:
    """Text of at most 128 characters that names something, such as a place or a pool, or a whole number; empty is
    absent. Reports slice by it: a longer one may be a text in the wrong column."""
    return _name(value, SHORT_LIMIT)


def _name(value: Any, limit: int) -> Any:
    text, is_number = _word(value)
    if "\x00" in text:
        raise Unfit("nul_byte", "holds a NUL character; remove it")
    if len(text) > limit:
        raise Unfit("overlong_name", f"has {len(text):,} characters; at most {limit}: is it in the right column?")
    return _named(text, is_number) if text else None


def locale(value: Any) -> Any:
    """A BCP 47 tag in its usual case; ``en_US`` is read as ``en-US``; empty is absent."""
    text = _text(value)
    if text == "":
        return None
    usual = usual_locale(text)
    if usual is None:
        raise Unfit("bad_locale", f"{masked(text)} is not a BCP 47 tag; e.g. en, pt-BR")
    return usual if _LOCALE.fullmatch(text) else Mended(usual, "locale_respelt")


def usual_locale(text: str) -> str | None:
    """The BCP 47 tag a text means, in its usual case, ``en_US`` as ``en-US``; None if it is no tag."""
    tag = text.strip().replace("_", "-")
    return canonical_locale(tag) if _LOCALE.fullmatch(tag) else None


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


def timestamp(value: Any) -> Any:
    """An ISO 8601 time; one without a zone is taken as UTC. Also read: a zone written as UTC or GMT, days by their
    number in the year (2026-325)."""
    if value == "":
        return None
    moment, rule = value, None
    if isinstance(value, str):
        moment, rule = _moment_of(value)
    elif isinstance(value, date) and not isinstance(value, datetime):
        moment = datetime(value.year, value.month, value.day)
    elif not isinstance(value, datetime):
        raise Unfit("wrong_type", f"must be a time as text, is {_kind_of(value)}; e.g. 2026-11-21T08:30:00Z")
    try:
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (OverflowError, ValueError):
        raise Unfit("bad_timestamp", f"{shown(str(value))} is out of range; e.g. 2026-11-21T08:30:00Z") from None
    return moment if rule is None else Mended(moment, rule)


_ZONE_NAME = re.compile(r"\s*(UTC|GMT)$")
_DAY_OF_YEAR = re.compile(r"(\d{4})-?(\d{3})(T.*)?")


def _moment_of(text: str) -> tuple[datetime, str | None]:
    if len(text) > TIME_LIMIT:
        raise Unfit("bad_timestamp", f"{masked(text)} is not ISO 8601; e.g. 2026-11-21T08:30:00Z")
    stripped = text.strip()
    plainer = _ZONE_NAME.sub("+00:00", stripped.upper())
    try:
        return datetime.fromisoformat(stripped.upper()), None
    except ValueError:
        pass
    try:
        if (found := _DAY_OF_YEAR.fullmatch(plainer)) is not None:
            first = datetime.fromisoformat(f"{found[1]}-01-01{found[3] or ''}")
            moment = first + timedelta(days=int(found[2]) - 1)
            if int(found[2]) and moment.year == first.year:
                return moment, "time_respelt"
        if plainer != stripped.upper():
            return datetime.fromisoformat(plainer), "time_respelt"
    except (ValueError, OverflowError):
        pass
    raise Unfit("bad_timestamp", f"{shown(text)} is not ISO 8601; e.g. 2026-11-21T08:30:00Z")


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
        elif isinstance(value, bool) or not isinstance(value, _ANY_NUMBER):
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
    if isinstance(value, str) and value.count("|") < LIST_LIMIT:
        return [part.strip() for part in value.split("|") if part.strip()]
    if isinstance(value, list) and len(value) <= LIST_LIMIT and all(isinstance(v, str) for v in value):
        return value
    if isinstance(value, str | list):
        raise Unfit("wrong_type", f"must be a list of at most {LIST_LIMIT:,} texts (in CSV separated by |)")
    raise Unfit("wrong_type", f"must be a list of texts (in CSV separated by |), is {_kind_of(value)}")


@dataclass(frozen=True)
class Field:
    """How one delivered field becomes one column.

    ``repeats``: most values stand many times, and each is looked at once. ``empty_is_absent``: as null.
    ``nan_is_absent``: NaN, which some tools write for what is missing, is null; else it is a value that is unfit.
    """

    convert: Callable[[Any], Any]
    aliases: tuple[str, ...] = ()
    repeats: bool = False
    empty_is_absent: bool = False
    nan_is_absent: bool = True
