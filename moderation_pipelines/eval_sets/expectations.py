"""What a release must be before it is published."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import polars as pl

from moderation_pipelines.auditing.expectation import Expectation, expectation
from moderation_pipelines.auditing.gx import run_expectations
from moderation_pipelines.consensus.basis import decided_by_authority
from moderation_pipelines.consensus.method import METHODS
from moderation_pipelines.eval_sets.tables import EVAL_SET_ITEMS
from moderation_pipelines.tables.text_columns import sides

if TYPE_CHECKING:
    from moderation_pipelines.eval_sets.release import Candidate


def release_expectations(
    labels: Sequence[str],
    policy: str,
    size: int,
    frame_size: int,
    example_hashes: Collection[str],
    columns: Sequence[str],
) -> list[Expectation]:
    """The suite of a release. Derived columns (side, posterior_sum, ...) are named in ``suites.release_frame``."""
    null, in_set, between = (
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_be_in_set",
        "expect_column_values_to_be_between",
    )
    return [
        expectation("columns_complete", "critical", "expect_table_columns_to_match_set",
            "readers rely on the contract's columns", column_set=list(columns), exact_match=True),
        expectation("has_items", "critical", "expect_table_row_count_to_be_between",
            "an empty release measures nothing", min_value=1),
        expectation("not_over_size", "critical", "expect_table_row_count_to_be_between",
            "the draw must not exceed what the spec asks", max_value=size),
        expectation("item_id_present", "critical", null, "a row without an id cannot be joined to a score", column="item_id"),
        expectation("item_id_unique", "critical", "expect_column_values_to_be_unique",
            "an item counted twice biases every metric", column="item_id"),
        expectation("item_id_length", "critical", "expect_column_value_lengths_to_be_between",
            "overlong ids break downstream keys", column="item_id", min_value=1, max_value=256),
        expectation("policy_is_this", "critical", in_set, "one release asks one question", column="policy", value_set=[policy]),
        expectation("text_present", "critical", null, "a judge needs something to judge", column="text"),
        expectation("text_not_blank", "critical", "expect_column_values_to_match_regex",
            "blank text gets a label by chance", column="text", regex=r"\S"),
        expectation("text_without_nul", "critical", "expect_column_values_to_not_match_regex",
            "NUL bytes cut texts short in many clients", column="text", regex="\\x00"),
        expectation("text_not_duplicated", "critical", "expect_compound_columns_to_be_unique",
            "copies make intervals too narrow", column_list=["text_sha256", "context_or_none"]),
        expectation("text_hash_form", "critical", "expect_column_values_to_match_regex",
            "duplicates, and the sides of items without a key, depend on the hash", column="text_sha256", regex="^[0-9a-f]{64}$"),
        expectation("side_key_form", "critical", "expect_column_values_to_match_regex",
            "sides and clusters depend on the key", column="side_key", regex="^[0-9a-f]{64}$"),
        expectation("eval_side_only", "critical", in_set,
            "development-side items were trained on", column="side", value_set=["eval"]),
        expectation("not_a_few_shot_example", "critical", "expect_column_values_to_not_be_in_set",
            "the judge has seen its answer", column="text_sha256", value_set=sorted(example_hashes) or ["none"]),
        expectation("locale_present", "critical", null, "slices by locale must close", column="locale"),
        expectation("locale_form", "critical", "expect_column_values_to_match_regex",
            "one language under two spellings is two slices", column="locale", regex=r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$"),
        expectation("label_present", "critical", null, "an unlabelled item has nothing to compare with", column="label"),
        expectation("label_in_policy", "critical", in_set,
            "the label set is the policy's", column="label", value_set=list(labels)),
        expectation("violating_matches_label", "critical", "expect_column_pair_values_to_be_equal",
            "the positive class must follow from the label", column_A="violating", column_B="violating_by_policy"),
        expectation("probability_range", "critical", between,
            "a posterior is a probability", column="probability", min_value=0, max_value=1),
        expectation("probability_above_chance", "warning", between,
            "a label less likely than chance is a coin toss", column="probability", min_value=round(1 / len(labels), 6)),
        expectation("posterior_sums_to_one", "critical", between,
            "a posterior that does not sum to 1 is broken", column="posterior_sum", min_value=0.9999, max_value=1.0001),
        expectation("method_known", "critical", in_set,
            "every label says what decided it", column="method",
            value_set=["gold", "adjudication", *METHODS.names]),
        expectation("label_has_support", "critical", between,
            "a label needs votes or an authority behind it", column="support", min_value=1),
        expectation("stratum_present", "critical", null, "weights belong to strata", column="stratum"),
        expectation("inclusion_probability_range", "critical", between,
            "an item that could not be drawn cannot be weighted", column="inclusion_probability",
            min_value=0, max_value=1, strict_min=True),
        expectation("weight_inverts_inclusion", "critical", between,
            "weight is 1 / inclusion_probability", column="weight_times_inclusion", min_value=0.999999, max_value=1.000001),
        expectation("weights_sum_to_frame", "critical", "expect_column_sum_to_be_between",
            "weighted estimates must add up to the frame", column="weight",
            min_value=frame_size - 0.5, max_value=frame_size + 0.5),
        expectation("no_item_dominates", "warning", between,
            "an item that weighs as a thousand others decides alone: lower min_per_stratum, or raise size",
            column="relative_weight", max_value=1000),
        expectation("both_classes", "warning", "expect_column_distinct_values_to_contain_set",
            "recall or the false-positive rate is undefined with one class", column="violating", value_set=[True, False]),
        expectation("enough_violating", "warning", "expect_column_sum_to_be_between",
            "recall on fewer than 30 items has an interval too wide to act on", column="violating_count", min_value=30),
        expectation("enough_items", "warning", "expect_table_row_count_to_be_between",
            "fewer than 100 items decide little", min_value=100),
    ]  # fmt: skip


RELEASE_COLUMNS = tuple(EVAL_SET_ITEMS.columns)


_DERIVED = (
    "side", "context_or_none", "violating_by_policy", "posterior_sum", "support", "weight_times_inclusion",
    "violating_count", "relative_weight",
)  # fmt: skip


# Ids, severities and reasons of the release suite; the numbers in it come with a candidate.
RELEASE_EXPECTATIONS = release_expectations(("-",), "-", 1, 1, (), ())


def release_frame(candidate: Candidate, eval_share: float) -> pl.DataFrame:
    """A candidate's rows with the derived columns the suite looks at."""
    items = candidate.items
    flags = {label.id: label.violating for label in candidate.policy.labels}
    return items.with_columns(
        side=sides(items["side_key"].fill_null(items["text_sha256"]), eval_share),
        context_or_none=pl.col("context").fill_null(""),
        violating_by_policy=pl.col("label").replace_strict(flags, default=None, return_dtype=pl.Boolean),
        posterior_sum=pl.col("posterior").list.eval(pl.element().struct.field("probability")).list.sum(),
        support=pl.col("n_votes") + decided_by_authority().cast(pl.Int64),
        weight_times_inclusion=pl.col("weight") * pl.col("inclusion_probability"),
        violating_count=pl.col("violating").cast(pl.Int64),
        relative_weight=pl.col("weight") / pl.col("weight").min(),
    ).drop("posterior")


def audit_release(candidate: Candidate, example_hashes: Collection[str], eval_share: float) -> list[dict[str, Any]]:
    """The audit of a candidate: one result per expectation."""
    columns = [*(c for c in RELEASE_COLUMNS if c != "posterior"), *_DERIVED]
    suite = release_expectations(
        candidate.policy.label_ids,
        candidate.policy.id,
        candidate.spec.size,
        candidate.frame.items.height,
        example_hashes,
        columns,
    )
    return run_expectations(release_frame(candidate, eval_share), suite, "item_id", "release")
