"""Packs, prices and trials are set by the operator, and wrong ones name themselves."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from billing_stream.cli import cli
from billing_stream.config.catalogue_file import CatalogueError, price_of, read_catalogue
from billing_stream.config.settings import Settings
from billing_stream.domain.currencies import DECIMALS
from billing_stream.domain.policy import PACKS, Pack
from billing_stream.errors import SettingsError
from tests.support.worker import environment

GOOD = """\
[packs.starter]
credits = 25
title = "Ein Anfang"
[packs.starter.price]
JPY = "300"
KWD = "0.750"
USD = "1.9"
[packs.big]
credits = 1000000000
price = { USD = "999999999999.99" }
"""


def settings(**given: str) -> Settings:
    return Settings.model_validate(environment("127.0.0.1:1", "x.", **given))


def config(monkeypatch: pytest.MonkeyPatch, given: Mapping[str, str], *arguments: str) -> Result:
    env = environment("127.0.0.1:1", "x.", **given)
    monkeypatch.setattr("os.environ", env)
    return CliRunner().invoke(cli, ["config", *arguments], env=env)


def refused(monkeypatch: pytest.MonkeyPatch, given: Mapping[str, str]) -> str:
    ended = config(monkeypatch, given)
    assert isinstance(ended.exception, SettingsError), ended
    assert ended.exception.exit_code == 2
    return str(ended.exception)


def in_file(folder: Path, text: str | bytes) -> Path:
    file = folder / "packs.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_packs_without_settings_are_those_of_the_old_service() -> None:
    policy = settings().policy

    assert policy.packs == dict(PACKS)
    assert (policy.trial_credits, policy.currency) == (500, "USD")


def test_old_names_in_any_letter_case_set_packs_and_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = {
        "small_pack_credits": "150",
        "Small_Pack_Price": "12",
        "LARGE_PACK_PRICE": "79.9",
        "trial_credits": "0",
        "trial_duration_days": "30",
        "Pending_Purchase_Expiry_Hours": "48",
    }
    monkeypatch.setattr("os.environ", environment("127.0.0.1:1", "x.", **given))
    found = Settings.from_env()

    assert found.policy.packs == {
        "small": Pack(150, {"USD": "12.00"}),
        "medium": Pack(500, {"USD": "39.99"}),
        "large": Pack(1000, {"USD": "79.90"}),
    }
    assert found.policy.trial_credits == 0
    assert found.policy.trial_duration == timedelta(days=30)
    assert found.policy.purchase_expiry == timedelta(hours=48)


def test_durations_with_units_win_over_days_and_hours() -> None:
    found = settings(
        TRIAL_DURATION="90s",
        TRIAL_DURATION_DAYS="30",
        PENDING_PURCHASE_EXPIRY="5m",
        PENDING_PURCHASE_EXPIRY_HOURS="48",
    )

    assert found.trial_duration == timedelta(seconds=90)
    assert found.pending_purchase_expiry == timedelta(minutes=5)


def test_a_file_may_have_any_packs_in_any_currencies(tmp_path: Path) -> None:
    found = settings(BILLING_CATALOGUE=str(in_file(tmp_path, GOOD)))

    assert found.policy.packs == {
        "starter": Pack(25, {"JPY": "300", "KWD": "0.750", "USD": "1.90"}, "Ein Anfang"),
        "big": Pack(1_000_000_000, {"USD": "999999999999.99"}),
    }
    assert [pack.shown_title for pack in found.packs.values()] == [
        *("Ein Anfang", "1000000000 credits")
    ]


def test_config_shows_packs_and_where_durations_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(in_file(tmp_path, GOOD))
    given = {"BILLING_CATALOGUE": file, "TRIAL_DURATION_DAYS": "7"}
    text = config(monkeypatch, given)
    shown = json.loads(config(monkeypatch, given, "--json").stdout)

    assert "pack starter: 25 credits for 300 JPY, 0.750 KWD, 1.90 USD (Ein Anfang)" in text.stdout
    assert shown["packs"]["big"]["prices"] == {"USD": "999999999999.99"}
    assert shown["BILLING_CATALOGUE"] == {"value": file, "source": "environment"}
    assert shown["TRIAL_DURATION"] == {"value": "7d", "source": "environment"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SMALL_PACK_PRICE": "9.999"}, "SMALL_PACK_PRICE: '9.999': USD has 2 decimals"),
        ({"SMALL_PACK_PRICE": "free"}, "SMALL_PACK_PRICE: 'free' is not an amount"),
        ({"SMALL_PACK_PRICE": "-1"}, "SMALL_PACK_PRICE: '-1' is not an amount"),
        ({"SMALL_PACK_PRICE": "0.00"}, "SMALL_PACK_PRICE: is zero"),
        ({"SMALL_PACK_PRICE": "1e3"}, "SMALL_PACK_PRICE: '1e3' is not an amount"),
        ({"LARGE_PACK_PRICE": "9" * 5000}, "LARGE_PACK_PRICE: '9999"),
        ({"BILLING_CURRENCY": "JPY"}, "MEDIUM_PACK_PRICE: '39.99': JPY has no decimals"),
        ({"BILLING_CURRENCY": "XXX"}, "BILLING_CURRENCY: is not a currency of ISO 4217"),
        ({"SMALL_PACK_CREDITS": "0"}, "SMALL_PACK_CREDITS:"),
        ({"SMALL_PACK_CREDITS": "1.5"}, "SMALL_PACK_CREDITS:"),
        ({"SMALL_PACK_CREDITS": "9" * 30}, "SMALL_PACK_CREDITS:"),
        ({"TRIAL_CREDITS": "-1"}, "TRIAL_CREDITS:"),
        ({"TRIAL_DURATION_DAYS": "0"}, "TRIAL_DURATION_DAYS:"),
        ({"TRIAL_DURATION_DAYS": "14d"}, "TRIAL_DURATION_DAYS:"),
        ({"TRIAL_DURATION": "9" * 12 + "d"}, "TRIAL_DURATION: a duration is 36500 days at most"),
        ({"PENDING_PURCHASE_EXPIRY_HOURS": "-3"}, "PENDING_PURCHASE_EXPIRY_HOURS:"),
    ],
    ids=range(16),
)
def test_a_wrong_setting_names_itself(
    given: Mapping[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said in refused(monkeypatch, given)


def test_a_file_and_pack_settings_together_are_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(in_file(tmp_path, GOOD))
    given = {"BILLING_CATALOGUE": file, "small_pack_price": "9.99", "LARGE_PACK_CREDITS": "7"}
    said = "BILLING_CATALOGUE and SMALL_PACK_PRICE, LARGE_PACK_CREDITS are both set"
    assert said in refused(monkeypatch, given)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no packs"),
        ("[packs]", "has no packs"),
        ("packs = 5", "has no packs"),
        ("[packs.a", "is not TOML"),
        (GOOD + "[packs.big]\ncredits = 5", "is not TOML"),
        (GOOD + "[packs.Big]\ncredits = 5\nprice = {USD = '1'}", "packs.Big: is big in other"),
        ("[pack.a]\ncredits = 5", "'pack' is not known: only packs"),
        (b"[packs.a]\ntitle = '\xff'", "is not UTF-8, at byte 19"),
        ("packs.a = 5", "packs.a: is a number and no table"),
        ("[packs.a]\ncredits = 5", "packs.a.price: is missing"),
        ("[packs.a]\nprice = {USD = '1'}", "packs.a.credits: is missing"),
        ("[packs.a]\ncredits = -5", "packs.a.credits: must be a whole number from 1"),
        ("[packs.a]\ncredits = true", "packs.a.credits: must be a whole number"),
        ("[packs.a]\ncredits = 5.0", "packs.a.credits: must be a whole number"),
        ("[packs.a]\ncredits = 1000000001", "packs.a.credits: must be a whole number"),
        ("[packs.a]\ncredits = " + "9" * 5000, "cannot be read"),
        ("[packs.a]\ncost = 5", "packs.a.cost: is not known; there are credits, title, price"),
        ("[packs.a]\ntitle = ' '", "packs.a.title: must be a text"),
        ("[packs.a]\ntitle = 'x\\n'\n", "packs.a.credits"),
        ("[packs.a]\ntitle = 5", "packs.a.title: must be a text"),
        ("[packs.'a b']\ncredits = 5", "a name has 1 to 64 letters"),
        ("[packs.'']\ncredits = 5", "a name has 1 to 64 letters"),
        ("[packs.a.price]\nUSD = 9.99", "packs.a.price.USD: is a number"),
        ("[packs.a.price]\nUSD = 10", "packs.a.price.USD: is a number: write the amount in"),
        ("[packs.a.price]\nUSD = true", "packs.a.price.USD: is true or false"),
        (
            "[packs.a.price]\nusd = '1'",
            "price.usd: is not a currency of ISO 4217: write USD",
        ),
        ("[packs.a.price]\nXYZ = '1'", "packs.a.price.XYZ: is not a currency of ISO 4217"),
        ("[packs.a.price]\nUSD = '1.001'", "packs.a.price.USD: '1.001': USD has 2 decimals"),
        ("[packs.a.price]\nJPY = '1.0'", "packs.a.price.JPY: '1.0': JPY has no decimals"),
        ("[packs.a.price]\nKWD = '1.0001'", "KWD has 3 decimals"),
        ("[packs.a.price]\nUSD = '-1'", "packs.a.price.USD: '-1' is not an amount"),
        ("[packs.a.price]\nUSD = ' 1'", "is not an amount"),
        ("[packs.a.price]\nUSD = ''", "is not an amount"),
        ("[packs.a.price]", "packs.a.price: is missing"),
        ("[packs.a]\ncredits = 5\nprice = {EUR = '1'}", "no pack has a price in USD"),
    ],
    ids=range(35),
)
def test_a_wrong_file_names_file_pack_and_key(
    text: str | bytes, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = in_file(tmp_path, text)
    message = refused(monkeypatch, {"BILLING_CATALOGUE": str(file)})

    assert said in message, message
    assert f"BILLING_CATALOGUE: {file}: " in message


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match="No such file"):
        read_catalogue(tmp_path / "missing.toml", "USD")
    with pytest.raises(CatalogueError, match="Is a directory"):
        read_catalogue(tmp_path, "USD")
    with pytest.raises(CatalogueError, match="more than 1048576 bytes"):
        read_catalogue(in_file(tmp_path, "#" * (1 << 21)), "USD")
    with pytest.raises(CatalogueError, match="is not TOML"):
        read_catalogue(in_file(tmp_path, "a = " + "[" * 10_000), "USD")


@pytest.mark.parametrize("currency", DECIMALS)
def test_a_price_has_the_decimals_of_its_currency(currency: str) -> None:
    decimals = DECIMALS[currency]

    assert price_of("12", currency) == ("12." + "0" * decimals if decimals else "12")
    with pytest.raises(ValueError, match=f"{currency} has"):
        price_of("1." + "0" * (decimals + 1), currency)
