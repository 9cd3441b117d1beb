"""Which method labels a policy: the most accurate on gold it was not fitted with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from moderation_pipelines.consensus.aggregate import FALLBACK, aggregate
from moderation_pipelines.consensus.basis import VOTE_SHARE, basis_of_method
from moderation_pipelines.consensus.calibration import MIN_GOLD, Bin, Calibration, calibration_of
from moderation_pipelines.consensus.method import METHODS, Aggregate
from moderation_pipelines.stats.arrays import FloatArray, IntArray
from moderation_pipelines.stats.intervals import UNDEFINED, Interval, wilson_interval
from moderation_pipelines.stats.paired import mcnemar_exact
from moderation_pipelines.votes.matrix import VoteMatrix

FOLDS = 5
GROWTH, SURE = 4 / 3, 0.01
IN_POLICY = "set in policy.yaml"
MAX_VOTES = 100_000


@dataclass(frozen=True)
class Held:
    """The method chosen before, and how many gold items there were when it was last compared with the others."""

    method: str
    n_gold: int


@dataclass(frozen=True)
class Measured:
    """How a method did on gold; ties are wrong. Null accuracy: too little gold to measure.

    Of a method chosen on this gold it is what choosing gives: each fold is labelled by the method that is best on the
    others. ``considered_gold``: gold items when the chosen method was last compared with the others; null where the
    policy names it. ``purity``: of the items called violating the share that gold calls violating.
    ``mean_rank_error``: mean distance in labels on an ordered scale, of items that got a label. ``p_value``: exact
    McNemar against the chosen method. ``calibration`` and ``reliability``: of the chosen method alone.
    """

    method: str
    is_chosen: bool
    n_gold: int
    n_right: int
    accuracy: float | None
    interval: Interval
    n_called: int
    n_called_right: int
    mean_rank_error: float | None
    p_value: float | None
    iterations: int | None
    converged: bool | None
    note: str | None
    considered_gold: int | None = None
    calibration: Calibration | None = None
    reliability: tuple[Bin, ...] = ()


def measure_methods(
    votes: VoteMatrix,
    gold: IntArray,
    violating: Sequence[bool],
    ordinal: bool,
    wanted: str | None,
    taught: IntArray | None = None,
    methods: Sequence[str] | None = None,
    held: Held | None = None,
) -> list[Measured]:
    """Every method's accuracy on gold items with votes, and which is chosen. In the order of METHODS.

    ``gold``: label index per item or -1; ``taught``: labels the fits may know but that are no measure, such as
    those of adjudication, which are of disputed items only. Cross-validated: the items are split in five by their
    place; each fold is labelled by a fit that knows the gold of the other four only. ``wanted``: the method the policy
    asks for. Without one the most accurate is chosen, of equals the smaller rank error, then the simpler; ``held``, the
    method of before, stays until gold has grown by a third since it was compared, and then unless another is better at
    a level of .01 (exact McNemar): a choice that follows every gold item is a choice by noise. With fewer than thirty
    gold items nothing is measured and the wanted, else the held, else ``dawid_skene``, is taken.

    More than 100,000 votes are cut to as many, gold items with few votes first: a choice between methods needs no
    more. The note says if gold was cut.
    """
    methods = [m for m in methods or METHODS.names if ordinal or not METHODS[m].needs_order]
    held = held if held is not None and held.method in methods else None
    taught = np.full(votes.n_items, -1) if taught is None else np.where(gold >= 0, -1, taught)
    n_all = int(((gold >= 0) & (votes.votes > 0)).sum())
    keep = _within_limit(votes, gold)
    if not keep.all():
        votes, gold, taught = votes.of_items(keep), gold[keep], taught[keep]
    known = (gold >= 0) & (votes.votes > 0)
    n_gold = int(known.sum())
    cut = f"; on {n_gold:,} of {n_all:,} gold items, within {MAX_VOTES:,} votes" if n_gold < n_all else ""
    if n_gold < MIN_GOLD:
        chosen = wanted or (held.method if held is not None else FALLBACK)
        everything = np.where(gold >= 0, gold, taught)
        return [_unmeasured(votes, everything, m, m == chosen, n_gold, ordinal, cut) for m in methods]
    labels = {m: _cross_validated(votes, gold, taught, m, ordinal) for m in methods}
    truth = gold[known]
    right = {m: (found.label[known] == truth).astype(np.float64) for m, (found, _) in labels.items()}
    error = {m: _rank_error(found.label[known], truth) if ordinal else None for m, (found, _) in labels.items()}
    # A method that labels nothing has no rank error: it ranks behind those that do.
    order = sorted(methods, key=lambda m: (-right[m].sum(), np.inf if (e := error[m]) is None else e, methods.index(m)))
    n_right_of = {m: int(right[m].sum()) for m in methods}
    choice = _choice(order, right, n_gold, wanted, held)
    chosen = choice.method
    # What the fold of each gold item is labelled by, had the method been chosen without that fold.
    nested = _nested(labels, right, known, methods) if choice.is_by_gold else None
    unseen = labels[chosen][0]
    method = METHODS[chosen]
    source = basis_of_method(method)
    calibration, bins = calibration_of(
        source, unseen.posterior[known], votes.votes[known] if source == VOTE_SHARE else None,
        unseen.label[known], truth, FOLDS if method.calibrates else 0,
    )  # fmt: skip
    out = []
    for m in methods:
        found, fit = labels[m]
        given = nested if m == chosen and nested is not None else found.label[known]
        called = np.array([*violating, False])[given]
        n_right, n_called = int((given == truth).sum()), int(called.sum())
        out.append(
            Measured(
                m, m == chosen, n_gold, n_right, n_right / n_gold, wilson_interval(n_right, n_gold),
                n_called, int((called & np.array(violating)[truth]).sum()), error[m],
                None if m == chosen else mcnemar_exact(right[chosen], right[m]).p_value,
                fit.iterations, fit.converged,
                _remark(choice, order, wanted, n_right_of) + cut if m == chosen else None,
                choice.considered_gold if m == chosen else None,
                calibration if m == chosen else None, tuple(bins) if m == chosen else (),
            )
        )  # fmt: skip
    return out


@dataclass(frozen=True)
class _Choice:
    method: str
    why: str
    considered_gold: int | None
    is_by_gold: bool


def _choice(
    order: Sequence[str], right: dict[str, FloatArray], n_gold: int, wanted: str | None, held: Held | None
) -> _Choice:
    """Which method, and whether it was picked on this gold for being the best there. ``order``: the best first."""
    if wanted is not None:
        return _Choice(wanted, IN_POLICY, None, False)
    if held is None:
        return _Choice(order[0], "chosen: most accurate on gold", n_gold, True)
    if n_gold < held.n_gold * GROWTH:
        return _Choice(
            held.method,
            f"kept until gold has grown by a third from {held.n_gold:,} items",
            min(held.n_gold, n_gold),
            False,
        )
    p_value = mcnemar_exact(right[held.method], right[order[0]]).p_value
    if order[0] != held.method and p_value is not None and p_value < SURE:
        return _Choice(order[0], f"changed from {held.method}: more accurate on gold, p {p_value:.2g}", n_gold, True)
    return _Choice(held.method, f"kept: no method is more accurate on gold at a level of {SURE:g}", n_gold, False)


def _nested(
    labels: dict[str, tuple[Aggregate, Aggregate]],
    right: dict[str, FloatArray],
    known: np.ndarray,
    methods: Sequence[str],
) -> IntArray:
    """Labels of the gold items, each fold's by the method that is right most often on the other folds."""
    fold = np.arange(int(known.sum())) % FOLDS
    out = np.empty(len(fold), np.int64)
    for k in range(FOLDS):
        best = max(methods, key=lambda m: (right[m][fold != k].sum(), -methods.index(m)))
        out[fold == k] = labels[best][0].label[known][fold == k]
    return out


def _remark(choice: _Choice, order: Sequence[str], wanted: str | None, n_right: dict[str, int]) -> str:
    """Why the chosen method was chosen, and what was as good or better."""
    m = choice.method
    if wanted is not None:
        return choice.why + (f"; {order[0]} was more accurate on gold" if n_right[order[0]] > n_right[m] else "")
    better = [o for o in order if n_right[o] > n_right[m]]
    equal = [o for o in order if o != m and n_right[o] == n_right[m]]
    said = choice.why
    if better:
        said += f"; {better[0]} has {n_right[better[0]]:,} right, it {n_right[m]:,}"
    said += f", as were {', '.join(equal)}" if equal and not better else ""
    return said + ("; accuracy is that of choosing" if choice.is_by_gold else "")


def _unmeasured(
    votes: VoteMatrix, gold: IntArray, method: str, is_chosen: bool, n_gold: int, ordinal: bool, cut: str
) -> Measured:
    note = f"not measured: {n_gold} gold items with votes, {MIN_GOLD} are needed{cut}"
    fit = aggregate(votes, method, gold, ordinal) if is_chosen and votes.n_votes else None
    return Measured(
        method, is_chosen, n_gold, 0, None, UNDEFINED, 0, 0, None, None,
        fit.iterations if fit else None, fit.converged if fit else None, note,
    )  # fmt: skip


def _within_limit(votes: VoteMatrix, gold: IntArray) -> np.ndarray:
    """Items whose votes fit within the limit: gold before others, few votes before many, else in order."""
    if votes.n_votes <= MAX_VOTES:
        return np.ones(votes.n_items, dtype=bool)
    order = np.lexsort((np.arange(votes.n_items), np.where(gold >= 0, votes.votes, 0), gold < 0))
    keep = np.zeros(votes.n_items, dtype=bool)
    keep[order[np.cumsum(votes.votes[order]) <= MAX_VOTES]] = True
    return keep


def _cross_validated(
    votes: VoteMatrix, gold: IntArray, taught: IntArray, method: str, ordinal: bool
) -> tuple[Aggregate, Aggregate]:
    """Labels and posteriors of the gold items by fits that did not know them; and the fit that knows all gold."""
    everything = np.where(gold >= 0, gold, taught)
    whole = aggregate(votes, method, everything, ordinal)
    if not METHODS[method].learns:
        return aggregate(votes, method, None, ordinal), whole
    found = Aggregate(np.zeros(whole.posterior.shape), np.full(votes.n_items, -1))
    places = np.flatnonzero((gold >= 0) & (votes.votes > 0))
    for fold in range(FOLDS):
        mine = places[fold::FOLDS]
        seen = everything.copy()
        seen[mine] = -1
        fit = aggregate(votes, method, seen, ordinal, restarts=2)
        found.label[mine], found.posterior[mine] = fit.label[mine], fit.posterior[mine]
    return found, whole


def _rank_error(found: IntArray, truth: IntArray) -> float | None:
    has = found >= 0
    return float(np.abs(found[has] - truth[has]).mean()) if has.any() else None
