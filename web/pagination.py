"""Which part of a list is asked for: `?page=2&limit=10`."""

import re
from collections.abc import Mapping

from msgspec import Struct

from billing_stream.web.envelope import Pagination, invalid

LIMIT_DEFAULT = 10
LIMIT_MAX = 100
PAGE_MAX = 1_000_000

_NUMBER = re.compile(r"[0-9]{1,7}", re.ASCII)


class Page(Struct, frozen=True):
    """One page of a list; `number` counts from 1."""

    number: int = 1
    limit: int = LIMIT_DEFAULT

    @property
    def skip(self) -> int:
        """How many items come before this page."""
        return (self.number - 1) * self.limit

    def of(self, total: int) -> Pagination:
        """What the answer says about a list of `total` items."""
        return Pagination(self.number, self.limit, total, -(-total // self.limit))


def parse_page(query: Mapping[str, str]) -> Page:
    """The page asked for. Raises ApiError (VALIDATION_ERROR), naming the parameter."""
    return Page(
        _number(query, "page", 1, PAGE_MAX),
        _number(query, "limit", LIMIT_DEFAULT, LIMIT_MAX),
    )


def _number(query: Mapping[str, str], name: str, default: int, largest: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if _NUMBER.fullmatch(text) is None or not 1 <= int(text) <= largest:
        raise invalid(name, f"{name} must be a whole number from 1 to {largest}")
    return int(text)
