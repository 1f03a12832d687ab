"""What settings must not be in staging and production: secrets that can be guessed, plain HTTP.

Each problem names its variables and shows no value.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from itertools import combinations, pairwise
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec
from pydantic import SecretStr

if TYPE_CHECKING:
    from billing_stream.config.settings import Settings

OWN_LENGTH_MIN = 32
PLATFORM_LENGTH_MIN = 16
# Random hexadecimal digits have about 14 of each in 32 characters.
OWN_VARIETY_MIN = 10
PLATFORM_VARIETY_MIN = 8


class _Demands(NamedTuple):
    """The least number of characters, and of different ones and steps between neighbours."""

    length: int
    variety: int


_OWN = _Demands(OWN_LENGTH_MIN, OWN_VARIETY_MIN)
_OF_PLATFORMS = _Demands(PLATFORM_LENGTH_MIN, PLATFORM_VARIETY_MIN)
# Chosen by whoever runs the brokers: neither an example nor repeated, of any length.
_PASSWORD = _Demands(1, 1)
_SIGNING: Mapping[str, _Demands] = {
    "CLIENT_JWT_SECRET": _OWN,
    "CLIENT_JWT_SECRET_OLD": _OWN,
    "INTERNAL_JWT_SECRET": _OWN,
    "INTERNAL_JWT_SECRET_OLD": _OWN,
    "CUSTOM_GATEWAY_SECRET": _OWN,
    "CUSTOM_GATEWAY_SECRET_OLD": _OWN,
    "SHOPIFY_API_SECRET": _OF_PLATFORMS,
    "SHOPIFY_API_SECRET_OLD": _OF_PLATFORMS,
    "STRIPE_API_KEY": _OF_PLATFORMS,
    "STRIPE_WEBHOOK_SECRET": _OF_PLATFORMS,
    "STRIPE_WEBHOOK_SECRET_OLD": _OF_PLATFORMS,
    "KAFKA_SASL_PASSWORD": _PASSWORD,
    "KAFKA_SSL_KEY_PASSWORD": _PASSWORD,
}
_ADDRESSES = (
    "SHOPIFY_ACCESS_TOKENS_URL",
    "SHOPIFY_API_URL",
    "STRIPE_API_URL",
    "CUSTOM_GATEWAY_URL",
    "CUSTOM_GATEWAY_LOOKUP_URL",
)
# Looked for in letters and digits only: change-me, CHANGE_ME and "change me" are one word.
_EXAMPLES = re.compile(
    "chang(e|ing|ed)(me|it|this)|replaceme|replacethis|example|placeholder|passw(or)?d|secret|"
    "insecure|letmein|qwert|foobar|deadbeef|dummy|todofill|yourkey|yourtoken|insertyour|fortest|"
    "notsafe|unsafe|keyboardcat"
)
_NOT_PLAIN = re.compile(r"[\W_]+")


def production_problems(settings: "Settings") -> Iterator[str]:
    """Each setting too weak for real merchants and money, by its variables."""
    values = _values(settings)
    secrets = {name: secret for name in _SIGNING if (secret := _secret(values.get(name)))}
    for name, demands in _SIGNING.items():
        why = _weakness(secrets[name], demands) if name in secrets else None
        if why is not None:
            yield f"{name} {why}: make one with `openssl rand -hex 32`, or take the platform's own"
    yield from _shared(secrets | _other_secrets(values))
    for name in _ADDRESSES:
        if values.get(name) is not None and not _is_safe(str(values[name])):
            yield f"{name} must be https: keys and tokens are sent to it"
    if settings.serves_clients:
        yield from settings.unchosen_ports()
    if settings.peers is None:
        yield f"BILLING_PEERS is needed when APP_ENV is {settings.app_env}: addresses of workers"
    if "kafka_security_protocol" not in settings.model_fields_set:
        yield (
            "KAFKA_SECURITY_PROTOCOL must be chosen: SASL_SSL or SSL, or PLAINTEXT, which sends "
            "everything to Kafka unencrypted"
        )


def _values(settings: "Settings") -> dict[str, object]:
    fields = type(settings).model_fields
    return {str(field.validation_alias): getattr(settings, name) for name, field in fields.items()}


def _secret(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else ""


def _other_secrets(values: Mapping[str, object]) -> dict[str, str]:
    """What no secret may be equal to, though it is not demanded to be strong."""
    try:
        password = urlsplit(_secret(values.get("DATABASE_URL"))).password
    except ValueError:
        password = None
    # The key of a Shopify app is known to every merchant's browser.
    found = {"SHOPIFY_API_KEY": _secret(values.get("SHOPIFY_API_KEY"))}
    return {**found, "the password in DATABASE_URL": unquote(password or "")}


def _weakness(secret: str, demands: _Demands) -> str | None:
    text = secret.strip()
    if not text:
        return "is blank"
    if len(text) < demands.length:
        return f"must have {demands.length} characters at least, blanks at its ends not counted"
    if _EXAMPLES.search(_NOT_PLAIN.sub("", text.lower())):
        return "is an example or contains a word that anyone would try"
    steps = {ord(b) - ord(a) for a, b in pairwise(text)}
    if min(len(set(text)), len(steps)) < demands.variety or _is_repeated(text):
        return "consists of repeated characters or a sequence"
    return None


def _is_repeated(text: str) -> bool:
    """Whether it is a shorter text, several times or once and in part again.

    >>> _is_repeated("a1b2c3d4" * 4), _is_repeated("a1b2c3d4a1b2"), _is_repeated("a1b2c3d4")
    (True, False, False)
    """
    return any(text[part:] == text[:-part] for part in range(1, len(text) // 2 + 1))


def _shared(secrets: Mapping[str, str]) -> Iterator[str]:
    given = {name: text.strip() for name, text in secrets.items() if text.strip()}
    for (one, first), (other, second) in combinations(given.items(), 2):
        # While a secret is replaced, the old one may still be the present one.
        if first == second and other != f"{one}_OLD":
            yield f"{one} and {other} are the same: give each a value of its own"


def _is_safe(address: str) -> bool:
    """Whether connections to an address are encrypted, or stay on this machine.

    >>> _is_safe("http://127.0.0.1:80/x"), _is_safe("http://localhost.evil.example")
    (True, False)
    """
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return False
    return parts.scheme == "https" or is_loopback(host)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def platform_problems(settings: "Settings") -> Iterator[str]:
    """What the platforms need, in whatever environment."""
    sources = {
        "SHOPIFY_ACCESS_TOKENS": _secret(settings.shopify_access_tokens).strip(),
        "SHOPIFY_ACCESS_TOKENS_FILE": settings.shopify_access_tokens_file,
        "SHOPIFY_ACCESS_TOKENS_URL": settings.shopify_access_tokens_url,
    }
    given = [name for name, value in sources.items() if value]
    if len(given) > 1:
        yield f"{' and '.join(given)}: only one of them can be where tokens come from"
    if text := sources["SHOPIFY_ACCESS_TOKENS"]:
        try:
            msgspec.json.decode(str(text), type=dict[str, str])
        except (msgspec.DecodeError, UnicodeError):
            yield 'SHOPIFY_ACCESS_TOKENS is not a JSON object {"shop domain": "token"}'
    yield from _needed(settings, given)


def _needed(settings: "Settings", token_sources: Sequence[str]) -> Iterator[str]:
    values = _values(settings)
    in_env = f"when APP_ENV is {settings.app_env}"
    if settings.is_real:
        needs = [(name, in_env) for name in ("KEY", "SECRET", "VERSION")]
        needs = [(f"SHOPIFY_API_{name}", why) for name, why in needs]
    else:
        needs = [("SHOPIFY_API_VERSION", f"with {name}") for name in token_sources[:1]]
    if _secret(settings.stripe_api_key).strip():
        needs.append(("STRIPE_WEBHOOK_SECRET", "with STRIPE_API_KEY"))
    if settings.custom_gateway_url:
        needs.append(("CUSTOM_GATEWAY_SECRET", "with CUSTOM_GATEWAY_URL"))
    for name, why in needs:
        value = values[name]
        if not (_secret(value) if isinstance(value, SecretStr) else str(value or "")).strip():
            yield f"{name} is needed {why}"
