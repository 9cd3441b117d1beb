"""Gwet's AC1."""

from __future__ import annotations

from collections.abc import Iterator

from moderation_pipelines.agreement.coefficient import Coefficient, Computed, Given, chance_corrected_row
from moderation_pipelines.votes.scale import agreement_weights


def rows(given: Given) -> Iterator[Computed]:
    """One row."""
    yield chance_corrected_row(given, "gwet_ac1", "gwet", agreement_weights(given.scale, "identity"))


COEFFICIENT = Coefficient("gwet_ac1", 40, rows)
