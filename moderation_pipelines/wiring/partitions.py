"""Days as partitions, and which days an asset reads. Belongs here: partition definitions and mappings, nothing else."""

import warnings
from dataclasses import dataclass

import dagster as dg

from moderation_pipelines.foundation.settings import Settings


@dataclass(frozen=True)
class Days:
    """The daily partitions (UTC, today included), the mappings between them, and the pool scoring runs in."""

    settings: Settings
    pool: str = "judges"

    @property
    def daily(self) -> dg.DailyPartitionsDefinition:
        return dg.DailyPartitionsDefinition(start_date=self.settings.start_date.isoformat(), end_offset=1)

    @property
    def window(self) -> dg.PartitionMapping:
        """The trailing window that ends on the day itself."""
        return self._days_back(self.settings.window_days - 1, 0)

    @property
    def before(self) -> dg.PartitionMapping:
        """The window without its last day: what an asset reads of its own past."""
        return self._days_back(max(self.settings.window_days - 1, 1), 1)

    @property
    def history(self) -> dg.PartitionMapping:
        """Every day."""
        return dg.AllPartitionMapping()

    @staticmethod
    def _days_back(first: int, last: int) -> dg.PartitionMapping:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", dg.BetaWarning)
            return dg.TimeWindowPartitionMapping(
                start_offset=-first, end_offset=-last, allow_nonexistent_upstream_partitions=True
            )
