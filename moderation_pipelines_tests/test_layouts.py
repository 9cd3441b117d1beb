"""Warehouses of earlier layouts: read as they lie, brought over, and told where they cannot be."""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import polars as pl
import pytest

from moderation_pipelines.eval_sets.release import find_release, releases
from moderation_pipelines.foundation.errors import ReadFailure, UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.orchestration.stages import all_tables
from moderation_pipelines.tables.layout import layout_of
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines_tests.conftest import modpipe

STORED = Path(__file__).parent / "stored" / "layout_1.tar.gz"


@pytest.fixture
def old(tmp_path: Path) -> Home:
    with tarfile.open(STORED) as archive:
        archive.extractall(tmp_path / "home", filter="data")
    return Home(tmp_path / "home")


def rows_of(home: Home) -> dict[str, bytes]:
    return {str(p.relative_to(home.root)): p.read_bytes() for p in home.warehouse.rglob("part-0.parquet")}


def test_the_first_layout_is_read_as_it_lies(old: Home) -> None:
    assert layout_of(old.warehouse) == 1
    counted = modpipe("sql", "--home", str(old.root), "--format", "csv", "select count(*) as n from votes")
    assert counted.stdout == "n\n480\n", counted.stderr
    release = find_release(old, "spam", "v0001")
    release.verify()  # raises where a row is not as published
    assert pl.read_parquet(release.path / "items.parquet").height == 83
    assert "`modpipe migrate` brings it over" in modpipe("check", "--home", str(old.root)).stderr


@pytest.mark.slow
def test_a_run_on_the_first_layout_keeps_its_release_and_asks_nothing_new(old: Home) -> None:
    before = {p.name: p.read_bytes() for p in releases(old, "spam")[0].path.iterdir()}
    done = modpipe("run", "--home", str(old.root))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "; 0 new judge answers" in done.stdout
    # Consensus has another prior since: items and labels are the same, how sure they are is not, nor what says it.
    first, second = releases(old, "spam")
    unsure = ["posterior", "probability", "basis", "vote_share"]
    assert second.items().drop(unsure).equals(first.items().drop(unsure))
    assert {p.name: p.read_bytes() for p in releases(old, "spam")[0].path.iterdir()} == before


def test_bringing_it_over_keeps_every_row_and_since_when_it_is_known(old: Home, tmp_path: Path) -> None:
    before, known = rows_of(old), Warehouse(old).partition(VOTES, Warehouse(old).days(VOTES)[0])
    metrics = all_tables()["metrics"]
    measured = Warehouse(old).scan(metrics).collect()
    assert known is not None
    done = modpipe("migrate", "--home", str(old.root))
    assert (done.returncode, done.stdout) == (0, "the warehouse has layout 2 (before: 1)\n")
    assert "votes: 2 partitions described" in done.stderr
    after = rows_of(old)
    # Columns that came later are all that changed, in the tables that have some.
    there = {Path(name).parts[2] for name in before}
    assert {Path(name).parts[2] for name in before if after[name] != before[name]} == {
        t.name for t in all_tables().values() if any(c.added or c.formerly for c in t.columns.values())
    } & there
    assert Warehouse(old).scan(metrics).collect().equals(measured)
    assert pl.read_parquet(Warehouse(old).files(metrics)[0]).columns == list(metrics.columns)
    assert layout_of(old.warehouse) == 2
    again = modpipe("migrate", "--home", str(old.root))
    assert (again.stdout, again.stderr) == ("the warehouse has layout 2 already\n", "")
    # A copy with new times of its files is known since when the first was.
    copy = Home(shutil.copytree(old.root, tmp_path / "copy", copy_function=shutil.copyfile))
    copied = Warehouse(copy).partition(VOTES, Warehouse(copy).days(VOTES)[0])
    assert copied is not None
    assert copied.known_at == known.known_at


def test_renamed_and_added_columns_are_read_from_rows_that_have_them_not(old: Home) -> None:
    metrics = all_tables()["metrics"]
    assert "labels_ci_low" in pl.read_parquet(Warehouse(old).files(metrics)[0]).columns
    rows = Warehouse(old).scan(metrics).collect()
    assert rows["relabelled_low"].is_not_null().any()
    assert rows["n_effective"].is_null().all()
    query = "select count(relabelled_low) as a, count(n_effective) as b from metrics"
    shown = modpipe("sql", "--home", str(old.root), "--format", "csv", query)
    assert shown.stdout == f"a,b\n{rows['relabelled_low'].is_not_null().sum()},0\n", shown.stderr


def test_a_column_of_another_type_is_told_and_cast_where_nothing_is_lost(old: Home) -> None:
    table = all_tables()["judge_runs"]
    day = Warehouse(old).days(table)[0]
    file = Warehouse(old).file(table, day)
    name = next(c for c, dtype in table.schema.items() if dtype == pl.Int64)
    right = pl.read_parquet(file)
    right.with_columns(pl.col(name).cast(pl.Int32)).write_parquet(file)
    with pytest.raises(ReadFailure, match=f'"{name}" as Int32, not Int64: .* run modpipe migrate'):
        Warehouse(old).scan(table).collect()
    done = modpipe("migrate", "--home", str(old.root))
    assert done.returncode == 0, done.stderr
    assert "judge_runs: 1 partitions described, 1 with other columns rewritten" in done.stderr
    assert Warehouse(old).scan(table).collect().equals(right)


def test_what_cannot_be_brought_over_is_named_and_the_layout_stays(old: Home) -> None:
    table, stays = all_tables()["judge_runs"], all_tables()["scores"]
    renamed, lossy = (Warehouse(old).file(t, Warehouse(old).days(t)[0]) for t in (table, stays))
    name = next(iter(table.schema))
    pl.read_parquet(renamed).rename({name: "other"}).write_parquet(renamed)
    label = pl.read_parquet(lossy).with_columns(pl.lit("many").alias("latency_ms"))
    label.write_parquet(lossy)
    done = modpipe("migrate", "--home", str(old.root))
    assert done.returncode == 1
    assert f'{old.relative(renamed)}: has no column "{name}"; run its day again, from its drops' in done.stderr
    assert 'has a column "other" that is not known' in done.stderr
    assert 'column "latency_ms" is String, not' in done.stderr
    assert "Traceback" not in done.stderr
    assert layout_of(old.warehouse) == 1


def test_a_layout_not_known_here_is_refused_before_anything_is_read(old: Home) -> None:
    (old.warehouse / "layout.json").write_text('{"layout": 3}')
    with pytest.raises(UserError, match="layout 3 is newer than this version knows"):
        Warehouse(old)
    for command in (["run"], ["migrate"], ["sql", "select 1"]):
        done = modpipe(command[0], "--home", str(old.root), *command[1:])
        assert done.returncode == 1
        assert "install that version" in done.stderr
        assert "Traceback" not in done.stderr
    (old.warehouse / "layout.json").write_text("[]")
    with pytest.raises(UserError, match="restore it from a copy"):
        Warehouse(old)


def test_a_new_warehouse_notes_its_layout(tmp_path: Path) -> None:
    home = Home(tmp_path / "new")
    table = all_tables()["policies"]
    Warehouse(home).write(table, table.empty())
    assert (home.warehouse / "layout.json").read_text().split() == ["{", '"layout":', "2", "}"]
    assert os.listdir(home.warehouse / "policies")


def test_sql_reads_no_column_of_another_name_as_null(old: Home) -> None:
    file = Warehouse(old).file(VOTES, Warehouse(old).days(VOTES)[1])
    pl.read_parquet(file).rename({"label": "lab"}).write_parquet(file)
    done = modpipe("sql", "--home", str(old.root), "select count(label) from votes")
    assert done.returncode == 1
    assert f'{old.relative(file)}: has no column "label"' in done.stderr
    assert "Traceback" not in done.stderr
