"""What every filter after ingestion left out, and why: the sums close."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import polars as pl

from moderation_pipelines.tables.column import count, integer, text
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import DROP_DATE

LEFT_OUT = Table(
    "left_out",
    "one rule by which a step left rows out",
    ("stage", "subject", "step", "drop_date"),
    {
        "stage": text("step of the line, e.g. consensus or eval_sets"),
        "subject": text("what the rows are about, e.g. a policy or an eval set"),
        "step": integer("place of the rule in the order they are applied, from 1", minimum=1),
        "rule": text("reason for leaving rows out"),
        "n_in": count("rows before the rule", unit="rows"),
        "n_left_out": count("rows the rule left out", unit="rows"),
        "n_out": count("rows after it", unit="rows"),
        "drop_date": DROP_DATE,
    },
)


@dataclass
class Tally:
    """Rows of one subject through the filters of one step. Rows into a rule are the rows out of the previous rule."""

    stage: str
    subject: str
    n_in: int
    left_out: dict[str, int] = field(default_factory=dict)

    @property
    def n_out(self) -> int:
        return self.n_in - sum(self.left_out.values())

    def leave_out(self, rule: str, n: int) -> None:
        """Count ``n`` rows as left out by ``rule``. ValueError when there are not so many."""
        if not 0 <= n <= self.n_out:
            raise ValueError(f"{self.stage}, {self.subject}: {n} rows left out by {rule!r} of {self.n_out}")
        self.left_out[rule] = self.left_out.get(rule, 0) + n

    def rows(self) -> list[dict[str, Any]]:
        """Its rows of the table, in the order of the rules; one that says "nothing" when no rule left anything out."""
        out, before = [], self.n_in
        for step, (rule, n) in enumerate((self.left_out or {"nothing": 0}).items(), start=1):
            out.append({"stage": self.stage, "subject": self.subject, "step": step, "rule": rule,
                        "n_in": before, "n_left_out": n, "n_out": before - n})  # fmt: skip
            before -= n
        return out


def left_out_table(rows: Iterable[Mapping[str, Any]], day: date) -> pl.DataFrame:
    """The ``left_out`` rows of a day."""
    frame = pl.DataFrame(list(rows), schema={k: v for k, v in LEFT_OUT.schema.items() if k != "drop_date"})
    return LEFT_OUT.exactly(frame.lazy().with_columns(drop_date=pl.lit(day))).sort("stage", "subject", "step").collect()


def gaps(frame: pl.DataFrame) -> list[str]:
    """Where the sums do not close: rules whose rows out are not in minus left out, or not what the next rule got."""
    found = []
    for (stage, subject), part in frame.sort("step").group_by(["stage", "subject"], maintain_order=True):
        ins, gone, outs = (part[c].to_list() for c in ("n_in", "n_left_out", "n_out"))
        closes = all(i - g == o for i, g, o in zip(ins, gone, outs, strict=True)) and outs[:-1] == ins[1:]
        if not closes:
            found.append(f"{stage}, {subject}")
    return found


def total_left_out(tallies: Sequence[Tally]) -> int:
    return sum(sum(t.left_out.values()) for t in tallies)
