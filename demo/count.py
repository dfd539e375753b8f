"""Second step of the demo: a consumer group of two members counts the lines of each key.

    python count.py BOOTSTRAP TOPIC FILE

The counts are compared with FILE. It prints JSON lines: {"progress": N} now and then, one {"result": {...}} at the end,
and exits with 1 on any difference.
"""

import json
import sys
import threading
import time
from collections import Counter

from ottla import Consumer, KafkaError, KafkaException, Message, TopicPartition


def key_of(line: bytes) -> bytes:
    for i, byte in enumerate(line):
        if byte in b" \t":
            return line[:i]
    return line


class Member(threading.Thread):
    """One member of the group: counts what its partitions hold until the group has seen every line."""

    def __init__(self, bootstrap: str, topic: str, group: "Group") -> None:
        super().__init__()
        self.group = group
        self.counts: Counter[bytes] = Counter()
        self.partitions: set[int] = set()
        self.calls: list[float] = []
        self.failure: BaseException | None = None
        self.consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "demo-counters",
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "roundrobin",
            }
        )
        self.consumer.subscribe([topic], on_assign=self.assigned)

    def assigned(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self.partitions.update(p.partition for p in partitions)
        self.group.joined(self, len(partitions))

    def run(self) -> None:
        try:
            while not self.group.done.is_set():
                if not self.group.both_assigned.is_set():
                    # Both members take part: no record is read before each has partitions of its own.
                    self.take(self.consumer.consume(num_messages=1, timeout=0.02))
                    continue
                asked = time.perf_counter()
                messages = self.consumer.consume(num_messages=10_000, timeout=0.02)
                if messages:
                    self.calls.append(time.perf_counter() - asked)
                self.take(messages)
            self.commit()
        except BaseException as failure:  # the main thread reports it
            self.failure = failure
            self.group.done.set()
        finally:
            self.consumer.close()

    def commit(self) -> None:
        try:
            self.consumer.commit(asynchronous=False)
        except KafkaException as failure:
            # With few keys, a member may have partitions that nothing went to.
            if failure.args[0].code() != KafkaError._NO_OFFSET:
                raise

    def take(self, messages: list[Message]) -> None:
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            self.counts[message.key() or b""] += 1
        if messages:
            self.group.counted(len(messages))


class Group:
    """What the two members share: how far they are together."""

    def __init__(self, lines: int) -> None:
        self.lines = lines
        self.seen = 0
        self.lock = threading.Lock()
        self.done = threading.Event()
        self.both_assigned = threading.Event()
        self.assigned: dict[Member, int] = {}

    def joined(self, member: Member, partitions: int) -> None:
        with self.lock:
            self.assigned[member] = partitions
            if len(self.assigned) == 2:
                self.both_assigned.set()

    def counted(self, n: int) -> None:
        with self.lock:
            before, self.seen = self.seen, self.seen + n
            if self.seen // 65536 != before // 65536:
                print(json.dumps({"progress": self.seen}), flush=True)
            if self.seen >= self.lines:
                self.done.set()


def percentile(values: list[float], part: float) -> int:
    return int(sorted(values)[min(int(len(values) * part), len(values) - 1)] * 1e6) if values else 0


def main(bootstrap: str, topic: str, path: str) -> int:
    with open(path, "rb") as file:
        lines = file.read().split(b"\n")
    if lines and not lines[-1]:
        lines.pop()
    expected = Counter(key_of(line) for line in lines)

    group = Group(len(lines))
    started = time.perf_counter()
    members = [Member(bootstrap, topic, group) for _ in range(2)]
    for member in members:
        member.start()
    if not lines:
        group.done.set()
    last, stalled_since = -1, time.monotonic()
    while not group.done.wait(timeout=1):
        if group.seen != last:
            last, stalled_since = group.seen, time.monotonic()
        elif time.monotonic() - stalled_since > 30:
            print(f"count: only {group.seen} of {len(lines)} lines arrived, none for 30 s", file=sys.stderr)
            group.done.set()
    seconds = time.perf_counter() - started
    for member in members:
        member.join()
    for member in members:
        if member.failure:
            print(f"count: {member.failure}", file=sys.stderr)
            return 1

    counted = members[0].counts + members[1].counts
    if counted != expected:
        wrong = [key for key in expected.keys() | counted.keys() if expected[key] != counted[key]]
        for key in sorted(wrong)[:5]:
            print(f"count: key {key!r}: {counted[key]} counted, {expected[key]} in the file", file=sys.stderr)
        print(f"count: {len(wrong)} keys differ", file=sys.stderr)
        return 1
    calls = members[0].calls + members[1].calls
    result = {
        "lines": group.seen,
        "keys": len(counted),
        "partitions": len(members[0].partitions | members[1].partitions),
        "members": [sum(m.counts.values()) for m in members],
        "seconds": seconds,
        "p50_us": percentile(calls, 0.50),
        "p99_us": percentile(calls, 0.99),
        "top": [[key.decode(errors="replace"), n] for key, n in counted.most_common(5)],
    }
    print(json.dumps({"result": result}), flush=True)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: count.py BOOTSTRAP TOPIC FILE")
    sys.exit(main(*sys.argv[1:]))
