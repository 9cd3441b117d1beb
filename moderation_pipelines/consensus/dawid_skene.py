"""Dawid-Skene: label posteriors and rater confusion matrices by expectation maximisation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class DawidSkene:
    """A fitted model.

    ``posterior``: items x labels, rows sum to 1. ``confusion``: raters x true label x given label, rows sum to 1.
    ``prior``: share of each true label. ``log_likelihood``: penalised, at the last iteration.
    """

    posterior: FloatArray
    confusion: FloatArray
    prior: FloatArray
    log_likelihood: float
    iterations: int
    converged: bool


def dawid_skene(
    items: IntArray,
    raters: IntArray,
    labels: IntArray,
    n_items: int,
    n_raters: int,
    n_labels: int,
    gold: IntArray | None = None,
    smoothing: float = 1.0,
    max_iterations: int = 500,
    tolerance: float = 1e-7,
) -> DawidSkene:
    """Fit Dawid-Skene to votes given as three equally long index arrays. Starts from vote shares; deterministic.

    ``gold`` holds a label index per item or -1; the posterior of those items stays fixed on it. ``smoothing`` is a
    Dirichlet prior of as many pseudo-votes per row of a rater's confusion matrix, spread as the matrix of all raters
    pooled against the vote shares: a rater seen rarely looks like the average one. That prior stays fixed, so the
    penalised log-likelihood never falls; stops when it gains less than ``tolerance`` per vote. With no votes the
    posterior is the prior.
    Source: Dawid & Skene (1979), Applied Statistics 28, 20-28; EM with a Dirichlet prior as in Paun et al. (2018),
    TACL 6, 571-585.
    """
    from scipy.sparse import csr_matrix

    one = np.ones(len(items))
    votes = csr_matrix((one, (items, raters * n_labels + labels)), shape=(n_items, n_raters * n_labels))
    shares = np.asarray(csr_matrix((one, (items, labels)), shape=(n_items, n_labels)).todense()) + 0.0
    totals = shares.sum(axis=1, keepdims=True)
    posterior = np.where(totals > 0, shares / np.maximum(totals, 1), 1.0 / n_labels)
    fixed = np.zeros(n_items, dtype=bool) if gold is None else gold >= 0
    anchor = np.zeros((n_items, n_labels))
    if gold is not None and fixed.any():
        anchor[fixed, gold[fixed]] = 1.0
        posterior[fixed] = anchor[fixed]
    previous, step, converged = -np.inf, 0, False
    prior, confusion, likelihood = (
        np.full(n_labels, 1 / n_labels),
        np.zeros((n_raters, n_labels, n_labels)),
        -np.inf,
    )
    pooled = np.asarray(votes.T @ posterior).reshape(n_raters, n_labels, n_labels).sum(axis=0).T
    pooled = pooled + 0.1 + np.eye(n_labels)
    pooled /= pooled.sum(axis=1, keepdims=True)
    for step in range(1, max_iterations + 1):  # noqa: B007
        prior = (posterior.sum(axis=0) + 1.0) / (n_items + n_labels)
        counts = np.asarray(votes.T @ posterior).reshape(n_raters, n_labels, n_labels).transpose(0, 2, 1)
        confusion = counts + smoothing * pooled
        confusion /= confusion.sum(axis=2, keepdims=True)
        by_vote = np.log(confusion).transpose(0, 2, 1).reshape(n_raters * n_labels, n_labels)
        log_joint = np.asarray(votes @ by_vote) + np.log(prior)
        top = log_joint.max(axis=1, keepdims=True)
        weights = np.exp(log_joint - top)
        norms = weights.sum(axis=1, keepdims=True)
        free = float((top + np.log(norms))[~fixed].sum())
        known = float(log_joint[fixed][anchor[fixed] > 0].sum())
        penalty = float(smoothing * (pooled * np.log(confusion)).sum() + np.log(prior).sum())
        likelihood = free + known + penalty
        posterior = np.where(fixed[:, None], anchor, weights / norms)
        if likelihood - previous < tolerance * max(len(items), 1):
            converged = True
            break
        previous = likelihood
    return DawidSkene(posterior, confusion, prior, likelihood, step, converged)
