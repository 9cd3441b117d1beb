"""Cohen's kappa, mean over pairs of raters; linear and quadratic weights on ordered scales."""

from __future__ import annotations

from collections.abc import Iterator

from moderation_pipelines.agreement.coefficient import Coefficient, Computed, Given
from moderation_pipelines.agreement.raters import (
    UNDEFINED,
    MeanKappa,
    RaterPairs,
    can_draw,
    cohen_draws,
    mean_cohen_kappa,
)
from moderation_pipelines.stats.arrays import FloatArray
from moderation_pipelines.votes.scale import Weighting, agreement_weights


def rows(given: Given) -> Iterator[Computed]:
    """A row per weighting."""
    kinds: list[tuple[str, Weighting]] = [("", "identity")]
    if given.scale.kind in ("ordinal", "interval", "ratio"):
        kinds += [("_linear", "linear"), ("_quadratic", "quadratic")]
    for suffix, weighting in kinds:
        if given.pairs is None:
            reason = given.no_pairs if given.patterns.n_items else None
            yield Computed(f"cohen_kappa{suffix}", estimate=UNDEFINED, note=reason or given.one_rater)
            continue
        pairs, weights = given.pairs, agreement_weights(given.scale, weighting)
        mean = mean_cohen_kappa(pairs, weights)

        def believed(draws: int, seed: int, pairs: RaterPairs = pairs, weights: FloatArray = weights) -> FloatArray:
            return cohen_draws(pairs, weights, draws, seed)

        yield Computed(
            f"cohen_kappa{suffix}", estimate=mean.estimate, note=_pairs_note(mean), n_items=mean.n_items or None,
            believed=believed if can_draw(pairs) else None,
        )  # fmt: skip


def _pairs_note(mean: MeanKappa) -> str | None:
    """How many pairs a mean of pairwise kappas is over, and which are not in it."""
    parts = []
    if mean.n_pairs > 1:
        parts.append(f"mean over {mean.n_pairs:,} pairs of raters")
    if mean.n_small:
        parts.append(f"{mean.n_small:,} pairs share too few items")
    if mean.n_undefined:
        parts.append(f"{mean.n_undefined:,} pairs used one label only")
    if not mean.n_pairs and parts:
        return "undefined: " + ", ".join(parts)
    return ", ".join(parts) or None


COEFFICIENT = Coefficient("cohen_kappa", 110, rows)
