"""Agreement between raters: `agreement(votes, scale=..., by=[...])` gives every coefficient on every slice."""

from moderation_pipelines.agreement.tables import Scale, agreement

__all__ = ["Scale", "agreement"]
