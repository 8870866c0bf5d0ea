import pytest

from egresslens.kafka import broker


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_402"', 8),
        ("bash: java: broken", 0),
    ],
)
def test_javas_release_is_read_from_what_it_prints(said, version):
    assert broker.java_version(said) == version


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("\x1b[1mApache Maven 3.8.7\x1b[m\nMaven home: /usr/share/maven", (3, 8, 7)),
        ("Apache Maven 4.0.0-rc-1 (abc)", (4, 0, 0)),
        ("nonsense", ()),
    ],
)
def test_mavens_version_is_read_from_what_it_prints(said, version):
    assert broker.maven_version(said) == version


def fake_program(folder, name, said):
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{said}'\n")
    path.chmod(0o755)


@pytest.fixture
def bare_machine(tmp_path, monkeypatch):
    """A machine whose PATH is one empty folder and whose cache is empty."""
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return tools


def test_a_machine_without_java_is_told_so(bare_machine, tmp_path):
    with pytest.raises(broker.BrokerError, match="needs Java 17 or newer, and no `java` was found"):
        broker.Broker(tmp_path / "kafka").start()


def test_java_that_is_too_old_is_named(bare_machine):
    fake_program(bare_machine, "java", 'openjdk version "11.0.2"')
    assert broker.missing() == f"Apache Kafka needs Java 17 or newer; {bare_machine}/java is 11"


def test_a_machine_without_maven_is_told_so(bare_machine):
    fake_program(bare_machine, "java", 'openjdk version "17.0.1"')
    assert broker.missing() == "fetching Kafka's jars needs Maven 3.6.3 or newer, and no `mvn` was found"


def test_maven_that_is_too_old_is_named(bare_machine):
    fake_program(bare_machine, "java", 'openjdk version "17.0.1"')
    fake_program(bare_machine, "mvn", "Apache Maven 3.0.5")
    assert broker.missing() == (
        f"fetching Kafka's jars needs Maven 3.6.3 or newer; {bare_machine}/mvn is 3.0.5"
    )


def test_maven_is_not_needed_once_the_jars_are_there(bare_machine, tmp_path):
    fake_program(bare_machine, "java", 'openjdk version "17.0.1"')
    (tmp_path / "cache" / "egresslens" / f"kafka-{broker.KAFKA_VERSION}").mkdir(parents=True)
    assert broker.missing() is None


def test_a_download_that_fails_says_what_maven_said_and_leaves_nothing(bare_machine, tmp_path):
    fake_program(bare_machine, "java", 'openjdk version "17.0.1"')
    (bare_machine / "mvn").write_text(
        '#!/bin/sh\nif [ "$1" = -v ]; then echo "Apache Maven 3.9.0"; else echo "no network"; exit 1; fi\n'
    )
    (bare_machine / "mvn").chmod(0o755)
    with pytest.raises(broker.BrokerError, match="no network"):
        broker.jars()
    assert [path.name for path in (tmp_path / "cache" / "egresslens").iterdir()] == ["kafka-4.1.0.lock"]
