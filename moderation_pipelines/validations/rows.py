"""Results of expectations as rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from typing import TYPE_CHECKING, Any

import polars as pl

from moderation_pipelines.validations.tables import VALIDATIONS

if TYPE_CHECKING:
    pass


def validation_rows(suite: str, subject: str, results: Iterable[dict[str, Any]], day: date) -> pl.DataFrame:
    """Results as rows of the ``validations`` table."""
    rows = [
        {
            "suite": suite,
            "subject": subject,
            "expectation": r["id"],
            **{k: r[k] for k in ("severity", "passed", "n", "n_unexpected", "examples", "observed", "why")},
            "drop_date": day,
        }
        for r in results
    ]
    return pl.DataFrame(rows, schema=VALIDATIONS.schema)
