"""The share of the eval side, fixed when a home is first used."""

from __future__ import annotations

from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.tables.store import write_text


def pin_eval_share(home: Home, share: float) -> None:
    """Fix the share of the eval side when a home is first used. Raises :class:`UserError` when it was another.

    Items never change sides: changing the share would put texts that were trained on into eval sets.
    """
    file = home.warehouse / "_eval_share"
    if not file.exists():
        write_text(file, f"{share!r}\n")
    elif float(file.read_text()) != share:
        pinned = file.read_text().strip()
        said = f"the eval share is {share:g}, but this home's items were split with {pinned}"
        raise UserError(f"{said}; set MODERATION_EVAL_SHARE back")
