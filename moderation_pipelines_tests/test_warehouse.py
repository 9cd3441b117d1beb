"""Reading and writing tables: valid rows only, whole files only, what was known when, odd paths."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation_pipelines.foundation.errors import ReadFailure, UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.policies.tables import POLICIES
from moderation_pipelines.tables import store
from moderation_pipelines.tables.checks import SchemaViolation, violations
from moderation_pipelines.tables.column import count, day, flag, number, share, text
from moderation_pipelines.tables.table import SchemaMismatch, Table
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines_tests.conftest import DAY

TOY = Table(
    "toy",
    "one thing",
    ("thing", "part"),
    {
        "thing": text("what it is"),
        "part": text("which part; null for the whole", nullable=True),
        "n": count("how many"),
        "share": share("share of all; null when undefined"),
        "height": number("how high", minimum=-1, maximum=3),
        "colour": text("its colour", one_of=("red", "blue")),
        "words": text("what it says", nullable=True, holds_text=True),
        "seen": flag("whether it was seen", volatile=True),
        "drop_date": day("the day"),
    },
)
ROW: dict[str, Any] = {
    "thing": "a", "part": None, "n": 3, "share": 0.5, "height": 2.0, "colour": "red", "words": "hello", "seen": True,
    "drop_date": DAY,
}  # fmt: skip


def rows(*changes: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame([ROW | change for change in changes], schema=TOY.schema)


def test_a_table_never_written_has_no_rows_and_its_columns(tmp_path: Path) -> None:
    frame = Warehouse(Home(tmp_path)).scan(TOY).collect()
    assert (frame.height, frame.columns) == (0, TOY.schema.names())


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (rows({}).drop("height"), 'column "height" is missing'),
        (rows({}).rename({"height": "hieght"}), 'column "height" is missing; did you mean "hieght"?'),
        (rows({}).with_columns(more=pl.lit(1)), 'column "more" is not known'),
        (rows({}).with_columns(n=pl.lit(1.0)), 'column "n" is Float64, not Int64'),
        (rows({}).with_columns(drop_date=pl.lit("2026-03-02")), 'column "drop_date" is String, not Date'),
    ],
)
def test_a_frame_that_is_not_its_table_is_refused(tmp_path: Path, frame: pl.DataFrame, said: str) -> None:
    warehouse = Warehouse(Home(tmp_path))
    with pytest.raises(SchemaMismatch) as refused:
        warehouse.write(TOY, frame, DAY)
    assert said in str(refused.value)
    assert warehouse.days(TOY) == []


def test_columns_in_another_order_and_smaller_integers_are_the_same_table(tmp_path: Path) -> None:
    warehouse = Warehouse(Home(tmp_path))
    warehouse.write(TOY, rows({}).select(reversed(TOY.schema.names())).with_columns(pl.col("n").cast(pl.UInt8)), DAY)
    assert warehouse.scan(TOY).collect().equals(rows({}))


@pytest.mark.parametrize(
    ("changes", "rule", "column", "n"),
    [
        ([{"thing": None}], "null", "thing", 1),
        ([{"n": -1}, {"n": -2, "part": "p"}], "minimum", "n", 2),
        ([{"share": 1.5}], "maximum", "share", 1),
        ([{"height": -1.5}], "minimum", "height", 1),
        ([{"height": float("nan")}], "nan", "height", 1),
        ([{"colour": "green"}], "one_of", "colour", 1),
        ([{}, {"n": 4}], "unique", "thing, part", 2),
        ([{"part": "p"}, {"part": "p"}, {}], "unique", "thing, part", 2),
    ],
)
def test_rows_that_break_the_schema_are_refused_and_counted(
    tmp_path: Path, changes: list[dict[str, Any]], rule: str, column: str, n: int
) -> None:
    warehouse = Warehouse(Home(tmp_path))
    warehouse.write(TOY, rows({}), DAY)
    with pytest.raises(SchemaViolation) as refused:
        warehouse.write(TOY, rows(*changes), DAY)
    assert [(v.rule, v.column, v.n) for v in refused.value.violations] == [(rule, column, n)]
    assert warehouse.scan(TOY).collect().equals(rows({}))
    assert [p.name for p in warehouse.home.warehouse.iterdir() if p.name.startswith(".")] == []


def test_every_violation_is_told_at_once_and_none_shows_a_value() -> None:
    found = violations(TOY, rows({"thing": None, "colour": "secret-word", "share": 2.0}).lazy())
    assert {v.rule for v in found} == {"null", "one_of", "maximum"}
    assert not any("secret-word" in v.message for v in found)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["p", "q", None]), st.integers(-1, 1)), max_size=8))
def test_violations_are_those_a_reader_of_the_rows_would_count(made: list[tuple[str, str | None, int]]) -> None:
    frame = rows(*({"thing": t, "part": p, "n": n} for t, p, n in made))
    found = {(v.rule, v.column): v.n for v in violations(TOY, frame.lazy())}
    keys = [(t, p) for t, p, _ in made]
    negative, shared = sum(n < 0 for _, _, n in made), sum(keys.count(k) > 1 for k in keys)
    expected = {("minimum", "n"): negative, ("unique", "thing, part"): shared}
    assert found == {k: n for k, n in expected.items() if n}


def test_a_column_renamed_or_retyped_since_is_told_and_never_read_as_null(tmp_path: Path) -> None:
    warehouse = Warehouse(Home(tmp_path))
    file = warehouse.write(TOY, rows({}), DAY)
    rows({}).rename({"n": "count"}).with_columns(share=pl.lit("half")).write_parquet(file)
    with pytest.raises(ReadFailure) as refused:
        warehouse.scan(TOY)
    said = str(refused.value)
    for part in (
        "data/warehouse/toy/drop_date=2026-03-02/part-0.parquet", 'has no column "n"', 'has a column "count"',
        'has column "share" as String, not Float64', "run modpipe migrate",
    ):  # fmt: skip
        assert part in said


def test_a_file_that_cannot_be_read_is_not_an_empty_table(tmp_path: Path) -> None:
    warehouse = Warehouse(Home(tmp_path))
    warehouse.write(TOY, rows({}), DAY)
    warehouse.file(TOY, DAY).write_bytes(b"damaged")
    with pytest.raises(ReadFailure, match=f"drop_date={DAY}/part-0.parquet: cannot be read; run its day again"):
        warehouse.scan(TOY)


def test_a_home_with_brackets_in_its_path(tmp_path: Path) -> None:
    warehouse = Warehouse(Home(tmp_path / "a[1] *? 100%"))
    warehouse.write(TOY, rows({}), DAY)
    warehouse.write(TOY, rows({"n": 4}), DAY)
    assert warehouse.scan(TOY).collect().height == warehouse.rows(TOY, DAY) == 1
    assert [p.rows for p in warehouse.history(TOY, DAY)] == [1, 1]


# What was known when


def test_rows_that_did_not_change_keep_their_bytes_and_since_when_they_are_known(tmp_path: Path) -> None:
    warehouse = Warehouse(Home(tmp_path))
    file = warehouse.write(TOY, rows({}), DAY, {"votes": "v1"})
    before, first = {p.name: p.read_bytes() for p in file.parent.iterdir()}, warehouse.partition(TOY, DAY)
    warehouse.write(TOY, rows({}), DAY, {"votes": "v1"})
    assert {p.name: p.read_bytes() for p in file.parent.iterdir()} == before
    # Other bytes of the same rows, as another version of the writer makes them.
    rows({}).write_parquet(file, compression="snappy")
    os.utime(file, (1_700_000_000, 1_700_000_000))
    snappy = file.read_bytes()
    warehouse.write(TOY, rows({}), DAY, {"votes": "v2"})
    now = warehouse.partition(TOY, DAY)
    assert file.read_bytes() == snappy
    assert (now.known_at.year, dict(now.made_from)) == (2023, {"votes": "v2"})  # type: ignore[union-attr]
    assert first is not None


def test_what_was_known_at_a_time_can_be_read(tmp_path: Path) -> None:
    warehouse = Warehouse(Home(tmp_path))
    before = datetime.now(UTC)
    seen = []
    for n in (1, 2, 3):
        warehouse.write(TOY, rows({"n": n}), DAY)
        if n == 2:
            warehouse.write(TOY, rows({"n": 9}), DAY + timedelta(days=1))
        seen.append(datetime.now(UTC))
    known = [warehouse.scan(TOY, as_of=t).collect()["n"].to_list() for t in (before, *seen)]
    assert known == [[], [1], [2, 9], [3, 9]]
    assert warehouse.scan(TOY, [DAY], as_of=seen[0]).collect()["n"].to_list() == [1]
    told = warehouse.scan(TOY, known_at=True).collect()
    assert told["known_at"].to_list() == [warehouse.partition(TOY, d).known_at for d in warehouse.days(TOY)]  # type: ignore[union-attr]
    # Kept outside of what a reader of the table's files sees.
    assert sorted(p.name for p in warehouse.folder(TOY).rglob("*.parquet")) == ["part-0.parquet"] * 2


def test_replaced_rows_are_forgotten_after_the_time_they_are_kept(tmp_path: Path) -> None:
    warehouse = Warehouse(Home(tmp_path), keep_replaced=timedelta(0))
    for n in (1, 2, 3):
        warehouse.write(TOY, rows({"n": n}), DAY)
    assert [p.rows for p in warehouse.history(TOY, DAY)] == [1, 1]
    assert len(Warehouse(Home(tmp_path)).history(TOY, DAY)) == 2


def test_facts_belong_to_their_rows_whichever_rename_a_kill_comes_between(tmp_path: Path) -> None:
    warehouse = Warehouse(Home(tmp_path))
    file = warehouse.write(TOY, rows({"n": 1}), DAY, {"votes": "v1"})
    old_bytes, old = file.read_bytes(), warehouse.partition(TOY, DAY)
    warehouse.write(TOY, rows({"n": 2}), DAY, {"votes": "v2"})
    file.write_bytes(old_bytes)  # killed after the facts were written and before the rows were
    assert warehouse.partition(TOY, DAY) == old


def write_often(root: str, start: int) -> None:
    for n in range(start, start + 15):
        Warehouse(Home(Path(root))).write(TOY, rows({"n": n}), DAY)


def test_two_processes_on_one_table_leave_rows_with_their_facts(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=write_often, args=(str(tmp_path), n)) for n in (0, 100)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    warehouse = Warehouse(Home(tmp_path))
    partition = warehouse.partition(TOY, DAY)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert partition is not None
    assert partition.version == store.sha256(warehouse.file(TOY, DAY))
    assert len(warehouse.history(TOY, DAY)) == 30


# The store


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("old")

    def interrupted() -> None:
        with store.replacing(file) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert (file.read_text(), [p.name for p in tmp_path.iterdir()]) == ("old", ["f"])


def test_a_folder_is_published_whole_read_only_and_once(tmp_path: Path) -> None:
    def built(*names: str) -> Path:
        folder = tmp_path / "building"
        folder.mkdir()
        for name in names:
            (folder / name).write_text("x")
        return folder

    with pytest.raises(store.Incomplete, match="v0001 is not published: items missing or empty"):
        store.publish(built("card"), tmp_path / "set/v0001", ["items", "card"])
    assert not (tmp_path / "set/v0001").exists()
    store.remove_folder(tmp_path / "building")
    store.publish(built("items", "card"), tmp_path / "set/v0001", ["items", "card"])
    assert [p.stat().st_mode & 0o777 for p in sorted((tmp_path / "set/v0001").iterdir())] == [0o444, 0o444]
    with pytest.raises(FileExistsError):
        store.publish(built("items", "card"), tmp_path / "set/v0001", ["items", "card"])


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    kept = [tmp_path / "toy/part-0.parquet", tmp_path / ".staging-new/x", tmp_path / "toy/.note"]
    left = [tmp_path / ".staging-old/a/b", tmp_path / "toy/.part-0.parquet.abc.tmp"]
    for file in (*kept, *left):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    yesterday = time.time() - 2 * store.ORPHAN_SECONDS
    for path in (*left, tmp_path / ".staging-old/a", tmp_path / ".staging-old"):
        os.utime(path, (yesterday, yesterday))
    assert store.sweep(tmp_path) == [".staging-old", "toy/.part-0.parquet.abc.tmp"]
    assert all(file.exists() for file in kept)


def test_storage_that_is_not_local_is_refused_by_name(tmp_path: Path) -> None:
    assert store.local_path(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    with pytest.raises(UserError, match="only local folders"):
        store.exists("s3://bucket/key")


def test_a_folder_that_cannot_be_read_is_an_error_not_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert store.names(tmp_path / "nothing") == []
    with pytest.raises(ReadFailure, match="nothing is taken to be empty"):
        store.names(tmp_path / "file")


def test_json_is_written_the_same_every_time(tmp_path: Path) -> None:
    store.write_json(tmp_path / "a", {"b": 1, "a": [2]})
    store.write_json(tmp_path / "b", {"a": [2], "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert json.loads((tmp_path / "a").read_text()) == store.read_json(tmp_path / "a") == {"a": [2], "b": 1}


def test_a_day_is_named_for_daily_tables_only(tmp_path: Path) -> None:
    warehouse = Warehouse(Home(tmp_path))
    with pytest.raises(ValueError, match="a day is needed"):
        warehouse.file(TOY)
    with pytest.raises(ValueError, match="a day is not used"):
        warehouse.file(POLICIES, DAY)
