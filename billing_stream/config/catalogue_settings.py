"""Packs, prices, trial credits, and the times after which trials and purchases expire."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import Field, PrivateAttr, model_validator
from pydantic_settings import BaseSettings

from billing_stream.config.catalogue_file import (
    CREDITS_MAX,
    CatalogueError,
    price_of,
    read_catalogue,
)
from billing_stream.config.durations import Duration
from billing_stream.config.setting import CurrencyCode, setting
from billing_stream.domain.currencies import DECIMALS
from billing_stream.domain.policy import PACKS, OncePer, Pack, Policy

CATALOGUE = "BILLING_CATALOGUE"
OLD_NAMES: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "TRIAL_DURATION": ("TRIAL_DURATION_DAYS", "d"),
        "PENDING_PURCHASE_EXPIRY": ("PENDING_PURCHASE_EXPIRY_HOURS", "h"),
    }
)
"""Of each duration, its name in the old service, with the unit that it is counted in there."""
_DEFAULT_CURRENCY = "USD"


def _credits(name: str) -> Any:
    return Field(
        validation_alias=f"{name.upper()}_PACK_CREDITS",
        description=f"credits of the pack {name}",
        default=PACKS[name].credits,
        ge=1,
        le=CREDITS_MAX,
    )


def _price(name: str) -> Any:
    return Field(
        validation_alias=f"{name.upper()}_PACK_PRICE",
        description=f"price of the pack {name} in BILLING_CURRENCY, e.g. 9.99",
        default=PACKS[name].prices[_DEFAULT_CURRENCY],
    )


class CatalogueSettings(BaseSettings):
    """Packs and their prices, the trial, and how long a purchase waits. See docs/catalogue.md."""

    currency: CurrencyCode = setting(
        "BILLING_CURRENCY",
        "currency of the prices below, and of purchases without one (ISO 4217)",
        _DEFAULT_CURRENCY,
    )
    catalogue: Path | None = setting(
        CATALOGUE,
        "TOML file with packs and prices, instead of the six settings below",
    )
    small_pack_credits: int = _credits("small")
    small_pack_price: str = _price("small")
    medium_pack_credits: int = _credits("medium")
    medium_pack_price: str = _price("medium")
    large_pack_credits: int = _credits("large")
    large_pack_price: str = _price("large")
    trial_credits: int = setting(
        "TRIAL_CREDITS",
        "credits that a trial announces",
        Policy().trial_credits,
        ge=0,
        le=CREDITS_MAX,
    )
    trial_duration: Duration = setting(
        "TRIAL_DURATION", "length of the free trial", timedelta(days=14)
    )
    trial_duration_days: int | None = setting(
        "TRIAL_DURATION_DAYS",
        "the same in days; TRIAL_DURATION wins",
        ge=1,
        le=36_500,
    )
    trial_reminder: Duration = setting(
        "TRIAL_REMINDER",
        "how long before its end the end of a trial is announced",
        timedelta(days=3),
    )
    trial_once_per: OncePer = setting(
        "TRIAL_ONCE_PER",
        "one trial per `merchant` (id), or per `shop` of a platform",
        OncePer.MERCHANT,
    )
    pending_purchase_expiry: Duration = setting(
        "PENDING_PURCHASE_EXPIRY", "how long a purchase waits for payment", timedelta(hours=24)
    )
    pending_purchase_expiry_hours: int | None = setting(
        "PENDING_PURCHASE_EXPIRY_HOURS",
        "the same in hours; PENDING_PURCHASE_EXPIRY wins",
        ge=1,
        le=876_000,
    )
    currency_of_old_rows: CurrencyCode | None = setting(
        "BILLING_CURRENCY_OF_OLD_ROWS",
        "currency of purchases of releases up to 0.5.1; required once after an upgrade",
    )

    _packs: dict[str, Pack] = PrivateAttr(default_factory=lambda: dict(PACKS))

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        found = dict(given)
        for name, (old, unit) in OLD_NAMES.items():
            count = str(found.get(old, "")).strip()
            # What is malformed is reported under the name that it has.
            if name not in found and count.isdecimal() and 0 < int(count) <= 876_000:
                found[name] = f"{int(count)}{unit}"
        return found

    @property
    def packs(self) -> dict[str, Pack]:
        """The packs by name, as they were when the settings were read."""
        return dict(self._packs)

    def catalogue_problems(self) -> list[str]:
        """Take the packs from the settings or the file; the problems found."""
        problems = []
        for name, code in (
            ("BILLING_CURRENCY", self.currency),
            ("BILLING_CURRENCY_OF_OLD_ROWS", self.currency_of_old_rows),
        ):
            if code is not None and code not in DECIMALS:
                problems.append(f"{name}: is not a currency of ISO 4217")
        given = self._pack_settings_given()
        if self.catalogue is not None and given:
            problems.append(
                f"{CATALOGUE} and {', '.join(given)} are both set: put the packs into the file, "
                "or unset it"
            )
        if problems:
            return problems
        if self.catalogue is None:
            self._packs, problems = self._of_settings()
            return problems
        try:
            self._packs = read_catalogue(self.catalogue, self.currency)
        except CatalogueError as error:
            return [f"{CATALOGUE}: {line}" for line in str(error).splitlines()]
        return problems

    def _pack_settings_given(self) -> list[str]:
        fields = type(self).model_fields
        own = [name for name in fields if name.endswith(("_pack_credits", "_pack_price"))]
        given = [name for name in own if name in self.model_fields_set]
        return [str(fields[name].validation_alias) for name in given]

    def _of_settings(self) -> tuple[dict[str, Pack], list[str]]:
        packs, problems = {}, []
        for name in PACKS:
            try:
                price = price_of(getattr(self, f"{name}_pack_price"), self.currency)
            except ValueError as error:
                problems.append(f"{name.upper()}_PACK_PRICE: {error}")
            else:
                packs[name] = Pack(getattr(self, f"{name}_pack_credits"), {self.currency: price})
        return packs, problems
