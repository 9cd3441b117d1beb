"""Charts as inline SVG: no script, no font, nothing loaded. Colours come from the page's style."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 460
ROW = 24
LABEL = 150


@dataclass(frozen=True)
class RangeRow:
    """One line of a dot-and-range chart. A None value is drawn as "undefined"."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    n: int | None = None
    second: bool = False


def range_chart(
    rows: Sequence[RangeRow], title: str, low: float = 0.0, high: float = 1.0, label_width: int = LABEL
) -> Markup:
    """Values as dots with their intervals as lines, one row each, n at the right. Empty without rows."""
    if not rows:
        return Markup("")
    present = [x for r in rows for x in (r.value, r.low) if x is not None]
    low = min([low, *[-1.0 if x < -0.5 else -0.5 for x in present if x < low]])
    height = ROW * len(rows) + 34
    left, right = label_width, WIDTH - 58

    def x(value: float) -> float:
        return left + (min(max(value, low), high) - low) / (high - low) * (right - left)

    parts = [_open(height, title)]
    steps = 4
    for i in range(steps + 1):
        at = low + (high - low) * i / steps
        parts.append(f'<line class="grid" x1="{x(at):.1f}" x2="{x(at):.1f}" y1="4" y2="{height - 26}"/>')
        parts.append(f'<text class="quiet" x="{x(at):.1f}" y="{height - 10}" text-anchor="middle">{at:g}</text>')
    if low < 0:
        parts.append(f'<line class="zero" x1="{x(0):.1f}" x2="{x(0):.1f}" y1="4" y2="{height - 26}"/>')
    for i, row in enumerate(rows):
        y = 4 + ROW * i + ROW / 2
        parts.append(f'<text x="0" y="{y + 4:.1f}">{escape(_short(row.label, label_width // 7 + 1))}</text>')
        if row.value is None:
            parts.append(f'<text class="quiet" x="{left + 4}" y="{y + 4:.1f}">undefined</text>')
        else:
            if row.low is not None and row.high is not None:
                cls = "range2" if row.second else "range"
                parts.append(f'<line class="{cls}" x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{y}" y2="{y}"/>')
            dot = "second" if row.second else "dot"
            parts.append(f'<circle class="{dot}" cx="{x(row.value):.1f}" cy="{y}" r="4"/>')
        if row.n is not None:
            parts.append(f'<text class="quiet" x="{WIDTH}" y="{y + 4:.1f}" text-anchor="end">n {row.n:,}</text>')
    parts.append("</svg>")
    return Markup("".join(str(p) for p in parts))  # noqa: S704 - every text above is escaped


def stacked_bars(days: Sequence[tuple[str, int, int]], title: str) -> Markup:
    """Rows accepted and quarantined per day. Empty without days."""
    if not days:
        return Markup("")
    height, base, top = 170, 140, 14
    most = max(max(a + q for _, a, q in days), 1)
    step = (WIDTH - 46) / len(days)
    wide = min(step * 0.7, 40)
    parts = [_open(height, title)]
    for share in (0.0, 0.5, 1.0):
        y = base - (base - top) * share
        parts.append(f'<line class="grid" x1="44" x2="{WIDTH}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="quiet" x="40" y="{y + 4}" text-anchor="end">{_thousands(most * share)}</text>')
    for i, (day, accepted, quarantined) in enumerate(days):
        x = 46 + step * i + (step - wide) / 2
        tall = (base - top) * accepted / most
        more = (base - top) * quarantined / most
        parts.append(f'<rect class="bar" x="{x:.1f}" y="{base - tall:.1f}" width="{wide:.1f}" height="{tall:.1f}"/>')
        if quarantined:
            tip = max(more, 1.5)
            parts.append(
                f'<rect class="second" x="{x:.1f}" y="{base - tall - tip:.1f}" width="{wide:.1f}" height="{tip:.1f}"/>'
            )
        if len(days) <= 8 or i % 3 == 0:
            middle = x + wide / 2
            parts.append(
                f'<text class="quiet" x="{middle:.1f}" y="{base + 18}" text-anchor="middle">{escape(day)}</text>'
            )
    parts.append("</svg>")
    return Markup("".join(str(p) for p in parts))  # noqa: S704 - every text above is escaped


def confusion_chart(labels: Sequence[str], counts: dict[tuple[str, str], int], title: str) -> Markup:
    """Reference labels down, judge's labels across; darker is more within the reference label."""
    if not labels:
        return Markup("")
    cell, left, top = min(100, (WIDTH - LABEL) // max(len(labels), 1)), LABEL, 40
    height = top + 34 * len(labels) + 8
    parts = [_open(height, title)]
    parts.append('<text class="quiet" x="0" y="30">reference ↓  judge →</text>')
    for j, label in enumerate(labels):
        parts.append(
            f'<text class="quiet" x="{left + cell * j + cell / 2:.1f}" y="30" text-anchor="middle">'
            f"{escape(_short(label, max(4, cell // 8)))}</text>"
        )
    for i, reference in enumerate(labels):
        total = sum(counts.get((reference, label), 0) for label in labels)
        y = top + 34 * i
        parts.append(f'<text x="0" y="{y + 20}">{escape(_short(reference, 22))}</text>')
        for j, label in enumerate(labels):
            n = counts.get((reference, label), 0)
            share = n / total if total else 0.0
            x = left + cell * j
            parts.append(
                f'<rect class="cell" x="{x}" y="{y}" width="{cell - 3}" height="31" rx="3" '
                f'fill-opacity="{0.06 + 0.5 * share:.3f}"/>'
                f'<text x="{x + (cell - 3) / 2:.1f}" y="{y + 20}" text-anchor="middle">{n:,}</text>'
            )
    parts.append("</svg>")
    return Markup("".join(str(p) for p in parts))  # noqa: S704 - every text above is escaped


def _open(height: float, title: str) -> str:
    name = escape(title)
    return f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{name}"><title>{name}</title>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _thousands(value: float) -> str:
    return f"{value / 1000:.1f}k" if value >= 10_000 else f"{value:,.0f}"


def agreement_matrix(raters: Sequence[str], cells: Mapping[tuple[str, str], tuple[float, int]], title: str) -> Markup:
    """Pairwise agreement as a grid, the lower triangle; darker: less. Raters are numbered: the diagonal tells a column
    whose it is. ``cells``: (value, items) per pair."""
    if len(raters) < 2:
        return Markup("")
    left, top = 96, 8
    size = min(34.0, (WIDTH - left) / len(raters))
    height = int(top + size * len(raters) + 18)
    parts = [_open(height, title)]
    least = min((v for v, _ in cells.values()), default=0.0)
    for i, row in enumerate(raters):
        y = top + size * i
        middle = f"{y + size / 2 + 4:.1f}"
        parts.append(f'<text x="0" y="{middle}">{i + 1} {escape(_short(row, 13))}</text>')
        parts.append(
            f'<text class="quiet" x="{left + size * i + size / 2:.1f}" y="{middle}" text-anchor="middle">{i + 1}</text>'
        )
        for j, column in enumerate(raters[:i]):
            found = cells.get((row, column)) or cells.get((column, row))
            if found is None:
                continue
            value, n = found
            share = 0.06 + 0.5 * (1 - value) / max(1 - least, 0.05)
            x = left + size * j
            parts.append(
                f'<rect class="cell" x="{x:.1f}" y="{y:.1f}" width="{size - 2:.1f}" height="{size - 2:.1f}" '
                f'fill-opacity="{min(share, 0.56):.3f}"><title>{escape(row)}, {escape(column)}: {value:.3f}, n {n:,}'
                "</title></rect>"
            )
            if size >= 24:
                parts.append(
                    f'<text x="{x + size / 2 - 1:.1f}" y="{y + size / 2 + 3:.1f}" text-anchor="middle" '
                    f'class="small">{value:.2f}</text>'
                )
    parts.append("</svg>")
    return Markup("".join(str(p) for p in parts))  # noqa: S704 - every text above is escaped
