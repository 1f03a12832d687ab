"""Requests that aiokafka does not have, made from their fields alone.

Its client sends them, so that servers and security are those of every other connection.
"""

from types import new_class
from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Schema, TaggedFields

TEXT, TAGS = CompactString("utf-8"), ("tags", TaggedFields)
Field = tuple[str, Any]


def array(*fields: Field) -> Any:
    """An array of structs with these fields."""
    return CompactArray(*fields, TAGS)


def request(
    name: str, key: int, version: int, asked: list[Field], answered: list[Field], **more: Any
) -> type[Any]:
    """The class of a request with these fields, and of the answer to it (RESPONSE_TYPE).

    `more` are attributes of the request on the wire.
    """
    api = {"API_KEY": key, "API_VERSION": version}
    answer = type(f"{name}Response", (Response,), {**api, "SCHEMA": Schema(*answered, TAGS)})
    own = {"FLEXIBLE_VERSION": True, "RESPONSE_TYPE": answer, "SCHEMA": Schema(*asked, TAGS)}
    struct = type(f"{name}Struct", (RequestStruct,), {**api, **own, **more})
    made = {"API_KEY": key, "__init__": _set_fields, "build": _build}
    kind: Any = Request
    return new_class(f"{name}Request", (kind[struct],), exec_body=lambda body: body.update(made))


def _set_fields(self: Any, *fields: Any) -> None:
    """All fields in order, without the last tags."""
    self._fields = fields


def _build(self: Any, request_struct_class: Any) -> Any:
    return request_struct_class(*self._fields, {})
