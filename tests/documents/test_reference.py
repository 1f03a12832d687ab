"""The pages that are made from the program are those of this program."""

import pytest

from shipping.reference import DOCS, pages

REMEDY = "run `billing-stream describe`, then `python -m shipping.reference`"


@pytest.mark.parametrize("page", ["commands.md", "http-api.md"])
def test_page_in_the_repository_is_of_this_code(page: str) -> None:
    assert (DOCS / page).read_text() == pages()[page], f"docs/{page} is stale: {REMEDY}"
