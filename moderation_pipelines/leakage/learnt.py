"""What judges learnt against what they are measured on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

import polars as pl

from moderation_pipelines.judging.tasks import Learnt, ScoringTask
from moderation_pipelines.leakage.near_twins import NearContent
from moderation_pipelines.leakage.tables import LEAKAGE, SEEN_ITEMS
from moderation_pipelines.stats.intervals import wilson_interval

BY_KEY = {"same_author": "author_key", "same_conversation": "conversation_id", "same_group": "group_key"}
Row = dict[str, object]


def learnt_items(tasks: Sequence[ScoringTask]) -> set[str]:
    """Ids of all items some judge learnt."""
    return {i for task in tasks for learnt in task.learnt for i in learnt.item_ids if i}


def learnt_texts(tasks: Sequence[ScoringTask]) -> set[str]:
    """Hashes of all texts some judge learnt: an example without an id may be an item all the same."""
    return {h for hashes in {x.hashes for task in tasks for x in task.learnt} for h in hashes}


def leakage_tables(
    tasks: Sequence[ScoringTask], near: NearContent, keys: pl.DataFrame, day: date
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The ``leakage`` and ``seen_items`` rows of ``day``.

    ``keys``: item_id, text_sha256, author_key, conversation_id and group_key of the items of the releases, of
    :func:`learnt_items` and of those with :func:`learnt_texts`.
    """
    nearest: dict[tuple[str, ...], pl.DataFrame] = {}
    measured: list[Row] = []
    seen: list[pl.DataFrame] = [SEEN_ITEMS.empty()]
    for task in tasks:
        for learnt in task.learnt:
            if learnt.hashes not in nearest:
                nearest[learnt.hashes] = _nearest(learnt, near, keys)
            hashes = sorted(set(learnt.hashes))
            ids = [i for i in learnt.item_ids if i]
            theirs = keys.filter(pl.col("item_id").is_in(ids) | pl.col("text_sha256").is_in(hashes))
            groups = theirs["group_key"].drop_nulls().unique()
            named = {"judge_id": task.judge_id, "used_as": learnt.used_as}
            mine = (
                near.released.items.filter(
                    (pl.col("eval_set") == task.release.name) & (pl.col("version") == task.release.version)
                )
                .join(keys.drop("text_sha256"), on="item_id", how="left")
                .join(nearest[learnt.hashes], on="indexed", how="left")
                .with_columns(exact=pl.col("text_sha256").is_in(hashes))
                # A text without characters that show has no 3-grams.
                .with_columns(similarity=pl.when("exact").then(1.0).otherwise("similarity"))
                .with_columns(same_group=pl.col("group_key").is_in(groups.implode()) if len(groups) else pl.lit(None))
            )
            found = mine.filter(pl.col("similarity").is_not_null() | pl.col("same_group")).with_columns(
                drop_date=pl.lit(day), **{k: pl.lit(v) for k, v in named.items()}
            )
            seen.append(SEEN_ITEMS.picked(found.lazy()).collect())
            of = {"eval_set": task.release.name, "version": task.release.version, "policy": task.policy.id}
            measured += [of | named | row for row in _measures(mine, len(hashes), theirs)]
    table = pl.LazyFrame(measured, schema={k: v for k, v in LEAKAGE.schema.items() if k != "drop_date"})
    return (
        LEAKAGE.picked(table.with_columns(drop_date=pl.lit(day))).collect(),
        pl.concat(seen).sort("eval_set", "version", "judge_id", "used_as", "item_id"),
    )


def _nearest(learnt: Learnt, near: NearContent, keys: pl.DataFrame) -> pl.DataFrame:
    """Released texts with a near-duplicate among what was learnt: indexed, similarity (of the nearest).

    What was delivered has been compared already, but for texts with very many near-duplicates.
    """
    delivered = set(keys["text_sha256"])
    mine = pl.DataFrame({"text_sha256": sorted(set(learnt.hashes))}, schema={"text_sha256": pl.String})
    found = near.pairs.join(mine, on="text_sha256", how="semi").select("indexed", "similarity")
    others = [t for t, h in zip(learnt.texts, learnt.hashes, strict=True) if h not in delivered]
    index, crowded = near.released.index, near.crowded
    more = [index.nearest(others)]
    if crowded.any():
        more.append(index.nearest(list(learnt.texts), crowded))
    return pl.concat([found, *more]).group_by("indexed").agg(pl.col("similarity").max())


def _measures(mine: pl.DataFrame, n_learnt: int, theirs: pl.DataFrame) -> Iterator[Row]:
    yield _row("exact", n_learnt, mine.height, int(mine["exact"].sum()))
    yield _row("near_duplicate", n_learnt, mine.height, int(mine["similarity"].count()))
    for measure, key in BY_KEY.items():
        known = theirs[key].drop_nulls().unique()
        with_one = mine[key].drop_nulls()
        shared = int(with_one.is_in(known.implode()).sum())
        unknown = None if len(known) else f"nothing the judge learnt has a known {key}"
        if not len(with_one) and unknown is None:
            unknown = f"no item of the release has a known {key}"
        yield _row(measure, n_learnt, len(with_one), shared, unknown)


def _row(measure: str, n_learnt: int, n: int, n_shared: int, unknown: str | None = None) -> Row:
    interval = wilson_interval(n_shared, n) if unknown is None else None
    return {
        "measure": measure,
        "n_learnt": n_learnt,
        "n": n,
        "n_shared": n_shared,
        "share": n_shared / n if interval is not None else None,
        "ci_low": None if interval is None else interval.low,
        "ci_high": None if interval is None else interval.high,
        "note": unknown,
    }
