"""Eval-set releases: built, audited, published."""

from collections.abc import Iterator

import dagster as dg
import polars as pl

from moderation_pipelines.eval_sets.build import build_eval_sets
from moderation_pipelines.eval_sets.expectations import RELEASE_EXPECTATIONS
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline
from moderation_pipelines.wiring.presentation import (
    CODE_VERSION,
    OWNERS,
    check_results,
    check_specs,
    told_plainly,
)


def build(days: Days) -> list[dg.AssetsDefinition]:
    specs = check_specs("eval_sets", RELEASE_EXPECTATIONS)
    names = ("consensus", "content", "votes", "drops", "consensus_methods")

    @dg.asset(
        group_name="eval_sets",
        kinds={"polars", "parquet", "greatexpectations"},
        owners=OWNERS,
        code_version=CODE_VERSION,
        description="Versioned, frozen eval sets, one row per item. Published only if the audit holds.",
        ins={n: dg.AssetIn(partition_mapping=days.history) for n in names},
        deps=["policies"],
        check_specs=specs,
    )
    def eval_sets(
        consensus: pl.LazyFrame,
        content: pl.LazyFrame,
        votes: pl.LazyFrame,
        drops: pl.LazyFrame,
        consensus_methods: pl.LazyFrame,
        pipeline: dg.ResourceParam[Pipeline],
    ) -> Iterator[dg.AssetCheckResult | dg.MaterializeResult]:
        with told_plainly():
            policies = pipeline.policies()
            published = build_eval_sets(
                pipeline.home,
                policies,
                consensus,
                content,
                votes,
                drops,
                consensus_methods,
                pipeline.settings.eval_share,
                pipeline.tell,
            )
        yield from check_results("eval_sets", specs, {p.name: p.results for p in published if p.results})
        failed = [p for p in published if p.status == "failed"]
        if failed:
            lines = [
                f"{p.name}: {', '.join(r['id'] for r in p.failed)}; see "
                f"{pipeline.home.relative(p.candidate_path)}/validation.html"
                for p in failed
                if p.candidate_path is not None
            ]
            raise dg.Failure("audit failed, nothing was published for " + "; ".join(lines), allow_retries=False)
        metadata: dict[str, str] = {
            p.name: p.status if p.release is None else f"{p.release.version}, {p.status}" for p in published
        }
        hashes = {f"{p.name} hash": p.release.manifest["content_sha256"][:12] for p in published if p.release}
        pages = {
            f"{p.name} validation page": dg.MetadataValue.path(str(p.release.path / "validation.html"))
            for p in published
            if p.release
        }
        rows = sum(p.release.manifest["rows"] for p in published if p.release)
        yield dg.MaterializeResult(metadata={"dagster/row_count": rows, **metadata, **hashes, **pages})

    return [eval_sets]
