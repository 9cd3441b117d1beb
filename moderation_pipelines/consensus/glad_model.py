"""GLAD: raters differ in ability, items in difficulty."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from moderation_pipelines.stats.arrays import FloatArray, IntArray, weighted_sums
from moderation_pipelines.votes.matrix import Chunk, VoteMatrix

_LARGEST = 8.0


@dataclass(frozen=True)
class GladFit:
    """``posterior``: items x labels. ``ability``: per rater, below 0 worse than chance. ``easiness``: per item, above
    0; below 1 harder than average. ``log_likelihood``: penalised, after every iteration; it never falls."""

    posterior: FloatArray
    ability: FloatArray
    easiness: FloatArray
    prior: FloatArray
    log_likelihood: tuple[float, ...]
    converged: bool

    @property
    def iterations(self) -> int:
        return len(self.log_likelihood)


@dataclass(frozen=True)
class _State:
    """Parameters, and what an expectation step finds under them."""

    ability: FloatArray
    log_easiness: FloatArray
    prior: FloatArray
    posterior: FloatArray
    right: FloatArray
    value: float


def glad(
    votes: VoteMatrix,
    gold: IntArray | None = None,
    max_iterations: int = 100,
    tolerance: float = 1e-6,
) -> GladFit:
    """A vote is right with probability 1 / (1 + exp(-ability x easiness)), else any other label. Deterministic.

    Ability has a normal prior around 1, the logarithm of easiness one around 0, both of variance 1. Each iteration
    takes the labels' expectation, then one damped Newton step for all abilities and one for all items, halved until
    the penalised log-likelihood does not fall. ``gold``: label index per item or -1. Stops when an iteration gains
    less than ``tolerance`` per vote.
    Source: Whitehill et al. (2009), NeurIPS 22, 2035-2043, Whose Vote Should Count More.
    """
    model = _Glad(votes, gold)
    prior = (votes.shares.sum(axis=0) + 1.0) / (votes.n_items + votes.n_labels)
    state = model.look(np.ones(votes.n_raters), np.zeros(votes.n_items), prior)
    history = [state.value]
    for _ in range(max_iterations):
        state = model.better(state)
        history.append(state.value)
        if history[-1] - history[-2] < tolerance * max(votes.n_votes, 1):
            return model.fit(state, history, True)
    return model.fit(state, history, False)


class _Glad:
    """The steps, chunk by chunk of items: what a chunk needs stays in the cache."""

    def __init__(self, votes: VoteMatrix, gold: IntArray | None) -> None:
        self.votes = votes
        self.fixed = np.zeros(votes.n_items, dtype=bool) if gold is None else gold >= 0
        self.gold = np.zeros(votes.n_items, np.int64) if gold is None else gold

    def _votes_of(self, chunk: Chunk) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Item within the chunk, rater and label of each vote."""
        votes = self.votes
        cells = votes.cells[votes.starts[chunk.first] : votes.starts[chunk.end]]
        item = np.repeat(np.arange(chunk.end - chunk.first), votes.votes[chunk.items])
        return item, votes.raters_of(cells), votes.labels_of(cells)

    def look(self, ability: FloatArray, log_easiness: FloatArray, prior: FloatArray) -> _State:
        """Expectation step and penalised log-likelihood at given parameters."""
        votes, k = self.votes, self.votes.n_labels
        posterior, right = np.empty((votes.n_items, k)), np.empty(votes.n_votes)

        def expect(chunk: Chunk) -> float:
            item, rater, label = self._votes_of(chunk)
            n = chunk.end - chunk.first
            score = ability[rater] * np.exp(log_easiness[chunk.items])[item]
            # log sigma(x) = min(x, 0) - log(1 + exp(-|x|)); log sigma(-x) is that minus x.
            sure = np.minimum(score, 0.0) - np.log1p(np.exp(-np.abs(score)))
            gain = score + np.log(max(k - 1, 1))
            flat = item * k + label
            joint = weighted_sums(flat, gain, n * k).reshape(n, k)
            joint += weighted_sums(item, sure - gain, n)[:, None] + np.log(prior)
            top = joint.max(axis=1, keepdims=True)
            weights = np.exp(joint - top)
            norms = weights @ np.ones(k)
            mine = weights / norms[:, None]
            free = top[:, 0] + np.log(norms)
            held = np.flatnonzero(self.fixed[chunk.items])
            labels = self.gold[chunk.items][held]
            free[held] = joint[held, labels]
            mine[held] = np.eye(k)[labels]
            posterior[chunk.items] = mine
            right[votes.starts[chunk.first] : votes.starts[chunk.end]] = mine.reshape(-1)[flat]
            return float(free.sum())

        likelihood = sum(votes.each(expect))
        penalty = ((ability - 1) ** 2).sum() / 2 + (log_easiness**2).sum() / 2 - np.log(prior).sum()
        return _State(ability, log_easiness, prior, posterior, right, likelihood - float(penalty))

    def better(self, state: _State) -> _State:
        """One iteration: label shares, then abilities, then items; each kept only if the likelihood does not fall."""
        votes = self.votes
        prior = (state.posterior.sum(axis=0) + 1.0) / (votes.n_items + votes.n_labels)
        step = self.ability_step(state)
        state = self.halved(state, lambda size: (state.ability + size * step, state.log_easiness, prior))
        move = self.easiness_step(state)
        return self.halved(state, lambda size: (state.ability, state.log_easiness + size * move, state.prior))

    def halved(self, state: _State, moved: Callable[[float], tuple[FloatArray, FloatArray, FloatArray]]) -> _State:
        for size in (1.0, 0.5, 0.25, 0.125, 0.0625):
            found = self.look(*moved(size))
            if found.value >= state.value:
                return found
        return state

    def ability_step(self, state: _State) -> FloatArray:
        votes, n = self.votes, self.votes.n_raters

        def sums(chunk: Chunk) -> tuple[np.ndarray, np.ndarray]:
            item, rater, _ = self._votes_of(chunk)
            easiness = np.exp(state.log_easiness[chunk.items])[item]
            sigma = 1 / (1 + np.exp(np.clip(-state.ability[rater] * easiness, -700, 700)))
            right = state.right[votes.starts[chunk.first] : votes.starts[chunk.end]]
            slope = weighted_sums(rater, (right - sigma) * easiness, n)
            return slope, weighted_sums(rater, sigma * (1 - sigma) * easiness**2, n)

        parts = votes.each(sums)
        slope = sum((p[0] for p in parts), np.zeros(n)) - (state.ability - 1)
        bend = sum((p[1] for p in parts), np.zeros(n)) + 1
        return np.clip(slope / bend, -_LARGEST, _LARGEST)

    def easiness_step(self, state: _State) -> FloatArray:
        votes = self.votes
        step = np.empty(votes.n_items)

        def move(chunk: Chunk) -> None:
            item, rater, _ = self._votes_of(chunk)
            n = chunk.end - chunk.first
            score = state.ability[rater] * np.exp(state.log_easiness[chunk.items])[item]
            sigma = 1 / (1 + np.exp(np.clip(-score, -700, 700)))
            right = state.right[votes.starts[chunk.first] : votes.starts[chunk.end]]
            slope = weighted_sums(item, (right - sigma) * score, n) - state.log_easiness[chunk.items]
            bend = weighted_sums(item, sigma * (1 - sigma) * score**2, n) + 1
            step[chunk.items] = np.clip(slope / bend, -1.0, 1.0)

        votes.each(move)
        return step

    def fit(self, state: _State, history: list[float], converged: bool) -> GladFit:
        return GladFit(
            state.posterior, state.ability, np.exp(state.log_easiness), state.prior, tuple(history), converged
        )
