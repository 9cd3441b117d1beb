"""What sides by near-duplicate cluster and the search for near-twins cost, in processor seconds and peak memory.

Each part runs in a process of its own, on invented sentences a tenth of which vary others. Usage: sides.py [ITEMS]
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.foundation.text import text_sha256
from moderation_pipelines.ingest.day import ingest_day
from moderation_pipelines.leakage.near_twins import ReleasedTexts, near_content
from moderation_pipelines.policies.policy import Policies
from moderation_pipelines.tables.warehouse import Warehouse

DAY = date(2026, 3, 2)
RELEASED = 2_000


def sentences(n: int, seed: int) -> list[str]:
    """Sentences of twelve invented words; every tenth is another with one word changed."""
    rng = np.random.default_rng(seed)
    vowels, consonants = list("aeiou"), list("bcdfghklmnprstvwz")
    words = ["".join(rng.choice(consonants) + rng.choice(vowels) for _ in range(3)) for _ in range(4_000)]
    rows = np.array(words)[rng.integers(0, len(words), (n, 12))]
    rows[9::10] = rows[8::10][: len(rows[9::10])]
    rows[9::10, 5] = rng.choice(words, len(rows[9::10]))
    return [" ".join(row) for row in rows]


def ingest(folder: str, by: str, n: int, day: int) -> None:
    home = Home(Path(folder))
    (home.root / "prompts").mkdir(parents=True, exist_ok=True)
    (home.root / "prompts" / "settings.yaml").write_text(f"side_by: {by}\n")
    drops = home.drops / "content" / str(DAY + timedelta(days=day))
    drops.mkdir(parents=True)
    items = ({"item_id": f"{day}-{k}", "text": t, "locale": "en"} for k, t in enumerate(sentences(n, day)))
    (drops / "c.jsonl").write_text("".join(json.dumps(i) + "\n" for i in items))
    measured(lambda: ingest_day(Warehouse(home), Policies([]), DAY + timedelta(days=day), Settings()))


def search(n: int) -> None:
    texts = sentences(n, 0)
    frame = pl.DataFrame({"item_id": [str(k) for k in range(n)], "text": texts}).with_columns(
        text_sha256=pl.Series([text_sha256(t) for t in texts]), side=pl.lit("development"), locale=pl.lit("en")
    )

    class Release:
        name, version, policy = "s", "v0001", "p"

        def items(self) -> pl.DataFrame:
            return frame.sample(min(RELEASED, n), seed=1)

    size = 100_000
    parts = (frame.slice(k, size).select("item_id", "text", "text_sha256", "side") for k in range(0, n, size))
    measured(lambda: near_content(ReleasedTexts([Release()]), parts))  # type: ignore[list-item]


def measured(work: Callable[[], object]) -> None:
    started = time.process_time()
    work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"cpu": time.process_time() - started, "peak": peak}))


def run(*arguments: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def main(n: int) -> None:
    print(f"| part, {n:,} items a day | CPU s | peak MiB |\n| --- | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for by in ("text", "near_duplicate_cluster"):
            for day in (0, 1):
                found = run("ingest", f"{folder}/{by}", by, str(n), str(day))
                print(f"| ingest, `{by}`, day {day + 1} | {found['cpu']:.1f} | {found['peak']:,.0f} |", flush=True)
    found = run("search", str(n))
    print(f"| near-twins of {RELEASED:,} items | {found['cpu']:.1f} | {found['peak']:,.0f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["ingest"]:
        ingest(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    elif sys.argv[1:2] == ["search"]:
        search(int(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
