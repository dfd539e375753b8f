"""aiokafka: Python's asyncio."""

import asyncio
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.structs import OffsetAndMetadata

from harness import BOOTSTRAP, FIRST, Deadline, Record, check, equal, numbers, records, run, same, table, through_restart, topic

QUICK = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300}


async def code(awaitable):
    """The code of the error that it raises."""
    try:
        result = await awaitable
    except errors.KafkaError as error:
        return getattr(error, "errno", None) or type(error).__name__
    raise AssertionError(f"no error, but {result}")


class Admin:
    """An administration client; an error in an answer is raised, which this client leaves to the caller."""

    async def __aenter__(self):
        self.a = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
        await self.a.start()
        return self.a

    async def __aexit__(self, *_):
        await self.a.close()


def raise_first(result):
    for _, error, *_ in result:
        if error:
            raise errors.for_code(error)()


async def make(name, partitions=1, config=None, replicas=1):
    async with Admin() as a:
        made = await a.create_topics([NewTopic(name, partitions, replicas, topic_configs=config or {})])
        raise_first(made.topic_errors)
    return name


async def delete(name):
    async with Admin() as a:
        raise_first((await a.delete_topics([name])).topic_error_codes)


async def producer(**config):
    p = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, **{"linger_ms": 5, "acks": "all", **config})
    await p.start()
    return p


async def consumer(group=None, subscribe=None, **config):
    fixed = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "fetch_max_wait_ms": 100, "metadata_max_age_ms": 1000}
    c = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=group and topic(group), **{**fixed, **config})
    if subscribe:
        c.subscribe([subscribe])
    await c.start()
    return c


async def send(p, name, values, **more):
    """Produces and waits; the reports in order."""
    futures = [await p.send(name, value, **more) for value in values]
    return [await future for future in futures]


async def poll(c, seconds=0.2):
    return [r for batch in (await c.getmany(timeout_ms=int(seconds * 1000))).values() for r in batch]


async def read(c, count):
    """Reads this many records."""
    got, deadline = [], Deadline(f"{count} records")
    while len(got) < count and deadline.left():
        got += await poll(c)
    equal(len(got), count, "records")
    return got


async def nothing(c, seconds=1.0):
    equal(values(await poll(c, seconds)), [], "records that should not be there")


def at(name, partition=0):
    return TopicPartition(name, partition)


async def reader(name, partitions=1, **config):
    c = await consumer(**config)
    c.assign([at(name, p) for p in range(partitions)])
    await c.seek_to_beginning()
    return c


async def read_all(name, count, partitions=1, **config):
    c = await reader(name, partitions, **config)
    got = await read(c, count)
    await nothing(c, 0.3)
    await c.stop()
    return got


def values(messages):
    return [m.value for m in messages]


def codec(kind):
    async def case():
        name = await make(topic(f"codec-{kind}"))
        p = await producer(compression_type=None if kind == "none" else kind)
        for r in records():
            await p.send(name, r.value, r.key, headers=r.headers, timestamp_ms=r.timestamp)
        await p.stop()
        got = await read_all(name, len(records()))
        equal([m.offset for m in got], list(range(len(got))), "offsets")
        same([Record(m.key, m.value, list(m.headers), m.timestamp) for m in got], records())

    return case


def acks(kind):
    async def case():
        name = await make(topic(f"acks-{kind}"))
        p = await producer(acks=kind if kind == "all" else int(kind))
        reports = await send(p, name, numbers(50))
        if kind != "0":
            equal([m.offset for m in reports], list(range(50)), "offsets of the reports")
        await p.stop()
        equal(values(await read_all(name, 50)), numbers(50), "records")

    return case


async def partitioner():
    name = await make(topic("partitioner"), 3)
    p = await producer()
    for turn in range(2):
        for key in range(60):
            await p.send(name, b"%d" % turn, b"%d" % key)
    await p.stop()
    where, turns = {}, {}
    for m in await read_all(name, 120, 3):
        where.setdefault(m.key, set()).add(m.partition)
        turns.setdefault(m.key, []).append(m.value)
    equal({len(a) for a in where.values()}, {1}, "partitions of a key")
    equal(set.union(*where.values()), {0, 1, 2}, "partitions used")
    equal({tuple(t) for t in turns.values()}, {(b"0", b"1")}, "order")


async def fill(name, count=10, **config):
    p = await producer(**config)
    await send(p, name, numbers(count))
    await p.stop()


async def seek():
    name = await make(topic("seek"))
    await fill(name)
    c = await reader(name)
    await read(c, 10)
    for offset in (5, 2):
        c.seek(at(name), offset)
        equal([m.offset for m in await read(c, 10 - offset)], list(range(offset, 10)), "offsets")
    await c.stop()


async def edges(c, name):
    return (await c.beginning_offsets([at(name)]))[at(name)], (await c.end_offsets([at(name)]))[at(name)]


async def watermarks():
    name = await make(topic("watermarks"))
    c = await consumer()
    equal(await edges(c, name), (0, 0), "empty")
    await fill(name)
    equal(await edges(c, name), (0, 10), "filled")
    await c.stop()


async def offsets_for_times():
    name = await make(topic("offsets-for-times"))
    p = await producer()
    for i in range(10):
        await p.send(name, b"%d" % i, timestamp_ms=FIRST + 1000 * i)
    await p.stop()
    c = await consumer()
    ask = lambda time: c.offsets_for_times({at(name): time})
    for time, offset in ((FIRST, 0), (FIRST + 4500, 5), (FIRST + 9000, 9)):
        equal((await ask(time))[at(name)].offset, offset, f"offset for {time}")
    equal((await ask(FIRST + 9001))[at(name)], None, "after the last")
    await c.stop()


class Member(ConsumerRebalanceListener):
    """A consumer of a group that remembers what is assigned."""

    def __init__(self):
        self.assigned, self.read = [], []

    @classmethod
    async def join(cls, name, group, **config):
        self = cls()
        self.c = await consumer(group, **QUICK, **config)
        self.c.subscribe([name], listener=self)
        return self

    async def on_partitions_revoked(self, revoked):
        pass

    async def on_partitions_assigned(self, assigned):
        self.assigned.append([p.partition for p in assigned])

    def has(self):
        return sorted(p.partition for p in self.c.assignment())


async def settle(what, holds, *members):
    deadline = Deadline(what)
    while not holds() and deadline.left():
        for member in members:
            member.read += [(m.partition, m.offset) for m in await poll(member.c, 0.05)]


async def group_rebalance():
    name = await make(topic("group-rebalance"), 4)
    p = await producer()

    async def fill():
        for i in range(4):
            await p.send_and_wait(name, b"x", partition=i)

    await fill()
    config = {"partition_assignment_strategy": [RangePartitionAssignor]}
    a = await Member.join(name, "group-rebalance", **config)
    await settle("one has 4", lambda: a.has() == [0, 1, 2, 3] and len(a.read) >= 4, a)
    await a.c.commit()
    b = await Member.join(name, "group-rebalance", **config)
    await settle("both have 2", lambda: len(a.has()) == len(b.has()) == 2 and sorted(a.has() + b.has()) == [0, 1, 2, 3], a, b)
    await fill()
    both = lambda: {at for at, o in a.read if o == 1} | {at for at, o in b.read if o == 1}
    await settle("both read", lambda: both() == {0, 1, 2, 3}, a, b)
    await b.c.stop()
    await settle("the one that stays has 4", lambda: a.has() == [0, 1, 2, 3], a)
    await a.c.stop()
    await p.stop()


async def group_static():
    name = await make(topic("group-static"), 4)
    member = lambda id: Member.join(name, "group-static", group_instance_id=id)
    a = await member("a")
    await settle("one has 4", lambda: len(a.has()) == 4, a)
    b = await member("b")
    await settle("both have 2", lambda: len(a.has()) == len(b.has()) == 2, a, b)
    had, turns = b.has(), len(a.assigned)
    await b.c.stop()
    b = await member("b")
    await settle("it is back", lambda: len(b.has()) == 2, a, b)
    # A rebalance would be told within the other one's next heartbeats.
    end = time.monotonic() + 1
    await settle("a moment", lambda: time.monotonic() > end, a, b)
    equal(b.has(), had, "partitions of the one that returned")
    equal(len(a.assigned), turns, "rebalances of the other one")
    await a.c.stop()
    await b.c.stop()


async def group_commit():
    name = await make(topic("group-commit"))
    await fill(name)
    c = await consumer("group-commit", name, **QUICK)
    await read(c, 10)
    await c.commit({at(name): OffsetAndMetadata(5, "half")})
    await c.stop()
    c = await consumer("group-commit", name, **QUICK)
    equal([m.offset for m in await read(c, 5)], [5, 6, 7, 8, 9], "offsets of the new member")
    equal(await c.committed(at(name)), 5, "committed")
    await c.stop()


async def idempotent():
    name = await make(topic("idempotent"))
    await fill(name, 200, enable_idempotence=True)
    equal(values(await read_all(name, 200)), numbers(200), "records")


async def transactional(case):
    return await producer(transactional_id=topic(case), transaction_timeout_ms=20000)


async def txn_commit():
    name = await make(topic("txn-commit"), 2)
    p = await transactional("txn-commit")
    await p.begin_transaction()
    for i in range(20):
        await p.send(name, b"%d" % i, partition=i % 2)
    await p.flush()
    c = await reader(name, 2, isolation_level="read_committed")
    await nothing(c)
    await p.commit_transaction()
    equal(sorted(values(await read(c, 20))), sorted(numbers(20)), "records")
    await c.stop()
    await p.stop()


async def txn_abort():
    name = await make(topic("txn-abort"))
    p = await transactional("txn-abort")
    for first, end in ((0, p.commit_transaction), (10, p.abort_transaction), (20, p.commit_transaction)):
        await p.begin_transaction()
        await send(p, name, numbers(10, first))
        await end()
    await p.stop()
    equal(values(await read_all(name, 20, isolation_level="read_committed")), numbers(10) + numbers(10, 20), "committed")
    equal(values(await read_all(name, 30)), numbers(30), "uncommitted")


async def committed(name, group):
    c = await consumer(group)
    c.assign([at(name)])
    offset = await c.committed(at(name))
    await c.stop()
    return offset


async def txn_offsets():
    source, sink = await make(topic("txn-offsets", ".in")), await make(topic("txn-offsets"))
    await fill(source)
    c = await consumer("txn-offsets", source, **QUICK)
    p = await transactional("txn-offsets")
    for attempt, end in ((b"aborted ", p.abort_transaction), (b"", p.commit_transaction)):
        got = await read(c, 10)
        await p.begin_transaction()
        for m in got:
            await p.send(sink, attempt + m.value)
        await p.send_offsets_to_transaction({at(source): await c.position(at(source))}, topic("txn-offsets"))
        await end()
        # A consumer remembers what was committed when it began: others ask, until the transaction's end has got there.
        deadline = Deadline("the committed offset")
        while await committed(source, "txn-offsets") != (None if attempt else 10) and deadline.left():
            await asyncio.sleep(0.05)
        c.seek(at(source), 0)
    await c.stop()
    await p.stop()
    equal(values(await read_all(sink, 10, isolation_level="read_committed")), numbers(10), "committed")


async def txn_fencing():
    name = await make(topic("txn-fencing"))
    old = await transactional("txn-fencing")
    await old.begin_transaction()
    await send(old, name, numbers(5))
    new = await transactional("txn-fencing")

    async def go_on():
        await send(old, name, numbers(5, 5))
        await old.commit_transaction()

    got = await code(go_on())
    check(got in (47, 90, "ProducerFenced"), f"the error is {got}")
    await new.begin_transaction()
    await send(new, name, numbers(5, 10))
    await new.commit_transaction()
    await new.stop()
    try:
        await old.stop()
    except errors.KafkaError:
        pass
    equal(values(await read_all(name, 5, isolation_level="read_committed")), numbers(5, 10), "committed")


async def there(name):
    async with Admin() as a:
        return name in await a.list_topics()


async def describe(name):
    async with Admin() as a:
        return (await a.describe_topics([name]))[0]


async def admin_topics():
    name = await make(topic("admin-topics"), 3, {"cleanup.policy": "compact"})
    check(await there(name), "not listed")
    described = (await describe(name))["partitions"]
    equal(sorted(p["partition"] for p in described), [0, 1, 2], "partitions")
    equal([p["isr"] for p in described], [[p["leader"]] for p in described], "in sync")
    await delete(name)
    check(not await there(name), "still listed")
    equal((await describe(name))["error_code"], 3, "describing")


async def admin_partitions():
    name = await make(topic("admin-partitions"))
    async with Admin() as a:
        await a.create_partitions({name: NewPartitions(3)})
    equal(len((await describe(name))["partitions"]), 3, "partitions")
    p = await producer()
    for i in range(3):
        await p.send_and_wait(name, b"%d" % i, partition=i)
    await p.stop()
    equal(sorted(values(await read_all(name, 3, 3))), numbers(3), "records")


async def config_of(kind, name):
    async with Admin() as a:
        (answer,) = await a.describe_configs([ConfigResource(kind, name)])
    error, _, _, _, entries = answer.resources[0]
    equal(error, 0, "describing the configuration")
    return {entry[0]: entry[1] for entry in entries}


async def admin_configs():
    name = await make(topic("admin-configs"), config={"retention.ms": "1000000"})
    equal((await config_of(ConfigResourceType.TOPIC, name))["retention.ms"], "1000000", "before")
    async with Admin() as a:
        answer = await a.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, {"retention.ms": "2000000"})])
        equal([r[0] for r in answer[0].resources], [0], "altering")
        cluster = await a.describe_cluster()
    after = await config_of(ConfigResourceType.TOPIC, name)
    equal(after["retention.ms"], "2000000", "after")
    equal(after["cleanup.policy"], "delete", "another one")
    broker = await config_of(ConfigResourceType.BROKER, str(cluster["brokers"][0]["node_id"]))
    check("message.max.bytes" in broker, "the broker's")


async def group_of(group):
    async with Admin() as a:
        answer = await a.describe_consumer_groups([group])
    error, _, state, _, _, members, *_ = answer[0].groups[0]
    equal(error, 0, "describing the group")
    return state, members


async def admin_groups():
    name, group = await make(topic("admin-groups")), topic("admin-groups")
    m = await Member.join(name, "admin-groups", client_id="the-member")
    await settle("assigned", lambda: m.has() == [0], m)
    async with Admin() as a:
        check(group in [g[0] for g in await a.list_consumer_groups()], "not listed")
    state, members = await group_of(group)
    equal(state, "Stable", "state")
    check("the-member" in str(members) and name in str(members), f"members: {members}")
    await m.c.stop()
    equal(await group_of(group), ("Empty", []), "without members")


async def admin_delete_records():
    name = await make(topic("admin-delete-records"))
    await fill(name)
    async with Admin() as a:
        equal(await a.delete_records({at(name): RecordsToDelete(5)}), {at(name): 5}, "low watermark")
    c = await consumer()
    equal(await edges(c, name), (5, 10), "beginning and end")
    await c.stop()
    equal((await read_all(name, 5))[0].offset, 5, "first record")


async def admin_cluster():
    async with Admin() as a:
        cluster = await a.describe_cluster()
    check(cluster["cluster_id"], "no cluster id")
    equal([n["port"] for n in cluster["brokers"]], [int(BOOTSTRAP.rsplit(":")[-1])], "nodes")
    equal(cluster["controller_id"], cluster["brokers"][0]["node_id"], "controller")


async def error_unknown_topic():
    name = topic("error-unknown-topic")
    p = await producer(request_timeout_ms=2000)
    # It asks for the topic's partitions until its time is up.
    check(await code(send(p, name, [b"x"])) in (3, "KafkaTimeoutError"), "producing")
    await p.stop()
    equal((await describe(name))["error_code"], 3, "describing")
    check(not await there(name), "the topic was made")


async def error_too_large():
    name = await make(topic("error-too-large"), config={"max.message.bytes": "10000"})
    p = await producer()
    equal(await code(send(p, name, [b"x" * 20000])), 10, "20 kB")
    await send(p, name, [b"small"])
    await p.stop()
    equal(values(await read_all(name, 1)), [b"small"], "records")


async def error_invalid_config():
    name = topic("error-invalid-config")
    equal(await code(make(name, config={"retention.ms": "soon"})), 40, "a value")
    equal(await code(make(name, config={"no.such.thing": "1"})), 40, "a name")
    check(not await there(name), "the topic was made")


async def error_admin():
    name = await make(topic("error-admin"))
    equal(await code(make(name)), 36, "again")
    equal(await code(make(name + "/")), 17, "name")
    async with Admin() as a:
        equal(await code(a.create_partitions({name: NewPartitions(1)})), 37, "no more partitions")
    equal(await code(make(name + "-3", replicas=3)), 38, "replicas")
    equal(await code(delete(name + "-no")), 3, "deletion")


async def error_out_of_range():
    name = await make(topic("error-out-of-range"))
    await fill(name, 3)
    c = await consumer(auto_offset_reset="none")
    c.assign([at(name)])
    c.seek(at(name), 100)
    equal(await code(read(c, 1)), 1, "reading")
    await c.stop()


async def error_deleted_topic():
    name = await make(topic("error-deleted-topic"))
    await fill(name, 3)
    c = await reader(name, metadata_max_age_ms=500)
    await read(c, 3)
    await delete(name)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        try:
            equal(values(await poll(c)), [], "records")
        except errors.KafkaError as error:
            check(getattr(error, "errno", 0) in (3, 100), f"the error is {error}")
            await asyncio.sleep(0.1)
    await c.stop()


async def produce_through_restart(name, meanwhile):
    """Produces while the broker is started again, and everything is delivered; how many values."""
    p, futures = await producer(enable_idempotence=True), []
    for i in through_restart():
        futures.append(await p.send(name, b"%d" % i))
        await meanwhile()
    for future in futures:
        await future
    await p.stop()
    return len(futures)


async def broker_restart():
    name = await make(topic("restart"))
    sent = await produce_through_restart(name, lambda: asyncio.sleep(0.02))
    equal(values(await read_all(name, sent)), numbers(sent), "records")


async def broker_kill():
    name = await make(topic("kill"))
    c = await consumer("kill", name, **QUICK)
    got = []

    async def take(seconds):
        try:
            if taken := await poll(c, seconds):
                got.extend(values(taken))
                await asyncio.wait_for(c.commit({at(name): taken[-1].offset + 1}), 1)
        except (errors.KafkaError, asyncio.TimeoutError):
            await asyncio.sleep(0.02)  # it is away

    sent = await produce_through_restart(name, lambda: take(0.02))
    deadline = Deadline("the member reads all")
    while len(set(got)) < sent and deadline.left():
        await take(0.2)
    # What was not committed yet may come again.
    equal(list(dict.fromkeys(got)), numbers(sent), "records of the member")
    await c.commit({at(name): sent})
    equal(await c.committed(at(name)), sent, "committed")
    await c.stop()
    equal(values(await read_all(name, sent)), numbers(sent), "records")


CASES = table(
    codec, acks, partitioner, seek, watermarks, offsets_for_times, group_rebalance, group_static, group_commit, idempotent, txn_commit,
    txn_abort, txn_offsets, txn_fencing, admin_topics, admin_partitions, admin_configs, admin_groups, admin_delete_records,
    admin_cluster, error_unknown_topic, error_too_large, error_invalid_config, error_admin, error_out_of_range,
    error_deleted_topic,
    restart=broker_restart, kill=broker_kill,
)

if __name__ == "__main__":
    run(CASES)
