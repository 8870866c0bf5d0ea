"""`doctor` on a broker with TLS, SASL and ACLs: each kind of trouble has its own words and its own mend."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)

from conftest import require_kafka
from egresslens.cli.worker import topics
from egresslens.doctor import Finding, Status, diagnose
from egresslens.kafka.broker import Broker, free_port
from egresslens.kafka.topics import create_topics
from egresslens.settings import load

pytestmark = [
    pytest.mark.functional,
    pytest.mark.extended,
    # aiokafka leaves a connection open whose TLS handshake failed.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PASSWORD = "a-keystore-password"
USER, SECRET = "limited", "its-password"
SASL = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "KAFKA_SASL_MECHANISM": "PLAIN",
    "KAFKA_SASL_USERNAME": USER,
    "KAFKA_SASL_PASSWORD": SECRET,
}
Examine = Callable[..., list[Finding]]


class Secured:
    """A broker with three listeners: open (a super user's), SASL, TLS."""

    def __init__(self, folder: Path) -> None:
        self.open, self.sasl, self.tls, controller = (free_port() for _ in range(4))
        self.certificate = folder / "certificate.pem"
        store = folder / "keystore.p12"
        _certificate(store, self.certificate)
        listeners = (
            f"PLAINTEXT://127.0.0.1:{self.open},SASL://127.0.0.1:{self.sasl},TLS://127.0.0.1:{self.tls}"
        )
        login = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{SECRET}";'
        self.broker = Broker(
            folder / "kafka",
            self.open,
            {
                "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
                "advertised.listeners": listeners.replace("TLS://127.0.0.1", "TLS://localhost"),
                "controller.quorum.voters": f"1@127.0.0.1:{controller}",
                "listener.security.protocol.map": (
                    "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL"
                ),
                "sasl.enabled.mechanisms": "PLAIN",
                "listener.name.sasl.plain.sasl.jaas.config": login,
                "ssl.keystore.location": str(store),
                "ssl.keystore.password": PASSWORD,
                "ssl.keystore.type": "PKCS12",
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS",
            },
        )

    def allow(self, kind: ResourceType, name: str, *operations: ACLOperation) -> None:
        """Give the limited user rights, and wait until the broker knows."""
        admin = KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{self.open}")
        pattern = ResourcePattern(kind, name)
        acls = [ACL(f"User:{USER}", "*", one, ACLPermissionType.ALLOW, pattern) for one in operations]
        admin.create_acls(acls)
        admin.close()


def _certificate(store: Path, pem: Path) -> None:
    """A key and a self-signed certificate for `localhost`, by the keytool that comes with Java."""
    tool = shutil.which("keytool")
    assert tool, "keytool comes with every Java"
    given = ["-keystore", str(store), "-storepass", PASSWORD, "-alias", "broker"]
    make = ["-genkeypair", "-keyalg", "RSA", "-dname", "CN=localhost", "-ext", "SAN=dns:localhost"]
    subprocess.run([tool, *make, "-storetype", "PKCS12", *given], check=True, capture_output=True)
    subprocess.run([tool, "-exportcert", "-rfc", "-file", str(pem), *given], check=True, capture_output=True)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    require_kafka()
    one = Secured(tmp_path_factory.mktemp("secured"))
    one.broker.start()
    settings = load({"EGRESSLENS_KAFKA_BROKERS": one.broker.bootstrap})
    create_topics(settings, topics(settings))
    yield one
    one.broker.stop()


def examine(port: int, host: str = "127.0.0.1", **given: object) -> list[Finding]:
    """Findings about Kafka; the store is no matter here."""
    values = {"KAFKA_BROKERS": f"{host}:{port}", "CLICKHOUSE_URL": "http://127.0.0.1:9", **given}
    settings = load({f"EGRESSLENS_{name}": str(value) for name, value in values.items()})
    return [one for one in diagnose(settings, timeout_s=8) if one.part != "store"]


def trouble(found: list[Finding], part: str = "broker") -> Finding:
    """The one thing that is wrong with a part."""
    [only] = [one for one in found if one.part == part and one.status is Status.FAIL]
    return only


def test_a_wrong_sasl_password_is_told_from_everything_else(secured: Secured):
    found = trouble(examine(secured.sasl, **{**SASL, "KAFKA_SASL_PASSWORD": "wrong"}))
    assert found.said.endswith("SASL: user or password is wrong")
    assert "EGRESSLENS_KAFKA_SASL_PASSWORD" in found.mend
    assert "wrong" not in found.mend


def test_a_mechanism_that_the_listener_does_not_have_is_named(secured: Secured):
    found = trouble(examine(secured.sasl, **{**SASL, "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512"}))
    assert "does not offer SCRAM-SHA-512" in found.said
    assert "EGRESSLENS_KAFKA_SASL_MECHANISM" in found.mend


@pytest.mark.parametrize("listener", ["sasl", "tls"])
def test_a_listener_of_another_protocol_asks_for_the_protocol(secured: Secured, listener: str):
    found = trouble(examine(getattr(secured, listener)))
    assert "EGRESSLENS_KAFKA_SECURITY_PROTOCOL" in found.mend


def test_sasl_on_an_open_listener_asks_for_plaintext(secured: Secured):
    found = trouble(examine(secured.open, **SASL))
    assert found.mend == "Set EGRESSLENS_KAFKA_SECURITY_PROTOCOL to PLAINTEXT."


def test_tls_on_an_open_listener_asks_for_the_protocol(secured: Secured):
    found = trouble(examine(secured.open, KAFKA_SECURITY_PROTOCOL="SSL"))
    assert "EGRESSLENS_KAFKA_SECURITY_PROTOCOL" in found.mend


def test_a_certificate_that_nobody_vouches_for_asks_for_the_ca(secured: Secured):
    found = trouble(examine(secured.tls, "localhost", KAFKA_SECURITY_PROTOCOL="SSL"))
    assert "its certificate is not trusted" in found.said
    assert "EGRESSLENS_KAFKA_SSL_CAFILE" in found.mend


def test_a_name_that_the_certificate_does_not_have_is_named(secured: Secured):
    given = {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CAFILE": secured.certificate}
    assert "IP address mismatch" in trouble(examine(secured.tls, **given)).said


def test_tls_with_the_right_name_and_ca_is_well(secured: Secured):
    given = {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_SSL_CAFILE": secured.certificate}
    found = examine(secured.tls, "localhost", **given)
    assert [one.status for one in found if one.part == "broker"] == [Status.OK]


def test_missing_rights_are_told_with_the_command_that_gives_them(secured: Secured):
    found = examine(secured.sasl, **SASL)
    [topic] = [one for one in found if "egress.access-log may not be seen" in one.said]
    assert topic.mend == (
        f"kafka-acls.sh --add --allow-principal 'User:{USER}' --operation Read --operation Describe "
        "--topic 'egress.access-log'"
    )
    assert "--group 'egresslens'" in trouble(found, "workers").mend


def test_a_right_that_is_half_there_names_the_other_half(secured: Secured):
    secured.allow(ResourceType.TOPIC, "egress.replay", ACLOperation.DESCRIBE, ACLOperation.READ)
    deadline = time.monotonic() + 30
    while True:
        said = [one.said for one in examine(secured.sasl, **SASL) if "egress.replay" in one.said]
        if said == ["egress.replay may not be written by this user"]:
            return
        assert time.monotonic() < deadline, said
