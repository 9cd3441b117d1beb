"""Specific agreement: for each label the chance that another vote on the item is the same."""

from __future__ import annotations

from collections.abc import Iterator

from moderation_pipelines.agreement.coefficient import Coefficient, Computed, Given, per_label
from moderation_pipelines.agreement.formulas import specific_agreement


def rows(given: Given) -> Iterator[Computed]:
    """A row per label."""
    yield from per_label(given, "specific_agreement", specific_agreement)


COEFFICIENT = Coefficient("specific_agreement", 70, rows)
