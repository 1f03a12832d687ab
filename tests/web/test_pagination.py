"""Which part of a list is asked for."""

import pytest

from billing_stream.web.envelope import ApiError, Pagination, WebCode
from billing_stream.web.pagination import Page, parse_page
from tests.support.nodes import Cluster
from tests.web.conftest import M1


def test_the_first_ten_by_default() -> None:
    assert parse_page({}) == Page(1, 10)
    assert parse_page({}).skip == 0


def test_pages_follow_each_other_without_gaps() -> None:
    assert [parse_page({"page": str(n), "limit": "7"}).skip for n in (1, 2, 3)] == [0, 7, 14]


def test_the_limits_themselves_are_allowed() -> None:
    assert parse_page({"page": "1000000", "limit": "100"}) == Page(1_000_000, 100)


@pytest.mark.parametrize("name", ["page", "limit"])
@pytest.mark.parametrize(
    "text",
    [
        "0",
        "-1",
        "+1",
        "1.0",
        "1e1",
        "",
        " ",
        " 1",
        "1\n",
        "ten",
        "0x1",
        "1_0",
        "\uff11",
        "\u0663",
        "9" * 5000,
        "null",
    ],
)
def test_anything_but_a_whole_number_in_the_limits_is_refused(name: str, text: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_page({name: text})

    assert refused.value.error_code is WebCode.VALIDATION_ERROR
    assert refused.value.details == {"field": name}


@pytest.mark.parametrize(("name", "text"), [("page", "1000001"), ("limit", "101")])
def test_more_than_the_limit_is_refused(name: str, text: str) -> None:
    with pytest.raises(ApiError):
        parse_page({name: text})


@pytest.mark.parametrize(("total", "pages"), [(0, 0), (1, 1), (10, 1), (11, 2), (20, 2)])
def test_the_number_of_pages_rounds_up(total: int, pages: int) -> None:
    assert Page(1, 10).of(total) == Pagination(1, 10, total, pages)


async def test_a_bad_page_is_422_and_names_the_parameter(two: Cluster) -> None:
    await two.create(M1, "one.example")

    for node in two.nodes:
        reply = await node.get("/api/billing/purchases?page=2&limit=-5", "one.example")

        assert (reply.status, reply.code) == (422, "VALIDATION_ERROR")
        assert reply.body["error"]["details"] == {"field": "limit"}
