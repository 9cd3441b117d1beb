"""Every coefficient against published worked examples. Values and sources stand beside them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import polars as pl
import pytest

from moderation_pipelines.agreement.formulas import (
    ChanceModel,
    krippendorff_alpha,
    linearised,
    percent_agreement,
    specific_agreement,
)
from moderation_pipelines.agreement.pack import agreement, intra_rater_agreement
from moderation_pipelines.agreement.patterns import Patterns
from moderation_pipelines.agreement.raters import cohen_kappas, conger_kappa
from moderation_pipelines.agreement.slices import Slice, slices_of
from moderation_pipelines.votes.by_item import item_votes
from moderation_pipelines.votes.scale import Scale, Weighting, agreement_weights, masi_distance, scale_of_votes

# Gwet (2014), Handbook of Inter-Rater Reliability, 4th ed.; printed with results in the vignettes "overview" and
# "weighting" of the R package irrCAC 1.0 (Gwet 2019). Rows are items, columns raters, 0 is missing.
FOUR_RATERS = [
    [1, 1, 0, 1], [2, 2, 3, 2], [3, 3, 3, 3], [3, 3, 3, 3], [2, 2, 2, 2], [1, 2, 3, 4], [4, 4, 4, 4], [1, 1, 2, 1],
    [2, 2, 2, 2], [0, 5, 5, 5], [0, 0, 1, 1], [0, 0, 3, 0],
]  # fmt: skip
# The same source, datasets of chapter 2 onwards as shipped with irrCAC, here with every label one higher: 0 is missing.
FIVE_OBSERVERS = [
    [2, 2, 3, 0, 3], [2, 2, 1, 2, 0], [3, 4, 4, 4, 0], [0, 1, 1, 0, 1], [1, 1, 1, 0, 1], [1, 1, 1, 0, 1],
    [2, 1, 3, 0, 2], [2, 0, 3, 1, 0], [3, 3, 3, 0, 3], [3, 2, 2, 2, 0], [0, 2, 1, 1, 0], [1, 1, 1, 1, 0],
    [2, 3, 3, 3, 0], [4, 4, 3, 3, 4], [2, 2, 2, 0, 2],
]  # fmt: skip
BEN_AND_GERRY = [[1, 2], [1, 1], [2, 2], [2, 2], [4, 2], [3, 3], [3, 3], [3, 3], [5, 5], [4, 0], [4, 4], [1, 4]]
GENDER = [
    [1, 1, 1, 3], [1, 1, 2, 3], [1, 1, 2, 3], [1, 1, 3, 3], [1, 2, 1, 1], [2, 1, 1, 1], [2, 2, 2, 2], [2, 3, 2, 2],
    [3, 3, 3, 3], [1, 1, 1, 3], [1, 1, 2, 3], [1, 1, 2, 3], [1, 1, 3, 3], [1, 2, 1, 1], [2, 1, 1, 1],
]  # fmt: skip
# (data, weights, model): value, standard error; printed to the digits given.
GWET: list[tuple[list[list[int]], Weighting, ChanceModel, float, float, float]] = [
    (FOUR_RATERS, "identity", "gwet", 0.77544, 0.14295, 6e-6),
    (FOUR_RATERS, "identity", "fleiss", 0.76117, 0.15302, 6e-6),
    (FOUR_RATERS, "identity", "brennan_prediger", 0.77273, 0.14472, 6e-6),
    (FOUR_RATERS, "quadratic", "gwet", 0.91400, 0.10396, 6e-6),
    (FOUR_RATERS, "quadratic", "fleiss", 0.86494, 0.14603, 6e-6),
    (FOUR_RATERS, "quadratic", "brennan_prediger", 0.90152, 0.11089, 6e-6),
    (FOUR_RATERS, "linear", "gwet", 0.859, 0.117, 6e-4),
    (FOUR_RATERS, "ordinal", "gwet", 0.899, 0.107, 6e-4),
    (FOUR_RATERS, "ratio", "gwet", 0.857, 0.122, 6e-4),
    (FOUR_RATERS, "radical", "gwet", 0.820, 0.128, 6e-4),
    (FIVE_OBSERVERS, "identity", "gwet", 0.497, 0.122, 6e-4),
    (GENDER, "identity", "gwet", 0.208, 0.091, 6e-4),
    (BEN_AND_GERRY, "identity", "gwet", 0.661, 0.184, 6e-4),
]
# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability: examples A (binary), B (nominal) and C, of which the
# last digits are from the exercise's own arithmetic.
EXAMPLE_A = ["0100000010", "1110010000"]
EXAMPLE_B = ["aabbdcccedda", "babbbccceddd"]
EXAMPLE_C = ["123321412...", "1233224125.3", ".3332342251.", "12332441251."]
# Fleiss (1971), Psychological Bulletin 76, 378-382, Table 1: 30 patients, six psychiatrists, five diagnoses.
FLEISS = [
    [0, 0, 0, 6, 0], [0, 3, 0, 0, 3], [0, 1, 4, 0, 1], [0, 0, 0, 0, 6], [0, 3, 0, 3, 0], [2, 0, 4, 0, 0],
    [0, 0, 4, 0, 2], [2, 0, 3, 1, 0], [2, 0, 0, 4, 0], [0, 0, 0, 0, 6], [1, 0, 0, 5, 0], [1, 1, 0, 4, 0],
    [0, 3, 3, 0, 0], [1, 0, 0, 5, 0], [0, 2, 0, 3, 1], [0, 0, 5, 0, 1], [3, 0, 0, 1, 2], [5, 1, 0, 0, 0],
    [0, 2, 0, 4, 0], [1, 0, 2, 0, 3], [0, 0, 0, 0, 6], [0, 1, 0, 5, 0], [0, 2, 0, 1, 3], [2, 0, 0, 4, 0],
    [1, 0, 0, 4, 1], [0, 5, 0, 1, 0], [4, 0, 0, 0, 2], [0, 2, 0, 4, 0], [1, 0, 5, 0, 0], [0, 0, 0, 0, 6],
]  # fmt: skip
# The worked example of Wikipedia's page on Fleiss' kappa: 10 subjects, 14 raters; .210.
WIKIPEDIA = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1], [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


def votes_of_rows(rows: Sequence[Sequence[object]], missing: object = 0) -> pl.LazyFrame:
    """Votes from a table of items x raters."""
    found = [
        {"item_id": f"i{i}", "rater_id": f"r{j}", "label": str(label)}
        for i, row in enumerate(rows)
        for j, label in enumerate(row)
        if label != missing
    ]
    return pl.LazyFrame(found)


def only_slice(votes: pl.LazyFrame, scale: Scale) -> Slice:
    (sliced,) = slices_of(item_votes(votes, scale))
    return sliced


def patterns_of(counts: Sequence[Sequence[int]]) -> Patterns:
    return Patterns(np.array(counts, dtype=np.float64), np.ones(len(counts)))


@pytest.mark.parametrize(("data", "weighting", "model", "value", "se", "digits"), GWET)
def test_gwets_tables(
    data: list[list[int]], weighting: Weighting, model: ChanceModel, value: float, se: float, digits: float
) -> None:
    votes = votes_of_rows(data)
    scale = scale_of_votes(votes, "interval")
    patterns = only_slice(votes, scale).patterns
    found = linearised(patterns, model, agreement_weights(scale, weighting))
    assert found.value == pytest.approx(value, abs=digits)
    assert found.standard_error(patterns.items) == pytest.approx(se, abs=digits)


@pytest.mark.parametrize(
    ("data", "weighting", "expected"),
    [
        # The same vignettes: percent agreement .8181818, with quadratic weights .9753788; five observers .616.
        (FOUR_RATERS, "identity", 0.8181818),
        (FOUR_RATERS, "quadratic", 0.9753788),
        (FIVE_OBSERVERS, "identity", 0.615556),
    ],
)
def test_percent_agreement(data: list[list[int]], weighting: Weighting, expected: float) -> None:
    votes = votes_of_rows(data)
    scale = scale_of_votes(votes, "interval")
    samples = only_slice(votes, scale).patterns.as_seen()
    assert percent_agreement(samples, agreement_weights(scale, weighting))[0] == pytest.approx(expected, abs=6e-7)


def test_prevalence_of_the_published_chance_terms() -> None:
    # The same vignette prints AC1's chance agreement of the four raters, .1903212 = sum pi (1 - pi) / 4, and Fleiss'
    # .2387153 = sum pi^2: both hold only for the right prevalences.
    votes = votes_of_rows(FOUR_RATERS)
    (shares,) = only_slice(votes, scale_of_votes(votes, "nominal")).patterns.as_seen().shares
    assert (shares * (1 - shares)).sum() / 4 == pytest.approx(0.1903212, abs=1e-7)
    assert (shares**2).sum() == pytest.approx(0.2387153, abs=1e-7)


@pytest.mark.parametrize(
    ("data", "value", "se", "digits"),
    [
        (FOUR_RATERS, 0.76282, 0.14917, 6e-6),
        (FIVE_OBSERVERS, 0.469, 0.117, 6e-4),
        (GENDER, 0.166, 0.121, 6e-4),
        (BEN_AND_GERRY, 0.657, 0.179, 6e-4),
    ],
)
def test_congers_kappa(data: list[list[int]], value: float, se: float, digits: float) -> None:
    votes = votes_of_rows(data)
    found = conger_kappa(only_slice(votes, scale_of_votes(votes, "nominal")))
    assert (found.value, found.se) == (pytest.approx(value, abs=digits), pytest.approx(se, abs=digits))


def test_congers_kappa_of_fleiss_table() -> None:
    # "Exact" kappa of the diagnoses data in the manual of the R package irr: .442. Its six columns are in no order of
    # raters; the published value takes them left to right as sorted.
    rows = [[str(k) for k, n in enumerate(counts) for _ in range(n)] for counts in FLEISS]
    votes = votes_of_rows(rows, missing=None)
    assert conger_kappa(only_slice(votes, scale_of_votes(votes, "nominal"))).value == pytest.approx(0.442, abs=6e-4)


@pytest.mark.parametrize(("counts", "expected", "digits"), [(FLEISS, 0.430245, 1e-6), (WIKIPEDIA, 0.210, 6e-4)])
def test_fleiss_kappa(counts: list[list[int]], expected: float, digits: float) -> None:
    assert linearised(patterns_of(counts), "fleiss", np.eye(5)).value == pytest.approx(expected, abs=digits)


@pytest.mark.parametrize(
    ("counts", "fixed", "free"),
    [([[7, 1], [3, 5]], 0.161905, 0.214286), ([[6, 1, 0], [0, 7, 0]], 0.708333, 0.785714)],
)
def test_free_marginal_kappa_is_brennan_and_predigers(counts: list[list[int]], fixed: float, free: float) -> None:
    # Randolph's online kappa calculator, as quoted in the tests of statsmodels (both tables: raters per category).
    patterns, weights = patterns_of(counts), np.eye(len(counts[0]))
    assert linearised(patterns, "fleiss", weights).value == pytest.approx(fixed, abs=1e-6)
    assert linearised(patterns, "brennan_prediger", weights).value == pytest.approx(free, abs=1e-6)


@pytest.mark.parametrize(
    ("rows", "metric", "expected", "digits"),
    [
        (EXAMPLE_A, "nominal", 0.095, 6e-4),
        (EXAMPLE_B, "nominal", 0.692, 6e-4),
        (EXAMPLE_C, "nominal", 0.743421, 1e-6),
        (EXAMPLE_C, "ordinal", 0.815388, 1e-6),
        (EXAMPLE_C, "interval", 0.849107, 1e-6),
        (EXAMPLE_C, "ratio", 0.797403, 1e-6),
    ],
)
def test_krippendorffs_own_examples(rows: list[str], metric: str, expected: float, digits: float) -> None:
    votes = votes_of_rows(list(zip(*rows, strict=True)), missing=".")
    numeric = metric in ("interval", "ratio")
    scale = scale_of_votes(votes, "interval" if numeric else "nominal")
    places = scale.places if numeric else None
    samples = only_slice(votes, scale).patterns.as_seen()
    assert krippendorff_alpha(samples, metric, places)[0] == pytest.approx(expected, abs=digits)  # type: ignore[arg-type]


# The example of Wikipedia's page on Krippendorff's alpha: three raters, fifteen units.
WIKIPEDIA_ALPHA = ["*****34121133*3", "1*213343*******", "**21344*21133*4"]


@pytest.mark.parametrize(("metric", "expected"), [("nominal", 0.691358), ("interval", 0.810845)])
def test_a_second_alpha_with_missing_votes(metric: str, expected: float) -> None:
    votes = votes_of_rows(list(zip(*WIKIPEDIA_ALPHA, strict=True)), missing="*")
    samples = only_slice(votes, scale_of_votes(votes, "interval")).patterns.as_seen()
    assert krippendorff_alpha(samples, metric)[0] == pytest.approx(expected, abs=1e-6)  # type: ignore[arg-type]


# Two raters' tables with Cohen's kappa and its standard error: plain, then weighted.
COHEN = [
    # SAS PROC FREQ output quoted in the tests of statsmodels: kappa .4842 (.1380), linear .4701 (.1457).
    ([[0, 4, 1], [0, 8, 0], [0, 1, 5]], "identity", 0.4842, 0.1380),
    ([[0, 4, 1], [0, 8, 0], [0, 1, 5]], "linear", 0.4701, 0.1457),
    # SAS PROC FREQ documentation, two dermatologists: kappa .3449 (.0724), linear .5082 (.0655).
    ([[10, 4, 1, 0], [5, 10, 12, 2], [2, 4, 12, 5], [0, 2, 6, 13]], "identity", 0.3449, 0.0724),
    ([[10, 4, 1, 0], [5, 10, 12, 2], [2, 4, 12, 5], [0, 2, 6, 13]], "linear", 0.5082, 0.0655),
    # Gwet (2014), abstractors' table, with n - 1 turned into n: kappa .79641 (.05891), quadratic .89216 (.03535).
    ([[13, 0, 0], [0, 20, 7], [0, 4, 56]], "identity", 0.79641, 0.05891),
    ([[13, 0, 0], [0, 20, 7], [0, 4, 56]], "quadratic", 0.89216, 0.03535),
]


@pytest.mark.parametrize(("table", "weighting", "kappa", "se"), COHEN)
def test_cohens_kappa(table: list[list[int]], weighting: Weighting, kappa: float, se: float) -> None:
    scale = Scale(tuple(str(k) for k in range(len(table))), "ordinal")
    found = cohen_kappas(np.array([table], dtype=np.float64), agreement_weights(scale, weighting))
    assert (found.value[0], found.se[0]) == (pytest.approx(kappa, abs=6e-5), pytest.approx(se, abs=6e-5))


@pytest.mark.parametrize(
    ("weights", "kappa"),
    [
        # Cohen (1968), Psychological Bulletin 70, 213-220, Table 1: kappa .492, weighted .348.
        (np.eye(3), 0.492),
        (1 - np.array([[0, 1, 3], [1, 0, 6], [3, 6, 0]]) / 6, 0.348),
    ],
)
def test_cohens_own_weighted_example(weights: np.ndarray, kappa: float) -> None:
    table = np.array([[[88, 14, 18], [10, 40, 10], [2, 6, 12]]], dtype=np.float64)
    assert cohen_kappas(table, weights).value[0] == pytest.approx(kappa, abs=6e-4)


def test_two_raters_without_missing_votes_make_conger_and_cohen_one() -> None:
    table = np.array([[13, 0, 0], [0, 20, 7], [0, 4, 56]])
    rows = [(str(a), str(b)) for a in range(3) for b in range(3) for _ in range(table[a, b])]
    found = agreement(votes_of_rows(rows), Scale(("0", "1", "2")), replicates=100)
    of = {r["coefficient"]: r for r in found.to_dicts()}
    assert of["conger_kappa"]["value"] == pytest.approx(of["cohen_kappa"]["value"], abs=1e-12)
    # Conger's standard error has n (n - 1) where Cohen's has n squared.
    assert of["conger_kappa"]["se"] * (99 / 100) ** 0.5 == pytest.approx(of["cohen_kappa"]["se"], abs=1e-12)


def test_specific_agreement_of_two_raters() -> None:
    # Feinstein & Cicchetti (1990), Journal of Clinical Epidemiology 43, 543-549: agreement .85 in both tables, positive
    # 2 x 40 / (80 + 15) = .842 and 2 x 80 / (160 + 15) = .914; negative 2 x 45 / (90 + 15) and 2 x 5 / (10 + 15).
    for (a, b, c, d), positive, negative in (((40, 9, 6, 45), 80 / 95, 90 / 105), ((80, 10, 5, 5), 160 / 175, 10 / 25)):
        patterns = Patterns(np.array([[2.0, 0], [1, 1], [0, 2]]), np.array([a, b + c, d], dtype=np.float64))
        assert specific_agreement(patterns.as_seen())[0] == pytest.approx([positive, negative])
        assert percent_agreement(patterns.as_seen())[0] == pytest.approx(0.85)


def test_specific_agreement_of_many_raters() -> None:
    # Fleiss (1971), section 4, conditional probabilities: .35 .35 .60 .63 .67.
    found = specific_agreement(patterns_of(FLEISS).as_seen())[0]
    assert found == pytest.approx([0.35, 0.35, 0.60, 0.63, 0.67], abs=0.006)


@pytest.mark.parametrize(
    ("a", "b", "distance"),
    [
        # Passonneau (2006), LREC: 1 - J M with M 2/3 for a subset, 1/3 for an overlap. First: example of NLTK's manual.
        ("AB", "ABCD", 2 / 3), ("A", "AB", 2 / 3), ("ABC", "AB", 5 / 9), ("AB", "BC", 8 / 9), ("A", "B", 1.0),
        ("AB", "BA", 0.0), ("", "", 0.0), ("", "A", 1.0),
    ],
)  # fmt: skip
def test_masi_distance(a: str, b: str, distance: float) -> None:
    assert masi_distance(frozenset(a), frozenset(b)) == pytest.approx(distance)


def test_alpha_of_sets_by_masi() -> None:
    # Nine units, two coders (units of DKPro Agreement's test of set annotations), by hand: D_o = (1 + 0 + 1 + 2/3 + ...)
    # / 9 = .543210, D_e = .747277, alpha = .273081.
    units = [
        ("", ""),
        ("A", ""),
        ("A", "A"),
        ("A", "B"),
        ("AB", "A"),
        ("AB", "AC"),
        ("ABC", "ABC"),
        ("C", "AC"),
        ("C", "AC"),
    ]
    rows = [["|".join(s) for s in unit] for unit in units]
    found = agreement(votes_of_rows(rows, missing=None), "set", replicates=100)
    of = {r["coefficient"]: r["value"] for r in found.to_dicts()}
    assert of["krippendorff_alpha"] == of["krippendorff_alpha_masi"] == pytest.approx(0.273081, abs=1e-6)
    observed = [masi_distance(frozenset(a), frozenset(b)) for a, b in units]
    pooled = [frozenset(s) for unit in units for s in unit]
    expected = [masi_distance(a, b) for a, b in itertools.permutations(pooled, 2)]
    assert 1 - np.mean(observed) / np.mean(expected) == pytest.approx(0.273081, abs=1e-6)


def test_raters_against_themselves_by_hand() -> None:
    # r1 saw x twice (a, a) and y twice (a, b); r2 saw x once: nothing to compare. Two pairs, one agrees.
    rows = [("x", "r1", "a"), ("x", "r1", "a"), ("y", "r1", "a"), ("y", "r1", "b"), ("x", "r2", "b"), ("x", None, "a")]
    votes = pl.DataFrame(rows, schema=["item_id", "rater_id", "label"], orient="row")
    of = {r["coefficient"]: r for r in intra_rater_agreement(votes, "nominal", replicates=100).to_dicts()}
    agreed = of["intra_rater_agreement"]
    assert (agreed["value"], agreed["n_items"], agreed["n_votes"]) == (0.5, 2, 4)
    # Coincidences aa 2, ab 1, ba 1 of 4: D_o = 1/2, D_e = 2 x 3 x 1 / (4 x 3) = 1/2, alpha 0.
    assert of["intra_rater_alpha"]["value"] == pytest.approx(0.0)
