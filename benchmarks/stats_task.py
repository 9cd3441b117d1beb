"""One measured task, in a process of its own: prints seconds and peak memory as JSON.

python benchmarks/stats_task.py TASK FILE
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
from votes import LABELS


def group_by(path: Path) -> Any:
    """The yardstick: one Polars group-by over the file."""
    return pl.scan_parquet(path).group_by("item_id", "label").len().collect(engine="streaming").height


def agreement_pack(path: Path) -> Any:
    from moderation_pipelines.agreement.pack import agreement
    from moderation_pipelines.votes.scale import Scale

    scale = Scale(LABELS, "ordinal", None, (False, True, True, True))
    return agreement(path, scale, replicates=1000).height


def _matrix(source: Any) -> Any:
    from moderation_pipelines.votes.by_item import item_votes
    from moderation_pipelines.votes.matrix import matrix_of
    from moderation_pipelines.votes.scale import Scale

    return matrix_of(item_votes(source, Scale(LABELS)))


def dawid_skene(path: Path) -> Any:
    from moderation_pipelines.consensus.confusion_models import dawid_skene

    fit = dawid_skene(_matrix(path), restarts=1)
    return {"iterations": fit.iterations, "converged": fit.converged}


def dawid_skene_10(frame: pl.DataFrame) -> Any:
    """Ten iterations from a frame in memory, as crowd-kit is measured."""
    from moderation_pipelines.consensus.confusion_models import dawid_skene

    return dawid_skene(_matrix(frame), restarts=1, max_iterations=10, tolerance=-1).iterations


def one_coin_10(frame: pl.DataFrame) -> Any:
    from moderation_pipelines.consensus.confusion_models import one_coin

    return one_coin(_matrix(frame), restarts=1, max_iterations=10, tolerance=-1).iterations


def mace(path: Path) -> Any:
    from moderation_pipelines.consensus.confusion_models import mace

    fit = mace(_matrix(path), restarts=1)
    return {"iterations": fit.iterations, "converged": fit.converged}


def glad(path: Path) -> Any:
    from moderation_pipelines.consensus.glad_model import glad

    fit = glad(_matrix(path))
    return {"iterations": fit.iterations, "converged": fit.converged}


def crowdkit_dawid_skene_10(frame: Any) -> Any:
    from crowdkit.aggregation import DawidSkene

    DawidSkene(n_iter=10, tol=-1e30).fit(frame)
    return 10


def crowdkit_one_coin_10(frame: Any) -> Any:
    from crowdkit.aggregation import OneCoinDawidSkene

    OneCoinDawidSkene(n_iter=10, tol=-1e30).fit(frame)
    return 10


def crowdkit_mace(frame: Any) -> Any:
    from crowdkit.aggregation import MACE

    MACE(n_restarts=1, n_iter=50, random_state=0).fit(frame)
    return 50


def crowdkit_glad(frame: Any) -> Any:
    from crowdkit.aggregation import GLAD

    GLAD(n_iter=1, tol=-1e30).fit(frame)
    return 1


def krippendorff_alpha(counts: Any) -> Any:
    """One alpha from ready counts per item: the package cannot read a file."""
    import krippendorff

    return krippendorff.alpha(value_counts=counts, level_of_measurement="ordinal", value_domain=[1, 2, 3, 4])


def consensus_function(path: Path) -> Any:
    """What ``modpipe consensus`` computes, of votes that need no look at repeats or kinds."""
    from moderation_pipelines.consensus.aggregate import aggregate

    return aggregate(_matrix(path), "dawid_skene").label.size


def agreement_command(path: Path) -> Any:
    """The whole of ``modpipe agreement FILE``: repeats looked for, labels and kinds checked."""
    return _command("agreement", str(path), "--format", "csv")


def consensus_command(path: Path) -> Any:
    return _command("consensus", str(path), "--to", str(path.with_suffix(".labels.parquet")))


def _command(*arguments: str) -> int:
    """Run a command in this process, imports of the command line included. Returns the bytes it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(io.StringIO()):
        from moderation_pipelines.cli.main import app

        app(list(arguments), standalone_mode=False)
    return len(printed.getvalue())


def _frame(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path)


def _pandas(path: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(path).rename(columns={"item_id": "task", "rater_id": "worker"})


def _counts(path: Path) -> Any:
    label = pl.col("label")
    counts = pl.scan_parquet(path).group_by("item_id").agg([(label == x).sum().alias(x) for x in LABELS])
    return counts.drop("item_id").collect().to_numpy()


# Task: what it is given (read before the clock starts), and what it does.
TASKS: dict[str, tuple[Callable[[Path], Any], Callable[[Any], Any]]] = {
    "group_by": (Path, group_by),
    "agreement_pack": (Path, agreement_pack),
    "agreement_command": (Path, agreement_command),
    "consensus_function": (Path, consensus_function),
    "consensus_command": (Path, consensus_command),
    "dawid_skene": (Path, dawid_skene),
    "dawid_skene_10": (_frame, dawid_skene_10),
    "one_coin_10": (_frame, one_coin_10),
    "mace": (Path, mace),
    "glad": (Path, glad),
    "crowdkit_dawid_skene_10": (_pandas, crowdkit_dawid_skene_10),
    "crowdkit_one_coin_10": (_pandas, crowdkit_one_coin_10),
    "crowdkit_mace": (_pandas, crowdkit_mace),
    "crowdkit_glad": (_pandas, crowdkit_glad),
    "krippendorff_alpha": (_counts, krippendorff_alpha),
}


def main(task: str, path: Path) -> None:
    prepare, work = TASKS[task]
    if task.startswith("crowdkit"):
        import crowdkit.aggregation  # noqa: F401 - importing is not what is measured
    elif task not in ("group_by", "krippendorff_alpha"):
        import scipy.sparse
        import scipy.special  # noqa: F401 - importing is not what is measured

        import moderation_pipelines.agreement.pack  # noqa: F401 - importing is not what is measured
    given = prepare(path)
    started = time.perf_counter()
    found = work(given)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "found": found}, default=str))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
