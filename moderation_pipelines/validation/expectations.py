"""Expectations as data: id, severity, what is checked, and why it exists. Run by ``gx.py``, shown everywhere by id.

``critical`` stops publication; ``warning`` is shown beside the numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from moderation_pipelines.consensus.methods import METHODS
from moderation_pipelines.scoring.outcomes import OUTCOMES
from moderation_pipelines.tables.schema import EVAL_SET_ITEMS

Severity = Literal["critical", "warning"]


@dataclass(frozen=True)
class Expectation:
    """One expectation: ``type`` and ``kwargs`` are Great Expectations' own."""

    id: str
    severity: Severity
    why: str
    type: str
    kwargs: dict[str, Any] = field(default_factory=dict)


def _of(id_: str, severity: Severity, type_: str, why: str, **kwargs: Any) -> Expectation:
    return Expectation(id_, severity, why, type_, kwargs)


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
        _of("columns_complete", "critical", "expect_table_columns_to_match_set",
            "readers rely on the contract's columns", column_set=list(columns), exact_match=True),
        _of("has_items", "critical", "expect_table_row_count_to_be_between",
            "an empty release measures nothing", min_value=1),
        _of("not_over_size", "critical", "expect_table_row_count_to_be_between",
            "the draw must not exceed what the spec asks", max_value=size),
        _of("item_id_present", "critical", null, "a row without an id cannot be joined to a score", column="item_id"),
        _of("item_id_unique", "critical", "expect_column_values_to_be_unique",
            "an item counted twice biases every metric", column="item_id"),
        _of("item_id_length", "critical", "expect_column_value_lengths_to_be_between",
            "overlong ids break downstream keys", column="item_id", min_value=1, max_value=256),
        _of("policy_is_this", "critical", in_set, "one release asks one question", column="policy", value_set=[policy]),
        _of("text_present", "critical", null, "a judge needs something to judge", column="text"),
        _of("text_not_blank", "critical", "expect_column_values_to_match_regex",
            "blank text gets a label by chance", column="text", regex=r"\S"),
        _of("text_without_nul", "critical", "expect_column_values_to_not_match_regex",
            "NUL bytes cut texts short in many clients", column="text", regex="\\x00"),
        _of("text_not_duplicated", "critical", "expect_compound_columns_to_be_unique",
            "copies make intervals too narrow", column_list=["text_sha256", "context_or_none"]),
        _of("text_hash_form", "critical", "expect_column_values_to_match_regex",
            "sides and duplicates hang on the hash", column="text_sha256", regex="^[0-9a-f]{64}$"),
        _of("eval_side_only", "critical", in_set,
            "development-side items were trained on", column="side", value_set=["eval"]),
        _of("not_a_few_shot_example", "critical", "expect_column_values_to_not_be_in_set",
            "the judge has seen its answer", column="text_sha256", value_set=sorted(example_hashes) or ["none"]),
        _of("locale_present", "critical", null, "slices by locale must close", column="locale"),
        _of("locale_form", "critical", "expect_column_values_to_match_regex",
            "one language under two spellings is two slices", column="locale", regex=r"^[a-z]{2,3}(-[A-Za-z0-9]+)*$"),
        _of("label_present", "critical", null, "an unlabelled item has nothing to compare with", column="label"),
        _of("label_in_policy", "critical", in_set,
            "the label set is the policy's", column="label", value_set=list(labels)),
        _of("violating_matches_label", "critical", "expect_column_pair_values_to_be_equal",
            "the positive class must follow from the label", column_A="violating", column_B="violating_by_policy"),
        _of("probability_range", "critical", between,
            "a posterior is a probability", column="probability", min_value=0, max_value=1),
        _of("probability_above_chance", "warning", between,
            "a label less likely than chance is a coin toss", column="probability", min_value=round(1 / len(labels), 6)),
        _of("posterior_sums_to_one", "critical", between,
            "a posterior that does not sum to 1 is broken", column="posterior_sum", min_value=0.9999, max_value=1.0001),
        _of("method_known", "critical", in_set,
            "every label says what decided it", column="method",
            value_set=["gold", "adjudication", *METHODS]),
        _of("label_has_support", "critical", between,
            "a label needs votes or an authority behind it", column="support", min_value=1),
        _of("stratum_present", "critical", null, "weights belong to strata", column="stratum"),
        _of("inclusion_probability_range", "critical", between,
            "an item that could not be drawn cannot be weighted", column="inclusion_probability",
            min_value=0, max_value=1, strict_min=True),
        _of("weight_inverts_inclusion", "critical", between,
            "weight is 1 / inclusion_probability", column="weight_times_inclusion", min_value=0.999999, max_value=1.000001),
        _of("weights_sum_to_frame", "critical", "expect_column_sum_to_be_between",
            "weighted estimates must add up to the frame", column="weight",
            min_value=frame_size - 0.5, max_value=frame_size + 0.5),
        _of("both_classes", "warning", "expect_column_distinct_values_to_contain_set",
            "recall or the false-positive rate is undefined with one class", column="violating", value_set=[True, False]),
        _of("enough_violating", "warning", "expect_column_sum_to_be_between",
            "recall on fewer than 30 items has an interval too wide to act on", column="violating_count", min_value=30),
        _of("enough_items", "warning", "expect_table_row_count_to_be_between",
            "fewer than 100 items decide little", min_value=100),
    ]  # fmt: skip


def scores_expectations(judges: Sequence[str], expected_rows: int) -> list[Expectation]:
    """The suite of a day's scores."""
    null, in_set, between = (
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_be_in_set",
        "expect_column_values_to_be_between",
    )
    return [
        _of("every_item_scored_once", "critical", "expect_table_row_count_to_equal",
            "a missing row is a silent denominator", value=expected_rows),
        _of("decision_id_unique", "critical", "expect_column_values_to_be_unique",
            "decisions are traced by id", column="decision_id"),
        _of("judge_known", "critical", in_set, "scores belong to a configured judge", column="judge_id", value_set=list(judges)),
        _of("outcome_known", "critical", in_set, "outcomes are a closed list", column="outcome", value_set=list(OUTCOMES)),
        _of("label_only_with_verdict", "critical", in_set,
            "an error is never a label", column="label_fits_outcome", value_set=[True]),
        _of("p_violating_range", "critical", between, "a probability lies in 0 to 1", column="p_violating", min_value=0, max_value=1),
        _of("request_key_present", "critical", null, "without it an answer cannot be replayed", column="request_key"),
        _of("cost_not_negative", "critical", between, "money is spent, not earned", column="cost_usd", min_value=0),
        _of("no_transport_errors", "warning", in_set,
            "failed calls can be asked again: run once more", column="is_transport_error", value_set=[False]),
        _of("mostly_verdicts", "critical", "expect_column_mean_to_be_between",
            "with more than 20 % of verdicts missing the metrics say little", column="is_verdict", min_value=0.8),
    ]  # fmt: skip


def metrics_expectations() -> list[Expectation]:
    """The suite of a day's metrics."""
    null, between = "expect_column_values_to_not_be_null", "expect_column_values_to_be_between"
    return [
        _of("has_metrics", "critical", "expect_table_row_count_to_be_between", "no metrics is no report", min_value=1),
        _of("metric_key_unique", "critical", "expect_compound_columns_to_be_unique", "two values for one number is none",
            column_list=["eval_set", "version", "judge_id", "slice", "slice_text", "metric"]),
        _of("metric_value_range", "critical", between, "these metrics lie in -1 to 1", column="value", min_value=-1, max_value=1),
        _of("metric_n_present", "critical", null, "never a number without its n", column="n"),
        _of("metric_interval_ordered", "critical", "expect_column_values_to_be_in_set",
            "an interval holds its value", column="interval_holds_value", value_set=[True]),
        _of("undefined_explained", "critical", "expect_column_values_to_be_in_set",
            "undefined is null with a note, never 0", column="explained", value_set=[True]),
        _of("metric_missing_not_negative", "critical", between, "missing outcomes are counted", column="n_missing", min_value=0),
        _of("worst_case_ordered", "critical", "expect_column_values_to_be_in_set",
            "bounds hold the value", column="bounds_hold_value", value_set=[True]),
    ]  # fmt: skip


RELEASE_COLUMNS = tuple(EVAL_SET_ITEMS.columns)
