"""The servers that the tests get."""

import asyncpg

from billing_stream.dev.kafka import wait_transactional


def test_the_broker_carries_out_a_transaction(kafka: str) -> None:
    wait_transactional(kafka, seconds_max=10)


async def test_postgres_answers_a_query(postgres: str) -> None:
    connection = await asyncpg.connect(postgres)
    try:
        assert await connection.fetchval("SELECT current_database()") == "billing"
    finally:
        await connection.close()


async def test_postgres_wants_the_password(postgres: str) -> None:
    address = postgres.rsplit("@", 1)[1]
    try:
        connection = await asyncpg.connect(f"postgresql://postgres:wrong@{address}")
    except asyncpg.InvalidPasswordError:
        return
    await connection.close()
    raise AssertionError("it let us in")
