"""A section of a report as data: blocks with ids. HTML, Markdown and workbook are made from it, so none can lag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

Cell = str | int | float | bool | None


@dataclass(frozen=True)
class Note:
    """A paragraph."""

    id: str
    text: str


@dataclass(frozen=True)
class Grid:
    """A table: a heading per column, rows of cells; ``units`` under the headings where they have one."""

    id: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True)
class Chart:
    """A picture as SVG (from ``rendering/charts.py``, which escapes), with the words under it."""

    id: str
    svg: Markup
    caption: str


Block = Note | Grid | Chart


@dataclass(frozen=True)
class Section:
    """One section: a title and its blocks, in order. ``reads``: the tables it was made from."""

    id: str
    title: str
    blocks: Sequence[Block]
    reads: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class Advice:
    """One thing somebody should do, with the number behind it.

    ``rule``: id of the rule that found it; ``n`` and the interval belong to ``value``; ``owner``: who should do it.
    """

    rule: str
    text: str
    owner: str
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None
