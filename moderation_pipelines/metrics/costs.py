"""What errors cost, by the ``kpis.costs`` of a policy."""

from __future__ import annotations

import numpy as np

from moderation_pipelines.metrics.metric import Sums
from moderation_pipelines.policies.policy import Costs
from moderation_pipelines.stats.arrays import FloatArray

EXPECTED_COST = "expected_cost"


def cost_per_item(sums: Sums, costs: Costs, missing: float = 0.0) -> FloatArray:
    """Mean cost of an item: ``fn`` for each violating item passed, ``fp`` for each fine one flagged, 0 for the others.

    ``missing``: share of items without a verdict; where the policy says what a review costs they cost that, else they
    are left out. NaN without an item.
    """
    total = sums["tp"] + sums["fp"] + sums["fn"] + sums["tn"]
    with np.errstate(invalid="ignore", divide="ignore"):
        judged = np.asarray((costs.fn * sums["fn"] + costs.fp * sums["fp"]) / np.where(total > 0, total, np.nan))
    if costs.review is None:
        return judged
    return (1 - missing) * judged + missing * costs.review
