"""Every expectation's result of the day, as a table."""

import dagster as dg
import polars as pl

from moderation_pipelines.auditing.results import read_audit
from moderation_pipelines.eval_sets.release import current_releases
from moderation_pipelines.validations.rows import validation_rows
from moderation_pipelines.validations.tables import VALIDATIONS
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline, day_of
from moderation_pipelines.wiring.presentation import frame_metadata, table_asset, told_plainly


def build(days: Days) -> list[dg.AssetsDefinition]:
    @dg.asset(
        **table_asset(VALIDATIONS, "validation", kinds={"greatexpectations", "polars"}),
        partitions_def=days.daily,
        deps=["eval_sets", "scores", "metrics"],
    )
    def validations(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> dg.MaterializeResult[pl.DataFrame]:
        home, day = pipeline.home, day_of(context.partition_key)
        with told_plainly():
            current = current_releases(home, pipeline.policies())
        parts = [validation_rows("release", f"{r.name} {r.version}", r.validation(), day) for r in current]
        parts += [
            validation_rows(suite, str(day), read_audit(home, suite, day), day) for suite in ("scores", "metrics")
        ]
        frame = pl.concat(parts)
        broken = frame.filter(~pl.col("passed"))
        named = ", ".join(f"{s}: {e}" for s, e in broken.select("subject", "expectation").iter_rows())
        more = {"held": int(frame["passed"].sum()), "broken": broken.height, "which": named or "none"}
        path = pipeline.warehouse.file(VALIDATIONS, day)
        return dg.MaterializeResult(value=frame, metadata=frame_metadata(VALIDATIONS, frame, path, **more))

    return [validations]
