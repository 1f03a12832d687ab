"""Requests that aiokafka does not have, made from their fields alone.

Its client sends them, so that servers and security are those of every other connection.
"""

from typing import Any

from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Schema, TaggedFields

TEXT, TAGS = CompactString("utf-8"), ("tags", TaggedFields)
Field = tuple[str, Any]


class FlexibleRequest(Request[RequestStruct]):
    """One version of a request, with the values of its fields in order, without the last tags."""

    API_KEY = -1

    def __init__(self, *fields: Any) -> None:
        self._fields = fields

    def build(self, request_struct_class: Any) -> Any:
        """The request on the wire."""
        return request_struct_class(*self._fields, {})


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
    made = type(f"{name}Request", (FlexibleRequest,), {"API_KEY": key})
    made._CLASSES = (struct,)  # type: ignore[attr-defined]
    return made
