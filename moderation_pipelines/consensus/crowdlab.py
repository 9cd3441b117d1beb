"""CROWDLAB: raters' votes combined with a judge's probabilities, each weighted by how much it can be trusted.

Never for labels that measure that same judge: they would flatter it. It is for deciding what to label again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moderation_pipelines.consensus.decision import decided
from moderation_pipelines.stats.arrays import FloatArray
from moderation_pipelines.votes.matrix import VoteMatrix

_LEAST_WEIGHT = 1e-6


@dataclass(frozen=True)
class Crowdlab:
    """``posterior``: items x labels. ``judge_weight``, ``rater_weight``: trust beyond always naming the most frequent
    label. ``quality``: probability that the majority label is right, per item; NaN without a majority label."""

    posterior: FloatArray
    judge_weight: float
    rater_weight: FloatArray
    quality: FloatArray


def crowdlab(votes: VoteMatrix, probabilities: FloatArray) -> Crowdlab:
    """Combine votes with a judge's ``probabilities`` (items x labels, rows sum to 1; a row of NaN: none given).

    An item's posterior is the weighted mean of the judge's probabilities and, for each of its raters, a distribution
    with the mean share of votes for the majority label on the label given and the rest spread evenly. Weights are one
    minus the error rate over that of naming the most frequent label, the judge's times the root of the mean number of
    votes. Errors are measured on items with several votes: the judge's against the majority label, a rater's against
    the other raters' votes. Raters without such items get the mean. ValueError for what is no probability, or of
    another shape.
    Source: Goh, Tkachenko & Mueller (2022), CROWDLAB, arXiv:2210.06812, section 3.
    """
    n_items, k = votes.n_items, votes.n_labels
    if probabilities.shape != (n_items, k):
        raise ValueError(
            f"probabilities must be {n_items} items x {k} labels, not {' x '.join(map(str, probabilities.shape))}"
        )
    given = np.asarray(~np.isnan(probabilities).any(axis=1))
    sums = probabilities[given].sum(axis=1)
    partly = np.isnan(probabilities).any(axis=1) & ~np.isnan(probabilities).all(axis=1)
    if partly.any() or (probabilities[given] < 0).any() or (np.abs(sums - 1) > 1e-6).any():
        raise ValueError("each row of probabilities must be shares of at least 0 that add up to 1, or NaN throughout")
    several = votes.votes >= 2
    majority = np.where(votes.votes > 0, decided(votes.shares, by_median=False), -1)
    # Ties go to the label the judge finds likelier.
    tied = (majority < 0) & (votes.votes > 0) & given
    top = votes.counts == votes.counts.max(axis=1, keepdims=True)
    majority[tied] = np.where(top[tied], probabilities[tied], -1.0).argmax(axis=1)
    known = several & (majority >= 0)
    agreement = votes.shares[known, majority[known]]
    likelihood = float(np.clip(agreement.mean(), 1 / k, 1 - 1e-9)) if known.any() else 1 / k
    right, compared = _agreement_with_the_others(votes)
    overall = right.sum() / compared.sum() if compared.sum() else 1 / k
    accuracy = np.where(compared > 0, right / np.maximum(compared, 1), overall)
    frequent = np.bincount(majority[known], minlength=k).max() / max(known.sum(), 1) if known.any() else 0.0
    room = max(1 - frequent, 1e-9)
    rater_weight = np.maximum(1 - (1 - accuracy) / room, _LEAST_WEIGHT)
    judged = known & given
    judge_accuracy = float((probabilities[judged].argmax(axis=1) == majority[judged]).mean()) if judged.any() else 0.0
    trust = max(1 - (1 - judge_accuracy) / room, _LEAST_WEIGHT)
    judge_weight = trust * float(np.sqrt(votes.votes[votes.votes > 0].mean())) if votes.n_votes else 1.0

    spread = np.full((k, k), (1 - likelihood) / max(k - 1, 1))
    np.fill_diagonal(spread, likelihood)
    onto = rater_weight[votes.cell_raters][:, None] * spread[votes.cell_labels]
    mass = np.where(given[:, None], judge_weight * np.nan_to_num(probabilities), 0.0)
    for chunk in votes.chunks:
        mass[chunk.items] += chunk.votes @ onto
    total = mass.sum(axis=1, keepdims=True)
    posterior = np.where(total > 0, mass / np.where(total > 0, total, 1), 1 / k)
    quality = np.where(majority >= 0, posterior[np.arange(n_items), majority], np.nan)
    return Crowdlab(posterior, judge_weight, rater_weight, quality)


def _agreement_with_the_others(votes: VoteMatrix) -> tuple[FloatArray, FloatArray]:
    """Per rater: others' votes on the same items that are the same, and others' votes there are."""
    item, label, rater, n = votes.item_of_vote, votes.labels, votes.raters, votes.n_raters
    same = votes.counts[item, label] - 1
    return (
        np.bincount(rater, weights=same, minlength=n).astype(np.float64),
        np.bincount(rater, weights=votes.votes[item] - 1, minlength=n).astype(np.float64),
    )
