"""The tables of the agreement stage for one window: every policy, from the window's votes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date

import polars as pl

from moderation_pipelines.agreement.disagreement import Clause, confused_labels, rater_pair_table
from moderation_pipelines.agreement.guidelines import guideline_comparisons
from moderation_pipelines.agreement.pack import agreement, intra_rater_agreement
from moderation_pipelines.agreement.tables import AGREEMENT, DISAGREEMENTS, GUIDELINE_COMPARISONS, RATER_PAIRS, SLICES
from moderation_pipelines.policies.policy import Policies, Policy
from moderation_pipelines.tables.table import Table
from moderation_pipelines.votes.scale import Scale
from moderation_pipelines.votes.window import NewTally, tally_votes, window_votes


def voted_with_items(
    votes: pl.LazyFrame, content: pl.LazyFrame, policies: Policies, new_tally: NewTally | None = None
) -> pl.LazyFrame:
    """Votes of the window that gave an answer, repeats among them (``is_current`` tells), with their item's locale and
    surface. Columns: item_id, policy, label, rater_id, is_current, SLICES; used_at: when it was made, else its day.
    ``new_tally`` counts the votes that are left out."""
    of_item = content.sort("drop_date").unique("item_id", keep="last").select("item_id", "locale", "surface")
    window = window_votes(votes, policies)
    if new_tally is not None:
        held = window.collect()
        tally_votes("agreement", votes, held, policies, new_tally)
        window = held.lazy()
    return (
        window.filter((pl.col("kind") == "vote") & ~pl.col("is_abstain"))
        .join(of_item, on="item_id", how="left")
        .with_columns(used_at=pl.coalesce("labeled_at", pl.col("drop_date").cast(pl.Datetime("us", "UTC"))))
        .select("item_id", "policy", "label", "rater_id", "is_current", "used_at", *SLICES)
    )


def agreement_table(voted: pl.LazyFrame, policies: Policies, start: date, end: date, replicates: int) -> pl.DataFrame:
    """The ``agreement`` rows for the window ``start`` to ``end``: every policy, all and by each of SLICES.

    ``voted``: from :func:`voted_with_items`. A policy without votes gives its rows with null values and n 0.
    """

    def of(policy: Policy, mine: pl.LazyFrame) -> pl.DataFrame:
        scale = Scale.of(policy)
        tables = [agreement(mine.filter("is_current").collect(), scale, SLICES, replicates, policy.id)]
        if mine.filter(~pl.col("is_current")).head(1).collect().height:
            tables.append(intra_rater_agreement(mine.collect(), scale, SLICES, replicates, policy.id))
        return pl.concat(tables).with_columns(window_start=pl.lit(start), window_end=pl.lit(end))

    return _for_each(AGREEMENT, voted, policies, end, of)


def disagreements_table(voted: pl.LazyFrame, policies: Policies, end: date, replicates: int) -> pl.DataFrame:
    """The ``disagreements`` rows: which labels raters confuse, all, by each of SLICES and by clause."""

    def of(policy: Policy, mine: pl.LazyFrame) -> pl.DataFrame:
        clauses = [Clause(clause.id, clause.label) for clause in policy.clauses if clause.label is not None]
        counted = mine.filter("is_current").collect()
        return confused_labels(counted, Scale.of(policy), SLICES, clauses, replicates, policy.id)

    return _for_each(DISAGREEMENTS, voted, policies, end, of)


def rater_pairs_table(voted: pl.LazyFrame, policies: Policies, end: date) -> pl.DataFrame:
    """The ``rater_pairs`` rows: agreement of every two raters who share ten items or more."""
    return _for_each(
        RATER_PAIRS, voted, policies, end, lambda p, mine: rater_pair_table(mine.filter("is_current"), Scale.of(p))
    )


def guideline_comparisons_table(voted: pl.LazyFrame, policies: Policies, end: date, replicates: int) -> pl.DataFrame:
    """The ``guideline_comparisons`` rows: each guideline version against the next, in the order they came into use."""

    def of(policy: Policy, mine: pl.LazyFrame) -> pl.DataFrame:
        counted = mine.filter("is_current").collect()
        by_use = counted.filter(pl.col("guideline").is_not_null()).group_by("guideline").agg(pl.col("used_at").min())
        versions = by_use.sort("used_at", "guideline")["guideline"].to_list()
        return guideline_comparisons(counted, Scale.of(policy), versions, replicates, policy.id)

    return _for_each(GUIDELINE_COMPARISONS, voted, policies, end, of)


def _for_each(
    table: Table,
    voted: pl.LazyFrame,
    policies: Policies,
    end: date,
    of: Callable[[Policy, pl.LazyFrame], pl.DataFrame],
) -> pl.DataFrame:
    def frames() -> Iterator[pl.DataFrame]:
        held = voted.collect().lazy()
        for policy in policies:
            mine = held.filter(pl.col("policy") == policy.id)
            yield of(policy, mine).with_columns(policy=pl.lit(policy.id), drop_date=pl.lit(end))

    found = list(frames())
    return table.picked(pl.concat(found).lazy()).collect() if found else table.empty()
