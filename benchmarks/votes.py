"""Votes for the benchmarks, written to disk: some four an item, raters of differing skill, four ordered labels.

python benchmarks/votes.py ROWS FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

LABELS = ("none", "mild", "strong", "severe")
SHARES = (0.70, 0.15, 0.10, 0.05)
N_RATERS = 5000
VOTES_PER_ITEM = 4
ROW_GROUP = 262_144


def write_votes(rows: int, path: Path, seed: int = 1, repeated: float = 0.0) -> None:
    """A Parquet file of votes in random order: item_id, rater_id, label, all text. Same arguments, same votes.

    Items have some four votes each (Poisson), by different raters. ``repeated``: this share of the votes is given once
    more by the same rater, and the file has columns kind and policy too.
    """
    rng = np.random.default_rng(seed)
    n_items = max(rows // VOTES_PER_ITEM, 1)
    skill = rng.uniform(0.6, 0.95, N_RATERS)
    truth = rng.choice(len(LABELS), n_items, p=SHARES).astype(np.int8)
    item = np.sort(rng.integers(0, n_items, rows).astype(np.int32))
    first = np.searchsorted(item, item, side="left")
    # The k-th vote of an item comes from k steps further round the circle of raters.
    rater = ((item.astype(np.int64) * 7919 + (np.arange(rows) - first) * 1237) % N_RATERS).astype(np.int16)
    del first
    order = rng.permutation(rows).astype(np.int32)
    names = pl.Series(LABELS)
    more = {"kind": pl.lit("vote"), "policy": pl.lit("harassment")} if repeated else {}
    schema = pa.schema([(name, pa.string()) for name in ("item_id", "rater_id", "label", *more)])
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, rows, ROW_GROUP):
            mine = order[start : start + ROW_GROUP]
            mine = np.concatenate([mine, mine[: round(len(mine) * repeated)]])
            n = len(mine)
            label = np.where(rng.random(n) < skill[rater[mine]], truth[item[mine]], rng.integers(0, len(LABELS), n))
            frame = pl.DataFrame({"item": item[mine], "rater": rater[mine]}).select(
                item_id=pl.format("i{}", pl.col("item").cast(pl.String).str.zfill(9)),
                rater_id=pl.format("r{}", pl.col("rater").cast(pl.String).str.zfill(4)),
                label=names.gather(pl.Series(label)),
                **more,
            )
            writer.write_table(frame.to_arrow().cast(schema))


if __name__ == "__main__":
    write_votes(int(float(sys.argv[1])), Path(sys.argv[2]))
