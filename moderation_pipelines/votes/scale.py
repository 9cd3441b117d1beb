"""What agreement needs to know of a label set, and the weights it gives to pairs of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from moderation_pipelines.foundation.errors import did_you_mean
from moderation_pipelines.policies.policy import Policy

FloatArray = NDArray[np.float64]
Kind = Literal["nominal", "ordinal", "interval", "ratio", "set"]
KINDS: tuple[Kind, ...] = ("nominal", "ordinal", "interval", "ratio", "set")
SET_SEPARATOR = "|"


@dataclass(frozen=True)
class Scale:
    """A label set. ``labels`` in order; ``kind`` one of KINDS.

    ``positions``: places of the labels on the scale (None: ranks from 1). Of a ratio scale they are not negative.
    ``violating``: for each label whether it violates, for the "violating or not" variants (None: left out).
    Labels of a ``set`` scale are sets of words joined by ``|``, the empty text the empty set. Raises ValueError for a
    scale that cannot be: labels that repeat, positions that do not fit.
    """

    labels: tuple[str, ...]
    kind: Kind = "nominal"
    positions: tuple[float, ...] | None = None
    violating: tuple[bool, ...] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f'scale "{self.kind}" is not known{did_you_mean(self.kind, KINDS)}; one of {KINDS}')
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels of a scale must differ from each other")
        for name in ("positions", "violating"):
            given = getattr(self, name)
            if given is not None and len(given) != len(self.labels):
                raise ValueError(f"{name} must have one entry per label: {len(self.labels)}, not {len(given)}")
        if self.positions is not None and not np.isfinite(self.positions).all():
            raise ValueError("positions must be finite numbers")
        if self.positions is not None and len(set(self.positions)) != len(self.positions):
            raise ValueError("two labels of a scale must not have the same position")
        if self.kind == "ratio" and (self.positions is None or min(self.positions, default=0.0) < 0):
            raise ValueError("labels of a ratio scale must be numbers that are not negative")

    @staticmethod
    def of(policy: Policy) -> Scale:
        numeric = policy.scale in ("interval", "ratio")
        positions = tuple(float(i) for i in policy.label_ids) if numeric else None
        return Scale(policy.label_ids, policy.scale, positions, tuple(label.violating for label in policy.labels))

    @property
    def places(self) -> FloatArray:
        """Position of every label, ranks from 1 where none are given."""
        if self.positions is None:
            return np.arange(1, len(self.labels) + 1, dtype=np.float64)
        return np.array(self.positions)

    @property
    def own_weights(self) -> Weighting:
        """The weights that suit the scale: those of ``gwet_ac2``."""
        suited: dict[str, Weighting] = {"ordinal": "ordinal", "interval": "quadratic", "ratio": "ratio", "set": "masi"}
        return suited.get(self.kind, "identity")


Weighting = Literal["identity", "linear", "quadratic", "ordinal", "radical", "ratio", "masi"]


def agreement_weights(scale: Scale, weighting: Weighting) -> FloatArray:
    """How far two labels agree, labels x labels: 1 on the diagonal, 0 to 1 elsewhere.

    identity: 0 off the diagonal. linear, quadratic, radical: 1 minus the distance of the positions (its square, its
    root) over the largest. ordinal: 1 minus the number of pairs of labels within the span over the largest. ratio:
    by the squared relative distance. masi: 1 minus the MASI distance of two sets.
    Source: Gwet (2014), Handbook of Inter-Rater Reliability, 4th ed., chapter 3; MASI: :func:`masi_distance`.
    """
    n = len(scale.labels)
    if weighting == "identity" or n < 2:
        return np.eye(n)
    if weighting == "masi":
        sets = [label_set(label) for label in scale.labels]
        return np.array([[1 - masi_distance(a, b) for b in sets] for a in sets])
    place = scale.places
    distance = np.abs(place[:, None] - place[None, :])
    if weighting == "ordinal":
        span = np.abs(np.arange(n)[:, None] - np.arange(n)[None, :]) + 1.0
        distance = span * (span - 1) / 2
    elif weighting == "quadratic":
        distance = distance**2
    elif weighting == "radical":
        distance = np.sqrt(distance)
    elif weighting == "ratio":
        total = place[:, None] + place[None, :]
        distance = np.divide(distance, total, out=np.zeros_like(distance), where=total > 0) ** 2
        widest = ((place.max() - place.min()) / (place.max() + place.min())) ** 2
        return np.asarray(1 - distance / widest)
    return np.asarray(1 - distance / distance.max())


def label_set(label: str) -> frozenset[str]:
    """The set a label of a set-valued scale stands for: ``"a|b"`` is {a, b}, the empty text the empty set."""
    return frozenset(part for part in label.split(SET_SEPARATOR) if part)


def masi_distance(a: frozenset[str], b: frozenset[str]) -> float:
    """MASI distance of two sets, 0 (equal) to 1 (disjoint): 1 - J M.

    J: Jaccard coefficient; M: 1 for equal sets, 2/3 where one holds the other, 1/3 where they overlap, 0 disjoint.
    Two empty sets are equal; an empty and another set are disjoint.
    Source: Passonneau (2006), LREC, Measuring Agreement on Set-valued Items (MASI).
    """
    if a == b:
        return 0.0
    common = a & b
    if not common:
        return 1.0
    shape = 2 / 3 if a <= b or b <= a else 1 / 3
    return 1 - len(common) / len(a | b) * shape


def _number(text: str) -> float:
    value = float(text)
    if not np.isfinite(value):
        raise ValueError(text)
    return value


def scale_of_votes(votes: pl.LazyFrame, kind: Kind) -> Scale:
    """The scale a set of votes spans: see :func:`scale_of_labels`."""
    met = votes.select(pl.col("label").cast(pl.String).unique()).collect()["label"]
    return scale_of_labels(met.drop_nulls().to_list(), kind)


def scale_of_labels(labels: Sequence[str], kind: Kind) -> Scale:
    """The scale that labels met span: the labels sorted, by value if they are numbers.

    Raises ValueError when labels of an ordinal, interval or ratio scale are no numbers: nobody knows their order.
    """
    if kind == "set":
        return Scale(tuple(sorted(labels)), kind)
    try:
        ordered = sorted(labels, key=lambda label: (_number(label), label))
    except ValueError:
        if kind in ("interval", "ratio"):
            raise ValueError(f"labels of scale {kind} must be numbers") from None
        if kind == "ordinal":
            found = ", ".join(sorted(labels)[:8])
            raise ValueError(f"the order of the labels is not known: give them in order (there: {found})") from None
        return Scale(tuple(sorted(labels)), kind)
    numeric = kind in ("interval", "ratio")
    return Scale(tuple(ordered), kind, tuple(float(x) for x in ordered) if numeric else None)


def scale_of(labels: Sequence[str], kind: Kind) -> Scale:
    """The scale of labels given in order. Raises ValueError for labels that are no numbers where they must be."""
    if kind not in ("interval", "ratio"):
        return Scale(tuple(labels), kind)
    try:
        return Scale(tuple(labels), kind, tuple(_number(label) for label in labels))
    except ValueError:
        raise ValueError(f"labels of scale {kind} must be numbers") from None
