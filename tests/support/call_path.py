"""Which files of the product run code for one record or request: what its reader has to read."""

import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("billing_stream", "web", "agents", "tables")
MODULE = "<module>"


@dataclass
class CallPath:
    """The functions that ran, by their file (relative to the repository, links resolved)."""

    functions: dict[str, set[str]] = field(default_factory=dict)

    def lines(self, without: Collection[str] = ()) -> dict[str, int]:
        """The physical lines of each file; those in the folders `without` are left out."""
        return {
            file: len((ROOT / file).read_text().splitlines())
            for file in sorted(self.functions)
            if not any(file.startswith(f"{folder}/") for folder in without)
        }


@cache
def _product_file(code_file: str) -> str | None:
    """The file in the repository, or None where it is not the product's."""
    if code_file.startswith("<"):
        return None
    found = Path(code_file).resolve()
    if not found.is_relative_to(ROOT):
        return None
    name = found.relative_to(ROOT)
    return str(name) if name.parts[0] in PRODUCT else None


@contextmanager
def call_path() -> Iterator[CallPath]:
    """Note each function of the product that is called inside, in this thread and in new ones.

    What runs because a module is imported is no call of a path.
    """
    found = CallPath()
    imports = threading.local()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if code.co_name == MODULE and event in ("call", "return"):
            imports.depth = getattr(imports, "depth", 0) + (1 if event == "call" else -1)
        elif event == "call" and not getattr(imports, "depth", 0):
            file = _product_file(code.co_filename)
            if file is not None:
                found.functions.setdefault(file, set()).add(code.co_qualname)

    before = sys.getprofile()
    sys.setprofile(note)
    threading.setprofile(note)
    try:
        yield found
    finally:
        threading.setprofile(None)
        sys.setprofile(before)
