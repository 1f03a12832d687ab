"""Tables in the terminal: columns as wide as their cells, plain where they are piped."""

import io
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence

from billing_stream.plain_text import clean_line, mask_passwords

# As wide as nothing is: piped tables are cut nowhere.
_UNBOUNDED = 100_000


def table_lines(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = ()
) -> Iterator[str]:
    """A line for the heads, where there are any, and one for each row.

    `right`: heads of columns of numbers. On a terminal the last column takes the rest of its
    width. Text of others is cleaned.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNBOUNDED
    table = Table(
        box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=any(heads), header_style=""
    )
    for head in heads:
        numbers = head in right
        table.add_column(head, justify="right" if numbers else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(clean_line(mask_passwords(cell))) for cell in row))
    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False)
    with console.capture() as shown:
        console.print(table)
    yield from (line.rstrip() for line in shown.get().splitlines())
