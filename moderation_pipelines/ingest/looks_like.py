"""What a file really is that is not what its name says, and which column a header means, in words that help."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from moderation_pipelines.foundation.errors import folded, nearest

HEAD = 4_096
_ALIKE = 0.7
SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars (|)"}
_COLUMNS = "item_id, policy, label and rater_id"
_AS_ROWS = f"; write one JSON object a line with {_COLUMNS} (or item_id and text), and name it .jsonl"
# What people and tools call a field: asked where a required one is missing, and where an optional one may be meant.
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    name: tuple(others.split())
    for name, others in {
        "item_id": "id item content_id post_id comment_id tweet_id doc_id document_id message_id sample_id",
        "text": "content body comment message post sentence tweet caption",
        "policy": "question task",
        "label": "verdict class category answer judgement judgment annotation rating choice target value",
        "rater_id": "rater annotator annotator_id worker worker_id coder coder_id labeler labeler_id labeller reviewer "
        "reviewer_id completed_by",
        "labeled_at": "timestamp labelled_at annotated_at submitted_at completed_at reviewed_at time date",
        "created_at": "timestamp published_at posted_at time date",
        "locale": "lang language lang_code language_code",
        "rater_locale": "rater_lang rater_language annotator_language",
        "seconds": "duration time_spent lead_time seconds_spent duration_seconds",
        "views": "view_count n_views impressions",
        "author_key": "author author_id user user_id username",
        "group_key": "group group_id template template_id cluster_id source_id",
        "conversation_id": "conversation conversation_key thread thread_id",
        "vote_id": "annotation_id judgement_id judgment_id",
        "pool": "vendor site team",
        "surface": "channel placement",
        "rationale": "reason explanation",
        "kind": "vote_kind label_kind",
    }.items()
}


def what_it_is(head: bytes, ending: str) -> str | None:
    """What the first bytes of a file say it is, where that is not ``ending`` (such as ``.csv``), and what to do. None
    where nothing stands against the name."""
    if head.startswith(b"PK\x03\x04"):
        if b"xl/" in head or b"[Content_Types].xml" in head or ending in (".xlsx", ".xlsm"):
            return "an Excel workbook; save the sheet as CSV (UTF-8, commas)"
        return "a zip archive; deliver the files in it, plain or as .gz or .zst"
    if head.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return "an Excel workbook of the old kind; save the sheet as CSV (UTF-8, commas)"
    if head[257:262] == b"ustar":
        return "a tar archive; deliver the files in it, plain or as .gz or .zst"
    if head.startswith(b"%PDF"):
        return "a PDF; deliver the data it was made from"
    if head.startswith(b"PAR1") and ending != ".parquet":
        return "a Parquet file; name it .parquet"
    if head.startswith(b"\x1f\x8b"):
        return f"packed by gzip; name it {ending}.gz" if ending else "packed by gzip; name it .gz after its ending"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return f"packed by zstd; name it {ending}.zst" if ending else "packed by zstd; name it .zst after its ending"
    if ending == ".parquet":
        return None
    if _is_wide(head):
        return "UTF-16 or UTF-32; save it as UTF-8"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"(?i)<(!doctype|html|\?xml|table)", start):
        return "a page of HTML or XML; deliver CSV, JSONL or Parquet"
    if ending not in (".jsonl", ".ndjson", ".json", ".csv", ""):
        return None
    if re.match(rb"\[\s*\{", start) or (ending == ".json" and start.startswith(b"[")):
        if b'"annotations"' in start or b'"completed_by"' in start:
            return f"a Label Studio export{_AS_ROWS}, a line for each annotation"
        return f"one JSON array{_AS_ROWS}"
    if ending == ".json" and start.startswith(b"{"):
        return f"JSON{_AS_ROWS}"
    if ending in (".jsonl", ".ndjson") and re.match(rb"\{\s*\n", start):
        return f"JSON over several lines{_AS_ROWS}"
    if ending in (".jsonl", ".ndjson") and b"\r" in start[:-1] and b"\n" not in start:
        return "text whose lines end in CR only; save it with LF at the ends of lines"
    if ending == ".csv" and re.match(rb'\{\s*"', start):
        return "JSON, not CSV; if each line is one object, name it .jsonl"
    return None


def _is_wide(head: bytes) -> bool:
    """Whether text takes two or four bytes a character: by its mark, or by every other byte being nothing."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or head[:4] == b"\x00\x00\xfe\xff":
        return True
    start = head[:64]
    zeros = max(start[::2].count(0), start[1::2].count(0))
    return len(start) >= 8 and zeros > 0.35 * len(start)


def column_meant(name: str, there: Iterable[str], known: Collection[str] = ()) -> str | None:
    """Which of the columns ``there`` may be meant by the missing field ``name``; never a known other field."""
    free = [c for c in there if c not in known]
    alike = (c for c in free if len(c) <= 2 * len(name))
    return _by_name(name, _by_fold(free)) or nearest(name, alike, _ALIKE)


def columns_unread(there: Iterable[str], known: Collection[str]) -> list[tuple[str, str]]:
    """(column, field) where a column that is not read looks like a known field that is not there."""
    there = list(there)
    by_fold = _by_fold(c for c in there if c not in known)
    missing = (name for name in known if name not in there)
    return [(found, name) for name in missing if (found := _by_name(name, by_fold)) is not None]


def _by_fold(names: Iterable[str]) -> dict[str, str]:
    """Names by what is left of them without case and signs; of several the first."""
    out: dict[str, str] = {}
    for name in names:
        out.setdefault(folded(name), name)
    return out


def _by_name(name: str, by_fold: Mapping[str, str]) -> str | None:
    """The column that has a field's name but for case and signs, or another name of it."""
    found = (by_fold.get(folded(other)) for other in (name, *OTHER_NAMES.get(name, ())))
    return next((f for f in found if f is not None), None)


def first_line_is(line: str, required: Collection[str]) -> str | None:
    """What the first line of a CSV file is that lacks required columns, and what to do, where that can be told."""
    if line.casefold().startswith("sep="):
        return "the first line is Excel's sep=; delete that line, and put commas between cells"
    if not line.strip():
        return "the first line is blank; the header has to be the first line"
    if line.startswith("#"):
        return "the first line is a comment; the header has to be the first line"
    for separator, word in SEPARATORS.items():
        cells = {folded(cell) for cell in line.split(separator)}
        named = any(folded(name) in cells for name in required)
        if line.count(separator) and (named or (line.count(separator) > 1 and "," not in line)):
            return f"cells are separated by {word}; save the file with commas between them"
    return None
