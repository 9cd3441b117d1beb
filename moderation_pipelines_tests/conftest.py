"""Fixtures: small homes made on the spot, and one home the whole line ran on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.ingest.day import DayIngest, ingest_day
from moderation_pipelines.policies.policy import Policies, load_policies
from moderation_pipelines.tables.warehouse import Warehouse

ROOT = Path(__file__).resolve().parents[1]
DAY = date(2026, 3, 2)

HARASSMENT = """\
id: harassment
title: Harassment
version: "1"
scale: nominal
labels:
  - {id: fine, violating: false}
  - {id: bad, violating: true, severity: 1}
abstain: [unsure]
definition: Attacks a person.
"""

LEVELS = """\
id: levels
title: Levels
version: "1"
scale: ordinal
labels:
  - {id: none, violating: false, severity: 0}
  - {id: mild, violating: true, severity: 1}
  - {id: severe, violating: true, severity: 2}
on_repeat: first
aggregation: majority
definition: How bad it is.
"""


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("MODERATION_", "DAGSTER_HOME")) and name != "MODERATION_SHARED_DATA":
            monkeypatch.delenv(name)


@dataclass
class SmallHome:
    """A home in a temporary folder, with helpers to deliver drops and ingest them."""

    home: Home
    settings: Settings = field(default_factory=lambda: Settings(bootstrap_replicates=100))

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.home)

    @property
    def policies(self) -> Policies:
        return load_policies(self.home)

    def write(self, name: str, data: str | bytes) -> Path:
        path = self.home.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def deliver(self, feed: str, name: str, rows: list[dict[str, Any]] | str | bytes, day: date = DAY) -> Path:
        if isinstance(rows, list):
            rows = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
        return self.write(f"data/drops/{feed}/{day}/{name}", rows)

    def ingest(self, day: date = DAY) -> DayIngest:
        return ingest_day(self.warehouse, self.policies, day, self.settings)


@pytest.fixture
def small(tmp_path: Path) -> SmallHome:
    made = SmallHome(Home(tmp_path / "home"))
    made.write("prompts/harassment/policy.yaml", HARASSMENT)
    made.write("prompts/levels/policy.yaml", LEVELS)
    return made


def modpipe(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as a user would, in a process of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MODERATION_", "DAGSTER_HOME"))}
    return subprocess.run(
        [sys.executable, "-c", "from moderation_pipelines.cli.main import main; main()", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        env={**kept, "COLUMNS": "200", **env},
        timeout=540,
        check=False,
    )


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[Home, subprocess.CompletedProcess[str]]:
    """A home the whole line ran on once: the sample, through `modpipe demo`."""
    root = tmp_path_factory.mktemp("line") / "home"
    done = modpipe("demo", "--home", str(root))
    assert done.returncode == 0, done.stderr[-3000:]
    return Home(root), done


@pytest.fixture
def make_file(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def make(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return make


def shared_data() -> Path:
    """Real data homes: beside the checkout, or where MODERATION_SHARED_DATA says."""
    return Path(os.environ.get("MODERATION_SHARED_DATA", ROOT.parent / "shared" / "data"))


def real_home(name: str, target: Path) -> Home:
    """A writable copy of a real data home; skips where there is none."""
    import shutil

    source = shared_data() / name
    if not source.is_dir():
        pytest.skip(f"no real data home at {source}; set MODERATION_SHARED_DATA to the folder that holds {name}")
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    for folder, _, _ in os.walk(target):
        Path(folder).chmod(0o755)
    return Home(target)
