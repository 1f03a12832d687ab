"""Which part of a list is asked for."""

import pytest

from billing_stream.web.envelope import ApiError, Pagination, WebCode
from billing_stream.web.pagination import Page, cursor_after, parse_page
from tests.support.nodes import Cluster
from tests.web.conftest import M1, M2


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
    (wrong,) = refused.value.details
    assert (wrong.field, wrong.rule) == (name, "range")
    assert name in wrong.message


@pytest.mark.parametrize(("name", "text"), [("page", "1000001"), ("limit", "101")])
def test_more_than_the_limit_is_refused(name: str, text: str) -> None:
    with pytest.raises(ApiError):
        parse_page({name: text})


@pytest.mark.parametrize(("total", "pages"), [(0, 0), (1, 1), (10, 1), (11, 2), (20, 2)])
def test_the_number_of_pages_rounds_up(total: int, pages: int) -> None:
    assert Page(1, 10).of(total) == Pagination(1, 10, total, pages)


def test_a_cursor_with_a_page_number_is_refused() -> None:
    with pytest.raises(ApiError) as refused:
        parse_page({"page": "2", "cursor": cursor_after("purchases", M1)})

    (wrong,) = refused.value.details
    assert (wrong.field, wrong.rule) == ("cursor", "conflict")


@pytest.mark.parametrize("reader", [0, 1])
@pytest.mark.parametrize("limit", [1, 5, 7, 12])
async def test_a_cursor_gives_each_purchase_once_while_more_are_opened(
    two: Cluster, reader: int, limit: int
) -> None:
    await two.create(M1, "one.example")
    newest_first = [await two.buy(M1, number) for number in range(12)][::-1]
    path = f"/api/billing/purchases?limit={limit}"

    read: list[str] = []
    pages: list[dict[str, int]] = []
    cursor: str | None = ""
    while cursor is not None:
        reply = await two.nodes[reader].get(path + cursor, "one.example")
        read += [purchase["id"] for purchase in reply.data]
        await two.buy(M1, 100 + len(read))
        following = reply.body["pagination"]["next_cursor"]
        cursor = None if following is None else f"&cursor={following}"
        pages.append(reply.body["pagination"])

    assert read == newest_first
    assert [page["total"] for page in pages] == [12 + n for n in range(len(pages))]
    assert all(1 <= page["page"] <= page["total_pages"] for page in pages)


WRONG = [
    *("", "x", "=", "a b", "%00", "%ff", "A" * 129, "\u00e9", "../../etc", "null", "1"),
    M1,
    cursor_after("purchases", "x"),
    cursor_after("purchases", M1),
    cursor_after("purchases", M1.upper()),
    cursor_after("history", 7),
]


@pytest.mark.parametrize("cursor", WRONG)
async def test_a_wrong_cursor_of_purchases_is_422_and_named(two: Cluster, cursor: str) -> None:
    await two.create(M1, "one.example")
    await two.create(M2, "two.example")
    theirs = await two.buy(M2, 1)

    for node in two.nodes:
        for text in (cursor, cursor_after("purchases", theirs)):
            reply = await node.get(f"/api/billing/purchases?cursor={text}", "one.example")

            assert (reply.status, reply.code) == (422, "VALIDATION_ERROR")
            (wrong,) = reply.body["error"]["details"]
            assert (wrong["field"], wrong["rule"]) == ("cursor", "format")


async def test_a_bad_page_is_422_and_names_the_parameter(two: Cluster) -> None:
    await two.create(M1, "one.example")

    for node in two.nodes:
        reply = await node.get("/api/billing/purchases?page=2&limit=-5", "one.example")

        assert (reply.status, reply.code) == (422, "VALIDATION_ERROR")
        message = "`limit` must be a whole number from 1 to 100"
        assert reply.body["error"]["message"] == message
        assert reply.body["error"]["details"] == [
            {"field": "limit", "rule": "range", "message": message}
        ]
