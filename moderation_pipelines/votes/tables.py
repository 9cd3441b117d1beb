"""The table of votes."""

from __future__ import annotations

from moderation_pipelines.tables.column import flag, moment, number, share, text
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import DELIVERED, DROP_FILE, EXTRA, ITEM_ID, LINE, POLICY, RATER_ID

VOTE_KINDS = ("vote", "gold", "adjudication", "audit")


VOTES = Table(
    "votes",
    "one vote",
    ("vote_id", "drop_date"),
    {
        "vote_id": text("vote id; derived from day, file and line when none was delivered"),
        "item_id": ITEM_ID,
        "policy": POLICY,
        "rater_id": RATER_ID.with_(meaning="rater id; null for an anonymous vote", nullable=True),
        "pool": text("vendor, site or shift of the rater; null when not given", nullable=True),
        "rater_locale": text("BCP 47 tag of the rater; null when not given", nullable=True, may_null=True),
        "label": text("label the rater gave"),
        "kind": text("kind of vote", one_of=VOTE_KINDS),
        "guideline": text("guideline version the rater worked by; null when not given", nullable=True),
        "labeled_at": moment("time of the vote; null when not given", nullable=True, may_null=True),
        "seconds": number("time taken; null when not given", nullable=True, may_null=True, minimum=0, unit="s"),
        "confidence": share("the rater's own confidence; null when not given", may_null=True),
        "rationale": text("the rater's reason; null when not given", nullable=True, may_null=True, holds_text=True),
        "is_current": flag(
            "counts among the rater's repeats of that day (policy's on_repeat); decided again over the window"
        ),
        "is_abstain": flag('the label means "no answer": counted, never a class'),
        "extra": EXTRA,
        "drop_date": DELIVERED,
        "drop_file": DROP_FILE,
        "drop_line": LINE,
    },
)
