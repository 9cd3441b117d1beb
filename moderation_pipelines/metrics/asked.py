"""Comparisons of judges that somebody asks for."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from moderation_pipelines.eval_sets.release import find_release
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.judging.tables import SCORES
from moderation_pipelines.leakage.tables import LEAKAGE, SEEN_ITEMS
from moderation_pipelines.metrics.pairs import compare_judges, compare_releases
from moderation_pipelines.metrics.unlike import Learners
from moderation_pipelines.tables.warehouse import Warehouse


def comparison(
    home: Home, eval_set: str, versions: Sequence[str], judges: Sequence[str], replicates: int
) -> pl.DataFrame:
    """Two judges on one release, or one judge on two. UserError naming what was scored if that is not there."""
    releases = [find_release(home, eval_set, v) for v in versions]
    if len(releases) == 2 and releases[0].version >= releases[1].version:
        raise UserError("give the earlier version first, then a later one")
    warehouse = Warehouse(home)
    scores = warehouse.scan(SCORES).filter(pl.col("eval_set") == eval_set).collect()
    # Of a judge's answers to one item of a release the latest counts.
    scores = scores.sort("drop_date").unique(["judge_id", "version", "item_id"], keep="last", maintain_order=True)
    for release in releases:
        there = sorted(scores.filter(pl.col("version") == release.version)["judge_id"].unique())
        for judge in judges:
            if judge not in there:
                known = ", ".join(there) or "nobody"
                hint = "" if there else " (a day keeps the scores of the release in force when it last ran)"
                raise UserError(f'judge "{judge}" did not score {eval_set} {release.version}; scored by: {known}{hint}')
    learners = Learners(
        *(warehouse.scan(t).filter(pl.col("eval_set") == eval_set).collect() for t in (LEAKAGE, SEEN_ITEMS))
    )
    if len(releases) == 2:
        return compare_releases(scores, releases[0], releases[1], judges[0], replicates, learners)
    mine = scores.filter(pl.col("version") == releases[0].version)
    return compare_judges(mine, releases[0], judges[0], judges[1], replicates, learners)
