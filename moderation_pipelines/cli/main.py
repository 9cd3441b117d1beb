"""modpipe: the pipeline for people and scripts. Results go to standard output, messages to standard error."""

import csv
import json
import os
import shutil
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from moderation_pipelines.cli.running import note_missing_keys, print_plan, run_and_print
from moderation_pipelines.cli.stage_commands import LineGroup
from moderation_pipelines.foundation.collector import relaxed_gc
from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.foundation.home import Home, find_home, repository_root
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.rendering.terminal import Format, HomeOption, err, failed, out, print_table

app = typer.Typer(
    cls=LineGroup,
    help="Labels in, trusted numbers out: the moderation labeling and evaluation pipeline.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


DayOption = Annotated[str | None, typer.Option(metavar="YYYY-MM-DD")]


def _day(text: str | None, name: str) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f'"{text}" is not a day like 2026-11-21', param_hint=f"--{name}") from None


def _moment(text: str | None) -> datetime | None:
    """A time; one without a zone is UTC, a day is its end."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        hint = "is not a time like 2026-11-21 or 2026-11-21T08:30:00Z"
        raise typer.BadParameter(f'"{text}" {hint}', param_hint="--as-of") from None
    if len(text) == 10:
        moment += timedelta(days=1, microseconds=-1)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@app.command()
def run(
    home: HomeOption = None,
    since: DayOption = None,
    until: DayOption = None,
    date_: Annotated[str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Only this day.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what judges would be asked and what it would cost; send nothing.")
    ] = False,
    retry_errors: Annotated[
        bool,
        typer.Option("--retry-errors", help="Ask judges only for what failed before, unreadable answers included."),
    ] = False,
    restate: Annotated[
        bool,
        typer.Option("--restate", help="Take policies, prompts and settings as they stand, also for days run before."),
    ] = False,
) -> None:
    """Materialise every day that has drops; eval sets, scores, metrics and report for the last of them."""
    first, last, only = _day(since, "since"), _day(until, "until"), _day(date_, "date")
    if only and (first or last):
        raise typer.BadParameter("--date stands alone, without --since and --until")
    place = find_home(home)
    if dry_run:
        print_plan(place, only or last, retry_errors)
        return
    if not run_and_print(place, first, last, only, retry_errors, restate):
        raise typer.Exit(1)


@app.command("fake-endpoint")
def fake_endpoint(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8765,
    plan: Annotated[Path | None, typer.Option(help="YAML file with the plan; see docs/fake-endpoint.md.")] = None,
    fault: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SHARE", help="A fault and its share, e.g. error_500=0.02. Repeat.")
    ] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Median latency in milliseconds.")] = None,
    requests_per_minute: Annotated[float | None, typer.Option(help="Refuse more with 429.")] = None,
    tokens_per_minute: Annotated[float | None, typer.Option(help="Refuse more with 429.")] = None,
    accuracy: Annotated[float | None, typer.Option(help="Share of right verdicts.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Stop by itself after so long.")] = None,
) -> None:
    """Serve an OpenAI-compatible endpoint on 127.0.0.1 that misbehaves to plan. For testing a set-up without a bill."""
    import asyncio

    from pydantic import ValidationError

    from moderation_pipelines.fake_endpoint.endpoint import FakeEndpoint
    from moderation_pipelines.fake_endpoint.plan import Plan, load_plan
    from moderation_pipelines.fake_endpoint.server import serve
    from moderation_pipelines.judging.calls.engine import run_async

    given = {
        "latency_ms": latency_ms, "requests_per_minute": requests_per_minute, "tokens_per_minute": tokens_per_minute,
        "accuracy": accuracy,
    }  # fmt: skip
    base = load_plan(plan) if plan is not None else Plan()
    values = base.model_dump() | {k: v for k, v in given.items() if v is not None}
    for entry in fault or []:
        name, _, share = entry.partition("=")
        try:
            values["faults"] = {**values["faults"], name: float(share)}
        except ValueError:
            raise UserError(f'--fault "{entry}" must be NAME=SHARE, as error_500=0.02') from None
    try:
        endpoint = FakeEndpoint(Plan.model_validate(values))
    except ValidationError as error:
        raise UserError("; ".join(str(e["msg"]).removeprefix("Value error, ") for e in error.errors())) from None

    def started(bound: int) -> None:
        out.print(escape(f"http://127.0.0.1:{bound}/v1"))
        err.print(escape(f"Counters: http://127.0.0.1:{bound}/fake/stats. Stop with Ctrl-C."))

    async def main() -> None:
        stop = asyncio.Event()
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, stop.set)
        await serve(endpoint, port, started, stop)

    try:
        run_async(main())
    except KeyboardInterrupt:
        pass
    except OSError as error:
        raise UserError(f"port {port} cannot be used: {error.strerror or error}; name another with --port") from None
    stats = endpoint.stats()
    err.print(escape(f"{stats['calls']:,} calls, {stats['billed']:,} billed, {stats['billed_twice']:,} of them again."))


@app.command()
def demo(home: HomeOption = None) -> None:
    """Put the sample drops into a home (default data/demo) and run the whole line on them. No key, no network."""
    from moderation_pipelines.sample.generate import sample_files
    from moderation_pipelines.tables.store import replacing

    root = Path(home) if home is not None else repository_root() / "data" / "demo"
    drops = root / "data" / "drops"
    files = sample_files()
    if drops.exists():
        theirs = [p for p in drops.rglob("*") if p.is_file() and str(p.relative_to(root)) not in files]
        if theirs:
            raise UserError(f"{root} holds drops that are not the sample's; name another folder with --home")
    changed = [name for name, data in files.items() if (root / name).exists() and (root / name).read_bytes() != data]
    if changed:
        raise UserError(
            f"{root / changed[0]} differs from the sample's and would be overwritten; name another folder with --home, "
            "or remove this one"
        )
    root.mkdir(parents=True, exist_ok=True)
    place = find_home(root)
    for name, data in files.items():
        target = place.root / name
        if not target.exists() or target.read_bytes() != data:
            with replacing(target) as temporary:
                temporary.write_bytes(data)
    err.print(escape(f"{len(files)} sample files in {place.root}"))
    if not run_and_print(place, None, None, None):
        raise typer.Exit(1)


@app.command()
def drop(
    file: Annotated[Path, typer.Argument(help="The file to deliver.")],
    feed: Annotated[str, typer.Option(metavar="FEED", help="Which feed it belongs to: content, labels.")],
    home: HomeOption = None,
    date_: Annotated[
        str | None, typer.Option("--date", metavar="YYYY-MM-DD", help="Its day. Default: today, UTC.")
    ] = None,
    check_only: Annotated[bool, typer.Option("--check-only", help="Say what would happen, place nothing.")] = False,
) -> None:
    """Check a file as ingestion would, print what would be quarantined, and place it in the landing zone."""
    from moderation_pipelines.ingest.day import check_file
    from moderation_pipelines.ingest.feed import FEEDS
    from moderation_pipelines.ingest.landing import DropFile, is_complete_name, place_drop
    from moderation_pipelines.ingest.rule_words import conversion_words
    from moderation_pipelines.policies.policy import load_policies

    FEEDS[feed]  # an unknown feed is told before anything is read
    place = find_home(home)
    day = _day(date_, "date") or datetime.now(UTC).date()
    settings = Settings.from_env()
    if not settings.start_date <= day <= datetime.now(UTC).date():
        raise UserError(f"{day} lies outside the days the pipeline knows: {settings.start_date} to today")
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    if not is_complete_name(file.name):
        raise UserError(f"{file}: would never be picked up: names starting with . or _ and .tmp, .part are skipped")
    policies = load_policies(place)
    with tempfile.TemporaryDirectory() as staging:
        result, bad = check_file(DropFile(feed, day, file), Path(staging), policies, settings)
    if result.reason is not None:
        raise failed(f"{file}: rejected: {result.reason}")
    shown = 50
    for row in bad.head(shown).iter_rows(named=True):
        out.print(escape(f"{file.name}:{row['drop_line']}: {row['message']}"))
    if bad.height > shown:
        out.print(f"… and {bad.height - shown:,} more")
    counts = f"{result.rows:,} rows: {result.accepted:,} good, {result.quarantined:,} to quarantine"
    counts += f", {result.duplicates:,} duplicates"
    out.print(escape(f"{file.name}: {counts}"))
    for (column, rule), n in sorted(result.conversions.items()):
        out.print(escape(f"{file.name}: {column}: {n:,} values, {conversion_words(rule)}"))
    for note in result.notes:
        out.print(escape(f"{file.name}: {note}"))
    if result.status == "quarantined":
        raise failed(f"{file}: not placed: {result.why}")
    if not check_only:
        target = place.drops / feed / str(day) / file.name
        before = target.read_bytes() if target.is_file() else None
        final = place_drop(place, file, feed, day)
        if before is None:
            out.print(escape(f"placed: {final}"))
        elif before == final.read_bytes():
            out.print(escape(f"unchanged: {final} was delivered before"))
        else:
            said = f"replaced: {final}, delivered before with {len(before):,} bytes, now {final.stat().st_size:,}"
            out.print(escape(said))


@app.command()
def check(home: HomeOption = None) -> None:
    """Every mistake in policies, prompts, examples, judges and eval-set specs at once; and what to divide items by."""
    import polars as pl

    from moderation_pipelines.eval_sets.specs import load_specs, unmet_locales
    from moderation_pipelines.ingest.twins_seen import near_twins_note
    from moderation_pipelines.judging.judges_file import load_judges
    from moderation_pipelines.orchestration.stages import all_problems, all_tables
    from moderation_pipelines.policies.policy import load_policies
    from moderation_pipelines.prompting.library import all_prompts
    from moderation_pipelines.tables.layout import LAYOUT, layout_of
    from moderation_pipelines.tables.warehouse import Warehouse

    place = find_home(home)
    problems = all_problems(place)
    if problems:
        for problem in problems:
            err.print(escape(str(problem)))
        if [p.file for p in problems] == ["prompts"]:
            err.print("(another home: --home or MODERATION_HOME; a first look: modpipe demo)")
        raise failed(f"{len(problems)} mistake{'' if len(problems) == 1 else 's'}")
    policies = load_policies(place)
    specs = load_specs(place, policies)
    judges = load_judges(place, policies)
    n_judges = len(judges.judges) + judges.baseline
    judge_word = "judge" if n_judges == 1 else "judges"
    out.print(
        f"{len(policies)} policies, {len(all_prompts(place, policies)[0])} prompts, {n_judges} {judge_word}, "
        f"{sum(len(s) for s in specs.values())} eval-set specs: all good"
    )
    content = Warehouse(place).scan(all_tables()["content"])
    there = content.select(pl.col("locale").drop_nulls().unique()).collect()["locale"].to_list()
    for note in unmet_locales((s for mine in specs.values() for s in mine), there) if there else []:
        err.print(escape(f"note: {note}"))
    if (seen := near_twins_note(place, Settings.from_env())) is not None:
        err.print(escape(f"note: {seen}"))
    note_missing_keys(e.api_key_env for e in judges.endpoints.values())
    if layout_of(place.warehouse) < LAYOUT:
        err.print(escape("note: the warehouse has an earlier layout; `modpipe migrate` brings it over"))


@app.command()
def migrate(home: HomeOption = None) -> None:
    """Bring a warehouse of an earlier layout over to the layout of today; rows stay as they are."""
    from moderation_pipelines.orchestration.stages import all_tables
    from moderation_pipelines.tables.layout import LAYOUT, layout_of
    from moderation_pipelines.tables.warehouse import Warehouse

    place = find_home(home)
    before = layout_of(place.warehouse)
    done = 0
    for table, what in Warehouse(place).migrate(all_tables().values()):
        done += 1
        err.print(escape(f"{table.name}: {what}"))
    if not done and before == LAYOUT:
        out.print(f"the warehouse has layout {LAYOUT} already")
    else:
        out.print(f"the warehouse has layout {LAYOUT} (before: {before})")


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help='e.g. "select policy, count(*) from votes group by 1"')],
    home: HomeOption = None,
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", metavar="TIME", help="What was known at a time: 2026-11-21 or 2026-11-21T08:30:00Z."),
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="How to print the rows.")] = Format.table,
) -> None:
    """DuckDB over the warehouse: every table by its name, and eval_set_items for all releases."""
    from moderation_pipelines.eval_sets.release import release_files
    from moderation_pipelines.orchestration.stages import all_tables
    from moderation_pipelines.tables.sql import run_sql

    place = find_home(home)
    columns, rows = run_sql(place, query, list(all_tables().values()), release_files(place), _moment(as_of))
    if format_ is Format.csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    elif format_ is Format.json:
        for row in rows:
            sys.stdout.write(json.dumps(dict(zip(columns, row, strict=True)), default=str, ensure_ascii=False) + "\n")
    else:
        right = [i for i in range(len(columns)) if any(isinstance(r[i], int | float) for r in rows[:50])]
        print_table(columns, rows, right)
        err.print(f"{len(rows):,} row{'' if len(rows) == 1 else 's'}", style="dim")


@app.command()
def ui(
    home: HomeOption = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 3000,
) -> None:
    """Open the Dagster UI on 127.0.0.1, with daemon, sensor and schedule running, until interrupted."""
    from moderation_pipelines.orchestration.runner import dagster_home

    place = _ui_home(home)
    folder = dagster_home(place)
    quiet = {"PYTHONWARNINGS": "ignore:Function `dev_command` is superseded"}
    environment = {**quiet, **os.environ, "MODERATION_HOME": str(place.root), "DAGSTER_HOME": str(folder)}
    dagster = shutil.which("dagster", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if dagster is None:
        raise UserError("the program dagster is not installed beside modpipe; run `make setup`")
    workspace = repository_root() / "workspace.yaml"
    target = ["-w", str(workspace)] if workspace.is_file() else ["-m", "moderation_pipelines.definitions"]
    err.print(escape(f"home {place.root}; open http://127.0.0.1:{port} (Ctrl-C ends it)"))
    os.chdir(workspace.parent if workspace.is_file() else place.root)
    os.execve(dagster, [dagster, "dev", *target, "-h", "127.0.0.1", "-p", str(port)], environment)  # noqa: S606


def _ui_home(home: Path | None) -> Home:
    """The home asked for; with none asked for and no policy in the repository's own home, the demo's if it is there."""
    if home is None and not os.environ.get("MODERATION_HOME"):
        own = find_home()
        demo_home = own.root / "data" / "demo"
        if not list(own.prompts.glob("*/policy.yaml")) and demo_home.is_dir():
            return find_home(demo_home)
    return find_home(home)


def main() -> None:
    """Entry point. Mistakes of people end in their messages and exit code 1, never in a traceback."""
    try:
        with relaxed_gc():
            app()
    except UserError as error:
        for problem in error.problems:
            err.print(escape(str(problem) if problem.file != "modpipe" else problem.message), style="red")
        sys.exit(1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        err.print(escape(f"{place}{error.strerror or type(error).__name__}"), style="red")
        sys.exit(1)
