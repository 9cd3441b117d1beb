"""Consensus labels and rater cards, worked by hand and by planted raters."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from moderation_pipelines.consensus.labels import consensus_labels, latest_consensus
from moderation_pipelines.consensus.tables import CONSENSUS
from moderation_pipelines.raters.cards import rater_cards
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines_tests.conftest import DAY, SmallHome

NEXT = DAY + timedelta(days=1)


def vote(item: str, rater: str | None, label: str, policy: str = "levels", **more: Any) -> dict[str, Any]:
    return {"item_id": item, "policy": policy, "rater_id": rater, "label": label, **more}


def consensus(small: SmallHome, *days: Any) -> dict[str, dict[str, Any]]:
    last = max(days, default=DAY)
    for day in days or (DAY,):
        small.ingest(day)
    frame = consensus_labels(small.warehouse.scan(VOTES), small.policies, last)
    return {r["item_id"]: r for r in frame.to_dicts()}


def test_majority_ties_and_abstentions(small: SmallHome) -> None:
    small.write(
        "prompts/levels/policy.yaml", (small.home.prompts / "levels/policy.yaml").read_text() + "abstain: [skip]\n"
    )
    small.deliver("labels", "f.jsonl", [
        vote("clear", "r1", "mild"), vote("clear", "r2", "mild"), vote("clear", "r3", "none"),
        vote("tied", "r1", "mild"), vote("tied", "r2", "severe"),
        vote("skipped", "r1", "skip"), vote("half", "r1", "skip"), vote("half", "r2", "severe"),
    ])  # fmt: skip
    rows = consensus(small)
    clear = rows["clear"]
    assert (clear["label"], clear["violating"], clear["method"], clear["n_votes"], clear["is_tie"]) == (
        "mild",
        True,
        "majority",
        3,
        False,
    )
    # A share of votes is no probability.
    assert clear["vote_share"] == pytest.approx(2 / 3)
    assert (clear["basis"], clear["probability"], clear["posterior"]) == ("vote_share", None, None)
    # Entropy of (1/3, 2/3, 0) in bits: log2(3) - 2/3 = 0.918296.
    assert clear["entropy"] == pytest.approx(0.918296, abs=1e-6)
    tied = rows["tied"]
    assert (tied["label"], tied["majority_label"], tied["is_tie"], tied["violating"]) == (None, None, True, None)
    skipped = rows["skipped"]
    assert (skipped["label"], skipped["n_votes"], skipped["n_abstain"], skipped["posterior"], skipped["entropy"]) == (
        None,
        0,
        1,
        None,
        None,
    )
    assert (rows["half"]["label"], rows["half"]["n_votes"], rows["half"]["n_abstain"]) == ("severe", 1, 1)


def test_gold_goes_before_adjudication_goes_before_votes(small: SmallHome) -> None:
    small.deliver("labels", "f.jsonl", [
        vote("i", "r1", "mild"), vote("i", "r2", "mild"),
        vote("i", "boss", "none", kind="adjudication"), vote("i", "desk", "severe", kind="gold"),
        vote("j", "r1", "mild"), vote("j", "boss", "none", kind="adjudication"),
        vote("k", "desk", "severe", kind="gold"),
    ])  # fmt: skip
    rows = consensus(small)
    assert [(rows[i]["label"], rows[i]["method"], rows[i]["probability"]) for i in "ijk"] == [
        ("severe", "gold", 1.0), ("none", "adjudication", 1.0), ("severe", "gold", 1.0),
    ]  # fmt: skip
    assert (rows["i"]["majority_label"], rows["i"]["gold_label"], rows["i"]["n_votes"]) == ("mild", "severe", 2)
    assert (rows["k"]["n_votes"], rows["k"]["vote_share"], rows["k"]["basis"]) == (0, None, "authority")


def test_the_window_joins_days_and_a_vote_delivered_twice_counts_once(small: SmallHome) -> None:
    small.deliver("labels", "f.jsonl", [vote("i", "r1", "mild", vote_id="v1"), vote("old", "r1", "mild")])
    small.deliver(
        "labels",
        "f.jsonl",
        [vote("i", "r1", "mild", vote_id="v1"), vote("i", "r2", "mild"), vote("i", "r1", "none")],
        NEXT,
    )
    rows = consensus(small, DAY, NEXT)
    # Only items voted on that day; r1's later vote is a repeat, and levels counts the first.
    assert set(rows) == {"i"}
    assert (rows["i"]["n_votes"], rows["i"]["n_raters"], rows["i"]["label"]) == (2, 2, "mild")


def test_gold_is_not_forgotten_when_it_leaves_the_window(small: SmallHome) -> None:
    later = DAY + timedelta(days=40)
    small.deliver("labels", "f.jsonl", [vote("i", "desk", "severe", kind="gold")])
    small.deliver("labels", "f.jsonl", [vote("i", "r1", "none")], later)
    w = small.warehouse
    for day in (DAY, later):
        small.ingest(day)
        w.write(CONSENSUS, consensus_labels(w.scan(VOTES, [day]), small.policies, day), day)
    assert latest_consensus(w.scan(CONSENSUS)).collect()["label"].to_list() == ["severe"]


def test_a_vendor_who_numbers_votes_anew_every_day_loses_none(small: SmallHome) -> None:
    small.deliver("labels", "f.jsonl", [vote("i", "r1", "mild", vote_id="1")])
    small.deliver(
        "labels", "f.jsonl", [vote("i", "r2", "mild", vote_id="2"), vote("j", "r1", "mild", vote_id="1")], NEXT
    )
    assert consensus(small, DAY, NEXT)["i"]["n_votes"] == 2


def test_anonymous_votes_count_one_each(small: SmallHome) -> None:
    small.deliver(
        "labels", "f.jsonl", [vote("i", None, "bad", "harassment")] * 2 + [vote("i", None, "fine", "harassment")]
    )
    row = consensus(small)["i"]
    assert (row["n_votes"], row["n_raters"], row["majority_label"], row["method"]) == (3, 3, "bad", "dawid_skene")


def test_rater_cards_against_the_others_worked_by_hand(small: SmallHome) -> None:
    # On i the others of r1 say mild, mild: r1 (none) is wrong. The others of r2 are none, mild: tied, not compared.
    small.deliver("labels", "f.jsonl", [
        vote("i", "r1", "none", seconds=10, pool="p"), vote("i", "r2", "mild", seconds=20), vote("i", "r3", "mild"),
        vote("j", "r1", "severe", seconds=30), vote("j", "r2", "severe"),
    ])  # fmt: skip
    small.ingest()
    cards = {r["rater_id"]: r for r in rater_cards(small.warehouse.scan(VOTES), small.policies, DAY).to_dicts()}
    r1, r3 = cards["r1"], cards["r3"]
    assert (r1["n_votes"], r1["n_compared"], r1["accuracy"], r1["accuracy_basis"]) == (
        2,
        2,
        0.5,
        "leave_one_out_consensus",
    )
    # Wilson interval of 1 in 2: centre 0.5, half-width 0.4055.
    assert (r1["ci_low"], r1["ci_high"]) == (pytest.approx(0.0945, abs=1e-4), pytest.approx(0.9055, abs=1e-4))
    assert r1["bias"] == pytest.approx(-0.5)
    assert (r1["median_seconds"], r1["pool"]) == (20.0, "p")
    # All raters' compared votes: (mild, none) from r1, (severe, severe) from r1 and r2. A rate is (n + 10 x that of
    # all) / (votes on the reference + 10): of the one vote on mild (1 + 10 x 1) / (1 + 10).
    assert r1["confusion"] == [
        {"reference": "mild", "label": "none", "n": 1, "rate": 1.0},
        {"reference": "severe", "label": "severe", "n": 1, "rate": 1.0},
    ]
    assert (cards["r2"]["n_compared"], cards["r2"]["accuracy"]) == (1, 1.0)
    assert (r3["n_compared"], r3["accuracy"], r3["accuracy_basis"], r3["ci_low"]) == (0, None, None, None)


def test_rater_cards_use_gold_where_there_is_gold(small: SmallHome) -> None:
    small.deliver("labels", "f.jsonl", [
        vote("i", "r1", "mild"), vote("i", "r2", "none"), vote("i", "desk", "none", kind="gold"),
        vote("j", "r1", "mild"), vote("j", "r2", "mild"),
    ])  # fmt: skip
    small.ingest()
    cards = {r["rater_id"]: r for r in rater_cards(small.warehouse.scan(VOTES), small.policies, DAY).to_dicts()}
    assert (cards["r1"]["accuracy"], cards["r1"]["n_compared"], cards["r1"]["accuracy_basis"]) == (0.0, 1, "gold")
    # Beside it, always, how the rater stands to the others: r2 says none on i and mild on j.
    assert (cards["r1"]["others_accuracy"], cards["r1"]["n_others"]) == (0.5, 2)
    assert (cards["r2"]["accuracy"], cards["r2"]["n_compared"]) == (1.0, 1)
    assert "desk" not in cards


def test_empty_window_gives_empty_tables(small: SmallHome) -> None:
    small.ingest()
    votes = small.warehouse.scan(VOTES)
    assert consensus_labels(votes, small.policies, DAY).is_empty()
    assert rater_cards(votes, small.policies, DAY).is_empty()
    assert consensus_labels(pl.LazyFrame(schema=VOTES.schema), small.policies, DAY).schema.names()[:2] == [
        "item_id",
        "policy",
    ]


def cards_of(small: SmallHome, votes: list[dict[str, Any]], policy: str = "levels") -> dict[str, dict[str, Any]]:
    small.deliver("labels", "f.jsonl", votes)
    small.ingest()
    rows = rater_cards(small.warehouse.scan(VOTES), small.policies, DAY).filter(policy=policy).to_dicts()
    return {r["rater_id"]: r for r in rows}


def test_a_rater_who_is_too_severe_drifts_and_hurries_is_shown(small: SmallHome) -> None:
    votes: list[dict[str, Any]] = []
    for n in range(60):
        truth = ("none", "mild")[n % 2]
        when = f"2026-11-{1 + n // 3:02d}T12:00:00Z"
        votes += [vote(f"i{n}", f"good{k}", truth, labeled_at=when, seconds=20 + n % 7) for k in range(3)]
        # Right for ten days, then one step too high; and quick when wrong.
        wrong = n >= 30
        label = {"none": "mild", "mild": "severe"}[truth] if wrong else truth
        votes.append(vote(f"i{n}", "hasty", label, labeled_at=when, seconds=2 + n % 3 if wrong else 30 + n % 3))
    cards = cards_of(small, votes)
    hasty, good = cards["hasty"], cards["good0"]
    assert (hasty["others_accuracy"], hasty["n_others"]) == (0.5, 60)
    # Half of the votes one rank too high: mean 0.5; standard error .504 / sqrt(60) = .0651, t with 59 degrees 2.001.
    assert hasty["severity_bias"] == pytest.approx(0.5)
    assert (hasty["severity_low"], hasty["severity_high"]) == (
        pytest.approx(0.3698, abs=1e-3), pytest.approx(0.6302, abs=1e-3),
    )  # fmt: skip
    # Least squares through 10 days right, 10 days wrong: slope -(n^2 / 4 / 2) / (n (n^2 - 1) / 12) a day, n = 20:
    # -50 / 665 = -0.0752 a day, -0.526 a week.
    assert hasty["drift_per_week"] == pytest.approx(-0.5263, abs=1e-3)
    assert hasty["drift_high"] < 0
    assert hasty["drift_p"] < 0.001
    assert hasty["speed_gap"] == pytest.approx(1.0)
    assert hasty["apart"] == pytest.approx(-0.5)
    assert hasty["apart_p"] < 0.001
    assert hasty["pair_agreement"] == pytest.approx(0.5)
    assert (good["severity_bias"], good["drift_per_week"]) == (pytest.approx(0), pytest.approx(0))
    assert good["severity_low"] is None
    rates = {(c["reference"], c["label"]): c for c in hasty["confusion"]}
    # On none 15 right of 30; all raters: 105 of 120. Shrunk: (15 + 10 x .875) / 40 = .59375.
    assert rates["none", "none"]["n"] == 15
    assert rates["none", "none"]["rate"] == pytest.approx(0.59375)


def test_repeats_tell_how_steady_a_rater_is(small: SmallHome) -> None:
    cards = cards_of(small, [
        vote("i", "r1", "mild"), vote("i", "r1", "mild"), vote("j", "r1", "mild"), vote("j", "r1", "none"),
        vote("k", "r1", "mild"), vote("i", "r2", "mild"),
    ])  # fmt: skip
    assert (cards["r1"]["n_repeats"], cards["r1"]["repeat_agreement"]) == (2, 0.5)
    assert (cards["r2"]["n_repeats"], cards["r2"]["repeat_agreement"]) == (0, None)


def test_too_few_votes_give_no_interval_and_unordered_labels_no_severity(small: SmallHome) -> None:
    votes = [vote(f"i{n}", f"r{k}", ("fine", "bad")[n % 2], "harassment") for n in range(5) for k in range(3)]
    card = cards_of(small, votes, "harassment")["r0"]
    for name in ("severity_low", "drift_per_week", "drift_p", "speed_gap", "apart_low", "apart_p", "pair_low"):
        assert card[name] is None, name


@pytest.mark.slow
def test_rater_cards_cost_at_most_three_times_the_consensus_however_many_raters(small: SmallHome) -> None:
    """200,000 votes of 4,000 raters; CPU seconds of the same process, the better of two runs each."""
    n, rng = 200_000, np.random.default_rng(4)
    item, truth = np.arange(n) // 4, np.repeat(rng.integers(0, 3, n // 4), 4)
    label = np.where(rng.random(n) < 0.8, truth, rng.integers(0, 3, n))
    votes = VOTES.filled(
        pl.LazyFrame(
            {
                "vote_id": [f"v{k}" for k in range(n)],
                "item_id": [f"i{k:06d}" for k in item],
                "rater_id": [f"r{k}" for k in (item * 31 + np.arange(n) % 4 * 977) % 4000],
                "policy": "levels",
                "label": np.array(["none", "mild", "severe"])[label],
                "kind": "vote",
                "is_current": True,
                "is_abstain": False,
                "seconds": rng.gamma(3, 4, n),
                "drop_date": [DAY - timedelta(days=int(k) % 28) for k in item],
                "drop_file": "f.jsonl",
                "drop_line": np.arange(n) + 1,
            }
        )
    ).collect()

    def cost(work: Callable[[], pl.DataFrame]) -> float:
        found = []
        for _ in range(2):
            before = time.process_time()
            assert work().height
            found.append(time.process_time() - before)
        return min(found)

    lazy = votes.lazy()
    labels = cost(lambda: consensus_labels(lazy, small.policies, DAY, {"levels": "dawid_skene"}))
    cards = cost(lambda: rater_cards(lazy, small.policies, DAY))
    assert cards <= 3 * labels, (cards, labels)
