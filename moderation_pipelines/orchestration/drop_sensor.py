"""Which days to process, decided by a pure function from what was seen and what is there. Knows no Dagster."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date, timedelta
from typing import Literal

MAX_ATTEMPTS = 3
RunState = Literal["running", "succeeded", "failed", "unknown"]


@dataclass(frozen=True)
class SeenDay:
    """What the sensor remembers of a day: the fingerprint it last asked a run for, and which attempt that was."""

    fingerprint: str
    attempt: int
    stale: str = ""


@dataclass(frozen=True)
class SeenState:
    """The sensor's memory: days asked for, and fingerprints met once that must hold still for one more look."""

    days: dict[str, SeenDay] = field(default_factory=dict)
    settling: dict[str, str] = field(default_factory=dict)

    def to_cursor(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_cursor(cursor: str | None) -> SeenState:
        if not cursor:
            return SeenState()
        value = json.loads(cursor)
        return SeenState({d: SeenDay(**s) for d, s in value["days"].items()}, dict(value["settling"]))


@dataclass(frozen=True)
class DayRequest:
    """A run to ask for. ``run_key`` is new whenever files changed or another attempt is due."""

    day: str
    fingerprint: str
    attempt: int
    stale: str = ""

    @property
    def run_key(self) -> str:
        again = f":{self.stale}" if self.stale else ""
        return f"{self.day}:{self.fingerprint or 'gone'}{again}:{self.attempt}"


def window_fingerprints(own: Mapping[date, str], window_days: int) -> dict[str, str]:
    """Fingerprint of everything each day's tables are made from: its files and those of the window before it.

    So a late or corrected file for an older day changes that day and the later days whose consensus and agreement
    read it, and no other.
    """
    out = {}
    for day in sorted(own):
        first = day - timedelta(days=window_days - 1)
        parts = [f"{d}={own[d]}" for d in sorted(own) if first <= d <= day]
        out[str(day)] = hashlib.blake2b("\n".join(parts).encode(), digest_size=12).hexdigest()
    return out


def plan(
    seen: SeenState,
    here: Mapping[str, str],
    outcomes: Mapping[str, RunState],
    finished: Collection[str] = (),
    stale: Mapping[str, str] | None = None,
) -> tuple[list[DayRequest], SeenState, list[str]]:
    """(runs to ask for, new memory, notes). ``finished``: days somebody else has run with just these files.

    ``here``: fingerprint of the files of every day there is. ``outcomes``: how the last run asked for each day ended.
    A new or changed day must look the same on two looks in a row, so a file still being written waits. A failed day is
    asked for again, up to three attempts; after that it waits for its files to change. A day whose last run is still
    going is left alone until it ends. A day whose files are all gone is asked for once, so that its rows go too.
    ``stale``: days whose rows rest on rows that were replaced since, with a digest of what changed: each is asked for
    once more when nothing else asks for it.
    """
    requests: list[DayRequest] = []
    days, settling, notes = dict(seen.days), {}, []
    for day in sorted({*here, *seen.days}):
        fingerprint = here.get(day, "")
        before = days.get(day)
        if before is not None and outcomes.get(day) == "running":
            continue
        if before is None or before.fingerprint != fingerprint:
            if seen.settling.get(day) != fingerprint:
                settling[day] = fingerprint
                continue
            if day in finished:
                days[day] = SeenDay(fingerprint, 0)
                continue
            request = DayRequest(day, fingerprint, 1)
            days[day] = SeenDay(fingerprint, 1)
            requests.append(request)
        elif outcomes.get(day) == "failed":
            if before.attempt >= MAX_ATTEMPTS:
                notes.append(f"{day} failed {before.attempt} times; it is tried again when its files change")
                continue
            request = DayRequest(day, fingerprint, before.attempt + 1, before.stale)
            days[day] = SeenDay(fingerprint, before.attempt + 1, before.stale)
            requests.append(request)
        elif (digest := (stale or {}).get(day, "")) and digest != before.stale:
            days[day] = SeenDay(fingerprint, 1, digest)
            requests.append(DayRequest(day, fingerprint, 1, digest))
    return requests, SeenState(days, settling), notes
