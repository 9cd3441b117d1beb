"""Agreement coefficients from label-count patterns, for many samples at once.

Every function takes :class:`Samples` (``patterns.as_seen()`` is the one sample of the items as they are) and returns
one value per sample, NaN where undefined. 1 is perfect agreement, 0 agreement as if by chance, below 0 systematic
disagreement, unless said otherwise. Missing votes are simply not in the counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from moderation_pipelines.agreement.patterns import Patterns, Samples
from moderation_pipelines.stats.arrays import FloatArray

Metric = Literal["nominal", "ordinal", "interval", "ratio"]
ChanceModel = Literal["gwet", "fleiss", "brennan_prediger"]


def ratio_or_nan(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Quotient where the denominator is above rounding error, else NaN."""
    safe = np.where(denominator > 1e-12, denominator, np.nan)
    return np.asarray(numerator / safe)


def agreement_per_pattern(patterns: Patterns, weights: FloatArray) -> FloatArray:
    """Weighted share of agreeing pairs of votes in an item of each pattern; 0 with fewer than two votes."""
    counts, votes = patterns.counts, patterns.votes
    pairs = votes * (votes - 1)
    agreeing = (counts * (counts @ weights.T - 1)).sum(axis=1)
    return np.divide(agreeing, pairs, out=np.zeros_like(pairs), where=pairs > 0)


def percent_agreement(samples: Samples, weights: FloatArray | None = None) -> FloatArray:
    """Mean over items of the share of agreeing pairs of votes. Range 0 to 1; NaN without an item with two votes.

    Source: Fleiss (1971), Psychological Bulletin 76, 378-382, the observed agreement; for a varying number of votes
    and with weights: Gwet (2014), Handbook of Inter-Rater Reliability, 4th ed., chapter 2.
    """
    patterns, multiplicity = samples.patterns, samples.multiplicity
    weights = np.eye(patterns.counts.shape[1]) if weights is None else weights
    paired = (patterns.votes >= 2).astype(np.float64)
    agreeing = agreement_per_pattern(patterns, weights)
    return ratio_or_nan(multiplicity @ (agreeing * paired), multiplicity @ paired)


def prevalence(samples: Samples) -> FloatArray:
    """Share of each label: mean over rated items of its share of the item's votes. Shape samples x labels, 0 to 1."""
    return samples.shares


def chance_agreement(model: ChanceModel, shares: FloatArray, weights: FloatArray) -> FloatArray:
    """Agreement expected by chance, per sample. ``shares``: samples x labels, from :func:`prevalence`.

    gwet: sum of the weights times sum pi (1 - pi) / (q (q - 1)). fleiss: sum of w pi pi. brennan_prediger: mean weight.
    """
    n_labels = shares.shape[1]
    if model == "gwet":
        spread = (shares * (1 - shares)).sum(axis=1)
        return np.asarray(weights.sum() * spread / max(n_labels * (n_labels - 1), 1))
    if model == "fleiss":
        return np.asarray(((shares @ weights) * shares).sum(axis=1))
    return np.where(np.isnan(shares).any(axis=1), np.nan, weights.sum() / n_labels**2)


def chance_corrected(samples: Samples, model: ChanceModel, weights: FloatArray) -> FloatArray:
    """(observed - chance) / (1 - chance) under a chance model.

    gwet: AC1 with identity weights, AC2 with others (Gwet 2008, British Journal of Mathematical and Statistical
    Psychology 61, 29-48). fleiss: generalised Fleiss' kappa (Fleiss 1971). brennan_prediger: Brennan & Prediger
    (1981), Educational and Psychological Measurement 41, 687-699. With missing votes as in Gwet (2014), chapter 2:
    items with one vote enter the chance term. NaN where no item has two votes; Fleiss' also where all votes are one
    label. Needs two labels on the scale.
    """
    if len(weights) < 2:
        return np.full(len(samples.multiplicity), np.nan)
    observed = percent_agreement(samples, weights)
    chance = chance_agreement(model, samples.shares, weights)
    return ratio_or_nan(observed - chance, 1 - chance)


@dataclass(frozen=True)
class Linearised:
    """A coefficient's influence per item of each pattern, around its value: the analytic standard error comes from it.

    ``value`` may be NaN. ``influence``: one entry per pattern, mean 0 over the items.
    """

    value: float
    chance: float
    influence: FloatArray

    def standard_error(self, items: FloatArray) -> float:
        """sqrt(sum of squares / (n (n - 1))) over items; NaN below two items."""
        n = float(items.sum())
        return float(np.sqrt((items * self.influence**2).sum() / (n * (n - 1)))) if n > 1 else float("nan")


def linearised(patterns: Patterns, model: ChanceModel, weights: FloatArray) -> Linearised:
    """A chance-corrected coefficient with its analytic influence values (subjects a sample, raters given).

    Source: Gwet (2008) for AC1; Gwet (2014), chapter 5, and Gwet (2021), Educational and Psychological Measurement
    81, 781-790, for the others. Items with one vote are in the sum, and with many of them the standard error is too
    large: intervals from it then cover nearly always (docs/statistics.md), so the default interval is a bootstrap.
    """
    items = patterns.items
    seen = patterns.as_seen()
    value = float(chance_corrected(seen, model, weights)[0])
    shares = seen.shares
    chance = float(chance_agreement(model, shares, weights)[0])
    if np.isnan(value):
        return Linearised(value, chance, np.full(len(items), np.nan))
    own = patterns.counts / patterns.votes[:, None]
    pi = shares[0]
    if model == "gwet":
        n_labels = len(pi)
        local = weights.sum() / (n_labels * (n_labels - 1)) * (own @ (1 - pi))
    elif model == "fleiss":
        local = own @ ((weights @ pi + weights.T @ pi) / 2)
    else:
        local = np.full(len(items), chance)
    from_chance = 2 * (1 - value) * (local - chance) / (1 - chance)
    return Linearised(value, chance, observed_influence(patterns, weights, value, chance) - from_chance)


def observed_influence(
    patterns: Patterns, weights: FloatArray, value: float, chance: float, as_ratio: bool = False
) -> FloatArray:
    """The part of the influence that comes from the observed agreement, per pattern, around ``value``.

    As published an item with one vote counts as a deviation from the value. ``as_ratio`` treats the observed
    agreement as the ratio it is, a mean over the items with two votes: the two are equal without single votes, and
    with many of them only this one has the right size.
    """
    paired = patterns.votes >= 2
    scale_up = patterns.items.sum() / patterns.items[paired].sum()
    observed = agreement_per_pattern(patterns, weights)
    if as_ratio:
        mean = value * (1 - chance) + chance
        return np.asarray(np.where(paired, scale_up * (observed - mean) / (1 - chance), 0.0))
    return np.asarray(np.where(paired, scale_up * (observed - chance) / (1 - chance), 0.0) - value)


def krippendorff_alpha(
    samples: Samples, metric: Metric | FloatArray, positions: FloatArray | None = None
) -> FloatArray:
    """Krippendorff's alpha with any number of votes per item, missing votes included. Items with one vote are left out.

    NaN when there is no item with two votes, or when all votes are one label (no variation: the expected disagreement
    is 0). ``positions`` are the places of the labels for interval and ratio (ranks by default). ``metric`` may be a
    matrix of squared distances, labels x labels: MASI's, say.
    Source: Krippendorff (2011), Computing Krippendorff's Alpha-Reliability.
    """
    coincidence = samples.coincidences
    margins = coincidence.sum(axis=2)
    total = margins.sum(axis=1)
    distance = squared_distance(metric, margins, positions)
    observed = np.einsum("skl,skl->s", coincidence, np.broadcast_to(distance, coincidence.shape))
    expected = np.einsum("sk,sl,skl->s", margins, margins, np.broadcast_to(distance, coincidence.shape))
    return np.asarray(1 - (total - 1) * observed / np.where(expected > 0, expected, np.nan))


def squared_distance(metric: Metric | FloatArray, margins: FloatArray, positions: FloatArray | None) -> FloatArray:
    """Squared distances between labels. Shape: samples (or 1) x labels x labels."""
    if not isinstance(metric, str):
        return metric[None]
    n_labels = margins.shape[1]
    if metric == "nominal":
        return np.asarray(1.0 - np.eye(n_labels))[None]
    if metric == "ordinal":
        # All votes from one label up to the other, the two ends counted half; as a share of all votes.
        middle = np.cumsum(margins, axis=1) - margins / 2
        middle = middle / np.maximum(margins.sum(axis=1, keepdims=True), 1)
        return np.asarray((middle[:, :, None] - middle[:, None, :]) ** 2)
    place = np.arange(1, n_labels + 1, dtype=np.float64) if positions is None else positions
    difference = place[:, None] - place[None, :]
    if metric == "interval":
        return np.asarray(difference**2)[None]
    total = place[:, None] + place[None, :]
    return np.asarray(np.divide(difference, total, out=np.zeros_like(difference), where=total != 0) ** 2)[None]


def specific_agreement(samples: Samples) -> FloatArray:
    """For each label the chance that another vote on the item is the same, given one vote for it. 0 to 1.

    Shape samples x labels; NaN for a label nobody gave on an item with two votes. For two raters and two labels these
    are the positive and the negative agreement.
    Source: Cicchetti & Feinstein (1990), Journal of Clinical Epidemiology 43, 551-558; for many raters Fleiss (1971),
    the conditional probabilities of section 4.
    """
    same, possible = samples.specific
    return ratio_or_nan(same, possible)
