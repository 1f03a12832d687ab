"""The pack catalogue: read from a TOML file, and checked wherever it comes from.

[packs.small]
credits = 100
title = "100 credits"
[packs.small.price]
USD = "9.99"
JPY = "1500"
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from billing_stream.domain.commands import AMOUNT_TEXT
from billing_stream.domain.currencies import DECIMALS
from billing_stream.domain.policy import Pack

BYTES_MAX = 1 << 20
PACKS_MAX = 1_000
CREDITS_MAX = 1_000_000_000
TITLE_MAX = 255
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_PACK_KEYS = ("credits", "title", "price")
_SHOWN_MAX = 40


class CatalogueError(ValueError):
    """The catalogue is not right; each line is one problem."""


def read_catalogue(path: Path, currency: str) -> dict[str, Pack]:
    """The packs of a file, in its order. Raises CatalogueError as `packs_of` does."""
    try:
        return packs_of(tables_of(path), currency)
    except CatalogueError as error:
        lines = [f"{path}: {line}" for line in str(error).splitlines()]
        raise CatalogueError("\n".join(lines)) from None


def packs_of(tables: Mapping[str, Any], currency: str) -> dict[str, Pack]:
    """The packs of a catalogue, which is `{"packs": {name: {credits, title, price}}}`.

    One of them at least has a price in `currency`, which a purchase has that names none. Raises
    CatalogueError, which names all that is wrong.
    """
    packs, problems = _packs_of(tables)
    if not problems and not any(currency in pack.prices for pack in packs.values()):
        problems = [
            f"no pack has a price in {currency}, the BILLING_CURRENCY: add one, or set "
            "BILLING_CURRENCY"
        ]
    if problems:
        raise CatalogueError("\n".join(problems))
    return packs


def price_of(amount: object, currency: str) -> str:
    """The amount with the decimals of its currency: "9.9" in USD is "9.90".

    Raises ValueError, which says what to do.
    """
    decimals = DECIMALS.get(currency)
    if decimals is None:
        written = currency.upper()
        hint = f": write {written}" if written in DECIMALS else ""
        raise ValueError(f"is not a currency of ISO 4217{hint}")
    if not isinstance(amount, str):
        kind = "true or false" if isinstance(amount, bool) else f"a {_kind(amount)}"
        raise ValueError(f'is {kind}: write the amount in quotes, e.g. "{_example(decimals)}"')
    if re.match(AMOUNT_TEXT, amount) is None:
        raise ValueError(
            f"{_shown(amount)} is not an amount: write digits, at most 12 before the point, e.g. "
            f'"{_example(decimals)}"'
        )
    if not Decimal(amount):
        raise ValueError("is zero: a pack has a price")
    if len(amount.partition(".")[2]) > decimals:
        has = f"{decimals} decimals" if decimals else "no decimals"
        raise ValueError(f'{_shown(amount)}: {currency} has {has}, e.g. "{_example(decimals)}"')
    return f"{Decimal(amount):.{decimals}f}"


def tables_of(path: Path) -> dict[str, Any]:
    """What a TOML file says. Raises CatalogueError."""
    try:
        with path.open("rb") as file:
            data = file.read(BYTES_MAX + 1)
        if len(data) > BYTES_MAX:
            raise CatalogueError(f"has more than {BYTES_MAX} bytes")
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as error:
        raise CatalogueError(f"is not UTF-8, at byte {error.start}") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise CatalogueError(f"is not TOML: {error}") from None
    except CatalogueError:
        raise
    except (OSError, ValueError) as error:
        # A number of very many digits is a ValueError of int.
        why = getattr(error, "strerror", None) or error
        raise CatalogueError(f"cannot be read: {why}") from None


def _packs_of(tables: Mapping[str, Any]) -> tuple[dict[str, Pack], list[str]]:
    packs: dict[str, Pack] = {}
    problems = [f"{_shown(key)} is not known: only packs" for key in tables if key != "packs"]
    found = tables.get("packs")
    if not isinstance(found, dict) or not found:
        return packs, [*problems, "has no packs: name one, e.g. [packs.small]"]
    if len(found) > PACKS_MAX:
        return packs, [*problems, f"has more than {PACKS_MAX} packs"]
    names: dict[str, str] = {}
    for name, values in found.items():
        first = names.setdefault(name.lower(), name)
        if first != name:
            problems.append(f"packs.{name}: is {first} in other letters: rename one")
        own = list(_pack_problems(name, values))
        problems += [f"packs.{name}{problem}" for problem in own]
        if not own:
            prices = {code: price_of(value, code) for code, value in values["price"].items()}
            packs[name] = Pack(values["credits"], prices, values.get("title", "").strip())
    return packs, problems


def _pack_problems(name: str, values: Any) -> Iterator[str]:
    if _NAME.fullmatch(name) is None:
        yield ": a name has 1 to 64 letters, digits, `.`, `_` or `-`, and begins with one of the "
        return
    if not isinstance(values, dict):
        yield f": is a {_kind(values)} and no table"
        return
    for key in values:
        if key not in _PACK_KEYS:
            yield f".{key}: is not known; there are {', '.join(_PACK_KEYS)}"
    credits = values.get("credits")
    if "credits" not in values:
        yield ".credits: is missing"
    elif type(credits) is not int or not 1 <= credits <= CREDITS_MAX:
        yield f".credits: must be a whole number from 1 to {CREDITS_MAX}"
    title = values.get("title", "")
    if "title" in values and not _is_title(title):
        yield f".title: must be a text of 1 to {TITLE_MAX} characters on one line"
    prices = values.get("price")
    if not isinstance(prices, dict) or not prices:
        yield f'.price: is missing: write [packs.{name}.price] and below it, e.g., USD = "9.99"'
        return
    for code, amount in prices.items():
        try:
            price_of(amount, code)
        except ValueError as error:
            yield f".price.{code}: {error}"


def _is_title(title: object) -> bool:
    return (
        isinstance(title, str)
        and 1 <= len(title.strip()) <= TITLE_MAX
        and _CONTROLS.search(title) is None
    )


def _kind(value: object) -> str:
    kinds = {int: "number", float: "number", str: "text", list: "list", dict: "table"}
    return kinds.get(type(value), "date or time" if not isinstance(value, bool) else "boolean")


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "...")


def _example(decimals: int) -> str:
    return f"{Decimal('9.99'):.{decimals}f}" if decimals else "1500"
