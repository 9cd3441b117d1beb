"""What probabilities of labels rest on: shares that are none, posteriors calibrated on gold, and how reliable they are."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation_pipelines.consensus.basis import with_basis
from moderation_pipelines.consensus.calibration import calibrated_on, calibration_of, evidence_of, reliability
from moderation_pipelines.consensus.choice import measure_methods
from moderation_pipelines.consensus.labels import (
    chosen_calibrations,
    chosen_methods,
    consensus_labels,
    latest_consensus,
    measured_methods,
)
from moderation_pipelines.consensus.tables import CONSENSUS, CONSENSUS_METHODS, RELIABILITY
from moderation_pipelines.eval_sets.build import History, build_eval_sets
from moderation_pipelines.eval_sets.release import releases
from moderation_pipelines.eval_sets.tables import EVAL_SET_ITEMS
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.ingest.tables import CONTENT, DROPS
from moderation_pipelines.metrics.daily import label_confidence
from moderation_pipelines.policies.policy import load_policies
from moderation_pipelines.tables.checks import checked
from moderation_pipelines.votes.matrix import vote_matrix
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines_tests.conftest import DAY, SmallHome


def posterior(p: np.ndarray) -> np.ndarray:
    return np.stack([1 - p, p], axis=1)


def test_a_posterior_that_is_right_stays_and_one_too_sure_is_drawn_back() -> None:
    rng = np.random.default_rng(3)
    p = rng.uniform(0.02, 0.98, 20_000)
    truth = (rng.random(len(p)) < p).astype(np.int64)
    right = calibrated_on(evidence_of(posterior(p), None), truth)
    assert right.slope == pytest.approx(1, abs=0.05)
    assert right.shifts == pytest.approx((0, 0), abs=0.05)
    # Odds cubed are three times too sure on the log scale: the slope that undoes it is a third.
    odds = (p / (1 - p)) ** 3
    sure = posterior(odds / (1 + odds))
    undone = calibrated_on(evidence_of(sure, None), truth)
    assert undone.slope == pytest.approx(1 / 3, abs=0.03)
    assert undone.applied(evidence_of(sure, None))[:, 1] == pytest.approx(p, abs=0.04)


def test_what_says_nothing_becomes_what_gold_shows_on_average() -> None:
    # Every item .9 for the second label, 300 of 1,000 are: the ridge of one item moves the answer by less than .002.
    truth = np.r_[np.ones(300), np.zeros(700)].astype(np.int64)
    said = evidence_of(posterior(np.full(1000, 0.9)), None)
    found = calibrated_on(said, truth)
    assert found.applied(said)[0] == pytest.approx([0.7, 0.3], abs=0.005)
    assert found.n_gold == 1000


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_calibrated_rows_are_probabilities_whatever_the_gold(k: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(k, 0.2), n)
    evidence = evidence_of(shares, rng.integers(1, 9, n) if seed % 2 else None)
    found = calibrated_on(evidence, rng.integers(0, k, n)).applied(evidence)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert found.sum(axis=1) == pytest.approx(np.ones(n))


def test_three_of_three_votes_say_more_than_one_of_one() -> None:
    one, three = np.exp(evidence_of(np.array([[0.0, 1.0], [0.0, 1.0]]), np.array([1, 3])))
    # One vote more, spread over both labels: 1.5 of 2, and 3.5 of 4.
    assert (one[1], three[1]) == (pytest.approx(0.75), pytest.approx(0.875))


def test_reliability_by_hand() -> None:
    p = np.array([0.95, 1.0, 0.91, 0.5, 0.59])
    low, high = reliability("posterior", p, np.array([True, True, False, False, True]))
    assert (low.bin, low.n, low.observed, low.mean_p) == (5, 2, 0.5, pytest.approx(0.545))
    assert (high.bin, high.n, high.observed, high.mean_p) == (
        9,
        3,
        pytest.approx(2 / 3),
        pytest.approx(0.953333, abs=1e-6),
    )
    # Wilson, 2 of 3.
    assert (high.interval.low, high.interval.high) == (
        pytest.approx(0.207655, abs=1e-5),
        pytest.approx(0.938508, abs=1e-5),
    )


def test_below_thirty_gold_items_nothing_is_calibrated_and_ties_are_in_no_bin() -> None:
    rng = np.random.default_rng(5)
    p, truth = rng.uniform(0.3, 1, 29), rng.integers(0, 2, 29)
    label = np.where(np.arange(29) < 4, -1, 1)
    found, bins = calibration_of("posterior", posterior(p), None, label, truth, 5)
    assert found is None
    assert ({b.source for b in bins}, sum(b.n for b in bins)) == ({"posterior"}, 25)
    more = calibration_of("posterior", posterior(np.r_[p, 0.9]), None, np.r_[label, 1], np.r_[truth, 1], 5)
    assert more[0] is not None
    assert {b.source for b in more[1]} == {"posterior", "calibrated"}


def delivered(small: SmallHome, gold: int, method: str = "majority") -> pl.DataFrame:
    """Consensus of 300 items with three votes each, right in .8, ``gold`` of them with gold."""
    rng = np.random.default_rng(11)
    truth = rng.random(300) < 0.3
    name = ["fine", "bad"]
    small.deliver("content", "c.jsonl", [
        {"item_id": f"i{k:03d}", "text": f"remark number {k} on things", "locale": "en"} for k in range(300)
    ])  # fmt: skip
    small.deliver("labels", "l.jsonl", [
        {"item_id": f"i{k:03d}", "policy": "harassment", "rater_id": r,
         "label": name[int(truth[k] ^ (rng.random() < 0.2))]}
        for k in range(300) for r in ("r1", "r2", "r3")
    ] + [
        {"item_id": f"i{k:03d}", "policy": "harassment", "rater_id": "desk", "kind": "gold", "label": name[int(truth[k])]}
        for k in range(gold)
    ])  # fmt: skip
    path = small.home.prompts / "harassment" / "policy.yaml"
    kept = [line for line in path.read_text().splitlines() if not line.startswith("aggregation")]
    small.write("prompts/harassment/policy.yaml", "\n".join([*kept, f"aggregation: {method}", ""]))
    policies = load_policies(small.home)
    small.ingest(DAY)
    votes = small.warehouse.scan(VOTES)
    measured, bins = measured_methods(votes, policies, DAY)
    checked(RELIABILITY, bins.lazy())
    frame = consensus_labels(
        votes, policies, DAY, chosen_methods(measured), None, chosen_calibrations(measured, policies)
    )
    small.warehouse.write(CONSENSUS, frame, DAY)
    return frame


def test_vote_shares_become_probabilities_only_by_calibration(small: SmallHome) -> None:
    few = delivered(small, 20).filter(pl.col("method") == "majority")
    assert few["basis"].unique().to_list() == ["vote_share"]
    assert few["probability"].null_count() == few["posterior"].null_count() == few.height
    assert few["vote_share"].null_count() == few["entropy"].null_count() == 0
    many = delivered(small, 200).filter(pl.col("method") == "majority")
    assert many["basis"].unique().to_list() == ["calibrated"]
    # Unanimous for "bad": .2 of .3 wrong three times against .8 of .7: .3 x .512 : .7 x .008 is .965; two of three for it:
    # .3 x .128 : .7 x .032 is .632, as Bayes has it; a fit on 200 items comes near.
    called = many.filter(pl.col("label") == "bad")
    by_share = dict(called.group_by("vote_share").agg(pl.col("probability").mean()).iter_rows())
    assert by_share[1.0] == pytest.approx(0.965, abs=0.05)
    assert by_share[2 / 3] == pytest.approx(0.632, abs=0.12)
    assert many["label"].equals(few.join(many, on="item_id", how="semi", maintain_order="right")["label"])


def test_a_spec_that_asks_for_a_probability_fails_where_there_are_vote_shares(small: SmallHome) -> None:
    small.write("prompts/harassment/eval_sets.yaml", "eval_sets:\n  - name: sure\n    min_probability: 0.9\n")

    def built() -> tuple[str, str]:
        w, policies = small.warehouse, load_policies(small.home)
        empty = pl.LazyFrame(schema=CONSENSUS_METHODS.schema)
        history = History(*(w.scan(t) for t in (CONSENSUS, CONTENT, VOTES, DROPS)), empty)
        mine = [p for p in build_eval_sets(small.home, policies, history, Settings().eval_share) if p.name == "sure"]
        return mine[0].status, str(mine[0].reason)

    delivered(small, 20)
    status, reason = built()
    assert status == "broken"
    assert "labels by votes are by majority, which gives none" in reason
    assert "30 gold labels" in reason
    delivered(small, 200)
    status, _ = built()
    assert status == "published"
    items = releases(small.home, "sure")[0].items()
    assert set(items["basis"]) == {"authority", "calibrated"}
    assert items["probability"].min() >= 0.9


def test_of_items_voted_on_before_there_was_gold_those_without_a_probability_are_left_out(small: SmallHome) -> None:
    small.write("prompts/harassment/eval_sets.yaml", "eval_sets:\n  - {name: sure, min_probability: 0.6}\n")
    delivered(small, 200)
    w, policies = small.warehouse, load_policies(small.home)
    frame = w.scan(CONSENSUS, [DAY]).collect()
    early = (pl.col("item_id") > "i250") & (pl.col("basis") == "calibrated")
    w.write(
        CONSENSUS,
        frame.with_columns(
            basis=pl.when(early).then(pl.lit("vote_share")).otherwise("basis"),
            probability=pl.when(~early).then("probability"),
        ),
        DAY,
    )
    empty = pl.LazyFrame(schema=CONSENSUS_METHODS.schema)
    history = History(*(w.scan(t) for t in (CONSENSUS, CONTENT, VOTES, DROPS)), empty)
    made = next(p for p in build_eval_sets(small.home, policies, history, 0.5) if p.name == "sure")
    assert made.status == "published"
    assert made.release is not None
    left = made.release.manifest["left_out"]
    assert left["min_probability: the label has a vote share but no probability"] > 5
    assert "vote_share" not in made.release.manifest["label_bases"]


def test_a_median_stays_a_share_whatever_the_gold() -> None:
    """It labels by an order that shares by label do not know: a calibration by label is wrong about it."""
    rng = np.random.default_rng(8)
    truth = rng.integers(0, 5, 400)
    item = np.repeat(np.arange(400), 3)
    label = np.clip(truth[item] + rng.choice([-1, 0, 1], 1200, p=[0.25, 0.5, 0.25]), 0, 4)
    votes = vote_matrix(item, np.tile(np.arange(3), 400), label, 400, 3, 5)
    found = {m.method: m for m in measure_methods(votes, truth, (False, False, True, True, True), True, "median")}
    assert found["median"].calibration is None
    assert {b.source for b in found["median"].reliability} == {"vote_share"}


def test_a_posterior_that_is_right_is_left_alone_and_shares_never_are() -> None:
    rng = np.random.default_rng(12)
    p = rng.uniform(0.5, 1, 300)
    truth = (rng.random(300) < p).astype(np.int64)
    label = np.ones(300, dtype=np.int64)
    kept, bins = calibration_of("posterior", posterior(p), None, label, truth, 5)
    assert kept is None
    assert {b.source for b in bins} == {"posterior"}
    assert calibration_of("vote_share", posterior(p), np.full(300, 3), label, truth, 5)[0] is not None
    sure = posterior(np.where(p > 0.6, 0.999, p))
    assert calibration_of("posterior", sure, None, label, truth, 5)[0] is not None


def test_rows_of_earlier_versions_say_what_they_rest_on_by_their_method() -> None:
    rows = CONSENSUS.filled(
        pl.LazyFrame(
            {
                "item_id": ["a", "b", "c", "d"],
                "policy": ["p"] * 4,
                "method": ["gold", "median", "glad", None],
                "probability": [1.0, 0.75, 0.9, None],
                "posterior": [[{"label": "x", "probability": 1.0}]] * 4,
                "drop_date": [DAY] * 4,
            }
        )
    )
    found = latest_consensus(rows).sort("item_id").collect()
    assert found["basis"].to_list() == ["authority", "vote_share", "posterior", None]
    assert found["probability"].to_list() == [1.0, None, 0.9, None]
    assert found["vote_share"].to_list() == [None, 0.75, None, None]
    assert found["posterior"].is_null().to_list() == [False, True, False, False]


def test_label_confidence_says_what_it_rests_on() -> None:
    rows = EVAL_SET_ITEMS.filled(
        pl.LazyFrame(
            {
                "method": [
                    "gold",
                    "adjudication",
                    "majority",
                    "majority",
                    "dawid_skene",
                    "dawid_skene",
                    "median",
                    "weighted_majority",
                ],
                "basis": ["authority", "authority", "vote_share", "calibrated", "posterior", None, None, None],
                "probability": [1.0, 1.0, None, 0.85, 0.97, 0.6, 1.0, 0.99],
                "vote_share": [1.0, None, 1.0, 1.0, 0.5, 0.5, None, None],
            }
        )
    )
    assert with_basis(rows).select(x=label_confidence()).collect()["x"].to_list() == [
        "gold", "adjudication", "vote share 0.95 to 1", "calibrated 0.80 to 0.95", "posterior 0.95 to 1",
        "posterior below 0.80", "vote share 0.95 to 1", "weighted share",
    ]  # fmt: skip
