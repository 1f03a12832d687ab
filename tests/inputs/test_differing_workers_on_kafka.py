"""Workers of one group with different rules or limits name each other, and doctor names them."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from billing_stream.config.settings import Settings
from billing_stream.config.shared_settings import OF_CATALOGUE, SHARED, differing, shared_settings
from billing_stream.kafka.group_members import Member, mismatches
from tests.support.worker import CLIENT_SECRET, Worker, create_topics, environment, run, worker

SECONDS = 90.0
PACKS = [("small", 100, "9.99"), ("medium", 500, "39.99"), ("large", 1000, "69.99")]
# Of one process; where it is connected to; how much it takes; how it looks to operators.
OWN = frozenset(
    [
        "api_bind",
        "api_external_port",
        "api_host",
        "bodies_waiting_max",
        "body_timeout",
        "client_token_max_lifetime",
        "connections_max",
        "crash_at",
        "custom_gateway_lookup_url",
        "data_dir",
        "deliver_concurrency",
        "deliver_port",
        "deliver_retention",
        "deliver_retry_for",
        "deliver_timeout",
        "drain_delay",
        "failed_logins_per_minute",
        "header_timeout",
        "internal_bind",
        "internal_port",
        "kafka_bootstrap_servers",
        "kafka_sasl_mechanism",
        "kafka_sasl_username",
        "kafka_security_protocol",
        "kafka_ssl_cafile",
        "kafka_ssl_certfile",
        "kafka_ssl_keyfile",
        "log_format",
        "log_level",
        "max_body_bytes",
        "ops_bind",
        "ops_port",
        "ops_url",
        "peer_tokens",
        "peers",
        "projection_schema",
        "projector_group",
        "projector_port",
        "public_url",
        "reader_role",
        "reconcile",
        "reconcile_concurrency",
        "reconcile_every",
        "replication_factor",
        "request_deadline",
        "requests_per_minute",
        "requests_waiting_max",
        "session_timeout",
        "shop_requests_waiting_max",
        "shopify_access_tokens_file",
        "shopify_access_tokens_url",
        "shopify_api_url",
        "start_deadline",
        "store",
        "stripe_api_url",
        "stuck_exit_after",
        "stuck_not_ready_after",
        "traces",
        "webhooks_allow_private",
        "webhooks_per_minute",
        "worker_name",
    ]
)


def settings(**given: str) -> Settings:
    return Settings.model_validate(environment("127.0.0.1:1", "x.", **given))


def test_each_setting_is_a_secret_shared_or_of_one_process() -> None:
    fields = Settings.model_fields
    secret = {name for name, field in fields.items() if "SecretStr" in str(field.annotation)}

    assert not secret & SHARED
    assert fields.keys() == secret | SHARED | OWN | OF_CATALOGUE
    assert not SHARED & OWN
    assert not OF_CATALOGUE & (SHARED | OWN)


def test_settings_are_exchanged_without_their_values() -> None:
    secret = "s" * 40
    given = shared_settings(settings(TRIAL_DURATION="13d", INTERNAL_JWT_SECRET=secret))

    assert len(given) == len(SHARED) + 1
    assert not [one for one in given.values() if len(one) != 12 or not one.isalnum()]
    assert not [name for name in given if "SECRET" in name or "KEY" in name or "PASSWORD" in name]
    assert CLIENT_SECRET not in str(given)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TRIAL_DURATION", "13d"),
        ("TRIAL_REMINDER", "2d"),
        ("PENDING_PURCHASE_EXPIRY", "25h"),
        ("BILLING_OPEN_PURCHASES_MAX", "51"),
        ("BILLING_PARTITIONS", "5"),
        ("BILLING_TOPIC_PREFIX", "y."),
        ("BILLING_APP_ID", "other"),
        ("TRIAL_CREDITS", "50"),
        ("TRIAL_ONCE_PER", "shop"),
        ("BILLING_EARLY_WEBHOOK_EXPIRY", "1h"),
        ("BILLING_POISON_PERCENT", "51"),
    ],
)
def test_worker_with_another_value_of_a_shared_setting_is_named(name: str, value: str) -> None:
    own, other = shared_settings(settings()), shared_settings(settings(**{name: value}))

    (line,) = mismatches(own, [Member("http://a", own), Member("http://b", other)])

    assert line == f"http://b has another value of {name}"


def test_worker_with_another_catalogue_is_named_however_it_is_set(tmp_path: Path) -> None:
    file = tmp_path / "packs.toml"
    file.write_text(
        "".join(f'[packs.{n}]\ncredits={c}\nprice={{USD="{p}"}}\n' for n, c, p in PACKS)
    )
    own = shared_settings(settings())

    same = shared_settings(settings(BILLING_CATALOGUE=str(file)))
    dearer = shared_settings(settings(SMALL_PACK_PRICE="10"))
    euros = shared_settings(settings(BILLING_CURRENCY="EUR"))

    assert differing(own, same) == []
    assert differing(own, dearer) == ["BILLING_CATALOGUE"]
    assert differing(own, euros) == ["BILLING_CURRENCY", "BILLING_CATALOGUE"]
    assert differing(own, shared_settings(settings(TRIAL_DURATION_DAYS="14"))) == []
    assert differing(own, shared_settings(settings(TRIAL_DURATION_DAYS="13"))) == ["TRIAL_DURATION"]


def test_settings_of_one_process_and_unknown_ones_do_not_differ() -> None:
    own = shared_settings(settings())
    other = shared_settings(settings(BILLING_API_BIND="127.0.0.1", BILLING_LOG_LEVEL="DEBUG"))

    assert differing(own, other) == []
    assert differing(own, {}) == []
    assert mismatches(own, [Member("http://a", None)]) == [
        "http://a has not given its settings: it is of another release"
    ]


async def warnings(running: Worker) -> Any:
    async with aiohttp.ClientSession() as session, session.get(running.url + "/ready") as response:
        # While partitions move it is not ready.
        found = await response.json()
        return found["data"]["warnings"] if response.status == 200 else ["not ready"]


async def metrics(running: Worker) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(running.url + "/metrics") as response,
    ):
        return await response.text()


@pytest.mark.full
async def test_workers_with_other_settings_are_reported_by_each_other(
    kafka: str, prefix: str, folder: Path
) -> None:
    env = environment(kafka, prefix)
    await create_topics(env)
    async with worker(env, folder) as first:
        async with worker({**env, "TRIAL_DURATION": "13d"}, folder) as second:
            end = time.monotonic() + SECONDS
            for one, other in ((first, second), (second, first)):
                line = f"another worker: {other.url} has another value of TRIAL_DURATION"
                while line not in await warnings(one):
                    assert time.monotonic() < end
                    await asyncio.sleep(0.3)
                assert "billing_workers_differing 1.0" in await metrics(one)
            _, output = await run(env, "doctor", "--json")
            found = json.loads(output[output.index("[\n") :])
            said = {one["said"]: one["verdict"] for one in found if one["check"] == "workers"}
            assert said[f"{second.url} has another value of TRIAL_DURATION"] == "WARN"
            assert not [text for text in said if first.url in text]
            await second.stop()
        while await warnings(first):
            assert time.monotonic() < end
            await asyncio.sleep(0.3)
