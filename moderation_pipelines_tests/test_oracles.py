"""Against outside implementations on random data with missing votes. They live in an environment of their own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from moderation_pipelines.agreement.formulas import ChanceModel, krippendorff_alpha, linearised
from moderation_pipelines.agreement.pack import agreement
from moderation_pipelines.agreement.raters import cohen_kappas, conger_kappa
from moderation_pipelines.agreement.slices import Slice, slices_of
from moderation_pipelines.consensus.confusion_models import dawid_skene, one_coin
from moderation_pipelines.consensus.crowdlab import crowdlab
from moderation_pipelines.consensus.glad_model import glad
from moderation_pipelines.votes.by_item import item_votes
from moderation_pipelines.votes.matrix import VoteMatrix, vote_matrix
from moderation_pipelines.votes.scale import Scale, Weighting, agreement_weights
from moderation_pipelines_tests.oracles.environment import oracle_python

pytestmark = pytest.mark.slow
EXACT = 1e-9
MODELS: dict[str, ChanceModel] = {"gwet": "gwet", "fleiss": "fleiss", "bp": "brennan_prediger"}
WEIGHTINGS: tuple[Weighting, ...] = ("identity", "linear", "quadratic", "ordinal")
Ratings = list[list[int | None]]


def asked(questions: list[dict[str, Any]]) -> list[Any]:
    """The oracles' answers, all from one process."""
    python = oracle_python()
    assert python is not None, "the oracle environment could not be made: is the package registry in reach?"
    script = Path(__file__).parent / "oracles" / "answers.py"
    done = subprocess.run(
        [python, str(script)], input=json.dumps(questions), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


def ratings_of(seed: int, n_items: int = 80, n_raters: int = 5, n_labels: int = 4, missing: float = 0.35) -> Ratings:
    """Random labels 1 to n around a true one, with missing votes; every item has a vote, every label is used."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(1, n_labels + 1, n_items)
    rows: Ratings = []
    for t in truth:
        row: list[int | None] = [int(np.clip(t + rng.integers(-1, 2), 1, n_labels)) for _ in range(n_raters)]
        row = [None if rng.random() < missing else x for x in row]
        rows.append(row if any(x is not None for x in row) else [int(t), *row[1:]])
    return [*rows, *([k, k, *[None] * (n_raters - 2)] for k in range(1, n_labels + 1))]


def slice_of(ratings: Ratings, scale: Scale) -> Slice:
    votes = [
        {"item_id": f"i{i}", "rater_id": f"r{j}", "label": str(x)}
        for i, row in enumerate(ratings)
        for j, x in enumerate(row)
        if x is not None
    ]
    (sliced,) = slices_of(item_votes(pl.LazyFrame(votes), scale))
    return sliced


def scale_of(n_labels: int) -> Scale:
    labels = tuple(str(k) for k in range(1, n_labels + 1))
    return Scale(labels, "ratio", tuple(float(k) for k in range(1, n_labels + 1)))


def test_alpha_on_every_scale() -> None:
    cases = [ratings_of(seed, n_labels=2 + seed % 4, missing=0.1 * (seed % 7)) for seed in range(8)]
    levels = ("nominal", "ordinal", "interval", "ratio")
    answers = asked([{"ask": "alpha", "ratings": r, "level": level} for r in cases for level in levels])
    for k, ratings in enumerate(cases):
        scale = scale_of(2 + k % 4)
        samples = slice_of(ratings, scale).patterns.as_seen()
        for level, answer in zip(levels, answers[4 * k :], strict=False):
            found = krippendorff_alpha(samples, level, scale.places)[0]  # type: ignore[arg-type]
            assert found == pytest.approx(answer, abs=EXACT), (k, level)


def test_chance_corrected_coefficients_and_their_standard_errors() -> None:
    cases = [ratings_of(seed, n_labels=2 + seed % 3, missing=0.1 * (seed % 6)) for seed in range(6)]
    questions = [
        {"ask": "chance_corrected", "ratings": r, "weights": w, "categories": list(range(1, 3 + k % 3))}
        for k, r in enumerate(cases)
        for w in WEIGHTINGS
    ]
    answers = iter(asked(questions))
    for k, ratings in enumerate(cases):
        scale = scale_of(2 + k % 3)
        sliced = slice_of(ratings, scale)
        for weighting in WEIGHTINGS:
            answer = next(answers)
            for name, model in MODELS.items():
                found = linearised(sliced.patterns, model, agreement_weights(scale, weighting))
                assert found.value == pytest.approx(answer[name]["value"], abs=EXACT), (k, weighting, name)
                se = found.standard_error(sliced.patterns.items)
                assert se == pytest.approx(answer[name]["se"], abs=EXACT), (k, weighting, name)
            if weighting == "identity":
                conger = conger_kappa(sliced)
                assert conger.value == pytest.approx(answer["conger"]["value"], abs=EXACT)
                assert conger.se == pytest.approx(answer["conger"]["se"], abs=EXACT)


def test_cohens_kappa_plain_and_weighted() -> None:
    rng = np.random.default_rng(2)
    tables = [(rng.integers(0, 30, (k, k)) + 20 * np.eye(k)).tolist() for k in (2, 3, 4, 5)]
    for table, answer in zip(tables, asked([{"ask": "cohen", "table": t} for t in tables]), strict=True):
        scale = scale_of(len(table))
        for weighting in ("identity", "linear", "quadratic"):
            found = cohen_kappas(np.array([table], dtype=np.float64), agreement_weights(scale, weighting))  # type: ignore[arg-type]
            assert found.value[0] == pytest.approx(answer[weighting], abs=EXACT)
            assert found.se[0] == pytest.approx(answer[f"{weighting} se"], abs=EXACT)


def test_alpha_of_sets() -> None:
    rng = np.random.default_rng(3)
    units = [[sorted(set(rng.choice(list("abcd"), rng.integers(1, 4)))) for _ in range(3)] for _ in range(25)]
    (answer,) = asked([{"ask": "masi_alpha", "units": [[[str(x) for x in s] for s in u] for u in units]}])
    votes = [
        {"item_id": f"i{i}", "rater_id": f"r{j}", "label": "|".join(s)}
        for i, unit in enumerate(units)
        for j, s in enumerate(unit)
    ]
    found = agreement(pl.DataFrame(votes), "set", replicates=10)
    assert found.filter(coefficient="krippendorff_alpha_masi")["value"][0] == pytest.approx(answer, abs=EXACT)


def random_votes(seed: int, n_items: int = 150, n_raters: int = 9, n_labels: int = 3) -> VoteMatrix:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_labels, n_items)
    skill = rng.uniform(0.55, 0.95, n_raters)
    pairs = [(i, j) for i in range(n_items) for j in rng.choice(n_raters, rng.integers(2, 6), replace=False)]
    items, raters = np.array(pairs).T
    right = rng.random(len(items)) < skill[raters]
    labels = np.where(right, truth[items], rng.integers(0, n_labels, len(items)))
    return vote_matrix(items, raters, labels, n_items, n_raters, n_labels)


def triples(votes: VoteMatrix) -> list[list[int]]:
    return np.stack([votes.item_of_vote, votes.raters, votes.labels], axis=1).tolist()


def test_dawid_skene_and_one_coin_step_for_step() -> None:
    votes = random_votes(1)
    steps = (1, 2, 5, 20)
    methods = {"dawid_skene": dawid_skene, "one_coin": one_coin}
    answers = iter(
        asked(
            [
                {"ask": "posterior", "votes": triples(votes), "method": m, "iterations": k, "n_labels": 3}
                for m in methods
                for k in steps
            ]
        )
    )
    for method in methods.values():
        for k in steps:
            found = method(votes, smoothing=0, restarts=1, max_iterations=k, tolerance=-1)
            # The oracle bounds probabilities at 1e-10 where ours have a prior of 1e-9 votes.
            assert np.abs(found.posterior - np.array(next(answers))).max() < 1e-6, (method.__name__, k)


def test_glad_finds_the_same_labels() -> None:
    votes = random_votes(2, 120, 8)
    (answer,) = asked(
        [{"ask": "posterior", "votes": triples(votes), "method": "glad", "iterations": 20, "n_labels": 3}]
    )
    same = glad(votes).posterior.argmax(axis=1) == np.array(answer).argmax(axis=1)
    # The priors differ (ours is on the logarithm of easiness, and estimates label shares), so not to the digit.
    assert same.mean() > 0.95


def test_crowdlab_gives_the_same_weights_and_qualities() -> None:
    votes = random_votes(3, 200, 8)
    rng = np.random.default_rng(4)
    probabilities = rng.dirichlet(np.ones(3), 200) * 0.4 + 0.6 * votes.shares
    ratings: Ratings = [[None] * 8 for _ in range(200)]
    for i, j, label in triples(votes):
        ratings[i][j] = label
    (answer,) = asked([{"ask": "crowdlab", "ratings": ratings, "probabilities": probabilities.tolist()}])
    found = crowdlab(votes, probabilities)
    assert found.judge_weight == pytest.approx(answer["model_weight"], abs=1e-6)
    assert found.rater_weight == pytest.approx(answer["annotator_weight"], abs=1e-6)
    label = np.array(answer["label"])
    quality = found.posterior[np.arange(200), label]
    assert np.abs(quality - np.array(answer["quality"])).max() < 1e-6
