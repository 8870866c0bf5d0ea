"""A worker whose sink is the test: it prints what it gets and acks what it is told to.

Run with one JSON argument (the options below); speaks JSON lines. It prints `assigned`, `batch` (with a
number), `gap`, `draining` and `acked`; it reads `{"ack": [number, ...]}`, `{"auto": true}` (ack everything by
itself from now on) and `{"progress": true}`. A record that says `poison` makes the agent raise, unless
`antidote` is set; with `refuse`, so does the hook that is told of assignments.
"""

import asyncio
import json
import logging
import sys

from egresslens.kafka.transport import Hooks, ack, batch_topic, create_app

OPTIONS = json.loads(sys.argv[1])
# Batches an agent may hold: with more, it stops reading, as the worker does while its sink is away.
CAPACITY = 4

held: dict[int, object] = {}
state = {"auto": OPTIONS.get("auto", False), "number": 0, "room": asyncio.Event()}


def say(what, **values):
    sys.stdout.write(json.dumps({"what": what, **values}) + "\n")
    sys.stdout.flush()


def on_assigned(generation, partitions):
    if OPTIONS.get("refuse"):
        raise RuntimeError("refused")
    held.clear()
    state["room"].set()
    say("assigned", generation=generation, partitions=sorted(partitions))


def on_gap(topic, partition, position, beginning):
    say("gap", topic=topic, partition=partition, position=position, beginning=beginning)


def release(numbers):
    known = [number for number in numbers if number in held]
    for number in known:
        ack(held.pop(number))
    state["room"].set()
    if known:
        say("acked", numbers=known)


app = create_app(
    OPTIONS["group"],
    [OPTIONS["broker"]],
    hooks=Hooks(on_assigned=on_assigned, on_gap=on_gap, on_draining=lambda: say("draining")),
    commit_interval=0.1,
    **OPTIONS.get("app", {}),
)


@app.agent(batch_topic(app, *OPTIONS["topics"]))
async def consume(stream):
    async for event in stream.noack().events():
        batch = event.value
        state["number"] += 1
        number = state["number"]
        values = [None if value is None else value.decode() for value in batch.values]
        say(
            "batch",
            number=number,
            topic=batch.topic,
            partition=batch.partition,
            generation=batch.generation,
            offsets=batch.offsets.tolist(),
            timestamps=batch.timestamps.tolist(),
            headers={row: headers[0][0] for row, headers in batch.headers.items()},
            next=batch.next_offset,
            values=values,
        )
        if "poison" in values and not OPTIONS.get("antidote"):
            raise RuntimeError("poisoned")
        held[number] = event
        if state["auto"]:
            release([number])
        while len(held) >= CAPACITY:
            state["room"].clear()
            await state["room"].wait()


def on_command():
    command = json.loads(sys.stdin.readline() or "{}")
    if "auto" in command:
        state["auto"] = command["auto"]
        release(list(held))
    if "ack" in command:
        release(command["ack"])
    if "progress" in command:
        say("progress", partitions=[[*key, *value] for key, value in sorted(app.progress().items())])


@app.task
async def listen():
    asyncio.get_running_loop().add_reader(sys.stdin, on_command)


if __name__ == "__main__":
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app.Worker(loglevel=logging.INFO, loop=loop).execute_from_commandline()
