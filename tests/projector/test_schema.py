"""Migrations, and what the old service's reports find."""

import asyncio

import pytest

from billing_stream.projector.migrate import migrate
from billing_stream.projector.projector_errors import ProjectionError
from tests.support.projection import execute, fetch

OLD_COLUMNS = {
    "billing_records": {
        "merchant_id": "uuid",
        "trial_available": "boolean",
        "trial_started_at": "timestamp with time zone",
        "trial_ends_at": "timestamp with time zone",
        "total_credits_purchased": "bigint",
        "last_purchase_at": "timestamp with time zone",
        "created_at": "timestamp with time zone",
        "updated_at": "timestamp with time zone",
    },
    "credit_purchases": {
        "id": "uuid",
        "merchant_id": "uuid",
        "credits": "bigint",
        "amount": "numeric",
        "status": "text",
        "platform": "text",
        "platform_charge_id": "text",
        "created_at": "timestamp with time zone",
        "completed_at": "timestamp with time zone",
        "expires_at": "timestamp with time zone",
    },
}


@pytest.mark.parametrize("table", OLD_COLUMNS)
async def test_the_old_columns_are_there_first_and_with_their_types(
    postgres_url: str, table: str
) -> None:
    await migrate(postgres_url)

    found = await fetch(
        postgres_url,
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_name = $1 ORDER BY ordinal_position",
        table,
    )

    columns = [(row["column_name"], row["data_type"]) for row in found]
    assert columns[: len(OLD_COLUMNS[table])] == list(OLD_COLUMNS[table].items())


async def test_the_old_indexes_are_there(postgres_url: str) -> None:
    await migrate(postgres_url)

    found = await fetch(
        postgres_url,
        "SELECT tablename || ' ' || indexdef AS text FROM pg_indexes WHERE schemaname = 'public'",
    )

    texts = [row["text"] for row in found]
    for table, unique, first in [
        ("billing_records", True, "(merchant_id"),
        ("credit_purchases", True, "(id"),
        ("credit_purchases", False, "(merchant_id"),
        ("credit_purchases", False, "(status"),
        ("credit_purchases", True, "(platform_charge_id"),
        ("billing_events", False, "(merchant_id, sequence"),
    ]:
        assert any(
            text.startswith(table) and ("UNIQUE" in text) is unique and first in text
            for text in texts
        ), (table, first)


async def test_a_second_migration_has_nothing_to_do(postgres_url: str) -> None:
    first = await migrate(postgres_url)
    second = await migrate(postgres_url)

    assert first
    assert second == []


async def test_processes_that_start_at_once_migrate_one_after_the_other(postgres_url: str) -> None:
    done = await asyncio.gather(*(migrate(postgres_url) for _ in range(4)))

    assert sorted(map(bool, done)) == [False, False, False, True]


async def test_schemas_are_apart(postgres_url: str) -> None:
    await migrate(postgres_url)
    await migrate(postgres_url, "reports")

    found = await fetch(
        postgres_url, "SELECT schemaname FROM pg_tables WHERE tablename = 'billing_records'"
    )

    assert {row["schemaname"] for row in found} == {"public", "reports"}


async def test_tables_of_another_program_are_not_touched(postgres_url: str) -> None:
    await execute(postgres_url, "CREATE TABLE billing_records (merchant_id uuid, theirs text)")

    with pytest.raises(ProjectionError, match="that the projector did not make"):
        await migrate(postgres_url)

    left = await fetch(postgres_url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert [row["tablename"] for row in left] == ["billing_records"]


async def test_a_schema_of_a_newer_program_is_refused(postgres_url: str) -> None:
    await migrate(postgres_url)
    await execute(postgres_url, "UPDATE projection_migrations SET version_num = '9999'")

    with pytest.raises(ProjectionError, match="another version than this program"):
        await migrate(postgres_url)
