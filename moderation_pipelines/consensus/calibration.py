"""From what a method believes to what gold shows: posteriors calibrated on gold, and how reliable they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moderation_pipelines.consensus.basis import CALIBRATED, POSTERIOR
from moderation_pipelines.stats.arrays import FloatArray, IntArray
from moderation_pipelines.stats.calibration import bin_of
from moderation_pipelines.stats.intervals import Interval, wilson_interval

MIN_GOLD = 30
_LEAST = 1e-4
_STEPS = 50
_SETTLED, _SMALLEST = 1e-8, 1e-6


@dataclass(frozen=True)
class Calibration:
    """What a posterior has to become to fit gold: ``slope`` below 1 where it was too sure; ``shifts``, one a label in
    the policy's order, above 0 for labels it saw too seldom. ``n_gold``: items it was fitted on."""

    slope: float
    shifts: tuple[float, ...]
    n_gold: int

    def applied(self, evidence: FloatArray) -> FloatArray:
        """Probabilities, items x labels, from :func:`evidence_of`."""
        from scipy.special import softmax

        return np.asarray(softmax(self.slope * evidence + np.array(self.shifts), axis=1))


def evidence_of(posterior: FloatArray, votes: IntArray | None) -> FloatArray:
    """Log posteriors, items x labels, cut at 0.0001. ``votes``: votes per item where the posterior is vote shares, to
    which one vote is added that is spread over the labels: three of three is more than one of one. Weighted shares are
    graded already."""
    if votes is not None:
        n = votes[:, None]
        posterior = (posterior * n + 1 / posterior.shape[1]) / (n + 1)
    return np.log(np.maximum(posterior, _LEAST))


def calibrated_on(evidence: FloatArray, truth: IntArray) -> Calibration:
    """Multinomial logistic regression of gold on the evidence, with a ridge towards the posterior as it is (slope 1,
    shifts 0, standard deviation 1 each), which counts as little as one item.

    ``evidence`` of gold items by fits that did not know them; ``truth``: label index of each. Sources: Guo et al.
    (2017), ICML, 1321-1330 (temperature and bias); Platt (1999). Newton steps that never raise the
    loss, which is convex.
    """
    from scipy.special import log_softmax, softmax

    n, k = evidence.shape
    theta = start = np.concatenate([[1.0], np.zeros(k)])
    hit = np.zeros((n, k))
    hit[np.arange(n), truth] = 1

    def loss(theta: FloatArray) -> float:
        log_p = log_softmax(theta[0] * evidence + theta[1:], axis=1)
        return float(((theta - start) ** 2).sum() / 2 - log_p[np.arange(n), truth].sum())

    now = loss(theta)
    for _ in range(_STEPS):
        p = softmax(theta[0] * evidence + theta[1:], axis=1)
        off = p - hit
        gradient = np.concatenate([[(off * evidence).sum()], off.sum(axis=0)]) + (theta - start)
        centred = evidence - (p * evidence).sum(axis=1, keepdims=True)
        hessian = np.eye(k + 1)
        hessian[0, 0] += (p * centred * evidence).sum()
        hessian[0, 1:] = hessian[1:, 0] = (p * centred).sum(axis=0)
        hessian[1:, 1:] += np.diag(p.sum(axis=0)) - p.T @ p
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while (then := loss(theta - size * step)) > now - 1e-4 * size * float(gradient @ step) and size > _SMALLEST:
            size /= 2
        if size <= _SMALLEST:
            break
        theta, now = theta - size * step, then
        if float(np.abs(step).max()) < _SETTLED:
            break
    return Calibration(float(theta[0]), tuple(float(b) for b in theta[1:]), n)


@dataclass(frozen=True)
class Bin:
    """Gold items whose label was given with a probability of ``bin`` tenths or more: ``mean_p`` was said, ``observed``
    of them are right, with a 95 % Wilson interval. ``source``: what the probability rests on."""

    source: str
    bin: int
    mean_p: float
    observed: float
    interval: Interval
    n: int


def reliability(source: str, p: FloatArray, is_right: np.ndarray) -> list[Bin]:
    """Bins that hold an item, from the lowest. ``p``: what was said of the label given; ``is_right``: by gold."""
    at = bin_of(p)
    out = []
    for k in np.unique(at):
        mine = at == k
        n, n_right = int(mine.sum()), int(is_right[mine].sum())
        out.append(Bin(source, int(k), float(p[mine].mean()), n_right / n, wilson_interval(n_right, n), n))
    return out


def calibration_of(
    source: str, posterior: FloatArray, votes: IntArray | None, label: IntArray, truth: IntArray, folds: int
) -> tuple[Calibration | None, list[Bin]]:
    """The calibration of a method and how reliable its numbers are without it and with it.

    Rows are gold items, whose posterior and label come from fits that did not know them; ``label`` is -1 for ties,
    which say nothing. Reliability with it is cross-fitted: each fold by the calibration of the others. No calibration
    below thirty gold items or with no folds. A posterior is calibrated only if that lowers the log loss on the folds: a
    sound one would only get noise. Measured: docs/simulations.md.
    """
    given = label >= 0
    row = np.arange(len(label))
    is_right = (label == truth)[given]
    bins = reliability(source, posterior[row, label][given], is_right)
    if len(truth) < MIN_GOLD or not folds:
        return None, bins
    evidence = evidence_of(posterior, votes)
    crossed = np.empty(evidence.shape)
    for k in range(folds):
        mine = row % folds == k
        crossed[mine] = calibrated_on(evidence[~mine], truth[~mine]).applied(evidence[mine])
    if source == POSTERIOR and _log_loss(crossed, truth) >= _log_loss(posterior, truth):
        return None, bins
    bins += reliability(CALIBRATED, crossed[row, label][given], is_right)
    return calibrated_on(evidence, truth), bins


def _log_loss(p: FloatArray, truth: IntArray) -> float:
    return float(-np.log(np.maximum(p[np.arange(len(truth)), truth], _LEAST)).mean())
