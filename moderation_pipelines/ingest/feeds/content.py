"""The feed of content: the items that are moderated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import date, timedelta

import polars as pl

from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.ingest.feed import Delivery, Feed
from moderation_pipelines.ingest.fields import (
    Field,
    identifier,
    item_text,
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
from moderation_pipelines.ingest.tables import CONTENT
from moderation_pipelines.policies.policy import Policies
from moderation_pipelines.tables.text_columns import sides, text_hashes
from moderation_pipelines.tables.warehouse import Warehouse


class ContentFeed(Feed):
    """Rows of ``content``: languages are detected, texts get their hash and side, later copies name the first."""

    name = "content"
    order = 1
    table = CONTENT
    required = ("item_id", "text")
    key = "item_id"
    looks_back = True
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
        "group_key": Field(label_name),
        "conversation_id": Field(label_name),
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
                side=sides(hashes, settings.eval_share),
            )
            .select(CONTENT.schema.names())
        )

    def completed(
        self, frames: Iterable[pl.DataFrame], warehouse: Warehouse, day: date, settings: Settings
    ) -> pl.DataFrame:
        """First item of every text of the day, looking back over the window. Columns: text_sha256, duplicate_of."""
        today = [frame.select("text_sha256", "item_id") for frame in frames]
        if not today:
            return pl.DataFrame(schema={"text_sha256": pl.String, "duplicate_of": pl.String})
        mine = pl.concat(today).unique("text_sha256", keep="first", maintain_order=True)
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
        return firsts.rename({"item_id": "duplicate_of"})

    def published(self, frame: pl.DataFrame, completed: pl.DataFrame | None) -> pl.DataFrame:
        assert completed is not None
        marked = (
            frame.drop("duplicate_of")
            .join(completed, on="text_sha256", how="left", maintain_order="left")
            .with_columns(duplicate_of=pl.when(pl.col("duplicate_of") != pl.col("item_id")).then("duplicate_of"))
        )
        return marked.select(CONTENT.schema.names())


FEED = ContentFeed()
