"""How the items of a home are divided into an eval and a development side: fixed when it is first used."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from moderation_pipelines.foundation.errors import Problem, UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.text import BY_CLUSTER, BY_TEXT, SIDE_BY, SideBy, side_key
from moderation_pipelines.tables import store
from moderation_pipelines.tables.store import write_text
from moderation_pipelines.tables.text_columns import sides
from moderation_pipelines.wiring.settings_file import side_by_line, stated_side_by

_SHARE, _BY = "_eval_share", "_side_by"


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
    pin_eval_share(home, share)
    pinned = pinned_side_by(home)
    assert pinned is not None
    try:
        stated = stated_side_by(home)
    except UserError:
        # A file with mistakes is told as such by its own step; what is fixed stays.
        stated = None
    if why := side_by_changed(stated, pinned):
        raise UserError(f"prompts/settings.yaml: {why}")
    return SideRule(pinned, share)


def pin_eval_share(home: Home, share: float) -> None:
    """Fix the share of the eval side when a home is first used. Raises :class:`UserError` when it was another."""
    file = home.warehouse / _SHARE
    if not file.exists():
        # First the key: a home that has a share but no key was first used before there was a choice.
        write_text(home.warehouse / _BY, f"{stated_side_by(home) or BY_TEXT}\n")
        write_text(file, f"{share!r}\n")
    elif float(file.read_text()) != share:
        pinned = file.read_text().strip()
        said = f"the eval share is {share:g}, but this home's items were split with {pinned}"
        raise UserError(f"{said}; set MODERATION_EVAL_SHARE back")


def pinned_side_by(home: Home) -> SideBy | None:
    """The key a home's items are divided by; None before it is first used."""
    file = home.warehouse / _BY
    if store.is_file(file):
        stored = file.read_text().strip()
        known = next((by for by in SIDE_BY if by == stored), None)
        if known is None:
            raise UserError(f"{home.relative(file)} names no key that items can be divided by; restore it from a copy")
        return known
    return BY_TEXT if store.is_file(home.warehouse / _SHARE) else None


def side_by_changed(stated: SideBy | None, pinned: SideBy | None) -> str | None:
    """What is wrong with a stated key, or None."""
    if stated is None or pinned is None or stated == pinned:
        return None
    return (
        f"side_by is {stated}, but this home's items were divided by {pinned} when it was first used, and items never "
        f"change sides; set it back, or start a new home"
    )


def home_problems(home: Home) -> list[Problem]:
    """A key in ``prompts/settings.yaml`` that is not the one the home's items were divided by."""
    try:
        why = side_by_changed(stated_side_by(home), pinned_side_by(home))
    except UserError as error:
        # Mistakes in the file itself are told where its other keys are.
        return [p for p in error.problems if not p.file.endswith("settings.yaml")]
    return [] if why is None else [Problem("prompts/settings.yaml", side_by_line(home), why)]
