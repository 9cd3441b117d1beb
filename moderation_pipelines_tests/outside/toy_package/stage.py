"""A stage as another package brings it: everything a stage can have, in a few lines each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from typing import Any

import polars as pl
import typer
from pydantic import BaseModel

from moderation_pipelines.foundation.errors import Problem, UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.located_yaml import parse_yaml, read_text
from moderation_pipelines.rendering.section import Advice, Grid, Note, Section
from moderation_pipelines.tables.column import count, day, text
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines.wiring.stage import Command, HomeFile, Stage

TOYS = Table(
    "toys_per_policy",
    "one policy",
    ("policy", "drop_date"),
    {"policy": text("policy id"), "n": count("votes of the day"), "words": text("a vote's label", holds_text=True),
     "drop_date": day("the day")},
)  # fmt: skip


class ToyThresholds(BaseModel, extra="forbid"):
    """A limit of the stage."""

    few: int = 1000


def build(days: Any) -> list[Any]:
    """The stage's assets."""
    from moderation_pipelines.wiring.day_run import DayRun, Span
    from moderation_pipelines.wiring.table_assets import Check, Checked, Made, tables_asset

    enough = Check(TOYS.name, "toys_are_enough", "There are as many as `few` says.", "warning")

    def work(run: DayRun) -> Iterator[Made | Checked]:
        frame = run.read(VOTES).group_by("policy").agg(n=pl.len(), words=pl.col("label").first()).collect()
        yield Made(TOYS, frame.sort("policy").with_columns(drop_date=pl.lit(run.date)))
        few = run.thresholds("toy", ToyThresholds).few
        yield enough.result(frame.filter(pl.col("n") < few).is_empty(), f"the limit is {few}")

    return [tables_asset(days, [TOYS], work, {VOTES: Span.DAY}, checks=[enough])]


def home_problems(home: Home) -> list[Problem]:
    """A mistake in toy.yaml."""
    file = home.prompts / "toy.yaml"
    if not file.exists():
        return []
    try:
        located = parse_yaml(read_text(file, "prompts/toy.yaml"), "prompts/toy.yaml")
    except UserError as error:
        return error.problems
    return [located.problem((k,), f'key "{k}" is not known') for k in located.value if k != "colour"]


def section(warehouse: Warehouse, of: date) -> Section | None:
    """The stage's part of the report."""
    rows = warehouse.scan(TOYS, [of]).select("policy", "n").collect().rows()
    return Section(
        "toys",
        "Toys <of> the day",
        [Note("toys-note", "Counted | by policy."), Grid("toys-grid", ["policy", "n"], rows)],
    )


def advice(warehouse: Warehouse, of: date) -> Sequence[Advice]:
    """What to do about them."""
    n = warehouse.scan(TOYS, [of]).select(pl.col("n").sum()).collect().item()
    return [Advice("toys_few", "Get more toys", "toy owner", float(n), None, None, n)]


def say(n: int = 1) -> None:
    """Say toy."""
    typer.echo("toy " * n)


STAGE = Stage(
    name="toy",
    charter="Toys. Not here: games.",
    tables=(TOYS,),
    assets="toy_package.stage:build",
    home_files=(HomeFile("toy", "toy.yaml"),),
    problems="toy_package.stage:home_problems",
    thresholds=ToyThresholds,
    sections=("toy_package.stage:section",),
    advice=("toy_package.stage:advice",),
    commands=(Command("toy", "Say toy.", "toy_package.stage:say"),),
)
