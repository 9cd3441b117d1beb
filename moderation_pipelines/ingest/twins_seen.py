"""What `modpipe check` tells of near-twins: which key the items of a home had better be divided by."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import polars as pl

from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.foundation.text import BY_CLUSTER, BY_TEXT, text_sha256
from moderation_pipelines.ingest.feeds.content import FEED as CONTENT_FEED
from moderation_pipelines.ingest.landing import landing_days
from moderation_pipelines.ingest.reading import read_rows
from moderation_pipelines.ingest.sides import pinned_side_by
from moderation_pipelines.ingest.tables import CONTENT
from moderation_pipelines.similarity.near import near_pairs
from moderation_pipelines.stats.intervals import wilson_interval
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines.wiring.settings_file import stated_side_by

LOOKED_AT = 20_000
MANY, HALF, MOST = 0.1, 0.5, 0.9
_MIN_TEXTS = 100
_CHARACTERS = 5_000
_KEYS = ("group_key", "conversation_id", "author_key")
_COLUMNS = ("text", *_KEYS)


def near_twins_note(home: Home, settings: Settings) -> str | None:
    """What to divide a home's items by instead of their text, where a tenth of its texts or more have near-twins or
    half of them a group in common.

    Looks at the first 20,000 different texts, of the warehouse or, before the first run, of the drops. Where items are
    divided by a key: what is odd about it. None where nothing is to be told.
    """
    pinned = pinned_side_by(home)
    by = pinned or stated_side_by(home) or BY_TEXT
    if by == BY_CLUSTER:
        return None
    rows = _stored(home) if pinned is not None else _delivered(home, settings)
    if by != BY_TEXT:
        return _of_key(rows, by, pinned is not None)
    if rows.height < _MIN_TEXTS:
        return None
    pairs = near_pairs(rows["text"].to_list())
    n_with = len({*pairs["first"].to_list(), *pairs["second"].to_list()})
    grouped = _shared(rows, "group_key")
    if n_with < MANY * rows.height and grouped < HALF:
        return None
    key = "group_key" if grouped >= HALF else _key(rows, pairs)
    interval = wilson_interval(n_with, rows.height)
    groups = f", {grouped:.0%} a group_key in common with others" if grouped else ""
    seen = (
        f"{n_with / rows.height:.0%} ({interval.low:.0%} to {interval.high:.0%}) of the first {rows.height:,} "
        f"different texts have near-twins among them{groups}; divided by text these fall on both sides"
    )
    keeps = "keeps them together, except clusters that a later text connects"
    if key != BY_CLUSTER:
        keeps = f"keeps {_kept(rows, pairs, key):.0%} of {pairs.height:,} pairs of near-twins together"
    if pinned is None:
        return f"{seen}; `side_by: {key}` in prompts/settings.yaml, before the first run, {keeps}"
    return (
        f"{seen}. This home's items stay divided by text; the metrics of judges that learn lead with items unlike "
        f"anything they learnt. In a new home `side_by: {key}` {keeps}"
    )


def _of_key(rows: pl.DataFrame, by: str, is_fixed: bool) -> str | None:
    """What is odd about the key items are divided by: it is not there, or holds most of them. None if nothing is."""
    without = rows[by].null_count()
    most = rows[by].drop_nulls().value_counts()["count"].max()
    of = f"of the first {rows.height:,} different texts"
    other = "a new home may have another key" if is_fixed else "choose another key before the first run"
    if without > (1 - MOST) * rows.height:
        return f"side_by is {by}, but {without:,} {of} have none and are divided by their text; deliver it, or {other}"
    if rows.height >= _MIN_TEXTS and isinstance(most, int) and most >= HALF * rows.height:
        return f"side_by is {by}, but one {by} holds {most:,} {of}, all of them on one side; {other}"
    return None


def _key(rows: pl.DataFrame, pairs: pl.DataFrame) -> str:
    """The first key that most texts have and most pairs have in common; clusters where there is none."""
    for key in _KEYS:
        there = 1 - rows[key].null_count() / rows.height
        if there >= MOST and _kept(rows, pairs, key) >= MOST:
            return key
    return BY_CLUSTER


def _kept(rows: pl.DataFrame, pairs: pl.DataFrame, key: str) -> float:
    """Share of the pairs that have a key in common; 0 without pairs."""
    same = (rows[key][pairs["first"]] == rows[key][pairs["second"]]).fill_null(False)
    return float(same.sum() / max(len(same), 1))


def _shared(rows: pl.DataFrame, key: str) -> float:
    """Share of the texts that have a key in common with another."""
    together = rows.select((pl.len().over(key) > 1) & pl.col(key).is_not_null()).to_series()
    return float(together.sum() / rows.height)


def _stored(home: Home) -> pl.DataFrame:
    warehouse = Warehouse(home)
    out = pl.DataFrame(schema=dict.fromkeys(("text_sha256", *_COLUMNS), pl.String))
    for day in warehouse.days(CONTENT):
        mine = warehouse.scan(CONTENT, [day]).select("text_sha256", *_COLUMNS).head(LOOKED_AT).collect()
        out = pl.concat([out, mine]).unique("text_sha256", keep="first", maintain_order=True)
        if out.height >= LOOKED_AT:
            break
    return out.head(LOOKED_AT)


def _delivered(home: Home, settings: Settings) -> pl.DataFrame:
    """Rows as they are delivered: what rules would refuse of them does not matter for a first look."""
    found: dict[str, tuple[str | None, ...]] = {}
    for text, *keys in itertools.islice(_fields(home, settings), 2 * LOOKED_AT):
        found.setdefault(text_sha256(text), (text, *keys))
        if len(found) >= LOOKED_AT:
            break
    return pl.DataFrame(list(found.values()), schema=dict.fromkeys(_COLUMNS, pl.String), orient="row")


def _fields(home: Home, settings: Settings) -> Iterator[tuple[Any, ...]]:
    """text and keys of delivered rows, file by file."""
    known = sorted(CONTENT_FEED.known)
    for drop in (d for files in landing_days(home).values() for d in files if d.feed == CONTENT_FEED.name):
        try:
            for batch in read_rows(drop.path, CONTENT_FEED.required, bounds=settings.bounds, known=known):
                for row in batch:
                    text = row.fields.get("text")
                    if isinstance(text, str):
                        yield _plain(text[:_CHARACTERS]), *(_key_value(row.fields.get(k)) for k in _KEYS)
        except Exception:  # noqa: BLE001, S112 - a first look: the run tells what is wrong with a file
            continue


def _plain(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _key_value(value: Any) -> str | None:
    return None if value is None or value == "" else _plain(str(value)[:_CHARACTERS])
