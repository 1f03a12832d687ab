"""Everything that can be set, all of it from the environment or a `.env`."""

from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import SecretStr, ValidationError, model_validator
from pydantic_settings import SettingsConfigDict

from billing_stream.config.catalogue_settings import CatalogueSettings
from billing_stream.config.deliver_settings import DeliverSettings
from billing_stream.config.durations import Duration
from billing_stream.config.env_file import env_files
from billing_stream.config.kafka_security import KafkaSecuritySettings, postgres_problems
from billing_stream.config.limit_settings import LimitSettings
from billing_stream.config.listener_settings import ListenerSettings
from billing_stream.config.log_settings import LogSettings
from billing_stream.config.peer_settings import PeerSettings
from billing_stream.config.production_checks import platform_problems, production_problems
from billing_stream.config.projection_settings import ProjectionSettings
from billing_stream.config.reconcile_settings import ReconcileSettings
from billing_stream.config.setting import Count, HttpUrl, LongSecret, Name, required, setting
from billing_stream.config.settings_errors import settings_errors
from billing_stream.config.trace_settings import TraceSettings
from billing_stream.config.webhook_settings import WebhookSettings
from billing_stream.domain.policy import Policy
from billing_stream.errors import SettingsError
from billing_stream.plain_text import passwords_in


class AppEnv(StrEnum):
    """Where this runs. In staging and production the platforms are real."""

    DEVELOPMENT = "development"
    TEST = "test"
    STAGING = "staging"
    PRODUCTION = "production"


_BEFORE = "previous secret, accepted while it is replaced"
_BEFORE_OR_AFTER = "previous or next secret, accepted while it is replaced"
STORE = "memory"
STORE_REMOVED = (
    "can only be memory: the store on disk was removed. Give each worker memory for all its rows "
    "(`billing-stream docs scale`), then remove BILLING_STORE and BILLING_STORE_CACHE_MB. Rows are "
    "in Kafka"
)


class Settings(
    CatalogueSettings,
    KafkaSecuritySettings,
    ListenerSettings,
    LogSettings,
    TraceSettings,
    LimitSettings,
    WebhookSettings,
    ReconcileSettings,
    PeerSettings,
    ProjectionSettings,
    DeliverSettings,
):
    """The settings of every process; the variable of each is its alias."""

    model_config = SettingsConfigDict(
        frozen=True, hide_input_in_errors=True, extra="ignore", env_ignore_empty=True
    )

    # Whether it needs what signs tokens, and what the platforms know it by.
    serves_clients: ClassVar[bool] = True

    app_env: AppEnv = required("APP_ENV", "development, test, staging or production")
    kafka_bootstrap_servers: str = required(
        "KAFKA_BOOTSTRAP_SERVERS",
        "Kafka brokers, host:port, comma separated",
        pattern=r"^[^\s,:]+:\d{1,5}(,[^\s,:]+:\d{1,5})*$",
    )
    client_jwt_secret: LongSecret = required("CLIENT_JWT_SECRET", "signs tokens of clients (HS256)")
    client_jwt_secret_old: LongSecret | None = setting("CLIENT_JWT_SECRET_OLD", _BEFORE_OR_AFTER)
    internal_jwt_secret: LongSecret = required(
        "INTERNAL_JWT_SECRET", "signs tokens of workers and operators (HS256)"
    )
    internal_jwt_secret_old: LongSecret | None = setting(
        "INTERNAL_JWT_SECRET_OLD", _BEFORE_OR_AFTER
    )
    database_url: SecretStr | None = setting(
        "DATABASE_URL", "PostgreSQL for the projection; optional for workers"
    )
    shopify_api_key: SecretStr | None = setting(
        "SHOPIFY_API_KEY", "Shopify app key; required in staging and production"
    )
    shopify_api_secret: SecretStr | None = setting(
        "SHOPIFY_API_SECRET",
        "Shopify app secret, signs its webhooks; required in staging and production",
    )
    shopify_api_secret_old: SecretStr | None = setting("SHOPIFY_API_SECRET_OLD", _BEFORE)
    shopify_api_version: str | None = setting(
        "SHOPIFY_API_VERSION",
        "for example 2026-10; required in staging and production",
        pattern=r"^([0-9]{4}-[0-9]{2}|unstable)$",
    )
    shopify_access_tokens: SecretStr | None = setting(
        "SHOPIFY_ACCESS_TOKENS", 'access tokens of shops as JSON, {"shop domain": "token"}'
    )
    shopify_access_tokens_file: Path | None = setting(
        "SHOPIFY_ACCESS_TOKENS_FILE", "a file with the same, read again when it changes"
    )
    shopify_access_tokens_url: str | None = setting(
        "SHOPIFY_ACCESS_TOKENS_URL",
        "a service with the same; {shop} is replaced (docs/platforms.md)",
        pattern=r"^https?://[^\s]*\{shop\}[^\s]*$",
    )
    shopify_api_url: HttpUrl = setting(
        "SHOPIFY_API_URL", "address of the Admin API; {shop} is replaced", "https://{shop}"
    )
    stripe_api_key: SecretStr | None = setting(
        "STRIPE_API_KEY", "Stripe's secret key; switches Stripe on"
    )
    stripe_webhook_secret: SecretStr | None = setting(
        "STRIPE_WEBHOOK_SECRET", "signs Stripe's webhooks; required with STRIPE_API_KEY"
    )
    stripe_webhook_secret_old: SecretStr | None = setting("STRIPE_WEBHOOK_SECRET_OLD", _BEFORE)
    stripe_api_url: HttpUrl = setting(
        "STRIPE_API_URL", "address of Stripe's API", "https://api.stripe.com"
    )
    stripe_adaptive_pricing: bool = setting(
        "STRIPE_ADAPTIVE_PRICING",
        "whether Stripe may charge in the merchant's own currency",
        False,
    )
    custom_gateway_url: HttpUrl | None = setting(
        "CUSTOM_GATEWAY_URL", "address at which your gateway opens checkouts; switches it on"
    )
    custom_gateway_secret: LongSecret | None = setting(
        "CUSTOM_GATEWAY_SECRET",
        "signs requests to your gateway and its webhooks; required with its address",
    )
    custom_gateway_secret_old: SecretStr | None = setting("CUSTOM_GATEWAY_SECRET_OLD", _BEFORE)
    public_url: HttpUrl | None = setting(
        "BILLING_PUBLIC_URL",
        "address of this service for browsers; by default this worker",
    )
    ops_url: HttpUrl | None = setting(
        "BILLING_OPS_URL",
        "address of the dashboard for browsers; by default BILLING_PUBLIC_URL",
    )
    partitions: int = setting("BILLING_PARTITIONS", "partitions of every topic", 8, ge=1, le=1024)
    replication_factor: int = setting(
        "BILLING_REPLICATION_FACTOR", "replicas of every topic", 1, ge=1, le=16
    )
    request_deadline: Duration = setting(
        "BILLING_REQUEST_DEADLINE",
        "time after which a request gets 504 at the latest",
        timedelta(seconds=10),
    )
    drain_delay: Duration = setting(
        "BILLING_DRAIN_DELAY",
        "how long a worker still serves, not ready, after SIGTERM",
        timedelta(seconds=3),
    )
    requests_per_minute: int = setting(
        "BILLING_REQUESTS_PER_MINUTE",
        "requests per shop, minute and worker; more get 429",
        600,
        ge=1,
        le=1_000_000,
    )
    requests_waiting_max: Count = setting(
        "BILLING_REQUESTS_WAITING_MAX",
        "requests in flight per worker; more get 503",
        512,
    )
    shop_requests_waiting_max: Count = setting(
        "BILLING_SHOP_REQUESTS_WAITING_MAX",
        "commands in flight per shop and worker; more get 429",
        64,
    )
    max_body_bytes: int = setting(
        "BILLING_MAX_BODY_BYTES",
        "bytes of a request body; a longer one is refused",
        262_144,
        ge=8192,
        le=1_000_000,
    )
    data_dir: Path = setting("BILLING_DATA_DIR", "folder for local files", Path(".data"))
    store: str = setting(
        "BILLING_STORE", "only `memory`; the store on disk was removed (docs/upgrade.md)", STORE
    )
    worker_name: Name | None = setting(
        "BILLING_WORKER_NAME",
        "name of this worker: with it a restart keeps its partitions",
    )
    app_id: Name = setting(
        "BILLING_APP_ID",
        "consumer group; prefix of changelogs and transactional ids",
        "billing-stream",
    )
    topic_prefix: str = setting(
        "BILLING_TOPIC_PREFIX",
        "prefix of every topic, for several systems on one cluster",
        "",
        pattern=r"^[A-Za-z0-9._-]{0,100}$",
    )
    session_timeout: Duration = setting(
        "BILLING_SESSION_TIMEOUT",
        "time without a heartbeat after which a worker loses its partitions",
        timedelta(seconds=8),
    )
    max_record_bytes: int = setting(
        "BILLING_MAX_RECORD_BYTES",
        "bytes of a record; a longer one is a dead letter",
        262_144,
        ge=1024,
        le=1_000_000,
    )
    stuck_not_ready_after: Duration = setting(
        "BILLING_STUCK_NOT_READY_AFTER",
        "time without progress after which a worker is not ready",
        timedelta(seconds=30),
    )
    stuck_exit_after: Duration = setting(
        "BILLING_STUCK_EXIT_AFTER",
        "time without progress after which a worker ends, to be restarted",
        timedelta(minutes=2),
    )
    poison_in_a_row: int = setting(
        "BILLING_POISON_IN_A_ROW",
        "invalid records in a row, above which an input stops",
        1_000,
        ge=1,
    )
    poison_percent: int = setting(
        "BILLING_POISON_PERCENT",
        "invalid ones of the latest 10,000 records, in percent, above which an input stops",
        50,
        ge=1,
        le=100,
    )
    crash_at: str | None = setting(
        "BILLING_CRASH_AT",
        "for tests of the engine: point at which the process ends",
    )

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems = []
        if self.store != STORE:
            problems.append(f"BILLING_STORE {STORE_REMOVED}")
        if self.crash_at is not None and self.app_env is not AppEnv.TEST:
            problems.append("BILLING_CRASH_AT is for APP_ENV=test only")
        problems += self.catalogue_problems()
        problems += self.listener_problems()
        if self.serves_clients:
            problems += platform_problems(self)
        if self.is_real:
            problems += production_problems(self)
        problems += self.security_problems()
        if self.database_url is not None:
            problems += postgres_problems("DATABASE_URL", self.database_url.get_secret_value())
        if problems:
            raise ValueError("\n".join(problems))
        return self

    @classmethod
    def from_env(cls) -> "Settings":
        """Read the environment, and `env_files()` for what it leaves open.

        Raises SettingsError, which names every variable that is missing, malformed or too weak
        at once, and shows no value.
        """
        files = env_files()
        options: dict[str, Any] = {"_env_file": files}
        try:
            return cls(**options)
        except ValidationError as error:
            found = settings_errors(error, cls, lambda known: cls(**options, **known))
            lines = [f"  {line}" for line in found]
            lines.append("`billing-stream docs settings` has them all")
            raise SettingsError("these settings are not right:\n" + "\n".join(lines)) from None
        except (OSError, UnicodeDecodeError) as error:
            names = " or ".join(map(str, files))
            raise SettingsError(f"{names}: cannot be read: {error}") from None

    @property
    def is_real(self) -> bool:
        """Whether merchants and money are real, or rehearsed as such: staging and production."""
        return self.app_env in (AppEnv.STAGING, AppEnv.PRODUCTION)

    def secret_values(self) -> list[str]:
        """Every secret, for what must keep them out of sight; passwords in addresses are some."""
        found = [getattr(self, name) for name in type(self).model_fields]
        secrets = [one.get_secret_value() for one in found if isinstance(one, SecretStr)]
        addresses = [text for text in (*secrets, *found) if isinstance(text, str)]
        return secrets + [one for address in addresses for one in passwords_in(address)]

    @property
    def client_jwt_secrets(self) -> tuple[str, ...]:
        """What tokens of clients may be signed with; the first is what we sign with."""
        return _those_set(self.client_jwt_secret, self.client_jwt_secret_old)

    @property
    def internal_jwt_secrets(self) -> tuple[str, ...]:
        """The same between our own processes, and for operators."""
        return _those_set(self.internal_jwt_secret, self.internal_jwt_secret_old)

    @property
    def bootstrap_servers(self) -> list[str]:
        """The brokers, each host:port."""
        return self.kafka_bootstrap_servers.split(",")

    @property
    def policy(self) -> Policy:
        """The numbers in the rules."""
        return Policy(
            trial_duration=self.trial_duration,
            trial_credits=self.trial_credits,
            trial_reminder=self.trial_reminder,
            trial_once_per=self.trial_once_per,
            currency=self.currency,
            currency_of_old_rows=self.currency_of_old_rows,
            packs=self.packs,
            purchase_expiry=self.pending_purchase_expiry,
            **self.merchant_limits,
            accept_discounts=self.accept_discounts,
            test_clock=self.app_env in (AppEnv.DEVELOPMENT, AppEnv.TEST),
        )


def _those_set(*secrets: SecretStr | None) -> tuple[str, ...]:
    return tuple(text for secret in secrets if secret and (text := secret.get_secret_value()))
