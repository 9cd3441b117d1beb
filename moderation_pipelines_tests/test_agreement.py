"""Agreement coefficients against published and hand-worked values."""

from __future__ import annotations

import random

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation_pipelines.agreement import Scale, agreement
from moderation_pipelines.agreement.coefficients import Metric, krippendorff_alpha
from moderation_pipelines.agreement.item_votes import item_votes
from moderation_pipelines.agreement.slices import slices_of

# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, section C: 4 observers, 12 units, labels 1 to 5.
PUBLISHED = [
    "1 2 3 3 2 1 4 1 2 . . .",
    "1 2 3 3 2 2 4 1 2 5 . 3",
    ". 3 3 3 2 3 4 2 2 5 1 .",
    "1 2 3 3 2 4 4 1 2 5 1 .",
]


def published_votes() -> pl.LazyFrame:
    rows = [
        {"item_id": f"u{unit}", "rater_id": f"r{observer}", "label": label}
        for observer, line in enumerate(PUBLISHED)
        for unit, label in enumerate(line.split())
        if label != "."
    ]
    return pl.LazyFrame(rows)


def votes_of(items: dict[str, str]) -> pl.LazyFrame:
    """Votes from {"item": "aab"}: one rater per place."""
    rows = [
        {"item_id": item, "rater_id": f"r{k}", "label": label, "pool": "p"}
        for item, labels in items.items()
        for k, label in enumerate(labels)
    ]
    return pl.LazyFrame(
        rows, schema={"item_id": pl.String, "rater_id": pl.String, "label": pl.String, "pool": pl.String}
    )


def value(
    frame: pl.DataFrame, coefficient: str, slice_value: str | None = None, label: str | None = None
) -> dict[str, object]:
    rows = frame.filter(
        pl.col("coefficient") == coefficient,
        pl.col("slice_value").eq_missing(slice_value),
        pl.col("label").eq_missing(label),
    ).to_dicts()
    assert len(rows) == 1
    return rows[0]


@pytest.mark.parametrize(
    ("coefficient", "expected"),
    [
        ("krippendorff_alpha_nominal", 0.743421),
        ("krippendorff_alpha_ordinal", 0.815388),
        ("krippendorff_alpha_interval", 0.849107),
        ("krippendorff_alpha", 0.815388),
    ],
)
def test_alpha_of_the_published_table(coefficient: str, expected: float) -> None:
    table = agreement(published_votes(), Scale(("1", "2", "3", "4", "5"), "ordinal"), replicates=100)
    row = value(table, coefficient)
    assert row["value"] == pytest.approx(expected, abs=1e-6)
    # One unit has a single value and does not count: 11 units, 40 values, 4 observers.
    assert (row["n_items"], row["n_votes"], row["n_raters"]) == (11, 40, 4)


@pytest.mark.parametrize(("scale", "expected"), [("nominal", 0.743421), ("ordinal", 0.815388), ("interval", 0.849107)])
def test_a_scale_by_its_name_takes_the_labels_of_the_votes(scale: Metric, expected: float) -> None:
    row = value(agreement(published_votes(), scale, replicates=100), "krippendorff_alpha")
    assert row["value"] == pytest.approx(expected, abs=1e-6)


def test_agreement_worked_by_hand() -> None:
    # Two items: aa and ab. Pairs agreeing: 1 and 0, mean 0.5. Coincidences: aa 2, ab 1, ba 1; n_a = 3, n_b = 1, n = 4.
    # D_o = 2/4; D_e = 2*3*1 / (4*3) = 0.5; alpha = 1 - 0.5/0.5 = 0.
    table = agreement(votes_of({"x": "aa", "y": "ab"}), Scale(("a", "b")), replicates=100)
    assert value(table, "percent_agreement")["value"] == 0.5
    assert value(table, "krippendorff_alpha")["value"] == pytest.approx(0.0)
    # Below ten items there is no interval, and the note says so.
    assert value(table, "percent_agreement")["ci_low"] is None
    assert "fewer than 10" in str(value(table, "percent_agreement")["note"])


@pytest.mark.parametrize(
    ("items", "n_items", "said"),
    [
        ({}, 0, "there is no counted vote"),
        ({"x": "a", "y": "b"}, 0, "no item has two or more votes"),
        ({"x": "aa", "y": "aaa"}, 2, "every vote is the same label"),
    ],
)
def test_undefined_is_null_with_n_and_a_note(items: dict[str, str], n_items: int, said: str) -> None:
    row = value(agreement(votes_of(items), Scale(("a", "b")), replicates=100), "krippendorff_alpha")
    assert (row["value"], row["ci_low"], row["ci_high"], row["n_items"]) == (None, None, None, n_items)
    assert said in str(row["note"])


def test_perfect_agreement_is_one_and_no_interval_pretends_to_be_sure() -> None:
    table = agreement(votes_of({f"i{k}": "ab"[k % 2] * 3 for k in range(20)}), Scale(("a", "b")))
    chance_corrected = [c for c in table["coefficient"] if c.endswith(("alpha", "kappa", "ac1", "prediger"))]
    assert len(chance_corrected) == 6
    for name in chance_corrected:
        row = value(table, name)
        assert (row["value"], row["ci_low"], row["ci_high"]) == (1.0, None, None)
        assert "every pair of votes agrees" in str(row["note"])
    # Wilson (1927) at 20 of 20: 20 / (20 + 1.96^2) = 0.838875.
    whole = value(table, "percent_agreement")
    assert (whole["value"], whole["ci_high"], whole["interval"]) == (1.0, 1.0, "wilson")
    assert whole["ci_low"] == pytest.approx(0.838875, abs=1e-5)


def test_a_rare_class_comes_with_its_explanation() -> None:
    items = {f"i{k}": "aaa" for k in range(95)} | {f"j{k}": "aab" for k in range(5)}
    row = value(agreement(votes_of(items), Scale(("a", "b")), replicates=200), "krippendorff_alpha")
    assert float(str(row["value"])) < 0.5
    assert "chance explains most of the agreement and alpha falls" in str(row["note"])


def test_slices_and_missing_values_of_a_slice() -> None:
    votes = votes_of({"x": "aa", "y": "ab"}).with_columns(pool=pl.when(pl.col("item_id") == "x").then(pl.lit("p")))
    table = agreement(votes, Scale(("a", "b")), by=["pool"], replicates=100)
    assert value(table, "percent_agreement", "p")["value"] == 1.0
    assert value(table, "percent_agreement", "unknown")["value"] == 0.0


def test_a_label_off_the_scale_is_an_error() -> None:
    with pytest.raises(ValueError, match="not on the scale"):
        agreement(votes_of({"x": "az"}), Scale(("a", "b")))


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from([f"i{k}" for k in range(12)]), st.text("abc", min_size=1, max_size=5), min_size=1),
    st.randoms(),
)
def test_order_and_names_of_labels_and_votes_do_not_matter(items: dict[str, str], rng: random.Random) -> None:
    scale = Scale(("a", "b", "c"))
    base = agreement(votes_of(items), scale, replicates=100)
    votes = votes_of(items).collect()
    shuffled = votes[rng.sample(range(votes.height), votes.height)]
    assert base.equals(agreement(shuffled, scale, replicates=100))
    renamed = {i: labels.translate(str.maketrans("abc", "cab")) for i, labels in items.items()}
    again = agreement(votes_of(renamed), scale, replicates=100).drop("ci_low", "ci_high", "se")
    new_name = {"a": "c", "b": "a", "c": "b"}
    key = ["coefficient", "label"]
    pairs = base.with_columns(pl.col("label").replace(new_name)).join(again, on=key, nulls_equal=True, suffix="_again")
    assert pairs.height == base.height
    for a, b in pairs.select("value", "value_again").iter_rows():
        assert (a is None and b is None) or a == pytest.approx(b, abs=1e-12)


def test_bootstrap_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    # Two raters, two labels, each right with 0.9: in the long run alpha = 1 - 2*0.9*0.1 / 0.5 = 0.64.
    rng = np.random.default_rng(7)
    held = 0
    for k in range(200):
        truth = rng.integers(0, 2, 150)
        seen = np.where(rng.random((150, 2)) < 0.9, truth[:, None], 1 - truth[:, None])
        items = {f"i{n}": "".join("ab"[x] for x in row) for n, row in enumerate(seen)}
        row = value(agreement(votes_of(items), Scale(("a", "b")), replicates=200, seed=k), "krippendorff_alpha")
        held += float(str(row["ci_low"])) <= 0.64 <= float(str(row["ci_high"]))
    # 95 % of 200 is 190; the binomial 99.9 % range is about 179 to 198.
    assert 179 <= held <= 199


def test_alpha_from_patterns_equals_the_direct_sum_over_pairs() -> None:
    # Independent route: D_o and D_e as plain double sums over all pairs of values (Krippendorff 2018, chapter 12).
    rng = random.Random(3)
    items = {f"i{k}": "".join(rng.choice("abc") for _ in range(rng.randrange(2, 6))) for k in range(40)}
    place = {"a": 0.0, "b": 1.0, "c": 2.0}
    n = sum(len(v) for v in items.values())
    d_o = (
        sum(
            (place[x] - place[y]) ** 2 / (len(v) - 1)
            for v in items.values()
            for i, x in enumerate(v)
            for j, y in enumerate(v)
            if i != j
        )
        / n
    )
    pooled = [x for v in items.values() for x in v]
    d_e = sum((place[x] - place[y]) ** 2 for x in pooled for y in pooled) / (n * (n - 1))
    (sliced,) = slices_of(item_votes(votes_of(items), Scale(("a", "b", "c"))))
    assert krippendorff_alpha(sliced.patterns.as_seen(), "interval")[0] == pytest.approx(1 - d_o / d_e, abs=1e-12)
