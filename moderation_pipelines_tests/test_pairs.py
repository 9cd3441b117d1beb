"""Judges against each other on a release, and a judge on two releases."""

from __future__ import annotations

from datetime import timedelta

import polars as pl
import pytest

from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.judging.tables import SCORES
from moderation_pipelines.metrics.daily import metrics_table
from moderation_pipelines.metrics.pairs import compare_judges, compare_releases, comparisons_table
from moderation_pipelines.metrics.tables import COMPARISONS
from moderation_pipelines_tests.conftest import DAY, SmallHome
from moderation_pipelines_tests.test_eval_sets import SPEC, fill, refresh, released

# Every item of the frame, so that all weights are 1.
WHOLE = SPEC.model_copy(update={"size": 500})


def scores_of(release: Release, judge: str, wrong: set[str], missing: set[str] = frozenset()) -> pl.DataFrame:  # type: ignore[assignment]
    """A judge that is right but on the items named; some give no verdict."""
    items = release.items()
    rows = [
        {
            "decision_id": f"{judge}-{item}", "judge_id": judge, "policy": release.policy, "eval_set": release.name,
            "version": release.version, "item_id": item, "drop_date": DAY,
            "outcome": "refusal" if item in missing else "verdict",
            "violating": None if item in missing else violating != (item in wrong),
        }
        for item, violating in items.select("item_id", "violating").iter_rows()
    ]  # fmt: skip
    return SCORES.filled(pl.LazyFrame(rows, schema_overrides={"violating": pl.Boolean})).collect()


@pytest.fixture
def release(small: SmallHome) -> Release:
    fill(small, 80, 30)
    found = released(small, WHOLE).release
    assert found is not None
    return found


def test_two_judges_by_hand(release: Release) -> None:
    items = release.items().sort("item_id")
    ids = items["item_id"].to_list()
    fine = items.filter(~pl.col("violating"))["item_id"].to_list()
    # Both wrong on two items; only the first on six more, only the second on one; three without a verdict of the second.
    both, only_first, only_second = set(fine[:2]), set(fine[2:8]), {fine[8]}
    missing = set(ids[:3]) - both - only_first - only_second
    scores = pl.concat(
        [
            scores_of(release, "a", both | only_first),
            scores_of(release, "b", both | only_second, missing),
        ]
    )
    table = compare_judges(scores, release, "a", "b", replicates=200)
    row = table.filter(slice="all", metric="accuracy").to_dicts()[0]
    n = len(ids) - len(missing)
    assert (row["n"], row["n_only_a"], row["n_only_b"]) == (n, 1, 6)
    # Exact McNemar of 1 and 6: 2 (1 + 7) / 2^7 = .125.
    assert row["p_value"] == pytest.approx(0.125)
    assert row["difference"] == pytest.approx(row["value_b"] - row["value_a"])
    assert row["ci_low"] < row["difference"] < row["ci_high"]
    assert row["difference"] == pytest.approx(5 / n)
    # The test is of accuracy, and stands there alone.
    assert set(table.filter(pl.col("p_value").is_not_null())["metric"]) == {"accuracy"}
    daily = comparisons_table(scores, [release], DAY, 100)
    assert daily.columns == list(COMPARISONS.schema)
    assert set(daily["metric"]) == {"precision", "recall", "f1", "accuracy", "fpr"}
    assert comparisons_table(scores_of(release, "a", set()), [release], DAY, 100).is_empty()


def test_one_judge_on_two_releases(small: SmallHome, release: Release) -> None:
    relabelled = release.items().filter("violating")["item_id"].sort()[0]
    votes = [
        {"item_id": relabelled, "policy": "harassment", "label": "fine", "rater_id": "desk", "kind": "gold"},
    ]
    later = DAY + timedelta(days=1)
    small.deliver("labels", "l.jsonl", votes, later)
    refresh(small, later)
    new = released(small, WHOLE).release
    assert new is not None
    assert new.version == "v0002"
    scores = pl.concat(
        [scores_of(release, "a", set()), scores_of(release, "a", set()).with_columns(version=pl.lit("v0002"))]
    )
    table = compare_releases(scores, release, new, "a", replicates=100)
    row = table.filter(slice="all", metric="precision").to_dicts()[0]
    tested = table.filter(slice="all", metric="accuracy").to_dicts()[0]
    n_violating = int(release.items()["violating"].sum())
    # The same answers; one label turned fine makes one of them a false alarm.
    assert (row["value_a"], row["value_b"]) == (1.0, pytest.approx(1 - 1 / n_violating))
    assert (tested["n_only_a"], tested["n_only_b"], tested["p_value"]) == (1, 0, 1.0)
    assert (row["judge_a"], row["judge_b"]) == ("a v0001", "a v0002")


def test_metrics_show_label_uncertainty_of_a_release(release: Release) -> None:
    scores = scores_of(release, "a", set(release.items()["item_id"].sort()[:5]))
    table = metrics_table(scores, [release], DAY, 200)
    row = table.filter(slice="all", metric="accuracy").to_dicts()[0]
    assert row["relabelled_low"] <= row["ci_low"] < row["ci_high"] <= row["relabelled_high"]
