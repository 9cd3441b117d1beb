"""Conger's kappa: Cohen's for many raters, each with their own label shares."""

from __future__ import annotations

from collections.abc import Iterator

from moderation_pipelines.agreement.coefficient import Coefficient, Computed, Given
from moderation_pipelines.agreement.raters import conger_draws, conger_kappa, few_labels
from moderation_pipelines.stats.arrays import FloatArray

ANONYMOUS = "undefined: some votes are anonymous, and this needs to know who voted; leave them out to have it"


def rows(given: Given) -> Iterator[Computed]:
    """One row."""
    anonymous = given.sliced.given is None and given.patterns.n_items
    note = ANONYMOUS if anonymous else given.one_rater
    estimate = conger_kappa(given.sliced)

    def believed(draws: int, seed: int) -> FloatArray:
        return conger_draws(given.patterns, estimate.value, draws, seed)

    yield Computed(
        "conger_kappa", estimate=estimate, note=note, believed=believed if few_labels(given.patterns) else None
    )


COEFFICIENT = Coefficient("conger_kappa", 100, rows)
