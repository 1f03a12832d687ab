"""The story of `make demo`, on the broker of the tests."""

from pathlib import Path

import pytest

from billing_stream.demo.story import tell

pytestmark = pytest.mark.timeout(180)


async def test_story_comes_out_right_with_a_crash_in_the_middle(
    kafka: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await tell(kafka, folder)

    assert "SIGKILL" in capsys.readouterr().out
