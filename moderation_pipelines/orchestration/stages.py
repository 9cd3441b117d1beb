"""THE list of stages, in the order data flows. A new stage is a folder and one line here; all else is derived.

Other packages add stages by entry point (group ``moderation_pipelines.stage``); they come before the day is closed.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from moderation_pipelines.foundation.errors import Problem, UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.registry import loaded
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.ingest.landing import misplaced
from moderation_pipelines.policies.policy import Policies, load_policies
from moderation_pipelines.tables.table import Table
from moderation_pipelines.wiring.pipeline import Pipeline
from moderation_pipelines.wiring.stage import Stage

STAGES = (
    "in_force",
    "policies",
    "prompting",
    "votes",
    "ingest",
    "agreement",
    "consensus",
    "raters",
    "eval_sets",
    "judging",
    "leakage",
    "probes",
    "metrics",
)
CLOSING = ("accounting", "reports")
GROUP = "moderation_pipelines.stage"


@cache
def all_stages() -> tuple[Stage, ...]:
    """Every stage: those of the list, those of other packages, those that close the day."""
    own, closing = (
        [import_module(f"moderation_pipelines.{name}.stage").STAGE for name in names] for names in (STAGES, CLOSING)
    )
    found = [*own, *(_of_package(point) for point in entry_points(group=GROUP)), *closing]
    names = [stage.name for stage in found]
    tables = [table.name for stage in found for table in stage.tables]
    for kind, words in (("stage", names), ("table", tables)):
        twice = sorted({w for w in words if words.count(w) > 1})
        if twice:
            raise UserError(f'{kind} "{twice[0]}" stands twice; every {kind} needs a name of its own')
    return tuple(found)


def _of_package(point: EntryPoint) -> Stage:
    """A stage of another package. Raises :class:`UserError` naming it when it cannot be loaded or is none."""
    stage = loaded(point, "stage")
    if not isinstance(stage, Stage):
        raise UserError(f'stage "{point.name}": {point.value} is no Stage')
    return stage


def all_tables() -> dict[str, Table]:
    """Every table by its name, in the order data flows."""
    return {table.name: table for stage in all_stages() for table in stage.tables}


def home_problems(home: Home) -> list[Problem]:
    """Every mistake in the files a person edits, of every stage, by file and line."""
    return Pipeline(home, Settings(), all_stages()).problems()


def checked_policies(home: Home) -> Policies:
    """The home's policies, or :class:`UserError` with every mistake in the home's files."""
    problems = home_problems(home)
    if problems:
        raise UserError(problems)
    return load_policies(home)


def all_problems(home: Home) -> list[Problem]:
    """What ``modpipe check`` tells: mistakes in files, entries of the landing zone that no day will pick up, releases
    that are not as published."""
    from moderation_pipelines.eval_sets.release import broken_releases

    found = {*home_problems(home), *misplaced(home), *broken_releases(home)}
    return sorted(found, key=lambda p: (p.file, p.line or 0, p.message))
