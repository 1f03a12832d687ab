"""Every connection to PostgreSQL keeps to the TLS that its address asks for."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import trustme

from billing_stream.migration.migration_errors import ImportFailed
from billing_stream.migration.old_database import reading
from billing_stream.web.envelope import ApiError
from billing_stream.web.pagination import Page
from billing_stream.web.projection import Projection
from tests.support.projection import ProjectorProcess, projector, projector_environment
from tests.support.projection import create_topics as create_topics_of_projector
from tests.support.tls_postgres import TlsPostgres, tls_postgres
from tests.support.worker import environment, run

pytestmark = pytest.mark.full

MERCHANT = "11111111-1111-4111-8111-111111111111"


@pytest.fixture(scope="module")
def server() -> Iterator[TlsPostgres]:
    with tls_postgres() as made:
        yield made


def good(server: TlsPostgres) -> str:
    own = str(server.certificates.client("billing"))
    ca = str(server.certificates.ca)
    return server.address(sslmode="verify-full", sslrootcert=ca, sslcert=own, sslkey=own)


def untrusting(server: TlsPostgres, folder: Path) -> str:
    other = folder / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    own = str(server.certificates.client("billing"))
    return server.address(sslmode="verify-full", sslrootcert=str(other), sslcert=own, sslkey=own)


async def test_projector_migration_history_and_verifier_come_with_tls(
    kafka: str, prefix: str, folder: Path, server: TlsPostgres
) -> None:
    await create_topics_of_projector(kafka, prefix)
    env = projector_environment(kafka, prefix, good(server))

    code, output = await run(env, "projector", "migrate")
    assert code == 0, output
    async with projector(env, folder) as process:
        await process.ready()
        projection = Projection(good(server), "public")
        assert await projection.page(MERCHANT, Page(1, 10)) == ([], 0, 0)
        projection.close()
        code, output = await run(env, "verify")
        assert (code, "cannot be read" in output) == (0, False), output
        encrypted = await fetch(good(server))
    assert encrypted == {True}


async def fetch(url: str) -> set[bool]:
    """Whether the connections of ours are encrypted, of all that there are."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
        "WHERE application_name LIKE 'billing-stream%'"
    )
    await connection.close()
    return {row["ssl"] for row in rows}


async def test_untrusted_server_ends_the_projector_and_shows_no_password(
    kafka: str, prefix: str, folder: Path, server: TlsPostgres
) -> None:
    await create_topics_of_projector(kafka, prefix)
    url = untrusting(server, folder)
    password = url.split(":")[2].split("@")[0]
    env = projector_environment(kafka, prefix, url)

    process = ProjectorProcess(env, folder)
    await process.start()
    code = await asyncio.wait_for(process.process.wait(), 30)
    migrated, output = await run(env, "projector", "migrate")

    assert (code, migrated) == (2, 2)
    for said in (process.tail(), output):
        assert "certificate verify failed" in said
        assert password not in said
        assert "Traceback" not in said


async def test_history_and_import_refuse_a_server_that_is_not_trusted(
    folder: Path, server: TlsPostgres
) -> None:
    url = untrusting(server, folder)

    with pytest.raises(ApiError):
        await Projection(url, "public").page(MERCHANT, Page(1, 10))
    with pytest.raises(ImportFailed, match="SSLCertVerificationError"):
        async with reading(url):
            pass


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("sslmode=verify-fully", "sslmode must be one of"),
        ("sslmode=verify-full&sslrootcert=/nowhere/ca.pem", "sslrootcert: /nowhere/ca.pem"),
        ("sslmode=verify-ca", "needs sslrootcert"),
        ("sslrootcert=/dev/null", "needs sslmode=verify-full"),
    ],
)
async def test_a_wrong_tls_part_of_the_address_is_named_at_the_start(
    folder: Path, query: str, named: str
) -> None:
    url = f"postgresql://me:open-sesame@127.0.0.1:1/db?{query}"
    env = environment("127.0.0.1:1", "p.", DATABASE_URL=url, HOME=str(folder))

    code, output = await run(env, "projector")

    assert code == 2
    assert "DATABASE_URL: " in output
    assert named in output
    assert "open-sesame" not in output
