"""Votes weighted by how often their rater is right."""

from __future__ import annotations

import numpy as np

from moderation_pipelines.stats.arrays import FloatArray, IntArray
from moderation_pipelines.votes.matrix import Chunk, VoteMatrix


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
    onto = weights[votes.cell_raters][:, None] * np.eye(votes.n_labels)[votes.cell_labels]
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
    compared, right = np.zeros(votes.n_raters), np.zeros(votes.n_raters)
    for chunk in votes.chunks:
        cells = votes.cells[votes.starts[chunk.first] : votes.starts[chunk.end]]
        item = np.repeat(np.arange(chunk.end - chunk.first), votes.votes[chunk.items])
        label, rater = votes.labels_of(cells), votes.raters_of(cells)
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
