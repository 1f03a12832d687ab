"""`python -m chaos late`: one late request of each kind, in each of three later transactions.

A cell is a kind of request and a moment. Each of its tries holds back one request of a worker and
delivers it later, while webhooks of payments are processed. Then every payment must have completed
its purchase and have one event, and in the end the verifier must agree.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from chaos.late_report import Cell, Row, as_json, cells, code_of, table
from chaos.late_scene import Cluster, Scene, cluster

# So many tries more than wanted, for those in which the fault did not take place.
INVALID_MAX = 3


async def try_cell(
    on: Cluster, cell: Cell, tries: int, say: Callable[[str], object] = print
) -> Row:
    """That many valid tries of a cell, on one log as long as its worker recovers."""
    row = Row(cell)
    scene: Scene | None = None
    try:
        while row.valid < tries and row.invalid <= INVALID_MAX:
            if scene is None:
                scene = Scene(on)
                await scene.start()
            found = await scene.attempt(cell)
            row.tries.append(found)
            say(found.line)
            if not found.recovered:
                done, scene = scene, None
                await _finish(done, row)
    finally:
        if scene is not None:
            await _finish(scene, row)
    return row


async def _finish(scene: Scene, row: Row) -> None:
    try:
        await scene.verify()
        row.problems += scene.stage.problems
    finally:
        await scene.close()


def chosen(names: Sequence[str]) -> list[Cell]:
    """The cells whose names begin with any of these, or all."""
    return [
        cell
        for cell in cells()
        if not names or any(cell.name.startswith(name.replace(":", " ")) for name in names)
    ]


async def run(arguments: argparse.Namespace, folder: Path) -> int:
    """All cells, on a cluster of each version; the exit code."""
    wanted = [cell for cell in chosen(arguments.only) if cell.version in arguments.versions]
    rows: list[Row] = []
    for version in sorted({cell.version for cell in wanted}):
        with cluster(folder, arguments.brokers, version) as on:
            for cell in wanted:
                if cell.version == version:
                    rows.append(await try_cell(on, cell, arguments.tries, _say))
    print("\n".join(["", *table(rows, arguments.tries)]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(as_json(rows), indent=2))
    return code_of(rows, arguments.tries)


def _say(line: str) -> None:
    print(line, flush=True)
