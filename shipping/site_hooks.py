"""What the site of the documents has that no file has: the commands, and links that stay here."""

import re
from collections.abc import Iterator
from typing import Any

import click

from billing_stream.cli import cli

PLACE = "<!-- commands -->"
# To files of the repository that are no documents.
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?!operators|[\w-]+\.md)[^)]*\)")
WIDTH = 90


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""
    if PLACE in markdown:
        markdown = markdown.replace(PLACE, "\n".join(_commands(cli, "billing-stream")))
    return OUTSIDE.sub(r"\1", markdown)


def _commands(command: click.Command, path: str) -> Iterator[str]:
    context = click.Context(command, info_name=path, max_content_width=WIDTH, terminal_width=WIDTH)
    yield f"\n## {path}\n\n```text\n{click.unstyle(command.get_help(context))}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _commands(found, f"{path} {name}")
