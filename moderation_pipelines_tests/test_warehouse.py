"""Reading and writing tables: whole files only, other days' schemas, odd paths."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from moderation_pipelines.errors import ReadFailure
from moderation_pipelines.home import Home
from moderation_pipelines.tables.schema import POLICIES, RATERS
from moderation_pipelines.tables.warehouse import Warehouse, atomic_path
from moderation_pipelines_tests.conftest import DAY

ROW = pl.DataFrame({"rater_id": ["r"], "policy": ["p"], "n_votes": [3]})


def test_a_table_never_written_has_no_rows_and_its_columns(tmp_path: Path) -> None:
    frame = Warehouse(Home(tmp_path)).scan(RATERS).collect()
    assert (frame.height, frame.columns) == (0, RATERS.schema.names())


def test_days_written_before_a_column_existed_read_as_null(tmp_path: Path) -> None:
    warehouse = Warehouse(Home(tmp_path))
    warehouse.write(RATERS, ROW, DAY + timedelta(days=1))
    old = warehouse.file(RATERS, DAY)
    old.parent.mkdir(parents=True)
    ROW.with_columns(gone=pl.lit(1)).write_parquet(old)
    frame = warehouse.scan(RATERS).collect()
    assert frame["n_votes"].to_list() == [3, 3]
    assert frame["others_accuracy"].to_list() == [None, None]


def test_a_file_that_cannot_be_read_is_not_an_empty_table(tmp_path: Path) -> None:
    warehouse = Warehouse(Home(tmp_path))
    warehouse.write(RATERS, ROW, DAY)
    warehouse.file(RATERS, DAY).write_bytes(b"damaged")
    with pytest.raises(ReadFailure, match=f"drop_date={DAY}/part-0.parquet: cannot be read; run its day again"):
        warehouse.scan(RATERS)


def test_a_home_with_brackets_in_its_path(tmp_path: Path) -> None:
    warehouse = Warehouse(Home(tmp_path / "a[1] *?"))
    warehouse.write(RATERS, ROW, DAY)
    assert warehouse.scan(RATERS).collect().height == warehouse.rows(RATERS, DAY) == 1


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_text("old")

    def interrupted() -> None:
        with atomic_path(file) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert (file.read_text(), [p.name for p in tmp_path.iterdir()]) == ("old", ["f"])


def test_a_day_is_named_for_daily_tables_only(tmp_path: Path) -> None:
    warehouse = Warehouse(Home(tmp_path))
    with pytest.raises(ValueError, match="a day is needed"):
        warehouse.file(RATERS)
    with pytest.raises(ValueError, match="a day is not used"):
        warehouse.file(POLICIES, DAY)
