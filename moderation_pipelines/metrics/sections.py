"""Sections of the report: may a judge replace a rater, and what it would flag at other thresholds."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl

from moderation_pipelines.metrics.tables import JUDGE_VALIDITY, OPERATING_POINTS, UNLIKE
from moderation_pipelines.metrics.unlike import WORDS, leading_items
from moderation_pipelines.rendering.pages import decimal, span
from moderation_pipelines.rendering.section import Grid, Note, Section
from moderation_pipelines.tables.warehouse import Warehouse

_SHOWN = tuple(round(k / 10, 1) for k in range(1, 10))


def judge_validity(warehouse: Warehouse, day: date) -> Section | None:
    """Judges against each rater, left out in turn; None where no judge was measured."""
    # Of a locale only what could be tested is shown; the table has the others.
    shown = pl.col("locale").is_null() | pl.col("winning_rate").is_not_null()
    found = leading_items(warehouse.scan(JUDGE_VALIDITY, [day]).collect()).filter(shown)
    rows = found.sort("policy", "judge_id", "locale").to_dicts()
    if not rows:
        return None
    cells = [
        (
            r["policy"], _judge(r), r["locale"] or "all", _answer(r),
            _said(r, "winning_rate", ("ci_low", "ci_high")), r["n_raters"], r["n_items"], _said(r, "advantage"),
            _said(r, "agreement"), _said(r, "rater_agreement"), r["n_agreement"],
        )
        for r in rows
    ]  # fmt: skip
    margin = rows[0]["margin"]
    told = (
        "Each rater is left out in turn, and judge and rater are compared with the other votes on the same items. "
        f"Winning rate: share of raters for whom the judge is shown to be at most {margin:g} worse (one-sided t tests, "
        "false discovery rate .05); at one half or more the judge may replace a rater. Advantage: share of items on "
        "which the judge agrees with the others at least as well as the rater. It does not say whether raters are "
        "right, and holds for the items of the releases, unweighted. A rater needs 30 items with a verdict and two "
        f"other votes; three raters are needed. {_DAGGER}"
        f"Source: {_SOURCE}."
    )
    columns = (
        "policy", "judge", "locale", "may replace a rater", "winning rate", "raters", "items", "advantage",
        "judge and raters agree", "raters agree", "items with votes",
    )  # fmt: skip
    blocks = (Note("judge_validity_how", told), Grid("tests", columns, cells))
    return Section("judge_validity", "May a judge replace a rater?", blocks, (JUDGE_VALIDITY.name,))


_DAGGER = f"†: on {WORDS}. "


def _judge(row: dict[str, Any]) -> str:
    return f"{row['judge_id']} †" if row["items"] == UNLIKE else str(row["judge_id"])


_ANSWERS = {True: "yes", False: "no", None: "not tested"}


def _answer(row: dict[str, Any]) -> str:
    few = row["items"] == UNLIKE and row["agreement"] is None and row["note"] is not None
    return str(row["note"]) if few else _ANSWERS[row["may_replace"]]


_SOURCE = "Calderon, Reichart & Dror (2025), ACL"


def operating_points(warehouse: Warehouse, day: date) -> Section | None:
    """Rates and costs of every judge at nine thresholds, over all items; None where no judge gives probabilities."""
    found = leading_items(warehouse.scan(OPERATING_POINTS, [day]).collect()).filter(
        pl.col("locale").is_null() & pl.col("threshold").is_in(list(_SHOWN))
    )
    rows = found.sort("eval_set", "judge_id", "threshold").to_dicts()
    if not rows:
        return None
    has_costs = any(r["expected_cost"] is not None for r in rows)
    shown = ("precision", "recall", "fpr", "flag_rate", *(("expected_cost",) if has_costs else ()))
    cells = []
    for r in rows:
        where = (f"{r['eval_set']} {r['version']}", _judge(r))
        if r["note"] is None:
            values = tuple(_said(r, name) for name in shown)
            cells.append((*where, f"{r['threshold']:g}", *values, r["n"], r["n_positive"]))
        elif r["threshold"] == _SHOWN[0]:
            cells.append((*where, "any", r["note"], *("–" for _ in shown[1:]), r["n"], r["n_positive"]))
    columns = ("eval set", "judge", "threshold", "precision", "recall", "false positive rate", "flag rate")
    told = (
        "Rates if every item with at least this probability of violating were flagged. A threshold chosen here looks "
        "better here than it is: measure it on another release. All thresholds and locales are in the table "
        f"operating_points. {_DAGGER}"
    )
    if has_costs:
        told += " Cost: mean of an item, by the policy's kpis.costs."
    grid = Grid("thresholds", (*columns, *(("cost",) if has_costs else ()), "n", "violating"), cells)
    blocks = (Note("operating_points_how", told), grid)
    return Section("operating_points", "Rates and costs by threshold", blocks, (OPERATING_POINTS.name,))


def _said(row: dict[str, Any], name: str, ends: tuple[str, str] | None = None) -> str:
    value = row[name]
    low, high = ends or (f"{name}_low", f"{name}_high")
    if not isinstance(value, float):
        return "–"
    between = span(row[low], row[high], 2)
    return decimal(value, 2) if between == "–" else f"{decimal(value, 2)} ({between})"
