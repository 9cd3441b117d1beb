"""How the items of a home are divided into an eval and a development side: fixed when it is first used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import polars as pl

from moderation_pipelines.foundation.errors import Problem, UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.text import BY_CLUSTER, BY_TEXT, SIDE_BY, SideBy, side_key
from moderation_pipelines.ingest.tables import CONTENT, SIDES
from moderation_pipelines.tables import store
from moderation_pipelines.tables.store import write_text
from moderation_pipelines.tables.text_columns import sides
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines.wiring.settings_file import side_by_line, stated_side_by

_SHARE, _BY = "_eval_share", "_side_by"
MANY_ITEMS = 100


@dataclass(frozen=True)
class SideRule:
    """``by``: what items of one side have in common. ``eval_share``: share of the eval side."""

    by: SideBy = BY_TEXT
    eval_share: float = 0.5

    def divided(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Content rows with ``side_key`` and ``side``. Rows without the key are divided by their text.

        By near-duplicate clusters the text stands in until the day's texts are compared.
        """
        keys = pl.Series("side_key", [None] * frame.height, dtype=pl.String)
        if self.by not in (BY_TEXT, BY_CLUSTER):
            values = frame[self.by].to_list()
            keys = pl.Series("side_key", [v if v is None else side_key(self.by, v) for v in values], dtype=pl.String)
        return frame.with_columns(keys, side=self.side_of(keys.fill_null(frame["text_sha256"])))

    def side_of(self, keys: pl.Series) -> pl.Series:
        """The side of every key of a column."""
        return sides(keys, self.eval_share)


def side_rule(home: Home, share: float) -> SideRule:
    """The rule of a home, fixed when it is first used. Raises :class:`UserError` when another is asked for later.

    Items never change sides: changing the share or the key would put texts that were trained on into eval sets.
    """
    pinned = pinned_side_by(home)
    if pinned is None:
        # First the key: a home that has a share but no key was first used before there was a choice.
        pinned = stated_side_by(home) or BY_TEXT
        write_text(home.warehouse / _BY, f"{pinned}\n")
    _pin_eval_share(home, share)
    try:
        stated = stated_side_by(home)
    except UserError:
        # A file with mistakes is told as such by its own step; what is fixed stays.
        stated = None
    if why := side_by_changed(stated, pinned):
        raise UserError(f"prompts/settings.yaml: {why}")
    return SideRule(pinned, share)


def _pin_eval_share(home: Home, share: float) -> None:
    file = home.warehouse / _SHARE
    if not file.exists():
        write_text(file, f"{share!r}\n")
    elif float(file.read_text()) != share:
        pinned = file.read_text().strip()
        said = f"the eval share is {share:g}, but this home's items were split with {pinned}"
        raise UserError(f"{said}; set MODERATION_EVAL_SHARE back")


def pinned_side_by(home: Home) -> SideBy | None:
    """The key a home's items are divided by; None before it is first used.

    Raises :class:`UserError` where that is not to be known any more: guessing would move items.
    """
    file = home.warehouse / _BY
    if store.is_file(file):
        stored = file.read_text().strip()
        known = next((by for by in SIDE_BY if by == stored), None)
        if known is None:
            raise UserError(
                f"{home.relative(file)} names no key that items can be divided by; restore it from a backup"
            )
        return known
    warehouse = Warehouse(home)
    if not warehouse.scan(SIDES).head(1).collect().is_empty():
        raise UserError(
            f"{home.relative(file)} is gone, and items of this home were divided by another key than their text; "
            "restore it from a backup"
        )
    return BY_TEXT if store.is_file(home.warehouse / _SHARE) or warehouse.days(CONTENT) else None


def side_by_changed(stated: SideBy | None, pinned: SideBy | None) -> str | None:
    """What is wrong with a stated key, or None."""
    if stated is None or pinned is None or stated == pinned:
        return None
    return (
        f"side_by is {stated}, but this home's items were divided by {pinned} when it was first used, and items never "
        f"change sides; set it back, or start a new home"
    )


def home_problems(home: Home) -> list[Problem]:
    """A key in ``prompts/settings.yaml`` that differs from what the home's items were divided by."""
    try:
        pinned = pinned_side_by(home)
    except UserError as error:
        file = home.relative(home.warehouse / _BY)
        return [Problem(file, None, str(error).removeprefix(file).strip())]
    try:
        why = side_by_changed(stated_side_by(home), pinned)
    except UserError:
        # Mistakes in the file itself are told where its other keys are.
        return []
    return [] if why is None else [Problem("prompts/settings.yaml", side_by_line(home), why)]


@dataclass(frozen=True)
class Keyed:
    """How the items of a day have the key they are divided by. ``wrong``: what should be known, in words."""

    counts: dict[str, int]
    wrong: list[str]


def keyed_items(warehouse: Warehouse, day: date, eval_share: float) -> Keyed:
    """Items of a day: those that are not on the side of their key; and, where items are divided by a key, those without
    it, those that keep a side they had by another, and the largest key."""
    by = pinned_side_by(warehouse.home) or BY_TEXT
    by_value = by not in (BY_TEXT, BY_CLUSTER)
    columns = ["side_key", "text_sha256", "side", *([by] if by_value else [])]
    items = warehouse.scan(CONTENT, [day]).select(columns).collect()
    right = sides(items["side_key"].fill_null(items["text_sha256"]), eval_share)
    astray = items.filter(pl.col("side") != right).height
    counts, wrong = {"items": items.height, "not on the side of their key": astray}, []
    if astray:
        wrong.append(f"{astray:,} of {items.height:,} items are not on the side of their key")
    if not by_value:
        return Keyed(counts, wrong)
    own = pl.Series([None if v is None else side_key(by, v) for v in items[by]], dtype=pl.String)
    kept = items.filter(~pl.col("side_key").eq_missing(own)).height
    without = items.filter(pl.col(by).is_null() & pl.col("side_key").is_null()).height
    largest = max(items["side_key"].drop_nulls().value_counts()["count"].to_list(), default=0)
    if without:
        wrong.append(
            f"{without:,} of {items.height:,} items have no {by} and are divided by their text; deliver it with the "
            "first file that has the item"
        )
    if kept:
        wrong.append(
            f"{kept:,} of {items.height:,} items keep the side they first had though their {by} is another now: items "
            "never change sides"
        )
    if items.height >= MANY_ITEMS and largest * 2 >= items.height:
        wrong.append(f"one {by} holds {largest:,} of {items.height:,} items, all on one side")
    return Keyed({**counts, "without the key": without, "kept": kept, "of the largest key": largest}, wrong)
