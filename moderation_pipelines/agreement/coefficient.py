"""What a coefficient of agreement is, and the registry of them: one file of ``coefficients/`` each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from moderation_pipelines.agreement.formulas import ChanceModel, chance_corrected, linearised
from moderation_pipelines.agreement.patterns import Patterns, Samples
from moderation_pipelines.agreement.raters import Estimate, RaterPairs
from moderation_pipelines.agreement.slices import Slice
from moderation_pipelines.foundation.registry import Registry
from moderation_pipelines.stats.arrays import FloatArray
from moderation_pipelines.votes.scale import Scale

OneValue = Callable[[Samples], FloatArray]


@dataclass(frozen=True)
class Given:
    """The votes of one slice, as coefficients see them. ``no_pairs``: why pairs of raters are not looked at."""

    sliced: Slice
    scale: Scale
    pairs: RaterPairs | None
    no_pairs: str | None

    @property
    def patterns(self) -> Patterns:
        return self.sliced.patterns

    @property
    def one_rater(self) -> str | None:
        """Why nothing that looks at raters is defined, where no two voted on the same item."""
        alone = self.sliced.n_paired_raters is not None and self.sliced.n_paired_raters < 2 and self.patterns.n_rated
        return "undefined: fewer than two raters voted on the same item" if alone else None


@dataclass(frozen=True)
class Computed:
    """One row of the table: over samples, or as an estimate with a standard error, or both.

    ``samples`` gives one value per sample, for the bootstrap. ``believed(draws, seed)``: draws of the value for those
    that are not made from label counts. ``minimum``: least value it can have.
    """

    name: str
    label: str | None = None
    samples: OneValue | None = None
    estimate: Estimate | None = None
    note: str | None = None
    n_items: int | None = None
    minimum: float = -1.0
    believed: Callable[[int, int], FloatArray] | None = None


@dataclass(frozen=True)
class Coefficient:
    """A coefficient, or a family of them: ``rows`` gives those that the scale allows."""

    name: str
    order: int
    rows: Callable[[Given], Iterator[Computed]]


COEFFICIENTS: Registry[Coefficient] = Registry(
    "coefficient", "moderation_pipelines.agreement.coefficients", "COEFFICIENT", Coefficient, "order"
)


def chance_corrected_row(given: Given, name: str, model: ChanceModel, weights: FloatArray) -> Computed:
    """A coefficient (observed - chance) / (1 - chance), with its analytic standard error."""
    p = given.patterns
    estimate = None
    if p.n_items and len(weights) > 1:
        found = linearised(p, model, weights)
        se = found.standard_error(p.items)
        estimate = Estimate(found.value, se, se)
    return Computed(name, samples=lambda m: chance_corrected(m, model, weights), estimate=estimate)


def per_label(given: Given, name: str, values: OneValue) -> Iterator[Computed]:
    """A row per label of a coefficient that has one value for each; 0 at least."""

    def of_label(k: int) -> OneValue:
        return lambda m: values(m)[:, k]

    for k, label in enumerate(given.scale.labels):
        yield Computed(name, label, samples=of_label(k), minimum=0.0)
