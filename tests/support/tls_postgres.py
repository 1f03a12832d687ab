"""A real PostgreSQL that takes nobody in without TLS."""

import asyncio
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import asyncpg

from billing_stream.dev.cluster import postgres_alone
from billing_stream.dev.postgres import Postgres
from tests.support.certificates import Certificates


@dataclass(frozen=True)
class TlsPostgres:
    """Its address without a word on TLS, and the certificates that go with it."""

    url: str
    certificates: Certificates

    def address(self, **options: str) -> str:
        """The address with these options, as libpq names them."""
        return self.url + "?" + "&".join(f"{name}={value}" for name, value in options.items())


@contextmanager
def tls_postgres() -> Iterator[TlsPostgres]:
    """A server that asks for TLS and a client's certificate; ended with the block."""
    with postgres_alone() as cluster:
        certificates = Certificates(cluster.data_dir / "certificates")
        asyncio.run(_secure(cluster.postgres, certificates))
        yield TlsPostgres(cluster.database_url, certificates)


async def _secure(postgres: Postgres, certificates: Certificates) -> None:
    data = postgres.folder / "data"
    owner = data.stat()
    for name, source in (("server.pem", certificates.server()), ("ca.pem", certificates.ca)):
        shutil.copy(source, data / name)
        (data / name).chmod(0o600)
        os.chown(data / name, owner.st_uid, owner.st_gid)
    connection = await asyncpg.connect(postgres.database_url)
    for setting, value in (
        ("ssl_cert_file", "server.pem"),
        ("ssl_key_file", "server.pem"),
        ("ssl_ca_file", "ca.pem"),
        ("ssl", "on"),
    ):
        await connection.execute(f"ALTER SYSTEM SET {setting} = '{value}'")
    rule = "hostssl all all 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\n"
    (data / "pg_hba.conf").write_text(rule)
    await connection.execute("SELECT pg_reload_conf()")
    await connection.close()
