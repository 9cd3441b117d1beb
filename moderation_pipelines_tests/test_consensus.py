"""Consensus labels and rater cards, worked by hand and by planted raters."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest

from moderation_pipelines.consensus.dawid_skene import dawid_skene
from moderation_pipelines.consensus.labels import consensus_labels, latest_consensus
from moderation_pipelines.consensus.raters import rater_cards
from moderation_pipelines.tables.schema import CONSENSUS, VOTES
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
    assert clear["probability"] == clear["vote_share"] == pytest.approx(2 / 3)
    # Entropy of (1/3, 2/3, 0) in bits: log2(3) - 2/3 = 0.918296.
    assert clear["entropy"] == pytest.approx(0.918296, abs=1e-6)
    assert [p["probability"] for p in clear["posterior"]] == pytest.approx([1 / 3, 2 / 3, 0])
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
    assert (rows["k"]["n_votes"], rows["k"]["vote_share"]) == (0, None)


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


def planted(
    seed: int, n_items: int = 600, n_raters: int = 12
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(truth, items, raters, labels, confusion) with five votes an item and raters of known confusion."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(3, n_items, p=[0.6, 0.3, 0.1])
    right = rng.uniform(0.6, 0.95, n_raters)
    confusion = np.stack([np.full((3, 3), (1 - r) / 2) + np.eye(3) * (r - (1 - r) / 2) for r in right])
    items = np.repeat(np.arange(n_items), 5)
    raters = np.concatenate([rng.choice(n_raters, 5, replace=False) for _ in range(n_items)])
    labels = np.array([rng.choice(3, p=confusion[j, truth[i]]) for i, j in zip(items, raters, strict=True)])
    return truth, items, raters, labels, confusion


def test_dawid_skene_recovers_planted_raters_and_beats_majority() -> None:
    truth, items, raters, labels, confusion = planted(1)
    fit = dawid_skene(items, raters, labels, 600, 12, 3)
    assert fit.converged
    # About 150 votes per rater on the most frequent label: standard error of a rate at most sqrt(.25/150) = 0.041.
    assert np.abs(fit.confusion[:, 0, 0] - confusion[:, 0, 0]).max() < 4 * 0.041
    counts = np.zeros((600, 3))
    np.add.at(counts, (items, labels), 1)
    assert (fit.posterior.argmax(1) == truth).mean() > (counts.argmax(1) == truth).mean()
    assert fit.posterior.sum(axis=1) == pytest.approx(np.ones(600))


def test_dawid_skene_does_not_depend_on_the_order_of_votes() -> None:
    _, items, raters, labels, _ = planted(2, 200)
    order = np.random.default_rng(0).permutation(len(items))
    a = dawid_skene(items, raters, labels, 200, 12, 3)
    b = dawid_skene(items[order], raters[order], labels[order], 200, 12, 3)
    assert np.abs(a.posterior - b.posterior).max() < 1e-9


def test_the_likelihood_of_dawid_skene_never_falls() -> None:
    _, items, raters, labels, _ = planted(4, 150)
    steps = [
        dawid_skene(items, raters, labels, 150, 12, 3, max_iterations=k, tolerance=0).log_likelihood
        for k in range(1, 25)
    ]
    assert all(b >= a - 1e-9 for a, b in pairwise(steps))


def test_gold_holds_an_item_fixed() -> None:
    items, raters, labels = np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([1, 1, 1])
    fit = dawid_skene(items, raters, labels, 2, 2, 2, gold=np.array([0, -1]))
    assert fit.posterior[0].tolist() == [1.0, 0.0]


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
    assert r1["confusion"] == [
        {"reference": "mild", "label": "none", "n": 1},
        {"reference": "severe", "label": "severe", "n": 1},
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
