"""Whoever follows the tutorial, command by command, sees what it shows."""

import pytest

from tests.documents.tutorial import PAGE, blocks, lasting, reader

pytestmark = pytest.mark.full

# The service goes through all of it as one story: half-way there is nothing to look at.
BLOCKS = blocks(PAGE.read_text())


@pytest.mark.timeout(300)
def test_every_command_prints_what_the_page_shows() -> None:
    with reader() as shell:
        for block in BLOCKS:
            code, output = shell.run_block(block)
            assert code == 0, f"{block.commands}{output}"
            if block.shown is not None:
                assert lasting(output) == lasting(block.shown), block.commands


def test_no_command_is_left_out() -> None:
    # What is shown as a command in any other way would not be run.
    page = PAGE.read_text()
    assert page.count("```") == sum(4 if block.shown is not None else 2 for block in BLOCKS)
    assert all(block.shown != "" for block in BLOCKS)
