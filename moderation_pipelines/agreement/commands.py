"""Commands of the stage."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from moderation_pipelines.rendering.terminal import (
    Format,
    comma_names,
    err,
    print_frame,
)


class ScaleKind(StrEnum):
    nominal = "nominal"
    ordinal = "ordinal"
    interval = "interval"
    ratio = "ratio"
    set = "set"


class IntervalKind(StrEnum):
    auto = "auto"
    analytic = "analytic"
    percentile = "percentile"
    bca = "bca"


def agreement_command(
    file: Annotated[
        Path, typer.Argument(help="Votes: .parquet, .csv or .jsonl (also .gz, .zst) with item_id, label and rater_id.")
    ],
    scale: Annotated[ScaleKind, typer.Option(help="Kind of scale of the labels.")] = ScaleKind.nominal,
    labels: Annotated[
        str | None, typer.Option(help="The label set in order, with commas. Needed for ordered text labels.")
    ] = None,
    by: Annotated[list[str] | None, typer.Option(help="A column to slice by; may be given several times.")] = None,
    replicates: Annotated[int, typer.Option(min=1, help="Bootstrap samples.")] = 1000,
    interval: Annotated[
        IntervalKind, typer.Option(help="auto: BCa bootstrap, analytic where raters are looked at.")
    ] = IntervalKind.auto,
    exact: Annotated[bool, typer.Option("--exact", help="Keep labels apart that differ only in spelling.")] = False,
    policy: Annotated[str | None, typer.Option(help="Only the votes of this policy.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print the rows.")] = Format.table,
) -> None:
    """Every agreement coefficient of a file of votes, with intervals and notes."""
    from moderation_pipelines.agreement.of_file import agreement_of_file

    names = comma_names(labels)
    frame, notes = agreement_of_file(file, scale.value, by or [], replicates, interval.value, names, exact, policy)
    for note in notes:
        err.print(escape(f"note: {note}"))
    print_frame(
        frame,
        format_,
        ("slice", "slice_value", "coefficient", "label", "value", "ci_low", "ci_high", "n_items", "n_rated"),
    )
    if format_ is Format.table:
        for note in frame["note"].drop_nulls().unique(maintain_order=True):
            who = frame.filter(frame["note"] == note)["coefficient"].unique(maintain_order=True)
            err.print(escape(f"{', '.join(who)}: {note}"), style="dim")
