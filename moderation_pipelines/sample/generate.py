"""The sample drops, made from a seed: the same bytes every time. ``python -m moderation_pipelines.sample DIR``.

Raters are simulated with a known confusion each: most are good, one is careless, one flags too much, one is fast and
wrong. Nothing in it is real.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from moderation_pipelines.sample.policies import SAMPLE_PROMPTS
from moderation_pipelines.sample.texts import FILLERS, GOODS, HARASSMENT, SCAMS, Templates

SEED = 20261117
FIRST_DAY = date(2026, 11, 16)
DAYS = 5
ITEMS_PER_DAY = 66
VOTES_PER_ITEM = 4
Row = dict[str, Any]

CARELESS, BIASED, FAST = "r-north-07", "r-south-03", "r-night-05"


@dataclass(frozen=True)
class Task:
    """One policy's items: texts, surface, and for each kind the true label and how often it occurs."""

    policy: str
    surface: str
    templates: Templates
    truth: dict[str, str]
    share: dict[str, float]
    labels: tuple[str, ...]


TASKS = (
    Task("harassment", "comment", HARASSMENT,
         {"fine": "none", "mild": "mild", "severe": "severe", "quote": "none", "counter": "none", "obfuscated": "mild"},
         {"fine": 0.44, "mild": 0.18, "severe": 0.1, "quote": 0.12, "counter": 0.08, "obfuscated": 0.08},
         ("none", "mild", "severe")),
    Task("prohibited_goods", "listing", GOODS,
         {"fine": "allowed", "restricted": "restricted", "prohibited": "prohibited", "quote": "allowed",
          "counter": "allowed", "obfuscated": "prohibited"},
         {"fine": 0.5, "restricted": 0.16, "prohibited": 0.14, "quote": 0.08, "counter": 0.05, "obfuscated": 0.07},
         ("allowed", "restricted", "prohibited")),
    Task("scams", "ad", SCAMS,
         {"fine": "legitimate", "bad": "scam", "quote": "legitimate", "counter": "legitimate", "obfuscated": "scam"},
         {"fine": 0.5, "bad": 0.26, "quote": 0.1, "counter": 0.06, "obfuscated": 0.08},
         ("legitimate", "scam")),
)  # fmt: skip
HARD = ("quote", "counter", "obfuscated")


@dataclass(frozen=True)
class Rater:
    """A simulated rater: chance to see the truth on easy and hard items, and typical seconds."""

    id: str
    pool: str
    locales: tuple[str, ...]
    easy: float
    hard: float
    seconds: float


def raters(rng: random.Random) -> list[Rater]:
    """34 raters in four pools; three of them planted as careless, biased, fast and wrong."""
    out = []
    pools = {"north": ("en", "es"), "south": ("en", "es"), "east": ("zh", "en"), "night": ("en", "zh", "es")}
    sizes = {"north": 9, "south": 9, "east": 8, "night": 8}
    for pool, locales in pools.items():
        for k in range(1, sizes[pool] + 1):
            name = f"r-{pool}-{k:02d}"
            easy, hard, seconds = rng.uniform(0.92, 0.98), rng.uniform(0.68, 0.84), rng.uniform(14, 35)
            if name == CARELESS:
                easy, hard = 0.62, 0.5
            if name == FAST:
                easy, hard, seconds = 0.58, 0.45, 2.5
            out.append(Rater(name, pool, locales, easy, hard, seconds))
    return out


def _filled(template: str, locale: str, rng: random.Random) -> str:
    values = {name: rng.choice(words) for name, words in FILLERS[locale].items()}
    for name in ("insult", "banned"):
        word = values[name]
        swapped = word.translate(str.maketrans("oiea", "013@"))
        values[f"{name}_o"] = swapped if swapped != word else "·".join(word)
    return template.format(**values)


def _items(rng: random.Random) -> list[Row]:
    """All items with their truth, unique texts."""
    items: list[Row] = []
    seen: set[str] = set()
    for d in range(DAYS):
        day = FIRST_DAY + timedelta(days=d)
        for task in TASKS:
            made = 0
            while made < ITEMS_PER_DAY:
                locale = rng.choices(("en", "zh", "es"), (0.5, 0.3, 0.2))[0]
                kind = rng.choices(list(task.share), list(task.share.values()))[0]
                text = _filled(rng.choice(task.templates[locale][kind]), locale, rng)
                if text in seen and rng.random() < 0.9:
                    continue
                seen.add(text)
                made += 1
                number = len(items) + 1
                items.append(
                    {
                        "item_id": f"{task.surface}-{number:05d}",
                        "text": text,
                        # Every sixth item comes without a locale, so that it has to be detected.
                        "locale": None if rng.random() < 1 / 6 else locale,
                        "surface": task.surface,
                        "source": rng.choice(("app", "web")),
                        "created_at": f"{day - timedelta(days=1)}T{rng.randrange(24):02d}:{rng.randrange(60):02d}:00Z",
                        "views": int(rng.paretovariate(1.1) * 20),
                        "_day": day,
                        "_task": task,
                        "_kind": kind,
                        "_locale": locale,
                    }
                )
    return items


def _answer(rater: Rater, item: Row, guideline: str, rng: random.Random) -> str:
    """What a rater says: the truth with the rater's chance, else an error a person would make."""
    task: Task = item["_task"]
    truth, kind = task.truth[item["_kind"]], item["_kind"]
    sees = rater.hard if kind in HARD else rater.easy
    if guideline == "g2" and kind in HARD and rater.id not in (CARELESS, FAST):
        sees = min(0.95, sees + 0.12)
    others = [label for label in task.labels if label != truth]
    if rater.id == BIASED and truth == task.labels[0] and rng.random() < 0.45:
        return task.labels[1]
    if rng.random() < sees:
        return truth
    if kind in ("quote", "counter"):
        return rng.choice(others)
    if kind == "obfuscated":
        return task.labels[0]
    near = [label for label in others if abs(task.labels.index(label) - task.labels.index(truth)) == 1]
    return rng.choice(near or others)


def _votes(items: list[Row], rng: random.Random) -> list[Row]:
    people = raters(rng)
    votes: list[Row] = []
    for item in items:
        able = [r for r in people if item["_locale"] in r.locales]
        late = 1 if rng.random() < 0.12 and item["_day"] < FIRST_DAY + timedelta(days=DAYS - 1) else 0
        day = item["_day"] + timedelta(days=late)
        guideline = "g2" if (day - FIRST_DAY).days >= 3 else "g1"
        for rater in rng.sample(able, VOTES_PER_ITEM):
            votes.append(_vote(rater, item, day, guideline, rng))
            if rng.random() < 0.02:
                votes.append(_vote(rater, item, day, guideline, rng))
        if rng.random() < 0.25:
            truth = item["_task"].truth[item["_kind"]]
            gold = {
                "item_id": item["item_id"],
                "policy": item["_task"].policy,
                "label": truth,
                "kind": "gold",
            }
            votes.append({**gold, "rater_id": "policy-desk", "pool": "policy", "guideline": guideline, "_day": day})
    for number, vote in enumerate(votes, start=1):
        vote["vote_id"] = f"v{number:06d}"
    return votes


def _vote(rater: Rater, item: Row, day: date, guideline: str, rng: random.Random) -> Row:
    moment = datetime(day.year, day.month, day.day, rng.randrange(8, 18), rng.randrange(60), rng.randrange(60))
    label = "unsure" if rng.random() < 0.01 else _answer(rater, item, guideline, rng)
    return {
        "item_id": item["item_id"],
        "policy": item["_task"].policy,
        "rater_id": rater.id,
        "label": label,
        "pool": rater.pool,
        "guideline": guideline,
        "labeled_at": f"{moment.isoformat()}Z",
        "seconds": round(max(1.0, rng.gauss(rater.seconds, rater.seconds / 4)), 1),
        "_day": day,
    }


def _clean(row: Row) -> Row:
    return {k: v for k, v in row.items() if not k.startswith("_") and v is not None}


def _jsonl(rows: list[Row]) -> bytes:
    return "".join(json.dumps(_clean(r), ensure_ascii=False) + "\n" for r in rows).encode()


def _csv(rows: list[Row]) -> bytes:
    cleaned = [_clean(r) for r in rows]
    columns = list(dict.fromkeys(k for r in cleaned for k in r))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(cleaned)
    return out.getvalue().encode()


def _parquet(rows: list[Row]) -> bytes:
    cleaned = [_clean(r) for r in rows]
    columns = list(dict.fromkeys(k for r in cleaned for k in r))
    out = io.BytesIO()
    pq.write_table(pa.table({c: [r.get(c) for r in cleaned] for c in columns}), out, compression="zstd")
    return out.getvalue()


def _gz(data: bytes) -> bytes:
    return gzip.compress(data, compresslevel=9, mtime=0)


def _zst(data: bytes) -> bytes:
    return bytes(pa.compress(data, codec="zstd", asbytes=True))


def bad_labels(day: date) -> bytes:
    """One labels file with a good row and one of every kind of bad row."""
    good = {
        "item_id": "comment-00001",
        "policy": "harassment",
        "label": "none",
        "rater_id": "r-north-01",
        "pool": "north",
    }

    def row(**changed: Any) -> bytes:
        value = {k: v for k, v in {**good, **changed}.items() if v is not None}
        return json.dumps(value, ensure_ascii=False).encode()

    lines = [
        b"\xef\xbb\xbf" + row(vote_id="bad-00", labeled_at=f"{day}T09:00:00Z"),
        row(vote_id="bad-01", policy="harrassment"),
        row(vote_id="bad-02", label="mildd"),
        row(vote_id="bad-03", item_id=None),
        row(vote_id="bad-04", item_id="x" * 300),
        row(vote_id="bad-05", labeled_at="20/11/2026 9 o'clock"),
        row(vote_id="bad-06", rater_locale="en_US"),
        row(vote_id="bad-07", label=1),
        row(vote_id="bad-08", seconds=-4),
        row(vote_id="bad-09", confidence=1.4),
        row(vote_id="bad-10", kind="golden"),
        row(vote_id="bad-11", item_id=" comment-00001 "),
        b'{"item_id": "comment-00001", "policy": "harassment", "label": "none"',
        b'["not", "an", "object"]',
        row(vote_id="bad-12").replace(b"r-north-01", b"r-\xff\xfe-01"),
        row(vote_id="bad-13").replace(b"north-01", b"north\x00-01"),
        row(vote_id="bad-14", item_id=None, labeled_at="soon", label="severre"),
        row(vote_id="bad-00"),
    ]
    return b"\n".join(lines) + b"\n"


def bad_content() -> bytes:
    """One content CSV with ragged rows, repeated items and broken quoting beside good rows."""
    return (
        b"item_id,text,locale,surface,views\n"
        b'comment-90001,"A tidy row, with a comma.",en,comment,12\n'
        b"comment-90002,Too many cells, because the comma is not quoted,en,comment,5\n"
        b"comment-90003,Too few cells\n"
        b"comment-90001,The same id with another text,en,comment,12\n"
        b'comment-90001,"A tidy row, with a comma.",en,comment,12\n'
        b"comment-90004,,en,comment,3\n"
        b"comment-90005,A locale spelt wrongly,en_GB,comment,3\n"
        b"comment-90006,Views are not a number,en,comment,many\n"
        b",An item without an id,en,comment,3\n"
        b'comment-90007,"Text over\ntwo lines is fine.",en,comment,8\n'
    )


def sample_files() -> dict[str, bytes]:
    """Every file of the sample by its path inside a home: prompts and drops."""
    rng = random.Random(SEED)  # noqa: S311 - a reproducible sample, not a secret
    items = _items(rng)
    votes = _votes(items, rng)
    files: dict[str, bytes] = {path: text.encode() for path, text in SAMPLE_PROMPTS.items()}
    for d in range(DAYS):
        day = FIRST_DAY + timedelta(days=d)
        mine = [i for i in items if i["_day"] == day]
        for task in TASKS:
            rows = [i for i in mine if i["_task"] is task]
            name, data = {
                "comment": ("comments.jsonl.gz", lambda r: _gz(_jsonl(r))),
                "listing": ("listings.csv", _csv),
                "ad": ("ads.parquet", _parquet),
            }[task.surface]
            files[f"data/drops/content/{day}/{name}"] = data(rows)
        today = [v for v in votes if v["_day"] == day]
        packers = {
            "north": ("vendor_north.jsonl.gz", lambda r: _gz(_jsonl(r))),
            "south": ("vendor_south.csv", _csv),
            "east": ("vendor_east.csv.zst", lambda r: _zst(_csv(r))),
            "night": ("night_shift.parquet", _parquet),
            "policy": ("policy_desk.jsonl", _jsonl),
        }
        for pool, (name, pack) in packers.items():
            rows = [v for v in today if v["pool"] == pool]
            if rows:
                files[f"data/drops/labels/{day}/{name}"] = pack(rows)
    bad_day = FIRST_DAY + timedelta(days=2)
    files[f"data/drops/labels/{bad_day}/vendor_trial.jsonl"] = bad_labels(bad_day)
    files[f"data/drops/content/{bad_day}/trial_import.csv"] = bad_content()
    return dict(sorted(files.items()))


def write_sample(folder: Path) -> list[Path]:
    """Write the sample under ``folder``; existing files of the same name are replaced."""
    written = []
    for name, data in sample_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        written.append(path)
    return written
