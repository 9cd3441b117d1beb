"""The identity of a text: its normal form, its hash, and the side it belongs to."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Literal, get_args

Side = Literal["eval", "development"]
EVAL: Side = "eval"
DEVELOPMENT: Side = "development"
SideBy = Literal["text", "group_key", "author_key", "conversation_id", "near_duplicate_cluster"]
BY_TEXT: SideBy = "text"
BY_CLUSTER: SideBy = "near_duplicate_cluster"
SIDE_BY: tuple[SideBy, ...] = get_args(SideBy)

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_SPACE = re.compile(r"\s+")


def normalised_text(text: str) -> str:
    """The text as duplicates are judged: NFKC, case folded, invisible characters gone, white space single."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return _SPACE.sub(" ", _INVISIBLE.sub("", folded)).strip()


def text_sha256(text: str) -> str:
    """SHA-256 of the normalised text, in hex: what makes two texts the same text."""
    return hashlib.sha256(normalised_text(text).encode("utf-8", "surrogatepass")).hexdigest()


def side_of(text_hash: str, eval_share: float = 0.5) -> Side:
    """The side of a text, always the same: eval for the lowest ``eval_share`` of the hash space, else development."""
    return EVAL if int(text_hash[:12], 16) < eval_share * 16**12 else DEVELOPMENT


def side_key(side_by: SideBy, value: str) -> str:
    """What stands in for the hash of the text where items are divided by another key: a hash of its name and value.

    Values that differ in composition of their characters only (NFC) are one.
    """
    value = unicodedata.normalize("NFC", value)
    return hashlib.sha256(f"{side_by}\x1f{value}".encode("utf-8", "surrogatepass")).hexdigest()
