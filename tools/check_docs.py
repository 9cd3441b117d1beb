"""Dead links in the Markdown of the repository: files and headings that links point to must be there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchor(heading: str) -> str:
    """The anchor a heading gets on the usual hosts."""
    plain = re.sub(r"[`*_]", "", heading).lower()
    return re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")


def dead_links(page: Path) -> list[str]:
    """Links of one page that lead nowhere."""
    dead = []
    for target in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists():
            dead.append(f"{page.relative_to(ROOT)}: {target}: no such file")
        elif fragment and file.suffix == ".md":
            anchors = {anchor(h) for h in HEADING.findall(FENCE.sub("", file.read_text(encoding="utf-8")))}
            if fragment not in anchors:
                dead.append(f"{page.relative_to(ROOT)}: {target}: no such heading")
    return dead


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    pages = [ROOT / name for name in listed.stdout.split() if (ROOT / name).is_file()]
    dead = [problem for page in pages for problem in dead_links(page)]
    print("\n".join(dead) if dead else f"{len(pages)} pages, no dead link")
    return 1 if dead else 0


if __name__ == "__main__":
    sys.exit(main())
