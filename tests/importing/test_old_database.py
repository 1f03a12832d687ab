"""A real PostgreSQL: what is read of it, and what is refused."""

import asyncpg
import pytest

from billing_stream.migration.migration_errors import ImportFailed
from billing_stream.migration.old_database import Group, reading
from billing_stream.projector.migrate import migrate
from tests.importing.old_service import FOLDER, fill

SCHEMA = (FOLDER / "old_schema.sql").read_text()


async def execute(url: str, *statements: str) -> None:
    """Run SQL in the old database."""
    connection = await asyncpg.connect(url, timeout=20)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def groups(url: str) -> list[Group]:
    async with reading(url) as old:
        return [group async for group in old.groups()]


async def test_rows_come_merchant_by_merchant_in_the_order_of_the_ids(postgres_url: str) -> None:
    filled = await fill(postgres_url, 300, faults=False)

    found = await groups(postgres_url)

    keys = [group.key for group in found]
    assert None not in keys
    assert keys == sorted(key for key in keys if key is not None)
    assert len(found) == filled.merchants == sum(len(group.records) for group in found)
    assert sum(len(group.purchases) for group in found) == filled.purchases
    for group in found:
        assert {row["merchant_id"] for row in (*group.records, *group.purchases)} == {group.key}
        times = [row["created_at"] for row in group.purchases]
        assert times == sorted(times)


async def test_rows_without_a_merchant_and_of_any_spelling_are_kept_together(
    postgres_url: str,
) -> None:
    merchant = "0b1f6a5e-6c3d-4c58-9b77-2f6f4f0f6f11"
    text = SCHEMA.replace('"merchant_id" UUID NOT NULL', '"merchant_id" TEXT')
    insert = "INSERT INTO billing_records (id, merchant_id, updated_at) VALUES "
    await execute(
        postgres_url,
        text,
        f"{insert} ('1', '{merchant}', now()), ('2', ' {merchant.upper()}', now())",
        f"{insert} ('3', NULL, now()), ('4', NULL, now()), ('5', 'Shop 7', now())",
    )

    found = [(group.key, len(group.records)) for group in await groups(postgres_url)]

    assert found == [(merchant, 2), ("shop 7", 1), (None, 2)]


async def test_times_are_read_as_utc_in_any_type_and_server_time_zone(
    postgres_url: str,
) -> None:
    zoned = SCHEMA.replace('"trial_ends_at" TIMESTAMP(3)', '"trial_ends_at" TIMESTAMPTZ(3)')
    database = postgres_url.rpartition("/")[2]
    await execute(
        postgres_url,
        zoned,
        f"ALTER DATABASE {database} SET TIME ZONE 'Asia/Tokyo'",
        f"ALTER DATABASE {database} SET datestyle = 'German'",
        "INSERT INTO billing_records (id, merchant_id, created_at, trial_ends_at, updated_at) "
        "VALUES ('1', gen_random_uuid(), '2024-05-01 10:00:00.123', "
        "'2024-05-01 10:00:00+02', now())",
    )

    (group,) = await groups(postgres_url)
    async with reading(postgres_url) as old:
        naive = await old.naive_columns()

    assert group.records[0]["created_at"] == "2024-05-01 10:00:00.123"
    assert group.records[0]["trial_ends_at"] == "2024-05-01 08:00:00+00"
    assert "billing_records.created_at" in naive
    assert "billing_records.trial_ends_at" not in naive


async def test_our_own_projection_is_no_old_database(postgres_url: str) -> None:
    await migrate(postgres_url)

    with pytest.raises(ImportFailed, match="this service's own projection"):
        await groups(postgres_url)


async def test_what_is_missing_is_named(postgres_url: str) -> None:
    with pytest.raises(ImportFailed, match="no table billing_records; there is no table credit_pu"):
        await groups(postgres_url)

    without = SCHEMA.replace('    "expires_at" TIMESTAMP(3) NOT NULL,\n', "")
    await execute(postgres_url, without)

    with pytest.raises(ImportFailed, match="credit_purchases has no column expires_at"):
        await groups(postgres_url)


async def test_a_database_that_does_not_answer_says_so_and_no_password(postgres_url: str) -> None:
    for url in (
        "postgresql://user:hush@127.0.0.1:1/old",
        "nonsense://hush",
        postgres_url.replace("postgres:", "postgres:hush"),
    ):
        with pytest.raises(ImportFailed, match="cannot be reached") as refused:
            await groups(url)
        assert "hush" not in str(refused.value)


async def test_nothing_can_be_written_there(postgres_url: str) -> None:
    await fill(postgres_url, 3, faults=False)

    with pytest.raises(ImportFailed, match="read-only transaction"):
        async with reading(postgres_url) as old:
            await old._connection.execute("DELETE FROM billing_records")

    assert len(await groups(postgres_url)) == 3


async def test_what_only_the_whole_shows_is_counted(postgres_url: str) -> None:
    await fill(postgres_url, 1000)

    async with reading(postgres_url) as old:
        assert len(await old.duplicate_purchase_ids()) == 2
        assert await old.shared_charge_ids() == 1
        assert await old.count("billing_records") == 999
