import ssl

import pytest

from egresslens import settings
from egresslens.kafka import client


def kafka(**values):
    return settings.load({f"EGRESSLENS_KAFKA_{name.upper()}": value for name, value in values.items()})


def test_brokers_may_be_several():
    assert client.brokers(kafka(brokers="a:1, b:2")) == ["a:1", "b:2"]


@pytest.mark.parametrize("build", [client.kafka_python, client.aiokafka])
def test_plaintext_needs_no_credentials(build):
    assert set(build(kafka())) == {"security_protocol", "bootstrap_servers"}


@pytest.mark.parametrize("build", [client.kafka_python, client.aiokafka])
def test_sasl_carries_user_password_and_mechanism(build):
    values = build(kafka(security_protocol="SASL_PLAINTEXT", sasl_username="me", sasl_password="secret"))
    assert values["sasl_mechanism"] == "SCRAM-SHA-512"
    assert values["sasl_plain_username"] == "me"
    assert values["sasl_plain_password"] == "secret"
    assert "ssl_context" not in values


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_tls_verifies_the_brokers_certificate_and_name(protocol):
    context = client.aiokafka(kafka(security_protocol=protocol))["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_faust_gets_no_credentials_for_plaintext():
    assert client.faust_credentials(kafka()) is None


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL", "SASL_PLAINTEXT"])
def test_faust_gets_the_protocol_of_the_settings(protocol):
    made = client.faust_credentials(
        kafka(security_protocol=protocol, sasl_username="me", sasl_password="secret")
    )
    assert made.protocol.value == protocol
    assert "secret" not in repr(made)


@pytest.mark.parametrize("name", ["ssl_cafile", "ssl_certfile"])
def test_a_certificate_that_is_not_there_is_a_setting_that_cannot_be_used(name: str):
    with pytest.raises(settings.SettingsError, match=rf"{name} .*/nowhere\.pem"):
        client.kafka_python(kafka(security_protocol="SSL", **{name: "/nowhere.pem"}))
