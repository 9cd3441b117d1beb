"""Prevalence: for each label its mean share of the votes on an item."""

from __future__ import annotations

from collections.abc import Iterator

from moderation_pipelines.agreement.coefficient import Coefficient, Computed, Given, per_label
from moderation_pipelines.agreement.formulas import prevalence


def rows(given: Given) -> Iterator[Computed]:
    """A row per label."""
    yield from per_label(given, "prevalence", prevalence)


COEFFICIENT = Coefficient("prevalence", 80, rows)
