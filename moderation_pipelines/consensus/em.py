"""Expectation maximisation for models in which a vote depends on the true label and the rater alone.

Dawid-Skene, the one-coin model and MACE differ only in how a rater's confusion matrix is made from expected counts;
everything else is here. Gold items stay fixed, the objective never falls, and the same votes give the same fit.

Tables have one row per cell, a rater with a label that this rater gave: memory follows the votes, however many raters
and labels there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from moderation_pipelines.stats.arrays import FloatArray, IntArray
from moderation_pipelines.votes.matrix import Chunk, VoteMatrix


class ConfusionModel(Protocol):
    """How confusion matrices come from counts. ``counts``: cells x true label, expected votes."""

    def maximise(self, counts: FloatArray) -> FloatArray:
        """What a vote in a cell adds to the logarithm of each true label: cells x true label, finite."""

    def log_prior(self) -> float:
        """What the parameters add to the objective, up to a constant, at the last maximum."""

    def confusion(self) -> FloatArray:
        """The confusion matrices at the last maximum, raters x true label x given label; rows sum to 1."""


@dataclass(frozen=True)
class Fit:
    """A fitted model.

    ``posterior``: items x labels, rows sum to 1. ``prior``: share of each true label. ``log_likelihood``: the objective
    after every iteration, which never falls: the penalised log-likelihood, or a lower bound of the log evidence for a
    model that averages over its parameters.
    """

    posterior: FloatArray
    prior: FloatArray
    log_likelihood: tuple[float, ...]
    converged: bool
    model: ConfusionModel

    @property
    def iterations(self) -> int:
        return len(self.log_likelihood)

    @cached_property
    def confusion(self) -> FloatArray:
        """Raters x true label x given label, rows sum to 1: dense, so for few raters or few labels."""
        return self.model.confusion()


def expectation_maximisation(
    votes: VoteMatrix,
    model: ConfusionModel,
    start: FloatArray,
    gold: IntArray | None = None,
    class_prior: FloatArray | None = None,
    pseudo_items: float = 1.0,
    max_iterations: int = 500,
    tolerance: float = 1e-7,
) -> Fit:
    """Fit from a starting posterior (items x labels). Stops when an iteration gains less than ``tolerance`` per vote.

    ``gold``: label index per item or -1; those items' posterior stays on it. ``class_prior``: shares of the true
    labels if they are known; None estimates them, with ``pseudo_items`` a label. With no votes the posterior is the
    prior. Source: Dempster, Laird & Rubin (1977), Journal of the Royal Statistical Society B 39, 1-38.
    """
    n_items, n_labels = votes.n_items, votes.n_labels
    fixed = np.zeros(n_items, dtype=bool) if gold is None else gold >= 0
    posterior = np.array(start)
    if gold is not None:
        posterior[fixed] = np.eye(n_labels)[gold[fixed]]
    counts = votes.tally(posterior)
    label_mass = posterior.sum(axis=0)
    history: list[float] = []
    prior = np.full(n_labels, 1 / n_labels)
    for _ in range(max_iterations):
        if class_prior is None:
            prior = np.maximum(label_mass + pseudo_items, 1e-300) / max(n_items + pseudo_items * n_labels, 1e-300)
        else:
            prior = class_prior
        by_cell = model.maximise(counts)
        log_prior = np.log(prior)

        def expect(chunk: Chunk, by_cell: FloatArray = by_cell, log_prior: FloatArray = log_prior) -> _Expected:
            return _expected(chunk, by_cell, log_prior, fixed[chunk.items], posterior)

        parts = votes.each(expect)
        counts = sum((p.counts for p in parts), np.zeros((votes.n_cells, n_labels)))
        label_mass = sum((p.label_mass for p in parts), np.zeros(n_labels))
        penalty = model.log_prior() + (pseudo_items * float(log_prior.sum()) if class_prior is None else 0.0)
        history.append(float(sum(p.log_likelihood for p in parts)) + penalty)
        if len(history) > 1 and history[-1] - history[-2] < tolerance * max(votes.n_votes, 1):
            return Fit(posterior, prior, tuple(history), True, model)
    return Fit(posterior, prior, tuple(history), False, model)


@dataclass(frozen=True)
class _Expected:
    counts: FloatArray
    label_mass: FloatArray
    log_likelihood: float


def _expected(
    chunk: Chunk, by_cell: FloatArray, log_prior: FloatArray, fixed: np.ndarray, posterior: FloatArray
) -> _Expected:
    """One chunk's expectation step, written into ``posterior``, and what the next maximisation needs of it."""
    joint = chunk.votes @ by_cell
    joint += log_prior
    mine = posterior[chunk.items]
    held = np.flatnonzero(fixed)
    known = float((joint[held] * mine[held]).sum())
    # Column by column: numpy reduces short rows one at a time.
    top = joint[:, 0].copy()
    for column in joint.T[1:]:
        np.maximum(top, column, out=top)
    joint -= top[:, None]
    np.exp(joint, out=joint)
    norms = joint @ np.ones(joint.shape[1])
    joint /= norms[:, None]
    top += np.log(norms)
    free = float(top.sum() - top[held].sum())
    joint[held] = mine[held]
    posterior[chunk.items] = joint
    return _Expected(chunk.votes.T @ joint, joint.sum(axis=0), known + free)


def pooled_counts(votes: VoteMatrix, posterior: FloatArray) -> FloatArray:
    """All raters' votes together against a posterior: given label x true label, expected votes."""
    return votes.label_sums(votes.tally(posterior))
