"""The items of a release: what a judge is asked and what its answers are compared with."""

from __future__ import annotations

from moderation_pipelines.consensus.tables import BASIS
from moderation_pipelines.tables.column import Column, count, flag, integer, number, share, text
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import EVAL_SET, ITEM_ID, LABEL_PROBABILITIES, POLICY, VERSION

EVAL_SET_ITEMS = Table(
    "eval_set_items",
    "one item of a release",
    ("item_id",),
    {
        "item_id": ITEM_ID.with_(unique=True),
        "policy": POLICY,
        "text": text("text of the item", holds_text=True),
        "context": text("what surrounds it; null without", nullable=True, holds_text=True),
        "locale": text("BCP 47 tag"),
        "surface": text("place it appeared; null when not given", nullable=True),
        "label": text("reference label"),
        "violating": flag("whether the reference label violates"),
        "severity": integer("severity of the reference label in the policy; null if it has none", nullable=True),
        "method": text("what decided the label"),
        "posterior": Column(
            LABEL_PROBABILITIES,
            "probability of every label; null without votes, and where basis is a share",
            nullable=True,
        ),
        "probability": share("probability of the reference label; null where basis is a share"),
        "basis": BASIS.with_(
            meaning="what the probability rests on: an authority's word, the method's posterior, or a calibration on gold; "
            "vote_share and weighted_share: there is none, as the method gives shares; null in releases of earlier versions"
        ),
        "vote_share": share("share of votes for the reference label; null without votes", added=True),
        "n_votes": count("votes behind the label", unit="votes"),
        "stratum": text("stratum it was drawn from"),
        "inclusion_probability": number("probability that it was drawn, above 0", minimum=0, maximum=1),
        "weight": number("items of the frame it stands for: 1 / inclusion_probability", minimum=1, unit="items"),
        "text_sha256": text("SHA-256 of the normalised text"),
        "side_key": text(
            "what decided its side, as in content: items that share it are clustered; null where the text did",
            nullable=True,
            added=True,
            about="author",
        ),
    },
    daily=False,
)

RELEASES = Table(
    "releases",
    "one published release of one eval set",
    ("eval_set", "version"),
    {
        "eval_set": EVAL_SET,
        "version": VERSION,
        "policy": POLICY,
        "policy_version": text("version of the policy text pinned with the release"),
        "n_items": count("items of the release", unit="items"),
        "n_violating": count("items whose reference label violates", unit="items"),
        "content_sha256": text("hash of the rows"),
        "parent_version": text("release before it; null for the first", nullable=True),
        "is_in_force": flag("whether it is the newest of its set"),
        "last_outcome": text(
            "what became of the set when it was last built: stands, failed, empty or broken; "
            "null for releases that are not in force",
            nullable=True,
        ),
    },
    daily=False,
)
