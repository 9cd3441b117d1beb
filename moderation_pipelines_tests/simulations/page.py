"""How simulations are run: cells of a grid on two processes, at full size or a tenth, and the page their tables are on.

``make simulations`` runs them at full size and writes docs/simulations.md; elsewhere a tenth of the repetitions runs,
with bounds wider by what so few repetitions vary by.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import polars as pl

from moderation_pipelines_tests.conftest import ROOT

PAGE = ROOT / "docs" / "simulations.md"
FULL = os.environ.get("SIMULATIONS") == "full"
Cell = tuple[Any, ...]


def repetitions(full: int) -> int:
    """How many to run: all of them, or a tenth."""
    return full if FULL else max(2, full // 10)


def slack(share: float, n: int, sigmas: float = 4.0) -> float:
    """How far a share of ``n`` repetitions may lie from a bound: nothing at full size, else so many standard errors."""
    return 0.0 if FULL else sigmas * (share * (1 - share) / max(n, 1)) ** 0.5


def over_grid(work: Callable[[Cell], Any], cells: Iterable[Cell]) -> list[Any]:
    """``work`` of every cell, in order, on two processes."""
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        return list(pool.map(work, cells))


def publish(name: str, table: pl.DataFrame, keys: Sequence[str], digits: int = 3) -> None:
    """At full size writes the table on the page; else checks that the page has one of the same cells and columns."""
    written = _markdown(table, digits)
    page = PAGE.read_text(encoding="utf-8")
    place = re.compile(rf"(<!-- table {name} -->\n)(.*?)(<!-- end -->)", re.DOTALL)
    found = place.search(page)
    assert found, f"docs/simulations.md has no place for the table {name}"
    if FULL:
        PAGE.write_text(place.sub(lambda m: m[1] + written + m[3], page), encoding="utf-8")
        return
    n_keys = len(keys)
    ours, theirs = ([line.split("|")[1 : n_keys + 1] for line in t.splitlines()] for t in (written, found[2]))
    assert ours == theirs, f"docs/simulations.md has other cells in {name}: run make simulations"


def _markdown(table: pl.DataFrame, digits: int) -> str:
    def text(value: Any) -> str:
        if value is None:
            return ""
        return f"{value:.{digits}f}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(c.replace("_", " ") for c in table.columns) + " |"]
    lines.append("|" + " --- |" * table.width)
    lines += ["| " + " | ".join(text(v) for v in row) + " |" for row in table.iter_rows()]
    return "\n".join(lines) + "\n"
