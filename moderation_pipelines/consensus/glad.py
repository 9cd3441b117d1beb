"""GLAD: raters differ in ability, items in difficulty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moderation_pipelines.consensus.matrix import FloatArray, IntArray, VoteMatrix

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
    def __init__(self, votes: VoteMatrix, gold: IntArray | None) -> None:
        self.votes = votes
        self.item, self.rater, self.label = votes.item_of_vote, votes.raters, votes.labels
        self.fixed = np.zeros(votes.n_items, dtype=bool) if gold is None else gold >= 0
        self.anchor = None if gold is None else np.eye(votes.n_labels)[np.maximum(gold, 0)]
        self.flat = self.item * votes.n_labels + self.label

    def look(self, ability: FloatArray, log_easiness: FloatArray, prior: FloatArray) -> _State:
        """Expectation step and penalised log-likelihood at given parameters."""
        votes, k = self.votes, self.votes.n_labels
        score = ability[self.rater] * np.exp(log_easiness)[self.item]
        right = -np.logaddexp(0.0, -score)
        wrong = -np.logaddexp(0.0, score) - np.log(max(k - 1, 1))
        base = np.bincount(self.item, weights=wrong, minlength=votes.n_items)
        extra = np.bincount(self.flat, weights=right - wrong, minlength=votes.n_items * k)
        joint = extra.reshape(-1, k) + base[:, None] + np.log(prior)
        top = joint.max(axis=1, keepdims=True)
        weights = np.exp(joint - top)
        norms = weights.sum(axis=1, keepdims=True)
        posterior = weights / norms
        free = (top + np.log(norms))[:, 0]
        if self.anchor is not None:
            known = (joint * self.anchor).sum(axis=1)
            free = np.where(self.fixed, known, free)
            posterior = np.where(self.fixed[:, None], self.anchor, posterior)
        penalty = ((ability - 1) ** 2).sum() / 2 + (log_easiness**2).sum() / 2 - np.log(prior).sum()
        return _State(
            ability, log_easiness, prior, posterior, posterior.reshape(-1)[self.flat], float(free.sum() - penalty)
        )

    def better(self, state: _State) -> _State:
        """One iteration: label shares, then abilities, then items; each kept only if the likelihood does not fall."""
        votes = self.votes
        prior = (state.posterior.sum(axis=0) + 1.0) / (votes.n_items + votes.n_labels)
        step = self.ability_step(state)
        state = self.halved(state, lambda size: (state.ability + size * step, state.log_easiness, prior))
        move = self.easiness_step(state)
        return self.halved(state, lambda size: (state.ability, state.log_easiness + size * move, state.prior))

    def halved(self, state: _State, moved) -> _State:  # type: ignore[no-untyped-def]
        for size in (1.0, 0.5, 0.25, 0.125, 0.0625):
            found = self.look(*moved(size))
            if found.value >= state.value:
                return found
        return state

    def ability_step(self, state: _State) -> FloatArray:
        easiness = np.exp(state.log_easiness)[self.item]
        sigma = 1 / (1 + np.exp(-state.ability[self.rater] * easiness))
        n = self.votes.n_raters
        slope = np.bincount(self.rater, weights=(state.right - sigma) * easiness, minlength=n) - (state.ability - 1)
        bend = np.bincount(self.rater, weights=sigma * (1 - sigma) * easiness**2, minlength=n) + 1
        return np.clip(slope / bend, -_LARGEST, _LARGEST)

    def easiness_step(self, state: _State) -> FloatArray:
        score = state.ability[self.rater] * np.exp(state.log_easiness)[self.item]
        sigma = 1 / (1 + np.exp(-score))
        n = self.votes.n_items
        slope = np.bincount(self.item, weights=(state.right - sigma) * score, minlength=n) - state.log_easiness
        bend = np.bincount(self.item, weights=sigma * (1 - sigma) * score**2, minlength=n) + 1
        return np.clip(slope / bend, -1.0, 1.0)

    def fit(self, state: _State, history: list[float], converged: bool) -> GladFit:
        return GladFit(
            state.posterior, state.ability, np.exp(state.log_easiness), state.prior, tuple(history), converged
        )
