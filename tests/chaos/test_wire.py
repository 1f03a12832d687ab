"""The two requests of our own: numbers as Kafka's flexible versions write them."""

import pytest

from chaos.wire import Reader, compact, varint


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 1 << 31])
def test_a_varint_is_read_as_it_was_written(value: int) -> None:
    assert Reader(varint(value)).varint() == value


def test_texts_counts_and_tags_are_read() -> None:
    reader = Reader(
        compact("topic") + b"\x00" + varint(3) + b"\x01\x05\x02ab" + b"\x00\x00\x00\x07"
    )

    assert (reader.text(), reader.text(), reader.count()) == ("topic", "", 2)
    reader.tags()
    assert reader.number("i") == 7
