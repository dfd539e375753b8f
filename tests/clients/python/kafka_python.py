"""kafka-python: a client in Python alone."""

import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, OffsetSpec, TopicPartition, errors
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ConfigResource, NewTopic, ResourcePattern, ResourceType
from kafka.consumer.subscription_state import ConsumerRebalanceListener
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor

from harness import (
    BOOTSTRAP, FIRST, PATIENCE, Deadline, Record, check, equal, numbers, rebalanced, records, run, same, settle,
    static_returns, table, through_restart, topic,
)

ADMIN = KafkaAdminClient(bootstrap_servers=BOOTSTRAP)
QUICK = {"session_timeout_ms": 6000, "heartbeat_interval_ms": 300}


def code(action, *arguments, **named):
    """The code of the error that it raises."""
    try:
        result = action(*arguments, **named)
    except errors.BrokerResponseError as error:
        return error.errno
    except errors.KafkaError as error:
        return type(error).__name__
    raise AssertionError(f"no error, but {result}")


def make(name, partitions=1, config=None, replicas=1):
    ADMIN.create_topics([NewTopic(name, partitions, replicas, topic_configs=config or {})])
    return name


def producer(**config):
    return KafkaProducer(bootstrap_servers=BOOTSTRAP, **{"linger_ms": 5, "allow_auto_create_topics": False, **config})


def consumer(group=None, **config):
    fixed = {"auto_offset_reset": "earliest", "enable_auto_commit": False, "fetch_max_wait_ms": 100, "metadata_max_age_ms": 1000}
    return KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=group and topic(group), allow_auto_create_topics=False, **{**fixed, **config})


def send(p, name, values, **more):
    """Produces and waits; the reports in order."""
    futures = [p.send(name, value, **more) for value in values]
    return [future.get(PATIENCE) for future in futures]


def poll(c, seconds=0.2):
    return [r for batch in c.poll(int(seconds * 1000)).values() for r in batch]


def read(c, count):
    """Reads this many records."""
    got, deadline = [], Deadline(f"{count} records")
    while len(got) < count and deadline.left():
        got += poll(c)
    equal(len(got), count, "records")
    return got


def nothing(c, seconds=1.0):
    equal(values(poll(c, seconds)), [], "records that should not be there")


def at(name, partition=0):
    return TopicPartition(name, partition)


def read_all(name, count, partitions=1, **config):
    c = consumer(**config)
    c.assign([at(name, p) for p in range(partitions)])
    c.seek_to_beginning()
    got = read(c, count)
    nothing(c, 0.3)
    c.close()
    return got


def values(messages):
    return [m.value for m in messages]


def codec(kind):
    def case():
        name = make(topic(f"codec-{kind}"))
        p = producer(compression_type=None if kind == "none" else kind)
        for r in records():
            p.send(name, r.value, r.key, r.headers, timestamp_ms=r.timestamp)
        p.close()
        got = read_all(name, len(records()))
        equal([m.offset for m in got], list(range(len(got))), "offsets")
        same([Record(m.key, m.value, list(m.headers), m.timestamp) for m in got], records())

    return case


def acks(kind):
    def case():
        name = make(topic(f"acks-{kind}"))
        reports = send(producer(acks=kind if kind == "all" else int(kind), enable_idempotence=False), name, numbers(50))
        if kind != "0":
            equal([m.offset for m in reports], list(range(50)), "offsets of the reports")
        equal(values(read_all(name, 50)), numbers(50), "records")

    return case


def partitioner():
    name = make(topic("partitioner"), 3)
    p = producer()
    for turn in range(2):
        for key in range(60):
            p.send(name, b"%d" % turn, b"%d" % key)
    p.close()
    where, turns = {}, {}
    for m in read_all(name, 120, 3):
        where.setdefault(m.key, set()).add(m.partition)
        turns.setdefault(m.key, []).append(m.value)
    equal({len(a) for a in where.values()}, {1}, "partitions of a key")
    equal(set.union(*where.values()), {0, 1, 2}, "partitions used")
    equal({tuple(t) for t in turns.values()}, {(b"0", b"1")}, "order")


def seek():
    name = make(topic("seek"))
    send(producer(), name, numbers(10))
    c = consumer()
    c.assign([at(name)])
    read(c, 10)
    for offset in (5, 2):
        c.seek(at(name), offset)
        equal([m.offset for m in read(c, 10 - offset)], list(range(offset, 10)), "offsets")
    c.close()


def watermarks():
    name = make(topic("watermarks"))
    c = consumer()
    ask = lambda: (c.beginning_offsets([at(name)])[at(name)], c.end_offsets([at(name)])[at(name)])
    equal(ask(), (0, 0), "empty")
    send(producer(), name, numbers(10))
    equal(ask(), (0, 10), "filled")
    c.close()


def timed(name):
    p = producer()
    for i in range(10):
        p.send(name, b"%d" % i, timestamp_ms=FIRST + 1000 * i)
    p.close()


def offsets_for_times():
    name = make(topic("offsets-for-times"))
    timed(name)
    c = consumer()
    ask = lambda time: c.offsets_for_times({at(name): time})[at(name)]
    equal([ask(FIRST).offset, ask(FIRST + 4500).offset, ask(FIRST + 9000).offset], [0, 5, 9], "offsets")
    equal(ask(FIRST + 9001), None, "after the last")
    c.close()


class Member(ConsumerRebalanceListener):
    """A consumer of a group that remembers what is assigned."""

    def __init__(self, name, group, **config):
        self.c = consumer(group, **config)
        self.revoked, self.assigned, self.read = [], [], []
        # A leader that joins before it knows the topic assigns nothing of it.
        self.c.partitions_for_topic(name)
        self.c.subscribe([name], listener=self)

    def on_partitions_assigned(self, assigned):
        self.assigned.append([p.partition for p in assigned])

    def on_partitions_revoked(self, revoked):
        self.revoked.append([p.partition for p in revoked])

    def poll(self):
        self.read += [(m.partition, m.offset) for m in poll(self.c, 0.05)]

    def has(self):
        return sorted(p.partition for p in self.c.assignment())

    def commit(self):
        self.c.commit()

    def close(self):
        self.c.close()


def rebalance(case, **config):
    name = make(topic(case), 4)
    p = producer()
    fill = lambda: [p.send(name, b"x", partition=i) for i in range(4)] and p.flush()
    return rebalanced(lambda: Member(name, case, **config), fill)


def group_rebalance():
    rebalance("group-rebalance", partition_assignment_strategy=[RangePartitionAssignor], **QUICK)


def group_cooperative():
    a = rebalance("group-cooperative", partition_assignment_strategy=[CooperativeStickyAssignor], **QUICK)
    moved = [r for r in a.revoked if r]
    equal(len(moved[0]), 2, "partitions revoked when the second one joined")


def group_static():
    name = make(topic("group-static"), 4)
    static_returns(lambda id: Member(name, "group-static", group_instance_id=id, **QUICK))


def group_commit():
    name = make(topic("group-commit"))
    send(producer(), name, numbers(10))
    c = consumer("group-commit", **QUICK)
    c.subscribe([name])
    read(c, 10)
    c.commit({at(name): OffsetAndMetadata(5, "half", -1)})
    c.close()
    c = consumer("group-commit", **QUICK)
    c.subscribe([name])
    equal([m.offset for m in read(c, 5)], [5, 6, 7, 8, 9], "offsets of the new member")
    committed = c.committed(at(name), metadata=True)
    equal((committed.offset, committed.metadata), (5, "half"), "committed")
    c.close()


def idempotent():
    name = make(topic("idempotent"))
    send(producer(enable_idempotence=True), name, numbers(200))
    equal(values(read_all(name, 200)), numbers(200), "records")


def transactional(case, **config):
    p = producer(transactional_id=topic(case), transaction_timeout_ms=20000, **config)
    p.init_transactions()
    return p


def txn_commit():
    name = make(topic("txn-commit"), 2)
    p = transactional("txn-commit")
    p.begin_transaction()
    for i in range(20):
        p.send(name, b"%d" % i, partition=i % 2)
    p.flush()
    c = consumer(isolation_level="read_committed")
    c.assign([at(name), at(name, 1)])
    c.seek_to_beginning()
    nothing(c)
    p.commit_transaction()
    equal(sorted(values(read(c, 20))), sorted(numbers(20)), "records")
    c.close()


def txn_abort():
    name = make(topic("txn-abort"))
    p = transactional("txn-abort")
    for first, end in ((0, p.commit_transaction), (10, p.abort_transaction), (20, p.commit_transaction)):
        p.begin_transaction()
        send(p, name, numbers(10, first))
        end()
    equal(values(read_all(name, 20, isolation_level="read_committed")), numbers(10) + numbers(10, 20), "committed")
    equal(values(read_all(name, 30)), numbers(30), "uncommitted")


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
            p.send(sink, attempt + m.value)
        p.send_offsets_to_transaction({at(source): OffsetAndMetadata(c.position(at(source)), "", -1)}, c.group_metadata())
        end()
        # It reads offsets while their transaction is being ended.
        settle("the committed offset", lambda: c.committed(at(source)) == (None if attempt else 10))
        c.seek(at(source), 0)
    c.close()
    equal(values(read_all(sink, 10, isolation_level="read_committed")), numbers(10), "committed")


def txn_fencing():
    name = make(topic("txn-fencing"))
    old = transactional("txn-fencing")
    old.begin_transaction()
    send(old, name, numbers(5))
    new = transactional("txn-fencing")
    got = code(lambda: (send(old, name, numbers(5, 5)), old.commit_transaction()))
    check(got in (47, 90), f"the error is {got}")
    new.begin_transaction()
    send(new, name, numbers(5, 10))
    new.commit_transaction()
    equal(values(read_all(name, 5, isolation_level="read_committed")), numbers(5, 10), "committed")


def there(name):
    return name in ADMIN.list_topics()


def describe(name):
    return ADMIN.describe_topics([name])[0]


def admin_topics():
    name = make(topic("admin-topics"), 3, {"cleanup.policy": "compact"})
    check(there(name), "not listed")
    described = describe(name)["partitions"]
    equal(sorted(p["partition_index"] for p in described), [0, 1, 2], "partitions")
    equal([p["isr_nodes"] for p in described], [[p["leader_id"]] for p in described], "in sync")
    ADMIN.delete_topics([name])
    check(not there(name), "still listed")
    equal(describe(name)["error_code"], 3, "describing")


def admin_partitions():
    name = make(topic("admin-partitions"))
    ADMIN.create_partitions({name: 3})
    equal(len(describe(name)["partitions"]), 3, "partitions")
    p = producer()
    for i in range(3):
        p.send(name, b"%d" % i, partition=i)
    p.close()
    equal(sorted(values(read_all(name, 3, 3))), numbers(3), "records")


def config_of(kind, name):
    return ADMIN.describe_configs([ConfigResource(kind, name)], config_filter="all")[kind][name]


def admin_configs():
    name = make(topic("admin-configs"), config={"retention.ms": "1000000"})
    equal(config_of("topic", name)["retention.ms"]["value"], "1000000", "before")
    ADMIN.alter_configs([ConfigResource("topic", name, {"retention.ms": "2000000"})])
    after = config_of("topic", name)
    equal(after["retention.ms"]["value"], "2000000", "after")
    equal(after["cleanup.policy"]["value"], "delete", "another one")
    broker = str(ADMIN.describe_cluster()["brokers"][0]["broker_id"])
    check("message.max.bytes" in config_of("broker", broker), "the broker's")


def listed(group):
    return group in [g["group_id"] for g in ADMIN.list_groups()]


def admin_groups():
    name, group = make(topic("admin-groups")), topic("admin-groups")
    m = Member(name, "admin-groups", client_id="the-member", **QUICK)
    settle("assigned", lambda: m.has() == [0], m)
    check(listed(group), "not listed")
    described = ADMIN.describe_groups([group])[group]
    equal(described["group_state"], "Stable", "state")
    equal([o["client_id"] for o in described["members"]], ["the-member"], "members")
    check(name in str(described["members"][0]["member_assignment"]), f"assignment: {described['members']}")
    m.c.close()
    described = ADMIN.describe_groups([group])[group]
    equal((described["group_state"], described["members"]), ("Empty", []), "without members")


def admin_delete_group():
    name, group = make(topic("admin-delete-group")), topic("admin-delete-group")
    m = Member(name, "admin-delete-group", **QUICK)
    settle("assigned", lambda: m.has() == [0], m)
    m.c.commit({at(name): OffsetAndMetadata(0, "", -1)})
    check("NonEmptyGroup" in str(ADMIN.delete_groups([group])[group]), "with a member")
    m.c.close()
    equal(ADMIN.delete_groups([group]), {group: "OK"}, "deletion")
    check(not listed(group), "still listed")


def admin_delete_records():
    name = make(topic("admin-delete-records"))
    send(producer(), name, numbers(10))
    equal(ADMIN.delete_records({at(name): 5})[at(name)]["low_watermark"], 5, "low watermark")
    c = consumer()
    equal(c.beginning_offsets([at(name)])[at(name)], 5, "beginning")
    c.assign([at(name)])
    c.seek_to_beginning()
    equal(read(c, 5)[0].offset, 5, "first record")
    c.close()


def admin_list_offsets():
    name = make(topic("admin-list-offsets"))
    timed(name)
    specs = [OffsetSpec.EARLIEST, OffsetSpec.LATEST, FIRST + 4500, OffsetSpec.MAX_TIMESTAMP]
    equal([ADMIN.list_partition_offsets({at(name): spec})[at(name)].offset for spec in specs], [0, 10, 5, 9], "offsets")


def admin_cluster():
    cluster = ADMIN.describe_cluster()
    check(cluster["cluster_id"], "no cluster id")
    equal([n["port"] for n in cluster["brokers"]], [int(BOOTSTRAP.rsplit(":")[-1])], "nodes")
    equal(cluster["controller_id"], cluster["brokers"][0]["broker_id"], "controller")


def error_unknown_topic():
    name = topic("error-unknown-topic")
    # It asks for the topic's partitions until its time is up.
    check(code(lambda: send(producer(max_block_ms=2000), name, [b"x"])) in (3, "KafkaTimeoutError"), "producing")
    equal(describe(name)["error_code"], 3, "describing")
    c = consumer()
    equal(c.partitions_for_topic(name), set(), "partitions")
    c.close()
    check(not there(name), "the topic was made")


def error_too_large():
    name = make(topic("error-too-large"), config={"max.message.bytes": "10000"})
    # An idempotent one would not go on after an error.
    p = producer(enable_idempotence=False)
    equal(code(send, p, name, [b"x" * 20000]), 10, "20 kB")
    send(p, name, [b"small"])
    equal(values(read_all(name, 1)), [b"small"], "records")


def error_invalid_config():
    name = topic("error-invalid-config")
    equal(code(make, name, config={"retention.ms": "soon"}), 40, "a value")
    equal(code(make, name, config={"no.such.thing": "1"}), 40, "a name")
    check(not there(name), "the topic was made")


def error_admin():
    name = make(topic("error-admin"))
    equal(code(make, name), 36, "again")
    equal(code(make, name + "/"), 17, "name")
    equal(code(ADMIN.create_partitions, {name: 1}), 37, "no more partitions")
    equal(code(make, name + "-3", replicas=3), 38, "replicas")
    equal(code(ADMIN.delete_topics, [name + "-no"]), 3, "deletion")


def error_out_of_range():
    name = make(topic("error-out-of-range"))
    send(producer(), name, numbers(3))
    c = consumer(auto_offset_reset="none")
    c.assign([at(name)])
    c.seek(at(name), 100)
    equal(code(read, c, 1), 1, "reading")
    c.close()


def error_deleted_topic():
    name = make(topic("error-deleted-topic"))
    send(producer(), name, numbers(3))
    c = consumer(metadata_max_age_ms=500)
    c.assign([at(name)])
    c.seek_to_beginning()
    read(c, 3)
    ADMIN.delete_topics([name])
    end = time.monotonic() + 3
    while time.monotonic() < end:
        try:
            equal(values(poll(c)), [], "records")
        except errors.BrokerResponseError as error:
            check(error.errno in (3, 100), f"the error is {error}")
    c.close()


def error_unsupported():
    rule = ACL("User:x", "*", ACLOperation.READ, ACLPermissionType.ALLOW, ResourcePattern(ResourceType.TOPIC, topic("acl")))
    try:
        result = ADMIN.create_acls([rule])
        check("SecurityDisabled" in str(result["failed"]), f"the result is {result}")
    except errors.IncompatibleBrokerVersion:
        pass


def produce_through_restart(name, meanwhile):
    """Produces while the broker is started again, and everything is delivered; how many values."""
    p, futures = producer(acks="all", reconnect_backoff_max_ms=1000), []
    for i in through_restart():
        futures.append(p.send(name, b"%d" % i))
        meanwhile()
    for future in futures:
        future.get(PATIENCE)
    return len(futures)


def broker_restart():
    name = make(topic("restart"))
    sent = produce_through_restart(name, lambda: time.sleep(0.02))
    equal(values(read_all(name, sent)), numbers(sent), "records")


def broker_kill():
    name = make(topic("kill"))
    c = consumer("kill", reconnect_backoff_max_ms=1000, **QUICK)
    c.subscribe([name])
    got = []

    def take(seconds):
        try:
            if taken := poll(c, seconds):
                got.extend(values(taken))
                c.commit_async({at(name): OffsetAndMetadata(taken[-1].offset + 1, "", -1)})
        except errors.KafkaError:
            time.sleep(0.02)  # it is away

    sent = produce_through_restart(name, lambda: take(0.02))
    deadline = Deadline("the member reads all")
    while len(set(got)) < sent and deadline.left():
        take(0.2)
    # What was not committed yet may come again.
    equal(list(dict.fromkeys(got)), numbers(sent), "records of the member")
    c.commit({at(name): OffsetAndMetadata(sent, "", -1)})
    equal(c.committed(at(name)), sent, "committed")
    c.close()
    equal(values(read_all(name, sent)), numbers(sent), "records")


CASES = table(
    codec, acks, partitioner, seek, watermarks, offsets_for_times, group_rebalance, group_cooperative, group_static, group_commit, idempotent,
    txn_commit, txn_abort, txn_offsets, txn_fencing, admin_topics, admin_partitions, admin_configs, admin_groups,
    admin_delete_group, admin_delete_records, admin_list_offsets, admin_cluster, error_unknown_topic, error_too_large, error_invalid_config,
    error_admin, error_out_of_range, error_deleted_topic, error_unsupported,
    restart=broker_restart, kill=broker_kill,
)

if __name__ == "__main__":
    run(CASES)
