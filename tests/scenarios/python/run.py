"""The scenarios' interpreter for the Python package: runs a plan, prints a line of JSON for each step that has a result.

    python run.py PLAN

What a plan's lines mean is in docs/internals/scenarios.md.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from ottla import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_STORED,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

#: How long anything may take, in seconds.
PATIENCE = 10.0

Result = dict[str, Any]
OK: Result = {"ok": True}


def bytes_of(text: str) -> bytes | None:
    return None if text == "-" else bytes.fromhex(text)


def hex_of(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def error_of(error: KafkaError | BaseException) -> Result:
    if isinstance(error, KafkaException) and error.args and isinstance(error.args[0], KafkaError):
        error = error.args[0]
    if isinstance(error, KafkaError):
        return {"error": {"code": error.name(), "message": error.str()}}
    # confluent-kafka says so that the queue is full.
    code = "_QUEUE_FULL" if isinstance(error, BufferError) else type(error).__name__
    return {"error": {"code": code, "message": str(error)}}


def checked(partitions: list[TopicPartition]) -> list[TopicPartition]:
    for partition in partitions:
        if partition.error:
            raise KafkaException(partition.error)
    return partitions


def offsets(*found: int) -> Result:
    """Logical offsets are null, but for the end."""
    return {"offsets": ["end" if o == OFFSET_END else o if o >= 0 else None for o in found]}


class Scenario:
    """What a scenario has open."""

    def __init__(self, name: str, servers: str) -> None:
        self.name = name
        self.servers = servers
        # All of them: a broker in memory lives as long as one is there. The last is the one to produce with.
        self.producers: list[Producer] = []
        # What became of the records since the last `deliver`.
        self.deliveries: list[Result | None] = []
        self.consumer: Consumer | None = None
        # Partitions whose end was reached and not left again, with its offset.
        self.ends: dict[tuple[str, int], int] = {}

    def config(self, properties: list[str]) -> dict[str, Any]:
        return {"bootstrap.servers": self.servers, **dict(p.split("=", 1) for p in properties)}

    def step(self, verb: str, arguments: list[str]) -> Result:
        if verb == "producer":
            self.producers.append(Producer(self.config(arguments)))
            return OK
        if verb == "deliver":
            return self.deliver()
        if verb == "consumer":
            self.consumer = Consumer(self.config(arguments))
            self.ends = {}
            return OK
        if self.consumer is None:
            raise RuntimeError("there is no consumer")
        if verb == "close":
            self.consumer.close()
            self.consumer = None
            return OK
        return self.read_step(self.consumer, verb, arguments)

    def produce(self, topic: str, partition: str, timestamp: str, key: str, value: str, *headers: str) -> None:
        """Produces a record; what `produce` itself refuses is noted as its delivery."""
        index = len(self.deliveries)
        self.deliveries.append(None)

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error:
                self.deliveries[index] = error_of(error)
            else:
                offset = message.offset()
                known = offset if offset is not None and offset >= 0 else None
                self.deliveries[index] = {"partition": message.partition(), "offset": known}

        pairs = [(name, bytes_of(value) if found else None) for name, found, value in (h.partition("=") for h in headers)]
        try:
            self.producers[-1].produce(
                topic,
                bytes_of(value),
                bytes_of(key),
                int(partition),
                on_delivery=delivered,
                timestamp=int(timestamp),
                headers=pairs or None,
            )
        except Exception as error:
            self.deliveries[index] = error_of(error)

    def deliver(self) -> Result:
        left = self.producers[-1].flush(PATIENCE) if self.producers else 0
        deliveries, self.deliveries = self.deliveries, []
        if left:
            raise RuntimeError(f"{left} records were neither delivered nor failed")
        return {"deliveries": deliveries}

    def read_step(self, consumer: Consumer, verb: str, arguments: list[str]) -> Result:
        if verb == "assign":
            triples = zip(*[iter(arguments)] * 3)
            consumer.assign([self.start(consumer, *triple) for triple in triples])
        elif verb == "subscribe":
            consumer.subscribe(arguments)
        elif verb == "take":
            count = int(arguments[0])
            return self.read(consumer, lambda records: len(records) >= count, PATIENCE, count)
        elif verb == "end":
            partitions = int(arguments[0])
            return self.read(consumer, lambda _: len(self.ends) >= partitions, PATIENCE)
        elif verb == "idle":
            return self.read(consumer, lambda _: False, int(arguments[0]) / 1000)
        elif verb == "error":
            self.read(consumer, lambda _: False, PATIENCE)
            raise RuntimeError("no error came")
        elif verb in ("pause", "resume"):
            topic, *numbers = arguments
            getattr(consumer, verb)([TopicPartition(topic, int(number)) for number in numbers])
        elif verb == "seek":
            consumer.seek(self.start(consumer, *arguments))
            self.ends.pop((arguments[0], int(arguments[1])), None)
        elif verb == "commit":
            checked(consumer.commit(asynchronous=False))
        elif verb == "committed":
            [found] = checked(consumer.committed([TopicPartition(arguments[0], int(arguments[1]))], PATIENCE))
            return offsets(found.offset)
        elif verb == "position":
            [found] = checked(consumer.position([TopicPartition(arguments[0], int(arguments[1]))]))
            return offsets(found.offset)
        elif verb == "watermarks":
            return offsets(*consumer.get_watermark_offsets(TopicPartition(arguments[0], int(arguments[1])), PATIENCE))
        elif verb == "time":
            return offsets(self.at_time(consumer, arguments[0], int(arguments[1]), int(arguments[2])))
        else:
            raise RuntimeError(f"not a step: {verb} {arguments}")
        return OK

    def read(self, consumer: Consumer, done: Callable[[list[Result]], bool], timeout: float, most: int = 1000) -> Result:
        """Reads until `done`, or for as long as `timeout`; never more than `most` records."""
        until = time.monotonic() + timeout
        records: list[Result] = []
        while not done(records) and (left := until - time.monotonic()) > 0:
            # One at a time: what stops at an end or at an error has not taken anything behind it.
            message = consumer.poll(left)
            if message is None:
                break
            topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            error = message.error()
            if error and error.code() == KafkaError._PARTITION_EOF:
                self.ends[topic, partition] = offset
                continue
            if error:
                raise KafkaException(error)
            self.ends.pop((topic, partition), None)
            record = {
                "topic": topic,
                "partition": partition,
                "offset": offset,
                "timestamp": message.timestamp()[1],
                "key": hex_of(message.key()),
                "value": hex_of(message.value()),
                "headers": [[name, hex_of(value)] for name, value in message.headers() or []],
            }
            records.append(record)
        return {"records": records, "ends": [[t, p, o] for (t, p), o in sorted(self.ends.items())]}

    def start(self, consumer: Consumer, topic: str, partition: str, start: str) -> TopicPartition:
        """A partition and where to begin."""
        logical = {"beginning": OFFSET_BEGINNING, "end": OFFSET_END, "stored": OFFSET_STORED}
        if start in logical:
            offset = logical[start]
        elif start.startswith("@"):
            offset = self.at_time(consumer, topic, int(partition), int(start[1:]))
        elif start.startswith("tail:"):
            offset = -2000 - int(start[5:])
        else:
            offset = int(start)
        return TopicPartition(topic, int(partition), offset)

    def at_time(self, consumer: Consumer, topic: str, partition: int, ms: int) -> int:
        [found] = checked(consumer.offsets_for_times([TopicPartition(topic, partition, ms)], PATIENCE))
        return found.offset

    def done(self) -> None:
        if self.consumer:
            self.consumer.close()
        for producer in self.producers:
            producer.close()


def main(path: str) -> None:
    scenario = Scenario("", "")
    with open(path, encoding="utf-8") as plan:
        for line in plan:
            verb, *arguments = line.rstrip("\n").split("\t")
            if verb == "scenario":
                scenario = Scenario(*arguments)
            elif verb == "done":
                scenario.done()
            elif verb == "record":
                scenario.produce(*arguments[1:])
            else:
                step, *arguments = arguments
                try:
                    result = scenario.step(verb, arguments)
                except Exception as error:
                    result = error_of(error)
                print(json.dumps({"scenario": scenario.name, "step": int(step), "result": result}), flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: run.py PLAN")
    main(sys.argv[1])
