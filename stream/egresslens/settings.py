"""Settings: one frozen class, from the environment (`EGRESSLENS_…`) and an optional TOML file.

The environment wins over the file. A key that is not a setting stops the start and names the likely one.
"""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr, ValidationError, field_validator

from egresslens.rules import Rules, one_or_several

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PREFIX: Final = "EGRESSLENS_"
CONFIG_FILE_VARIABLE: Final = "EGRESSLENS_CONFIG_FILE"


class SettingsError(ValueError):
    """The settings cannot be used; the message says which one, why, and what was probably meant."""


class Settings(Rules):
    """Everything an operator can set. Field `x` is the variable `EGRESSLENS_X` and the file's key `x`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Kafka
    kafka_brokers: str = Field("127.0.0.1:9092", description="Bootstrap brokers, `host:port,host:port`.")
    kafka_group: str = Field("egresslens", min_length=1, description="Consumer group of the workers.")
    kafka_group_instance_id: str | None = Field(
        None, description="Static member id (KIP-345); one per worker."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to the brokers."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism, with a SASL protocol."
    )
    kafka_sasl_username: str | None = Field(None, description="SASL user.")
    kafka_sasl_password: SecretStr | None = Field(None, description="SASL password.")
    kafka_ssl_cafile: Path | None = Field(None, description="CA certificates (PEM) to trust.")
    kafka_ssl_certfile: Path | None = Field(None, description="Client certificate (PEM) for mutual TLS.")
    kafka_ssl_keyfile: Path | None = Field(None, description="Client key (PEM) for mutual TLS.")
    kafka_session_timeout_s: float = Field(30.0, gt=0, description="Group session timeout, seconds.")
    kafka_rebalance_timeout_s: float = Field(60.0, gt=0, description="Group rebalance timeout, seconds.")

    # Topics
    access_log_topics: tuple[str, ...] = Field(
        ("egress.access-log",), min_length=1, description="Topics with the access logs; one, or a JSON list."
    )
    enriched_topic: str = Field("egress.enriched", description="Enriched records, JSON.")
    windows_topic: str = Field(
        "egress.windows", description="Changed 1-minute windows, JSON, keyed by workload."
    )
    dead_letter_topic: str = Field("egress.dead-letter", description="Messages that could not be read.")
    replay_topic: str = Field("egress.replay", description="Dead letters to be read again.")
    topic_partitions: int = Field(4, gt=0, description="Partitions of topics that are created.")
    topic_replication: int = Field(1, gt=0, description="Replication factor of topics that are created.")
    publish_enriched: bool = Field(True, description="Publish the enriched topic and the windows topic.")

    # ClickHouse
    clickhouse_url: str = Field("http://127.0.0.1:8123", description="ClickHouse's HTTP interface.")
    clickhouse_user: str = Field("default", description="The writer's user.")
    clickhouse_password: SecretStr = Field(SecretStr(""), description="The writer's password.")
    clickhouse_reader_user: str = Field("reader", description="The reader's user (reports, sql, console).")
    clickhouse_reader_password: SecretStr = Field(SecretStr(""), description="The reader's password.")
    clickhouse_cafile: Path | None = Field(None, description="CA certificates (PEM) for an https URL.")
    clickhouse_verify: bool = Field(True, description="Verify the server's certificate.")
    clickhouse_timeout_s: float = Field(60.0, gt=0, description="Time limit of one request, seconds.")
    database: str = Field(
        "egresslens", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="ClickHouse database."
    )
    cluster: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="ClickHouse cluster: Replicated engines, Distributed tables, ON CLUSTER.",
    )
    windows_1h_ttl_days: int = Field(400, gt=0, description="Days 1-hour windows are kept.")
    windows_1d_ttl_days: int = Field(1830, gt=0, description="Days 1-day windows are kept.")
    dead_letters_ttl_days: int = Field(90, gt=0, description="Days dead letters are kept.")

    # Judgement
    geo_database: Path | None = Field(
        None, description="Geographic database in MaxMind's format (.mmdb), for regions no table knows."
    )

    # Alerts
    alerts_topic: str = Field("egress.alerts", description="Alerts, JSON: one message per change of state.")
    alert_rules: Path | None = Field(None, description="Alert rules, YAML; default the built-in ones.")
    alertmanager_url: str | None = Field(None, description="Alertmanager, such as http://alertmanager:9093.")
    alert_webhook_url: SecretStr | None = Field(
        None, description="Webhook that gets each alert as JSON; a secret, since it often holds a token."
    )
    alert_webhook_token: SecretStr | None = Field(
        None, description="Sent to the webhook as `Authorization: Bearer`."
    )

    alerts_web_port: int = Field(
        6067,
        ge=0,
        le=65535,
        description="Port of the alerts process's health and metrics; 0 picks a free one.",
    )

    # Console
    console_host: str = Field(
        "127.0.0.1", description="Where the console listens; beyond the loopback it needs logins."
    )
    console_port: int = Field(6068, ge=0, le=65535, description="Its port; 0 picks a free one.")
    console_names: tuple[str, ...] = Field(
        (),
        description="Host names of the console, beside its address; one, or a JSON list.",
    )
    console_password_file: Path | None = Field(
        None,
        description="File of who may log in to the console: lines `user:password`; mode 0600.",
    )
    console_user_header: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9-]+$",
        description="Header in which a reverse proxy that logs people in names them: X-Forwarded-User.",
    )
    console_proxies: tuple[str, ...] = Field(
        (),
        description="Addresses or networks of reverse proxies that are believed; one, or a JSON list.",
    )
    console_tls_certfile: Path | None = Field(
        None, description="The console's certificate chain (PEM), for https."
    )
    console_tls_keyfile: Path | None = Field(None, description="Its private key (PEM).")
    console_queries: int = Field(4, gt=0, le=64, description="Queries the console runs at once.")
    console_query_timeout_s: float = Field(
        20.0, ge=1, description="Time limit of one of its queries, seconds."
    )
    console_query_memory_bytes: int = Field(
        2 * 2**30, gt=0, description="Memory limit of one of its queries, bytes."
    )

    # Worker
    flush_rows: int = Field(50_000, gt=0, description="Messages per flush at most.")
    flush_interval_s: float = Field(1.0, gt=0, description="Seconds between flushes at most.")
    flush_bytes: int = Field(64 * 2**20, gt=0, description="Bytes of messages per flush at most.")
    max_window_keys: int = Field(
        500_000, gt=0, description="Window keys held in memory; beyond it the longest untouched are let go."
    )
    roll_up_interval_s: float = Field(60.0, gt=0, description="Seconds between roll-ups into hours and days.")
    max_rejected_share: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Share of messages that may be dead letters before the worker stops; 1: any.",
    )
    max_rejected_run: int = Field(
        50_000, ge=0, description="Dead letters in a row before the worker stops; 0: any number."
    )
    web_host: str = Field(
        "127.0.0.1", description="Where health and metrics of worker and alerts process listen."
    )
    web_port: int = Field(6066, ge=0, le=65535, description="The worker's port; 0 picks a free one.")
    egress_metrics_series: int = Field(
        1000,
        ge=0,
        description="Egress metrics: label sets at most, the rest is counted as `other`; 0: none at all.",
    )
    data_dir: Path = Field(
        Path("data"), description="Folder of the embedded Kafka, the embedded store and the worker."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Log level.")

    @field_validator("access_log_topics", "console_names", "console_proxies", mode="before")
    @classmethod
    def _several(cls, value: object) -> object:
        return one_or_several(value)

    @field_validator("kafka_brokers")
    @classmethod
    def _host_ports(cls, brokers: str) -> str:
        if not re.fullmatch(
            r"\s*[^\s:/@,]+:\d{1,5}\s*(,\s*[^\s:/@,]+:\d{1,5}\s*)*|\s*\[[0-9a-fA-F:]+\]:\d{1,5}\s*", brokers
        ):
            raise ValueError("must be host:port, or several separated by commas")
        return brokers

    @field_validator("console_names")
    @classmethod
    def _host_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not re.fullmatch(r"[A-Za-z0-9.-]+", name):
                raise ValueError(f"{name!r} must be a host's name alone, such as console.example.com")
        return tuple(name.lower() for name in names)

    @field_validator("console_proxies")
    @classmethod
    def _networks(cls, proxies: tuple[str, ...]) -> tuple[str, ...]:
        for proxy in proxies:
            ipaddress.ip_network(proxy)
        return proxies

    @field_validator("alertmanager_url")
    @classmethod
    def _no_password(cls, url: str | None) -> str | None:
        if url and (urlsplit(url).username or urlsplit(url).password):
            raise ValueError("must not hold a password")
        return url

    @field_validator("clickhouse_url")
    @classmethod
    def _http_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be a URL such as http://127.0.0.1:8123 (ClickHouse's HTTP interface)")
        if parts.query or parts.fragment:
            raise ValueError("must not hold parameters; passwords have settings of their own")
        if parts.username or parts.password:
            raise ValueError("must not hold a password; use EGRESSLENS_CLICKHOUSE_PASSWORD")
        return url

    @property
    def rules(self) -> Rules:
        """The part of the settings that decides what is stored."""
        return Rules.model_validate({name: getattr(self, name) for name in Rules.model_fields})

    @property
    def alerts_group(self) -> str:
        """Consumer group of the alerts process."""
        return f"{self.kafka_group}-alerts"

    def masked(self) -> dict[str, Any]:
        """All settings as plain values, secrets as asterisks (an unset secret stays empty)."""
        return {
            name: "********" if isinstance(value, SecretStr) and value.get_secret_value() else _plain(value)
            for name, value in ((name, getattr(self, name)) for name in type(self).model_fields)
        }


def load(environ: Mapping[str, str] | None = None, file: Path | None = None) -> Settings:
    """Read the settings from the environment and an optional TOML file (also `EGRESSLENS_CONFIG_FILE`).

    Raises:
        SettingsError: an unknown key, a value that does not fit, or a file that cannot be read.
    """
    environ = os.environ if environ is None else environ
    given = {key: value for key, value in environ.items() if key.upper().startswith(PREFIX)}
    path = file or (Path(given[CONFIG_FILE_VARIABLE]) if CONFIG_FILE_VARIABLE in given else None)
    values: dict[str, Any] = _read_file(path) if path else {}
    sources = {name: f"{path}: {name}" for name in values}
    for key, value in given.items():
        if key == CONFIG_FILE_VARIABLE:
            continue
        name = key[len(PREFIX) :].lower()
        values[name] = value
        sources[name] = key
    unknown = [name for name in values if name not in Settings.model_fields]
    if unknown:
        raise SettingsError("\n".join(_unknown(name, sources[name]) for name in unknown))
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError("\n".join(_invalid(one, sources) for one in error.errors())) from None


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"cannot read the settings file {path}: {error}") from error


def _unknown(name: str, source: str) -> str:
    likely = difflib.get_close_matches(name, Settings.model_fields, n=1)
    meant = f"; did you mean {_spelt_like(source, likely[0])}?" if likely else ""
    return f"{source} is not a setting{meant} (`egresslens config --describe` lists them all)"


def _spelt_like(source: str, name: str) -> str:
    return PREFIX + name.upper() if source.upper().startswith(PREFIX) else name


def _invalid(error: Any, sources: Mapping[str, str]) -> str:
    name = str(error["loc"][0]) if error["loc"] else "settings"
    return f"{sources.get(name, name)}: {error['msg']}"


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return value
