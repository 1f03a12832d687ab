"""Links of the site that lead to files of the repository become text."""

import re
from typing import Any

# To files of the repository that are not documents.
OUTSIDE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+(?!operators|[\w-]+\.md)[^)]*\)")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for each page."""
    return OUTSIDE.sub(r"\1", markdown)
