"""`billing-stream docs`: the pages that messages name, where the source is not available."""

import difflib
from pathlib import Path

import click

from billing_stream.console.help import help_epilog
from billing_stream.console.output import say
from billing_stream.console.tables import table_lines

PAGES = Path(__file__).parent.parent / "docs"


def pages() -> dict[str, Path]:
    """The installed pages, by name."""
    return {path.stem: path for path in sorted(PAGES.glob("*.md"), key=lambda path: path.stem)}


@click.command(
    epilog=help_epilog(
        {0: "shown", 2: "there is no such page"},
        "billing-stream docs",
        "billing-stream docs restore",
    )
)
@click.argument("page", required=False)
def docs(page: str | None) -> None:
    """Show a PAGE of the documentation, or list all of them. Nothing is connected."""
    known = pages()
    if page is None:
        titles = ((name, path.read_text().partition("\n")[0]) for name, path in known.items())
        for line in table_lines(("", ""), ((name, title.lstrip("# ")) for name, title in titles)):
            say(line)
        return
    name = page.removeprefix("docs/").removesuffix(".md")
    if name not in known:
        close = next(iter(difflib.get_close_matches(name, known, 1)), None)
        hint = f": {close}?" if close else "; `billing-stream docs` lists them"
        raise click.UsageError(f"there is no page {page}{hint}")
    click.echo_via_pager(known[name].read_text())
