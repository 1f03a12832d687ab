"""Writes down what the service says of itself, for those who have only the repository."""

import json
from pathlib import Path
from typing import Any

import click

from billing_stream.console.help import help_epilog
from billing_stream.console.output import say
from billing_stream.records import asyncapi, json_schemas
from billing_stream.web import openapi
from billing_stream.web.described import default_topics

FOLDER = Path("docs/api")


def documents() -> dict[str, Any]:
    """Every document, by its path in the folder."""
    found = {
        "openapi.json": openapi.document(),
        "asyncapi.json": asyncapi.document(default_topics()),
    }
    for name, schema in json_schemas.document().items():
        found[f"schemas/{name}.json"] = schema
    return found


def encoded(document: Any) -> str:
    """The document as its file has it."""
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def write(folder: Path) -> list[Path]:
    """Write every document; the paths written."""
    written = []
    for name, document in documents().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(encoded(document), encoding="utf-8")
        written.append(path)
    return written


@click.command(
    epilog=help_epilog(
        {0: "written", 2: "wrong usage"},
        "billing-stream describe",
        "billing-stream describe --to /tmp/api && diff -r docs/api /tmp/api",
        environment=None,
    )
)
@click.option(
    "--to",
    type=click.Path(file_okay=False, path_type=Path),
    default=FOLDER,
    show_default=True,
    help="The folder to write to.",
)
def describe(to: Path) -> None:
    """Write the descriptions of the API, the topics and the records.

    OpenAPI 3.1 for the HTTP API, AsyncAPI 3.0 for the topics, a JSON Schema for each kind of
    record. Needs neither settings nor servers; a worker serves the first two.
    """
    for path in write(to):
        say(f"wrote {path}")


if __name__ == "__main__":
    describe()
