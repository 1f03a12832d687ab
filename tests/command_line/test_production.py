"""What production refuses, all of it at once and without a value, and what a doctor warns of."""

import json
import re
from pathlib import Path

import pytest

from billing_stream.config.settings import Settings
from billing_stream.errors import SettingsError
from tests.support.production import PRODUCTION, secret
from tests.support.worker import environment, run

STRIPE = {"STRIPE_API_KEY": "sk_live_" + secret("stripe"), "STRIPE_WEBHOOK_SECRET": secret("hook")}
GATEWAY = {
    "CUSTOM_GATEWAY_URL": "https://pay.example",
    "CUSTOM_GATEWAY_SECRET": secret("gateway"),
}
OWN = ("CLIENT_JWT_SECRET", "INTERNAL_JWT_SECRET", "CUSTOM_GATEWAY_SECRET")
OTHERS = ("SHOPIFY_API_SECRET", "STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET")


def read(patch: pytest.MonkeyPatch, **change: str) -> Settings:
    base = environment("127.0.0.1:1", "p.", **{**PRODUCTION, **STRIPE, **GATEWAY, **change})
    for name, value in base.items():
        patch.setenv(name, value)
    return Settings.from_env()


def refusal(patch: pytest.MonkeyPatch, **change: str) -> str:
    """The text of the refusal, which shows no value."""
    with pytest.raises(SettingsError) as refused:
        read(patch, **change)
    text = str(refused.value)
    shown = [name for name, value in change.items() if len(value.strip()) > 1 and value in text]
    assert [name for name in shown if "SECRET" in name] == []
    return text


@pytest.mark.parametrize("app_env", ["staging", "production"])
def test_production_starts_with_strong_settings(
    monkeypatch: pytest.MonkeyPatch, app_env: str
) -> None:
    assert read(monkeypatch, APP_ENV=app_env).is_real


WEAK = [
    " " * 40,
    "\t" * 33,
    "a" * 64,
    "ab" * 32,
    "0123456789" * 4,
    "abcdefghijklmnopqrstuvwxyz0123456789",
    "zyxwvutsrqponmlkjihgfedcba9876543210",
    "k3#Vq9!x" * 5,
    "change-me-change-me-change-me-1234567",
    "CHANGE_ME_0f9e8d7c6b5a4f3e2d1c0b9a8f7e",
    "please change this, 0f9e8d7c6b5a4f3e2d",
    "client-secret-for-tests-0123456789",
    "example-0f9e8d7c6b5a4f3e2d1c0b9a8f7e6d",
    "0f9e8d7c6b5a4f3e2d1c" + " " * 20,
]


@pytest.mark.parametrize("name", [*OWN, *(f"{own}_OLD" for own in OWN)])
@pytest.mark.parametrize("weak", WEAK)
def test_a_weak_secret_of_our_own_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, weak: str
) -> None:
    assert f"{name} " in refusal(monkeypatch, **{name: weak})


@pytest.mark.parametrize(
    "name",
    [*OTHERS, *(f"{one}_OLD" for one in OTHERS if one != "STRIPE_API_KEY")],
)
@pytest.mark.parametrize(
    "weak", ["s", "x" * 20, " " * 20, "whsec_example_1234", "1234567890123456"]
)
def test_a_weak_secret_of_a_platform_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, weak: str
) -> None:
    assert f"{name} " in refusal(monkeypatch, **{name: weak})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("CLIENT_JWT_SECRET", "INTERNAL_JWT_SECRET"),
        ("CLIENT_JWT_SECRET", "INTERNAL_JWT_SECRET_OLD"),
        ("CUSTOM_GATEWAY_SECRET_OLD", "CLIENT_JWT_SECRET_OLD"),
        ("SHOPIFY_API_KEY", "SHOPIFY_API_SECRET"),
        ("STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRET"),
        ("INTERNAL_JWT_SECRET", "KAFKA_SASL_PASSWORD"),
    ],
)
@pytest.mark.parametrize("blank", ["", " "])
def test_two_secrets_that_are_one_are_refused(
    monkeypatch: pytest.MonkeyPatch, one: str, other: str, blank: str
) -> None:
    text = refusal(monkeypatch, **{one: secret("same"), other: secret("same") + blank})

    assert re.search(f"({one} and {other}|{other} and {one}) are the same", text)


def test_the_password_of_the_database_is_not_another_secret(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"postgresql://billing:{secret('client')}@db.example/billing"

    assert "the password in DATABASE_URL are the same" in refusal(monkeypatch, DATABASE_URL=url)


def test_an_old_secret_may_be_the_present_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, CLIENT_JWT_SECRET_OLD=PRODUCTION["CLIENT_JWT_SECRET"])


PLAIN = [
    "http://pay.example",
    "http://localhost.pay.example",
    "http://localhost@pay.example",
    "http://127.0.0.1.pay.example",
    "http://127.0.0.1:80@pay.example",
    "http://10.0.0.7",
    "http://[::2]",
    "http://[::1",
]
ADDRESSES = ("SHOPIFY_API_URL", "STRIPE_API_URL", "CUSTOM_GATEWAY_URL", "SHOPIFY_ACCESS_TOKENS_URL")


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize("address", PLAIN)
def test_plain_http_to_a_platform_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, address: str
) -> None:
    assert f"{name} must be https" in refusal(monkeypatch, **{name: f"{address}/{{shop}}"})


@pytest.mark.parametrize("name", ADDRESSES)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:80", "127.8.8.8"])
def test_plain_http_on_this_machine_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, host: str
) -> None:
    assert read(monkeypatch, **{name: f"http://{host}/{{shop}}"})


def test_kafka_without_tls_must_be_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "KAFKA_SECURITY_PROTOCOL must be chosen" in refusal(
        monkeypatch, KAFKA_SECURITY_PROTOCOL=""
    )
    assert not read(monkeypatch, KAFKA_SECURITY_PROTOCOL="PLAINTEXT").kafka_tls


async def test_one_refusal_names_everything_that_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "settings.env"
    wrong = {
        "CLIENT_JWT_SECRET": "short",
        "INTERNAL_JWT_SECRET": "a" * 40,
        "BILLING_PARTITIONS": "0",
        "SHOPIFY_API_SECRET": "",
        "SHOPIFY_ACCESS_TOKENS": "not json",
        "SHOPIFY_ACCESS_TOKENS_FILE": "/none",
        "STRIPE_API_KEY": "sk_live_" + secret("stripe"),
        "CUSTOM_GATEWAY_URL": "http://pay.example",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "DATABASE_URL": "postgresql://u:p@db/x?sslmode=none",
    }
    file.write_text("".join(f"{name}={value}\n" for name, value in wrong.items()))
    env = environment("127.0.0.1:1", "p.", APP_ENV="production", SHOPIFY_API_KEY="k")
    env = {n: v for n, v in env.items() if n not in wrong} | {"BILLING_ENV_FILE": str(file)}

    everywhere = (
        "CLIENT_JWT_SECRET: must have 32",
        "INTERNAL_JWT_SECRET consists of repeated",
        "BILLING_PARTITIONS: ",
        "CUSTOM_GATEWAY_URL must be https",
        "KAFKA_SASL_PASSWORD is needed",
        "sslmode must be one of",
    )
    of_workers = (
        "BILLING_OPS_PORT must be chosen",
        "BILLING_INTERNAL_PORT must be chosen",
        "SHOPIFY_API_SECRET is needed",
        "SHOPIFY_API_VERSION is needed",
        "SHOPIFY_ACCESS_TOKENS is not a JSON object",
        "only one of them",
        "STRIPE_WEBHOOK_SECRET is needed",
        "CUSTOM_GATEWAY_SECRET is needed",
    )
    for command in ("worker", "doctor", "config", "projector"):
        code, output = await run(env, command)

        assert code == 2
        assert [words for words in everywhere if words not in output] == []
        missing = [words for words in of_workers if words not in output]
        assert missing == (list(of_workers) if command == "projector" else [])
        assert secret("stripe") not in output


def test_development_starts_with_weak_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    weak = {"CLIENT_JWT_SECRET": "a" * 40, "STRIPE_API_URL": "http://pay.example"}
    for app_env in ("development", "test"):
        assert read(monkeypatch, APP_ENV=app_env, KAFKA_SECURITY_PROTOCOL="", **weak)


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o644, True), (0o604, True)])
async def test_a_file_of_secrets_that_others_can_read_is_a_warning(
    tmp_path: Path, mode: int, warned: bool
) -> None:
    file, tokens = tmp_path / "some.env", tmp_path / "tokens.json"
    file.write_text(f"SHOPIFY_ACCESS_TOKENS_FILE={tokens}\nSHOPIFY_API_VERSION=2026-10\n")
    tokens.write_text("{}")
    for path in (file, tokens):
        path.chmod(mode)
    env = {**environment("127.0.0.1:1", "p."), "BILLING_ENV_FILE": str(file)}

    _, output = await run(env, "doctor", "--json", "--timeout", "1")
    code, shown = await run(env, "config")

    found = [one for one in json.loads(output) if "can be read by others" in one["said"]]
    assert [one["verdict"] for one in found] == ["WARN", "WARN"] * warned
    assert code == 0
    assert (f"{file} can be read by others" in shown) is warned
