"""Models with a confusion matrix per rater: Dawid-Skene, the one-coin model, MACE."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypedDict, Unpack

import numpy as np

from moderation_pipelines.consensus.em import ConfusionModel, Fit, expectation_maximisation, pooled_counts
from moderation_pipelines.stats.arrays import FloatArray, IntArray, weighted_sums
from moderation_pipelines.votes.matrix import VoteMatrix

RESTARTS = 3
_SMALLEST = 1e-9
_TINY = 1e-300
_RIGHT = 0.6
# Of the hierarchical prior, see _Hierarchical.
_MEAN_RATERS = 5.0  # for each label but one
_STRENGTH_SHAPE, _STRENGTH_RATE = 3.0, 0.5  # the rate for one label; for more the strength may be larger
_PRIOR_STEPS, _SETTLED = 3, 1e-4


class _Cells:
    """What the models need of the votes: rater and label of each cell, and how many labels a rater never gave."""

    def __init__(self, votes: VoteMatrix) -> None:
        self.votes = votes
        self.n_raters, self.n_labels = votes.n_raters, votes.n_labels
        self.rater, self.label = votes.cell_raters, votes.cell_labels
        self.places = np.arange(votes.n_cells)
        self.unseen = self.n_labels - np.bincount(self.rater, minlength=self.n_raters)

    def agreeing(self, counts: FloatArray) -> FloatArray:
        """Of each cell the expected votes that are right."""
        return counts[self.places, self.label]

    def by_rater(self, per_cell: FloatArray) -> FloatArray:
        """Sums over each rater's cells."""
        return weighted_sums(self.rater, per_cell, self.n_raters)

    def dense(self, given: FloatArray, unseen: FloatArray) -> FloatArray:
        """Raters x true x given from cells x true; ``unseen`` (raters x given x true) where a rater has no cell."""
        out = unseen.copy()
        out[self.rater, self.label] = given
        return out.transpose(0, 2, 1)


class _FullMatrix:
    """A free matrix per rater with a Dirichlet prior: ``smoothing`` pseudo-votes per true label, spread as pooled."""

    def __init__(self, votes: VoteMatrix, pooled: FloatArray, smoothing: float) -> None:
        self.cells, self.smoothing = _Cells(votes), max(smoothing, _SMALLEST)
        self.spread = self.smoothing * pooled
        self.counts = self.total = np.zeros((0, 0))

    def maximise(self, counts: FloatArray) -> FloatArray:
        self.counts, self.total = counts, self.cells.votes.rater_sums(counts) + self.smoothing
        return np.asarray(np.log(counts + self.spread[self.cells.label]) - np.log(self.total)[self.cells.rater])

    def log_prior(self) -> float:
        # Over every label of every rater; the cells without votes hold the spread alone.
        spread = self.spread[self.cells.label]
        seen = float((spread * (np.log(self.counts + spread) - np.log(spread))).sum())
        every = self.cells.n_raters * float((self.spread * np.log(self.spread)).sum())
        return seen + every - self.smoothing * float(np.log(self.total).sum())

    def confusion(self) -> FloatArray:
        total = self.total[:, None, :]
        given = (self.counts + self.spread[self.cells.label]) / self.total[self.cells.rater]
        return self.cells.dense(given, self.spread[None] / total)


class _Hierarchical:
    """A matrix per rater from a Dirichlet that all raters share and that is learnt from them all.

    The Dirichlet has, per true label, a mean (how raters label such items) and a strength (how alike they are); rows
    of the matrices are averaged over, not maximised. Of the mean the prior is the one-coin model's matrix, worth five
    raters for each label but one; of the strength a Gamma of shape 3, its mode four votes a label. With few votes per
    rater and label, as of every rare class, a rater is what raters are; with many the rater's own votes decide.
    Sources: Kim & Ghahramani (2012), AISTATS, 619-627 (averaging, hierarchical prior); Simpson et al. (2013), Decision
    Making and Imperfection, 1-35 (variational form); Minka (2000), Estimating a Dirichlet distribution, section 3 (the
    update, a lower bound's maximum, so the objective never falls).
    """

    def __init__(self, votes: VoteMatrix, accuracy: float) -> None:
        self.cells = _Cells(votes)
        k = votes.n_labels
        self.guess = np.full((k, k), max(1 - accuracy, _SMALLEST) / max(k - 1, 1))
        self.guess[np.diag_indices(k)] = accuracy
        self.rate, self.mean_raters = _STRENGTH_RATE / k, _MEAN_RATERS * max(k - 1, 1)
        self.mean, self.strength = self.guess, np.full(k, (_STRENGTH_SHAPE - 1) / self.rate)
        self.counts = self.total = np.zeros((0, 0))
        self._objective = 0.0

    def maximise(self, counts: FloatArray) -> FloatArray:
        from scipy.special import digamma, gammaln

        cells, total = self.cells, self.cells.votes.rater_sums(counts)
        # With many labels most cells hold nothing of most true labels, and what holds nothing changes nothing.
        cell, true = np.nonzero(counts > _SMALLEST)
        place, count = (cells.label[cell], true), counts[cell, true]
        for _ in range(_PRIOR_STEPS):
            before = self.strength
            self.strength = self._stronger(place, count, total)
            mean = self._drawn(place, count) + self.mean_raters * self.guess
            mean = np.maximum(mean / mean.sum(axis=0), _SMALLEST)
            self.mean = mean / mean.sum(axis=0)
            if np.abs(self.strength / before - 1).max() < _SETTLED:
                break
        self.counts, self.total = counts, total

        own, strength = self.strength * self.mean, self.strength
        given, spread = digamma(count + own[place]), digamma(total + strength)
        table = digamma(own)[cells.label]
        table[cell, true] = given
        # The divergence of what is believed of the matrices from their prior; cells without votes add nothing.
        surprise = float((gammaln(total + strength) - gammaln(strength)).sum())
        surprise -= float((gammaln(count + own[place]) - gammaln(own)[place]).sum())
        surprise += float(count @ (given - spread[cells.rater[cell], true]))
        of_mean = self.mean_raters * float((self.guess * np.log(self.mean)).sum())
        of_strength = float(((_STRENGTH_SHAPE - 1) * np.log(strength) - self.rate * strength).sum())
        self._objective = of_mean + of_strength - surprise
        return np.asarray(table - spread[cells.rater])

    def _by_label(self, place: tuple[IntArray, IntArray], per_entry: FloatArray) -> FloatArray:
        """Sums over the raters: given x true."""
        k = self.cells.n_labels
        return weighted_sums(place[0] * k + place[1], per_entry, k * k).reshape(k, k)

    def _drawn(self, place: tuple[IntArray, IntArray], count: FloatArray) -> FloatArray:
        """Of the votes those that the Dirichlet explains rather than a rater's own: given x true."""
        from scipy.special import digamma

        own = self.strength * self.mean
        return self._by_label(place, own[place] * (digamma(count + own[place]) - digamma(own)[place]))

    def _stronger(self, place: tuple[IntArray, IntArray], count: FloatArray, total: FloatArray) -> FloatArray:
        """The strengths one step on: Newton's in their logarithm if that is better than before, else Minka's."""
        from scipy.special import digamma, gammaln, polygamma

        s, own = self.strength, self.strength * self.mean
        drawn = self._drawn(place, count).sum(axis=0)
        spent = (digamma(total + s) - digamma(s)).sum(axis=0)
        bends = self._by_label(place, own[place] ** 2 * (polygamma(1, count + own[place]) - polygamma(1, own)[place]))
        bend = bends.sum(axis=0) - s**2 * (polygamma(1, total + s) - polygamma(1, s)).sum(axis=0)
        slope = drawn - s * spent + _STRENGTH_SHAPE - 1 - self.rate * s
        curve = bend + drawn - s * spent - self.rate * s
        newton = s * np.exp(np.clip(-slope / np.where(curve < 0, curve, -np.inf), -1.0, 1.0))
        minka = (drawn + _STRENGTH_SHAPE - 1) / (spent + self.rate)

        def fits(strength: FloatArray) -> FloatArray:
            own = strength * self.mean
            drawn = self._by_label(place, gammaln(count + own[place]) - gammaln(own)[place]).sum(axis=0)
            spent = (gammaln(total + strength) - gammaln(strength)).sum(axis=0)
            return drawn - spent + (_STRENGTH_SHAPE - 1) * np.log(strength) - self.rate * strength

        return np.where(fits(newton) > fits(s), newton, minka)

    def log_prior(self) -> float:
        return self._objective

    def confusion(self) -> FloatArray:
        own, total = self.strength * self.mean, self.total + self.strength
        given = (self.counts + own[self.cells.label]) / total[self.cells.rater]
        return self.cells.dense(given, own[None] / total[:, None, :])


class _OneCoin:
    """One accuracy per rater, errors spread evenly; Beta prior of ``smoothing`` pseudo-votes around ``accuracy``."""

    def __init__(self, votes: VoteMatrix, accuracy: float, smoothing: float) -> None:
        self.cells, self.smoothing = _Cells(votes), max(smoothing, _SMALLEST)
        self.mean = float(np.clip(accuracy, 0.05, 0.95)) if votes.n_labels > 1 else 1.0
        self.accuracy = np.full(votes.n_raters, self.mean)

    def maximise(self, counts: FloatArray) -> FloatArray:
        cells, s = self.cells, self.smoothing
        right, total = cells.by_rater(cells.agreeing(counts)), cells.by_rater(counts.sum(axis=1))
        self.accuracy = (right + s * self.mean) / (total + s)
        wrong = np.log(np.maximum((1 - self.accuracy) / max(cells.n_labels - 1, 1), _TINY))
        table = np.repeat(wrong[cells.rater][:, None], cells.n_labels, axis=1)
        table[cells.places, cells.label] = np.log(np.maximum(self.accuracy, _TINY))[cells.rater]
        return table

    def log_prior(self) -> float:
        p, m = np.clip(self.accuracy, _TINY, 1 - 1e-16), self.mean
        return float(self.smoothing * (m * np.log(p) + (1 - m) * np.log1p(-p)).sum())

    def confusion(self) -> FloatArray:
        k = self.cells.n_labels
        wrong = (1 - self.accuracy) / max(k - 1, 1)
        table = np.repeat(np.repeat(wrong[:, None, None], k, axis=1), k, axis=2)
        table[:, np.arange(k), np.arange(k)] = self.accuracy[:, None]
        return table


class _Mace:
    """A rater either knows the label or draws from habits of their own; priors of ``smoothing`` pseudo-votes each."""

    def __init__(self, votes: VoteMatrix, accuracy: float, smoothing: float) -> None:
        self.cells, self.smoothing = _Cells(votes), max(smoothing, _SMALLEST)
        k = votes.n_labels
        self.mean = float(np.clip((k * accuracy - 1) / max(k - 1, 1), 0.05, 0.95))
        self.knows = np.full(votes.n_raters, self.mean)
        self.habits = np.full(votes.n_cells, 1 / k)  # of each cell; labels never given share ``unseen``
        self.unseen = np.full(votes.n_raters, 1 / k)

    def maximise(self, counts: FloatArray) -> FloatArray:
        cells, s = self.cells, self.smoothing
        agreeing, every = cells.agreeing(counts), counts.sum(axis=1)
        guess = (1 - self.knows)[cells.rater] * self.habits
        guessed = agreeing * guess / (self.knows[cells.rater] + guess)
        by_habit = every - agreeing + guessed
        habitual = cells.by_rater(by_habit)
        self.knows = (cells.by_rater(agreeing - guessed) + s * self.mean) / (cells.by_rater(every) + s)
        self.habits = (by_habit + s / cells.n_labels) / (habitual + s)[cells.rater]
        self.unseen = s / cells.n_labels / (habitual + s)
        guess = (1 - self.knows)[cells.rater] * self.habits
        table = np.repeat(guess[:, None], cells.n_labels, axis=1)
        table[cells.places, cells.label] += self.knows[cells.rater]
        return np.asarray(np.log(np.maximum(table, _TINY)))

    def log_prior(self) -> float:
        s, k = self.smoothing, np.clip(self.knows, _TINY, 1 - 1e-16)
        skill = s * (self.mean * np.log(k) + (1 - self.mean) * np.log1p(-k)).sum()
        habits = np.log(self.habits).sum() + (self.cells.unseen * np.log(self.unseen)).sum()
        return float(skill + s / self.cells.n_labels * habits)

    def confusion(self) -> FloatArray:
        k = self.cells.n_labels
        habits = np.repeat(self.unseen[:, None], k, axis=1)
        habits[self.cells.rater, self.cells.label] = self.habits
        table = np.repeat(((1 - self.knows)[:, None] * habits)[:, None, :], k, axis=1)
        table[:, np.arange(k), np.arange(k)] += self.knows[:, None]
        return table


class Options(TypedDict, total=False):
    """How a model is fitted.

    ``smoothing``: pseudo-votes a rater starts with, so that one seen rarely looks like the average; 0 is plain maximum
    likelihood, else label shares have one pseudo-item each. Default 1; Dawid-Skene learns it. ``class_prior``: shares
    of the true labels where they are known; estimated otherwise. ``restarts`` (3): the first start is the model's own,
    the others are seeded disturbances of the vote shares; the best objective wins, but never one that ended with
    labels exchanged. Dawid-Skene without ``smoothing`` has two, see there: more fit better and label worse. ``seed``
    (0), ``max_iterations`` (500), ``tolerance`` (1e-7): of the objective, per vote.
    """

    smoothing: float
    class_prior: FloatArray | None
    restarts: int
    seed: int
    max_iterations: int
    tolerance: float


def dawid_skene(votes: VoteMatrix, gold: IntArray | None = None, **options: Unpack[Options]) -> Fit:
    """Label posteriors and a confusion matrix per rater. Deterministic; see :class:`Options`.

    ``gold`` holds a label index per item or -1; the posterior of those items stays fixed on it. Starts from the
    one-coin model's posterior and from the vote shares, of which the better objective wins (``restarts=1``: the first
    only); the prior of the matrices is learnt from all raters (:class:`_Hierarchical`). With
    ``smoothing`` it is the textbook model: a Dirichlet of so many votes spread as the votes against their shares, and
    a start from those. The posterior is overconfident where raters err together. ValueError for a class_prior that
    is none.
    Source: Dawid & Skene (1979), Applied Statistics 28, 20-28; EM with a Dirichlet prior as in Paun et al. (2018),
    TACL 6, 571-585.
    """
    prior, smoothing = _checked_prior(votes, options), options.get("smoothing")
    if smoothing is not None:
        pooled = _pooled_confusion(votes)
        return _best(votes, lambda: _FullMatrix(votes, pooled, smoothing), gold, options, smoothing, prior)
    start, accuracy = _rough(votes, gold, prior)
    once: Options = {**options, "restarts": 1}
    starts = [start, votes.shares] if options.get("restarts", RESTARTS) > 1 else [start]
    fits = [_best(votes, lambda: _Hierarchical(votes, accuracy), gold, once, 1.0, prior, begin) for begin in starts]
    return max(fits, key=lambda fit: (-_lost(votes, fit.posterior).sum(), *fit.log_likelihood[-1:]))


def one_coin(votes: VoteMatrix, gold: IntArray | None = None, **options: Unpack[Options]) -> Fit:
    """One accuracy per rater, wrong labels equally likely: the Dawid-Skene model with the fewest parameters.

    Arguments as :func:`dawid_skene`; good where raters have few votes each.
    Source: Dawid & Skene (1979) restricted; Zhang et al. (2016), JMLR 17, 1-44, the one-coin model.
    """
    s, accuracy = options.get("smoothing", 1.0), _agreement(votes, votes.shares)
    prior = _checked_prior(votes, options)
    return _best(votes, lambda: _OneCoin(votes, accuracy, s), gold, options, s, prior)


def mace(votes: VoteMatrix, gold: IntArray | None = None, **options: Unpack[Options]) -> Fit:
    """A rater knows the label with some probability, else answers by habit: finds spammers.

    Arguments as :func:`dawid_skene`. Maximum a posteriori instead of variational Bayes, label shares are
    estimated, and the first start is the one-coin model's posterior.
    Source: Hovy et al. (2013), NAACL-HLT, 1120-1130, Learning Whom to Trust with MACE.
    """
    s, prior = options.get("smoothing", 1.0), _checked_prior(votes, options)
    start, accuracy = _rough(votes, gold, prior)
    return _best(votes, lambda: _Mace(votes, accuracy, s), gold, options, s, prior, start)


def _rough(votes: VoteMatrix, gold: IntArray | None, prior: FloatArray | None) -> tuple[FloatArray, float]:
    """Where other models start: a rough one-coin posterior, and how often votes are right by it.

    Raters who share no items with others, such as those of one language, may have come out with labels exchanged or
    pulled to the label that is frequent elsewhere. Where fewer than six in ten of their votes are right, their items
    start from the vote shares.
    """
    rough: Options = {"restarts": 1, "tolerance": 1e-4, "class_prior": prior}
    start = one_coin(votes, gold, **rough).posterior
    lost = _lost(votes, start)
    start[lost] = votes.shares[lost]
    return start, _agreement(votes, start)


def _lost(votes: VoteMatrix, posterior: FloatArray) -> np.ndarray:
    """Items of components whose votes are hardly ever right by the posterior."""
    cells, group, counts = _Cells(votes), votes.rater_components, votes.tally(posterior)
    right, n_votes = (
        weighted_sums(group, cells.by_rater(v), votes.n_raters) for v in (cells.agreeing(counts), counts.sum(axis=1))
    )
    lost = right < _RIGHT * n_votes
    first = np.minimum(votes.starts[:-1], max(votes.n_votes - 1, 0))
    has_votes = votes.votes > 0
    out = np.zeros(votes.n_items, dtype=bool)
    out[has_votes] = lost[group[votes.raters_of(votes.cells[first[has_votes]])]]
    return out


def _agreement(votes: VoteMatrix, posterior: FloatArray) -> float:
    """Share of votes that are right by a posterior, at least chance; 0.99 at most."""
    right = np.trace(pooled_counts(votes, posterior))
    return float(np.clip((right + 1) / (votes.n_votes + 2), 1 / max(votes.n_labels, 1), 0.99))


def _checked_prior(votes: VoteMatrix, options: Options) -> FloatArray | None:
    prior = options.get("class_prior")
    if prior is None:
        return None
    prior = np.asarray(prior, dtype=np.float64)
    if prior.shape != (votes.n_labels,) or (prior <= 0).any() or abs(prior.sum() - 1) > 1e-6:
        raise ValueError(f"class_prior must be {votes.n_labels} shares above 0 that add up to 1")
    return prior


def _best(
    votes: VoteMatrix,
    model: Callable[[], ConfusionModel],
    gold: IntArray | None,
    options: Options,
    smoothing: float,
    prior: FloatArray | None,
    start: FloatArray | None = None,
) -> Fit:
    limits = (options.get("max_iterations", 500), options.get("tolerance", 1e-7))
    first = votes.shares if start is None else start
    best: Fit | None = None
    for begin in _starts(first, votes.shares, max(options.get("restarts", RESTARTS), 1), options.get("seed", 0)):
        fit = expectation_maximisation(votes, model(), begin, gold, prior, min(smoothing, 1.0), *limits)
        if best is None or (_keeps_labels(fit, votes) and fit.log_likelihood[-1:] > best.log_likelihood[-1:]):
            best = fit
    assert best is not None
    return best


def _starts(first: FloatArray, shares: FloatArray, restarts: int, seed: int) -> Iterator[FloatArray]:
    yield first
    generator = np.random.default_rng(seed)
    n_labels = shares.shape[1]
    for _ in range(restarts - 1):
        # Half the vote shares, half noise: far enough to leave a poor optimum, near enough to keep the labels' names.
        noise = generator.dirichlet(np.ones(n_labels), size=len(shares))
        yield (shares + noise) / 2


def _pooled_confusion(votes: VoteMatrix) -> FloatArray:
    """The confusion matrix of all raters together against the vote shares, given x true; columns sum to 1."""
    pooled = pooled_counts(votes, votes.shares) + 0.1 + np.eye(votes.n_labels)
    return np.asarray(pooled / pooled.sum(axis=0, keepdims=True))


def _keeps_labels(fit: Fit, votes: VoteMatrix) -> bool:
    """Whether labels mostly stand for themselves: a fit with labels exchanged may be as likely, but is useless."""
    pooled = pooled_counts(votes, fit.posterior)
    return bool((pooled.argmax(axis=0) == np.arange(votes.n_labels)).all())
