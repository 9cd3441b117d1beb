"""Row rules: raw rows in, typed good rows and quarantined rows out. Every mistake of a row is named at once."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

import orjson
import polars as pl

from moderation_pipelines.foundation.errors import did_you_mean, nearest
from moderation_pipelines.ingest.landing import Feed
from moderation_pipelines.ingest.readers import RawRow
from moderation_pipelines.ingest.tables import CONTENT, QUARANTINE
from moderation_pipelines.policies.policy import Policies
from moderation_pipelines.tables.column import UTC as UTC_TIME
from moderation_pipelines.votes.tables import VOTE_KINDS, VOTES

ID_LIMIT = 256
TEXT_LIMIT = 1_000_000
SHOWN_VALUE = 40

REQUIRED: dict[Feed, tuple[str, ...]] = {
    "content": ("item_id", "text"),
    "labels": ("item_id", "policy", "label"),
}
HOLDS_TEXT = frozenset({"text", "context", "rationale"})

# RFC 5646, section 2.1: language, extended language, script, region, variants, extensions, private use.
_LOCALE = re.compile(
    r"[A-Za-z]{2,3}(-[A-Za-z]{3})?(-[A-Za-z]{4})?(-([A-Za-z]{2}|\d{3}))?(-([A-Za-z0-9]{5,8}|\d[A-Za-z0-9]{3}))*"
    r"(-[0-9A-WY-Za-wy-z](-[A-Za-z0-9]{2,8})+)*(-[xX](-[A-Za-z0-9]{1,8})+)?"
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\u2028\u2029]")


@dataclass(frozen=True)
class Broken:
    """One rule one row broke."""

    row: int
    rule: str
    column: str | None
    value: str | None
    message: str


def shown(value: object) -> str:
    """A value as a message may show it: short ones in full, long ones by their length, so no item text gets out."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    clean = _CONTROL.sub("�", text)
    return f'"{clean}"' if len(text) <= SHOWN_VALUE else f"({len(text):,} characters)"


class Unfit(Exception):
    """A value that does not fit its column: the rule and what would be right."""

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


def _identifier(value: Any) -> str | None:
    text = _text(value)
    assert text is not None
    if not text.strip():
        raise Unfit("missing_value", "is empty; every row needs one")
    if len(text) > ID_LIMIT:
        raise Unfit("overlong_id", f"has {len(text):,} characters; at most {ID_LIMIT}")
    if text != text.strip() or _CONTROL.search(text):
        raise Unfit("bad_id", "begins or ends with a space, or holds a control character; remove it")
    return text


def _item_text(value: Any) -> str | None:
    text = _text(value)
    assert text is not None
    if not text.strip():
        raise Unfit("missing_value", "is empty; an item needs text")
    if "\x00" in text:
        raise Unfit("nul_byte", "holds a NUL character; remove it")
    if len(text) > TEXT_LIMIT:
        raise Unfit("overlong_text", f"has {len(text):,} characters; at most {TEXT_LIMIT:,}")
    return text


def _plain(value: Any) -> str | None:
    text = _text(value)
    assert text is not None
    if "\x00" in text:
        raise Unfit("nul_byte", "holds a NUL character; remove it")
    return text or None


def _locale(value: Any) -> str | None:
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


def _timestamp(value: Any) -> datetime | None:
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


def _number(low: float, high: float, whole: bool = False) -> Callable[[Any], float | int | None]:
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


def _structured_text(value: Any) -> str | None:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return _plain(value)


def _text_list(value: Any) -> list[str] | None:
    if value == "":
        return None
    if isinstance(value, str):
        return [part.strip() for part in value.split("|") if part.strip()]
    if isinstance(value, list) and all(isinstance(v, str) for v in value):
        return value
    raise Unfit("wrong_type", f"must be a list of texts (in CSV separated by |), is {_kind_of(value)}")


def _vote_kind(value: Any) -> str | None:
    text = _plain(value)
    if text is not None and text not in VOTE_KINDS:
        raise Unfit("unknown_kind", f"{shown(text)} is not a kind{did_you_mean(text, VOTE_KINDS)}")
    return text


@dataclass(frozen=True)
class Field:
    """How one delivered field becomes one column."""

    convert: Callable[[Any], Any]
    dtype: Any
    aliases: tuple[str, ...] = ()


FIELDS: dict[Feed, dict[str, Field]] = {
    "content": {
        "item_id": Field(_identifier, pl.String),
        "text": Field(_item_text, pl.String),
        "locale": Field(_locale, pl.String),
        "surface": Field(_plain, pl.String),
        "source": Field(_plain, pl.String),
        "context": Field(_structured_text, pl.String),
        "created_at": Field(_timestamp, UTC_TIME),
        "views": Field(_number(0, math.inf, whole=True), pl.Int64),
        "media_uri": Field(_plain, pl.String),
        "author_key": Field(_plain, pl.String),
        "decision": Field(_plain, pl.String),
        "decision_by": Field(_plain, pl.String),
        "purposes": Field(_text_list, pl.List(pl.String)),
    },
    "labels": {
        "vote_id": Field(_identifier, pl.String, ("label_id",)),
        "item_id": Field(_identifier, pl.String),
        "policy": Field(_identifier, pl.String),
        "rater_id": Field(_identifier, pl.String),
        "pool": Field(_plain, pl.String),
        "rater_locale": Field(_locale, pl.String),
        "label": Field(_plain, pl.String),
        "kind": Field(_vote_kind, pl.String),
        "guideline": Field(_plain, pl.String),
        "labeled_at": Field(_timestamp, UTC_TIME),
        "seconds": Field(_number(0, math.inf), pl.Float64),
        "confidence": Field(_number(0, 1), pl.Float64),
        "rationale": Field(_plain, pl.String),
    },
}
_ALIASES = [(name, alias) for fields in FIELDS.values() for name, f in fields.items() for alias in f.aliases]
_REPETITIVE = frozenset(
    (
        "policy",
        "rater_id",
        "pool",
        "rater_locale",
        "label",
        "kind",
        "guideline",
        "labeled_at",
        "locale",
        "surface",
        "source",
    )
)
_EMPTY_IS_ABSENT = frozenset({"vote_id", "rater_id"})


@dataclass
class Batch:
    """What became of a batch: good rows (typed columns, ``extra``, ``drop_line``) and quarantined rows."""

    good: pl.DataFrame
    bad: pl.DataFrame
    broken: list[Broken] = field(default_factory=list)


def checked_batch(
    rows: Sequence[RawRow], feed: Feed, day: date, file: str, policies: Policies, broken_policies: Collection[str] = ()
) -> Batch:
    """Split raw rows into typed good rows and quarantine rows. Good + bad = rows, always."""
    broken: list[Broken] = [Broken(i, r.rule, None, None, r.message) for i, r in enumerate(rows) if r.rule is not None]
    unreadable = {b.row for b in broken}
    fields = FIELDS[feed]
    known = set(fields) | {a for f in fields.values() for a in f.aliases}
    columns: dict[str, list[Any]] = {}
    for name, spec in fields.items():
        columns[name] = _converted(rows, name, spec, name in REQUIRED[feed], known, unreadable, broken)
    if feed == "labels":
        skip = {b.row for b in broken if b.column in ("policy", "label")}
        broken += _label_mistakes(columns, policies, skip, broken_policies)
    columns["extra"] = [_extra(row, known) for row in rows]
    columns["drop_line"] = [row.line for row in rows]
    schema = {**{n: f.dtype for n, f in fields.items()}, "extra": pl.String, "drop_line": pl.Int64}
    frame = pl.DataFrame(columns, schema=schema, strict=True)
    bad_rows = sorted({b.row for b in broken})
    if bad_rows:
        mask = pl.Series([True] * len(rows))
        mask[bad_rows] = False
        frame = frame.filter(mask)
    return Batch(frame, _quarantine(rows, broken, feed, day, file), broken)


def _converted(
    rows: Sequence[RawRow],
    name: str,
    spec: Field,
    required: bool,
    known: set[str],
    skip: set[int],
    broken: list[Broken],
) -> list[Any]:
    convert, aliases = spec.convert, spec.aliases
    # Most values of these columns repeat: each is looked at once per batch.
    memo: dict[str, Any] | None = {} if name in _REPETITIVE else None
    out: list[Any] = [None] * len(rows)
    for i, row in enumerate(rows):
        value = row.fields.get(name)
        if value is None:
            for alias in aliases:
                value = row.fields.get(alias)
        if value is None or (value == "" and name in _EMPTY_IS_ABSENT):
            if required and i not in skip:
                hint = _misspelt(name, row.fields, known)
                broken.append(Broken(i, "missing_value", name, None, f'"{name}" is missing{hint}'))
            continue
        if memo is not None and type(value) is str and (done := memo.get(value)) is not None:
            out[i] = done
            continue
        try:
            out[i] = convert(value)
            if memo is not None and type(value) is str:
                memo[value] = out[i]
        except Unfit as bad:
            holds_text = name in HOLDS_TEXT
            kept = None if holds_text else shown(value).strip('"')[:200]
            message = bad.message.split("; write it in quotes")[0] if holds_text else bad.message
            broken.append(Broken(i, bad.rule, name, kept, f'"{name}" {message}'))
        else:
            if required and out[i] is None:
                broken.append(Broken(i, "missing_value", name, None, f'"{name}" is empty'))
    return out


def _misspelt(name: str, fields: dict[str, Any], known: set[str]) -> str:
    near = nearest(name, [k for k in fields if k not in known and len(k) <= SHOWN_VALUE])
    return f'; the row has "{near}": did you mean that?' if near else ""


def _extra(row: RawRow, known: set[str]) -> str | None:
    other = {k: v for k, v in row.fields.items() if k not in known and v is not None}
    for name, alias in _ALIASES:
        if row.fields.get(name) is not None and row.fields.get(alias) is not None:
            other[alias] = row.fields[alias]
    if not other or row.rule is not None:
        return None
    try:
        return orjson.dumps(other, option=orjson.OPT_SORT_KEYS, default=str).decode()
    except (TypeError, orjson.JSONEncodeError):
        return json.dumps(other, sort_keys=True, default=str, ensure_ascii=True)


def _label_mistakes(
    columns: dict[str, list[Any]], policies: Policies, skip: set[int], broken_policies: Collection[str]
) -> list[Broken]:
    allowed = {p.id: frozenset(p.label_ids) | frozenset(p.abstain) for p in policies}
    found = []
    for i, (policy, label) in enumerate(zip(columns["policy"], columns["label"], strict=True)):
        if policy is None or i in skip:
            continue
        if policy in broken_policies:
            message = f"policy {shown(policy)} cannot be used: prompts/{policy}/policy.yaml has mistakes; modpipe check"
            found.append(Broken(i, "unusable_policy", "policy", policy, message))
        elif policy not in allowed:
            message = f"policy {shown(policy)} is not in prompts/{did_you_mean(policy, policies.ids)}"
            found.append(Broken(i, "unknown_policy", "policy", shown(policy).strip('"'), message))
        elif label is not None and label not in allowed[policy]:
            hint = did_you_mean(label, [*policies[policy].label_ids, *policies[policy].abstain])
            message = f'label {shown(label)} is not in policy "{policy}"{hint}'
            found.append(Broken(i, "unknown_label", "label", shown(label).strip('"'), message))
    return found


def _quarantine(rows: Sequence[RawRow], broken: list[Broken], feed: Feed, day: date, file: str) -> pl.DataFrame:
    by_row: dict[int, list[Broken]] = {}
    for b in broken:
        by_row.setdefault(b.row, []).append(b)
    out = [
        {
            "feed": feed,
            "drop_date": day,
            "drop_file": file,
            "drop_line": rows[i].line,
            "rule": found[0].rule,
            "column": found[0].column,
            "value": found[0].value,
            "message": "; ".join(dict.fromkeys(b.message for b in found)),
            "raw": rows[i].raw_text(),
        }
        for i, found in sorted(by_row.items())
    ]
    return pl.DataFrame(out, schema=QUARANTINE.schema)


def finished_content(good: pl.DataFrame, day: date, file: str) -> pl.DataFrame:
    """Good content rows with everything the table wants that does not depend on other rows."""
    return CONTENT.filled(good.lazy().with_columns(drop_date=pl.lit(day), drop_file=pl.lit(file))).collect()


def finished_votes(good: pl.DataFrame, day: date, file: str, policies: Policies) -> pl.DataFrame:
    """Good vote rows with derived ids, kind and abstention filled in; ``is_current`` comes with the whole day."""
    abstain = (
        pl.DataFrame(
            [(p.id, a) for p in policies for a in p.abstain],
            schema={"policy": pl.String, "label": pl.String},
            orient="row",
        )
        .unique()
        .with_columns(is_abstain=pl.lit(True))
    )
    frame = (
        good.lazy()
        .with_columns(
            drop_date=pl.lit(day),
            drop_file=pl.lit(file),
            kind=pl.col("kind").fill_null("vote"),
            vote_id=pl.coalesce("vote_id", pl.format("{}/{}:{}", pl.lit(str(day)), pl.lit(file), "drop_line")),
        )
        .join(abstain.lazy(), on=["policy", "label"], how="left", maintain_order="left")
        .with_columns(pl.col("is_abstain").fill_null(False))
    )
    return VOTES.filled(frame).collect()
