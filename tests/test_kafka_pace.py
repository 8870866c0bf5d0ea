import time

from egresslens.kafka.transport.pace import pace


class Client:
    """What aiokafka's client has: a method that it calls over and over while no broker answers."""

    def __init__(self):
        self.calls = []

    async def _metadata_update(self, cluster, topics):
        self.calls.append((cluster, topics))
        return False


async def test_metadata_is_looked_up_at_most_once_per_interval():
    client = Client()
    pace(client, 0.02)
    begun = time.monotonic()
    for _ in range(6):
        assert await client._metadata_update("cluster", ["logs"]) is False
    assert time.monotonic() - begun >= 5 * 0.02
    assert client.calls == [("cluster", ["logs"])] * 6
