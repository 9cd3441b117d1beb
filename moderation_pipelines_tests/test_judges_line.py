"""Judges through the whole line: dry run, run, rerun, batch, report, from the command line against a local endpoint."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest

from moderation_pipelines.fake_endpoint.endpoint import FakeEndpoint
from moderation_pipelines.fake_endpoint.plan import Plan
from moderation_pipelines.fake_endpoint.server import serving_fake
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.judging.tables import BATCHES, JUDGE_RUNS, SCORES
from moderation_pipelines.metrics.tables import METRICS
from moderation_pipelines.probes.tables import CANARIES, INJECTIONS
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines_tests.conftest import modpipe

JUDGES = """\
endpoints:
  local: {base_url: "%s", concurrency: 16, cool_down_seconds: 0.5, probe: true}
judges:
  llm: {endpoint: local, model: m1, price: {input_usd_per_million: 0.5, output_usd_per_million: 1.5}, budget_usd: 5}
  slow: {endpoint: local, model: m2, via: batch, canary: 0, injections: 0}
"""


@pytest.mark.slow
def test_judges_from_dry_run_to_report(line: tuple[Home, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    shutil.copytree(line[0].root, home.root)
    warehouse, day = Warehouse(home), ("--date", "2026-11-20")
    app = FakeEndpoint(Plan(faults={"refusal": 0.02, "error_500": 0.02, "prose": 0.02}))

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = modpipe(*arguments, "--home", str(home.root))
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done

    with serving_fake(app) as url:
        judges = JUDGES % url
        (home.prompts / "judges.yaml").write_text(judges.replace("base_url", "api_key_env: NOT_SET_HERE, base_url"))
        assert "NOT_SET_HERE is not set" in run("run", "--dry-run").stderr
        (home.prompts / "judges.yaml").write_text(judges)
        plan = run("run", "--dry-run").stdout
        assert "llm" in plan
        assert "Nothing was sent" in plan
        assert app.calls == 0
        run("run", *day)
        scores = warehouse.scan(SCORES).collect()
        llm = scores.filter(pl.col("judge_id") == "llm")
        assert llm.filter(pl.col("outcome") == "verdict").height > 0.9 * llm.height
        assert llm["cost_usd"].drop_nulls().min() > 0  # type: ignore[operator]
        slow = scores.filter(pl.col("judge_id") == "slow")
        assert slow["kind"].unique().to_list() == ["batch_pending"]
        metrics = warehouse.scan(METRICS).filter(pl.col("judge_id") == "slow", pl.col("metric") == "f1").collect()
        assert metrics["value"].null_count() == metrics.height
        assert "wait for a batch" in metrics["note"][0]
        runs = warehouse.scan(JUDGE_RUNS).collect()
        assert runs.filter(pl.col("judge_id") == "llm")["is_valid"].all()
        assert warehouse.scan(CANARIES).collect()["n_asked"].to_list() == [20, 20, 20]
        assert set(warehouse.scan(INJECTIONS).collect()["judge_id"]) == {"llm"}
        assert warehouse.scan(BATCHES).collect()["state"].unique().to_list() == ["submitted"]
        # Nothing is asked twice: the second run only looks at the batches, the third has their answers.
        calls = app.calls
        assert "0 new judge answers" in run("run", *day).stdout
        assert "0 new judge answers" in run("run", *day).stdout
        asked_again = app.calls - calls
        failed = llm.filter(pl.col("outcome").is_in(["api_error", "timeout"])).height
        assert asked_again <= 4 * failed + 8
        slow = warehouse.scan(SCORES).filter(pl.col("judge_id") == "slow").collect()
        assert slow.filter(pl.col("outcome") == "verdict").height > 0.9 * slow.height
        assert slow["via"].drop_nulls().unique().to_list() == ["batch"]
        assert "collected" in run("batches").stdout
        page = (home.reports / "2026-11-20" / "report.md").read_text()
        for said in ("What the judges did and what it cost", "Do they hold still?", "injections"):
            assert said in page
    # The endpoint is gone: a new judge is told so, the rest of the line goes on.
    (home.prompts / "judges.yaml").write_text((JUDGES % url).replace("m1", "m3").replace("probe: true", "probe: false"))
    done = run("run", *day, code=1)
    assert "no connection to 127.0.0.1" in done.stderr
