"""The identity of a text: its normal form, its hash, and the side it belongs to."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Literal

import polars as pl

from moderation_pipelines.errors import UserError
from moderation_pipelines.home import Home
from moderation_pipelines.tables.warehouse import write_text

Side = Literal["eval", "development"]
EVAL: Side = "eval"
DEVELOPMENT: Side = "development"

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
    """The side of a text, for ever: eval for the lowest ``eval_share`` of the hash space, else development."""
    return EVAL if int(text_hash[:12], 16) < eval_share * 16**12 else DEVELOPMENT


def pin_eval_share(home: Home, share: float) -> None:
    """Fix the share of the eval side when a home is first used. Raises :class:`UserError` when it was another.

    Items stay on their side for ever: changing the share would put texts that were trained on into eval sets.
    """
    file = home.warehouse / "_eval_share"
    if not file.exists():
        write_text(file, f"{share!r}\n")
    elif float(file.read_text()) != share:
        pinned = file.read_text().strip()
        said = f"the eval share is {share:g}, but this home's items were split with {pinned}"
        raise UserError(f"{said}; set MODERATION_EVAL_SHARE back")


def text_hashes(texts: pl.Series) -> pl.Series:
    """``text_sha256`` of every text of a column."""
    return pl.Series("text_sha256", [text_sha256(t) for t in texts.to_list()], dtype=pl.String)


def sides(hashes: pl.Series, eval_share: float) -> pl.Series:
    """``side_of`` every hash of a column."""
    return pl.Series("side", [side_of(h, eval_share) for h in hashes.to_list()], dtype=pl.String)
