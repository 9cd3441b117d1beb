"""Every aggregation method behind one function: votes in, label posteriors and labels out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numpy as np

from moderation_pipelines.consensus.dawid_skene import RESTARTS, dawid_skene, mace, one_coin
from moderation_pipelines.consensus.em import Fit
from moderation_pipelines.consensus.glad import glad
from moderation_pipelines.policies.policy import AggregationMethod
from moderation_pipelines.stats.arrays import FloatArray, IntArray
from moderation_pipelines.votes.matrix import Chunk, VoteMatrix

Method = AggregationMethod
METHODS: tuple[Method, ...] = get_args(Method)
FALLBACK: Method = "dawid_skene"
TIE = 1e-9
_MANY_VOTES = 5_000_000


@dataclass(frozen=True)
class Aggregate:
    """``posterior``: items x labels. ``label``: index per item, -1 where tied or without votes.

    ``iterations`` and ``converged`` of the fit; None for methods that need none. ``confusion``: raters x true x given,
    for the methods that estimate it.
    """

    posterior: FloatArray
    label: IntArray
    iterations: int | None = None
    converged: bool | None = None
    confusion: FloatArray | None = None


def aggregate(
    votes: VoteMatrix,
    method: Method,
    gold: IntArray | None = None,
    ordinal: bool = False,
    restarts: int = RESTARTS,
) -> Aggregate:
    """Labels by ``method``. Items without votes get no label and a uniform (or prior) posterior.

    majority: the label with the most votes, vote shares as posterior. median: the middle vote (ordered labels only).
    weighted_majority: :func:`weighted_majority`. The others are models with a posterior. ``gold`` (label index per item
    or -1) teaches the models and the weights; items with gold come out with it. ``ordinal``: labels are ordered, so
    models take the posterior's median, which errs by the fewest steps, instead of its mode. Equal posteriors, and a
    median between two labels, are ties and give no label.
    """
    if method == "median" and not ordinal:
        raise ValueError("method median needs ordered labels: scale ordinal, interval or ratio")
    if method in ("majority", "median"):
        made = Aggregate(votes.shares, decided(votes.shares, method == "median"))
    elif method == "weighted_majority":
        posterior = weighted_majority(votes, rater_weights(votes, gold))
        made = Aggregate(posterior, decided(posterior, ordinal))
    elif method == "glad":
        found = glad(votes, gold)
        made = Aggregate(found.posterior, decided(found.posterior, ordinal), found.iterations, found.converged)
    else:
        fits: dict[str, Callable[..., Fit]] = {"one_coin": one_coin, "dawid_skene": dawid_skene, "mace": mace}
        fit = fits[method](votes, gold, restarts=restarts if votes.n_votes <= _MANY_VOTES else 1)
        label = decided(fit.posterior, ordinal)
        made = Aggregate(fit.posterior, label, fit.iterations, fit.converged, fit.confusion)
    label = np.where(votes.votes > 0, made.label, -1)
    posterior = made.posterior
    if gold is not None:
        label = np.where(gold >= 0, gold, label)
        posterior = np.where((gold >= 0)[:, None], np.eye(votes.n_labels)[np.maximum(gold, 0)], posterior)
    return Aggregate(posterior, label, made.iterations, made.converged, made.confusion)


def decided(posterior: FloatArray, by_median: bool) -> IntArray:
    """The mode of each row, or its median label; -1 where two labels tie or the median lies between two."""
    if by_median:
        mass = np.cumsum(posterior, axis=1)
        label = (mass < 0.5 - TIE).sum(axis=1)
        between = np.abs(mass[np.arange(len(mass)), np.minimum(label, mass.shape[1] - 1)] - 0.5) <= TIE
        return np.where(between, -1, label)
    top = posterior.max(axis=1, initial=0.0)
    return np.where((posterior >= top[:, None] - TIE).sum(axis=1) > 1, -1, posterior.argmax(axis=1))


def weighted_majority(votes: VoteMatrix, weights: FloatArray) -> FloatArray:
    """Label shares of the weights behind them, as probabilities: softmax of the summed weights, items x labels.

    ``weights``: one per rater, finite and not negative, at least one above 0 (else ValueError); log-odds of being right
    make this the best rule for independent raters. Items whose votes all weigh 0 are uniform.
    Source: Nitzan & Paroush (1982), International Economic Review 23, 289-297.
    """
    if len(weights) != votes.n_raters:
        raise ValueError(f"weights must have one entry per rater: {votes.n_raters}, not {len(weights)}")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("weights must be finite and not negative; 0 leaves a rater out")
    if votes.n_raters and not weights.any():
        raise ValueError("all weights are 0; at least one must be above 0")
    onto = (weights[:, None, None] * np.eye(votes.n_labels)).reshape(votes.n_cells, votes.n_labels)
    out = np.empty((votes.n_items, votes.n_labels))

    def fill(chunk: Chunk) -> None:
        total = chunk.votes @ onto
        raised = np.exp(total - total.max(axis=1, keepdims=True))
        out[chunk.items] = raised / raised.sum(axis=1, keepdims=True)

    votes.each(fill)
    return out


def rater_weights(votes: VoteMatrix, gold: IntArray | None = None, smoothing: float = 10.0) -> FloatArray:
    """Log-odds weight of every rater from how often the rater is right; at least 0, and all 1 if that leaves nothing.

    Right is agreement with gold where the item has it, else with the majority of the other raters; ``smoothing``
    pseudo-votes pull a rater seen rarely to the mean of all.
    """
    compared, right = agreement_with_others(votes, gold)
    mean = right.sum() / compared.sum() if compared.sum() else 0.5
    accuracy = np.clip((right + smoothing * mean) / (compared + smoothing), 1e-6, 1 - 1e-6)
    weights = np.maximum(np.log(accuracy / (1 - accuracy) * max(votes.n_labels - 1, 1)), 0.0)
    return weights if weights.any() else np.ones(votes.n_raters)


def agreement_with_others(votes: VoteMatrix, gold: IntArray | None = None) -> tuple[FloatArray, FloatArray]:
    """Per rater: votes compared, and of them right. The reference is gold, else the majority of the other raters (tied
    or absent: not compared)."""
    k = votes.n_labels
    compared, right = np.zeros(votes.n_raters), np.zeros(votes.n_raters)
    for chunk in votes.chunks:
        cells = votes.cells[votes.starts[chunk.first] : votes.starts[chunk.end]]
        item = np.repeat(np.arange(chunk.end - chunk.first), votes.votes[chunk.items])
        label, rater = cells % k, cells // k
        others = votes.counts[chunk.items][item]
        others[np.arange(len(item)), label] -= 1
        top = others.max(axis=1, initial=0.0)
        reference = np.where((others == top[:, None]).sum(axis=1) == 1, others.argmax(axis=1), -1)
        reference = np.where(top > 0, reference, -1)
        if gold is not None:
            known = gold[chunk.items][item]
            reference = np.where(known >= 0, known, reference)
        has = reference >= 0
        compared += np.bincount(rater[has], minlength=votes.n_raters)
        right += np.bincount(rater[has & (reference == label)], minlength=votes.n_raters)
    return compared, right
