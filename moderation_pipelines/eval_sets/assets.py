"""Eval-set releases: built, audited, published; and the list of them, which fails while a set was refused."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from moderation_pipelines.consensus.tables import CONSENSUS, CONSENSUS_METHODS
from moderation_pipelines.eval_sets.build import History, build_eval_sets
from moderation_pipelines.eval_sets.expectations import RELEASE_EXPECTATIONS
from moderation_pipelines.eval_sets.listing import keep_outcomes, kept_outcomes, refusals, releases_frame
from moderation_pipelines.eval_sets.release import Published
from moderation_pipelines.eval_sets.tables import RELEASES
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.ingest.tables import CONTENT, DROPS
from moderation_pipelines.policies.policy import usable_policies
from moderation_pipelines.tables.table import Table
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines.wiring.day_run import DayRun, Span
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline
from moderation_pipelines.wiring.presentation import OWNERS, user_errors_as_failures
from moderation_pipelines.wiring.table_assets import Made, expectation_checks, expectation_results, tables_asset

EVAL_SETS = "eval_sets"
_READS: Mapping[Table, Span] = dict.fromkeys((CONSENSUS, CONTENT, VOTES, DROPS, CONSENSUS_METHODS), Span.HISTORY)


def build(days: Days) -> list[Any]:
    checks = expectation_checks(EVAL_SETS, RELEASE_EXPECTATIONS)

    @dg.asset(
        group_name=days.group,
        kinds={"polars", "parquet", "greatexpectations"},
        owners=OWNERS,
        code_version=days.code_version,
        description="Versioned, frozen eval sets, one row per item. Published only if the audit holds; a set that is "
        "refused keeps its former release and stops no other.",
        deps=["policies", *(dg.AssetDep(t.name, partition_mapping=days.mapping(s)) for t, s in _READS.items())],
        check_specs=[c.spec for c in checks],
    )
    def eval_sets(pipeline: dg.ResourceParam[Pipeline]) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        run = DayRun(pipeline, None, _READS)
        with user_errors_as_failures():
            published = build_eval_sets(
                run.home,
                usable_policies(run.home),
                History(*(run.read(t) for t in _READS)),
                run.settings.eval_share,
                run.tell,
            )
            keep_outcomes(run.home, published)
        for checked in expectation_results(checks, {p.name: p.results for p in published if p.results}):
            yield checked.as_dagster
        yield dg.MaterializeResult(metadata=_shown(published))

    def releases(run: DayRun) -> Iterator[Made]:
        outcomes = kept_outcomes(run.home)
        yield Made(RELEASES, releases_frame(run.home, outcomes))
        if said := refusals(run.home, outcomes):
            raise UserError("nothing was published for " + "; ".join(said))

    return [
        eval_sets,
        tables_asset(days, [RELEASES], releases, after=(EVAL_SETS,), fails_alone=True),
    ]


def _shown(published: list[Published]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        p.name: p.status if p.release is None else f"{p.release.version}, {p.status}" for p in published
    }
    for p in published:
        if p.release is not None:
            metadata[f"{p.name} hash"] = p.release.manifest["content_sha256"][:12]
            metadata[f"{p.name} validation page"] = dg.MetadataValue.path(str(p.release.path / "validation.html"))
    rows = sum(p.release.manifest["rows"] for p in published if p.release)
    return {"dagster/row_count": rows, **metadata}
