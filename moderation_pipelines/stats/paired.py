"""Two sets of answers to the same items: which differ, and whether by chance."""

from __future__ import annotations

from dataclasses import dataclass

from moderation_pipelines.stats.arrays import FloatArray


@dataclass(frozen=True)
class McNemar:
    """``only_first``: items only the first got right; ``only_second`` the second; ``p_value``: two-sided, exact."""

    only_first: int
    only_second: int
    p_value: float | None


def mcnemar_exact(first_right: FloatArray, second_right: FloatArray) -> McNemar:
    """Exact McNemar test on items both judged: are the discordant items a fair coin?

    p is 1 where none is discordant, None without items. Weights do not enter: the test is about these items.
    Source: McNemar (1947), Psychometrika 12, 153-157; exact binomial form: Fagerland, Lydersen & Laake (2013), BMC
    Medical Research Methodology 13, 91.
    """
    only_first = int(((first_right == 1) & (second_right == 0)).sum())
    only_second = int(((first_right == 0) & (second_right == 1)).sum())
    if len(first_right) == 0:
        return McNemar(0, 0, None)
    n = only_first + only_second
    if n == 0:
        return McNemar(0, 0, 1.0)
    from scipy.special import bdtr

    return McNemar(only_first, only_second, min(1.0, 2 * float(bdtr(min(only_first, only_second), n, 0.5))))
