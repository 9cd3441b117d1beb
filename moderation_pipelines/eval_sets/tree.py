"""The hash of a release's rows, as a tree: a row's text can be erased later and the rest still verifies.

Leaf of a row: SHA-256(salt + canonical row). The salt of a row comes from a secret of the home, so that a leaf tells
nothing of a text that is gone; it is stored beside the rows, in ``leaves.parquet``. Node: SHA-256(0x01 + left + right).
Source of the tree's shape: RFC 6962, section 2.1.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Sequence

import orjson
import polars as pl

from moderation_pipelines.foundation.errors import Problem, ReadFailure
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.tables import store

SALT_BYTES = 16
_SECRET_BYTES = 32
LEAVES_SCHEMA = {"item_id": pl.String, "salt": pl.Binary, "leaf": pl.Binary}


def home_secret(home: Home) -> bytes:
    """The secret salts come from; made when the home first needs it, readable by its owner alone."""
    file = home.warehouse / "_secret"
    with store.lock(home.warehouse / "_locks" / "secret"):
        if not store.exists(file):
            store.write_private(file, secrets.token_bytes(_SECRET_BYTES))
    found = store.read_bytes(file)
    if len(found) != _SECRET_BYTES:
        raise ReadFailure([Problem(home.relative(file), None, "is damaged; restore it from a copy")])
    return found


def canonical_lines(items: pl.DataFrame) -> Iterator[bytes]:
    """Every row as it is hashed: JSON with sorted keys, in canonical order."""
    for row in items.iter_rows(named=True):
        yield orjson.dumps(row, option=orjson.OPT_SORT_KEYS)


def leaves(items: pl.DataFrame, name: str, secret: bytes) -> pl.DataFrame:
    """Salt and leaf of every row. The same set, item, row and home give the same."""
    salts = [salt_of(secret, name, item_id) for item_id in items["item_id"]]
    found = [leaf_of(salt, line) for salt, line in zip(salts, canonical_lines(items), strict=True)]
    return pl.DataFrame({"item_id": items["item_id"], "salt": salts, "leaf": found}, schema=LEAVES_SCHEMA)


def salt_of(secret: bytes, name: str, item_id: str) -> bytes:
    """The salt of an item's row in every release of a set."""
    return hmac.new(secret, f"{name}\x1f{item_id}".encode(), hashlib.sha256).digest()[:SALT_BYTES]


def leaf_of(salt: bytes, line: bytes) -> bytes:
    return hashlib.sha256(salt + line).digest()


def root(hashes: Sequence[bytes]) -> str:
    """The root over leaves in order, in hex. Of no leaf: the hash of nothing."""
    if not hashes:
        return hashlib.sha256(b"").hexdigest()
    level = list(hashes)
    while len(level) > 1:
        # A last one without a neighbour goes up as it is: the same tree as splitting at the largest power of two.
        pairs = [hashlib.sha256(b"\x01" + a + b).digest() for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[2 * len(pairs) :]
    return level[0].hex()


def wrong_rows(items: pl.DataFrame, kept: pl.DataFrame, published_root: str) -> list[str]:
    """Ids of rows that are not as published, or ["*"] when the leaves themselves are not. Rows that are gone are not
    wrong: their leaves stand for them."""
    if root(kept["leaf"].to_list()) != published_root:
        return ["*"]
    by_id = {i: (salt, leaf) for i, salt, leaf in kept.iter_rows()}
    return [
        item_id
        for item_id, line in zip(items["item_id"], canonical_lines(items), strict=True)
        if item_id not in by_id or leaf_of(by_id[item_id][0], line) != by_id[item_id][1]
    ]
