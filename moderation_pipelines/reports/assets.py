"""The daily report, shown in the Dagster UI."""

import dagster as dg

from moderation_pipelines.reports.daily import write_report
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline, day_of
from moderation_pipelines.wiring.presentation import CODE_VERSION, OWNERS, told_plainly


def build(days: Days) -> list[dg.AssetsDefinition]:
    @dg.asset(
        group_name="reports",
        kinds={"html", "markdown", "excel"},
        owners=OWNERS,
        code_version=CODE_VERSION,
        description="The daily report: an HTML page that opens offline, the same in Markdown (shown here), a workbook.",
        partitions_def=days.daily,
        deps=[
            "drops",
            "quarantine",
            "consensus",
            "consensus_methods",
            "agreement",
            "judge_runs",
            "canaries",
            "injections",
            "disagreements",
            "rater_pairs",
            "guideline_comparisons",
            "raters",
            "eval_sets",
            "scores",
            "metrics",
            "comparisons",
            "validations",
        ],
    )
    def report(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> dg.MaterializeResult:
        day = day_of(context.partition_key)
        with told_plainly():
            made = write_report(pipeline.home, pipeline.policies(), day, pipeline.settings)
        return dg.MaterializeResult(
            metadata={
                "report": dg.MetadataValue.md(made.markdown_text),
                "page": dg.MetadataValue.path(str(made.html)),
                "workbook": dg.MetadataValue.path(str(made.workbook)),
                "what to do next": dg.MetadataValue.md("\n".join(f"- {line}" for line in made.data.todo)),
            }
        )

    return [report]
