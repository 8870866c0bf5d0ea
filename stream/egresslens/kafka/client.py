"""How to reach the brokers: one place that turns the settings into what each client library wants."""

from __future__ import annotations

import ssl
from typing import Any

from egresslens.settings import Settings, SettingsError


def brokers(settings: Settings) -> list[str]:
    """The bootstrap brokers, each `host:port`."""
    return [broker.strip() for broker in settings.kafka_brokers.split(",") if broker.strip()]


def kafka_python(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for kafka-python's clients (admin, consumer, producer)."""
    return _security(settings) | {"bootstrap_servers": brokers(settings)}


def aiokafka(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for aiokafka's clients."""
    return _security(settings) | {"bootstrap_servers": ",".join(brokers(settings))}


def faust_credentials(settings: Settings) -> Any:
    """Faust's `broker_credentials`: SASL or TLS, or None for plaintext."""
    # Faust takes half a second to import, and most callers of this module use another client.
    from faust.auth import SASLCredentials, SSLCredentials  # noqa: PLC0415

    context = _tls(settings)
    if not _uses_sasl(settings):
        return SSLCredentials(context) if context else None
    return SASLCredentials(
        username=settings.kafka_sasl_username,
        password=_password(settings),
        mechanism=settings.kafka_sasl_mechanism,
        ssl_context=context,
    )


def _security(settings: Settings) -> dict[str, Any]:
    values: dict[str, Any] = {"security_protocol": settings.kafka_security_protocol}
    context = _tls(settings)
    if context is not None:
        values["ssl_context"] = context
    if _uses_sasl(settings):
        values["sasl_mechanism"] = settings.kafka_sasl_mechanism
        values["sasl_plain_username"] = settings.kafka_sasl_username
        values["sasl_plain_password"] = _password(settings)
    return values


def _uses_sasl(settings: Settings) -> bool:
    return settings.kafka_security_protocol.startswith("SASL")


def _password(settings: Settings) -> str:
    secret = settings.kafka_sasl_password
    return secret.get_secret_value() if secret is not None else ""


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context, which verifies the broker's certificate and name; None without TLS.

    Raises:
        SettingsError: a certificate or key cannot be read.
    """
    if not settings.kafka_security_protocol.endswith("SSL"):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ssl_cafile)
    except OSError as error:
        raise SettingsError(
            f"kafka_ssl_cafile {settings.kafka_ssl_cafile} cannot be read: {error}"
        ) from error
    if settings.kafka_ssl_certfile is None:
        return context
    try:
        context.load_cert_chain(settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
    except OSError as error:
        raise SettingsError(
            f"kafka_ssl_certfile {settings.kafka_ssl_certfile} or its key cannot be used: {error}"
        ) from error
    return context
