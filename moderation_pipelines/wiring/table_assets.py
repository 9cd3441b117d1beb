"""Assets that make tables, built from plain functions: what they read, what they make, what must hold.

Belongs here: everything all of them share: dependencies, schema checks, writing, what rows were made from, what was
left out, metadata. The functions themselves know no Dagster.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import dagster as dg
import polars as pl

from moderation_pipelines.auditing.expectation import Expectation
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.tables.checks import SchemaViolation
from moderation_pipelines.tables.in_force import IN_FORCE, is_open
from moderation_pipelines.tables.left_out import total_left_out
from moderation_pipelines.tables.table import SchemaMismatch, Table
from moderation_pipelines.wiring.day_run import DayRun, Span
from moderation_pipelines.wiring.partitions import Days
from moderation_pipelines.wiring.pipeline import Pipeline, day_of
from moderation_pipelines.wiring.presentation import (
    OWNERS,
    column_schema,
    describe,
    preview,
    user_errors_as_failures,
)

SCHEMA = "rows_are_what_the_table_says"
REPEATABLE = "moderation/repeatable"
ALONE = "moderation/fails_alone"


@dataclass(frozen=True)
class Made:
    """Rows of one table. ``frame`` is None where the function has written them itself. ``shown``: metadata."""

    table: Table
    frame: pl.DataFrame | None
    shown: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """Something that must hold of a table: its name, and why it exists. ``blocking``: what reads the table waits for
    it."""

    table: str
    name: str
    description: str
    severity: Literal["error", "warning"] = "error"
    blocking: bool = False

    @property
    def spec(self) -> dg.AssetCheckSpec:
        return dg.AssetCheckSpec(self.name, asset=self.table, description=self.description, blocking=self.blocking)

    def nothing(self, why: str) -> "Checked":
        """It had nothing to look at: a warning, never a pass."""
        return Checked(self, False, why, {}, "warning")

    def result(self, passed: bool, description: str | None = None, **metadata: Any) -> "Checked":
        return Checked(self, passed, description, metadata)


@dataclass(frozen=True)
class Checked:
    """How a check came out. A check that looked at nothing has not passed: say so in ``description``."""

    check: Check
    passed: bool
    description: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    severity: Literal["error", "warning"] | None = None

    @property
    def as_dagster(self) -> dg.AssetCheckResult:
        is_error = (self.severity or self.check.severity) == "error"
        return dg.AssetCheckResult(
            asset_key=self.check.table,
            check_name=self.check.name,
            passed=self.passed,
            severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
            description=self.description,
            metadata=dict(self.metadata),
        )


def expectation_checks(table: str, expectations: Iterable[Expectation]) -> list[Check]:
    """One check per expectation: its id and why it exists."""
    return [
        Check(table, e.id, f"{e.why[0].upper()}{e.why[1:]}. Severity: {e.severity}.",
              "error" if e.severity == "critical" else "warning")
        for e in expectations
    ]  # fmt: skip


def expectation_results(checks: Iterable[Check], audited: Mapping[str, list[dict[str, Any]]]) -> Iterator[Checked]:
    """Per-expectation results over all subjects: passed if it held on each; counts and examples by id.

    One that looked at nothing warns.
    """
    for check in checks:
        mine = {subject: r for subject, results in audited.items() for r in results if r["id"] == check.name}
        if not mine:
            yield Checked(check, False, "Nothing to look at.", {"subjects": 0}, "warning")
            continue
        broken = {subject: r for subject, r in mine.items() if not r["passed"]}
        metadata: dict[str, Any] = {"subjects": len(mine), "rows looked at": sum(r["n"] for r in mine.values())}
        if broken:
            metadata["broken on"] = ", ".join(broken)
            metadata["rows broken"] = sum(r["n_unexpected"] or 0 for r in broken.values())
            metadata["examples by id"] = ", ".join(x for r in broken.values() for x in r["examples"]) or "none"
            metadata["found"] = "; ".join(f"{s}: {r['observed']}" for s, r in broken.items() if r["observed"]) or "–"
        yield Checked(check, not broken, None, metadata)


Work = Callable[[DayRun], Iterable[Made | Checked]]


def tables_asset(
    days: Days,
    makes: Sequence[Table],
    work: Work,
    reads: Mapping[Table, Span] | None = None,
    after: Sequence[str] = (),
    checks: Sequence[Check] = (),
    kinds: Iterable[str] = ("polars", "parquet"),
    pool: str | None = None,
    name: str | None = None,
    repeatable: bool = True,
    fails_alone: bool = False,
) -> dg.AssetsDefinition:
    """An asset (or several from one step) that makes tables by ``work``.

    ``reads``: the tables ``work`` reads, and which of their days. ``after``: assets that must come first and are read
    another way. ``repeatable``: False for what buys something new each time: it refuses days that are not the newest.
    ``fails_alone``: no later stage waits for it; its failure says something. Every table gets a blocking check of its
    schema; the same check warns, and blocks nothing, when a table that had rows has none.
    """
    reads = dict(reads or {})
    daily = makes[0].daily
    made_here = {t.name for t in makes}
    deps: list[Any] = [_dep(days, table, span, made_here) for table, span in reads.items()]
    deps = [d for d in deps if d is not None] + list(after)
    if daily and makes[0] is not IN_FORCE:
        deps.append(IN_FORCE.name)
    own = [Check(t.name, SCHEMA, _schema_rule(t), blocking=True) for t in makes]
    specs = [
        dg.AssetSpec(
            t.name,
            group_name=days.group,
            kinds=set(kinds),
            owners=OWNERS,
            code_version=days.code_version,
            description=describe(t),
            deps=[*deps, *_own_past(days, t, reads)],
            metadata={"dagster/column_schema": column_schema(t)},
            tags={**({} if repeatable else {REPEATABLE: "no"}), **({ALONE: "yes"} if fails_alone else {})},
        )
        for t in makes
    ]
    op_name = name or makes[0].name

    @dg.multi_asset(
        name=op_name,
        specs=specs,
        partitions_def=days.daily if daily else None,
        check_specs=[c.spec for c in [*own, *checks]],
        pool=pool,
    )
    def asset(context: dg.AssetExecutionContext, pipeline: dg.ResourceParam[Pipeline]) -> Iterator[Any]:
        run = DayRun(pipeline, day_of(context.partition_key) if daily else None, reads)
        with user_errors_as_failures():
            if not repeatable and not is_open(run.warehouse, run.date):
                raise UserError(_refusal(makes, run))
            made_from = run.made_from()
            before = {t.name: run.warehouse.rows(t, run.day) for t in makes}
            for result in work(run):
                if isinstance(result, Checked):
                    yield result.as_dagster
                else:
                    yield from _written(result, run, made_from, before[result.table.name])
            run.keep_tallies(op_name)

    return asset


def _dep(days: Days, table: Table, span: Span, made_here: set[str]) -> dg.AssetDep | None:
    if table.name in made_here:
        return None
    return dg.AssetDep(table.name, partition_mapping=days.mapping(span))


def _own_past(days: Days, table: Table, reads: Mapping[Table, Span]) -> list[dg.AssetDep]:
    """A table that reads its own earlier days."""
    span = reads.get(table)
    return [] if span is None else [dg.AssetDep(table.name, partition_mapping=days.mapping(span))]


def _schema_rule(table: Table) -> str:
    key = ", ".join(table.key)
    return (
        f"Columns and types as documented; key ({key}) unique; nulls, bounds and lists as documented. Warns when a "
        "table that had rows has none."
    )


def _refusal(makes: Sequence[Table], run: DayRun) -> str:
    named = ", ".join(t.name for t in makes)
    return (
        f"{named} of {run.day} cannot be made again: it asks judges again, and later days were run since; "
        "its rows stay as they are"
    )


def _written(made: Made, run: DayRun, made_from: Mapping[str, str], before: int) -> Iterator[Any]:
    table, warehouse = made.table, run.warehouse
    if made.frame is not None:
        try:
            warehouse.write(table, made.frame, run.day, made_from)
        except (SchemaViolation, SchemaMismatch) as error:
            yield Checked(Check(table.name, SCHEMA, ""), False, str(error)).as_dagster
            raise dg.Failure(str(error), allow_retries=False) from None
    rows = warehouse.rows(table, run.day)
    head = warehouse.scan(table, None if run.day is None else [run.day]).head(8).collect()
    left_out = total_left_out(run.tallies)
    metadata: dict[str, Any] = {
        "dagster/row_count": rows,
        "path": dg.MetadataValue.path(str(warehouse.file(table, run.day))),
        "preview": preview(table, head),
        **({"left out": left_out} if left_out else {}),
        **made.shown,
    }
    gone = before > 0 and rows == 0
    told = f"It had {before:,} rows and has none now." if gone else None if rows else "No rows to look at."
    valid = Checked(
        Check(table.name, SCHEMA, ""),
        not gone,
        told,
        {"rows": rows, "rows before": before},
        "warning" if gone else None,
    )
    yield dg.MaterializeResult(asset_key=table.name, metadata=metadata, check_results=[valid.as_dagster])


def one(
    table: Table, make: Callable[[DayRun], pl.DataFrame], shown: Callable[[pl.DataFrame], dict[str, Any]] | None = None
) -> Work:
    """Work that makes one table by one function."""

    def work(run: DayRun) -> Iterator[Made]:
        frame = make(run)
        yield Made(table, frame, {} if shown is None else shown(frame))

    work.__doc__ = inspect.getdoc(make)
    return work
