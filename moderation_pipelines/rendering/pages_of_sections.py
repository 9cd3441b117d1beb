"""A section as HTML and as Markdown: the same blocks, in the same order."""

from __future__ import annotations

from markupsafe import Markup

from moderation_pipelines.rendering.pages import cell
from moderation_pipelines.rendering.section import Block, Cell, Chart, Grid, Note, Section


def shown(value: Cell) -> str:
    """A cell as people read it: a dash where there is nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}".replace("-", "−") if isinstance(value, float) else value


def section_html(section: Section) -> Markup:
    """The section for a page; every value is escaped."""
    blocks = Markup("\n").join(_block_html(block) for block in section.blocks)
    return Markup('<h2 id="{}">{}</h2>\n{}').format(section.id, section.title, blocks)


def _block_html(block: Block) -> Markup:
    if isinstance(block, Note):
        return Markup('<p id="{}">{}</p>').format(block.id, block.text)
    if isinstance(block, Chart):
        whole = Markup('<figure id="{}">{}<figcaption>{}</figcaption></figure>')
        return whole.format(block.id, block.svg, block.caption)
    head = Markup("").join(Markup("<th>{}</th>").format(c) for c in block.columns)
    rows = Markup("\n").join(
        Markup("<tr>{}</tr>").format(Markup("").join(_cell_html(value) for value in row)) for row in block.rows
    )
    caption = Markup('<p class="lead">{}</p>').format(block.caption) if block.caption else ""
    return Markup(
        '{}<div class="scroll" id="{}"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    ).format(caption, block.id, head, rows)


def _cell_html(value: Cell) -> Markup:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    cell_of = Markup('<td class="n">{}</td>') if is_number else Markup("<td>{}</td>")
    return cell_of.format(shown(value))


def section_markdown(section: Section) -> str:
    """The section as Markdown; charts are named, not drawn."""
    return "\n\n".join([f"## {cell(section.title)}", *(_block_markdown(block) for block in section.blocks)])


def _block_markdown(block: Block) -> str:
    if isinstance(block, Note):
        return cell(block.text)
    if isinstance(block, Chart):
        return f"*{cell(block.caption)}*"
    lines = [
        "| " + " | ".join(cell(c) for c in block.columns) + " |",
        "|" + " --- |" * len(block.columns),
        *("| " + " | ".join(cell(shown(value)) for value in row) + " |" for row in block.rows),
    ]
    return "\n".join([*([cell(block.caption), ""] if block.caption else []), *lines])


def section_sheets(section: Section) -> dict[str, Grid]:
    """The tables of a section, by the name of their sheet (at most 31 characters)."""
    return {f"{section.id} {block.id}"[:31]: block for block in section.blocks if isinstance(block, Grid)}
