"""Commands of the stage."""

from typing import Annotated

import typer

from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.foundation.home import find_home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.rendering.terminal import Format, HomeOption, out, print_frame


def compare(
    eval_set: str,
    first: Annotated[str, typer.Argument(help="A judge; or a version, with --judge.")],
    second: Annotated[str, typer.Argument(help="Another judge; or a later version, with --judge.")],
    judge: Annotated[str | None, typer.Option(help="Compare this judge on two versions.")] = None,
    version: Annotated[
        str | None, typer.Option(help="Compare two judges on this version. Default: the newest.")
    ] = None,
    home: HomeOption = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print the rows.")] = Format.table,
) -> None:
    """Two judges on one release, or one judge on two releases: paired differences with intervals and tests."""
    from moderation_pipelines.eval_sets.release import find_release, releases
    from moderation_pipelines.metrics.asked import comparison

    place = find_home(home)
    replicates = Settings.from_env().bootstrap_replicates
    if judge is not None:
        if version is not None:
            raise UserError("--judge compares two versions, given as arguments; leave --version away")
        frame = comparison(place, eval_set, (first, second), (judge,), replicates)
    else:
        there = releases(place, eval_set)
        release = find_release(place, eval_set, version or (there[-1].version if there else "1"))
        frame = comparison(place, eval_set, (release.version,), (first, second), replicates)
    columns = ("slice", "slice_value", "metric", "value_a", "value_b", "difference", "ci_low", "ci_high", "n",
               "n_only_a", "n_only_b", "p_value", "p_adjusted")  # fmt: skip
    print_frame(frame, format_, (*columns, *(["note"] if frame["note"].count() else [])))


def plan(
    rate: Annotated[float | None, typer.Option(help="A rate to estimate; with --half-width.")] = None,
    half_width: Annotated[
        float | None, typer.Option(help="How far its 95 % interval may reach, on the longer side.")
    ] = None,
    rates: Annotated[
        tuple[float, float] | None, typer.Option(help="Two rates on different items, to tell apart.")
    ] = None,
    paired: Annotated[
        tuple[float, float] | None,
        typer.Option(help="Two judges on the same items: share only the first gets right, share only the second."),
    ] = None,
    power: Annotated[float, typer.Option(help="Chance to see the difference.")] = 0.8,
    items: Annotated[int | None, typer.Option(min=1, help="Instead: the power of this many items.")] = None,
) -> None:
    """How many items it takes: for an interval, for two rates, for two judges on the same items. Tests are two-sided at
    a level of 0.05, intervals 95 %."""
    from moderation_pipelines.stats import power as planning

    if items is not None and (rate is not None or half_width is not None):
        raise UserError("--items goes with --rates or --paired: an interval has no power")
    asked = [rate is not None or half_width is not None, rates is not None, paired is not None]
    if sum(asked) != 1 or (asked[0] and (rate is None or half_width is None)):
        raise UserError("give one of: --rate with --half-width; --rates A B; --paired A B")
    try:
        if rate is not None and half_width is not None:
            n = planning.items_for_interval(rate, half_width)
            out.print(
                f"{n:,} items give a rate of {rate:g} an interval that reaches at most {half_width:g} to either side."
            )
        elif rates is not None and items is not None:
            found = planning.power_of_two_rates(*rates, items)
            out.print(f"{items:,} items a group show {rates[0]:g} against {rates[1]:g} with power {found:.3f}.")
        elif rates is not None:
            n = planning.items_for_two_rates(*rates, power)
            out.print(f"{n:,} items a group show {rates[0]:g} against {rates[1]:g} with power {power:g}.")
        elif paired is not None and items is not None:
            found = planning.power_of_paired_rates(*paired, items)
            out.print(
                f"{items:,} items judged by both show {paired[0]:g} against {paired[1]:g} with power {found:.3f}."
            )
        elif paired is not None:
            n = planning.items_for_paired_rates(*paired, power)
            out.print(f"{n:,} items judged by both show {paired[0]:g} against {paired[1]:g} with power {power:g}.")
    except ValueError as error:
        raise UserError(str(error)) from None
