"""Settings of a home: numbers that shape the pipeline, from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from moderation_pipelines.foundation.errors import UserError

_CRON = re.compile(r"([\d*,/-]+ ){4}[\d*,/-]+")


@dataclass(frozen=True)
class Bounds:
    """How large a delivered file may be. What is over a bound of the file rejects it; over one of a row, the row.

    ``bytes``: as delivered and unpacked. ``rows``, ``columns`` of a file. ``depth``: of nested JSON. ``cell``:
    characters of a value. ``record``: bytes of a row. ``expansion``: times a file may grow when it is read, beyond
    64 MiB. ``seconds``: a watchdog; what takes longer fails the run, as the same file may be quick elsewhere.
    """

    bytes: int = 16 * 1024**3
    rows: int = 50_000_000
    columns: int = 2_000
    depth: int = 64
    cell: int = 1_000_000
    record: int = 16 * 1024**2
    expansion: int = 200
    seconds: int = 7_200


@dataclass(frozen=True)
class Settings:
    """Numbers that shape the pipeline. Read from the environment when definitions are built, never at import."""

    start_date: date = date(2020, 1, 1)
    window_days: int = 28
    eval_share: float = 0.5
    bootstrap_replicates: int = 1000
    weigh_missing: int = 0
    keep_replaced_days: int = 90
    schedule_cron: str = "0 6 * * *"
    timezone: str = "UTC"
    bounds: Bounds = Bounds()

    def in_force(self) -> dict[str, int | float]:
        """Those a day's rows depend on: recorded for the day when it is first run."""
        return {
            "window_days": self.window_days, "eval_share": self.eval_share,
            "bootstrap_replicates": self.bootstrap_replicates, "weigh_missing": self.weigh_missing,
        }  # fmt: skip

    def stated(self, values: Mapping[str, str]) -> Settings:
        """These settings with those that were recorded for a day."""
        given: dict[str, Any] = {n: type(v)(values[n]) for n, v in self.in_force().items() if n in values}
        return replace(self, **given)

    @staticmethod
    def from_env(environ: Mapping[str, str] | None = None) -> Settings:
        """Settings from MODERATION_* variables; a bad value is an error that names the variable."""
        environ = os.environ if environ is None else environ
        default = Settings()
        mistakes: list[str] = []

        def number(name: str, fallback: float, low: float, high: float, whole: bool = True) -> float:
            text = environ.get(name)
            if text is None:
                return fallback
            try:
                value = float(text)
            except ValueError:
                value = float("nan")
            if not low <= value <= high or (whole and value != int(value)):
                kind = "whole number" if whole else "number"
                mistakes.append(f'{name}="{text}" is not a {kind} from {low:g} to {high:g}')
                return fallback
            return value

        start = default.start_date
        if text := environ.get("MODERATION_START_DATE"):
            try:
                start = date.fromisoformat(text)
            except ValueError:
                mistakes.append(f'MODERATION_START_DATE="{text}" is not a date like 2020-01-01')
        settings = Settings(
            start_date=start,
            window_days=int(number("MODERATION_WINDOW_DAYS", default.window_days, 1, 3660)),
            eval_share=number("MODERATION_EVAL_SHARE", default.eval_share, 0.0, 1.0, whole=False),
            bootstrap_replicates=int(
                number("MODERATION_BOOTSTRAP_REPLICATES", default.bootstrap_replicates, 100, 100_000)
            ),
            weigh_missing=int(number("MODERATION_WEIGH_MISSING", default.weigh_missing, 0, 1)),
            keep_replaced_days=int(number("MODERATION_KEEP_REPLACED_DAYS", default.keep_replaced_days, 0, 36_600)),
            schedule_cron=environ.get("MODERATION_SCHEDULE", default.schedule_cron),
            timezone=environ.get("MODERATION_TIMEZONE", default.timezone),
            bounds=Bounds(
                **{
                    f.name: int(number(f"MODERATION_DROP_{f.name.upper()}", getattr(default.bounds, f.name), 1, 1e15))
                    for f in fields(Bounds)
                }
            ),
        )
        if not _CRON.fullmatch(settings.schedule_cron):
            mistakes.append(f'MODERATION_SCHEDULE="{settings.schedule_cron}" is not a cron line like "0 6 * * *"')
        try:
            ZoneInfo(settings.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            mistakes.append(f'MODERATION_TIMEZONE="{settings.timezone}" is not a time zone like "Europe/Berlin"')
        if mistakes:
            raise UserError("; ".join(mistakes))
        return settings
