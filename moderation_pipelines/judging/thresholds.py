"""Limits of the judging stage."""

from __future__ import annotations

from pydantic import Field

from moderation_pipelines.policies.policy import Strict


class JudgingThresholds(Strict):
    """``max_filtered``: share of items above which, surely, a content filter blocks too much."""

    max_filtered: float = Field(default=0.05, ge=0, le=1, strict=False)
