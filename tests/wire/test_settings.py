"""What does not go together, or cannot be used, is said at the start; secrets never are."""

from pathlib import Path
from typing import Any

import pytest

from billing_stream.app import build
from billing_stream.config.settings import Settings
from billing_stream.errors import SettingsError
from billing_stream.kafka.client_options import client_options
from tests.support.certificates import Certificates
from tests.support.worker import environment, run

SASL = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "billing",
    "KAFKA_SASL_PASSWORD": "open-sesame",
}


def settings(patch: pytest.MonkeyPatch, **extra: str) -> Settings:
    for name, value in environment("127.0.0.1:1", "p.", **extra).items():
        patch.setenv(name, value)
    return Settings.from_env()


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in SASL.items() if key != name}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (without("KAFKA_SASL_USERNAME"), "KAFKA_SASL_USERNAME is needed"),
        (without("KAFKA_SASL_PASSWORD"), "KAFKA_SASL_PASSWORD is needed"),
        (without("KAFKA_SASL_MECHANISM"), "KAFKA_SASL_MECHANISM is needed"),
        (without("KAFKA_SECURITY_PROTOCOL"), "KAFKA_SASL_PASSWORD has no effect"),
        ({"KAFKA_SSL_CAFILE": "{ca}"}, "KAFKA_SSL_CAFILE has no effect"),
        ({**SASL, "KAFKA_SSL_CAFILE": "/nowhere.pem"}, "KAFKA_SSL_CAFILE: /nowhere.pem cannot"),
        ({**SASL, "KAFKA_SSL_CAFILE": "{junk}"}, "KAFKA_SSL_CAFILE cannot be used"),
        ({**SASL, "KAFKA_SSL_KEYFILE": "{one}"}, "needs KAFKA_SSL_CERTFILE"),
        ({**SASL, "KAFKA_SSL_CERTFILE": "{junk}"}, "there is no key and certificate"),
        (
            {**SASL, "KAFKA_SSL_CERTFILE": "{one}", "KAFKA_SSL_KEYFILE": "{two}"},
            "the key is not that of the certificate",
        ),
        (
            {**SASL, "KAFKA_SSL_CERTFILE": "{one}", "KAFKA_SSL_KEYFILE": "{locked}"},
            "KAFKA_SSL_KEY_PASSWORD does not open the key",
        ),
    ],
)
def test_what_does_not_go_together_names_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], named: str
) -> None:
    files = made(tmp_path)
    given = {name: value.format(**files) for name, value in given.items()}

    with pytest.raises(SettingsError) as refused:
        settings(monkeypatch, **given)

    assert named in str(refused.value)
    assert "open-sesame" not in str(refused.value)


def made(folder: Path) -> dict[str, Path]:
    certificates = Certificates(folder)
    (folder / "junk.pem").write_text("not a certificate")
    return {
        "ca": certificates.ca,
        "one": certificates.client("one"),
        "two": certificates.client("two"),
        "locked": certificates.encrypted_key("one", "sesame"),
        "junk": folder / "junk.pem",
    }


def test_every_client_of_an_app_comes_with_the_same_security(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = made(tmp_path)
    key = {"KAFKA_SSL_KEYFILE": str(files["locked"]), "KAFKA_SSL_KEY_PASSWORD": "sesame"}
    found = settings(
        monkeypatch,
        **SASL,
        **key,
        KAFKA_SSL_CAFILE=str(files["ca"]),
        KAFKA_SSL_CERTFILE=str(files["one"]),
    )

    options = client_options(found)
    own: Any = build(found).faust.conf.broker_credentials

    assert options["ssl_context"].check_hostname
    assert (own.protocol.value, own.mechanism.value) == ("SASL_SSL", "SCRAM-SHA-512")
    assert (own.username, own.password) == ("billing", "open-sesame")
    assert own.ssl_context.check_hostname


async def test_config_shows_no_secret_of_the_wire(tmp_path: Path) -> None:
    files = made(tmp_path)
    env = environment("127.0.0.1:1", "p.", **SASL, KAFKA_SSL_CERTFILE=str(files["one"]))
    env["KAFKA_SSL_KEY_PASSWORD"] = "other-sesame"

    code, output = await run(env, "config")

    assert code == 0
    assert "KAFKA_SASL_PASSWORD" in output
    assert "sesame" not in output
