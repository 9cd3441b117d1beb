"""Agreement, consensus, comparison and planning from the command line, on files of one's own."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import polars as pl
import pytest

from moderation_pipelines.agreement.of_file import agreement_of_file
from moderation_pipelines.consensus.method import METHODS
from moderation_pipelines.consensus.of_file import consensus_of_file
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines_tests.conftest import modpipe
from moderation_pipelines_tests.test_agreement import published_votes

VOTES = pl.DataFrame(
    [
        ("i", "r1", "mild", None), ("i", "r2", "mild", None), ("i", "r3", "none", None),
        ("j", "r1", "none", None), ("j", "r2", "severe", None), ("j", "desk", "severe", "gold"),
        ("k", "r1", "none", "vote"), ("k", "r3", "mild", None),
    ],
    schema=["item_id", "rater_id", "label", "kind"],
    orient="row",
)  # fmt: skip


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_a_file_of_any_kind_gives_the_published_alpha(tmp_path: Path, suffix: str) -> None:
    votes, path = published_votes().collect(), tmp_path / f"votes{suffix}"
    {".parquet": votes.write_parquet, ".csv": votes.write_csv, ".jsonl": votes.write_ndjson}[suffix](path)
    done = modpipe("agreement", str(path), "--scale", "interval", "--replicates", "50", "--format", "json")
    assert done.returncode == 0, done.stderr
    rows = {(r["coefficient"], r["label"]): r for r in map(json.loads, done.stdout.splitlines())}
    assert rows["krippendorff_alpha", None]["value"] == pytest.approx(0.849107, abs=1e-6)
    assert rows["krippendorff_alpha_ratio", None]["value"] == pytest.approx(0.797403, abs=1e-6)


def test_the_table_for_people_has_its_notes_below(tmp_path: Path) -> None:
    VOTES.filter(pl.col("kind").is_null()).write_csv(path := tmp_path / "votes.csv")
    done = modpipe("agreement", str(path), "--replicates", "20")
    assert done.returncode == 0, done.stderr
    assert "gwet_ac1" in done.stdout
    assert "no interval: fewer than 10 items" in done.stderr


def test_consensus_of_a_file_with_gold_and_a_tie(tmp_path: Path) -> None:
    VOTES.write_parquet(path := tmp_path / "votes.parquet")
    found, notes = consensus_of_file(path, "majority", None, ordered=False)
    assert notes == ["not counted as votes: 1 of kind gold"]
    assert found["method"].to_list() == ["majority", "gold", "majority"]
    assert found.select("item_id", "label", "n_votes").rows() == [("i", "mild", 3), ("j", "severe", 2), ("k", None, 2)]
    # Shares of votes are no probabilities; the authority is sure, though one of its two votes says so.
    assert found["probability"].to_list() == [None, 1.0, None]
    assert found["vote_share"].to_list() == [pytest.approx(2 / 3), 0.5, None]
    # In the order none, mild, severe the median of none and mild lies between them: no label either.
    ordered, _ = consensus_of_file(path, "median", ["none", "mild", "severe"], ordered=True)
    assert ordered["label"].to_list() == ["mild", "severe", None]
    done = modpipe("consensus", str(path), "--to", str(tmp_path / "labels.csv"))
    assert done.returncode == 0, done.stderr
    assert "3 items written" in done.stderr
    assert pl.read_csv(tmp_path / "labels.csv").columns == [
        "item_id",
        "label",
        "method",
        "probability",
        "basis",
        "vote_share",
        "n_votes",
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("votes.parquet", b"not parquet", "cannot be read"),
        ("votes.txt", b"", r"ends in none of .jsonl, .ndjson, .csv, .parquet"),
        ("votes.csv", b"item,label\nx,a\n", r'column "item_id" is missing; did you mean "item"'),
        ("case.csv", b"Item_ID,label\nx,a\n", r'column "item_id" is missing; did you mean "Item_ID"'),
        ("twice.csv", b"item_id,label,label\nx,a,b\n", "column 3 has the name of an earlier one"),
        ("cr.csv", b"item_id,label\rx,a\ry,b\r", "lines end in CR only; save the file with LF"),
        ("empty.csv", b"", "is empty"),
        ("lines.jsonl", b"not json\n", "not one row can be read; 1 rows left out"),
    ],
)
def test_files_that_cannot_be_votes_say_why(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        agreement_of_file(tmp_path / name, "nominal")
    with pytest.raises(UserError, match="no such file"):
        agreement_of_file(tmp_path / "absent.csv", "nominal")


def test_labels_off_the_scale_are_named(tmp_path: Path) -> None:
    VOTES.write_csv(path := tmp_path / "votes.csv")
    with pytest.raises(UserError, match=r"not on the scale: \['severe'\]"):
        consensus_of_file(path, "majority", ["none", "mild"], ordered=False)
    with pytest.raises(UserError, match="must be numbers"):
        agreement_of_file(path, "interval", [], 20)
    with pytest.raises(UserError, match="give them in order"):
        agreement_of_file(path, "ordinal", [], 20)
    with pytest.raises(UserError, match="must differ"):
        consensus_of_file(path, "majority", ["none", "mild", "mild", "severe"], ordered=False)
    with pytest.raises(UserError, match="slice by a property"):
        agreement_of_file(path, "nominal", ["label"], 20)


def test_repeats_count_once_and_gold_is_no_vote(tmp_path: Path) -> None:
    votes = published_votes().collect()
    again = votes.with_columns(label=pl.lit("1"))
    gold = votes.head(1).with_columns(kind=pl.lit("gold"), rater_id=pl.lit("desk"), label=pl.lit("5"))
    pl.concat([gold, again, votes], how="diagonal").write_parquet(path := tmp_path / "votes.parquet")
    table, notes = agreement_of_file(path, "nominal", replicates=20)
    assert table.filter(coefficient="krippendorff_alpha")["value"][0] == pytest.approx(0.743421, abs=1e-6)
    assert notes == [
        "not counted as votes: 1 of kind gold",
        "41 votes repeat a rater's vote on an item: the last one counts, for 82 votes by the order of the rows",
    ]
    # The first vote of each pair says 1; so does the last of nine.
    own = table.filter(coefficient="intra_rater_agreement").to_dicts()[0]
    assert (own["value"], own["n_items"]) == (pytest.approx(9 / 41), 41)


@pytest.mark.parametrize("label", [[1, 2, 1, 2], [True, False, True, False], [["a", "b"], ["b", "a"], ["a"], ["a"]]])
def test_labels_of_any_type(tmp_path: Path, label: list[object]) -> None:
    frame = pl.DataFrame({"item_id": [1, 1, 2, 2], "rater_id": [1, 2, 1, 2], "label": label})
    frame.write_parquet(path := tmp_path / "votes.parquet")
    kind = "set" if isinstance(label[0], list) else "nominal"
    table, _ = agreement_of_file(path, kind, replicates=20)  # type: ignore[arg-type]
    expected = 1.0 if kind == "set" else 0.0
    assert table.filter(coefficient="percent_agreement")["value"][0] == expected
    assert consensus_of_file(path, "majority", None, ordered=False)[0].height == 2


def test_a_file_without_a_single_vote_gives_null_rows(tmp_path: Path) -> None:
    (path := tmp_path / "votes.csv").write_text("item_id,rater_id,label\n")
    table, _ = agreement_of_file(path, "nominal", replicates=20)
    assert table["value"].null_count() == table.height > 0
    assert consensus_of_file(path, "dawid_skene", None, ordered=False)[0].is_empty()


def test_a_kind_nobody_knows_and_votes_without_an_item_are_refused(tmp_path: Path) -> None:
    VOTES.with_columns(kind=pl.lit("golden")).write_csv(path := tmp_path / "kinds.csv")
    with pytest.raises(UserError, match='kind "golden" is not known; did you mean "gold"'):
        agreement_of_file(path, "nominal")
    VOTES.with_columns(item_id=pl.lit(None, dtype=pl.String)).write_parquet(path := tmp_path / "items.parquet")
    for run in (lambda: agreement_of_file(path, "nominal"), lambda: consensus_of_file(path, "majority", None, False)):
        with pytest.raises(UserError, match="have no item_id"):
            run()


def test_gold_may_have_a_label_no_rater_gave(tmp_path: Path) -> None:
    VOTES.with_columns(label=pl.when(pl.col("kind") == "gold").then(pl.lit("rare")).otherwise("label")).write_csv(
        path := tmp_path / "votes.csv"
    )
    found, _ = consensus_of_file(path, "dawid_skene", None, ordered=False)
    assert found.filter(item_id="j").select("label", "probability").row(0) == ("rare", 1.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "0.8", "--half-width", "0.03"], "items give a rate of 0.8"),
        (["--rates", "0.25", "0.4"], "152 items a group"),
        (["--rates", "0.5", "0.75", "--items", "50"], "power 0.740"),
        (["--paired", "0.05", "0.45"], "25 items judged by both"),
    ],
)
def test_plans(arguments: list[str], said: str) -> None:
    done = modpipe("plan", *arguments)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give one of"),
        (["--rate", "0.8"], "--half-width"),
        (["--rates", "0.5", "0.5"], "the two rates are equal"),
        (["--paired", "0.3", "0.3"], "equal"),
        (["--rate", "1.8", "--half-width", "0.1"], "between 0 and 1"),
    ],
)
def test_plans_that_cannot_be(arguments: list[str], said: str) -> None:
    done = modpipe("plan", *arguments)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_comparing_names_who_is_there(line: tuple[Home, subprocess.CompletedProcess[str]]) -> None:
    done = modpipe("compare", "harassment", "baseline-ngram", "gpt", "--home", str(line[0].root))
    assert done.returncode == 1
    assert 'judge "gpt" did not score harassment v0001; scored by: baseline-ngram' in done.stderr
    same = modpipe("compare", "harassment", "v1", "v1", "--judge", "baseline-ngram", "--home", str(line[0].root))
    assert same.returncode == 1
    assert "give the earlier version first" in same.stderr


ROWS = [("x", "", "yes"), ("x", "", "no"), ("x", "a", "yes"), ("y", "", "no"), ("y", "", "no"), ("y", "a", "no")]


def test_every_form_of_a_file_gives_the_same_numbers(tmp_path: Path) -> None:
    """An empty rater is an absent one, a byte-order mark is none, quotes change nothing, columns may come late."""
    plain = "item_id,rater_id,label\n" + "".join(f"{i},{r},{v}\n" for i, r, v in ROWS)
    quoted = "".join(",".join(f'"{cell}"' for cell in line.split(",")) + "\n" for line in plain.splitlines())
    objects = [{"item_id": i, "label": v, **({"rater_id": r} if r else {})} for i, r, v in ROWS]
    late = "".join(json.dumps(o) + "\n" for o in sorted(objects, key=len))
    files = {
        "plain.csv": plain.encode(),
        "quoted.csv": quoted.encode(),
        "mark.csv": b"\xef\xbb\xbf" + plain.encode(),
        "ends.csv": plain.replace("\n", "\r\n").encode(),
        "late.jsonl": late.encode(),
        "packed.ndjson.gz": gzip.compress(late.encode()),
        "mark.jsonl": b"\xef\xbb\xbf" + late.encode(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    pl.DataFrame(ROWS, ["item_id", "rater_id", "label"], orient="row").write_parquet(tmp_path / "votes.parquet")
    found = {}
    for name in (*files, "votes.parquet"):
        table, notes = agreement_of_file(tmp_path / name, "nominal", replicates=20)
        labels, _ = consensus_of_file(tmp_path / name, "majority", None, ordered=False)
        assert notes == [], name
        found[name] = (table.rows(), labels.rows())
    assert all(f == found["plain.csv"] for f in found.values())
    assert found["plain.csv"][1] == [
        ("x", "yes", "majority", None, "vote_share", 2 / 3, 3),
        ("y", "no", "majority", None, "vote_share", 1.0, 3),
    ]


def test_what_cannot_be_read_is_left_out_with_its_number_and_line(tmp_path: Path) -> None:
    (path := tmp_path / "v.csv").write_text("item_id,label,rater_id\nx,a,r\nx,a\nx,b,s\ny,a\n,a,r\n")
    with pytest.raises(UserError, match="1 votes have no item_id"):
        agreement_of_file(path, "nominal", replicates=20)
    path.write_text("item_id,label,rater_id\nx,a,r\nx,a\nx,b,s\ny,a\n")
    table, notes = agreement_of_file(path, "nominal", replicates=20)
    assert notes == ["2 rows left out: ragged_row (more or fewer cells than the header), first at line 3"]
    assert table.filter(coefficient="percent_agreement").select("value", "n_votes").row(0) == (0.0, 2)


def test_labels_that_differ_in_spelling_only_are_one_and_said(tmp_path: Path) -> None:
    (path := tmp_path / "v.csv").write_text("item_id,rater_id,label\nx,a,Yes\nx,b,yes \ny,a,1.0\ny,b,1\n")
    table, notes = agreement_of_file(path, "nominal", replicates=20)
    assert table.filter(coefficient="percent_agreement")["value"][0] == 1.0
    assert notes == [
        'labels "1" (1 rows), "1.0" (1 rows) differ only in spelling: counted as "1"; --exact keeps them apart',
        'labels "Yes" (1 rows), "yes " (1 rows) differ only in spelling: counted as "Yes"; --exact keeps them apart',
    ]
    apart, said = agreement_of_file(path, "nominal", replicates=20, exact=True)
    assert apart.filter(coefficient="percent_agreement")["value"][0] == 0.0
    assert said[0].endswith("they stay apart")


def test_votes_of_several_policies_are_items_of_their_own(tmp_path: Path) -> None:
    rows = [("x", "a", "p", "yes"), ("x", "b", "p", "yes"), ("x", "a", "q", "no"), ("x", "b", "q", "yes")]
    pl.DataFrame(rows, ["item_id", "rater_id", "policy", "label"], orient="row").write_csv(path := tmp_path / "v.csv")
    table, notes = agreement_of_file(path, "nominal", replicates=20)
    row = table.filter(coefficient="percent_agreement").row(0, named=True)
    assert (row["value"], row["n_items"], row["n_votes"]) == (0.5, 2, 4)
    assert notes == ["votes of 2 policies are pooled, an item under each is one of its own; --policy takes one"]
    table, notes = agreement_of_file(path, "nominal", replicates=20, policy="q")
    assert table.filter(coefficient="percent_agreement")["value"][0] == 0.0
    assert notes == ["2 votes on other policies are left out"]
    labels, _ = consensus_of_file(path, "majority", None, ordered=False)
    assert labels.select("item_id", "policy", "label").rows() == [("x", "p", "yes"), ("x", "q", None)]
    with pytest.raises(UserError, match='no vote is on policy "r"'):
        agreement_of_file(path, "nominal", policy="r")


def test_the_last_vote_counts_by_its_time_where_all_have_one(tmp_path: Path) -> None:
    rows = [("x", "a", "yes", "2026-01-02T00:00:00Z"), ("x", "b", "no", None), ("x", "a", "no", "2026-01-01T00:00:00Z")]
    votes = pl.DataFrame(rows, ["item_id", "rater_id", "label", "labeled_at"], orient="row")
    votes.write_csv(path := tmp_path / "v.csv")
    table, notes = agreement_of_file(path, "nominal", replicates=20)
    assert table.filter(coefficient="percent_agreement")["value"][0] == 0.0
    assert notes == ["1 votes repeat a rater's vote on an item: the last one counts"]
    votes.drop("labeled_at").write_csv(path)
    table, _ = agreement_of_file(path, "nominal", replicates=20)
    assert table.filter(coefficient="percent_agreement")["value"][0] == 1.0


def written(tmp_path: Path, rows: list[tuple[object, ...]], columns: list[str]) -> dict[str, Path]:
    """The same rows as plain CSV, quoted CSV and JSON lines, every cell as text."""
    lines = [",".join(columns), *(",".join(str(c) for c in row) for row in rows)]
    texts = {
        "plain.csv": "".join(f"{line}\n" for line in lines),
        "quoted.csv": "".join(",".join(f'"{c}"' for c in line.split(",")) + "\n" for line in lines),
        "rows.jsonl": "".join(
            json.dumps({k: str(v) for k, v in zip(columns, row, strict=True)}) + "\n" for row in rows
        ),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return {name: tmp_path / name for name in texts}


@pytest.mark.parametrize(
    ("items", "labels"),
    [
        (("001", "1", "01"), ("x", "y")),
        (("12345678901234567890", "12345678901234567891", "3"), ("x", "y")),
        (("10:30", "10:30:00", "3"), ("x", "y")),
        (("a", "b", "c"), ("1.50", "1.5")),
        (("a", "b", "c"), ("1e2", "100")),
        (("a", "b", "c"), ("1", "true")),
        (("2026-01-01", "2026-01-01T00:00:00", "c"), ("x", "y")),
    ],
)
def test_nothing_is_guessed_from_what_stands_in_a_column(
    tmp_path: Path, items: tuple[str, str, str], labels: tuple[str, str]
) -> None:
    rows = [(i, r, labels[0] if k == r == 1 else labels[1]) for k, i in enumerate(items) for r in (0, 1)]
    found = {}
    for name, path in written(tmp_path, list(rows), ["item_id", "rater_id", "label"]).items():
        table, notes = agreement_of_file(path, "nominal", replicates=20)
        assert notes == [], name
        found[name] = (table.rows(), consensus_of_file(path, "majority", None, ordered=False)[0].rows())
        assert table.filter(coefficient="percent_agreement").select("value", "n_items").row(0) == (2 / 3, 3), name
    assert found["plain.csv"] == found["quoted.csv"] == found["rows.jsonl"]


def test_the_empty_set_is_a_label_and_sets_have_no_order(tmp_path: Path) -> None:
    rows = [("i", ["x"]), ("i", ["x"]), ("j", []), ("j", ["x"]), ("k", ["b", "A"]), ("k", ["a", "B"])]
    frame = pl.DataFrame(rows, schema={"item_id": pl.String, "label": pl.List(pl.String)}, orient="row")
    frame.write_parquet(tmp_path / "v.parquet")
    frame.write_ndjson(tmp_path / "v.jsonl")
    for name in ("v.parquet", "v.jsonl"):
        table, notes = agreement_of_file(tmp_path / name, "set", replicates=20)
        row = table.filter(coefficient="percent_agreement").row(0, named=True)
        assert (row["value"], row["n_votes"]) == (pytest.approx(2 / 3), 6), name
        assert len(notes) == 2, notes
    (path := tmp_path / "v.csv").write_text("item_id,label\nk,b|a\nk,a|b\n")
    assert agreement_of_file(path, "set", replicates=20)[0].filter(coefficient="percent_agreement")["value"][0] == 1.0


def test_of_several_golds_the_last_by_time_counts_and_is_said(tmp_path: Path) -> None:
    rows = [("a", "e", "new", "gold", "2026-02-01T00:00:00Z"), ("a", "e", "old", "gold", "2026-01-01T00:00:00Z"),
            ("a", "r", "old", "vote", "2026-01-01T00:00:00Z")]  # fmt: skip
    for path in written(tmp_path, list(rows), ["item_id", "rater_id", "label", "kind", "labeled_at"]).values():
        found, notes = consensus_of_file(path, "majority", None, ordered=False)
        assert found.select("label", "method").row(0) == ("new", "gold")
        assert "1 items have several labels by an authority: the last one counts" in notes


def test_gold_of_items_without_a_policy_is_found(tmp_path: Path) -> None:
    rows = [("a", "p", "r", "x", "vote"), ("a", "", "r", "x", "vote"), ("a", "", "e", "y", "gold")]
    for name, path in written(tmp_path, list(rows), ["item_id", "policy", "rater_id", "label", "kind"]).items():
        found, _ = consensus_of_file(path, "majority", None, ordered=False)
        expected = [("a", None, "y", "gold", 1), ("a", "p", "x", "majority", 1)]
        assert found.select("item_id", "policy", "label", "method", "n_votes").rows() == expected, name


@pytest.mark.parametrize("method", [m.name for m in METHODS])
def test_gold_alone_needs_no_vote(tmp_path: Path, method: str) -> None:
    (path := tmp_path / "v.csv").write_text("item_id,label,kind\na,1,gold\nb,2,gold\n")
    order = ["1", "2"]
    found, _ = consensus_of_file(path, method, order, ordered=True)
    assert found.select("item_id", "label", "n_votes").rows() == [("a", "1", 0), ("b", "2", 0)]


def test_columns_that_are_nearly_one_that_is_read_are_told(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [("a", "r", "x"), ("a", "s", "x")]
    for path in written(tmp_path, rows, ["item_id", "Rater_ID", "label"]).values():
        with pytest.raises(UserError, match='no column "rater_id"; rename "Rater_ID"'):
            agreement_of_file(path, "nominal", replicates=20)
        with pytest.raises(UserError, match='column "Locale" is missing|no column "rater_id"'):
            agreement_of_file(path, "nominal", ["Locale"], 20)
    for path in written(tmp_path, rows, ["item_id", "rater", "label"]).values():
        notes = agreement_of_file(path, "nominal", replicates=20)[1]
        assert notes == ['no column "rater_id"; "rater" is not read: rename it if it is that']


def test_labels_are_spelt_as_given_and_a_scale_is_that_of_the_votes(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [("a", "r", "OK", "vote"), ("a", "s", "Ok", "vote"), ("a", "e", "zz", "gold")]
    for path in written(tmp_path, rows, ["item_id", "rater_id", "label", "kind"]).values():
        table, _ = agreement_of_file(path, "nominal", replicates=20, labels=["ok", "bad"])
        assert table.filter(coefficient="percent_agreement")["value"][0] == 1.0
        # One label among the votes: chance agrees always, whatever gold says.
        table, _ = agreement_of_file(path, "nominal", replicates=20)
        assert table.filter(coefficient="krippendorff_alpha")["value"][0] is None
    with pytest.raises(UserError, match="labels of scale interval must be numbers"):
        agreement_of_file(path, "interval", replicates=20, labels=["1", "x"])


def test_numbers_of_parquet_are_written_as_in_text(tmp_path: Path) -> None:
    nan = float("nan")
    frame = pl.DataFrame({"item_id": [1.0, 1.0, 2.0, 2.0, 2.0], "label": [1.0, 2.0, 2.5, 2.5, nan]})
    frame.write_parquet(path := tmp_path / "v.parquet")
    found, notes = consensus_of_file(path, "majority", ["1", "2", "2.5"], ordered=False)
    assert found.select("item_id", "label", "n_votes").rows() == [("1", None, 2), ("2", "2.5", 2)]
    assert notes == ["1 rows have no label and are left out"]


def test_slicing_by_what_is_read_anyway_and_not_over_the_votes(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [
        ("a", "r", "x", "p"),
        ("a", "s", "x", "p"),
        ("b", "r", "x", "q"),
        ("b", "s", "y", "q"),
    ]
    paths = written(tmp_path, rows, ["item_id", "rater_id", "label", "policy"])
    for path in paths.values():
        table, _ = agreement_of_file(path, "nominal", ["policy"], 20)
        found = table.filter(coefficient="percent_agreement").drop_nulls("slice_value")
        assert dict(found.select("slice_value", "value").iter_rows()) == {"p": 1.0, "q": 0.0}
    before = paths["plain.csv"].read_bytes()
    done = modpipe("consensus", str(paths["plain.csv"]), "--to", str(paths["plain.csv"]))
    assert done.returncode == 1
    assert "is the file of votes itself" in done.stderr
    assert paths["plain.csv"].read_bytes() == before
