"""Parsing of our own code, for tests that read it."""

import ast
import gc
from pathlib import Path


def parsed(path: Path) -> ast.Module:
    """The tree of a file.

    Python 3.11 fails when, in the middle of it, a collected object warns and pytest makes a
    traceback of that, which parses as well (python/cpython#106905).
    """
    gc.disable()
    try:
        return ast.parse(path.read_text())
    finally:
        gc.enable()
