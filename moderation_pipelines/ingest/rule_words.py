"""What each row rule asks, in words that show no value: for reports. The quarantine table has the values."""

from __future__ import annotations

RULE_WORDS = {
    "bad_id": "ids have no spaces around them and no control characters",
    "bad_locale": "locales are BCP 47 tags, e.g. en or pt-BR",
    "bad_timestamp": "times are ISO 8601, e.g. 2026-11-21T08:30:00Z",
    "broken_csv": "quotes are closed, and doubled inside a cell",
    "broken_json": "every line is one complete JSON object",
    "conflicting_item": "an item is delivered once a day, or the file again under its name",
    "invalid_utf8": "text is UTF-8",
    "missing_value": "every row has the fields its feed requires",
    "nul_byte": "text holds no NUL character",
    "out_of_range": "numbers lie within their bounds",
    "overlong_id": "ids have at most 256 characters",
    "overlong_line": "rows are within the limits of bytes and lines",
    "overlong_name": "labels and other names have at most 256 characters, places and pools 128",
    "overlong_text": "values are within the limit of characters (MODERATION_DROP_CELL)",
    "ragged_row": "every row has as many cells as the header",
    "locale_respelt": "locales are BCP 47 tags: en-US, not en_US",
    "nan_as_missing": "what is missing is left out, not NaN",
    "number_as_text": "ids and labels are text; whole numbers are read as text",
    "time_respelt": "times are ISO 8601, e.g. 2026-11-21T08:30:00Z",
    "too_deep": "JSON is within the limits of depth (MODERATION_DROP_DEPTH) and of 10,000 lists and objects",
    "too_many_fields": "rows are within the limit of fields (MODERATION_DROP_COLUMNS)",
    "unknown_kind": "kinds are vote, gold, adjudication and audit",
    "unknown_label": "labels are those of the policy",
    "unknown_policy": "policies are those of prompts/",
    "unusable_policy": "the policy's file has mistakes; see modpipe check",
    "wrong_type": "values have the type of their field",
}


def rule_words(rule: str) -> str:
    """What a rule asks; of a rule that another package brings, its name."""
    return RULE_WORDS.get(rule, rule.replace("_", " "))


READ_OTHERWISE = ("locale_respelt", "nan_as_missing", "number_as_text", "time_respelt")


def conversion_words(rule: str) -> str:
    """What became of values by a rule of ``conversions``."""
    done = "read and converted" if rule in READ_OTHERWISE else "dropped, kept in extra"
    return f"{rule}: {done} ({rule_words(rule)})"
