"""What stands beside a coefficient that is undefined or easily misread."""

from __future__ import annotations

from moderation_pipelines.agreement.patterns import Patterns
from moderation_pipelines.stats.arrays import FloatArray

FEW_ITEMS = 10
HIGH_AGREEMENT = 0.9
_FALLS = ("alpha", "fleiss", "conger", "cohen")


def why_undefined(patterns: Patterns) -> str:
    """Why a coefficient of these patterns has no value."""
    if patterns.n_rated == 0:
        return "undefined: there is no counted vote"
    if patterns.n_items == 0:
        return "undefined: no item has two or more votes"
    if patterns.counts.shape[1] < 2:
        return "undefined: the scale has one label only"
    return "undefined: every vote compared is the same label, so there is no variation to agree on"


def caution(name: str, value: float, agreeing: float, shares: FloatArray, labels: tuple[str, ...]) -> str | None:
    """What to know before reading a coefficient. ``shares``: prevalence per label; ``agreeing``: percent agreement."""
    if not any(word in name for word in _FALLS) or "intra" in name or agreeing < HIGH_AGREEMENT or value >= 0.5:
        return None
    top = int(shares.argmax())
    return (
        f"raters agree on {agreeing:.1%} of pairs, but {shares[top]:.1%} of votes are {labels[top]!r}: with so little "
        f"variation chance explains most of the agreement and {_family(name)} falls, whatever the raters do; read it "
        "beside percent agreement, gwet_ac1 and the specific agreement of the rare labels"
    )


def few_of_rarer(name: str, patterns: Patterns, shares: FloatArray, labels: tuple[str, ...]) -> str | None:
    """Warns of a kappa or an alpha that rests on a handful of items: all others have the same votes."""
    if not any(word in name for word in _FALLS) or not len(shares):
        return None
    top, paired = int(shares.argmax()), patterns.paired()
    n = int(paired.items[paired.counts[:, top] < paired.votes].sum())
    if n >= FEW_ITEMS:
        return None
    return f"{n} items have a vote other than {labels[top]!r}: all there is to disagree on"


def _family(name: str) -> str:
    return "alpha" if "alpha" in name else "kappa"


EVERYONE_AGREES = "no interval: every pair of votes agrees, so resampling gives the same value every time"
FEW = f"no interval: fewer than {FEW_ITEMS} items with two or more votes"
ONE_VALUE = "no interval: resampling the items gives the same value every time"
