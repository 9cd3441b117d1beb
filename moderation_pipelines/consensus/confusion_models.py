"""Models with a confusion matrix per rater: Dawid-Skene, the one-coin model, MACE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypedDict, Unpack

import numpy as np

from moderation_pipelines.consensus.em import ConfusionModel, Fit, expectation_maximisation, pooled_confusion
from moderation_pipelines.stats.arrays import FloatArray, IntArray
from moderation_pipelines.votes.matrix import VoteMatrix

RESTARTS = 3
_SMALLEST = 1e-9


class _FullMatrix:
    """A free matrix per rater with a Dirichlet prior: ``smoothing`` pseudo-votes per true label, spread as pooled."""

    def __init__(self, pooled: FloatArray, smoothing: float, n_raters: int) -> None:
        self.pooled, self.smoothing = pooled, smoothing
        self.table = pooled[None]

    def maximise(self, counts: FloatArray) -> FloatArray:
        table = counts + max(self.smoothing, _SMALLEST) * self.pooled
        self.table = table / table.sum(axis=1, keepdims=True)
        return self.table

    def log_prior(self) -> float:
        return float(max(self.smoothing, _SMALLEST) * (self.pooled * np.log(self.table)).sum())


class _OneCoin:
    """One accuracy per rater, errors spread evenly; Beta prior of ``smoothing`` pseudo-votes around the pooled one."""

    def __init__(self, pooled: FloatArray, smoothing: float, n_raters: int) -> None:
        self.n_labels = len(pooled)
        self.mean = float(np.clip(np.trace(pooled) / self.n_labels, 0.05, 0.95))
        self.smoothing = max(smoothing, _SMALLEST)
        self.accuracy = np.array([self.mean])

    def maximise(self, counts: FloatArray) -> FloatArray:
        right = counts[:, np.arange(self.n_labels), np.arange(self.n_labels)].sum(axis=1)
        total = counts.sum(axis=(1, 2))
        self.accuracy = (right + self.smoothing * self.mean) / (total + self.smoothing)
        wrong = (1 - self.accuracy) / max(self.n_labels - 1, 1)
        table = np.broadcast_to(wrong[:, None, None], counts.shape).copy()
        table[:, np.arange(self.n_labels), np.arange(self.n_labels)] = self.accuracy[:, None]
        return np.maximum(table, 1e-300)

    def log_prior(self) -> float:
        p, m = np.clip(self.accuracy, 1e-300, 1 - 1e-16), self.mean
        return float(self.smoothing * (m * np.log(p) + (1 - m) * np.log1p(-p)).sum())


class _Mace:
    """A rater either knows the label or draws from habits of their own; priors of ``smoothing`` pseudo-votes each."""

    def __init__(self, pooled: FloatArray, smoothing: float, n_raters: int) -> None:
        self.n_labels = len(pooled)
        self.smoothing = max(smoothing, _SMALLEST)
        mean = float(np.clip((np.trace(pooled) - 1) / max(self.n_labels - 1, 1), 0.05, 0.95))
        self.mean = mean
        self.knows = np.full(n_raters, mean)
        self.habits = np.full((n_raters, self.n_labels), 1 / self.n_labels)

    def maximise(self, counts: FloatArray) -> FloatArray:
        s, same = self.smoothing, np.arange(self.n_labels)
        agreeing = counts[:, same, same]
        guess = (1 - self.knows)[:, None] * self.habits
        guessed = agreeing * guess / (self.knows[:, None] + guess)
        by_habit = counts.sum(axis=2) - agreeing + guessed
        total = counts.sum(axis=(1, 2))
        self.knows = (agreeing.sum(axis=1) - guessed.sum(axis=1) + s * self.mean) / (total + s)
        self.habits = (by_habit + s / self.n_labels) / (by_habit.sum(axis=1) + s)[:, None]
        table = np.broadcast_to(((1 - self.knows)[:, None] * self.habits)[:, :, None], counts.shape).copy()
        table[:, same, same] += self.knows[:, None]
        return np.maximum(table, 1e-300)

    def log_prior(self) -> float:
        s, k = self.smoothing, np.clip(self.knows, 1e-300, 1 - 1e-16)
        skill = s * (self.mean * np.log(k) + (1 - self.mean) * np.log1p(-k)).sum()
        return float(skill + s / self.n_labels * np.log(self.habits).sum())


class Options(TypedDict, total=False):
    """How a model is fitted.

    ``smoothing`` (1): pseudo-votes a rater starts with, so that one seen rarely looks like the average; 0 is plain
    maximum likelihood, else label shares have one pseudo-item each. ``class_prior``: shares of the true labels where
    they are known; estimated otherwise. ``restarts`` (3): the first start is the vote shares, the others are seeded
    disturbances of them; the best penalised log-likelihood wins, but never one that ended with labels exchanged.
    ``seed`` (0), ``max_iterations`` (500), ``tolerance`` (1e-7): of the log-likelihood, per vote.
    """

    smoothing: float
    class_prior: FloatArray | None
    restarts: int
    seed: int
    max_iterations: int
    tolerance: float


def dawid_skene(votes: VoteMatrix, gold: IntArray | None = None, **options: Unpack[Options]) -> Fit:
    """Label posteriors and a confusion matrix per rater. Deterministic; see :class:`Options`.

    ``gold`` holds a label index per item or -1; the posterior of those items stays fixed on it. The Dirichlet prior of
    a rater's matrix is spread as the matrix of all raters pooled against the vote shares. The posterior is
    overconfident where raters err together. ValueError for a class_prior that is none.
    Source: Dawid & Skene (1979), Applied Statistics 28, 20-28; EM with a Dirichlet prior as in Paun et al. (2018),
    TACL 6, 571-585.
    """
    return _best(votes, _FullMatrix, gold, options)


def one_coin(votes: VoteMatrix, gold: IntArray | None = None, **options: Unpack[Options]) -> Fit:
    """One accuracy per rater, wrong labels equally likely: the Dawid-Skene model with the fewest parameters.

    Arguments as :func:`dawid_skene`; good where raters have few votes each.
    Source: Dawid & Skene (1979) restricted; Zhang et al. (2016), JMLR 17, 1-44, the one-coin model.
    """
    return _best(votes, _OneCoin, gold, options)


def mace(votes: VoteMatrix, gold: IntArray | None = None, **options: Unpack[Options]) -> Fit:
    """A rater knows the label with some probability, else answers by habit: finds spammers.

    Arguments as :func:`dawid_skene`. Maximum a posteriori instead of variational Bayes, and label shares are estimated.
    Source: Hovy et al. (2013), NAACL-HLT, 1120-1130, Learning Whom to Trust with MACE.
    """
    return _best(votes, _Mace, gold, options)


def _best(
    votes: VoteMatrix,
    model: Callable[[FloatArray, float, int], ConfusionModel],
    gold: IntArray | None,
    options: Options,
) -> Fit:
    prior, smoothing = options.get("class_prior"), options.get("smoothing", 1.0)
    if prior is not None:
        prior = np.asarray(prior, dtype=np.float64)
        if prior.shape != (votes.n_labels,) or (prior <= 0).any() or abs(prior.sum() - 1) > 1e-6:
            raise ValueError(f"class_prior must be {votes.n_labels} shares above 0 that add up to 1")
    pooled = pooled_confusion(votes, votes.shares)
    limits = (options.get("max_iterations", 500), options.get("tolerance", 1e-7))
    best: Fit | None = None
    for start in _starts(votes.shares, max(options.get("restarts", RESTARTS), 1), options.get("seed", 0)):
        made = model(pooled, smoothing, votes.n_raters)
        fit = expectation_maximisation(votes, made, start, gold, prior, min(smoothing, 1.0), *limits)
        if best is None or (_keeps_labels(fit, votes) and fit.log_likelihood[-1:] > best.log_likelihood[-1:]):
            best = fit
    assert best is not None
    return best


def _starts(shares: FloatArray, restarts: int, seed: int) -> Iterator[FloatArray]:
    yield shares
    generator = np.random.default_rng(seed)
    n_labels = shares.shape[1]
    for _ in range(restarts - 1):
        # Half the vote shares, half noise: far enough to leave a poor optimum, near enough to keep the labels' names.
        noise = generator.dirichlet(np.ones(n_labels), size=len(shares))
        yield (shares + noise) / 2


def _keeps_labels(fit: Fit, votes: VoteMatrix) -> bool:
    """Whether labels mostly stand for themselves: a fit with labels exchanged may be as likely, but is useless."""
    weight = np.bincount(votes.raters, minlength=votes.n_raters)
    pooled = np.tensordot(weight, fit.confusion, axes=1)
    return bool((pooled.argmax(axis=1) == np.arange(votes.n_labels)).all())
