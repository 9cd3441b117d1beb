"""Krippendorff's alpha at the scale's own kind, and at every kind the scale allows."""

from __future__ import annotations

from collections.abc import Iterator

from moderation_pipelines.agreement.coefficient import Coefficient, Computed, Given, OneValue
from moderation_pipelines.agreement.formulas import Metric, krippendorff_alpha
from moderation_pipelines.stats.arrays import FloatArray
from moderation_pipelines.votes.scale import agreement_weights


def rows(given: Given) -> Iterator[Computed]:
    """Alpha with the metric of the scale, then alpha with each metric the scale allows."""
    scale = given.scale
    places = None if scale.positions is None else scale.places
    metrics: dict[str, Metric | FloatArray] = {"nominal": "nominal"}
    if scale.kind in ("ordinal", "interval", "ratio"):
        metrics |= {"ordinal": "ordinal", "interval": "interval"}
    if scale.positions is not None and min(scale.positions) >= 0:
        metrics["ratio"] = "ratio"
    if scale.kind == "set":
        metrics["masi"] = 1 - agreement_weights(scale, "masi")

    def alpha(metric: Metric | FloatArray) -> OneValue:
        return lambda m: krippendorff_alpha(m, metric, places)

    yield Computed("krippendorff_alpha", samples=alpha(metrics["masi" if scale.kind == "set" else scale.kind]))
    for name, metric in metrics.items():
        yield Computed(f"krippendorff_alpha_{name}", samples=alpha(metric))


COEFFICIENT = Coefficient("krippendorff_alpha", 20, rows)
