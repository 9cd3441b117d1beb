"""Commands of the stage."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.rendering.terminal import Format, comma_names, err, print_frame


def consensus_command(
    file: Annotated[
        Path,
        typer.Argument(help="Votes: .parquet, .csv or .jsonl (also .gz, .zst) with item_id, label, rater_id, kind."),
    ],
    method: Annotated[str, typer.Option(help="How votes add up: a method of docs/statistics.md.")] = "dawid_skene",
    labels: Annotated[str | None, typer.Option(help="The label set in order, with commas. Default: those met.")] = None,
    ordered: Annotated[bool, typer.Option("--ordered", help="The labels are in order.")] = False,
    to: Annotated[Path | None, typer.Option(help="Write a .parquet or .csv here instead of printing.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Keep labels apart that differ only in spelling.")] = False,
    policy: Annotated[str | None, typer.Option(help="Only the votes of this policy.")] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print the rows.")] = Format.table,
) -> None:
    """A label for every item of a file of votes."""
    from moderation_pipelines.consensus.of_file import consensus_of_file
    from moderation_pipelines.tables.store import replacing

    if ordered and not labels:
        raise UserError("--ordered needs --labels: the labels in their order, such as none,mild,severe")
    if to is not None and to.suffix not in (".parquet", ".csv"):
        raise UserError(f"{to}: ends in {to.suffix or 'nothing'}; .parquet or .csv is written")
    if to is not None and to.exists() and file.exists() and to.samefile(file):
        raise UserError(f"{to}: is the file of votes itself; write the labels to another")
    frame, notes = consensus_of_file(file, method, comma_names(labels), ordered, exact, policy)
    for note in notes:
        err.print(escape(f"note: {note}"))
    if to is None:
        print_frame(frame, format_, tuple(frame.columns))
        return
    with replacing(to) as temporary:
        frame.write_parquet(temporary) if to.suffix == ".parquet" else frame.write_csv(temporary)
    err.print(escape(f"{frame.height:,} items written to {to}; {frame['label'].null_count():,} without a label"))
