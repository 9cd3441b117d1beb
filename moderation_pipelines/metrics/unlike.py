"""Items unlike anything a judge learnt: what its metrics are measured on first, beside all items.

A judge that was trained on, shown or calibrated on a near-twin of an item, or on an item of its group, may repeat
instead of judge. Metrics with and without such items are of different items: their difference says nothing, and no
table holds it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.judging.tables import RUN_KEY
from moderation_pipelines.metrics.tables import UNLIKE

MIN_LEFT = 30
WORDS = "items unlike anything it learnt"


@dataclass(frozen=True)
class Learners:
    """Which judges learnt something of this home, and what of releases: the text or a near-twin of an item, or another
    item of its group.

    Rows of ``leakage`` and ``seen_items``, of one day or several: what was learnt on any of them counts.
    """

    leakage: pl.DataFrame
    seen_items: pl.DataFrame

    def seen(self, judges: Collection[str], release: Release) -> pl.Series | None:
        """Ids of the items of a release like something one of the judges learnt; None if none learnt anything."""
        if self._of(self.leakage, judges, release).is_empty():
            return None
        return self._of(self.seen_items, judges, release)["item_id"].unique()

    def without_seen(self, scores: pl.DataFrame, others_too: bool = False) -> pl.DataFrame:
        """Scores of judges that learnt something, of the items unlike anything they learnt; with ``others_too`` also
        all scores of judges that learnt nothing."""
        if not others_too:
            scores = scores.join(self.leakage.select(RUN_KEY).unique(), on=RUN_KEY, how="semi", maintain_order="left")
        seen = self.seen_items.select(*RUN_KEY, "item_id").unique()
        return scores.join(seen, on=[*RUN_KEY, "item_id"], how="anti", maintain_order="left")

    def _of(self, table: pl.DataFrame, judges: Collection[str], release: Release) -> pl.DataFrame:
        return table.filter(
            pl.col("judge_id").is_in(list(judges)),
            pl.col("eval_set") == release.name,
            pl.col("version") == release.version,
        )


def too_few(n: int, who: str = "it") -> str | None:
    """Why nothing is measured on ``n`` items that are left, or None. ``who`` learnt."""
    if n >= MIN_LEFT:
        return None
    are = "1 item is" if n == 1 else f"{n} items are"
    return f"{are} unlike anything {who} learnt; {MIN_LEFT} are needed"


def leading(rows: pl.DataFrame) -> pl.DataFrame:
    """Of rows of ``metrics`` or ``comparisons`` those of whole releases that are shown first: of judges that learnt
    something the items unlike anything they learnt, of others all items."""
    who = [c for c in ("eval_set", "version", "judge_id", "judge_a", "judge_b") if c in rows.columns]
    learnt = rows.filter(pl.col("slice") == UNLIKE)
    others = rows.filter(pl.col("slice") == "all").join(learnt, on=who, how="anti", maintain_order="left")
    return pl.concat([others, learnt]).sort(who, maintain_order=True)


def leading_items(rows: pl.DataFrame) -> pl.DataFrame:
    """Of rows of ``operating_points`` or ``judge_validity`` those that are shown first."""
    who = [c for c in ("eval_set", "version", "policy", "judge_id") if c in rows.columns]
    learnt = rows.filter(pl.col("items") == UNLIKE)
    others = rows.filter(pl.col("items").is_null() | (pl.col("items") == "all"))
    return pl.concat([others.join(learnt, on=who, how="anti", maintain_order="left"), learnt])
