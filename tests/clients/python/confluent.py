"""confluent-kafka: librdkafka through Python."""

import time

import confluent_kafka as ck
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import admin as ka

from harness import (
    BOOTSTRAP, FIRST, PATIENCE, Deadline, Record, check, equal, numbers, rebalanced, records, run, same, settle,
    static_returns, table, through_restart, topic,
)

BASE = {"bootstrap.servers": BOOTSTRAP}
ADMIN = ka.AdminClient(BASE)


def done(futures, seconds=PATIENCE):
    return {key: future.result(seconds) for key, future in futures.items()}


def code(action, *arguments, **named):
    """The code of the error that it raises."""
    try:
        result = action(*arguments, **named)
    except KafkaException as error:
        return error.args[0].code()
    raise AssertionError(f"no error, but {result}")


def make(name, partitions=1, config=None):
    done(ADMIN.create_topics([ka.NewTopic(name, partitions, 1, config=config or {})]))
    return name


def producer(**config):
    return Producer({**BASE, "linger.ms": 5, **{k.replace("_", "."): v for k, v in config.items()}})


def consumer(group="none", **config):
    return Consumer({
        **BASE,
        "group.id": f"{topic(group)}",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        **{k.replace("_", "."): v for k, v in config.items()},
    })


def send(p, name, values, **more):
    """Produces and waits; the reports in order."""
    reports = []

    def report(error, message):
        if error is not None:
            raise KafkaException(error)
        reports.append(message)

    for value in values:
        p.produce(name, value, on_delivery=report, **more)
    left = p.flush(PATIENCE)
    equal(left, 0, "not delivered")
    return reports


def read(c, count, seconds=PATIENCE):
    """Reads this many records."""
    got, deadline = [], Deadline(f"{count} records", seconds)
    while len(got) < count and deadline.left():
        for message in c.consume(count - len(got), 0.2):
            if message.error():
                raise KafkaException(message.error())
            got.append(message)
    return got


def nothing(c, seconds=1.0):
    equal([m.value() for m in c.consume(1, seconds)], [], "records that should not be there")


def read_all(name, count, partitions=1, **config):
    c = consumer(**config)
    c.assign([TopicPartition(name, p, 0) for p in range(partitions)])
    got = read(c, count)
    nothing(c, 0.3)
    c.close()
    return got


def values(messages):
    return [m.value() for m in messages]


def codec(kind):
    def case():
        name = make(topic(f"codec-{kind}"))
        p = producer(compression_type=kind, message_max_bytes=1_000_000)
        for r in records():
            p.produce(name, r.value, r.key, headers=r.headers, timestamp=r.timestamp)
        equal(p.flush(PATIENCE), 0, "not delivered")
        got = read_all(name, len(records()))
        equal([m.offset() for m in got], list(range(len(got))), "offsets")
        same([Record(m.key(), m.value(), m.headers() or [], m.timestamp()[1]) for m in got], records())

    return case


def acks(kind):
    def case():
        name = make(topic(f"acks-{kind}"))
        reports = send(producer(acks=kind), name, numbers(50))
        if kind != "0":
            equal([m.offset() for m in reports], list(range(50)), "offsets of the reports")
        equal(values(read_all(name, 50)), numbers(50), "records")

    return case


def partitioner():
    name = make(topic("partitioner"), 3)
    p = producer()
    for turn in range(2):
        for key in range(60):
            p.produce(name, b"%d" % turn, b"%d" % key)
    equal(p.flush(PATIENCE), 0, "not delivered")
    where, turns = {}, {}
    for m in read_all(name, 120, 3):
        where.setdefault(m.key(), set()).add(m.partition())
        turns.setdefault(m.key(), []).append(m.value())
    equal({len(at) for at in where.values()}, {1}, "partitions of a key")
    equal(set.union(*where.values()), {0, 1, 2}, "partitions used")
    equal({tuple(t) for t in turns.values()}, {(b"0", b"1")}, "order")


def seek():
    name = make(topic("seek"))
    send(producer(), name, numbers(10))
    c = consumer()
    c.assign([TopicPartition(name, 0, 0)])
    read(c, 10)
    for offset in (5, 2):
        c.seek(TopicPartition(name, 0, offset))
        equal([m.offset() for m in read(c, 10 - offset)], list(range(offset, 10)), "offsets")
    c.close()


def watermarks():
    name = make(topic("watermarks"))
    c = consumer()
    equal(c.get_watermark_offsets(TopicPartition(name, 0), PATIENCE), (0, 0), "empty")
    send(producer(), name, numbers(10))
    equal(c.get_watermark_offsets(TopicPartition(name, 0), PATIENCE), (0, 10), "filled")
    c.close()


def timed(name):
    p = producer()
    for i in range(10):
        p.produce(name, b"%d" % i, timestamp=FIRST + 1000 * i)
    equal(p.flush(PATIENCE), 0, "not delivered")


def offsets_for_times():
    name = make(topic("offsets-for-times"))
    timed(name)
    c = consumer()
    ask = lambda time: c.offsets_for_times([TopicPartition(name, 0, time)], PATIENCE)[0].offset
    equal([ask(FIRST), ask(FIRST + 4500), ask(FIRST + 9000)], [0, 5, 9], "offsets")
    equal(ask(FIRST + 9001), ck.OFFSET_END, "after the last")
    c.close()


class Member:
    """A consumer of a group that remembers what is assigned."""

    def __init__(self, name, group, **config):
        self.c = consumer(group, **config)
        self.revoked, self.assigned, self.read = [], [], []
        self.c.subscribe([name], on_assign=self.on_assign, on_revoke=self.on_revoke)

    def on_assign(self, c, parts):
        self.assigned.append([p.partition for p in parts])

    def on_revoke(self, c, parts):
        self.revoked.append([p.partition for p in parts])

    def poll(self):
        for m in self.c.consume(100, 0.05):
            if m.error():
                raise KafkaException(m.error())
            self.read.append((m.partition(), m.offset()))

    def has(self):
        return sorted(p.partition for p in self.c.assignment())

    def commit(self):
        self.c.commit(asynchronous=False)

    def close(self):
        self.c.close()


QUICK = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300}


def rebalance(case, **config):
    name = make(topic(case), 4)
    p = producer()
    fill = lambda: [p.produce(name, b"x", partition=i) for i in range(4)] and p.flush(PATIENCE)
    return rebalanced(lambda: Member(name, case, **config), fill)


def group_rebalance():
    rebalance("group-rebalance", partition_assignment_strategy="range", **QUICK)


def group_cooperative():
    a = rebalance("group-cooperative", partition_assignment_strategy="cooperative-sticky", **QUICK)
    moved = [r for r in a.revoked if r]
    equal(len(moved[0]), 2, "partitions revoked when the second one joined")


def group_848():
    rebalance("group-848", group_protocol="consumer")


def group_static():
    name = make(topic("group-static"), 4)
    static_returns(lambda id: Member(name, "group-static", group_instance_id=id, **QUICK))


def group_commit():
    name = make(topic("group-commit"))
    send(producer(), name, numbers(10))
    c = consumer("group-commit", **QUICK)
    c.subscribe([name])
    got = read(c, 10)
    c.commit(offsets=[TopicPartition(name, 0, 5, metadata="half")], asynchronous=False)
    c.close()
    c = consumer("group-commit", **QUICK)
    c.subscribe([name])
    equal([m.offset() for m in read(c, 5)], [5, 6, 7, 8, 9], "offsets of the new member")
    committed = c.committed([TopicPartition(name, 0)], PATIENCE)[0]
    equal((committed.offset, committed.metadata), (5, "half"), "committed")
    c.close()


def share_group():
    name = make(topic("share-group"))
    config = {**BASE, "group.id": topic("share-group"), "share.acknowledgement.mode": "explicit"}
    members = [ck.ShareConsumer(config) for _ in range(2)]
    for member in members:
        member.subscribe([name])
    seen, released, p = {}, None, producer()
    deadline = Deadline("20 records, one of them twice", 2 * PATIENCE)
    # A share group begins at the end: records count from the first that arrives.
    sent, warm = 0, False
    while deadline.left():
        if not warm:
            p.produce(name, b"warm")
            p.flush(PATIENCE)
        elif sent == 0:
            for value in numbers(20):
                p.produce(name, value)
            sent = 20
            p.flush(PATIENCE)
        for member in members:
            for m in member.poll(0.3):
                if m.error():
                    raise KafkaException(m.error())
                if m.value() == b"warm":
                    warm = True
                    member.acknowledge(m)
                    continue
                count = m.delivery_count() if hasattr(m, "delivery_count") else None
                seen.setdefault(m.value(), []).append(count)
                if released is None:
                    released = m.value()
                    member.acknowledge(m, ck.AcknowledgeType.RELEASE)
                else:
                    member.acknowledge(m, ck.AcknowledgeType.ACCEPT)
            member.commit_sync()
        if len(seen) == 20 and len(seen[released]) == 2:
            break
    equal(sorted(len(s) for s in seen.values()), [1] * 19 + [2], "deliveries")
    for member in members:
        member.close()


def idempotent():
    name = make(topic("idempotent"))
    send(producer(enable_idempotence=True), name, numbers(200))
    equal(values(read_all(name, 200)), numbers(200), "records")


def transactional(case, **config):
    p = producer(transactional_id=topic(case), transaction_timeout_ms=20000, **config)
    p.init_transactions(PATIENCE)
    return p


def txn_commit():
    name = make(topic("txn-commit"), 2)
    p = transactional("txn-commit")
    p.begin_transaction()
    for i in range(20):
        p.produce(name, b"%d" % i, partition=i % 2)
    equal(p.flush(PATIENCE), 0, "not delivered")
    c = consumer()
    c.assign([TopicPartition(name, 0, 0), TopicPartition(name, 1, 0)])
    nothing(c)
    p.commit_transaction(PATIENCE)
    equal(sorted(values(read(c, 20))), sorted(numbers(20)), "records")
    c.close()


def txn_abort():
    name = make(topic("txn-abort"))
    p = transactional("txn-abort")
    for first, end in ((0, p.commit_transaction), (10, p.abort_transaction), (20, p.commit_transaction)):
        p.begin_transaction()
        send(p, name, numbers(10, first))
        end(PATIENCE)
    equal(values(read_all(name, 20)), numbers(10) + numbers(10, 20), "committed")
    equal(values(read_all(name, 30, isolation_level="read_uncommitted")), numbers(30), "uncommitted")


def txn_offsets():
    source, sink = make(topic("txn-offsets", ".in")), make(topic("txn-offsets"))
    send(producer(), source, numbers(10))
    c = consumer("txn-offsets", **QUICK)
    c.subscribe([source])
    p = transactional("txn-offsets")
    for attempt, end in ((b"aborted ", p.abort_transaction), (b"", p.commit_transaction)):
        got = read(c, 10)
        p.begin_transaction()
        for m in got:
            p.produce(sink, attempt + m.value())
        p.send_offsets_to_transaction(c.position(c.assignment()), c.consumer_group_metadata(), PATIENCE)
        end(PATIENCE)
        committed = c.committed([TopicPartition(source, 0)], PATIENCE)[0].offset
        equal(committed, ck.OFFSET_INVALID if attempt else 10, "committed offset")
        c.seek(TopicPartition(source, 0, 0))
    c.close()
    equal(values(read_all(sink, 10)), numbers(10), "committed")


def txn_fencing():
    name = make(topic("txn-fencing"))
    old = transactional("txn-fencing")
    old.begin_transaction()
    send(old, name, numbers(5))
    new = transactional("txn-fencing")
    got = code(lambda: (send(old, name, numbers(5, 5)), old.commit_transaction(PATIENCE)))
    check(got in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED), f"the error is {got}")
    new.begin_transaction()
    send(new, name, numbers(5, 10))
    new.commit_transaction(PATIENCE)
    equal(values(read_all(name, 5)), numbers(5, 10), "committed")


def there(name):
    return name in ADMIN.list_topics(timeout=PATIENCE).topics


def describe(name):
    return done(ADMIN.describe_topics(ck.TopicCollection([name])))[name]


def admin_topics():
    name = make(topic("admin-topics"), 3, {"cleanup.policy": "compact"})
    check(there(name), "not listed")
    described = describe(name)
    equal([p.id for p in described.partitions], [0, 1, 2], "partitions")
    equal([[r.id for r in p.isr] for p in described.partitions], [[p.leader.id] for p in described.partitions], "in sync")
    check(not described.is_internal, "internal")
    done(ADMIN.delete_topics([name]))
    check(not there(name), "still listed")
    equal(code(describe, name), KafkaError.UNKNOWN_TOPIC_OR_PART, "describing")


def admin_partitions():
    name = make(topic("admin-partitions"))
    done(ADMIN.create_partitions([ka.NewPartitions(name, 3)]))
    equal(len(describe(name).partitions), 3, "partitions")
    p = producer()
    for i in range(3):
        p.produce(name, b"%d" % i, partition=i)
    equal(p.flush(PATIENCE), 0, "not delivered")
    equal(sorted(values(read_all(name, 3, 3))), numbers(3), "records")


def config_of(kind, name):
    resource = ka.ConfigResource(kind, name)
    return done(ADMIN.describe_configs([resource]))[resource]


def admin_configs():
    name = make(topic("admin-configs"), config={"retention.ms": "1000000"})
    kind = ka.ConfigResource.Type.TOPIC
    before = config_of(kind, name)["retention.ms"]
    equal((before.value, before.is_default, before.source), ("1000000", False, ka.ConfigSource.DYNAMIC_TOPIC_CONFIG.value), "before")
    entry = ka.ConfigEntry("retention.ms", "2000000", incremental_operation=ka.AlterConfigOpType.SET)
    done(ADMIN.incremental_alter_configs([ka.ConfigResource(kind, name, incremental_configs=[entry])]))
    after = config_of(kind, name)
    equal(after["retention.ms"].value, "2000000", "after")
    equal((after["cleanup.policy"].value, after["cleanup.policy"].is_default), ("delete", True), "another one")
    broker = ADMIN.list_topics(timeout=PATIENCE).brokers.popitem()[0]
    check("message.max.bytes" in config_of(ka.ConfigResource.Type.BROKER, str(broker)), "the broker's")


def group_state(group):
    return done(ADMIN.describe_consumer_groups([group]))[group]


def listed(group):
    return group in [g.group_id for g in ADMIN.list_consumer_groups().result(PATIENCE).valid]


def admin_groups():
    name, group = make(topic("admin-groups")), topic("admin-groups")
    m = Member(name, "admin-groups", client_id="the-member", **QUICK)
    settle("assigned", lambda: m.has() == [0], m)
    check(listed(group), "not listed")
    described = group_state(group)
    equal(described.state, ck.ConsumerGroupState.STABLE, "state")
    members = [(o.client_id, [(t.topic, t.partition) for t in o.assignment.topic_partitions]) for o in described.members]
    equal(members, [("the-member", [(name, 0)])], "members")
    m.c.close()
    described = group_state(group)
    equal((described.state, len(described.members)), (ck.ConsumerGroupState.EMPTY, 0), "without members")


def admin_delete_group():
    name, group = make(topic("admin-delete-group")), topic("admin-delete-group")
    m = Member(name, "admin-delete-group", **QUICK)
    settle("assigned", lambda: m.has() == [0], m)
    m.c.commit(offsets=[TopicPartition(name, 0, 0)], asynchronous=False)
    delete = lambda: done(ADMIN.delete_consumer_groups([group]))
    equal(code(delete), KafkaError.NON_EMPTY_GROUP, "with a member")
    m.c.close()
    delete()
    check(not listed(group), "still listed")


def admin_delete_records():
    name = make(topic("admin-delete-records"))
    send(producer(), name, numbers(10))
    result = done(ADMIN.delete_records([TopicPartition(name, 0, 5)]))
    equal([r.low_watermark for r in result.values()], [5], "low watermark")
    c = consumer()
    equal(c.get_watermark_offsets(TopicPartition(name, 0), PATIENCE), (5, 10), "watermarks")
    c.assign([TopicPartition(name, 0, ck.OFFSET_BEGINNING)])
    equal(read(c, 5)[0].offset(), 5, "first record")
    c.close()


def admin_list_offsets():
    name = make(topic("admin-list-offsets"))
    timed(name)
    at = TopicPartition(name, 0)
    specs = [ka.OffsetSpec.earliest(), ka.OffsetSpec.latest(), ka.OffsetSpec.for_timestamp(FIRST + 4500), ka.OffsetSpec.max_timestamp()]
    equal([done(ADMIN.list_offsets({at: spec}))[at].offset for spec in specs], [0, 10, 5, 9], "offsets")


def admin_cluster():
    cluster = ADMIN.describe_cluster().result(PATIENCE)
    check(cluster.cluster_id, "no cluster id")
    equal([n.port for n in cluster.nodes], [int(BOOTSTRAP.rsplit(":")[-1])], "nodes")
    equal(cluster.controller.id, cluster.nodes[0].id, "controller")


def error_unknown_topic():
    name = topic("error-unknown-topic")
    p = producer(topic_metadata_propagation_max_ms=500, message_timeout_ms=5000)
    check(code(send, p, name, [b"x"]) in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC), "producing")
    c = consumer(topic_metadata_propagation_max_ms=500)
    c.subscribe([name])
    equal(code(read, c, 1), KafkaError.UNKNOWN_TOPIC_OR_PART, "reading")
    c.close()
    check(not there(name), "the topic was made")


def error_too_large():
    name = make(topic("error-too-large"), config={"max.message.bytes": "10000"})
    p = producer()
    equal(code(send, p, name, [b"x" * 20000]), KafkaError.MSG_SIZE_TOO_LARGE, "20 kB")
    send(p, name, [b"small"])
    equal(values(read_all(name, 1)), [b"small"], "records")


def error_invalid_config():
    name = topic("error-invalid-config")
    equal(code(make, name, config={"retention.ms": "soon"}), KafkaError.INVALID_CONFIG, "a value")
    equal(code(make, name, config={"no.such.thing": "1"}), KafkaError.INVALID_CONFIG, "a name")
    check(not there(name), "the topic was made")


def error_admin():
    name = make(topic("error-admin"))
    equal(code(make, name), KafkaError.TOPIC_ALREADY_EXISTS, "again")
    equal(code(make, name + "/"), KafkaError.TOPIC_EXCEPTION, "name")
    equal(code(lambda: done(ADMIN.create_partitions([ka.NewPartitions(name, 1)]))), KafkaError.INVALID_PARTITIONS, "no more partitions")
    equal(code(lambda: done(ADMIN.create_topics([ka.NewTopic(name + "-3", 1, 3)]))), KafkaError.INVALID_REPLICATION_FACTOR, "replicas")
    equal(code(lambda: done(ADMIN.delete_topics([name + "-no"]))), KafkaError.UNKNOWN_TOPIC_OR_PART, "deletion")


def error_out_of_range():
    name = make(topic("error-out-of-range"))
    send(producer(), name, numbers(3))
    c = consumer(auto_offset_reset="error")
    c.assign([TopicPartition(name, 0, 100)])
    got = code(read, c, 1)
    check(got in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE), f"the error is {got}")
    c.close()


def error_deleted_topic():
    name = make(topic("error-deleted-topic"))
    send(producer(), name, numbers(3))
    c = consumer(topic_metadata_refresh_interval_ms=500)
    c.assign([TopicPartition(name, 0, 0)])
    read(c, 3)
    done(ADMIN.delete_topics([name]))
    end = time.monotonic() + 3
    while time.monotonic() < end:
        for m in c.consume(1, 0.2):
            check(m.error(), f"a record: {m.value()}")
            check(m.error().code() in (3, 100, KafkaError._UNKNOWN_PARTITION), f"the error is {m.error()}")
    c.close()


def error_unsupported():
    rule = ka.AclBinding(
        ka.ResourceType.TOPIC, topic("acl"), ka.ResourcePatternType.LITERAL, "User:x", "*", ka.AclOperation.READ, ka.AclPermissionType.ALLOW
    )
    got = code(lambda: done(ADMIN.create_acls([rule])))
    check(got in (KafkaError.SECURITY_DISABLED, KafkaError._UNSUPPORTED_FEATURE), f"the error is {got}")


def produce_through_restart(name, meanwhile):
    """Produces while the broker is started again, and everything is delivered; how many values."""
    p, failed = producer(acks="all", enable_idempotence=True), []
    report = lambda error, message: failed.append(error) if error else None
    for i in through_restart():
        p.produce(name, b"%d" % i, on_delivery=report)
        p.poll(0.01)
        meanwhile()
    equal(p.flush(PATIENCE), 0, "not delivered")
    equal(failed, [], "errors")
    return i + 1


def broker_restart():
    name = make(topic("restart"))
    sent = produce_through_restart(name, lambda: time.sleep(0.01))
    equal(values(read_all(name, sent)), numbers(sent), "records")


def broker_kill():
    name = make(topic("kill"))
    c = consumer("kill", **QUICK)
    c.subscribe([name])
    got = []

    def take(seconds):
        message = c.poll(seconds)
        # That the broker is away is an error, too.
        if message is not None and message.error() is None:
            got.append(message.value())
            c.commit(message, asynchronous=True)

    sent = produce_through_restart(name, lambda: take(0.01))
    deadline = Deadline("the member reads all", 90)
    while len(set(got)) < sent and deadline.left():
        take(0.2)
    # What was not committed yet may come again.
    equal(list(dict.fromkeys(got)), numbers(sent), "records of the member")
    c.commit(offsets=[TopicPartition(name, 0, sent)], asynchronous=False)
    equal(c.committed([TopicPartition(name, 0)], PATIENCE)[0].offset, sent, "committed")
    c.close()
    equal(values(read_all(name, sent)), numbers(sent), "records")


CASES = table(
    codec, acks, partitioner, seek, watermarks, offsets_for_times, group_rebalance, group_cooperative, group_static, group_commit, group_848,
    share_group, idempotent, txn_commit, txn_abort, txn_offsets, txn_fencing, admin_topics, admin_partitions, admin_configs,
    admin_groups, admin_delete_group, admin_delete_records, admin_list_offsets, admin_cluster, error_unknown_topic, error_too_large,
    error_invalid_config, error_admin, error_out_of_range, error_deleted_topic, error_unsupported,
    restart=broker_restart, kill=broker_kill,
)

if __name__ == "__main__":
    run(CASES)
