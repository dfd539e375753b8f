"""Speed of the Python module, beside confluent-kafka's in the same run.

    python bench.py MODULE WHAT BOOTSTRAP COUNT SIZE

MODULE is ottla or confluent_kafka; WHAT is produce, produce-callback, produce-batch or consume.
BOOTSTRAP "mock" is confluent-kafka's own mock cluster. Prints one line of JSON.
"""

import importlib
import json
import sys
import time

TOPIC = "bench"


def main(module_name: str, what: str, bootstrap: str, count: int, size: int) -> None:
    module = importlib.import_module(module_name)
    servers = {"test.mock.num.brokers": 1} if bootstrap == "mock" else {"bootstrap.servers": bootstrap}
    producer = module.Producer({**servers, "queue.buffering.max.messages": 1_000_000})
    value = bytes(ord("a") + i % 26 for i in range(size))

    delivered = 0

    def on_delivery(error, _message) -> None:
        nonlocal delivered
        if error is not None:
            raise SystemExit(f"delivery: {error}")
        delivered += 1

    def produce_one_by_one(n: int, **arguments) -> None:
        produce, poll = producer.produce, producer.poll
        for i in range(n):
            try:
                produce(TOPIC, value, **arguments)
            except BufferError:
                producer.flush()
                produce(TOPIC, value, **arguments)
            if i & 0x3FF == 0:
                poll(0)
        if producer.flush(120):
            raise SystemExit("not everything was delivered")

    def produce_in_batches(n: int) -> None:
        batch = [{"value": value}] * 10_000
        for _ in range(n // 10_000):
            while producer.produce_batch(TOPIC, batch) < len(batch):
                raise SystemExit("produce_batch refused messages")
            producer.poll(0)
            if len(producer) > 900_000:
                producer.flush()
        if producer.flush(120):
            raise SystemExit("not everything was delivered")

    produce_one_by_one(1000)
    started, cpu = time.perf_counter(), time.process_time()
    if what == "produce":
        produce_one_by_one(count)
    elif what == "produce-callback":
        produce_one_by_one(count, on_delivery=on_delivery)
        if delivered != count:
            raise SystemExit(f"{delivered} of {count} delivered")
    elif what == "produce-batch":
        produce_in_batches(count)
    elif what == "consume":
        produce_in_batches(count)
        consumer = module.Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "bench", "auto.offset.reset": "earliest"}
        )
        consumer.subscribe([TOPIC])
        started, cpu = time.perf_counter(), time.process_time()
        seen = 0
        while seen < count:
            messages = consumer.consume(10_000, 10)
            if not messages:
                raise SystemExit("no message for 10 seconds")
            seen += len(messages)
        consumer.close()
    else:
        raise SystemExit(f"unknown: {what}")
    print(
        json.dumps(
            {
                "messages": count,
                "seconds": time.perf_counter() - started,
                "cpu_seconds": time.process_time() - cpu,
            }
        )
    )


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:4], *map(int, sys.argv[4:]))
