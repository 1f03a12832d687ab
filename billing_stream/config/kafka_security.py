"""How we connect to Kafka: TLS, who we are at the brokers, and how long a start waits."""

import ssl
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr
from pydantic_settings import BaseSettings

from billing_stream.config.durations import Duration
from billing_stream.config.setting import setting

_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


class KafkaSecuritySettings(BaseSettings):
    """The connections to Kafka; `security_problems` checks their security as a whole.

    PostgreSQL has its own in DATABASE_URL, as libpq names them: sslmode, sslrootcert, ...
    """

    kafka_security_protocol: str = setting(
        "KAFKA_SECURITY_PROTOCOL",
        "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL; required in staging and production",
        "PLAINTEXT",
        pattern="^(PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)$",
    )
    kafka_sasl_mechanism: str | None = setting(
        "KAFKA_SASL_MECHANISM",
        "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
        pattern="^(PLAIN|SCRAM-SHA-256|SCRAM-SHA-512)$",
    )
    kafka_sasl_username: str | None = setting("KAFKA_SASL_USERNAME", "user name at the brokers")
    kafka_sasl_password: SecretStr | None = setting(
        "KAFKA_SASL_PASSWORD", "password at the brokers"
    )
    kafka_ssl_cafile: Path | None = setting(
        "KAFKA_SSL_CAFILE",
        "certificates (PEM) that vouch for the brokers; by default those of the system",
    )
    kafka_ssl_certfile: Path | None = setting(
        "KAFKA_SSL_CERTFILE",
        "client certificate (PEM, with its chain)",
    )
    kafka_ssl_keyfile: Path | None = setting(
        "KAFKA_SSL_KEYFILE",
        "its key (PEM); by default in the same file",
    )
    kafka_ssl_key_password: SecretStr | None = setting(
        "KAFKA_SSL_KEY_PASSWORD", "password of an encrypted key"
    )
    start_deadline: Duration = setting(
        "BILLING_START_DEADLINE",
        "how long a start waits for coordinators and leaders; then exit code 2",
        timedelta(seconds=60),
    )

    @property
    def kafka_tls(self) -> bool:
        """Whether connections to the brokers are encrypted."""
        return self.kafka_security_protocol in ("SSL", "SASL_SSL")

    @property
    def kafka_sasl(self) -> bool:
        """Whether we say to the brokers who we are, by name and password."""
        return self.kafka_security_protocol.startswith("SASL")

    def security_problems(self) -> list[str]:
        """What does not go together or cannot be used, each naming its variable; no values."""
        problems = [*self._sasl_problems(), *self._tls_problems()]
        if not problems and self.kafka_tls:
            try:
                self.kafka_ssl_context()
            except ValueError as error:
                problems.append(str(error))
        return problems

    def kafka_ssl_context(self) -> ssl.SSLContext:
        """What TLS to the brokers is made with: names are checked, TLS 1.2 at least.

        Raises ValueError with the file that cannot be used, and why.
        """
        try:
            context = ssl.create_default_context(cafile=self.kafka_ssl_cafile)
        except (OSError, ssl.SSLError) as error:
            raise ValueError(_unusable("KAFKA_SSL_CAFILE", error)) from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if self.kafka_ssl_certfile is not None:
            _load_own(context, self.kafka_ssl_certfile, self.kafka_ssl_keyfile, self._key_password)
        return context

    @property
    def _key_password(self) -> str:
        secret = self.kafka_ssl_key_password
        # Never None: OpenSSL would ask for it at the terminal, and wait.
        return secret.get_secret_value() if secret is not None else ""

    def _sasl_problems(self) -> list[str]:
        given = {
            "KAFKA_SASL_MECHANISM": self.kafka_sasl_mechanism,
            "KAFKA_SASL_USERNAME": self.kafka_sasl_username,
            "KAFKA_SASL_PASSWORD": self.kafka_sasl_password,
        }
        protocol = self.kafka_security_protocol
        if self.kafka_sasl:
            return [
                f"{name} is needed with KAFKA_SECURITY_PROTOCOL={protocol}"
                for name, value in given.items()
                if not value
            ]
        # Not passed over: whoever sets a password believes that it is asked for.
        return [
            f"{name} has no effect with KAFKA_SECURITY_PROTOCOL={protocol}: "
            "set that to SASL_SSL, or leave this out"
            for name, value in given.items()
            if value
        ]

    def _tls_problems(self) -> list[str]:
        files = {
            "KAFKA_SSL_CAFILE": self.kafka_ssl_cafile,
            "KAFKA_SSL_CERTFILE": self.kafka_ssl_certfile,
            "KAFKA_SSL_KEYFILE": self.kafka_ssl_keyfile,
        }
        protocol = self.kafka_security_protocol
        if not self.kafka_tls:
            return [
                f"{name} has no effect with KAFKA_SECURITY_PROTOCOL={protocol}: "
                "set that to SSL or SASL_SSL, or leave this out"
                for name, value in {**files, "KAFKA_SSL_KEY_PASSWORD": self._key_password}.items()
                if value
            ]
        problems = [
            problem
            for name, path in files.items()
            if path is not None and (problem := _unreadable(name, path))
        ]
        if self.kafka_ssl_certfile is None:
            if self.kafka_ssl_keyfile is not None:
                problems.append("KAFKA_SSL_KEYFILE needs KAFKA_SSL_CERTFILE, its certificate")
            if self._key_password:
                problems.append("KAFKA_SSL_KEY_PASSWORD needs KAFKA_SSL_CERTFILE")
        return problems


def postgres_problems(variable: str, url: str) -> list[str]:
    """Problems of the TLS part of a PostgreSQL address: its mode and files. No values."""
    try:
        query = {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
    except ValueError:
        # Whoever connects says what is wrong with the address itself.
        return []
    mode = query.get("sslmode")
    if mode is not None and mode not in _SSL_MODES:
        return [f"{variable}: sslmode must be one of {', '.join(_SSL_MODES)}"]
    files = {n: Path(query[n]) for n in ("sslrootcert", "sslcert", "sslkey") if n in query}
    problems = [
        problem
        for name, path in files.items()
        if (problem := _unreadable(f"{variable}: {name}", path))
    ]
    default = Path.home() / ".postgresql" / "root.crt"
    if mode in ("verify-ca", "verify-full") and "sslrootcert" not in query:
        if not default.exists():
            problems.append(f"{variable}: sslmode={mode} needs sslrootcert, or {default}")
    elif files and mode in ("disable", None):
        problems.append(f"{variable}: with {', '.join(files)} it needs sslmode=verify-full")
    return problems


def _unreadable(name: str, path: Path) -> str | None:
    try:
        with path.open("rb"):
            return None
    except OSError as error:
        return f"{name}: {path} cannot be read: {error.strerror}"


def _unusable(name: str, error: Exception) -> str:
    return f"{name} cannot be used: {getattr(error, 'reason', None) or error}"


def _load_own(context: ssl.SSLContext, cert: Path, key: Path | None, password: str) -> None:
    try:
        context.load_cert_chain(cert, key, password)
    except (OSError, ssl.SSLError, ValueError) as error:
        reason = str(getattr(error, "reason", None) or error)
        where = "KAFKA_SSL_CERTFILE" if key is None else "KAFKA_SSL_KEYFILE"
        if "MISMATCH" in reason.upper():
            why = "the key is not that of the certificate"
        elif b"ENCRYPTED" in (key or cert).read_bytes():
            why = "KAFKA_SSL_KEY_PASSWORD does not open the key"
        else:
            why = f"there is no key and certificate in PEM in the files ({reason})"
        raise ValueError(f"{where} cannot be used: {why}") from None
