"""The daily report: one HTML page, the same in Markdown, and a workbook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
from markupsafe import Markup

from moderation_pipelines import __version__
from moderation_pipelines.agreement.notes import FEW_ITEMS
from moderation_pipelines.consensus.basis import CALIBRATED
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.registry import resolve
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.judging.judges_file import BASELINE
from moderation_pipelines.metrics.daily import CONFIDENCE_ORDER
from moderation_pipelines.metrics.tables import SLICES, UNLIKE
from moderation_pipelines.metrics.unlike import WORDS, leading
from moderation_pipelines.policies.policy import Policies
from moderation_pipelines.rendering.charts import RangeRow, agreement_matrix, confusion_chart, range_chart, stacked_bars
from moderation_pipelines.rendering.pages import decimal, render, span
from moderation_pipelines.rendering.pages_of_sections import section_html, section_markdown, section_sheets
from moderation_pipelines.rendering.section import Advice, Grid, Section
from moderation_pipelines.reports.data import (
    SURE,
    ReportData,
    Row,
    agreement_rows,
    leading_rows,
    report_data,
    rows_of_all_items,
    slice_rows,
)
from moderation_pipelines.reports.workbook import write_workbook
from moderation_pipelines.tables.store import write_text
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines.wiring.stage import Stage

SHOWN_RATERS = 20
SHOWN_SLICES = 12
SHOWN_IN_MATRIX = 12


@dataclass(frozen=True)
class Report:
    """Where a day's report lies, and what it says."""

    data: ReportData
    html: Path
    markdown: Path
    workbook: Path
    markdown_text: str
    broken: tuple[str, ...] = ()


def write_report(
    home: Home,
    policies: Policies,
    day: date,
    settings: Settings,
    notes: Sequence[str] = (),
    stages: Sequence[Stage] = (),
) -> Report:
    """Write ``data/reports/<day>/report.html``, ``report.md`` and ``report.xlsx`` from the warehouse as it stands.

    Sections and advice of ``stages`` stand after the report's own. One that cannot be made is left out and named in
    ``broken``; it takes no other with it.
    """
    data = report_data(home, policies, day, settings, notes)
    parts = stage_parts(stages, Warehouse(home), day)
    data.todo += parts.advice
    values = page_values(data) | {"sections_html": parts.html, "sections_markdown": parts.markdown}
    folder = home.reports / str(day)
    report = Report(
        data,
        folder / "report.html",
        folder / "report.md",
        folder / "report.xlsx",
        render("report.md", values),
        tuple(parts.broken),
    )
    write_text(report.html, render("report.html", values))
    write_text(report.markdown, report.markdown_text)
    write_workbook(data, report.workbook, parts.sheets)
    return report


@dataclass(frozen=True)
class StageParts:
    """What the stages add to a report: sections rendered, advice as lines, and a line for each part that failed."""

    html: list[Markup] = field(default_factory=list)
    markdown: list[str] = field(default_factory=list)
    sheets: dict[str, Grid] = field(default_factory=dict)
    advice: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @contextmanager
    def alone(self, what: str, stage: str) -> Iterator[None]:
        """A part that fails in the block is noted; the others go on."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - functions of other packages may raise anything
            self.broken.append(f"{what} of stage {stage} could not be made: {type(error).__name__}")


def stage_parts(stages: Sequence[Stage], warehouse: Warehouse, day: date) -> StageParts:
    """Sections and advice of every stage, each on its own."""
    parts = StageParts()
    for stage in stages:
        for reference in stage.sections:
            with parts.alone(f"section {_function(reference)}", stage.name):
                section: Section | None = resolve(reference)(warehouse, day)
                if section is not None:
                    html, markdown, sheets = section_html(section), section_markdown(section), section_sheets(section)
                    parts.html.append(html)
                    parts.markdown.append(markdown)
                    parts.sheets.update(sheets)
        for reference in stage.advice:
            with parts.alone(f"advice {_function(reference)}", stage.name):
                parts.advice.extend([advice_line(a) for a in resolve(reference)(warehouse, day)])
    return parts


def _function(reference: str) -> str:
    return reference.rpartition(":")[2]


def advice_line(advice: Advice) -> str:
    """Advice as one line: what to do, who, and the number behind it."""
    number = ""
    if advice.value is not None:
        interval = span(advice.ci_low, advice.ci_high)
        between = "" if interval == "–" else f", {interval}"
        number = f" ({decimal(advice.value)}{between}{'' if advice.n is None else f', n {advice.n:,}'})"
    return f"{advice.text}{number}. Owner: {advice.owner}."


def page_values(data: ReportData) -> dict[str, Any]:
    """What both page templates need: the data, rows per table, charts."""
    metrics, with_learnt = leading_rows(data), rows_of_all_items(data)
    surest = pl.when(pl.col("n_others") > pl.col("n_compared")).then("others_ci_high").otherwise("ci_high")
    raters = data.raters.sort(surest, "rater_id", "policy", nulls_last=True)
    return {
        "d": data,
        "version": __version__,
        "bars": stacked_bars([(f"{d:%m-%d}", a, q) for d, a, q in data.days], "Rows per delivery day"),
        "agreement": [_policy_agreement(data, p.id, p.title) for p in data.policies],
        "coefficients": _all_coefficients(data),
        "confused": _confused(data),
        "pair_charts": _pair_charts(data),
        "guidelines": data.guidelines.to_dicts(),
        "methods": data.methods.filter(pl.col("accuracy").is_not_null() | pl.col("is_chosen")).to_dicts(),
        "method_charts": _method_charts(data),
        "reliability": data.reliability.filter(pl.col("n") >= FEW_ITEMS).sort("policy", "source", "bin").to_dicts(),
        "reliability_charts": _reliability_charts(data),
        "with_learnt": with_learnt,
        "items_words": WORDS,
        "learners": any(r["is_unlike"] for r in metrics),
        "is_clustered": data.metrics["design_effect"].is_not_null().any(),
        "comparisons": leading(data.comparisons).to_dicts(),
        "different": different_slices(data.comparisons).to_dicts(),
        "raters": raters.head(SHOWN_RATERS).to_dicts(),
        "n_raters": raters.height,
        "metrics": metrics,
        "judges": sorted({r["judge_id"] for r in [*metrics, *with_learnt] if r["accuracy"]["n"]}),
        "anonymous": any(r["n_raters"] is None for p in data.policies for r in agreement_rows(data, p.id)),
        "judge_charts": _judge_charts(metrics),
        "slices": _slices(data),
        "few_items": FEW_ITEMS,
        "confusions": _confusions(data),
    }


def different_slices(comparisons: pl.DataFrame) -> pl.DataFrame:
    """Slices in which the accuracy of two judges surely differs: where one of them learnt something, of the items
    unlike anything either learnt."""
    pair = ["eval_set", "version", "judge_a", "judge_b"]
    unlike = pl.col("slice").str.starts_with(UNLIKE)
    learnt = comparisons.filter(unlike).select(pair).unique()
    kinds = [comparisons.filter(unlike), comparisons.filter(~unlike).join(learnt, on=pair, how="anti")]
    shown = ~pl.col("slice").is_in(["all", UNLIKE]) & (pl.col("metric") == "accuracy") & (pl.col("p_adjusted") < SURE)
    return pl.concat(kinds).filter(shown).with_columns(
        pl.col("slice").str.strip_prefix(f"{UNLIKE}_"), learnt=unlike
    )  # fmt: skip


def _all_coefficients(data: ReportData) -> list[Row]:
    """Every coefficient over all votes, per policy with votes."""
    rows = data.agreement.filter((pl.col("slice") == "all") & (pl.col("n_rated") > 0))
    return rows.sort("policy", maintain_order=True).to_dicts()


def _confused(data: ReportData) -> list[Row]:
    """Per policy and slice with ten disputed items or more the pair of labels confused most."""
    rows = data.disagreements.filter(pl.col("n_disputed") >= FEW_ITEMS)
    lone = ["locale", "pool", "guideline", "surface"]
    values = rows.group_by("policy", "slice").agg(values=pl.col("slice_value").n_unique())
    rows = rows.join(values, on=["policy", "slice"]).filter(~pl.col("slice").is_in(lone) | (pl.col("values") > 1))
    several = [p.id for p in data.policies if len(p.label_ids) > 2]
    return (
        rows.filter(pl.col("policy").is_in(several))
        .sort("policy", "slice", "slice_value", "share", descending=[False, False, False, True])
        .group_by("policy", "slice", "slice_value", maintain_order=True)
        .head(2)
        .to_dicts()
    )


def _method_charts(data: ReportData) -> list[Row]:
    """Accuracy on gold of every method, per policy where it was measured."""
    out = []
    for policy in data.policies:
        mine = data.methods.filter((pl.col("policy") == policy.id) & pl.col("accuracy").is_not_null()).to_dicts()
        rows = [
            RangeRow(m["method"], m["accuracy"], m["ci_low"], m["ci_high"], m["n_gold"], second=not m["is_chosen"])
            for m in mine
        ]
        if rows:
            low = int(min(r.low or 0.0 for r in rows) * 10) / 10
            chart = range_chart(rows, f"Right on gold, {policy.title}", low=low)
            out.append(
                {"title": policy.title, "chart": chart, "caption": "Share right on gold. Blue: the chosen method."}
            )
    return out


def _reliability_charts(data: ReportData) -> list[Row]:
    """What labels' probabilities said and what gold says, per policy where it was measured."""
    out = []
    for policy in data.policies:
        mine = data.reliability.filter((pl.col("policy") == policy.id) & (pl.col("n") >= FEW_ITEMS)).sort(
            "source", "bin", descending=[True, False]
        )
        rows = [
            RangeRow(
                f"{b['source'].replace('_', ' ')} {b['mean_p']:.2f}", b["observed"], b["ci_low"], b["ci_high"], b["n"],
                second=b["source"] != CALIBRATED,
            )
            for b in mine.to_dicts()
        ]  # fmt: skip
        if rows:
            chart = range_chart(rows, f"Reliability, {policy.title}")
            caption = f"Share right on gold of labels by {mine['method'][0]}, n: gold items."
            out.append({"title": policy.title, "chart": chart, "caption": caption})
    return out


def _pair_charts(data: ReportData) -> list[Row]:
    """A matrix of pairwise agreement per policy, of the raters with most shared items."""
    out = []
    for policy in data.policies:
        pairs = data.rater_pairs.filter(pl.col("policy") == policy.id)
        if pairs.height < 3:
            continue
        both = [pairs.select(rater=c, n="n_items") for c in ("rater_a", "rater_b")]
        most = pl.concat(both).group_by("rater").agg(pl.col("n").sum()).sort("n", "rater", descending=[True, False])
        raters = sorted(most.head(SHOWN_IN_MATRIX)["rater"])
        cells = {
            (a, b): (value, n)
            for a, b, value, n in pairs.select("rater_a", "rater_b", "percent_agreement", "n_items").iter_rows()
        }
        chart = agreement_matrix(raters, cells, f"Pairwise agreement, {policy.title}")
        more = most.height - len(raters)
        caption = (
            "Share of items both rated alike; darker: less. A column's number is on the diagonal. Empty: few items."
        )
        out.append(
            {
                "title": f"Pairs of raters, {policy.title}",
                "chart": chart,
                "caption": caption + (f" {more} more raters." if more else ""),
            }
        )
    return out


def _slices(data: ReportData) -> list[Row]:
    """Metric rows of every slicing that says more than "all": several values, and verdicts in it."""
    out = []
    for name in SLICES:
        rows = [{**row, "slice": name} for row in slice_rows(data, name) if row["accuracy"]["n"]]
        for row in rows:
            key = (row["eval_set"], row["judge_id"])
            if sum((r["eval_set"], r["judge_id"]) == key for r in rows) > 1:
                out.append(row)
    order = {value: i for i, value in enumerate(CONFIDENCE_ORDER)}
    return sorted(
        out, key=lambda r: (r["eval_set"], r["judge_id"], SLICES.index(r["slice"]), order.get(r["slice_value"], 0))
    )


def _policy_agreement(data: ReportData, policy: str, title: str) -> Row:
    rows = agreement_rows(data, policy)
    shown = [
        RangeRow(
            "all" if r["slice_value"] is None else f"{r['slice']} {r['slice_value']}",
            r["krippendorff_alpha"]["value"],
            r["krippendorff_alpha"]["ci_low"],
            r["krippendorff_alpha"]["ci_high"],
            r["n_items"],
        )
        for r in rows
        if r["krippendorff_alpha"]["ci_low"] is not None
    ]
    more = max(0, len(shown) - SHOWN_SLICES)
    caption = "Alpha with its interval." + (f" {more} more in the table." if more else "")
    chart = range_chart(shown[:SHOWN_SLICES], f"Alpha, {title}")
    return {"policy": policy, "title": title, "rows": rows, "chart": chart, "caption": caption}


def _judge_charts(metrics: Sequence[Row]) -> list[Row]:
    charts = []
    captions = {
        "f1": "n: items with a verdict.",
        "recall": "n: violating items with a verdict.",
        "precision": "n: items flagged.",
        "auroc": "n: items with a probability.",
    }
    for metric, title in (("f1", "F1"), ("recall", "Recall"), ("precision", "Precision"), ("auroc", "AUROC")):
        several = len({r["judge_id"] for r in metrics}) > 1
        rows = [
            RangeRow(
                f"{r['eval_set']}, {r['judge']}" if several else f"{r['eval_set']}{' †' if r['is_unlike'] else ''}",
                m["value"],
                m["ci_low"],
                m["ci_high"],
                m["n"],
                second=several and r["judge_id"] == BASELINE,
            )
            for r in metrics
            if (m := r.get(metric)) is not None
        ]
        if rows:
            chart = range_chart(rows, title, label_width=210 if several else 150)
            charts.append({"title": title, "chart": chart, "caption": captions[metric]})
    return charts


def _confusions(data: ReportData) -> list[Row]:
    out = []
    for (judge, eval_set, policy), part in data.confusion.group_by(
        ["judge_id", "eval_set", "policy"], maintain_order=True
    ):
        counts = {(a, b): n for a, b, n in part.select("reference", "label", "n").iter_rows()}
        title = f"{eval_set}, {judge}"
        chart = confusion_chart(data.policies[str(policy)].label_ids, counts, title)
        out.append({"title": title, "chart": chart, "n": int(part.select(pl.col("n").sum()).item())})
    return out
