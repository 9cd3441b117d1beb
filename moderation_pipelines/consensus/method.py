"""What a method of adding votes up is, and the registry of them: one file of ``methods/`` each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from moderation_pipelines.consensus.confusion_models import RESTARTS as _RESTARTS
from moderation_pipelines.consensus.decision import decided
from moderation_pipelines.consensus.em import Fit
from moderation_pipelines.foundation.registry import Registry
from moderation_pipelines.stats.arrays import FloatArray, IntArray
from moderation_pipelines.votes.matrix import VoteMatrix

RESTARTS = _RESTARTS
_MANY_VOTES = 5_000_000
Fitter = Callable[[VoteMatrix, IntArray | None, bool, int], "Aggregate"]


@dataclass(frozen=True)
class Aggregate:
    """``posterior``: items x labels. ``label``: index per item, -1 where tied or without votes.

    ``iterations`` and ``converged`` of the fit; None for methods that need none.
    """

    posterior: FloatArray
    label: IntArray
    iterations: int | None = None
    converged: bool | None = None


@dataclass(frozen=True)
class Method:
    """One method. ``fit(votes, gold, ordinal, restarts)`` gives posterior and label of every item.

    ``order``: place among the methods, the simpler first; of methods that are equally right the first is chosen.
    ``needs_order``: only for ordered labels. ``learns``: whether gold changes what it gives. ``shares``: what its
    posterior is, where that is no probability: shares of votes, or of weighted votes. ``calibrates``: whether gold can
    make probabilities of them; a median knows an order that shares by label do not.
    """

    name: str
    order: int
    fit: Fitter
    needs_order: bool = False
    learns: bool = True
    shares: Literal["votes", "weights"] | None = None
    calibrates: bool = True


METHODS: Registry[Method] = Registry(
    "consensus_method", "moderation_pipelines.consensus.methods", "METHOD", Method, "order"
)


def confusion_method(name: str, order: int, fit: Callable[..., Fit]) -> Method:
    """A method made of one of the confusion models fitted by expectation-maximisation."""

    def fitted(votes: VoteMatrix, gold: IntArray | None, ordinal: bool, restarts: int) -> Aggregate:
        found = fit(votes, gold, restarts=restarts if votes.n_votes <= _MANY_VOTES else 1)
        label = decided(found.posterior, ordinal)
        return Aggregate(found.posterior, label, found.iterations, found.converged)

    return Method(name, order, fitted)
