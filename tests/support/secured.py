"""A real broker with SASL and TLS listeners, an authorizer, and users; and its ACLs."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Int8, Int16, Int32, Schema, String

from billing_stream.dev.kafka import Kafka
from billing_stream.kafka.acls import Acl, Process, Resource, acls
from billing_stream.records.topics import Topics
from tests.support.certificates import Certificates
from tests.support.ports import free_port

PASSWORD = "correct-horse-battery-staple"
USERS = ("worker", "projector", "deliver", "operator", "topics", "crippled", "nobody")

# Whoever comes to the plain listener is the super user: the tests themselves.
_PROPERTIES = """\
listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{tls},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{plain},SASL_SSL://127.0.0.1:{sasl},SSL://127.0.0.1:{tls}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL,CONTROLLER:PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location={server}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
listener.name.ssl.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^.*CN=([^,]+).*$/$1/,DEFAULT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config={plain_module} required {plain_users};
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config={scram_module} required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={scram_module} required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=false
"""
_MODULE = "org.apache.kafka.common.security"
_RESOURCES = {
    Resource.TOPIC: 2,
    Resource.GROUP: 3,
    Resource.CLUSTER: 4,
    Resource.TRANSACTIONAL_ID: 5,
}
_OPERATIONS = {
    "Read": 3,
    "Write": 4,
    "Create": 5,
    "Describe": 8,
    "DescribeConfigs": 10,
}
_LITERAL, _PREFIXED, _ALLOW, _ANY = 3, 4, 3, 1
_RULE = (
    ("resource_type", Int8),
    ("resource_name", String("utf-8")),
    ("pattern_type", Int8),
    ("principal", String("utf-8")),
    ("host", String("utf-8")),
    ("operation", Int8),
    ("permission_type", Int8),
)


class SecuredKafka:
    """The broker, its addresses and its certificates."""

    def __init__(self, folder: Path) -> None:
        self.certificates = Certificates(folder / "certificates")
        server = self.certificates.server()
        plain, sasl, tls, controller = (free_port() for _ in range(4))
        self.plain, self.sasl, self.tls = (f"127.0.0.1:{port}" for port in (plain, sasl, tls))
        properties = _PROPERTIES.format(
            plain=plain,
            sasl=sasl,
            tls=tls,
            controller=controller,
            server=server,
            ca=self.certificates.ca,
            plain_module=f"{_MODULE}.plain.PlainLoginModule",
            scram_module=f"{_MODULE}.scram.ScramLoginModule",
            plain_users=" ".join(f'user_{user}="{PASSWORD}"' for user in USERS),
        )
        options = []
        for user in USERS:
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                options += ["--add-scram", f"{mechanism}=[name={user},password={PASSWORD}]"]
        self.broker = Kafka(
            folder / "kafka",
            folder / "kafka.log",
            plain,
            controller,
            properties=properties,
            format_options=options,
        )

    def sasl_environment(self, user: str, mechanism: str = "SCRAM-SHA-512") -> dict[str, str]:
        """For a process that comes with a password."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.sasl,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": mechanism,
            "KAFKA_SASL_USERNAME": user,
            "KAFKA_SASL_PASSWORD": PASSWORD,
            "KAFKA_SSL_CAFILE": str(self.certificates.ca),
        }

    def mutual_environment(self, user: str) -> dict[str, str]:
        """For a process that comes with a certificate."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.tls,
            "KAFKA_SECURITY_PROTOCOL": "SSL",
            "KAFKA_SSL_CAFILE": str(self.certificates.ca),
            "KAFKA_SSL_CERTFILE": str(self.certificates.client(user)),
        }

    async def allow(self, user: str, rules: Iterable[Acl]) -> None:
        """Allow a user what the rules say."""
        creations = [
            (
                _RESOURCES[rule.resource],
                rule.name,
                _PREFIXED if rule.prefixed else _LITERAL,
                f"User:{user}",
                "*",
                _OPERATIONS[operation],
                _ALLOW,
            )
            for rule in rules
            for operation in rule.operations
        ]
        admin: Any = AIOKafkaAdminClient(bootstrap_servers=self.plain)
        await admin.start()
        try:
            answer = await admin._client.send(
                admin._client.get_random_node(), CreateAclsRequest(creations)
            )
            refused = [result for result in answer.results if result[0]]
            assert not refused, refused
            # The authorizer reads them from the metadata log, a moment later.
            async with asyncio.timeout(60):
                while not set(creations) <= await _granted(admin._client, f"User:{user}"):
                    continue
        finally:
            await admin.close()

    async def allow_process(self, process: Process, prefix: str, user: str | None = None) -> None:
        """Allow a user what the table says that the process needs."""
        await self.allow(user or str(process), acls(process, Topics("billing-stream", prefix)))


async def _granted(client: Any, principal: str) -> set[tuple[Any, ...]]:
    """The rules that the authorizer has for a user, as they were created."""
    answer = await client.send(client.get_random_node(), DescribeAclsRequest(principal))
    assert not answer.error_code, answer
    return {
        (kind, name, pattern, who, host, operation, permission)
        for kind, name, pattern, rules in answer.resources
        for who, host, operation, permission in rules
    }


class DescribeAclsResponse_v1(Response):  # type: ignore[misc]
    API_KEY = 29
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("error_code", Int16),
        ("error_message", String("utf-8")),
        (
            "resources",
            Array(
                ("resource_type", Int8),
                ("resource_name", String("utf-8")),
                ("pattern_type", Int8),
                (
                    "acls",
                    Array(
                        ("principal", String("utf-8")),
                        ("host", String("utf-8")),
                        ("operation", Int8),
                        ("permission_type", Int8),
                    ),
                ),
            ),
        ),
    )


class DescribeAclsRequest_v1(RequestStruct):  # type: ignore[misc]
    API_KEY = 29
    API_VERSION = 1
    RESPONSE_TYPE = DescribeAclsResponse_v1
    SCHEMA = Schema(*_RULE)


class DescribeAclsRequest(Request[DescribeAclsRequest_v1]):  # type: ignore[misc]
    API_KEY = 29
    ALLOW_UNKNOWN_API_VERSION = True

    def __init__(self, principal: str) -> None:
        self._principal = principal

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(_ANY, None, _ANY, self._principal, None, _ANY, _ANY)


class CreateAclsResponse_v1(Response):  # type: ignore[misc]
    API_KEY = 30
    API_VERSION = 1
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        ("results", Array(("error_code", Int16), ("message", String("utf-8")))),
    )


class CreateAclsRequest_v1(RequestStruct):  # type: ignore[misc]
    API_KEY = 30
    API_VERSION = 1
    RESPONSE_TYPE = CreateAclsResponse_v1
    SCHEMA = Schema(("creations", Array(*_RULE)))


class CreateAclsRequest(Request[CreateAclsRequest_v1]):  # type: ignore[misc]
    API_KEY = 30
    ALLOW_UNKNOWN_API_VERSION = True

    def __init__(self, creations: list[tuple[Any, ...]]) -> None:
        self._creations = creations

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(self._creations)


@contextmanager
def secured_kafka(folder: Path) -> Iterator[SecuredKafka]:
    """A broker that is ready; ended with the block."""
    made = SecuredKafka(folder)
    made.broker.start()
    try:
        yield made
    finally:
        made.broker.stop()
