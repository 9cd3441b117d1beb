"""The feed of content: the items that are moderated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import polars as pl

from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.foundation.text import BY_CLUSTER, BY_TEXT
from moderation_pipelines.ingest.clusters import assigned_clusters
from moderation_pipelines.ingest.feed import Delivery, Feed
from moderation_pipelines.ingest.fields import (
    Field,
    identifier,
    item_text,
    key_value,
    label_name,
    locale,
    number,
    plain,
    short_name,
    structured_text,
    text_list,
    timestamp,
)
from moderation_pipelines.ingest.language import detected_locales
from moderation_pipelines.ingest.sides import SideRule
from moderation_pipelines.ingest.tables import CONTENT, NEAR_DUPLICATE_CLUSTERS, SIDES
from moderation_pipelines.policies.policy import Policies
from moderation_pipelines.tables.text_columns import text_hashes
from moderation_pipelines.tables.warehouse import Warehouse


@dataclass(frozen=True)
class DayContent:
    """What the day's items tell of each other. ``firsts``: text_sha256, duplicate_of (the first item with the text).
    ``placed``: ``by`` (text_sha256 or item_id), side_key, side of what was placed already. ``sides``, ``clusters``: the
    day's rows of these."""

    firsts: pl.DataFrame
    by: str
    placed: pl.DataFrame | None
    sides: pl.DataFrame
    clusters: pl.DataFrame


class ContentFeed(Feed):
    """Rows of ``content``: languages are detected, texts get their hash and side, later copies name the first."""

    name = "content"
    order = 1
    table = CONTENT
    required = ("item_id", "text")
    key = "item_id"
    looks_back = True
    along = (SIDES, NEAR_DUPLICATE_CLUSTERS)
    apart = ("drop_file", "drop_line", "duplicate_of")
    fields: Mapping[str, Field] = {
        "item_id": Field(identifier),
        "text": Field(item_text),
        "locale": Field(locale, repeats=True),
        "surface": Field(short_name, repeats=True),
        "source": Field(label_name, repeats=True),
        "context": Field(structured_text),
        "created_at": Field(timestamp),
        "views": Field(number(0, math.inf, whole=True)),
        "media_uri": Field(plain),
        "author_key": Field(label_name),
        "group_key": Field(key_value),
        "conversation_id": Field(key_value),
        "decision": Field(label_name, repeats=True),
        "decision_by": Field(label_name, repeats=True),
        "purposes": Field(text_list),
    }

    def finished(self, good: pl.DataFrame, delivery: Delivery, policies: Policies, settings: Settings) -> pl.DataFrame:
        frame = super().finished(good, delivery, policies, settings)
        hashes = text_hashes(frame["text"])
        given = frame["locale"].is_not_null()
        detected = detected_locales(frame.filter(~given)["text"].to_list())
        detected = detected.with_columns(pl.Series("row", (~given).arg_true(), dtype=pl.UInt32))
        return (
            frame.drop("locale_confidence")
            .with_row_index("row")
            .join(detected, on="row", how="left", maintain_order="left", suffix="_detected")
            .with_columns(
                locale=pl.coalesce("locale", "locale_detected"),
                locale_source=pl.when(pl.col("locale").is_not_null())
                .then(pl.lit("given"))
                .otherwise(pl.lit("detected")),
                text_sha256=hashes,
            )
            .pipe(delivery.sides.divided)
            .select(CONTENT.schema.names())
        )

    def completed(
        self, frames: Iterable[pl.DataFrame], warehouse: Warehouse, day: date, settings: Settings, sides: SideRule
    ) -> DayContent:
        """First item of every text of the day, looking back over the window; and the keys that decide sides."""
        by_cluster = sides.by == BY_CLUSTER
        columns = ["text_sha256", "item_id", "side_key", "side", *(["text"] if by_cluster else [])]
        today = [frame.select(columns) for frame in frames]
        rows = pl.concat(today) if today else CONTENT.empty().select(columns)
        mine = rows.select("text_sha256", "item_id").unique("text_sha256", keep="first", maintain_order=True)
        before = [day - timedelta(days=d) for d in range(settings.window_days - 1, 0, -1)]
        earlier = (
            warehouse.scan(CONTENT, before)
            .filter(pl.col("duplicate_of").is_null())
            .select("text_sha256", "item_id")
            .join(mine.lazy().select("text_sha256"), on="text_sha256", how="semi", maintain_order="left")
            .unique("text_sha256", keep="first", maintain_order=True)
            .collect(engine="streaming")
        )
        firsts = pl.concat([earlier, mine]).unique("text_sha256", keep="first", maintain_order=True)
        firsts = firsts.rename({"item_id": "duplicate_of"})
        if by_cluster:
            texts = rows.sort("item_id").unique("text_sha256", keep="first", maintain_order=True)
            found = assigned_clusters(texts.select("text_sha256", "text", "item_id"), warehouse, day, sides.side_of)
            placed = found.of_texts.with_columns(side=sides.side_of(found.of_texts["side_key"]))
            return DayContent(firsts, "text_sha256", placed, found.sides, found.clusters)
        before_now = _placed_before(rows, warehouse) if sides.by != BY_TEXT else None
        now = rows if before_now is None else _with_sides(rows, "item_id", before_now)
        return DayContent(firsts, "item_id", before_now, _sides(now, warehouse, day), NEAR_DUPLICATE_CLUSTERS.empty())

    def published(self, frame: pl.DataFrame, completed: DayContent) -> pl.DataFrame:
        marked = (
            frame.drop("duplicate_of")
            .join(completed.firsts, on="text_sha256", how="left", maintain_order="left")
            .with_columns(duplicate_of=pl.when(pl.col("duplicate_of") != pl.col("item_id")).then("duplicate_of"))
        )
        if completed.placed is not None:
            marked = _with_sides(marked, completed.by, completed.placed)
        return marked.select(CONTENT.schema.names())

    def made_along(self, completed: DayContent) -> list[pl.DataFrame]:
        return [completed.sides, completed.clusters]


def _placed_before(rows: pl.DataFrame, warehouse: Warehouse) -> pl.DataFrame:
    """item_id, side_key, side of items that were delivered before, as they came first: an item never changes sides."""
    return (
        warehouse.scan(CONTENT)
        .select("item_id", "side_key", "side", "drop_date")
        .join(rows.lazy().select("item_id"), on="item_id", how="semi")
        .sort("drop_date")
        .unique("item_id", keep="first", maintain_order=True)
        .drop("drop_date")
        .collect(engine="streaming")
    )


def _with_sides(rows: pl.DataFrame, by: str, placed: pl.DataFrame) -> pl.DataFrame:
    """The rows with the sides they have been placed on; their own where they have not."""
    there = placed.rename({"side_key": "placed_key", "side": "placed_side"})
    return (
        rows.join(there, on=by, how="left", maintain_order="left")
        .with_columns(
            side_key=pl.when(pl.col("placed_side").is_null()).then("side_key").otherwise("placed_key"),
            side=pl.coalesce("placed_side", "side"),
        )
        .drop("placed_key", "placed_side")
    )


def _sides(rows: pl.DataFrame, warehouse: Warehouse, day: date) -> pl.DataFrame:
    """The day's rows of ``sides``: those it has, and keys that no day has."""
    mine = rows.drop_nulls("side_key").sort("item_id").unique("side_key", keep="first", maintain_order=True)
    new = (
        mine.lazy()
        .select("side", key="side_key", first_item_id="item_id", first_seen=pl.lit(day), drop_date=pl.lit(day))
        .join(warehouse.scan(SIDES).select("key"), on="key", how="anti")
    )
    return pl.concat([warehouse.scan(SIDES, [day]), SIDES.exactly(new)]).sort("key").collect()


FEED = ContentFeed()
