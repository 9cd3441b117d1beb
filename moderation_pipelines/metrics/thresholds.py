"""Limits of the metrics."""

from __future__ import annotations

from pydantic import Field

from moderation_pipelines.policies.policy import Strict


class MetricsThresholds(Strict):
    """``replacement_margin``: largest tolerated shortfall of a judge's advantage behind a rater's.

    Calderon, Reichart & Dror (2025) give .2 for experts, .15 for trained raters, .1 for crowds.
    """

    replacement_margin: float = Field(default=0.15, ge=0, le=1, strict=False)
