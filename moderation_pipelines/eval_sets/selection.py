"""Selection of eval-set items: seeded, stratified, from the eval side only, with inclusion probabilities."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

import polars as pl

from moderation_pipelines.consensus.basis import AUTHORITY
from moderation_pipelines.consensus.calibration import MIN_GOLD
from moderation_pipelines.consensus.labels import latest_consensus
from moderation_pipelines.consensus.method import METHODS
from moderation_pipelines.eval_sets.specs import EvalSetSpec
from moderation_pipelines.eval_sets.tables import EVAL_SET_ITEMS
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.foundation.text import EVAL
from moderation_pipelines.policies.policy import Policies, Policy

NOT_GIVEN = "unknown"
NO_LABEL = "tied, or every vote abstains"
NO_PROBABILITY = "min_probability: the label has a vote share but no probability"


def latest_content(content: pl.LazyFrame) -> pl.LazyFrame:
    """One row per item of a history of content rows: as last delivered."""
    return content.sort("drop_date").unique("item_id", keep="last", maintain_order=True)


_OF_CONTENT = ("item_id", "text", "context", "locale", "surface", "source", "text_sha256", "side_key", "side")


def judged_items(consensus: pl.LazyFrame, content: pl.LazyFrame, policy: Policy) -> pl.LazyFrame:
    """Every item voted on for the policy, one row each, sorted: its newest consensus row, and its content where it has
    arrived (``side`` is null where it has not)."""
    mine = consensus.filter(pl.col("policy") == policy.id)
    items = latest_content(content).select(_OF_CONTENT)
    return (
        latest_consensus(mine, Policies([policy]))
        .drop("drop_date")
        .join(items, on="item_id", how="left")
        .sort("item_id")
    )


def labelled_items(consensus: pl.LazyFrame, content: pl.LazyFrame, policy: Policy, side: str) -> pl.LazyFrame:
    """Items of one side that have a label for the policy: consensus and content columns, one row per item, sorted."""
    found = judged_items(consensus, content, policy)
    return found.filter(pl.col("label").is_in(policy.label_ids) & (pl.col("side") == side)).drop("side")


@dataclass(frozen=True)
class Frame:
    """The sampling frame of a set and what was left out of it, by reason.

    ``n_judged``: items voted on; frame and ``left_out`` add up to it. ``filters``: the reasons that are the spec's own.
    """

    items: pl.DataFrame
    left_out: dict[str, int]
    n_judged: int
    filters: tuple[str, ...] = ()

    @property
    def why_empty(self) -> str | None:
        """The filter that left nothing of something; None when there are items, or never were any."""
        n_asked = self.items.height + sum(self.left_out[f] for f in self.filters)
        if self.items.height or not n_asked:
            return None
        took = [f"{f} ({self.left_out[f]:,})" for f in self.filters if self.left_out[f]]
        return f"its filters leave 0 of {n_asked:,} items: {', '.join(took)}"


def sampling_frame(
    consensus: pl.LazyFrame,
    content: pl.LazyFrame,
    policy: Policy,
    spec: EvalSetSpec,
    example_hashes: Collection[str],
) -> Frame:
    """Eval-side labelled items a set may draw from, with their stratum.

    Left out: items without a label or content, and those of the development side; items used as few-shot examples and
    duplicates of them (by text hash); later copies of the same text and context; items the spec filters out.
    """
    items = judged_items(consensus, content, policy).collect()
    n_judged = items.height
    left_out: dict[str, int] = {}
    filters: list[str] = []

    def keep(reason: str, condition: pl.Expr) -> None:
        nonlocal items
        kept = items.filter(condition)
        left_out[reason] = items.height - kept.height
        items = kept

    def ask(reason: str, condition: pl.Expr) -> None:
        filters.append(reason)
        keep(reason, condition)

    keep(NO_LABEL, pl.col("label").is_not_null())
    keep("label is not in the policy", pl.col("label").is_in(policy.label_ids))
    keep("content has not arrived", pl.col("side").is_not_null())
    keep("development side", pl.col("side") == EVAL)
    items = items.drop("side")

    keep("few-shot example or its duplicate", ~pl.col("text_sha256").is_in(sorted(example_hashes)))
    keep("copy of another item", pl.struct("text_sha256", "context").is_first_distinct())
    if spec.locales is not None:
        ask("locales: locale not asked for", pl.col("locale").is_in(spec.locales))
    if spec.surfaces is not None:
        ask("surfaces: surface not asked for", pl.col("surface").is_in(spec.surfaces).fill_null(False))
    if spec.min_votes:
        ask("min_votes: too few votes", (pl.col("n_votes") >= spec.min_votes) | pl.col("gold_label").is_not_null())
    if spec.min_probability:
        _need_probabilities(items, policy, spec)
        ask(NO_PROBABILITY, pl.col("probability").is_not_null())
        ask("min_probability: label not sure enough", pl.col("probability") >= spec.min_probability)
    parts = [pl.col(column).fill_null(NOT_GIVEN) for column in spec.stratify_by]
    stratum = pl.concat_str(parts, separator=" | ") if parts else pl.lit("all")
    return Frame(items.with_columns(stratum=stratum), left_out, n_judged, tuple(filters))


def _need_probabilities(items: pl.DataFrame, policy: Policy, spec: EvalSetSpec) -> None:
    """Raises :class:`UserError` where labels by votes have no probability at all that ``min_probability`` could be
    compared with. Where some have one the others are left out and counted."""
    by_votes = items.filter(pl.col("basis") != AUTHORITY)
    if by_votes.is_empty() or by_votes["probability"].null_count() < by_votes.height:
        return
    methods = by_votes["method"].unique().sort().to_list()
    calibrates = all(m not in METHODS or METHODS[m].calibrates for m in methods)
    gold = f"; or deliver {MIN_GOLD} gold labels of items with votes, on which shares are then calibrated"
    raise UserError(
        f"eval set {spec.name}: min_probability needs probabilities, but all {by_votes.height:,} labels by votes are "
        f"by {', '.join(methods)}, which gives none. Use min_votes; or set `aggregation` of {policy.id} to a model "
        f"such as dawid_skene{gold if calibrates else ''}. The change holds for items voted on afterwards"
    )


def allocation(sizes: dict[str, int], spec: EvalSetSpec) -> dict[str, int]:
    """How many items each stratum gives: at most its size, ``spec.size`` in all (or all there are).

    Every stratum first gets up to ``min_per_stratum``, as far as ``size`` reaches; the rest is shared in proportion
    to what is left in the strata (or equally) by largest remainder. Ties go by stratum name.
    """
    names = sorted(sizes)
    if sum(sizes.values()) <= spec.size:
        return dict(sizes)
    given = dict.fromkeys(names, 0)
    floor = spec.min_per_stratum
    while floor > 0 and sum(min(floor, sizes[s]) for s in names) > spec.size:
        floor -= 1
    for s in names:
        given[s] = min(floor, sizes[s])
    while (rest := spec.size - sum(given.values())) > 0:
        room = {s: sizes[s] - given[s] for s in names if sizes[s] > given[s]}
        share = {s: (room[s] if spec.allocation == "proportional" else 1) for s in room}
        total = sum(share.values())
        exact = {s: min(room[s], rest * share[s] / total) for s in room}
        whole = {s: int(exact[s]) for s in room}
        order = sorted(room, key=lambda s: (whole[s] - exact[s], s))
        missing = rest - sum(whole.values())
        for s in order:
            if missing > 0 and whole[s] < room[s]:
                whole[s] += 1
                missing -= 1
        for s, n in whole.items():
            given[s] += n
    return given


def draw_key(seed: int, set_name: str, item_id: str) -> bytes:
    """Position of an item in the draw: the lowest keys of a stratum are drawn, so growing data moves few items."""
    return hashlib.blake2b(f"{seed}\x1f{set_name}\x1f{item_id}".encode(), digest_size=16).digest()


def selected(frame: Frame, policy: Policy, spec: EvalSetSpec) -> pl.DataFrame:
    """The drawn items as release rows, sorted by item_id. inclusion_probability = drawn / frame size, by stratum."""
    if frame.items.is_empty():
        return EVAL_SET_ITEMS.empty()
    items = frame.items
    if items["stratum"].n_unique() > spec.size:
        # Not every stratum could give an item, and one that cannot has no weight: draw without strata.
        items = items.with_columns(stratum=pl.lit("all"))
    sizes = dict(items.group_by("stratum").len().iter_rows())
    given = allocation(sizes, spec)
    keys = [draw_key(spec.seed, spec.name, i) for i in items["item_id"].to_list()]
    strata = pl.DataFrame(
        {"stratum": list(sizes), "frame_size": list(sizes.values()), "drawn": [given[s] for s in sizes]}
    )
    drawn = (
        items.with_columns(draw=pl.Series(keys, dtype=pl.Binary))
        .join(strata, on="stratum")
        .sort("stratum", "draw", "item_id")
        .with_columns(place=pl.int_range(pl.len()).over("stratum"))
        .filter(pl.col("place") < pl.col("drawn"))
        .with_columns(
            severity=pl.col("label").replace_strict(policy.severity, return_dtype=pl.Int64),
            inclusion_probability=pl.col("drawn") / pl.col("frame_size"),
            weight=pl.col("frame_size") / pl.col("drawn"),
        )
        .sort("item_id")
    )
    return EVAL_SET_ITEMS.picked(drawn.lazy()).collect()
