"""The whole line on the sample, through the command line as a user runs it."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

import polars as pl
import pytest

from moderation_pipelines.accounting.tables import VALIDATIONS
from moderation_pipelines.agreement.tables import AGREEMENT
from moderation_pipelines.eval_sets.release import current_release, eval_set_names, releases
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.ingest.tables import CONTENT, CONVERSIONS, DROPS, QUARANTINE
from moderation_pipelines.judging.tables import SCORES
from moderation_pipelines.metrics.tables import METRICS, UNLIKE, unlike_name
from moderation_pipelines.metrics.unlike import WORDS
from moderation_pipelines.orchestration.stages import all_stages
from moderation_pipelines.policies.policy import load_policies
from moderation_pipelines.raters.tables import RATERS
from moderation_pipelines.reports.daily import write_report
from moderation_pipelines.sample.generate import BIASED, CARELESS, FAST, sample_files
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines_tests.conftest import ROOT, modpipe

Line = tuple[Home, "subprocess.CompletedProcess[str]"]


def test_the_committed_sample_is_what_the_module_makes() -> None:
    committed = {
        str(p.relative_to(ROOT / "data/sample")): p.read_bytes()
        for p in (ROOT / "data/sample").rglob("*")
        if p.is_file()
    }
    assert committed == sample_files()


def test_the_demo_prints_results_and_where_things_are(line: Line) -> None:
    home, done = line
    for word in ("Agreement between raters", "harassment v0001", "baseline-ngram", "Report:", "Releases:", "Tables:"):
        assert word in done.stdout
    assert "Traceback" not in done.stderr
    # Quiet: a line per day, how far a judge is where that takes long, and nothing of the libraries.
    lines = done.stderr.splitlines()
    assert sum(bool(re.match(r"\[\d/5\] 2026-", x)) for x in lines) == 5
    assert all(re.match(r"48 sample files|\[\d/5\] (2026-|baseline-ngram on |near-twins: )", x) for x in lines)
    assert "17 quarantined" in done.stdout
    for path in re.findall(r"(?:Report|Releases|Tables):\s+(\S+)", done.stdout):
        assert Path(path).exists()
    assert str(home.root) in done.stdout


def test_accounting_closes_and_every_kind_of_bad_row_is_caught(line: Line) -> None:
    warehouse = Warehouse(line[0])
    drops = warehouse.scan(DROPS).collect()
    assert drops["rows"].sum() == drops["accepted"].sum() + drops["quarantined"].sum() + drops["duplicates"].sum()
    assert drops.filter(feed="labels")["accepted"].sum() == warehouse.scan(VOTES).select(pl.len()).collect().item()
    assert drops.filter(feed="content")["accepted"].sum() == warehouse.scan(CONTENT).select(pl.len()).collect().item()
    rules = set(warehouse.scan(QUARANTINE).collect()["rule"])
    assert rules == {
        "unknown_policy", "unknown_label", "missing_value", "overlong_id", "unknown_kind", "bad_id", "broken_json",
        "invalid_utf8", "nul_byte", "ragged_row", "conflicting_item",
    }  # fmt: skip
    nulled = set(warehouse.scan(CONVERSIONS).collect()["rule"])
    assert nulled == {"bad_timestamp", "locale_respelt", "out_of_range", "wrong_type"}


def test_every_table_has_rows_and_every_number_its_n(line: Line) -> None:
    warehouse = Warehouse(line[0])
    agreement = warehouse.scan(AGREEMENT).collect()
    assert set(agreement["slice"]) == {"all", "locale", "pool", "guideline", "surface"}
    assert agreement.filter(pl.col("value").is_null() & pl.col("note").is_null()).is_empty()
    metrics = warehouse.scan(METRICS).collect()
    slicings = {"all", "locale", "surface", "severity", "label_confidence"}
    assert set(metrics["slice"]) == slicings | {unlike_name(s) for s in slicings}
    assert {
        "precision",
        "recall",
        "f1",
        "fpr",
        "fnr",
        "accuracy",
        "prevalence",
        "cohen_kappa",
        "auroc",
        "average_precision",
        "brier",
        "ece",
    } <= set(metrics["metric"])
    assert metrics["n"].null_count() == 0
    assert metrics.filter(pl.col("value").is_null() & pl.col("note").is_null()).is_empty()
    assert warehouse.scan(VALIDATIONS).collect().filter(~pl.col("passed"), severity="critical").is_empty()
    scores = warehouse.scan(SCORES).collect()
    assert scores.filter((pl.col("outcome") != "verdict") & pl.col("label").is_not_null()).is_empty()
    assert set(scores["judge_id"]) == {"baseline-ngram"}


def test_the_planted_raters_stand_out(line: Line) -> None:
    raters = Warehouse(line[0]).scan(RATERS).collect()
    last = raters.filter(drop_date=raters["drop_date"].max(), policy="harassment")
    accuracy = dict(last.select("rater_id", "accuracy").iter_rows())
    typical = last["accuracy"].median()
    assert isinstance(typical, float)
    assert max(accuracy[CARELESS], accuracy[FAST]) < typical
    assert last.filter(rater_id=FAST)["median_seconds"][0] < 4
    overall = raters.filter(drop_date=raters["drop_date"].max()).group_by("rater_id").agg(pl.col("bias").mean())
    assert f"Calibrate rater {FAST} on prohibited_goods" in next(line[0].reports.rglob("report.html")).read_text()
    assert dict(overall.iter_rows())[BIASED] > 0.1


def test_no_item_text_outside_the_places_for_it(line: Line) -> None:
    home, done = line
    texts = Warehouse(home).scan(CONTENT).filter(pl.col("text").str.len_chars() > 30).collect()["text"].to_list()
    assert len(texts) > 300
    # Dagster's storage holds all tags, metadata, events and logs of the runs.
    haystack = done.stdout + done.stderr
    databases = list(home.dagster_home.rglob("*.db"))
    assert databases
    for file in databases:
        with sqlite3.connect(file) as db:
            haystack += "\n".join(db.iterdump())
    for file in [
        *home.dagster_home.rglob("*.err"),
        *home.dagster_home.rglob("*.out"),
        *home.reports.rglob("*.html"),
        *home.reports.rglob("*.md"),
    ]:
        haystack += file.read_text(errors="replace")
    assert [t for t in texts if t in haystack] == []


@pytest.mark.slow
def test_a_second_run_asks_nothing_and_changes_nothing(line: Line, tmp_path: Path) -> None:
    home = Home(shutil.copytree(line[0].root, tmp_path / "again"))
    folders = ("data/warehouse", "data/reports")
    skip = ("_ledger",)

    def contents() -> dict[str, bytes]:
        return {
            str(p.relative_to(home.root)): p.read_bytes()
            for f in folders
            for p in (home.root / f).rglob("*")
            if p.is_file() and p.parent.name not in skip
        }

    before = contents()
    done = modpipe("run", "--home", str(home.root))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "; 0 new judge answers" in done.stdout
    assert contents() == before


@pytest.mark.slow
def test_two_homes_with_one_secret_give_byte_identical_releases(line: Line, tmp_path: Path) -> None:
    twin = tmp_path / "twin"
    for name, data in sample_files().items():
        (twin / name).parent.mkdir(parents=True, exist_ok=True)
        (twin / name).write_bytes(data)
    (twin / "data/warehouse").mkdir()
    shutil.copy(line[0].warehouse / "_secret", twin / "data/warehouse/_secret")
    assert modpipe("run", "--home", str(twin)).returncode == 0
    a, b = line[0], Home(twin)
    assert (
        eval_set_names(a) == eval_set_names(b) == ["harassment", "prohibited_goods", "prohibited_goods_sure", "scams"]
    )
    for name in eval_set_names(a):
        for ours, theirs in zip(releases(a, name), releases(b, name), strict=True):
            assert {p.name: p.read_bytes() for p in ours.path.iterdir()} == {
                p.name: p.read_bytes() for p in theirs.path.iterdir()
            }


def test_the_report_opens_offline_and_says_what_matters(line: Line) -> None:
    home, _ = line
    page = next(home.reports.rglob("report.html")).read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|@import|url\(""", page)
    for part in (
        "What to do next",
        "What arrived",
        "Agreement between raters",
        "Raters",
        "Eval sets",
        "Judges",
        "Items most worth reading",
        "<svg",
    ):
        assert part in page
    assert "prefers-color-scheme: dark" in page
    text = next(home.reports.rglob("report.md")).read_text()
    assert "## What to do next" in text
    validation = next(home.eval_sets.rglob("validation.html")).read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//|@import|url\(""", validation)


def test_report_and_terminal_lead_with_items_unlike_anything_learnt(line: Line) -> None:
    home, done = line
    metrics = Warehouse(home).scan(METRICS).filter(pl.col("metric") == "f1", pl.col("slice_value").is_null()).collect()
    n = {(r["eval_set"], r["slice"]): r["n"] for r in metrics.to_dicts()}
    assert n["scams", UNLIKE] < n["scams", "all"]
    assert re.search(rf"scams v0001 +baseline-ngram † .* {n['scams', UNLIKE]} +0\n", done.stdout)
    assert f"† {WORDS}" in done.stdout
    html, markdown = (next(home.reports.rglob(f"report.{ending}")).read_text() for ending in ("html", "md"))
    for text, second in ((html, "Not comparable"), (markdown, "not comparable")):
        assert text.index(f"†: {WORDS}") < text.index("baseline-ngram †") < text.index(second)
    row = next(x for x in markdown.splitlines() if x.startswith("| scams v0001 | baseline-ngram † | 0"))
    assert f" | {n['scams', UNLIKE]} | " in row
    assert "## What judges may have seen" in markdown


def test_the_workbook_holds_the_tables(line: Line) -> None:
    import zipfile

    with zipfile.ZipFile(next(line[0].reports.rglob("report.xlsx"))) as book:
        names = re.findall(r'<sheet name="([^"]+)"', book.read("xl/workbook.xml").decode())
        shared = book.read("xl/sharedStrings.xml").decode()
        sheets = [book.read(n).decode() for n in book.namelist() if n.startswith("xl/worksheets/sheet")]
    assert names == [
        "what to do",
        "drops",
        "quarantine",
        "conversions",
        "agreement",
        "methods",
        "reliability",
        "disagreements",
        "rater pairs",
        "guidelines",
        "raters",
        "eval sets",
        "metrics",
        "comparisons",
        "confusion",
        "read next",
        "leakage learnt",
        "leakage development_twins",
        "judge_validity tests",
        "operating_points thresholds",
    ]
    assert "krippendorff_alpha" in shared
    assert not any("<f>" in s for s in sheets)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["eval-sets", "list"], "prohibited_goods_sure"),
        (["eval-sets", "show", "harassment"], "# Eval set harassment, v0001"),
        (["eval-sets", "diff", "harassment", "v1", "v1"], "no difference"),
        (["sql", "select count(*) as n from votes where kind = 'gold'", "--format", "csv"], "n\n"),
        (
            ["sql", "select distinct eval_set from eval_set_items order by 1", "--format", "json"],
            '{"eval_set": "harassment"}',
        ),
        (["check"], "3 policies, 4 prompts, 1 judge, 4 eval-set specs: all good"),
    ],
)
def test_commands_on_a_finished_home(line: Line, arguments: list[str], said: str) -> None:
    done = modpipe(*arguments, "--home", str(line[0].root))
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_a_release_of_an_earlier_version_is_reported(line: Line, tmp_path: Path) -> None:
    """Its manifest had an interval of what was believed, and other keys."""
    home = Home(shutil.copytree(line[0].root, tmp_path / "home"))
    release = current_release(home, "harassment")
    assert release is not None
    file = release.path / "manifest.json"
    manifest = json.loads(file.read_text())
    manifest.pop("label_bases")
    manifest["gold_purity"] = {
        "n_violating": 9, "n_by_authority": 2, "expected_right": 8.9, "purity": 0.89753, "ci_low": 0.858, "ci_high": 0.937,
        "measured_on_gold": None,
    }  # fmt: skip
    file.chmod(0o644)
    file.write_text(json.dumps(manifest))
    day = max(Warehouse(home).days(METRICS))
    report = write_report(home, load_policies(home), day, Settings(), (), all_stages())
    assert report.broken == ()
    page = report.html.read_text()
    assert "not measured" in page
    assert "0.8975" not in page
    assert "expected 0.898" not in page
    assert "May a judge replace a rater?" in page
    assert "Rates and costs by threshold" in page
