"""The daily report, shown in the Dagster UI."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from moderation_pipelines.policies.policy import usable_policies
from moderation_pipelines.reports.daily import write_report
from moderation_pipelines.wiring.day_run import DayRun
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline, day_of
from moderation_pipelines.wiring.presentation import OWNERS, user_errors_as_failures


def build(days: Days) -> list[Any]:
    @dg.asset(
        group_name=days.group,
        kinds={"html", "markdown", "excel"},
        owners=OWNERS,
        code_version=days.code_version,
        description="The daily report: an HTML page that opens offline, the same in Markdown (shown here), a workbook.",
        partitions_def=days.daily,
        deps=list(days.earlier),
    )
    def report(
        context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]
    ) -> Iterator[dg.MaterializeResult]:
        run = DayRun(pipeline, day_of(context.partition_key), {})
        with user_errors_as_failures():
            made = write_report(run.home, usable_policies(run.home), run.date, run.settings, stages=pipeline.stages)
        yield dg.MaterializeResult(
            metadata={
                "report": dg.MetadataValue.md(made.markdown_text),
                "page": dg.MetadataValue.path(str(made.html)),
                "workbook": dg.MetadataValue.path(str(made.workbook)),
                "what to do next": dg.MetadataValue.md("\n".join(f"- {line}" for line in made.data.todo)),
            }
        )
        if made.broken:
            raise dg.Failure("; ".join(made.broken), allow_retries=False)

    return [report]
