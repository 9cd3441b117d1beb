"""Runs in the oracle environment: a list of questions as JSON in, the answers of outside implementations out.

Each question is {"ask": name, ...}; ratings are items x raters with null for a missing vote.
"""

from __future__ import annotations

import contextlib
import json
import sys
import warnings
from typing import Any

warnings.filterwarnings("ignore")
import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402


def alpha(ratings: list[list[float | None]], level: str) -> float:
    import krippendorff

    table = np.array([[np.nan if x is None else x for x in row] for row in ratings], dtype=float).T
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level))


def chance_corrected(ratings: list[list[float | None]], weights: str, categories: list[float]) -> dict[str, Any]:
    from irrCAC.raw import CAC

    frame = pd.DataFrame([[np.nan if x is None else float(x) for x in row] for row in ratings])
    found = {}
    for name in ("gwet", "fleiss", "bp", "conger"):
        cac = CAC(frame, weights=weights, categories=categories, digits=15)
        est = getattr(cac, name)()["est"]
        found[name] = {"value": float(est["coefficient_value"]), "se": float(est["se"])}
    return found


def cohen(table: list[list[float]]) -> dict[str, float]:
    from statsmodels.stats.inter_rater import cohens_kappa

    found = {}
    for name, weights in (("identity", None), ("linear", "linear"), ("quadratic", "quadratic")):
        kappa = cohens_kappa(np.array(table), wt=weights)
        found[name] = float(kappa.kappa)
        found[f"{name} se"] = float(kappa.std_kappa)
    return found


def posterior(votes: list[list[int]], method: str, iterations: int, n_labels: int) -> list[list[float]]:
    import crowdkit.aggregation as ck

    frame = pd.DataFrame(votes, columns=["task", "worker", "label"])
    cls = {"dawid_skene": ck.DawidSkene, "one_coin": ck.OneCoinDawidSkene, "glad": ck.GLAD}[method]
    found = cls(n_iter=iterations, tol=-1e30).fit_predict_proba(frame)
    return found.sort_index()[list(range(n_labels))].to_numpy().tolist()


def crowdlab(ratings: list[list[int | None]], probabilities: list[list[float]]) -> dict[str, Any]:
    from cleanlab.multiannotator import get_label_quality_multiannotator

    table = pd.DataFrame([[np.nan if x is None else x for x in row] for row in ratings]).astype("Int64")
    found = get_label_quality_multiannotator(
        table, np.array(probabilities), consensus_method="majority_vote", verbose=False,
        return_weights=True, return_detailed_quality=False, return_annotator_stats=False,
    )  # fmt: skip
    return {
        "quality": found["label_quality"]["consensus_quality_score"].tolist(),
        "label": found["label_quality"]["consensus_label"].tolist(),
        "model_weight": float(found["model_weight"]),
        "annotator_weight": np.asarray(found["annotator_weight"]).tolist(),
    }


def masi_alpha(units: list[list[list[str]]]) -> float:
    from nltk.metrics import masi_distance
    from nltk.metrics.agreement import AnnotationTask

    data = [(f"r{j}", i, frozenset(s)) for i, unit in enumerate(units) for j, s in enumerate(unit)]
    return float(AnnotationTask(data, distance=masi_distance).alpha())


ANSWERS = {f.__name__: f for f in (alpha, chance_corrected, cohen, posterior, crowdlab, masi_alpha)}


def main() -> None:
    questions = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        answers = [ANSWERS[q.pop("ask")](**q) for q in questions]
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
