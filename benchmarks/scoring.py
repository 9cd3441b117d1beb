"""The scoring engine beside bare clients and other tools, on one local endpoint, in one run.

python benchmarks/scoring.py [--runs 3] [--quick] [--tools FOLDER]

Every task runs in a process of its own, in turn; the order goes round for each run and the median counts. The endpoint
is ``modpipe fake-endpoint`` in a process of its own. Prints the table of docs/benchmarks.md. Other tools are measured
where FOLDER holds an environment for them (see docs/benchmarks.md); without it they are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent

# Task, latency in ms, items, concurrency.
WIRE: list[tuple[str, int, int, int]] = [
    ("aiohttp", 200, 6000, 128),
    ("engine-direct", 200, 6000, 128),
    ("sdk-bytes", 200, 6000, 128),
    ("engine-sdk", 200, 6000, 128),
    ("aiohttp", 50, 16000, 128),
    ("engine-direct", 50, 16000, 128),
    ("sdk-bytes", 50, 8000, 128),
    ("engine-sdk", 50, 8000, 128),
    ("sdk-create", 50, 2000, 128),
    ("engine-two", 200, 12000, 128),
]


@contextmanager
def endpoint(latency: int) -> Iterator[str]:
    """The fake endpoint in a process of its own."""
    command = [
        sys.executable,
        "-c",
        "from moderation_pipelines.cli.main import main; main()",
        "fake-endpoint",
        "--port",
        "0",
        "--latency-ms",
    ]
    process = subprocess.Popen(
        [*command, str(latency), "--seconds", "900"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def measure(task: str, *arguments: object) -> dict[str, Any]:
    """Run one task and return what it found."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, str(HERE / "scoring_task.py"), task, *map(str, arguments)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{task} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def wire(runs: int, scale: float) -> list[list[object]]:
    """Items per second and processor time per item, over the bare client of the same latency."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for k in range(runs):
        for task, latency, items, concurrency in WIRE[k:] + WIRE[:k]:
            with endpoint(latency) as url:
                say(f"run {k + 1}: {task} at {latency} ms")
                found.setdefault((task, latency), []).append(measure(task, url, int(items * scale), concurrency))
    rows = []
    for (task, latency), results in sorted(found.items(), key=lambda kv: (kv[0][1], kv[0][0])):
        rate = statistics.median(r["rate"] for r in results)
        base = {"engine-sdk": "sdk-bytes", "sdk-create": "sdk-bytes"}.get(task, "aiohttp")
        if task == "engine-two":
            base = "engine-direct"
        bare = found.get((base, latency))
        ratio = rate / statistics.median(r["rate"] for r in bare) if bare else None
        cpu = statistics.median(r["cpu_ms"] for r in results)
        memory = max(r["peak_mib"] for r in results)
        ratio_text = "" if ratio is None else f"{ratio:.2f} × {base}"
        rows.append([task, latency, f"{rate:,.0f}", ratio_text, f"{cpu:.2f}", f"{memory:.0f}"])
    return rows


def others(folder: Path, items: int) -> list[list[object]]:
    """Whole-process items per second of other tools, and of this engine, on the same endpoint."""
    rows: list[list[object]] = []
    with endpoint(50) as url:
        started = time.monotonic()
        measure("engine-direct", url, items, 128)
        ours = items / (time.monotonic() - started)
        started = time.monotonic()
        measure("engine-sdk", url, items, 128)
        sdk = items / (time.monotonic() - started)
        rows += [
            ["this engine, direct", f"{ours:,.0f}", "1.0"],
            ["this engine, sdk", f"{sdk:,.0f}", f"{ours / sdk:.1f}"],
        ]
        for script in sorted(folder.glob("run_*.py")):
            say(f"other tool: {script.stem}")
            done = subprocess.run(
                [sys.executable, str(script), url, str(items), "128"], capture_output=True, text=True, check=False,
                cwd=folder, timeout=600,
            )  # fmt: skip
            lines = [x for x in done.stdout.splitlines() if x.startswith("{")]
            if not lines:
                rows.append([script.stem.removeprefix("run_"), "did not run", ""])
                continue
            said = json.loads(lines[-1])
            rate = said["items_per_second"]
            rows.append([f"{said['tool']} {said['version']}", f"{rate:,.1f}", f"{ours / rate:.1f}"])
    return rows


def table(head: list[str], rows: list[list[object]]) -> None:
    print("| " + " | ".join(head) + " |")
    print("|" + "|".join([" --- "] + [" ---: "] * (len(head) - 1)) + "|")
    for row in rows:
        print("| " + " | ".join(str(v) for v in row) + " |")
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see that it works")
    parser.add_argument("--tools", type=Path, help="folder with environments and scripts of other tools")
    parser.add_argument("--only", choices=["wire", "ledger", "memory", "tools"])
    arguments = parser.parse_args()
    scale = 0.1 if arguments.quick else 1.0
    wanted = [arguments.only] if arguments.only else ["wire", "ledger", "memory", "tools"]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, median of {arguments.runs} runs.\n")
    if "wire" in wanted:
        head = ["task", "latency ms", "items/s", "ratio", "CPU ms/item", "peak MiB"]
        table(head, wire(arguments.runs, scale))
    if "ledger" in wanted:
        rows = []
        for n in (1_000_000, 10_000_000):
            say(f"ledger at {n:,} rows")
            found = measure("ledger", int(n * scale))
            shown = (found[name] for name in ("writes", "first", "checks", "peak_mib"))
            rows.append([f"{n * scale:,.0f}", *(f"{value:,.0f}" for value in shown)])
        table(["rows", "settled/s", "keys checked/s, first time", "again", "peak MiB"], rows)
        rows = []
        for task, n, what in (
            ("plan", 1_000_000, "dry run of new requests"),
            ("resume", 1_000_000, "engine, all settled"),
            ("warm", 1_000_000, "scores table, all settled"),
            ("batch", 500_000, "batch lines, claimed"),
        ):
            say(f"{task}: {n:,} items")
            found = measure(task, int(n * scale))
            rows.append([what, f"{n * scale:,.0f}", f"{found['seconds']:.1f}", f"{found['peak_mib']:.0f}"])
        table(["task", "items", "seconds", "peak MiB"], rows)
    if "memory" in wanted:
        rows = []
        for n in (10_000, 100_000):
            with endpoint(20) as url:
                for transport in ("engine-direct", "engine-sdk") if n == 10_000 else ("engine-direct",):
                    say(f"memory: {transport}, {n:,} items")
                    found = measure(transport, url, int(n * scale), 512)
                    rows.append([transport, f"{n * scale:,.0f}", f"{found['rate']:,.0f}", f"{found['peak_mib']:.0f}"])
        table(["task, concurrency 512", "items", "items/s", "peak MiB"], rows)
    if "tools" in wanted and arguments.tools is not None:
        table(["tool, whole process", "items/s", "times slower"], others(arguments.tools, int(2000 * scale)))


if __name__ == "__main__":
    main()
