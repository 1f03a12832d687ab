"""`billing-stream docs`: the pages that messages name, where the source is not available."""

import difflib
import re
from collections.abc import Iterable
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
        {0: "shown", 2: "there is no such page or section"},
        "billing-stream docs",
        "billing-stream docs restore",
        "billing-stream docs runbooks BillingDeadLetters",
    )
)
@click.argument("page", required=False)
@click.argument("section", required=False)
def docs(page: str | None, section: str | None) -> None:
    """Show a PAGE of the documentation, or list all of them. Nothing is connected.

    SECTION is a heading of the page, such as the name of an alert in `runbooks`.
    """
    known = pages()
    if page is None:
        titles = ((name, path.read_text().partition("\n")[0]) for name, path in known.items())
        for line in table_lines(("", ""), ((name, title.lstrip("# ")) for name, title in titles)):
            say(line)
        return
    name = page.removeprefix("docs/").removesuffix(".md")
    if name not in known:
        hint = _meant(name, known) or "; `billing-stream docs` lists them"
        raise click.UsageError(f"there is no page {page}{hint}")
    text = known[name].read_text()
    if section is None:
        click.echo_via_pager(text)
        return
    found = sections(text)
    if section not in found:
        raise click.UsageError(f"{name} has no section {section}{_meant(section, found)}")
    for line in found[section].splitlines():
        say(line)


def sections(text: str) -> dict[str, str]:
    """The parts of a page by their headings of the second level, each with its heading."""
    parts = re.split(r"^(?=## )", text, flags=re.M)[1:]
    return {part.partition("\n")[0].removeprefix("## "): part.rstrip() for part in parts}


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, 1)
    return f": {close[0]}?" if close else ""
