"""Agreement, consensus, comparison and planning from the command line, on files of one's own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import polars as pl
import pytest

from moderation_pipelines.agreement.of_file import agreement_of_file
from moderation_pipelines.consensus.of_file import consensus_of_file
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.ingest.vote_files import votes_file
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
    assert found["probability"].to_list() == [pytest.approx(2 / 3), 1.0, None]
    # In the order none, mild, severe the median of none and mild lies between them: no label either.
    ordered, _ = consensus_of_file(path, "median", ["none", "mild", "severe"], ordered=True)
    assert ordered["label"].to_list() == ["mild", "severe", None]
    done = modpipe("consensus", str(path), "--to", str(tmp_path / "labels.csv"))
    assert done.returncode == 0, done.stderr
    assert "3 items written" in done.stderr
    assert pl.read_csv(tmp_path / "labels.csv").columns == ["item_id", "label", "method", "probability", "n_votes"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("votes.parquet", b"not parquet", "cannot be read as parquet"),
        ("votes.txt", b"", r"ends in .txt; one of .parquet, .csv, .jsonl is read"),
        ("votes.csv", b"item,label\nx,a\n", r'no column "item_id"; did you mean "item"'),
        ("case.csv", b"Item_ID,label\nx,a\n", r'no column "item_id"; rename "Item_ID"'),
        ("empty.csv", b"", "is empty"),
        ("lines.jsonl", b"not json\n", "every line must be one JSON object"),
    ],
)
def test_files_that_cannot_be_votes_say_why(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        votes_file(tmp_path / name)
    with pytest.raises(UserError, match="no such file"):
        votes_file(tmp_path / "absent.csv")


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
    pl.concat([again, votes, gold], how="diagonal").write_parquet(path := tmp_path / "votes.parquet")
    table, notes = agreement_of_file(path, "nominal", replicates=20)
    assert table.filter(coefficient="krippendorff_alpha")["value"][0] == pytest.approx(0.743421, abs=1e-6)
    assert notes == [
        "not counted as votes: 1 of kind gold",
        "41 votes repeat a rater's vote on an item: the last one counts",
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
