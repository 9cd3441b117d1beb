"""Tables of ingestion: what was delivered, what went on, and what did not."""

from __future__ import annotations

import polars as pl

from moderation_pipelines.tables.column import Column, count, day, flag, moment, share, text, texts
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import DELIVERED, DROP_FILE, EXTRA, ITEM_ID, LINE

BOTH_SIDES = ("eval", "development")


def _feeds() -> tuple[str, ...]:
    # Feeds know their tables: looked up when rows are checked.
    from moderation_pipelines.ingest.feed import feed_names

    return feed_names()


DROPS = Table(
    "drops",
    "one delivered file",
    ("feed", "drop_date", "drop_file"),
    {
        "feed": text("feed the file belongs to", one_of=_feeds),
        "drop_date": DELIVERED,
        "drop_file": DROP_FILE,
        "sha256": text("SHA-256 of the file's bytes as delivered; null if it could not be read", nullable=True),
        "bytes": count("size as delivered", unit="bytes"),
        "rows": count("rows delivered; null when the file was rejected, as it cannot be known", nullable=True),
        "accepted": count("rows that went on"),
        "quarantined": count("rows that broke a rule"),
        "duplicates": count("rows delivered before on that day, kept once"),
        "status": text(
            "what became of the file: rejected as a whole; quarantined, every one of its rows; else accepted",
            one_of=("accepted", "quarantined", "rejected"),
        ),
        "reason": text("reason why no row was accepted, and how to fix it; null if accepted", nullable=True),
        "note": text(
            "what should be known though it was read, such as columns that look misnamed; null without",
            nullable=True,
            added=True,
        ),
    },
)

QUARANTINE = Table(
    "quarantine",
    "one row that broke a rule",
    ("feed", "drop_date", "drop_file", "drop_line"),
    {
        "feed": text("feed the row belongs to", one_of=_feeds),
        "drop_date": DELIVERED,
        "drop_file": DROP_FILE,
        "drop_line": LINE,
        "rule": text("first rule the row broke"),
        "column": text("column the rule is about; null when it is about the whole row", nullable=True),
        "value": text(
            "the offending value if it nearly is a known one or holds no words, else its length and hash; null for columns "
            "that hold item text",
            nullable=True,
            holds_text=True,
        ),
        "message": text("every rule the row broke: what was wrong and how to fix it", holds_text=True),
        "raw": text("the row as delivered, at most 10,000 characters; readable CSV cells as JSON", holds_text=True),
    },
)

CONVERSIONS = Table(
    "conversions",
    "one conversion rule applied to values of a delivered file",
    ("feed", "drop_date", "drop_file", "column", "rule"),
    {
        "feed": text("feed the file belongs to", one_of=_feeds),
        "drop_date": DELIVERED,
        "drop_file": DROP_FILE,
        "column": text("column of the values"),
        "rule": text(
            "locale_respelt, time_respelt, number_as_text and nan_as_missing were converted; by any other rule the value was "
            "dropped and is kept in extra"
        ),
        "n": count("values, of rows that were not quarantined", unit="values", minimum=1),
    },
)

CONTENT = Table(
    "content",
    "one item",
    ("item_id", "drop_date"),
    {
        "item_id": ITEM_ID,
        "text": text("text of the item", holds_text=True),
        "locale": text("BCP 47 tag; `und` when detection was not sure", may_null=True),
        "locale_source": text("where the locale comes from", one_of=("given", "detected")),
        "locale_confidence": share("confidence of the language detector; null when the locale was given"),
        "surface": text(
            "place it appeared: comment, listing, ad, ...; null when not given", nullable=True, may_null=True
        ),
        "source": text("system it came from; null when not given", nullable=True),
        "context": text("what surrounds it, e.g. earlier turns; null when not given", nullable=True, holds_text=True),
        "created_at": moment("time it was written; null when not given", nullable=True, may_null=True),
        "views": count("times seen; null when not given", nullable=True, may_null=True),
        "media_uri": text("address of attached media; null without", nullable=True, may_null=True, holds_text=True),
        "author_key": text("pseudonym of the author; null when not given", nullable=True, about="author"),
        "group_key": text(
            "what the item was made from, such as a template or an original, the same for all made from it; null when not "
            "given",
            nullable=True,
            added=True,
        ),
        "conversation_id": text("conversation the item is part of; null when not given", nullable=True, added=True),
        "decision": text("the production decision; null when not given", nullable=True),
        "decision_by": text("who or what decided; null when not given", nullable=True),
        "purposes": texts("what the item may be used for; null when not given", nullable=True),
        "text_sha256": text("SHA-256 of the normalised text: its identity for duplicates and sides"),
        "duplicate_of": text(
            "first item with the same normalised text, on this day or in the window before; null if it is the first",
            nullable=True,
        ),
        "side_key": text(
            "what decided the side: hash of the item's value of the home's side_by, or the key of its cluster; null where "
            "its own text did",
            nullable=True,
            added=True,
            about="author",
        ),
        "side": text("side of the item, from side_key, else text_sha256; it never changes", one_of=BOTH_SIDES),
        "extra": EXTRA,
        "drop_date": DELIVERED,
        "drop_file": DROP_FILE,
        "drop_line": LINE,
    },
)

SIDES = Table(
    "sides",
    "one key first seen on the day, and the side of everything that has it; none where items are divided by their text",
    ("key",),
    {
        "key": text(
            "side_key of content: hash of a value of the home's side_by, or of the text a cluster began with",
            about="author",
        ),
        "side": text("side of every item with the key, for good", one_of=BOTH_SIDES),
        "first_seen": day("day it was first seen"),
        "first_item_id": text("least id of the items that had it on that day", about="item"),
        "drop_date": DELIVERED,
    },
)

NEAR_DUPLICATE_CLUSTERS = Table(
    "near_duplicate_clusters",
    "one text first seen on the day, and its cluster; none but where items are divided by near_duplicate_cluster",
    ("text_sha256",),
    {
        "text_sha256": text("SHA-256 of the normalised text", unique=True),
        "key": text("key of the cluster: hash of the text it began with"),
        "side": text("side of the cluster", one_of=BOTH_SIDES),
        "is_bridge": flag("whether it had a near-duplicate on the other side when it came: it is not moved"),
        "bands": Column(
            pl.List(pl.UInt64()),
            "32 MinHash band hashes of the text; near-duplicates have some in common; of no meaning for a text without visible characters",
        ),
        "made_by": text("method of the bands; those of another are made again from the texts"),
        "drop_date": DELIVERED,
    },
)
