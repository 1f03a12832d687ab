"""The schemas of the HTTP API by name, made from the structs that are sent and read.

Generated clients have a type for each name; what has no name becomes a type for each place.
"""

from collections.abc import Iterable
from typing import get_args, get_origin

from billing_stream.records.invalid_fields import InvalidField
from billing_stream.records.json_schemas import Schema, components
from billing_stream.web.envelope import STATUS, ApiResponse, ErrorBody
from billing_stream.web.health import ReadyBody
from billing_stream.web.operation import Operation

REF = "#/components/schemas/{name}"
ERROR_RESPONSE = "ErrorResponse"
UNREADY_RESPONSE = "UnreadyResponse"
_UNREADY_ERROR = "UnreadyError"


def response_name(operation: Operation) -> str:
    """The name of the schema of a good answer, by its data.

    Clients that are generated have a type for each name; without names, for each answer.
    """
    kind = operation.data
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        kind, more = item, "ListResponse"
    else:
        more = "Response"
    return str(kind.__name__).removesuffix("Body") + more


def _envelopes(operations: Iterable[Operation], envelope: Schema) -> dict[str, Schema]:
    """The schema of every answer, by name."""
    null = {"type": "null"}
    found = {}
    for operation in operations:
        (data,), _ = components([operation.data], REF)
        said = {"data": data, "error": null}
        if operation.paginated:
            said["pagination"] = {"$ref": REF.format(name="Pagination")}
        found[response_name(operation)] = _envelope(envelope, said)
    for name, error in ((ERROR_RESPONSE, ErrorBody.__name__), (UNREADY_RESPONSE, _UNREADY_ERROR)):
        found[name] = _envelope(envelope, {"data": null, "error": {"$ref": REF.format(name=error)}})
    return found


def _envelope(whole: Schema, said: dict[str, Schema]) -> Schema:
    """`ApiResponse` with these members described more exactly."""
    properties = {**whole["properties"], **said}
    if "pagination" not in said:
        del properties["pagination"]
    return {
        "type": "object",
        "description": whole["description"],
        "properties": properties,
        "required": list(properties),
    }


def schemas(operations: Iterable[Operation]) -> dict[str, Schema]:
    """The schemas of all that the operations take and answer, by name."""
    operations = list(operations)
    found = _generated(operations)
    found |= _envelopes(operations, found.pop(ApiResponse.__name__))
    found["Code"] = {
        "type": "string",
        "description": "Why a request was refused.",
        "enum": sorted(str(code) for code in STATUS),
    }
    error = found[ErrorBody.__name__]
    properties = {**error["properties"], "code": {"$ref": REF.format(name="Code")}}
    (fields, unready), _ = components([list[InvalidField] | None, ReadyBody], REF)
    found[ErrorBody.__name__] = error | {"properties": properties | {"details": fields}}
    named = {"title": _UNREADY_ERROR, "properties": properties | {"details": unready}}
    found[_UNREADY_ERROR] = error | named
    return dict(sorted(found.items()))


def _generated(every: Iterable[Operation]) -> dict[str, Schema]:
    """The schemas of every struct in a body, by name."""
    bodies = [operation.body for operation in every if operation.body is not None]
    _, taken = components(bodies, REF)
    kinds = [ApiResponse, InvalidField, *(operation.data for operation in every)]
    _, given = components(kinds, REF)
    # What we send always has its fields with defaults, too; but not those that may be unset.
    for name, schema in given.items():
        if "properties" in schema and name != ApiResponse.__name__:
            required = schema.get("required", ())
            schema["required"] = [
                field
                for field, form in schema["properties"].items()
                if field in required or "default" in form
            ]
    return taken | given
