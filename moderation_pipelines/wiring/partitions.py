"""Days as partitions, and which days an asset reads. Belongs here: partition definitions and mappings, nothing else."""

import warnings
from dataclasses import dataclass

import dagster as dg

from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.wiring.day_run import Span
from moderation_pipelines.wiring.stage import Stage


@dataclass(frozen=True)
class Days:
    """The daily partitions (UTC, today included), the mappings between them, and the pool scoring runs in.

    ``stage``: the stage that is built; ``earlier``: assets of the stages before it."""

    @property
    def group(self) -> str:
        """The asset group: the stage's name."""
        return "" if self.stage is None else self.stage.name

    @property
    def code_version(self) -> str:
        """Changes whenever a source file of the stage does."""
        return "" if self.stage is None else self.stage.code_version

    settings: Settings
    pool: str = "judges"
    earlier: tuple[str, ...] = ()
    stage: Stage | None = None

    @property
    def daily(self) -> dg.DailyPartitionsDefinition:
        return dg.DailyPartitionsDefinition(start_date=self.settings.start_date.isoformat(), end_offset=1)

    def mapping(self, span: Span) -> dg.PartitionMapping | None:
        """How a day depends on the days of what it reads; None for the day itself."""
        last = self.settings.window_days - 1
        if span is Span.WINDOW:
            return self._days_back(last, 0)
        if span is Span.BEFORE:
            return self._days_back(max(last, 1), 1)
        if span is Span.HISTORY:
            return dg.AllPartitionMapping()
        return None

    @staticmethod
    def _days_back(first: int, last: int) -> dg.PartitionMapping:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            return dg.TimeWindowPartitionMapping(
                start_offset=-first, end_offset=-last, allow_nonexistent_upstream_partitions=True
            )
