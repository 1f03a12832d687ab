"""One row of the old service after the other: repaired by a rule, rejected, or taken as it is."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing_stream.domain.commands import ImportMerchant
from billing_stream.domain.policy import Policy
from billing_stream.migration.findings import REJECTS, REPAIRS, Findings
from billing_stream.migration.mapping import Mapper
from billing_stream.migration.old_database import Group, Row

M = "0b1f6a5e-6c3d-4c58-9b77-2f6f4f0f6f11"
P, Q = "5f0c8a52-0f0e-4d0e-8d0c-3a1d1f2b4c5d", "5f0c8a52-0f0e-4d0e-8d0c-3a1d1f2b4c5e"
MADE = datetime(2024, 5, 1, 10, tzinfo=UTC)
DAY = timedelta(days=1)


def record(**columns: Any) -> Row:
    """A record without a fault."""
    return {
        "key": M,
        "merchant_id": M,
        "trial_available": "true",
        "trial_started_at": None,
        "trial_ends_at": None,
        "total_credits_purchased": "100",
        "last_purchase_at": "2024-05-01 10:01:30.125",
        "created_at": "2024-04-01 00:00:00",
        "updated_at": "2024-05-02 00:00:00",
        **columns,
    }


def purchase(**columns: Any) -> Row:
    """A paid purchase without a fault."""
    return {
        "key": M,
        "id": P,
        "merchant_id": M,
        "credits": "100",
        "amount": "9.99",
        "status": "COMPLETED",
        "platform": "shopify",
        "platform_charge_id": "gid://charge/1",
        "created_at": "2024-05-01 10:00:00",
        "completed_at": "2024-05-01 10:01:30.125",
        "expires_at": "2024-05-02 10:00:00",
        **columns,
    }


def mapped(
    *purchases: Row, records: list[Row] | None = None, key: str = M
) -> tuple[ImportMerchant | None, Findings]:
    findings = Findings()
    mapper = Mapper(
        Policy(), findings, shops={M: ("shopify", "a.io")}, duplicate_purchase_ids=frozenset({Q})
    )
    group = Group(key, [record()] if records is None else records, list(purchases))
    return mapper.command(group), findings


def test_rows_without_a_fault_are_taken_as_they_are() -> None:
    command, findings = mapped(purchase())

    assert command is not None
    assert command.created_at == datetime(2024, 4, 1, tzinfo=UTC)
    assert command.last_purchase_at == MADE + timedelta(seconds=90.125)
    assert (command.platform, command.domain) == ("shopify", "a.io")
    (bought,) = command.purchases
    assert (bought.id, bought.credits, bought.amount, bought.status) == (
        P,
        100,
        "9.99",
        "completed",
    )
    assert (bought.created_at, bought.expires_at) == (MADE, MADE + DAY)
    assert not findings.repairs
    assert not findings.rejects
    assert not findings.totals_differ


@pytest.mark.parametrize(
    ("columns", "rule", "field", "value"),
    [
        ({"status": "completed "}, "status-spelling", "status", "completed"),
        ({"status": "completed"}, None, "status", "completed"),
        ({"platform": "STRIPE "}, "platform-spelling", "platform", "stripe"),
        ({"platform": "PayPal"}, "platform-unknown", "platform", "custom"),
        ({"platform": None}, "platform-unknown", "platform", "custom"),
        ({"platform_charge_id": " c\n"}, "charge-spelling", "platform_charge_id", "c"),
        ({"platform_charge_id": " "}, "charge-spelling", "platform_charge_id", None),
        ({"platform_charge_id": "a\0b"}, "charge-unusable", "platform_charge_id", None),
        ({"platform_charge_id": "x" * 256}, "charge-unusable", "platform_charge_id", None),
        ({"amount": "9.9900000000000002"}, "amount-rounded", "amount", "9.99"),
        ({"amount": "1e1"}, "amount-rounded", "amount", "10.00"),
        ({"amount": None}, "amount-missing", "amount", "9.99"),
        ({"created_at": None}, "purchase-without-time", "created_at", MADE + 90.125 * DAY / 86400),
        ({"created_at": "infinity"}, "time-unreadable", "expires_at", MADE + DAY),
        ({"created_at": "0044-03-15 12:00:00 BC"}, "time-unreadable", "expires_at", MADE + DAY),
        ({"expires_at": None}, "purchase-without-expiry", "expires_at", MADE + DAY),
        ({"completed_at": None}, "payment-without-time", "completed_at", MADE),
        ({"created_at": "2024-05-01 12:00:00+02"}, None, "created_at", MADE),
        ({"credits": "100.00"}, None, "credits", 100),
        ({"id": P.upper()}, None, "id", P),
    ],
)
def test_a_purchase_is_repaired_by_a_rule_with_a_name(
    columns: dict[str, Any], rule: str | None, field: str, value: Any
) -> None:
    command, findings = mapped(purchase(**columns))

    assert command is not None
    assert getattr(command.purchases[0], field) == value
    assert (rule in findings.repairs) if rule else not findings.repairs
    assert not findings.rejects


@pytest.mark.parametrize(
    ("columns", "reason", "paid_credits"),
    [
        ({"id": None}, "purchase-no-uuid", 100),
        ({"id": "42"}, "purchase-no-uuid", 100),
        ({"id": "42", "status": "PENDING"}, "purchase-no-uuid", 0),
        ({"credits": None}, "credits-unusable", 0),
        ({"credits": "0"}, "credits-unusable", 0),
        ({"credits": "-5"}, "credits-unusable", 0),
        ({"credits": "99.5"}, "credits-unusable", 0),
        ({"credits": "1" * 5000}, "credits-unusable", 0),
        ({"amount": "0.00"}, "amount-unusable", 100),
        ({"amount": "-9.99"}, "amount-unusable", 100),
        ({"amount": "NaN"}, "amount-unusable", 100),
        ({"amount": "9,99"}, "amount-unusable", 100),
        ({"amount": None, "credits": "77"}, "amount-unusable", 77),
        ({"status": None}, "status-unknown", 0),
        ({"status": "REFUNDED"}, "status-unknown", 0),
    ],
)
def test_unusable_purchase_is_rejected_and_its_credits_are_counted(
    columns: dict[str, Any], reason: str, paid_credits: int
) -> None:
    command, findings = mapped(purchase(**columns))

    assert command is not None
    assert command.purchases == ()
    assert findings.rejects == {reason: 1}
    assert findings.rejected_credits == paid_credits
    assert findings.totals_differ == 1


def test_the_paid_one_of_two_purchases_keeps_the_charge() -> None:
    other = purchase(id=Q.replace("e", "f"), status="PENDING", created_at="2024-01-01 00:00:00")

    command, findings = mapped(other, purchase())

    assert command is not None
    charges = {old.status: old.platform_charge_id for old in command.purchases}
    assert charges == {"pending": None, "completed": "gid://charge/1"}
    assert findings.repairs["charge-twice"] == 1
    assert findings.repairs["payment-time-unpaid"] == 1


def test_of_two_rows_with_one_id_the_first_counts() -> None:
    first = purchase(id=Q)

    same, found = mapped(first, dict(first))
    other, differing = mapped(first, purchase(id=Q, credits="500"))

    assert same is not None
    assert other is not None
    assert [old.credits for old in (*same.purchases, *other.purchases)] == [100, 100]
    assert (found.repairs["purchase-twice"], differing.rejects["purchase-of-two"]) == (1, 1)


STARTED, ENDS = "2024-04-02 00:00:00", "2024-04-16 00:00:00"
AT = (datetime(2024, 4, 2, tzinfo=UTC), datetime(2024, 4, 16, tzinfo=UTC))


@pytest.mark.parametrize(
    ("flag", "started", "ends", "rule", "expected"),
    [
        ("false", STARTED, ENDS, None, (False, *AT)),
        ("true", None, None, None, (True, None, None)),
        ("true", STARTED, ENDS, "trial-dates-without-flag", (False, *AT)),
        ("false", None, None, "trial-flag-without-dates", (False, None, None)),
        ("false", STARTED, None, "trial-without-end", (False, *AT)),
        ("false", None, ENDS, "trial-without-start", (False, *AT)),
        ("false", STARTED, "2024-04-01 00:00:00", "trial-ends-before-start", (False, *AT)),
        (None, None, None, "trial-flag-missing", (True, None, None)),
        (None, STARTED, ENDS, "trial-flag-missing", (False, *AT)),
        ("maybe", None, None, "trial-flag-missing", (True, None, None)),
        ("false", "-infinity", ENDS, "time-unreadable", (False, *AT)),
    ],
)
def test_a_trial_is_used_when_anything_says_so(
    flag: str | None, started: str | None, ends: str | None, rule: str | None, expected: Any
) -> None:
    columns = {"trial_available": flag, "trial_started_at": started, "trial_ends_at": ends}

    command, findings = mapped(purchase(), records=[record(**columns)])

    assert command is not None
    trial = (command.trial_available, command.trial_started_at, command.trial_ends_at)
    assert trial == expected
    assert (rule in findings.repairs) if rule else not findings.repairs


def test_a_merchant_without_a_record_begins_with_its_first_purchase() -> None:
    command, findings = mapped(purchase(), records=[])

    assert command is not None
    assert command.created_at == MADE
    assert command.trial_available
    assert findings.repairs == {"record-missing": 1}


def test_two_records_of_a_merchant_become_one() -> None:
    second = record(created_at="2023-01-01 00:00:00", trial_available="false")

    command, findings = mapped(purchase(), records=[record(), second])

    assert command is not None
    assert command.created_at == datetime(2023, 1, 1, tzinfo=UTC)
    assert not command.trial_available
    assert findings.repairs["record-twice"] == 1


def test_a_merchant_without_any_time_or_id_is_rejected_with_its_purchases() -> None:
    empty = dict.fromkeys(("created_at", "updated_at", "last_purchase_at"))
    timeless = purchase(created_at=None, completed_at=None, expires_at=None)

    nothing, no_time = mapped(timeless, records=[record(**empty)])
    nobody, no_id = mapped(purchase(), key="shop 7")

    assert (nothing, nobody) == (None, None)
    assert no_time.rejects == {"record-no-time": 1, "purchase-no-time": 1}
    assert no_id.rejects == {"merchant-no-uuid": 2}
    assert no_id.rejected_credits == 100


def test_the_last_payment_is_not_before_the_payments() -> None:
    command, findings = mapped(purchase(), records=[record(last_purchase_at=None)])

    assert command is not None
    assert command.last_purchase_at == command.purchases[0].completed_at
    assert findings.repairs == {"last-purchase-behind": 1}


def test_a_total_that_is_not_that_of_the_payments_is_told_and_not_taken() -> None:
    command, findings = mapped(purchase(), records=[record(total_credits_purchased="350")])

    assert command is not None
    assert (findings.totals_differ, findings.totals_difference) == (1, 250)
    assert not findings.repairs


def test_every_rule_has_words_and_no_other_can_be_noted() -> None:
    findings = Findings()

    with pytest.raises(KeyError):
        findings.repaired("no-such-rule", "")
    with pytest.raises(KeyError):
        findings.rejected("credit_purchases", "no-such-reason", {})
    assert not set(REPAIRS) & set(REJECTS)
