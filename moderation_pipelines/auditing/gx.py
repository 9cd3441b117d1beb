"""Great Expectations at work. The only file that imports it, and only when something is validated: it costs seconds."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import polars as pl

from moderation_pipelines.auditing.expectation import Expectation

EXAMPLES = 5


@lru_cache(maxsize=1)
def _context() -> Any:
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations as gx

        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = {"globally": False, "metric_calculations": False}
        return context


def run_expectations(
    frame: pl.DataFrame, expectations: Sequence[Expectation], id_column: str, suite: str
) -> list[dict[str, Any]]:
    """One plain result per expectation, in the order given.

    Keys: id, severity, why, passed, n, n_unexpected (None for expectations about the whole), examples (up to five
    values of ``id_column``), observed. An expectation that cannot be evaluated has not passed, and says so in
    ``observed``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _run(frame, expectations, id_column, suite)


def _run(frame: pl.DataFrame, expectations: Sequence[Expectation], id_column: str, suite: str) -> list[dict[str, Any]]:
    import pandas as pd
    from great_expectations import ExpectationSuite
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    context = _context()
    # Plain Python objects: the only place where data leaves Polars.
    data = pd.DataFrame({c: pd.Series(frame[c].to_list(), dtype=_pandas_dtype(frame[c])) for c in frame.columns})
    source = context.data_sources.add_or_update_pandas(f"{suite}_source")
    batch = (
        source.add_dataframe_asset("frame").add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": data})
    )
    configurations = [ExpectationConfiguration(type=e.type, kwargs=e.kwargs, meta={"id": e.id}) for e in expectations]
    made = ExpectationSuite(name=suite, expectations=configurations)
    result_format = {"result_format": "COMPLETE", "unexpected_index_column_names": [id_column]}
    results = batch.validate(made, result_format=result_format)
    by_id = {r.expectation_config.meta["id"]: r for r in results.results}
    return [_plain(e, by_id.get(e.id), frame.height, id_column) for e in expectations]


def _pandas_dtype(column: pl.Series) -> Any:
    if column.dtype.is_float() or column.dtype.is_integer():
        return "float64" if column.null_count() or column.dtype.is_float() else "int64"
    return object


def _plain(expectation: Expectation, result: Any, n: int, id_column: str) -> dict[str, Any]:
    out: dict[str, Any] = {
        "id": expectation.id,
        "severity": expectation.severity,
        "why": expectation.why,
        "passed": False,
        "n": n,
        "n_unexpected": None,
        "examples": [],
        "observed": None,
    }
    if result is None:
        return {**out, "observed": "not evaluated"}
    if _raised(result.exception_info):
        return {**out, "observed": "could not be evaluated on this data"}
    detail = result.result or {}
    out["passed"] = bool(result.success)
    if "unexpected_count" in detail:
        out["n_unexpected"] = int(detail["unexpected_count"])
        rows = detail.get("unexpected_index_list") or []
        out["examples"] = sorted({str(r[id_column]) for r in rows if isinstance(r, dict)})[:EXAMPLES]
    elif "observed_value" in detail:
        out["observed"] = _observed(detail["observed_value"])
    return out


def _raised(info: Any) -> bool:
    if not isinstance(info, dict):
        return False
    if "raised_exception" in info:
        return bool(info["raised_exception"])
    return any(isinstance(v, dict) and v.get("raised_exception") for v in info.values())


def _observed(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return "undefined" if math.isnan(value) else f"{value:,.6g}"
    if isinstance(value, list):
        return f"{len(value)} values" if len(value) > 6 else ", ".join(str(v) for v in value)
    return str(value)
