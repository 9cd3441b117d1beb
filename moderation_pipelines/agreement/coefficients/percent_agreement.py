"""Percent agreement: mean share of agreeing pairs of votes, 0 to 1."""

from __future__ import annotations

from collections.abc import Iterator

from moderation_pipelines.agreement.coefficient import Coefficient, Computed, Given
from moderation_pipelines.agreement.formulas import percent_agreement


def rows(given: Given) -> Iterator[Computed]:
    """One row."""
    yield Computed("percent_agreement", samples=percent_agreement, minimum=0.0)


COEFFICIENT = Coefficient("percent_agreement", 10, rows)
