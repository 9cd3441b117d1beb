"""The home: one folder with everything the pipeline reads or writes, and the settings that go with it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from moderation_pipelines.errors import UserError

_CRON = re.compile(r"([\d*,/-]+ ){4}[\d*,/-]+")


@dataclass(frozen=True)
class Home:
    """The folder layout. Every path the project touches is named here, once."""

    root: Path

    @property
    def prompts(self) -> Path:
        return self.root / "prompts"

    @property
    def judges_file(self) -> Path:
        return self.prompts / "judges.yaml"

    @property
    def data(self) -> Path:
        return self.root / "data"

    @property
    def drops(self) -> Path:
        return self.data / "drops"

    @property
    def warehouse(self) -> Path:
        return self.data / "warehouse"

    @property
    def eval_sets(self) -> Path:
        return self.warehouse / "eval_sets"

    @property
    def candidates(self) -> Path:
        """Eval-set candidates that failed their audit, kept with the validation page that says why."""
        return self.warehouse / "_candidates"

    @property
    def reports(self) -> Path:
        return self.data / "reports"

    @property
    def ledger(self) -> Path:
        return self.warehouse / "_ledger" / "ledger.sqlite"

    @property
    def batch_files(self) -> Path:
        """Files of batches until they are collected. They hold item text."""
        return self.warehouse / "_ledger" / "batches"

    @property
    def dagster_home(self) -> Path:
        return self.data / "dagster_home"

    def relative(self, path: Path) -> str:
        """A path as people read it: relative to the home where it lies inside, never with surrogates."""
        try:
            text = str(path.relative_to(self.root))
        except ValueError:
            text = str(path)
        return text.encode("utf-8", "backslashreplace").decode()


def repository_root() -> Path:
    """The checkout this package is imported from, or the working folder when it is installed elsewhere."""
    root = Path(__file__).resolve().parents[1]
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


def find_home(explicit: Path | str | None = None, environ: Mapping[str, str] | None = None) -> Home:
    """The home to use: the one given, else MODERATION_HOME, else the repository root."""
    environ = os.environ if environ is None else environ
    chosen = explicit or environ.get("MODERATION_HOME") or repository_root()
    try:
        root = Path(chosen).expanduser().resolve()
    except (RuntimeError, OSError):
        raise UserError(f"home {chosen} cannot be found; name a folder") from None
    if not root.is_dir():
        raise UserError(f"home {root} is not a folder; create it, or name another with --home or MODERATION_HOME")
    return Home(root)


@dataclass(frozen=True)
class Settings:
    """Numbers that shape the pipeline. Read from the environment when definitions are built, never at import."""

    start_date: date = date(2020, 1, 1)
    window_days: int = 28
    eval_share: float = 0.5
    bootstrap_replicates: int = 1000
    schedule_cron: str = "0 6 * * *"
    timezone: str = "UTC"

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
            schedule_cron=environ.get("MODERATION_SCHEDULE", default.schedule_cron),
            timezone=environ.get("MODERATION_TIMEZONE", default.timezone),
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
