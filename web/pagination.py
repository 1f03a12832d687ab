"""Which part of a list is asked for: `?page=2&limit=10`, or `?cursor=...&limit=10`.

A page number counts from the newest item, so pages move when items are added; what follows a
cursor stays.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping

from msgspec import Struct

from billing_stream.records.invalid_fields import Rule
from billing_stream.web.envelope import ApiError, Pagination, invalid

LIMIT_DEFAULT = 10
LIMIT_MAX = 100
PAGE_MAX = 1_000_000
CURSOR_MAX = 128

_NUMBER = re.compile(r"[0-9]{1,7}", re.ASCII)
_CURSOR = re.compile(rf"[A-Za-z0-9_-]{{1,{CURSOR_MAX}}}", re.ASCII)


class Page(Struct, frozen=True):
    """One page of a list; `number` counts from 1. With a `cursor` it is what follows that item."""

    number: int = 1
    limit: int = LIMIT_DEFAULT
    cursor: str | None = None

    @property
    def skip(self) -> int:
        """How many items come before this page."""
        return (self.number - 1) * self.limit

    def after(self, list_name: str, form: str) -> str | None:
        """The key of the item that this page follows; None without a cursor.

        Raises ApiError (VALIDATION_ERROR) for a cursor that is not of this list: its key is to
        match `form` (a pattern).
        """
        if self.cursor is None:
            return None
        try:
            text = urlsafe_b64decode(self.cursor + "=" * (-len(self.cursor) % 4)).decode("ascii")
        except (NotBase64, UnicodeDecodeError):
            raise wrong_cursor() from None
        named, _, key = text.partition(":")
        if named != list_name or re.fullmatch(form, key) is None:
            raise wrong_cursor()
        return key

    def of(self, total: int, skipped: int | None = None, next_cursor: str = "") -> Pagination:
        """What the answer says about a list of `total` items.

        `skipped` items come before this page (default: by its number). `next_cursor` is given
        where items follow.
        """
        before = self.skip if skipped is None else skipped
        follows = bool(next_cursor) and before + self.limit < total
        return Pagination(
            before // self.limit + 1,
            self.limit,
            total,
            -(-total // self.limit),
            next_cursor if follows else None,
        )


def cursor_after(list_name: str, key: object) -> str:
    """The cursor of what follows the item with this key."""
    return urlsafe_b64encode(f"{list_name}:{key}".encode()).decode().rstrip("=")


def wrong_cursor() -> ApiError:
    """The refusal of a cursor that this list has not given."""
    return invalid("cursor", "`cursor` must be a `next_cursor` from an answer of this list")


def parse_page(query: Mapping[str, str]) -> Page:
    """The page asked for. Raises ApiError (VALIDATION_ERROR), naming the parameter."""
    cursor = query.get("cursor")
    if cursor is not None and "page" in query:
        raise invalid("cursor", "`cursor` and `page` exclude each other", Rule.CONFLICT)
    if cursor is not None and _CURSOR.fullmatch(cursor) is None:
        raise wrong_cursor()
    return Page(
        _number(query, "page", 1, PAGE_MAX),
        _number(query, "limit", LIMIT_DEFAULT, LIMIT_MAX),
        cursor,
    )


def _number(query: Mapping[str, str], name: str, default: int, largest: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if _NUMBER.fullmatch(text) is None or not 1 <= int(text) <= largest:
        raise invalid(name, f"`{name}` must be a whole number from 1 to {largest}", Rule.RANGE)
    return int(text)
