"""How the rows of each table come back from its changelog."""

from collections.abc import Callable
from typing import TypeVar

from billing_stream import topics
from billing_stream.engine.processor import ChangelogRows
from tables import codecs
from tables.committed import CommittedRows

Row = TypeVar("Row")
Restorer = Callable[[ChangelogRows], None]


def restorers(into: CommittedRows) -> dict[str, Restorer]:
    """Of each table by its name: puts what was read of its changelog into these rows."""

    def answers(read: ChangelogRows) -> None:
        for key, value in read:
            if value is None:
                into.drop_answer(*codecs.split_answer_key(key.decode()))
            else:
                into.put_answer(codecs.answer.decode(value))

    def shops(read: ChangelogRows) -> None:
        for key, value in read:
            into.put_shop(key.decode(), None if value is None else value.decode())

    return {
        topics.BILLING_RECORDS: _never_deleted(into.put_merchant, codecs.merchant.decode),
        topics.CREDIT_PURCHASES: _never_deleted(into.put_purchase, codecs.purchase.decode),
        topics.CREDIT_ADJUSTMENTS: _never_deleted(into.put_adjustment, codecs.adjustment.decode),
        topics.IDEMPOTENCY_KEYS: answers,
        topics.SHOPS_TABLE: shops,
    }


def _never_deleted(put: Callable[[Row], None], decode: Callable[[bytes], Row]) -> Restorer:
    def restore(read: ChangelogRows) -> None:
        for _, value in read:
            if value is not None:
                put(decode(value))

    return restore
