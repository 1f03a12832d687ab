"""Makes the pages of the HTTP API and of the commands, so that they read in the repository too.

    python -m shipping.reference

writes the end of docs/http-api.md, from docs/api/openapi.json, and that of docs/commands.md, from
`--help`; what is before the mark is kept.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from billing_stream.cli import cli

DOCS = Path(__file__).parents[1] / "docs"
WIDTH = 90
MARK = "<!-- made by python -m shipping.reference -->"


def pages() -> dict[str, str]:
    """The text of each page by its name in docs: what is written before the mark, then the rest."""
    made = {"commands.md": _commands(), "http-api.md": HttpApi().page()}
    return {page: f"{_written(page)}{MARK}\n\n{text}" for page, text in made.items()}


def _written(page: str) -> str:
    text, mark, _ = (DOCS / page).read_text().partition(MARK)
    if not mark:
        raise ValueError(f"docs/{page} has no line {MARK}")
    return text


def _commands() -> str:
    sections = list(_sections(cli, "billing-stream"))
    rows = (f"| [`{path}`](#{path.replace(' ', '-')}) | {short} |\n" for path, short, _ in sections)
    table = f"| Command | Purpose |\n|---|---|\n{''.join(rows)}"
    helps = (f"\n## {path}\n\n```text\n{text}\n```\n" for path, _, text in sections)
    return table + "".join(helps)


def _sections(
    command: click.Command, name: str, parent: click.Context | None = None
) -> Iterator[tuple[str, str, str]]:
    """Path, purpose and help of a command, and of those below it."""
    widths = {"max_content_width": WIDTH, "terminal_width": WIDTH}
    # With its parent, from which the names of `--help` come.
    context = click.Context(command, parent, name, **{**command.context_settings, **widths})
    path = context.command_path
    yield path, command.get_short_help_str(WIDTH), click.unstyle(command.get_help(context))
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            if found is not None and not found.hidden:
                yield from _sections(found, below, context)


class HttpApi:
    """The OpenAPI document as Markdown."""

    def __init__(self) -> None:
        self._document = json.loads((DOCS / "api" / "openapi.json").read_text())
        self._linked: list[str] = []  # Schemas in the order in which they were named.

    def page(self) -> str:
        """All of it."""
        parts = [self._document["info"].get("description", ""), *self._shared()]
        for tag in self._document["tags"]:
            parts.append(f"## {tag['name'].capitalize()}\n\n{tag.get('description', '')}")
            for path, operations in self._document["paths"].items():
                for method, operation in operations.items():
                    if tag["name"] in operation["tags"]:
                        parts += self._operation(f"{method.upper()} {path}", operation)
        parts.append("## Objects")
        for name in self._linked:  # It grows while its fields are written.
            schema = self._document["components"]["schemas"][name]
            parts += [f"### {name}", schema.get("description", ""), self._fields(schema)]
        return "\n\n".join(part.strip() for part in parts if part) + "\n"

    def _shared(self) -> Iterator[str]:
        """What several operations have: credentials, parameters."""
        components = self._document["components"]
        yield "## Credentials"
        schemes = components["securitySchemes"].items()
        yield _table(
            ("Name", "Sent as", "Content"),
            [
                (f"`{name}`", f"`{one.get('name', 'Authorization')}`", one.get("description", ""))
                for name, one in schemes
            ],
        )
        yield "## Parameters"
        yield self._parameters(components["parameters"].values())

    def _operation(self, title: str, operation: dict[str, Any]) -> Iterator[str]:
        yield f"### {title}"
        yield f"{operation['summary']}. {operation.get('description', '')}"
        names = [name for one in operation.get("security", []) for name in one]
        if names:
            yield f"Credentials: {', '.join(f'`{name}`' for name in names)}."
        given = operation.get("parameters", [])
        shared = [one["$ref"].rpartition("/")[2] for one in given if "$ref" in one]
        if shared:
            yield f"Parameters: {', '.join(f'`{name}`' for name in shared)}."
        if own := [one for one in given if "$ref" not in one]:
            yield self._parameters(own)
        if body := operation.get("requestBody"):
            yield f"Body: {self._contents(body)}. {_example(body)}"
        rows = []
        for status, response in operation["responses"].items():
            response = self._resolved(response)
            good = status < "4"
            content = self._contents(response) if good else response["description"]
            rows.append((status, content or response["description"]))
        yield _table(("Status", "Response"), rows)
        yield _example(next(iter(operation["responses"].values())))

    def _parameters(self, parameters: Any) -> str:
        rows = []
        for one in parameters:
            kind = self._type(one.get("schema", {}))
            default = one.get("schema", {}).get("default")
            needed = "required. " if one.get("required") else ""
            usual = f"Default {default}. " if default is not None else ""
            text = f"{needed}{usual}{one.get('description', '')}"
            rows.append((f"`{one['name']}`", one["in"], kind, text))
        return _table(("Name", "In", "Type", "Description"), rows)

    def _contents(self, holder: dict[str, Any]) -> str:
        kinds = (self._data(one.get("schema", {})) for one in holder.get("content", {}).values())
        return " or ".join(dict.fromkeys(kinds))

    def _data(self, schema: dict[str, Any]) -> str:
        """The type of a body; of an envelope that of its data."""
        inner = self._resolved(schema).get("properties", {})
        if {"data", "error", "meta"} <= inner.keys():
            return self._type(inner["data"])
        return self._type(schema)

    def _fields(self, schema: dict[str, Any]) -> str:
        if "properties" not in schema:
            return "" if schema.get("type") == "object" else f"One of: {self._type(schema)}."
        required = schema.get("required", ())
        rows = []
        for name, field in schema["properties"].items():
            inner: dict[str, Any] = next(
                (one for one in field.get("anyOf", ()) if "description" in one), {}
            )
            text = field.get("description") or inner.get("description", "")
            rows.append((f"`{name}`", self._type(field), "yes" if name in required else "no", text))
        return _table(("Field", "Type", "Required", "Description"), rows)

    def _type(self, schema: dict[str, Any]) -> str:
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            if name not in self._linked:
                self._linked.append(name)
            return f"[{name}](#{name.lower()})"
        for several in ("anyOf", "oneOf", "allOf"):
            if several in schema:
                return " or ".join(dict.fromkeys(self._type(one) for one in schema[several]))
        if "enum" in schema or "const" in schema:
            values = schema.get("enum", [schema.get("const")])
            return ", ".join(f"`{value}`" for value in values)
        if schema.get("type") == "array":
            return f"list of {self._type(schema.get('items', {}))}"
        values = schema.get("additionalProperties")
        if isinstance(values, dict):
            return f"map to {self._type(values)}"
        kind = schema.get("format") or schema.get("type") or "any"
        return " or ".join(kind) if isinstance(kind, list) else str(kind)

    def _resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        found = schema
        while "$ref" in found:
            kind, name = found["$ref"].split("/")[-2:]
            found = self._document["components"][kind][name]
        return found


def _example(holder: dict[str, Any]) -> str:
    """The first example of a body; nothing when it has none."""
    for content in holder.get("content", {}).values():
        for example in content.get("examples", {}).values():
            text = json.dumps(example["value"], indent=2, ensure_ascii=False)
            return f"For example:\n\n```json\n{text}\n```"
    return ""


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines: list[Sequence[str]] = [names, ["---"] * len(names), *rows]
    return "\n".join(
        f"| {' | '.join(' '.join(cell.replace('|', chr(92) + '|').split()) for cell in line)} |"
        for line in lines
    )


if __name__ == "__main__":
    for page, text in pages().items():
        (DOCS / page).write_text(text)
