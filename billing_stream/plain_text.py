"""Text from outside, made fit to be shown: nothing in it moves a cursor, hides, or is a password.

Terminals, logs, pages and error messages all take it from here.
"""

import re
from urllib.parse import parse_qsl, unquote, urlsplit

MASK = "********"

_KEPT = "\n\t"
_PASSWORD_NAME = (
    r"(?<![\w-])(?=[\w-]{0,64}?(?:passw(?:or)?d|passphrase|pwd|secret|token|api_?key))[\w-]{1,96}"
)
# Each begins where a word does and is bounded: text from outside may be long, and made to be slow.
_PASSWORDS = (
    # The user and password of an address, up to the last @: a password may have anything in it.
    (re.compile(r"(?<=://)[^\s'\"<>]{0,1024}(?=@)"), MASK),
    # The same without a scheme, as proxies are often given. Not an origin: `operator:olga@host`.
    (
        re.compile(
            r"(?<![^\s'\"=(,])(?!operator:)[^\s'\"<>:@/=(,]{1,256}:[^\s'\"<>/]{1,256}(?=@[a-zA-Z\[])"
        ),
        MASK,
    ),
    # Of a query, of a connection string, of an assignment.
    (
        re.compile(rf"({_PASSWORD_NAME}\s?=\s?)(?:'[^']*'|\"[^\"]*\"|[^\s&;,'\"]+)", re.IGNORECASE),
        rf"\g<1>{MASK}",
    ),
)


def clean_line(text: str) -> str:
    """Text of others in one line: what cannot be printed is shown as an escape.

    Control characters (of both sets), line ends, overrides of the direction of text and characters
    without a width among them.

    >>> print(clean_line("a" + chr(27) + "[2J" + chr(0x202E) + "b"))
    a\\x1b[2J\\u202eb
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def clean_text(text: str) -> str:
    """The same for text of several lines, which stay lines."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in _KEPT else c.encode("unicode_escape").decode() for c in text
    )


def mask_passwords(text: str) -> str:
    """Text without passwords: those in addresses, and values of names such as `token`.

    >>> mask_passwords("no answer from postgresql://me:p@ss/w@db:5432/x?sslpassword=y&a=b")
    'no answer from postgresql://********@db:5432/x?sslpassword=********&a=b'
    """
    if "@" not in text and "=" not in text:
        return text
    for pattern, instead in _PASSWORDS:
        text = pattern.sub(instead, text)
    return text


def shown(text: str) -> str:
    """Text as a page or an answer may show it: one clean line without passwords."""
    return clean_line(mask_passwords(text))


def passwords_in(address: str) -> list[str]:
    """The passwords in an address, as they are written and as they are sent."""
    try:
        parts = urlsplit(address)
        in_query = [value for name, value in parse_qsl(parts.query) if "password" in name.lower()]
        found = [parts.password or "", *in_query]
    except ValueError:
        return []
    return [text for one in found if one for text in (one, unquote(one))]
