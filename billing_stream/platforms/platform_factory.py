"""Which platforms there are, by the settings."""

from collections.abc import Mapping
from datetime import datetime

from pydantic import SecretStr

from billing_stream.config.settings import AppEnv, Settings
from billing_stream.domain.model import Platform as PlatformName
from billing_stream.errors import SettingsError
from billing_stream.platforms import custom, shopify, shopify_webhooks, stripe, stripe_webhooks
from billing_stream.platforms.base import Platform, WebhookContent
from billing_stream.platforms.local import Local, WebhookReader
from billing_stream.platforms.sellable import price_problems
from billing_stream.platforms.tokens import (
    EnvironmentTokens,
    FileTokens,
    HttpTokens,
    TokenHeaders,
    TokenProvider,
)


def new_platforms(settings: Settings, token_headers: TokenHeaders) -> dict[PlatformName, Platform]:
    """Every platform on which a checkout can be opened.

    In staging and production these are the real ones, in development and tests a local
    stand-in where there is no account. `token_headers` are for the service of access tokens.
    Raises SettingsError.
    """
    found: dict[PlatformName, Platform | None] = {
        PlatformName.SHOPIFY: _shopify(settings, token_headers),
        PlatformName.STRIPE: _stripe(settings),
        PlatformName.CUSTOM: _custom(settings),
    }
    return {name: platform for name, platform in found.items() if platform is not None}


def _shopify(settings: Settings, token_headers: TokenHeaders) -> Platform:
    secrets = _texts(settings.shopify_api_secret, settings.shopify_api_secret_old)
    tokens = _tokens(settings, token_headers)
    if tokens is None and not settings.is_real:

        def read(headers: Mapping[str, str], body: bytes, now: datetime) -> WebhookContent:
            return shopify_webhooks.read_webhook(headers, body, secrets)

        return _local(settings, read, charges="gid://shopify/AppPurchaseOneTime/")
    return shopify.Shopify(
        tokens or EnvironmentTokens("{}"),
        api_url=settings.shopify_api_url,
        # Settings refuse to be without one.
        api_version=settings.shopify_api_version or "",
        test=settings.app_env is not AppEnv.PRODUCTION,
        secrets=secrets,
    )


def _tokens(settings: Settings, token_headers: TokenHeaders) -> TokenProvider | None:
    text = "".join(_texts(settings.shopify_access_tokens))
    path = settings.shopify_access_tokens_file
    url = settings.shopify_access_tokens_url
    if text:
        return EnvironmentTokens(text)
    if path:
        return FileTokens(path)
    if url:
        return HttpTokens(url, token_headers)
    return None


def _stripe(settings: Settings) -> Platform | None:
    secrets = _texts(settings.stripe_webhook_secret, settings.stripe_webhook_secret_old)
    key = "".join(_texts(settings.stripe_api_key))
    if key:
        problems = list(price_problems(settings, settings.packs))
        if problems:
            raise SettingsError("\n".join(problems))
        return stripe.Stripe(
            key,
            api_url=settings.stripe_api_url,
            secrets=secrets,
            adaptive_pricing=settings.stripe_adaptive_pricing,
        )
    if settings.is_real:
        return None

    def read(headers: Mapping[str, str], body: bytes, now: datetime) -> WebhookContent:
        return stripe_webhooks.read_webhook(headers, body, now, secrets)

    return _local(settings, read)


def _custom(settings: Settings) -> Platform | None:
    secrets = _texts(settings.custom_gateway_secret, settings.custom_gateway_secret_old)
    if settings.custom_gateway_url:
        return custom.Custom(
            settings.custom_gateway_url,
            secrets=secrets,
            lookup_url=settings.custom_gateway_lookup_url,
        )
    if settings.is_real:
        return None

    def read(headers: Mapping[str, str], body: bytes, now: datetime) -> WebhookContent:
        return custom.read_webhook(headers, body, now, secrets)

    return _local(settings, read)


def _local(settings: Settings, read: WebhookReader, *, charges: str = "local_") -> Local:
    """The stand-in; without a secret, `read` takes every webhook for forged."""
    base_url = settings.public_url or f"http://{settings.api_host}:{settings.api_external_port}"
    return Local(base_url, settings.internal_jwt_secret.get_secret_value(), read, charges=charges)


def _texts(*values: SecretStr | None) -> list[str]:
    """Those that are set: an empty variable counts as missing."""
    texts = (value.get_secret_value().strip() for value in values if value is not None)
    return [text for text in texts if text]
