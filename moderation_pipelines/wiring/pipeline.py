"""The one resource assets take: the home, the settings, the stages, and where progress is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

from moderation_pipelines.foundation.errors import Problem
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.tables import store
from moderation_pipelines.tables.in_force import Thing, current_files, is_open, record, recorded, setting
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines.wiring.settings_file import settings_problems
from moderation_pipelines.wiring.stage import Stage

Tell = Callable[[str], None]


def _silent(_: str) -> None:
    return None


@dataclass(frozen=True)
class Pipeline:
    """What every asset works on. ``tell`` shows a line of progress to whoever watches; it never sees item text.

    ``retry_errors``: judges are asked only for what failed before. ``restate``: days take the files as they stand, also
    days that were run before.
    """

    home: Home
    settings: Settings
    stages: tuple[Stage, ...] = ()
    tell: Tell = _silent
    retry_errors: bool = False
    restate: bool = False

    @cached_property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.home, timedelta(days=self.settings.keep_replaced_days))

    @property
    def files_in_force(self) -> list[tuple[str, str]]:
        """(kind, pattern) of the files a day is computed by."""
        return [(f.kind, f.pattern) for stage in self.stages for f in stage.home_files if f.in_force]

    def sweep(self) -> list[str]:
        """Remove what killed processes left behind. Returns what was removed."""
        return store.sweep(self.home.warehouse)

    def problems(self) -> list[Problem]:
        """Every mistake in the files a person edits, as they stand."""
        found = {p for stage in self.stages for p in stage.home_problems(self.home)}
        found |= set(self._limits())
        return sorted(found, key=lambda p: (p.file, p.line or 0, p.message))

    def _limits(self) -> list[Problem]:
        return settings_problems(self.home, {stage.name: stage.thresholds for stage in self.stages})

    def state_day(self, day: date, open_again: bool = True) -> list[Thing]:
        """What is in force on a day, recorded at its first run.

        The newest day is open: with ``open_again`` it takes the files as they stand, and so does any day when the
        re-run is stated.
        """
        warehouse = self.warehouse
        before = recorded(warehouse, day)
        again = self.restate or (open_again and is_open(warehouse, day))
        if any(t.kind == "setting" for t in before) and not again and all(t.version != "unusable" for t in before):
            return before
        broken = {p.file for stage in self.stages if stage.home_files for p in stage.home_problems(self.home)}
        broken |= {p.file for p in self._limits()}
        files = current_files(self.home, self.files_in_force, broken)
        settings = [setting(name, value) for name, value in self.settings.in_force().items()]
        return record(warehouse, day, [*files, *settings], again)


def day_of(partition_key: str) -> date:
    return date.fromisoformat(partition_key)
