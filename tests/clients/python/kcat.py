"""Debian's kcat (librdkafka 2.0), the program itself. It can't make topics: confluent-kafka does that for it."""

import re
import signal
import subprocess
import tempfile
import threading
import time

from confluent_kafka.admin import AdminClient, NewTopic

from harness import BOOTSTRAP, PATIENCE, Deadline, check, equal, noise, numbers, run, table, through_restart, topic

ADMIN = AdminClient({"bootstrap.servers": BOOTSTRAP})


def make(name, partitions=1, config=None):
    for made in ADMIN.create_topics([NewTopic(name, partitions, 1, config=config or {})]).values():
        made.result(PATIENCE)
    return name


def delete(name):
    for deleted in ADMIN.delete_topics([name]).values():
        deleted.result(PATIENCE)


def command(*arguments):
    return ["kcat", "-b", BOOTSTRAP, "-m", "20", *arguments]


def kcat(*arguments, given=b"", fails=False):
    """Runs it to its end: what it printed, or, if it shall fail, what it complained of."""
    done = subprocess.run(command(*arguments), input=given, capture_output=True, timeout=2 * PATIENCE)
    complaint = done.stderr.decode(errors="replace")
    if fails:
        check(done.returncode != 0, f"kcat succeeded: {done.stdout[:200]!r} {complaint}")
        return complaint
    check(done.returncode == 0, f"kcat ended with {done.returncode}: {complaint}")
    return done.stdout


def lines(values):
    return b"".join(value + b"\n" for value in values)


def produce(name, values, *more):
    kcat("-P", "-t", name, *more, given=lines(values))


FORMAT = "%p|%o|%T|%K|%S|%h|%k%s\\n"


def parse(out):
    """Records of FORMAT: partition, offset, timestamp, key, value, headers as kcat prints them."""
    records, rest = [], out
    while rest:
        head, rest = rest.split(b"|", 5), b""
        p, o, t, k, s, tail = head
        headers, tail = tail.split(b"|", 1)
        k, s = int(k), int(s)
        key, tail = (None, tail) if k < 0 else (tail[:k], tail[k:])
        value, tail = (None, tail) if s < 0 else (tail[:s], tail[s:])
        check(tail[:1] == b"\n", f"what kcat printed is not understood at offset {int(o)}")
        rest = tail[1:]
        records.append((int(p), int(o), int(t), key, value, headers.decode()))
    return records


def read(name, *more, start="beginning"):
    """Reads to the end."""
    return parse(kcat("-C", "-t", name, "-o", start, "-e", "-q", "-f", FORMAT, *more))


def values(records):
    return [r[4] for r in records]


def codec(kind):
    def case():
        name = make(topic(f"codec-{kind}"))
        z = ("-z", kind)
        with tempfile.NamedTemporaryFile() as large, tempfile.NamedTemporaryFile() as binary:
            large.write(noise(100_000)), large.flush()
            binary.write(bytes(range(256))), binary.flush()
            # With -Z an empty value is none, without it is empty.
            kcat("-P", "-t", name, *z, "-K:", "-H", "h=1", "-H", "n=two", given=b"k0:v0\n")
            kcat("-P", "-t", name, *z, given=b"no key\n")
            kcat("-P", "-t", name, *z, "-K:", "-Z", "-H", "why=deleted", given=b"tombstone:\n")
            kcat("-P", "-t", name, *z, "-K:", given=b"empty:\n")
            kcat("-P", "-t", name, *z, "-k", "binary", binary.name)
            kcat("-P", "-t", name, *z, "-k", "large", large.name)
        kcat("-P", "-t", name, *z, "-K:", given=lines(b"key-%d:" % i + b"value-%d " % i * i for i in range(6, 12)))
        got = read(name)
        equal([r[1] for r in got], list(range(12)), "offsets")
        wanted = [
            (b"k0", b"v0", "h=1,n=two"),
            (None, b"no key", ""),
            (b"tombstone", None, "why=deleted"),
            (b"empty", b"", ""),
            (b"binary", bytes(range(256)), ""),
            (b"large", noise(100_000), ""),
        ] + [(b"key-%d" % i, b"value-%d " % i * i, "") for i in range(6, 12)]
        for i, (g, w) in enumerate(zip(got, wanted)):
            equal(g[3:], w, f"record {i}")
        now = time.time() * 1000
        check(all(now - 60_000 < r[2] <= now + 1000 for r in got), "timestamps")

    return case


def acks(kind):
    def case():
        name = make(topic(f"acks-{kind}"))
        produce(name, numbers(50), "-X", f"topic.acks={kind}")
        deadline = Deadline("50 records")
        while len(got := read(name)) < 50 and deadline.left():
            pass
        equal(values(got), numbers(50), "records")
        equal([r[1] for r in got], list(range(50)), "offsets")

    return case


def partitioner():
    name = make(topic("partitioner"), 3)
    for turn in range(2):
        kcat("-P", "-t", name, "-K:", given=lines(b"%d:%d" % (key, turn) for key in range(60)))
    where, turns = {}, {}
    for p, _, _, key, value, _ in read(name):
        where.setdefault(key, set()).add(p)
        turns.setdefault(key, []).append(value)
    equal({len(a) for a in where.values()}, {1}, "partitions of a key")
    equal(set.union(*where.values()), {0, 1, 2}, "partitions used")
    equal({tuple(t) for t in turns.values()}, {(b"0", b"1")}, "order")


COMMITTED, UNCOMMITTED = ("-X", "isolation.level=read_committed"), ("-X", "isolation.level=read_uncommitted")


def query(name, time, *more, partition=0):
    """What -Q says."""
    return int(re.search(rb"offset (-?\d+)", kcat("-Q", "-t", f"{name}:{partition}:{time}", *more))[1])


def watermarks():
    name = make(topic("watermarks"))
    equal((query(name, -2), query(name, -1)), (0, 0), "empty")
    produce(name, numbers(10))
    equal((query(name, -2), query(name, -1)), (0, 10), "filled")


def offsets_for_times():
    # It can't give timestamps: the broker's are far enough apart.
    name = make(topic("offsets-for-times"))
    for i in range(3):
        produce(name, numbers(1, i))
        time.sleep(0.02)
    stamps = [r[2] for r in read(name)]
    check(stamps[0] < stamps[1] < stamps[2], f"timestamps {stamps}")
    equal([query(name, stamps[0]), query(name, stamps[0] + 1), query(name, stamps[2])], [0, 1, 2], "offsets")
    equal(query(name, stamps[2] + 1), -1, "after the last")
    equal(values(read(name, start=f"s@{stamps[1]}")), numbers(2, 1), "records from a time")


class Member:
    """kcat -G; what it says of rebalances, and the records it prints."""

    def __init__(self, name, group, *more, incremental=False):
        self.out, self.revoked, self.had, self.turns = [], [], set(), 0
        self.incremental = incremental
        quick = ("-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=300", "-X", "auto.offset.reset=earliest")
        arguments = ("-u", "-f", "%p %o\\n", *quick, *more, "-G", topic(group), name)
        self.child = subprocess.Popen(command(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        threading.Thread(target=self.listen, daemon=True).start()
        threading.Thread(target=self.collect, daemon=True).start()

    def listen(self):
        for line in self.child.stderr:
            text = line.decode(errors="replace")
            if "rebalanced" not in text:
                continue
            parts = {int(p) for p in re.findall(r"\[(\d+)\]", text)}
            if "assigned:" in text or "incremental assignment" in text:
                self.had, self.turns = self.had | parts if self.incremental else parts, self.turns + 1
            if "revoked" in text or "incremental revoke" in text:
                self.had = self.had - parts if self.incremental else set()
                self.revoked.append(parts)

    def collect(self):
        for line in self.child.stdout:
            self.out.append(tuple(map(int, line.split())))

    def has(self):
        return sorted(self.had)

    def stop(self):
        self.child.send_signal(signal.SIGINT)
        equal(self.child.wait(PATIENCE), 0, "exit code")


def settle(what, holds):
    deadline = Deadline(what)
    while not holds() and deadline.left():
        time.sleep(0.05)


def rebalance(case, strategy):
    name = make(topic(case), 4)
    fill = lambda: [produce(name, [b"x"], "-p", str(p)) for p in range(4)]
    fill()
    member = lambda: Member(name, case, "-X", f"partition.assignment.strategy={strategy}", incremental=strategy != "range")
    a = member()
    settle("one has 4", lambda: a.has() == [0, 1, 2, 3] and len(a.out) >= 4)
    b = member()
    settle("both have 2", lambda: len(a.has()) == len(b.has()) == 2 and sorted(a.has() + b.has()) == [0, 1, 2, 3])
    fill()
    settle("both read", lambda: {p for p, o in a.out + b.out if o == 1} == {0, 1, 2, 3})
    b.stop()
    settle("the one that stays has 4", lambda: a.has() == [0, 1, 2, 3])
    a.stop()
    return a


def group_rebalance():
    rebalance("group-rebalance", "range")


def group_cooperative():
    a = rebalance("group-cooperative", "cooperative-sticky")
    equal(len([r for r in a.revoked if r][0]), 2, "partitions revoked when the second one joined")


def group_static():
    name = make(topic("group-static"), 4)
    member = lambda id: Member(name, "group-static", "-X", f"group.instance.id={id}")
    a = member("a")
    settle("one has 4", lambda: len(a.has()) == 4)
    b = member("b")
    settle("both have 2", lambda: len(a.has()) == len(b.has()) == 2)
    had, turns = b.has(), a.turns
    b.stop()
    b = member("b")
    settle("it is back", lambda: len(b.has()) == 2)
    equal(b.has(), had, "partitions of the one that returned")
    equal(a.turns, turns, "rebalances of the other one")
    a.stop()
    b.stop()


def group_commit():
    # It commits what it has printed when it ends.
    name = make(topic("group-commit"))
    produce(name, numbers(10))
    member = lambda count: kcat("-c", str(count), "-q", "-f", "%s\\n", "-X", "auto.offset.reset=earliest", "-G", topic("group-commit"), name)
    equal(member(5), lines(numbers(5)), "records")
    equal(member(5), lines(numbers(5, 5)), "records of the new member")


def idempotent():
    name = make(topic("idempotent"))
    produce(name, numbers(200), "-X", "enable.idempotence=true")
    equal(values(read(name)), numbers(200), "records")


def padded(count, first=0):
    return [value + b" " * 2000 for value in numbers(count, first)]


class Open:
    """kcat -P in a transaction, which it commits when its standard input ends and aborts at Ctrl-C."""

    def __init__(self, name, case, *more):
        arguments = ("-P", "-t", name, "-X", f"transactional.id={topic(case)}", "-X", "linger.ms=1", *more)
        self.child = subprocess.Popen(command(*arguments), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def write(self, name, values, partitions=1):
        """Gives it the records and waits until the broker has some: kcat keeps what does not fill its buffer."""
        # In any of them: those that come together go to one.
        ends = lambda: sum(query(name, -1, *UNCOMMITTED, partition=p) for p in range(partitions))
        before = ends()
        self.child.stdin.write(lines(values))
        self.child.stdin.flush()
        settle("the broker has some", lambda: ends() >= before + 5)

    def commit(self):
        _, complaint = self.child.communicate(timeout=PATIENCE)
        return self.child.returncode, complaint.decode(errors="replace")

    def abort(self):
        self.child.send_signal(signal.SIGINT)
        return self.commit()


def txn_commit():
    name = make(topic("txn-commit"), 2)
    p = Open(name, "txn-commit")
    p.write(name, padded(100), partitions=2)
    equal(values(read(name, *COMMITTED)), [], "before the commit")
    equal(p.commit()[0], 0, "exit code")
    equal(sorted(values(read(name, *COMMITTED))), sorted(padded(100)), "records")


def txn_abort():
    name = make(topic("txn-abort"))
    for first, abort in ((0, False), (50, True), (100, False)):
        p = Open(name, "txn-abort")
        p.write(name, padded(50, first))
        if abort:
            p.abort()
        else:
            equal(p.commit()[0], 0, "exit code")
    equal(values(read(name, *COMMITTED)), padded(50) + padded(50, 100), "committed")
    seen = values(read(name, *UNCOMMITTED))
    aborted = [value for value in padded(50, 50) if value in seen]
    check(len(aborted) >= 5, f"{len(aborted)} aborted records")
    equal(seen, padded(50) + aborted + padded(50, 100), "uncommitted")


def txn_fencing():
    name = make(topic("txn-fencing"))
    old = Open(name, "txn-fencing")
    old.write(name, padded(50))
    new = Open(name, "txn-fencing")
    new.write(name, padded(50, 50))
    status, complaint = old.commit()
    check(status != 0 and "fenced" in complaint, f"the old one ended with {status}: {complaint}")
    equal(new.commit()[0], 0, "exit code")
    equal(values(read(name, *COMMITTED)), padded(50, 50), "committed")


def admin_cluster():
    told = kcat("-L").decode()
    ports = re.findall(r"broker \d+ at \S+:(\d+) \(controller\)", told)
    equal(ports, [BOOTSTRAP.rsplit(":")[-1]], "brokers")


def error_unknown_topic():
    name = topic("error-unknown-topic")
    check("Unknown topic or partition" in kcat("-L", "-t", name).decode(), "listing")
    quick = ("-X", "topic.metadata.propagation.max.ms=500")
    told = kcat("-P", "-t", name, *quick, "-X", "topic.message.timeout.ms=5000", given=b"x\n", fails=True)
    check("nknown topic" in told, told)
    told = kcat("-C", "-t", name, "-e", *quick, fails=True)
    check("nknown topic" in told, told)
    check(f'"{name}"' not in kcat("-L").decode(), "the topic was made")


def error_too_large():
    name = make(topic("error-too-large"), config={"max.message.bytes": "10000"})
    told = kcat("-P", "-t", name, given=b"x" * 20000 + b"\n", fails=True)
    check("Message size too large" in told, told)
    produce(name, [b"small"])
    equal(values(read(name)), [b"small"], "records")


def error_out_of_range():
    name = make(topic("error-out-of-range"))
    produce(name, numbers(3))
    told = kcat("-C", "-t", name, "-p", "0", "-o", "100", "-X", "topic.auto.offset.reset=error", fails=True)
    check("out of range" in told, told)


def error_deleted_topic():
    name = make(topic("error-deleted-topic"))
    produce(name, numbers(3))
    arguments = ("-C", "-t", name, "-o", "beginning", "-u", "-E", "-X", "topic.metadata.refresh.interval.ms=500")
    reader = subprocess.Popen(command(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    equal([reader.stdout.readline() for _ in range(3)], [b"0\n", b"1\n", b"2\n"], "records")
    delete(name)
    time.sleep(3)
    ended = reader.poll()
    reader.kill()
    out, complaint = reader.communicate(timeout=PATIENCE)
    equal(out, b"", "records after the deletion")
    check(ended is None or b"nknown" in complaint, f"it ended with {ended}: {complaint}")


PATIENT = ("-X", "reconnect.backoff.max.ms=1000", "-E")
"""What goes on while the broker is away."""


def produce_through_restart(name):
    """Writes values while the broker is started again; how many."""
    arguments = ("-P", "-t", name, "-X", "acks=all", "-X", "enable.idempotence=true", "-X", "linger.ms=1", *PATIENT)
    p = subprocess.Popen(command(*arguments), stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    for i in through_restart():
        p.stdin.write(lines(padded(1, i)))
        p.stdin.flush()
        time.sleep(0.02)
    _, complaint = p.communicate(timeout=PATIENCE)
    equal(p.returncode, 0, f"exit code ({complaint})")
    return i + 1


def broker_restart():
    name = make(topic("restart"))
    sent = produce_through_restart(name)
    equal(values(read(name)), padded(sent), "records")


def broker_kill():
    name = make(topic("kill"))
    group = ("-X", "auto.offset.reset=earliest", "-G", topic("kill"), name)
    quick = ("-X", "session.timeout.ms=6000", "-X", "heartbeat.interval.ms=300", "-X", "auto.commit.interval.ms=100")
    reader = command("-u", "-f", "%s\\n", *quick, *PATIENT, *group)
    member = subprocess.Popen(reader, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    got = []
    threading.Thread(target=lambda: got.extend(line.strip() for line in member.stdout), daemon=True).start()
    sent = produce_through_restart(name)
    settle("the member reads all", lambda: len(set(got)) >= sent)
    # What was not committed yet may come again.
    equal(list(dict.fromkeys(got)), numbers(sent), "records of the member")
    member.send_signal(signal.SIGINT)
    equal(member.wait(PATIENCE), 0, "exit code")
    # It commits what it has printed when it ends: a new member goes on behind that.
    produce(name, [b"last"])
    equal(kcat("-c", "1", "-q", "-f", "%s", *group), b"last", "the next record of the group")
    equal(values(read(name)), padded(sent) + [b"last"], "records")


CASES = table(
    codec, acks, partitioner, watermarks, offsets_for_times, group_rebalance, group_cooperative, group_static, group_commit, idempotent,
    txn_commit, txn_abort, txn_fencing, admin_cluster, error_unknown_topic, error_too_large, error_out_of_range,
    error_deleted_topic,
    restart=broker_restart, kill=broker_kill,
)

if __name__ == "__main__":
    run(CASES)
