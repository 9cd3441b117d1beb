"""What ``modpipe run`` and ``modpipe demo`` print: progress, results, what did not work; and the plan of a dry run."""

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.rendering.terminal import err, out, print_table


@contextmanager
def _progress() -> Iterator[Any]:
    """A progress line on a terminal; on anything else one line per day."""
    if not err.is_terminal:
        last, told = [""], [time.monotonic()]

        def say(done: int, total: int, what: str) -> None:
            is_day = what.split(":")[0][:4].isdigit()
            if what != last[0] and (is_day or (": " in what and time.monotonic() - told[0] > 10)):
                err.print(escape(f"[{min(done + 1, total)}/{total}] {what}"))
                last[0], told[0] = what, time.monotonic()

        yield say
        return
    columns = (
        SpinnerColumn(), BarColumn(bar_width=24), TextColumn("{task.completed:g}/{task.total:g} days"),
        TimeElapsedColumn(), TextColumn("{task.description}"),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("starting", total=1)

        def show(done: int, total: int, what: str) -> None:
            progress.update(task, completed=done, total=total, description=escape(what[:110]))

        yield show


def print_plan(home: Home, day: date | None, retry_errors: bool) -> None:
    """What a run would ask of the judges, on the releases as they stand."""
    from moderation_pipelines.eval_sets.release import current_releases
    from moderation_pipelines.ingest.landing import landing_days
    from moderation_pipelines.judging.ledger.ledger import open_ledger
    from moderation_pipelines.judging.planning import plan_day
    from moderation_pipelines.judging.scores import day_tasks
    from moderation_pipelines.orchestration.stages import checked_policies
    from moderation_pipelines.probes.asking import one_per_policy
    from moderation_pipelines.probes.injections import INJECTIONS_SUITE
    from moderation_pipelines.tables.warehouse import Warehouse

    policies = checked_policies(home)
    with open_ledger(home.ledger) as ledger:
        day = day or max(landing_days(home), default=datetime.now(UTC).date())
        tasks, notes, _ = day_tasks(home, Warehouse(home), current_releases(home, policies), day)
        plans = plan_day(tasks, ledger, day, retry_errors)
    for note in notes:
        err.print(escape(note))
    if not plans:
        why = "no release stands yet: run once, then plan" if not tasks else "prompts/judges.yaml names no judge"
        out.print(f"Nothing would be asked: {why}.")
        return
    print_table(
        ["judge", "eval set", "items", "answered", "in batch", "to ask", "failed before", "tokens in", "tokens out",
         "cost", "at most", "budget left"],
        [
            [p.judge_id, f"{p.eval_set} {p.version}", f"{p.items:,}", f"{p.answered:,}", f"{p.in_batch:,}",
             f"{p.to_ask:,}", f"{p.failed_before:,}", f"{p.input_tokens:,}", f"{p.output_tokens:,}",
             _dollars(p.cost_usd), _dollars(p.most_usd), _dollars(p.left_usd)]
            for p in plans
        ],
        right=range(2, 12),
    )  # fmt: skip
    priced = [p.cost_usd for p in plans if p.cost_usd is not None]
    most = sum(p.most_usd or 0 for p in plans)
    total = f"${sum(priced):,.4f}, at most ${most:,.4f} without retries" if priced else "no price in judges.yaml"
    unpriced = len(plans) - len(priced)
    total += f" ({unpriced} without a price)" if priced and unpriced else ""
    out.print(f"\n{sum(p.to_ask for p in plans):,} requests, {total}. Tokens: {plans[0].basis}.")
    extra = sum(t.judge.canary + t.judge.injections * len(INJECTIONS_SUITE) for t in one_per_policy(tasks))
    if extra:
        out.print(f"In addition, up to {extra:,} calls a day for canaries and, once per prompt, injections.")
    note_missing_keys(t.endpoint.api_key_env for t in tasks)
    out.print("On the releases as they stand; drops that are new may change them. Nothing was sent.")


def _dollars(value: float | None) -> str:
    return "–" if value is None else f"${value:,.4f}"


def run_and_print(
    home: Home,
    since: date | None,
    until: date | None,
    only: date | None,
    retry_errors: bool = False,
    restate: bool = False,
) -> bool:
    """Run, print the results, say what failed. True if all of it worked."""
    from moderation_pipelines.orchestration.runner import dagster_home, run_line

    settings = Settings.from_env()
    started = datetime.now(UTC)
    with _progress() as tell:
        summary = run_line(home, settings, since, until, only, tell, retry_errors, restate)
    seconds = (datetime.now(UTC) - started).total_seconds()
    if any(f.step in ("scoring", "metrics") and f.run_id for f in summary.failed):
        err.print("Scores or metrics were not made: what is shown of judges is from an earlier run.", style="red")
    _print_results(home, summary.last_day)
    days = f"{len(summary.days)} day{'' if len(summary.days) == 1 else 's'}"
    out.print(f"\n{days} in {seconds:.0f} s; {summary.new_answers:,} new judge answers.")
    _print_rows(home, summary.days)
    _print_places(home, summary.last_day)
    for notice in summary.notices:
        err.print(escape(f"note: {notice}"))
    if not summary.failed:
        return True
    err.print(f"\n{len(summary.failed)} thing{'' if len(summary.failed) == 1 else 's'} did not work:", style="red")
    for f in summary.failed:
        err.print(escape(f"  {f.day} {f.step}: {f.message}"))
    if any(f.run_id for f in summary.failed):
        err.print(escape(f"Runs and logs: modpipe ui --home {home.root} (DAGSTER_HOME {dagster_home(home)})"))
    return False


def _print_results(home: Home, day: date) -> None:
    """The short result table of a day."""
    import polars as pl

    from moderation_pipelines.agreement.tables import AGREEMENT
    from moderation_pipelines.consensus.labels import chosen_methods
    from moderation_pipelines.consensus.tables import CONSENSUS_METHODS
    from moderation_pipelines.metrics.tables import METRICS, UNLIKE
    from moderation_pipelines.metrics.unlike import WORDS, leading
    from moderation_pipelines.rendering.pages import decimal, span
    from moderation_pipelines.tables.warehouse import Warehouse

    warehouse = Warehouse(home)
    alpha = warehouse.scan(AGREEMENT, [day]).filter(
        pl.col("slice") == "all", pl.col("coefficient").is_in(["krippendorff_alpha", "percent_agreement"])
    )
    rows: dict[str, dict[str, Any]] = {}
    for r in alpha.collect().to_dicts():
        rows.setdefault(r["policy"], {})[r["coefficient"]] = r
    methods = chosen_methods(warehouse.scan(CONSENSUS_METHODS, [day]).collect())
    out.print("\n[bold]Agreement between raters[/bold]")
    print_table(
        ["policy", "percent agreement", "alpha", "95 % interval", "items", "votes", "labels by"],
        [
            [
                policy,
                decimal(r["percent_agreement"]["value"]),
                decimal(r["krippendorff_alpha"]["value"]),
                span(r["krippendorff_alpha"]["ci_low"], r["krippendorff_alpha"]["ci_high"]),
                f"{r['krippendorff_alpha']['n_items']:,}",
                f"{r['krippendorff_alpha']['n_votes']:,}",
                methods.get(policy, "–"),
            ]
            for policy, r in rows.items()
        ],
        right=(1, 2, 4, 5),
    )
    scored = leading(warehouse.scan(METRICS, [day]).collect()).filter(
        pl.col("metric").is_in(["precision", "recall", "f1"])
    )
    judged: dict[tuple[str, str], dict[str, Any]] = {}
    for r in scored.to_dicts():
        learnt = " †" if r["slice"] == UNLIKE else ""
        judged.setdefault((f"{r['eval_set']} {r['version']}", f"{r['judge_id']}{learnt}"), {})[r["metric"]] = r
    if judged:
        out.print("\n[bold]Judges[/bold]")
        print_table(
            ["eval set", "judge", "precision", "recall", "F1", "95 % interval", "n", "missing"],
            [
                [
                    eval_set,
                    judge,
                    *(decimal(m[k]["value"], 2) for k in ("precision", "recall", "f1")),
                    span(m["f1"]["ci_low"], m["f1"]["ci_high"], 2),
                    f"{m['f1']['n']:,}",
                    m["f1"]["n_missing"],
                ]
                for (eval_set, judge), m in judged.items()
            ],
            right=(2, 3, 4, 6, 7),
        )
    for (eval_set, judge), m in judged.items():
        if m["f1"]["value"] is None:
            out.print(f"{eval_set}, {judge}: {m['f1']['note']}")
    if any(judge.endswith("†") for _, judge in judged):
        out.print(f"† {WORDS}; all items: the report, or `modpipe sql` on metrics")


def _print_rows(home: Home, days: Sequence[date]) -> None:
    """What became of the rows of the days that ran."""
    from moderation_pipelines.ingest.tables import DROPS
    from moderation_pipelines.tables.warehouse import Warehouse

    total = Warehouse(home).scan(DROPS, days).select("rows", "accepted", "quarantined", "duplicates").sum().collect()
    rows, accepted, quarantined, duplicates = total.row(0)
    out.print(
        f"{rows:,} rows delivered: {accepted:,} accepted, {quarantined:,} quarantined, {duplicates:,} duplicates"
        + ("; why: the report, or `modpipe sql` on quarantine" if quarantined else "")
    )


def _print_places(home: Home, day: date) -> None:
    report = home.reports / str(day) / "report.html"
    for name, path in (("Report", report), ("Releases", home.eval_sets), ("Tables", home.warehouse)):
        if path.exists():
            out.print(f"{name + ':':<10}{escape(str(path))}")
    out.print(f"{'UI:':<10}{escape(f'modpipe ui --home {home.root}')}")


def note_missing_keys(names: Iterable[str | None]) -> None:
    for name in sorted({n for n in names if n}):
        if not os.environ.get(name, "").strip():
            err.print(escape(f"note: the environment variable {name} is not set; a run needs it"))
