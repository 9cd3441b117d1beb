"""Tables in and out of assets: an output replaces its table (of the day), an input is a lazy frame of its days."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import dagster as dg
import polars as pl

from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.warehouse import Warehouse


class WarehouseIOManager(dg.IOManager):
    """Writes are one rename; days that were never written are no rows."""

    def __init__(self, warehouse: Warehouse, tables: Mapping[str, Table]) -> None:
        self.warehouse, self.tables = warehouse, tables

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        if not isinstance(obj, pl.DataFrame | pl.LazyFrame):
            raise TypeError(f"{context.asset_key.to_user_string()}: an asset gives a frame, not {type(obj).__name__}")
        table = self.tables[context.asset_key.path[-1]]
        self.warehouse.write(table, obj, date.fromisoformat(context.partition_key) if table.daily else None)

    def load_input(self, context: dg.InputContext) -> pl.LazyFrame:
        table = self.tables[context.asset_key.path[-1]]
        if not table.daily:
            return self.warehouse.scan(table)
        wanted = {date.fromisoformat(key) for key in context.asset_partition_keys}
        return self.warehouse.scan(table, [day for day in self.warehouse.days(table) if day in wanted])
