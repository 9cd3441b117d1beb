"""The section of the report on leakage."""

from __future__ import annotations

from datetime import date

import polars as pl

from moderation_pipelines.eval_sets.asked import in_force, releases_of
from moderation_pipelines.foundation.text import DEVELOPMENT
from moderation_pipelines.leakage.tables import LEAKAGE, NEAR_TWINS
from moderation_pipelines.rendering.pages import decimal, span
from moderation_pipelines.rendering.section import Block, Grid, Note, Section
from moderation_pipelines.stats.intervals import wilson_interval
from moderation_pipelines.tables.warehouse import Warehouse

_SHARES = {
    "exact": "text",
    "near_duplicate": "or near-duplicate text",
    "same_author": "author",
    "same_conversation": "conversation",
    "same_group": "group",
}
SHOWN_LOCALES = 12


def leakage(warehouse: Warehouse, day: date) -> Section | None:
    """What judges learnt against what they are measured on, and how much of each set has near-twins on the development
    side; None before a day was asked about a release."""
    releases = in_force(releases_of(warehouse.home, warehouse, day))
    if not releases:
        return None
    blocks: list[Block] = [Note("leakage_how", _HOW)]
    judges = _judges(warehouse, day, [(r.name, r.version) for r in releases])
    if judges:
        columns = ("eval set", "judge", "used as", "different texts", *(f"same {s}" for s in _SHARES.values()), "items")
        blocks.append(Grid("learnt", columns, judges, "What judges learnt. Share of the set's items, 95 % interval."))
    else:
        blocks.append(Note("learnt_nothing", "No judge learnt anything of this home."))
    twins = warehouse.scan(NEAR_TWINS, [day]).filter(pl.col("side") == DEVELOPMENT)
    rows = []
    for release in releases:
        mine = twins.filter((pl.col("eval_set") == release.name) & (pl.col("version") == release.version))
        items = release.items().select("item_id", "locale").join(
            mine.select("item_id", has=pl.lit(True)).collect(), on="item_id", how="left"
        ).with_columns(pl.col("has").fill_null(False))  # fmt: skip
        parts = [
            ("all", items),
            *((str(k[0]), p) for k, p in items.sort("locale").group_by("locale", maintain_order=True)),
        ]
        for locale, part in parts[: 1 + SHOWN_LOCALES] if len(parts) > 2 else parts[:1]:
            k, n = int(part["has"].sum()), part.height
            interval = wilson_interval(k, n)
            share = f"{decimal(k / n, 2)} ({span(interval.low, interval.high, 2)})" if n else "–"
            rows.append((f"{release.name} {release.version}", locale, share, k, n))
    columns = ("eval set", "locale", "share with near-twins", "items with", "items")
    blocks.append(
        Grid("development_twins", columns, rows, "Items of the sets with near-twins on the development side.")
    )
    return Section("leakage", "What judges may have seen", tuple(blocks), (LEAKAGE.name, NEAR_TWINS.name))


_HOW = (
    "Near-twins are items whose texts are near-duplicates: their sets of character 3-grams have a Jaccard similarity "
    "of 0.7 or more. A judge that learnt anything of this home is measured first on the items unlike anything it "
    "learnt. What the models behind judges were trained on before is not known here."
)


def _judges(warehouse: Warehouse, day: date, current: list[tuple[str, str]]) -> list[tuple[str | int, ...]]:
    known = pl.LazyFrame(current, schema={"eval_set": pl.String, "version": pl.String}, orient="row")
    found = warehouse.scan(LEAKAGE, [day]).join(known, on=["eval_set", "version"], how="semi").collect()
    out: list[tuple[str | int, ...]] = []
    keys = ["eval_set", "version", "judge_id", "used_as"]
    for (name, version, judge, used_as), part in found.sort(keys).group_by(keys, maintain_order=True):
        by = {r["measure"]: r for r in part.to_dicts()}
        shares = []
        for measure in _SHARES:
            r = by[measure]
            said = (
                "not known"
                if r["share"] is None
                else f"{decimal(r['share'], 2)} ({span(r['ci_low'], r['ci_high'], 2)})"
            )
            shares.append(said if r["n"] == by["exact"]["n"] or r["share"] is None else f"{said} of {r['n']:,}")
        exact = by["exact"]
        out.append((f"{name} {version}", str(judge), str(used_as), exact["n_learnt"], *shares, exact["n"]))
    return out
