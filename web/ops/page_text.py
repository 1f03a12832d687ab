"""Numbers, times and lines as people read them. Times are UTC."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from msgspec import Struct

from billing_stream.domain.currencies import DECIMALS

DASH = "\u2013"
MINUS = "\u2212"
WIDTH, HEIGHT = 240, 48


def number(value: int | None) -> str:
    """
    >>> number(1234567), number(None)
    ('1,234,567', '\u2013')
    """
    return DASH if value is None else f"{value:,}"


def counted(value: int, one: str) -> str:
    """
    >>> counted(1, "purchase"), counted(1200, "purchase")
    ('1 purchase', '1,200 purchases')
    """
    return f"{value:,} {one}{'' if value == 1 else 's'}"


def rate(value: float) -> str:
    """A rate per second, without its unit.

    >>> rate(0), rate(0.25), rate(1234.5)
    ('0', '0.2', '1,234')
    """
    return "0" if value < 0.05 else f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def duration(seconds: float | None) -> str:
    """
    >>> duration(0.0042), duration(0.25), duration(3), duration(90), duration(90000)
    ('4.2 ms', '250 ms', '3.0 s', '2 min', '25 h')
    """
    if seconds is None:
        return DASH
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    for limit, size, digits, unit in ((10, 1, 1, "s"), (90, 1, 0, "s"), (5400, 60, 0, "min")):
        if seconds < limit:
            return f"{seconds / size:.{digits}f} {unit}"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.0f} h"
    return f"{seconds / 86400:.0f} days"


def ago(seconds: float | None) -> str:
    """
    >>> ago(0.3), ago(2.7), ago(300), ago(None)
    ('just now', '2 s ago', '5 min ago', 'none yet')
    """
    if seconds is None:
        return "none yet"
    if seconds < 1:
        return "just now"
    return f"{int(seconds)} s ago" if seconds < 90 else f"{duration(seconds)} ago"


def moment(at: datetime | None) -> str:
    """
    >>> moment(datetime(2026, 1, 2, 3, 4, 5))
    '2026-01-02 03:04:05'
    """
    return DASH if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def money(amount: str | Decimal, currency: str = "") -> str:
    """
    >>> money("1234.5"), money(Decimal("-3")), money("1500", "JPY")
    ('1,234.50', '\u22123.00', '1,500')
    """
    decimals = DECIMALS.get(currency, 2)
    return f"{Decimal(amount):,.{decimals}f}".replace("-", MINUS)


def sums(amounts: Mapping[str, str], currency: str) -> str:
    """Amounts of several currencies; of none, nothing in `currency`.

    >>> sums({"JPY": "1500", "USD": "9.9"}, "USD"), sums({}, "KWD")
    ('1,500 JPY, 9.90 USD', '0.000 KWD')
    """
    found = amounts or {currency: "0"}
    return ", ".join(f"{money(amount, code)} {code}".strip() for code, amount in found.items())


def signed(credits: int) -> str:
    """
    >>> signed(100), signed(-20), signed(0)
    ('+100', '\u221220', '0')
    """
    return "0" if not credits else f"{credits:+,}".replace("-", MINUS)


def event(kind: str) -> str:
    """An event's type in words.

    >>> event("evt.billing.credits.purchased.v1")
    'credits purchased'
    """
    return kind.removeprefix("evt.billing.").removesuffix(".v1").replace(".", " ")


class Line(Struct, frozen=True):
    """A line over the last hour as points of an SVG; `highest` is at its top.

    `runs` are its parts without gaps, each as the points of a line and of the area below it.
    """

    runs: list[tuple[str, str]]
    highest: float


def line(values: Sequence[float | None], highest: float | None = None) -> Line:
    """The values from left to right, evenly; None is a gap.

    >>> line([0, None, 1]).runs
    [('0,47 4,47', '0,48 0,47 4,47 4,48'), ('236,1 240,1', '236,48 236,1 240,1 240,48')]
    """
    known = [value for value in values if value is not None]
    top = highest if highest is not None else max(known, default=0.0)
    step = WIDTH / max(1, len(values) - 1)
    runs: list[list[tuple[float, float]]] = [[]]
    for at, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            y = HEIGHT - 1 - (HEIGHT - 2) * (value / top if top else 0)
            runs[-1].append((at * step, y))
    return Line([_run(run) for run in runs if run], top)


def _run(points: list[tuple[float, float]]) -> tuple[str, str]:
    if len(points) == 1:
        # A point alone would not be seen.
        x, y = points[0]
        points = [(x, y), (x + 4, y)] if x < WIDTH else [(x - 4, y), (x, y)]
    text = " ".join(f"{x:.4g},{y:.4g}" for x, y in points)
    first, last = f"{points[0][0]:.4g},{HEIGHT}", f"{points[-1][0]:.4g},{HEIGHT}"
    return text, f"{first} {text} {last}"
