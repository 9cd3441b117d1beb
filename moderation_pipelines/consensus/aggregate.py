"""Votes to labels by any method of the registry."""

from __future__ import annotations

import numpy as np

from moderation_pipelines.consensus.method import METHODS, RESTARTS, Aggregate
from moderation_pipelines.stats.arrays import IntArray
from moderation_pipelines.votes.matrix import VoteMatrix

FALLBACK = "dawid_skene"


def aggregate(
    votes: VoteMatrix,
    method: str,
    gold: IntArray | None = None,
    ordinal: bool = False,
    restarts: int = RESTARTS,
) -> Aggregate:
    """Labels by ``method``, a name of the registry.

    Items without votes get no label and a uniform (or prior) posterior.

    ``gold`` (label index per item or -1) teaches the models and the weights; items with gold come out with it.
    ``ordinal``: labels are ordered, so models take the posterior's median, which errs by the fewest steps, instead of
    its mode. Equal posteriors, and a median between two labels, are ties and give no label. Raises ValueError for a
    method that needs ordered labels where there are none.
    """
    chosen = METHODS[method]
    if chosen.needs_order and not ordinal:
        raise ValueError(f"method {method} needs ordered labels: scale ordinal, interval or ratio")
    made = chosen.fit(votes, gold, ordinal, restarts)
    label = np.where(votes.votes > 0, made.label, -1)
    posterior = made.posterior
    if gold is not None:
        label = np.where(gold >= 0, gold, label)
        posterior = np.where((gold >= 0)[:, None], np.eye(votes.n_labels)[np.maximum(gold, 0)], posterior)
    return Aggregate(posterior, label, made.iterations, made.converged)
