"""Near-twins of what is measured, and what judges learnt of it."""

from collections.abc import Iterator
from typing import Any

import polars as pl

from moderation_pipelines.eval_sets.asked import releases_of
from moderation_pipelines.eval_sets.selection import latest_content
from moderation_pipelines.ingest.tables import CONTENT
from moderation_pipelines.judging.scores import day_tasks
from moderation_pipelines.judging.tables import RUN_KEY, SCORES
from moderation_pipelines.judging.tasks import run_keys
from moderation_pipelines.leakage.learnt import BY_KEY, leakage_tables, learnt_items, learnt_texts
from moderation_pipelines.leakage.near_twins import ReleasedTexts, near_content, near_twins_table
from moderation_pipelines.leakage.tables import LEAKAGE, NEAR_TWINS, SEEN_ITEMS
from moderation_pipelines.wiring.day_run import DayRun, Span
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.table_assets import Checked, Made, tables_asset


def build(days: Days) -> list[Any]:
    tables = [NEAR_TWINS, LEAKAGE, SEEN_ITEMS]
    after = ("eval_sets", "prompts", "consensus", CONTENT.name)
    return [tables_asset(days, tables, leakage, {SCORES: Span.DAY}, after=after, name="leakage")]


def leakage(run: DayRun) -> Iterator[Made | Checked]:
    """On every release the day was asked about. Rows the day has of judges that cannot be asked now are kept."""
    warehouse, day = run.warehouse, run.date
    releases = releases_of(run.home, warehouse, day)
    tasks = day_tasks(run.home, warehouse, releases, day)[0]
    released = ReleasedTexts(releases)
    delivered = [d for d in warehouse.days(CONTENT) if d <= day]
    columns = ("item_id", "text", "text_sha256", "side")
    content = (warehouse.scan(CONTENT, [d]).select(columns).collect(engine="streaming") for d in delivered)
    near = near_content(released, content, run.tell)
    twins = near_twins_table(near, day)
    wanted = {
        "item_id": sorted(learnt_items(tasks) | (set(released.items["item_id"]) if releases else set())),
        "text_sha256": sorted(learnt_texts(tasks)),
    }
    history = warehouse.scan(CONTENT, delivered).select("item_id", "text_sha256", *BY_KEY.values(), "drop_date")
    parts = [
        history.join(pl.LazyFrame({c: v}, schema={c: pl.String}), on=c, how="semi") for c, v in wanted.items()
    ]  # fmt: skip
    keys = latest_content(pl.concat(parts)).drop("drop_date")
    measured, seen = leakage_tables(tasks, near, keys.collect(engine="streaming"), day)
    asked = run_keys(tasks)
    kept = [warehouse.scan(t, [day]).collect().join(asked, on=RUN_KEY, how="anti") for t in (LEAKAGE, SEEN_ITEMS)]
    by_side = dict(twins.group_by("side").len().iter_rows())
    yield Made(NEAR_TWINS, twins, {f"items with near-twins on the {s} side": n for s, n in sorted(by_side.items())})
    shared = measured.filter(pl.col("measure") == "near_duplicate").select(
        "judge_id", "eval_set", "used_as", "n_shared", "n"
    )
    shown = {f"near what {j} was {u} on, {e}": f"{s:,} of {n:,} items" for j, e, u, s, n in shared.iter_rows()}
    yield Made(LEAKAGE, pl.concat([measured, kept[0]]), shown or {"note": "no judge learnt anything of this home"})
    yield Made(SEEN_ITEMS, pl.concat([seen, kept[1]]))
