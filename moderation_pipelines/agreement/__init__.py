"""Agreement between raters: `agreement(votes, scale=..., by=[...])` gives every coefficient on every slice."""

from moderation_pipelines.agreement.pack import agreement, intra_rater_agreement
from moderation_pipelines.agreement.repeats import one_vote_each
from moderation_pipelines.agreement.scale import Scale

__all__ = ["Scale", "agreement", "intra_rater_agreement", "one_vote_each"]
