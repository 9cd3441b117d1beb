"""Agreement coefficients against published and hand-worked values."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation_pipelines.agreement.disagreement import Clause, confused_labels, rater_pair_table, raters_apart
from moderation_pipelines.agreement.formulas import Metric, krippendorff_alpha, linearised, percent_agreement
from moderation_pipelines.agreement.guidelines import guideline_comparisons
from moderation_pipelines.agreement.pack import agreement
from moderation_pipelines.agreement.patterns import Patterns
from moderation_pipelines.agreement.slices import slices_of
from moderation_pipelines.votes import by_item as item_votes_module
from moderation_pipelines.votes.by_item import item_votes
from moderation_pipelines.votes.one_each import one_vote_each
from moderation_pipelines.votes.scale import Scale

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
        ({"x": "aa", "y": "aaa"}, 2, "every vote compared is the same label"),
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
        if row["interval"] == "bayesian_bootstrap":
            assert (row["value"], row["ci_high"]) == (1.0, 1.0)
            assert 0.5 < float(str(row["ci_low"])) < 0.9
            continue
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


def test_a_drop_split_in_two_files_changes_nothing(tmp_path: Path) -> None:
    votes = published_votes().collect()
    files = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    votes[:17].write_parquet(files[0])
    votes[17:].write_parquet(files[1])
    votes.write_parquet(whole := tmp_path / "whole.parquet")
    scale = Scale(("1", "2", "3", "4", "5"), "ordinal")
    in_memory = agreement(votes, scale, replicates=50)
    assert in_memory.equals(agreement(files, scale, replicates=50))
    assert in_memory.equals(agreement(whole, scale, replicates=50))


def test_every_slice_is_what_its_votes_alone_give() -> None:
    rng = np.random.default_rng(1)
    n = 4000
    votes = pl.DataFrame(
        {
            "item_id": [f"i{k}" for k in rng.integers(0, 900, n)],
            "rater_id": [f"r{k}" for k in rng.integers(0, 7, n)],
            "label": rng.choice(["a", "b", "c"], n, p=[0.7, 0.2, 0.1]),
            "pool": rng.choice(["x", "y", None], n),
        }
    ).unique(["item_id", "rater_id"], maintain_order=True)
    scale = Scale(("a", "b", "c"), "ordinal")
    together = agreement(votes, scale, by=["pool"], replicates=20)
    for pool in ("x", "y", None):
        alone = agreement(votes.filter(pl.col("pool").eq_missing(pl.lit(pool))), scale, replicates=20)
        mine = together.filter(slice="pool", slice_value=pool or "unknown")
        for name in ("value", "se", "n_items", "n_rated", "n_raters", "n_votes"):
            assert mine[name].to_list() == pytest.approx(alone[name].to_list(), nan_ok=True, abs=1e-12), (pool, name)


def test_blocks_of_items_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    votes = pl.DataFrame(
        {
            "item_id": [f"i{k}" for k in rng.integers(0, 700, 5000)],
            "rater_id": [f"r{k}" for k in rng.integers(0, 40, 5000)],
            "label": rng.choice(["a", "b", "c"], 5000),
        }
    ).unique(["item_id", "rater_id"], maintain_order=True)
    votes.write_parquet(file := tmp_path / "votes.parquet")
    scale = Scale(("a", "b", "c"))
    one = agreement(votes, scale, replicates=30)
    monkeypatch.setattr(item_votes_module, "_BLOCK_VOTES", 100)
    monkeypatch.setattr(item_votes_module, "_BATCH_ROWS", 777)
    many = agreement(file, scale, replicates=30)
    for name in one.columns:
        if one[name].dtype == pl.Float64:
            assert many[name].to_list() == pytest.approx(one[name].to_list(), abs=1e-10), name
        else:
            assert many[name].equals(one[name]), name
    # Against a group-by that hashes nothing.
    counts = votes.group_by("item_id").agg([(pl.col("label") == x).sum().alias(x) for x in "abc"]).drop("item_id")
    exact = np.unique(counts.to_numpy(), axis=0, return_counts=True)
    (sliced,) = slices_of(item_votes(file, scale))
    assert (sliced.patterns.counts == exact[0]).all()
    assert (sliced.patterns.items == exact[1]).all()


def test_a_rater_counted_twice_raises_agreement_and_leaves_the_others_kappa() -> None:
    rng = np.random.default_rng(4)
    rows = [
        {"item_id": f"i{i}", "rater_id": f"r{j}", "label": str(rng.choice(["a", "b"], p=[0.6, 0.4]))}
        for i in range(300)
        for j in range(3)
    ]
    votes = pl.DataFrame(rows)
    copy = votes.filter(pl.col("rater_id") == "r0").with_columns(rater_id=pl.lit("r0 again"))
    base, doubled = (agreement(v, Scale(("a", "b")), replicates=20) for v in (votes, pl.concat([votes, copy])))
    for name in ("percent_agreement", "krippendorff_alpha", "gwet_ac1", "fleiss_kappa", "conger_kappa"):
        assert float(str(value(doubled, name)["value"])) > float(str(value(base, name)["value"])), name
    # Of two raters who are one and the same every coefficient is 1.
    twins = pl.concat([votes.filter(pl.col("rater_id") == "r0"), copy])
    for name in ("percent_agreement", "krippendorff_alpha", "cohen_kappa", "conger_kappa", "gwet_ac1"):
        assert value(agreement(twins, Scale(("a", "b")), replicates=20), name)["value"] == pytest.approx(1.0)


def test_votes_by_chance_have_no_agreement_beyond_it() -> None:
    rng = np.random.default_rng(6)
    rows = [
        {"item_id": f"i{i}", "rater_id": f"r{j}", "label": str(rng.choice(["a", "b", "c"], p=[0.5, 0.3, 0.2]))}
        for i in range(6000)
        for j in range(3)
    ]
    table = agreement(pl.DataFrame(rows), Scale(("a", "b", "c"), "ordinal"), replicates=200)
    for name in ("krippendorff_alpha", "krippendorff_alpha_nominal", "fleiss_kappa", "conger_kappa", "cohen_kappa"):
        row = value(table, name)
        # 18,000 pairs of votes: the standard error of a kappa near 0 is about 1 / sqrt(18,000) = .0075.
        assert abs(float(str(row["value"]))) < 4 * 0.0075, name
    # AC1 and Brennan-Prediger take chance to be something else; by hand from shares .5 .3 .2: pa .38,
    # AC1's pe = (.25 + .21 + .16) / 2 = .31, so .101; Brennan-Prediger's pe 1/3, so .07.
    assert value(table, "gwet_ac1")["value"] == pytest.approx(0.101, abs=0.02)
    assert value(table, "brennan_prediger")["value"] == pytest.approx(0.07, abs=0.02)


BAD: dict[str, tuple[list[tuple[str, str | None, str | None]], int, str]] = {
    "no votes": ([], 0, "no counted vote"),
    "one rater": ([("x", "r1", "a"), ("y", "r1", "b")], 0, "no item has two or more votes"),
    "one item, one vote": ([("x", "r1", "a")], 0, "no item has two or more votes"),
    "no overlap": ([("x", "r1", "a"), ("y", "r2", "b")], 0, "no item has two or more votes"),
    "one label": ([("x", "r1", "a"), ("x", "r2", "a")], 1, "every vote compared is the same label"),
    "no label at all": ([("x", "r1", None), ("x", "r2", None)], 0, "no counted vote"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("kind", ["nominal", "ordinal"])
def test_hardly_any_votes_give_null_with_n_and_a_note(case: str, kind: str) -> None:
    rows, n_items, said = BAD[case]
    schema = {"item_id": pl.String, "rater_id": pl.String, "label": pl.String}
    table = agreement(pl.DataFrame(rows, schema=schema, orient="row"), Scale(("a", "b"), kind), replicates=20)  # type: ignore[arg-type]
    for row in table.to_dicts():
        assert row["n_items"] == n_items
        assert row["value"] is not None or row["note"], row
        assert row["ci_low"] is None
    assert said in str(value(table, "krippendorff_alpha")["note"])


def test_one_item_with_two_votes_has_a_value_and_no_interval() -> None:
    table = agreement(votes_of({"x": "ab"}), Scale(("a", "b")), replicates=20)
    row = value(table, "percent_agreement")
    assert (row["value"], row["ci_low"], row["n_items"]) == (0.0, None, 1)
    # One item, two different labels: D_o = D_e = 1 over two values: alpha = 1 - (2 - 1) x 2 / 2 = 0.
    assert value(table, "krippendorff_alpha")["value"] == pytest.approx(0.0)


def test_a_billion_to_one_class_ratio_is_neither_wrong_nor_a_warning() -> None:
    # A billion items with two equal votes, one item with a vote each way.
    patterns = Patterns(np.array([[2.0, 0.0], [1.0, 1.0]]), np.array([1e9, 1.0]))
    samples = patterns.as_seen()
    # By hand: margins 2e9 + 1 and 1, n = 2e9 + 2; alpha = 1 - (n - 1) x 2 / (2 x (2e9 + 1)) = 0 to 1e-9.
    assert krippendorff_alpha(samples, "nominal")[0] == pytest.approx(0.0, abs=1e-8)
    assert percent_agreement(samples)[0] == pytest.approx(1 - 1e-9, abs=1e-12)
    for model in ("gwet", "fleiss", "brennan_prediger"):
        found = linearised(patterns, model, np.eye(2))  # type: ignore[arg-type]
        assert np.isfinite(found.value)
        assert np.isfinite(found.standard_error(patterns.items))
    assert linearised(patterns, "gwet", np.eye(2)).value == pytest.approx(1 - 1e-9, abs=1e-8)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Scale(("a", "a")), "differ"),
        (lambda: Scale(("a", "b"), "ordnal"), "did you mean"),  # type: ignore[arg-type]
        (lambda: Scale(("a", "b"), "ratio"), "not negative"),
        (lambda: Scale(("-1", "2"), "ratio", (-1.0, 2.0)), "not negative"),
        (lambda: Scale(("1", "2"), "interval", (1.0, float("nan"))), "finite"),
        (lambda: Scale(("1", "1.0"), "interval", (1.0, 1.0)), "same position"),
        (lambda: Scale(("a", "b"), violating=(True,)), "one entry per label"),
        (lambda: agreement(votes_of({"x": "ab"}), "interval"), "must be numbers"),
        (lambda: agreement(votes_of({"x": "ab"}), "nominal", by=["pol"]), 'did you mean "pool"'),
        (lambda: agreement(votes_of({"x": "ab"}), "nominal", replicates=0), "1 or more"),
    ],
)
def test_what_cannot_be_says_what_would_be_right(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_confused_labels_by_hand() -> None:
    # Votes ab, ab, ac, bb: disagreeing pairs ab 2, ac 1. Shares 2/3 and 1/3.
    votes = votes_of({"i": "ab", "j": "ab", "k": "ac", "l": "bb"})
    scale = Scale(("a", "b", "c"))
    rows = confused_labels(votes, scale, clauses=[Clause("C1", "c")], replicates=20).to_dicts()
    whole = {(r["label_a"], r["label_b"]): r for r in rows if r["slice"] == "all"}
    assert {k: round(r["share"], 6) for k, r in whole.items()} == {("a", "b"): 0.666667, ("a", "c"): 0.333333}
    assert [(r["n_items"], r["n_disputed"]) for r in whole.values()] == [(2, 3), (1, 3)]
    # Margins a 3, b 4, c 1: chance shares ab 12, ac 3, bc 4 of 19. Lift of ab (2/3) / (12/19) = 1.0556.
    assert whole["a", "b"]["lift"] == pytest.approx(38 / 36)
    # Fewer than ten disputed items: no interval.
    assert whole["a", "b"]["ci_low"] is None
    clause = [r for r in rows if r["slice"] == "clause"]
    assert [(r["slice_value"], r["label_a"], r["label_b"], r["share"]) for r in clause] == [("C1", "c", "a", 1.0)]


def test_rater_pairs_by_hand() -> None:
    # Twelve items both saw: 5 aa, 4 bb, 2 ab, 1 ba.
    rows = "a" * 5 + "b" * 4 + "aab", "a" * 5 + "b" * 4 + "bba"
    votes = votes_of({f"i{k}": a + b for k, (a, b) in enumerate(zip(*rows, strict=True))})
    (row,) = rater_pair_table(votes, Scale(("a", "b"))).to_dicts()
    assert (row["rater_a"], row["rater_b"], row["n_items"]) == ("r0", "r1", 12)
    # po = 9/12; margins 7/12 and 6/12 for a: pe = (7 x 6 + 5 x 6) / 144 = .5; kappa = .25 / .5.
    assert row["percent_agreement"] == 0.75
    assert row["cohen_kappa"] == pytest.approx(0.5)


def guideline_votes(right: dict[str, float], shared: bool, n: int = 150) -> pl.DataFrame:
    rng = np.random.default_rng(8)
    rows = []
    for version, p in right.items():
        for k in range(n):
            truth = k % 2
            item = f"i{k}" if shared else f"{version}-{k}"
            for j in range(3):
                label = truth if rng.random() < p else 1 - truth
                rows.append((item, f"r{j}", "ab"[label], version))
    return pl.DataFrame(rows, schema=["item_id", "rater_id", "label", "guideline"], orient="row")


@pytest.mark.parametrize("shared", [True, False])
def test_a_clearer_guideline_is_told_from_chance(shared: bool) -> None:
    scale = Scale(("a", "b"), violating=(False, True))
    better = guideline_comparisons(guideline_votes({"g1": 0.7, "g2": 0.95}, shared), scale, replicates=300)
    alike = guideline_comparisons(guideline_votes({"g1": 0.8, "g2": 0.8}, shared), scale, replicates=300)
    row = better.filter(coefficient="krippendorff_alpha").to_dicts()[0]
    assert row["basis"] == ("paired" if shared else "all items")
    assert (row["n_items_a"], row["n_items_b"], row["n_items_both"]) == (150, 150, 150 if shared else 0)
    assert row["ci_low"] > 0
    assert row["p_adjusted"] < 0.02
    assert (row["note"] is None) == shared
    assert alike.filter(coefficient="krippendorff_alpha")["p_value"][0] > 0.05
    assert set(better["coefficient"]) == {"percent_agreement", "krippendorff_alpha", "violating_share"}


def test_p_values_of_a_guideline_that_changes_nothing_are_spread_evenly() -> None:
    found = []
    for seed in range(120):
        rng = np.random.default_rng(seed)
        rows = [
            (f"i{k}", "ab"[int(rng.random() < 0.3)], version)
            for k in range(40)
            for version in ("g1", "g2")
            for _ in range(2)
        ]
        votes = pl.DataFrame(rows, schema=["item_id", "label", "guideline"], orient="row")
        table = guideline_comparisons(votes, Scale(("a", "b")), replicates=99, seed=seed)
        found.append(table.filter(coefficient="percent_agreement")["p_value"][0])
    # Rejections at .1 among 120: 12 expected, binomial standard deviation 3.3.
    assert 2 <= sum(p <= 0.1 for p in found) <= 25
    # The statistic has few values, and ties count against rejection: the mean lies above one half.
    assert 0.4 < float(np.mean(found)) < 0.7


def test_too_few_items_under_a_version_are_not_compared() -> None:
    table = guideline_comparisons(guideline_votes({"g1": 0.9, "g2": 0.9}, True, n=6), Scale(("a", "b")), replicates=20)
    assert table["p_value"].to_list() == [None, None]
    assert "fewer than 10 items" in table["note"][0]


def test_a_rater_stands_apart_by_hand() -> None:
    # Twenty items: r0, r1, r2 agree on all; r3 is against them on half.
    votes = votes_of({f"i{k}": "aaa" + "ab"[k % 2] for k in range(20)})
    rows = {r["rater_id"]: r for r in raters_apart(votes, Scale(("a", "b"))).to_dicts()}
    # r3 agrees with the others on half of the items, they with each other always.
    assert (rows["r3"]["pair_agreement"], rows["r3"]["apart"], rows["r3"]["n_shared"]) == (0.5, -0.5, 20)
    # t interval: sd of 0/1 halves .513, / sqrt(20) = .1147, t 2.093: +- .240.
    assert rows["r3"]["apart_high"] == pytest.approx(-0.26, abs=1e-3)
    assert rows["r3"]["apart_p"] < 0.001
    # One-sided: who agrees more than the others do not stand apart.
    assert rows["r0"]["apart_p"] > 0.99
    # r0 agrees with r1 and r2 always and with r3 on half: (1 + 2/3) / 2; the three others on those items the same less.
    assert rows["r0"]["pair_agreement"] == pytest.approx((1 + 2 / 3) / 2)
    assert rows["r0"]["apart"] == pytest.approx((2 / 3 - 1 / 3) / 2)


def test_a_raters_repeats_are_refused_because_they_would_pass_for_agreement() -> None:
    votes = pl.DataFrame({"item_id": ["x", "x", "x"], "rater_id": ["r1", "r1", "r2"], "label": ["a", "a", "b"]})
    with pytest.raises(ValueError, match="1 votes repeat a rater's vote on an item"):
        agreement(votes, "nominal")
    assert one_vote_each(votes.lazy()).collect()["rater_id"].to_list() == ["r1", "r2"]


def test_raters_alike_do_not_stand_apart_more_often_than_by_chance() -> None:
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        items = {f"i{k}": "".join("ab"[int(rng.random() < 0.9)] for _ in range(5)) for k in range(60)}
        found += raters_apart(votes_of(items), Scale(("a", "b")))["apart_p"].drop_nulls().to_list()
    # At most as often as said: the differences are skewed to the other side.
    assert np.mean(np.array(found) < 0.05) <= 0.05 + 3 * (0.05 * 0.95 / len(found)) ** 0.5


def test_a_label_that_is_no_number_though_it_can_be_read_as_one_is_text() -> None:
    with pytest.raises(ValueError, match="order of the labels is not known"):
        agreement(votes_of({"x": "12"}).with_columns(label=pl.lit("nan")), "ordinal")


def test_few_votes_for_the_rarer_label_are_told() -> None:
    items = {f"i{k}": "aaa" for k in range(100)} | {f"j{k}": "abb" for k in range(9)}
    row = value(agreement(votes_of(items), Scale(("a", "b"))), "conger_kappa")
    assert "9 items have a vote other than 'a'" in str(row["note"])
    row = value(agreement(votes_of(items | {"j9": "bbb"}), Scale(("a", "b"))), "conger_kappa")
    assert "other than" not in str(row["note"])
    assert "other than" not in str(value(agreement(votes_of(items), Scale(("a", "b"))), "percent_agreement")["note"])
