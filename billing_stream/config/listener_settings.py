"""The listeners of a worker: each serves one kind of caller, at an address of its own."""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from pydantic_settings import BaseSettings

from billing_stream.config.setting import Port, setting

ANY_HOST = ("", "0.0.0.0", "::")


class Listener(StrEnum):
    """The callers of an address: clients and platforms, operators' browsers, other processes."""

    PUBLIC = "public"
    OPS = "ops"
    INTERNAL = "internal"


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int


class ListenerSettings(BaseSettings):
    """Addresses and ports of the listeners; those that share both are one."""

    api_external_port: Port = setting(
        "BILLING_API_EXTERNAL_PORT",
        "HTTP port for clients and webhooks",
        8000,
    )
    api_host: str = setting(
        "BILLING_API_HOST", "host name of this worker for other workers", "127.0.0.1"
    )
    api_bind: str = setting("BILLING_API_BIND", "address to listen on", "0.0.0.0")
    ops_port: Port | None = setting(
        "BILLING_OPS_PORT",
        "HTTP port of the dashboard; by default BILLING_API_EXTERNAL_PORT, required in "
        "staging and production",
    )
    ops_bind: str | None = setting(
        "BILLING_OPS_BIND",
        "address of the dashboard; by default BILLING_API_BIND",
    )
    internal_port: Port | None = setting(
        "BILLING_INTERNAL_PORT",
        "HTTP port of /internal and /metrics; by default BILLING_API_EXTERNAL_PORT, "
        "required in staging and production",
    )
    internal_bind: str | None = setting(
        "BILLING_INTERNAL_BIND",
        "address of /internal and /metrics; by default BILLING_API_BIND",
    )

    def address_of(self, listener: Listener) -> Address:
        """Where this listener is."""
        host, port = {
            Listener.PUBLIC: (self.api_bind, self.api_external_port),
            Listener.OPS: (self.ops_bind, self.ops_port),
            Listener.INTERNAL: (self.internal_bind, self.internal_port),
        }[listener]
        return Address(host or self.api_bind, port or self.api_external_port)

    @property
    def addresses(self) -> dict[Address, frozenset[Listener]]:
        """Every address to listen on, with the listeners that share it."""
        found = {listener: self.address_of(listener) for listener in Listener}
        return {
            address: frozenset(one for one in Listener if found[one] == address)
            for address in found.values()
        }

    def listener_problems(self) -> Iterator[str]:
        """Addresses that exclude each other."""
        by_port: dict[int, list[str]] = {}
        for host, port in self.addresses:
            by_port.setdefault(port, []).append(host)
        for port, hosts in by_port.items():
            if len(hosts) > 1 and any(host in ANY_HOST for host in hosts):
                yield (
                    f"port {port} is to be listened on at {' and '.join(hosts)}, one of which has "
                    "the other in it: give BILLING_OPS_PORT and BILLING_INTERNAL_PORT ports of "
                    "their own, or the same BILLING_OPS_BIND and BILLING_INTERNAL_BIND"
                )

    def unchosen_ports(self) -> Iterator[str]:
        """What staging and production must choose: they have no port by accident."""
        for name, port in (
            ("BILLING_OPS_PORT", self.ops_port),
            ("BILLING_INTERNAL_PORT", self.internal_port),
        ):
            if port is None:
                yield (
                    f"{name} must be chosen: a port that clients cannot reach, or that of "
                    "BILLING_API_EXTERNAL_PORT where a proxy passes on nothing but /api and "
                    "/webhooks"
                )
