"""One-coin Dawid-Skene: one error rate a rater."""

from __future__ import annotations

from moderation_pipelines.consensus.confusion_models import one_coin
from moderation_pipelines.consensus.method import confusion_method

METHOD = confusion_method("one_coin", 4, one_coin)
