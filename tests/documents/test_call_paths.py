"""CONTRIBUTING names the functions that a record, a request and a timer go through."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.parsed import parsed

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
# What is woken runs already, and is not called; a handler is called as the one that was declared.
STEP = re.compile(r"(wakes |handler )?`([\w/]+\.py):([\w.]+)`")
PATHS = {
    line.split("**")[1]: STEP.findall(line)
    for line in PAGE.replace("\n  ", " ").splitlines()
    if line.startswith("- **") and STEP.search(line)
}


def source_of(path: str, function: str) -> str:
    """The text of a function, or of a method as `Class.method`."""
    text = (ROOT / path).read_text()
    found: ast.AST = parsed(ROOT / path)
    for name in function.split("."):
        named = [node for node in ast.iter_child_nodes(found) if getattr(node, "name", "") == name]
        assert named, f"{path} has no {function}"
        found = named[0]
    segment = ast.get_source_segment(text, found)
    assert segment is not None
    return segment


@pytest.mark.parametrize("path", PATHS)
def test_each_step_of_a_call_path_is_called_by_an_earlier_one(path: str) -> None:
    earlier = ""
    for number, (indirect, file, function) in enumerate(PATHS[path]):
        name = function.rpartition(".")[2]
        called = not number or indirect or re.search(rf"\b{name}\b", earlier)
        assert called, f"who calls {file}:{function}?"
        earlier += source_of(file, function)


def test_page_has_the_three_call_paths() -> None:
    assert set(PATHS) == {"A webhook record", "POST /api/billing/purchases", "A trial that expires"}
