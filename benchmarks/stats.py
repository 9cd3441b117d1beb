"""Agreement and consensus at 1, 10 and 100 million votes, beside the competitors, in one run.

python benchmarks/stats.py [--sizes 1e6 1e7 1e8] [--runs 3] [--folder FOLDER]

Every task runs in a process of its own, in turn, so that nobody inherits another's memory; the order goes round for
each run, and the median counts. Prints the table of docs/benchmarks.md. Competitors need the environment of
moderation_pipelines_tests/oracles (made here if it is not there); without it they are left out and the table says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from votes import write_votes  # noqa: E402

from moderation_pipelines_tests.oracles.environment import oracle_python  # noqa: E402

# Task, largest size it is run at, runs at most. Competitors last.
OURS = [("group_by", 1e8, 9), ("agreement_pack", 1e8, 9), ("agreement_command", 1e8, 9),
        ("consensus_function", 1e7, 3), ("consensus_command", 1e7, 3), ("dawid_skene", 1e8, 3),
        ("dawid_skene_10", 1e6, 9), ("one_coin_10", 1e6, 9), ("mace", 1e7, 3), ("glad", 1e7, 3)]  # fmt: skip
THEIRS = [("krippendorff_alpha", 1e7, 3), ("crowdkit_dawid_skene_10", 1e6, 3), ("crowdkit_one_coin_10", 1e6, 1),
          ("crowdkit_mace", 1e5, 1), ("crowdkit_glad", 1e5, 1)]  # fmt: skip
ALSO_SMALL = ("mace", "glad")
# The commands are run on votes of which this share repeats, with kinds and policies.
COMMANDS = ("agreement_command", "consensus_command")
REPEATED = 0.002


def measure(task: str, path: Path, python: str) -> dict[str, float]:
    """Run one task and return its seconds, peak memory and what it found."""
    environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}{os.pathsep}{HERE}", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [python, str(HERE / "stats_task.py"), task, str(path)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{task} on {path.name} failed:\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=float, default=[1e6, 1e7, 1e8])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "moderation_pipelines_benchmarks")
    arguments = parser.parse_args()
    theirs = oracle_python()
    if theirs is None:
        print("competitors left out: their environment could not be made (no package registry)", file=sys.stderr)
    rows: list[tuple[str, float, dict[str, float]]] = []
    sizes = sorted({1e5, *arguments.sizes})
    for size in sizes:
        path, repeating = (arguments.folder / f"votes_{size:.0e}{more}.parquet" for more in ("", "_repeats"))
        for file, repeated in ((path, 0.0), (repeating, REPEATED)):
            if not file.exists():
                print(f"writing {size:,.0f} votes to {file}", file=sys.stderr)
                write_votes(int(size), file, repeated=repeated)
        tasks = [
            (t, sys.executable, runs) for t, most, runs in OURS if size <= most and (size > 1e5 or t in ALSO_SMALL)
        ]
        if theirs is not None:
            tasks += [(t, theirs, runs) for t, most, runs in THEIRS if size <= most and (size > 1e5 or most == 1e5)]
        results: dict[str, list[dict[str, float]]] = {t: [] for t, _, _ in tasks}
        for run in range(arguments.runs):
            for task, python, most in tasks:
                if run < most:
                    print(f"  {size:,.0f} votes, run {run + 1}: {task}", file=sys.stderr)
                    results[task].append(measure(task, repeating if task in COMMANDS else path, python))
        rows += [(task, size, summary(found)) for task, found in results.items()]
    print(table(rows))


def summary(found: list[dict[str, float]]) -> dict[str, float]:
    return {
        "seconds": statistics.median(f["seconds"] for f in found),
        "peak_mib": max(f["peak_mib"] for f in found),
        "runs": len(found),
        "found": found[-1]["found"],
    }


def table(rows: list[tuple[str, float, dict[str, float]]]) -> str:
    """The rows in Markdown, with the ratio to the yardstick of the same size."""
    yardstick = {size: r["seconds"] for task, size, r in rows if task == "group_by"}
    lines = [
        f"Python {platform.python_version()}, {os.cpu_count()} cores.",
        "",
        "| task | votes | median s | of the group-by | peak MiB | runs | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for task, size, r in rows:
        ratio = f"{r['seconds'] / yardstick[size]:.2f}" if size in yardstick else ""
        found = r["found"]
        note = ", ".join(f"{k} {v}" for k, v in found.items()) if isinstance(found, dict) else ""
        lines.append(
            f"| {task} | {size:,.0f} | {r['seconds']:.2f} | {ratio} | {r['peak_mib']:,.0f} | {r['runs']} | {note} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
