"""The feed of labels: votes, gold, adjudications, audits."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import polars as pl

from moderation_pipelines.foundation.errors import did_you_mean, shown
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.ingest.feed import Broken, Delivery, Feed
from moderation_pipelines.ingest.fields import (
    Field,
    Unfit,
    identifier,
    label_name,
    locale,
    number,
    plain,
    short_name,
    timestamp,
    vote_identifier,
)
from moderation_pipelines.policies.policy import Policies
from moderation_pipelines.votes.repeats import REPEAT_KEY, mark_current, takes_last
from moderation_pipelines.votes.tables import VOTE_KINDS, VOTES


def vote_kind(value: Any) -> str | None:
    """One of VOTE_KINDS; empty is absent."""
    text = plain(value)
    if text is not None and text not in VOTE_KINDS:
        raise Unfit("unknown_kind", f"{shown(text, VOTE_KINDS)} is not a kind{did_you_mean(text, VOTE_KINDS)}")
    return text


def _mistake(
    policy: str, label: Any, policies: Policies, allowed: Mapping[str, frozenset[str]], broken: Collection[str]
) -> tuple[str, str, str, str] | None:
    """Rule, column, value and message of a policy that cannot be used or a label that is not its own; None if sound."""
    if policy in broken:
        told = f'policy "{policy}" cannot be used: prompts/{policy}/policy.yaml has mistakes; modpipe check'
        return "unusable_policy", "policy", policy, told
    if policy not in allowed:
        value = shown(policy, policies.ids)
        told = f"policy {value} is not in prompts/{did_you_mean(policy, policies.ids)}"
        return "unknown_policy", "policy", value.strip('"'), told
    if label is None or label in allowed[policy]:
        return None
    labels = [*policies[policy].label_ids, *policies[policy].abstain]
    value = shown(label, labels)
    return (
        "unknown_label",
        "label",
        value.strip('"'),
        f'label {value} is not in policy "{policy}"{did_you_mean(label, labels)}',
    )


class LabelsFeed(Feed):
    """Rows of ``votes``. A vote_id delivered again is a repeated delivery; a rater's repeats are marked."""

    name = "labels"
    order = 2
    table = VOTES
    required = ("item_id", "policy", "label")
    key = "vote_id"
    on_conflict = "duplicate"
    ordered_by = "labeled_at"
    never_misnamed = ("kind",)
    fields: Mapping[str, Field] = {
        "vote_id": Field(vote_identifier, ("label_id",), empty_is_absent=True),
        "item_id": Field(identifier),
        "policy": Field(identifier, repeats=True),
        "rater_id": Field(identifier, repeats=True, empty_is_absent=True),
        "pool": Field(short_name, repeats=True),
        "rater_locale": Field(locale, repeats=True),
        "label": Field(label_name, repeats=True),
        "kind": Field(vote_kind, repeats=True, nan_is_absent=False),
        "guideline": Field(short_name, repeats=True),
        "labeled_at": Field(timestamp, repeats=True),
        "seconds": Field(number(0, math.inf)),
        "confidence": Field(number(0, 1)),
        "rationale": Field(plain),
    }

    def row_mistakes(
        self,
        columns: Mapping[str, list[Any]],
        policies: Policies,
        told: Collection[tuple[int, str | None]],
        broken_policies: Collection[str],
    ) -> list[Broken]:
        skip = {row for row, column in told if column in ("policy", "label")}
        allowed = {p.id: frozenset(p.label_ids) | frozenset(p.abstain) for p in policies}
        found = []
        said: dict[tuple[Any, Any], tuple[str, str, str, str] | None] = {}
        for i, (policy, label) in enumerate(zip(columns["policy"], columns["label"], strict=True)):
            if policy is None or i in skip:
                continue
            if (policy, label) not in said:
                said[policy, label] = _mistake(policy, label, policies, allowed, broken_policies)
            if (mistake := said[policy, label]) is not None:
                rule, column, value, message = mistake
                found.append(Broken(i, rule, column, value, message))
        return found

    def finished(self, good: pl.DataFrame, delivery: Delivery, policies: Policies, settings: Settings) -> pl.DataFrame:
        abstain = (
            pl.DataFrame(
                [(p.id, a) for p in policies for a in p.abstain],
                schema={"policy": pl.String, "label": pl.String},
                orient="row",
            )
            .unique()
            .with_columns(is_abstain=pl.lit(True))
        )
        day, file = delivery.day, delivery.file
        frame = (
            good.lazy()
            .with_columns(
                drop_date=pl.lit(day),
                drop_file=pl.lit(file),
                kind=pl.col("kind").fill_null("vote"),
                vote_id=pl.coalesce("vote_id", pl.format("{}/{}:{}", pl.lit(str(day)), pl.lit(file), "drop_line")),
            )
            .join(abstain.lazy(), on=["policy", "label"], how="left", maintain_order="left")
            .with_columns(pl.col("is_abstain").fill_null(False))
        )
        return VOTES.filled(frame).collect()

    def fingerprints(self, frame: pl.DataFrame, policies: Policies) -> list[pl.Expr]:
        repeat = pl.struct(*REPEAT_KEY)
        return [
            repeat.hash(3).alias("repeat_1"),
            repeat.hash(4).alias("repeat_2"),
            pl.col("labeled_at"),
            pl.col("rater_id").is_not_null().alias("named"),
            takes_last(policies).alias("takes_last"),
        ]

    def bucket(self) -> str:
        return "repeat_1"

    def marks(self, kept: pl.DataFrame) -> pl.DataFrame:
        return mark_current(kept.lazy(), ["repeat_1", "repeat_2"]).select("row", "is_current").collect()

    def marks_schema(self) -> dict[str, Any]:
        return {"is_current": pl.Boolean}


FEED = LabelsFeed()
