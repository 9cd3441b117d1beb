"""The report's tables as an .xlsx. Text stays text: nothing a vendor delivered becomes a formula or a link."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import polars as pl

from moderation_pipelines.ingest.tables import DROPS
from moderation_pipelines.rendering.section import Grid
from moderation_pipelines.reports.data import ReportData
from moderation_pipelines.tables.store import replacing

_SHEETS = {
    "what to do": "what the numbers ask for, most urgent first",
    "drops": "files delivered on the day",
    "quarantine": "rules broken in the window",
    "conversions": "values converted or dropped in the window",
    "agreement": "every coefficient, slice and interval",
    "methods": "aggregation methods measured on gold",
    "disagreements": "pairs of labels raters confuse",
    "rater pairs": "agreement of every two raters",
    "guidelines": "guideline versions compared",
    "raters": "every rater card",
    "eval sets": "releases in force",
    "metrics": "every metric, slice and interval",
    "comparisons": "judges against each other",
    "confusion": "verdicts by reference label and judge's label",
    "read next": "items most worth reading",
}


def write_workbook(data: ReportData, path: Path, more: Mapping[str, Grid] | None = None) -> None:
    """One sheet per table, frozen header, filters. Same data, same bytes. ``more``: tables of sections, by sheet."""
    import xlsxwriter

    sheets: dict[str, pl.DataFrame] = {
        "what to do": pl.DataFrame({"what to do": data.todo}),
        "drops": pl.DataFrame(data.drops, schema=DROPS.schema),
        "quarantine": pl.DataFrame(data.quarantine, infer_schema_length=None),
        "conversions": pl.DataFrame(data.conversions, infer_schema_length=None),
        "agreement": data.agreement,
        "methods": data.methods.drop("shifts"),
        "reliability": data.reliability,
        "disagreements": data.disagreements,
        "rater pairs": data.rater_pairs,
        "guidelines": data.guidelines,
        "raters": data.raters.drop("confusion"),
        "eval sets": pl.DataFrame(data.releases, infer_schema_length=None),
        "metrics": data.metrics,
        "comparisons": data.comparisons,
        "confusion": data.confusion,
        "read next": pl.DataFrame(data.read_next, infer_schema_length=None),
    }
    for name, grid in (more or {}).items():
        sheets[name] = pl.DataFrame(list(grid.rows), schema=list(grid.columns), orient="row", strict=False)
    with replacing(path) as temporary:
        options = {"strings_to_formulas": False, "strings_to_urls": False, "nan_inf_to_errors": True}
        book = xlsxwriter.Workbook(str(temporary), options)
        book.set_properties(
            {"title": f"Moderation report {data.day}", "created": datetime.combine(data.day, time(), UTC)}
        )
        head = book.add_format({"bold": True, "bottom": 1})
        decimals = book.add_format({"num_format": "0.0000"})
        for name, frame in sheets.items():
            sheet = book.add_worksheet(name)
            columns = frame.columns or [_SHEETS.get(name, name)]
            for j, column in enumerate(columns):
                sheet.write_string(0, j, column, head)
                longest = max([len(column), *(len(str(v)) for v in frame[column].head(200))] if frame.columns else [20])
                sheet.set_column(j, j, min(60, longest + 2))
            for i, row in enumerate(frame.iter_rows(), start=1):
                for j, value in enumerate(row):
                    _write(sheet, i, j, value, decimals)
            sheet.freeze_panes(1, 0)
            if frame.height:
                sheet.autofilter(0, 0, frame.height, len(columns) - 1)
        book.close()


def _write(sheet: Any, i: int, j: int, value: Any, decimals: Any) -> None:
    if value is None:
        sheet.write_blank(i, j, None)
    elif isinstance(value, bool):
        sheet.write_boolean(i, j, value)
    elif isinstance(value, int):
        sheet.write_number(i, j, value)
    elif isinstance(value, float):
        sheet.write_number(i, j, value, decimals)
    else:
        text = ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)
        sheet.write_string(i, j, text[:32_000])
