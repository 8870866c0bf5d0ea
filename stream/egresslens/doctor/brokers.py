"""The brokers: can they be reached, and if not, whose fault is it.

kafka-python only says that it could not bootstrap. aiokafka's connection does one step after the other (name,
TCP, TLS, SASL, a first request) and each has an error of its own.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Any, Final

from aiokafka import errors
from aiokafka.conn import create_conn
from aiokafka.protocol.admin import ApiVersionRequest
from kafka.admin import KafkaAdminClient

from egresslens.doctor.finding import Finding, fail, ok
from egresslens.kafka import client
from egresslens.settings import Settings

PART: Final = "broker"
_PROTOCOL: Final = "EGRESSLENS_KAFKA_SECURITY_PROTOCOL"


def reach(settings: Settings, timeout_s: float) -> list[Finding]:
    """Knock at each bootstrap broker."""

    async def all_of_them() -> list[Finding]:
        return await asyncio.gather(
            *(_knock(settings, broker, timeout_s) for broker in client.brokers(settings))
        )

    return asyncio.run(all_of_them())


async def _knock(settings: Settings, broker: str, timeout_s: float) -> Finding:
    host, _, port = broker.rpartition(":")
    given = client.aiokafka(settings)
    del given["bootstrap_servers"]
    try:
        await asyncio.wait_for(_greet(host.strip("[]"), int(port), given), timeout_s)
    except Exception as error:  # noqa: BLE001 - every error is an answer here, and sorted below
        said, mend = why(error, settings)
        return fail(PART, f"{broker}: {said}", mend)
    return ok(PART, f"{broker} answers ({settings.kafka_security_protocol})")


async def _greet(host: str, port: int, given: dict[str, Any]) -> None:
    connection = await create_conn(host, port, **given)
    try:
        await connection.send(ApiVersionRequest())
    finally:
        connection.close()


def why(error: Exception, settings: Settings) -> tuple[str, str]:  # noqa: PLR0911 - one for each kind
    """What an error of connecting means, and what to do."""
    sasl = settings.kafka_security_protocol.startswith("SASL")
    tls = settings.kafka_security_protocol.endswith("SSL")
    if isinstance(error, asyncio.TimeoutError | TimeoutError):
        return "no answer in time", "Is a firewall or network policy in between? " + _other_protocol(settings)
    if isinstance(error, socket.gaierror):
        return "no such host", "Mend the name in EGRESSLENS_KAFKA_BROKERS, or the name server."
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"its certificate is not trusted ({error.verify_message})",
            "Give the CA with EGRESSLENS_KAFKA_SSL_CAFILE, and a broker name that the certificate has.",
        )
    if isinstance(error, ssl.SSLError):
        certificate = "Does it ask for a client certificate (EGRESSLENS_KAFKA_SSL_CERTFILE, …_KEYFILE)?"
        return f"TLS fails ({error.reason or error})", f"{_other_protocol(settings)} {certificate}"
    if isinstance(error, errors.SaslAuthenticationFailed | errors.AuthenticationFailedError):
        return (
            "SASL: user or password is wrong",
            "Mend EGRESSLENS_KAFKA_SASL_USERNAME and EGRESSLENS_KAFKA_SASL_PASSWORD, or the broker's user.",
        )
    if isinstance(error, errors.UnsupportedSaslMechanismError):
        return (
            f"it does not offer {settings.kafka_sasl_mechanism}",
            "Set EGRESSLENS_KAFKA_SASL_MECHANISM to one that the listener has enabled.",
        )
    if isinstance(error, errors.IllegalSaslStateError):
        return "the listener has no SASL", f"Set {_PROTOCOL} to {'SSL' if tls else 'PLAINTEXT'}."
    if isinstance(error, ConnectionRefusedError):
        return (
            "nothing listens there",
            "Start the broker, or mend EGRESSLENS_KAFKA_BROKERS. None at hand? `egresslens kafka`",
        )
    if isinstance(error, errors.KafkaConnectionError | ConnectionResetError | EOFError):
        wanted = (
            "SASL and TLS" if sasl and tls else "SASL" if sasl else "TLS" if tls else "neither SASL nor TLS"
        )
        return f"it hangs up on a client with {wanted}", _other_protocol(settings)
    return f"{type(error).__name__}: {error}", "Look at the broker's log."


def _other_protocol(settings: Settings) -> str:
    return (
        f"Is {settings.kafka_security_protocol} this listener's protocol? Set {_PROTOCOL} to the right one."
    )


def advertised(admin: KafkaAdminClient, settings: Settings, timeout_s: float) -> list[Finding]:
    """Whether the brokers can be reached by the names that they give to clients."""
    known = set(client.brokers(settings))
    found = []
    for broker in admin.describe_cluster()["brokers"]:
        address = f"{broker['host']}:{broker['port']}"
        if address in known:
            continue
        try:
            socket.create_connection((broker["host"], broker["port"]), timeout_s).close()
        except OSError as error:
            found.append(
                fail(
                    PART,
                    f"broker {broker['broker_id']} tells clients to use {address}, which cannot be reached "
                    f"from here: {error}",
                    "Mend `advertised.listeners` of the broker, or the route and name to it.",
                )
            )
    return found
