"""Agreement on violating or not, for scales of three or more labels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from moderation_pipelines.agreement.coefficient import Coefficient, Computed, Given
from moderation_pipelines.agreement.formulas import krippendorff_alpha, percent_agreement
from moderation_pipelines.agreement.patterns import Samples


def rows(given: Given) -> Iterator[Computed]:
    """Percent agreement and nominal alpha of the two merged classes; none with two labels, or without flags."""
    scale = given.scale
    if scale.violating is None or len(scale.labels) <= 2:
        return
    two = given.patterns.merged(np.array(scale.violating, dtype=np.int64), 2)

    def merged(m: Samples) -> Samples:
        return Samples(two, m.multiplicity)

    yield Computed("percent_agreement_violating", samples=lambda m: percent_agreement(merged(m)), minimum=0.0)
    yield Computed("krippendorff_alpha_violating", samples=lambda m: krippendorff_alpha(merged(m), "nominal"))


COEFFICIENT = Coefficient("violating", 90, rows)
