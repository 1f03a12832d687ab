"""Judges answers and records by what is said of them."""

from collections.abc import Iterator
from functools import cache
from typing import Any, cast

from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from billing_stream.records.json_schemas import rewrite
from billing_stream.web import openapi
from tests.support.nodes import Reply

WHOLE = "urn:openapi"


def errors(schema: Any, value: Any, registry: Any = None) -> list[str]:
    """What is wrong with the value, by the schema."""
    validator = Draft202012Validator(
        schema,
        registry=registry or Registry(),
        format_checker=Draft202012Validator.FORMAT_CHECKER,
    )
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


def pointer(*parts: str) -> str:
    """A JSON pointer."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in parts)


@cache
def described() -> dict[str, Any]:
    """The OpenAPI document."""
    return openapi.document()


def errors_at(place: str, value: Any, *, closed: bool = False) -> list[str]:
    """What is wrong with the value, by the schema at a place of the OpenAPI document.

    `closed`: with fields that are not described, too.
    """
    return errors({"$ref": f"{WHOLE}#{place}"}, value, _registry(closed))


@cache
def _registry(closed: bool) -> Any:
    document = described()
    if closed:
        document = rewrite(document, _close)
    resource = Resource.from_contents(document, default_specification=DRAFT202012)
    return cast(Any, Registry()).with_resource(WHOLE, resource)


def _close(schema: dict[str, Any]) -> dict[str, Any]:
    if schema.get("type") == "object" and "properties" in schema:
        return {"additionalProperties": False, **schema}
    return schema


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation as (path, method, description)."""
    for path, methods in described()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def resolved(part: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Where a referenced part of the document is, and the part."""
    place = part["$ref"][1:]
    found = described()
    for name in place.split("/")[1:]:
        found = found[name.replace("~1", "/").replace("~0", "~")]
    return place, found


def response_of(path: str, method: str, status: int) -> tuple[str, dict[str, Any]]:
    """Where an answer is described, and how; an error when it is not."""
    responses = described()["paths"][path][method]["responses"]
    assert str(status) in responses, f"{method} {path} is not said to answer {status}"
    response = responses[str(status)]
    if "$ref" in response:
        return resolved(response)
    return pointer("paths", path, method, "responses", str(status)), response


def wrong_with(path: str, method: str, reply: Reply) -> list[str]:
    """What of an answer is not as described: body, headers, content type."""
    place, response = response_of(path, method, reply.status)
    if reply.headers["Content-Type"].partition(";")[0] != "application/json":
        return [f"Content-Type: {reply.headers['Content-Type']}"]
    schema = place + pointer("content", "application/json", "schema")
    found = errors_at(schema, reply.body, closed=True)
    error = reply.body["error"]
    if (
        error is not None
        and error["code"] not in response["content"]["application/json"]["examples"]
    ):
        found.append(f"{error['code']} is not said to be one of its codes")
    for name, header in response["headers"].items():
        said = resolved(header)[1]
        if said.get("required") or name in reply.headers:
            found += [
                f"{name}: {error}" for error in errors(said["schema"], reply.headers.get(name))
            ]
    return found
