"""Hold the floors: a folder imports only folders below it. `make lint` runs it; `--picture` prints the docs' picture.

The order comes from the list of stages; only the rooms below and above them are named here.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import grimp

from moderation_pipelines.orchestration.stages import CLOSING, STAGES

PACKAGE = "moderation_pipelines"
BELOW = ("foundation", "stats", "similarity", "tables", "rendering", "auditing", "wiring")
ABOVE = ("fake_endpoint", "sample", "orchestration", "definitions", "cli")
# From the ground up.
FLOORS = (*BELOW, *STAGES, *CLOSING, *ABOVE)


def contracts() -> str:
    """The contracts as import-linter reads them."""
    layers = "\n".join(f"    {floor}" for floor in reversed(FLOORS))
    pure = "\n".join(
        f"    {PACKAGE}.{room}" for room in FLOORS if room in ("foundation", "stats", "tables", "rendering")
    )
    return f"""[importlinter]
root_package = {PACKAGE}
include_external_packages = True

[importlinter:contract:floors]
name = A folder imports only folders below it
type = layers
containers = {PACKAGE}
layers =
{layers}
exhaustive = True
exhaustive_ignores =
    py

[importlinter:contract:pure]
name = The lowest rooms know no Dagster
type = forbidden
source_modules =
{pure}
forbidden_modules =
    dagster

[importlinter:contract:text]
name = The identity of a text needs no Polars
type = forbidden
source_modules =
    {PACKAGE}.foundation
forbidden_modules =
    polars
"""


def check() -> int:
    """Run import-linter. Its exit code."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "contracts.ini"
        config.write_text(contracts())
        program = Path(sys.executable).parent / "lint-imports"
        done = subprocess.run([program, config, "--no-cache"], capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stdout + done.stderr)
    return done.returncode


def arrows() -> dict[str, set[str]]:
    """Which folders each folder imports."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    found: dict[str, set[str]] = {floor: set() for floor in FLOORS}
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            one, other = (m.split(".")[1] if "." in m else "" for m in (module, imported))
            if one and other and one != other:
                found[one].add(other)
    return found


def picture() -> str:
    """The folders from the top floor down, and what each imports directly, nearest floor first."""
    found = arrows()
    lines = ["| floor | folder | imports |", "| ---: | --- | --- |"]
    for place, floor in reversed(list(enumerate(FLOORS, start=1))):
        below = sorted(found[floor], key=FLOORS.index, reverse=True)
        lines.append(f"| {place} | `{floor}` | {', '.join(below) or '–'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if "--picture" in sys.argv:
        print(picture())
    else:
        raise SystemExit(check())
