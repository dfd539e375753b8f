package ottla;

import static ottla.Producers.first;
import static ottla.Producers.numbers;
import static ottla.World.check;
import static ottla.World.equal;
import static ottla.World.eventually;
import static ottla.World.fails;
import static ottla.World.read;
import static ottla.World.values;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.clients.admin.TransactionDescription;
import org.apache.kafka.clients.admin.TransactionState;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidProducerEpochException;
import org.apache.kafka.common.errors.ProducerFencedException;
import org.apache.kafka.common.errors.TransactionalIdNotFoundException;

/** Transactional producers, who reads what they wrote, and who asks about them. */
final class Transactions {
    static void add(List<Case> cases) {
        cases.add(new Case("transaction: commit, over partitions and topics", Transactions::commit));
        cases.add(new Case("transaction: abort", Transactions::abort));
        cases.add(new Case("transaction: read_committed waits for an open one", Transactions::open));
        cases.add(new Case("transaction: sendOffsetsToTransaction, committed and aborted", Transactions::offsets));
        cases.add(new Case("transaction: consume, transform, produce, exactly once (classic)", world -> transform(world, "classic")));
        cases.add(new Case("transaction: consume, transform, produce, exactly once (consumer)", world -> transform(world, "consumer")));
        cases.add(new Case("transaction: a second producer of the same id fences the first", Transactions::fenced));
        cases.add(new Case("transaction: a fenced producer's open one is aborted", Transactions::fencedOpen));
        cases.add(new Case("transaction: a zombie's offsets are refused", Transactions::zombieOffsets));
        cases.add(new Case("transaction: Admin.fenceProducers", Transactions::fencedByAdmin));
        cases.add(new Case("transaction: ended by the broker when its time is up", Transactions::timeUp));
        cases.add(new Case("transaction: many producers at once", Transactions::many));
        cases.add(new Case("transaction: empty ones, and one after another", Transactions::oneAfterAnother));
        cases.add(new Case("transaction: with compression, in large batches", Transactions::large));
        cases.add(new Case("transaction: listed and described", Transactions::described));
        cases.add(new Case("transaction: producers of a partition are described", Transactions::producers));
        cases.add(new Case("transaction: aborted by an administrator", Transactions::abortedByAdmin));
        cases.add(new Case("transaction: errors, timeout too long, not begun, record too large", Transactions::errors));
    }

    private static KafkaProducer<String, String> begun(World world, String id, Object... pairs) {
        Object[] all = new Object[pairs.length + 2];
        all[0] = "transactional.id";
        all[1] = id;
        System.arraycopy(pairs, 0, all, 2, pairs.length);
        KafkaProducer<String, String> producer = world.producer(all);
        producer.initTransactions();
        producer.beginTransaction();
        return producer;
    }

    private static void commit(World world) throws Exception {
        world.topic("txn-commit-a", 2);
        world.topic("txn-commit-b", 1);
        try (KafkaProducer<String, String> producer = begun(world, "commit")) {
            for (int i = 0; i < 10; i++) {
                producer.send(new ProducerRecord<>("txn-commit-a", i % 2, "k", "" + i));
                producer.send(new ProducerRecord<>("txn-commit-b", 0, "k", "" + i));
            }
            producer.commitTransaction();
        }
        equal(new HashSet<>(numbers(10)), new HashSet<>(values(world.all("txn-commit-a", 2, 10, "isolation.level", "read_committed"))), "values");
        equal(numbers(10), values(world.all("txn-commit-b", 1, 10, "isolation.level", "read_committed")), "values");
        try (KafkaConsumer<String, String> consumer = world.consumer("isolation.level", "read_committed")) {
            equal(11L, consumer.endOffsets(List.of(first("txn-commit-b"))).get(first("txn-commit-b")), "the marker takes an offset");
        }
    }

    private static void abort(World world) throws Exception {
        String topic = world.topic("txn-abort", 1);
        try (KafkaProducer<String, String> producer = begun(world, "abort")) {
            producer.send(new ProducerRecord<>(topic, 0, "k", "aborted")).get();
            producer.abortTransaction();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, 0, "k", "committed")).get();
            producer.commitTransaction();
        }
        equal(List.of("committed"), values(world.all(topic, 1, 1, "isolation.level", "read_committed")), "committed");
        equal(List.of("aborted", "committed"), values(world.all(topic, 1, 2)), "uncommitted");
    }

    private static void open(World world) throws Exception {
        String topic = world.topic("txn-open", 1);
        world.fill(topic, 0, 1);
        try (KafkaProducer<String, String> producer = begun(world, "open");
             KafkaConsumer<String, String> committed = world.consumer("isolation.level", "read_committed", "fetch.max.wait.ms", "5000");
             KafkaConsumer<String, String> uncommitted = world.consumer()) {
            producer.send(new ProducerRecord<>(topic, 0, "k", "open")).get();
            world.fill(topic, 0, 1);
            List<TopicPartition> one = List.of(first(topic));
            committed.assign(one);
            uncommitted.assign(one);
            equal(List.of("0", "open", "0"), values(read(uncommitted, 3)), "uncommitted");
            equal(List.of("0"), values(read(committed, 1)), "committed");
            equal(1L, committed.endOffsets(one).get(first(topic)), "last stable offset");
            equal(3L, uncommitted.endOffsets(one).get(first(topic)), "end");
            long begun = System.nanoTime();
            producer.commitTransaction();
            equal(List.of("open", "0"), values(read(committed, 2)), "after the commit");
            check(System.nanoTime() - begun < 2_500_000_000L, "the fetch that waited was not woken");
        }
    }

    private static void offsets(World world) throws Exception {
        String topic = world.topic("txn-offsets", 1);
        Set<TopicPartition> one = Set.of(first(topic));
        try (KafkaProducer<String, String> producer = begun(world, "offsets");
             KafkaConsumer<String, String> reader = world.consumer("group.id", "txn-offsets")) {
            ConsumerGroupMetadata group = new ConsumerGroupMetadata("txn-offsets");
            producer.sendOffsetsToTransaction(Map.of(first(topic), new OffsetAndMetadata(5, "five")), group);
            producer.commitTransaction();
            eventually("the offset is there", () -> reader.committed(one).get(first(topic)), offset -> offset != null && offset.offset() == 5);
            equal("five", reader.committed(one).get(first(topic)).metadata(), "metadata");
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(Map.of(first(topic), new OffsetAndMetadata(9)), group);
            producer.abortTransaction();
            equal(5L, reader.committed(one).get(first(topic)).offset(), "after the abort");
            producer.beginTransaction();
            producer.sendOffsetsToTransaction(Map.of(first(topic), new OffsetAndMetadata(7)), group);
            // While it is undecided, nobody is told an offset that may not come.
            fails(org.apache.kafka.common.errors.TimeoutException.class, () -> reader.committed(one, Duration.ofMillis(700)));
            producer.send(new ProducerRecord<>(topic, "with it"));
            producer.commitTransaction();
            eventually("the offset is there", () -> reader.committed(one).get(first(topic)).offset(), offset -> offset == 7);
        }
    }

    private static void transform(World world, String protocol) throws Exception {
        String from = world.topic("txn-from-" + protocol, 2);
        String to = world.topic("txn-to-" + protocol, 2);
        world.fill(from, null, 200);
        Object[] reading = {"group.id", from, "group.protocol", protocol, "isolation.level", "read_committed", "enable.auto.commit", "false",
            "max.poll.records", "25"};
        // It aborts now and then, as a program does whose work failed, and reads again.
        for (int life = 0; life < 2; life++) {
            try (KafkaProducer<String, String> producer = world.producer("transactional.id", from);
                 KafkaConsumer<String, String> consumer = world.consumer(reading)) {
                producer.initTransactions();
                consumer.subscribe(List.of(from));
                int done = 0;
                int round = 0;
                long end = System.nanoTime() + World.PATIENCE.toNanos();
                while (done < 100 && System.nanoTime() < end) {
                    var records = consumer.poll(Duration.ofMillis(100));
                    if (records.isEmpty()) {
                        continue;
                    }
                    producer.beginTransaction();
                    Map<TopicPartition, OffsetAndMetadata> next = new HashMap<>();
                    for (ConsumerRecord<String, String> record : records) {
                        producer.send(new ProducerRecord<>(to, record.partition(), record.key(), record.value()));
                        next.put(new TopicPartition(from, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                    }
                    producer.sendOffsetsToTransaction(next, consumer.groupMetadata());
                    if (++round % 3 == 2) {
                        producer.abortTransaction();
                        consumer.committed(consumer.assignment()).forEach((partition, offset) ->
                            consumer.seek(partition, offset == null ? 0 : offset.offset()));
                    } else {
                        producer.commitTransaction();
                        done += records.count();
                    }
                }
            }
        }
        List<String> values = values(world.all(to, 2, 200, "isolation.level", "read_committed"));
        equal(200, new HashSet<>(values).size(), "distinct values");
    }

    private static void fenced(World world) throws Exception {
        String topic = world.topic("txn-fenced", 1);
        try (KafkaProducer<String, String> old = begun(world, "fenced")) {
            old.send(new ProducerRecord<>(topic, "old")).get();
            old.commitTransaction();
            try (KafkaProducer<String, String> young = begun(world, "fenced")) {
                // Which of the two depends on the request that hears it first.
                KafkaException error = fails(KafkaException.class, () -> {
                    old.beginTransaction();
                    old.send(new ProducerRecord<>(topic, "zombie"));
                    old.commitTransaction();
                    return null;
                });
                check(error instanceof ProducerFencedException || error instanceof InvalidProducerEpochException, "" + error);
                young.send(new ProducerRecord<>(topic, "young"));
                young.commitTransaction();
            }
        }
        equal(List.of("old", "young"), values(world.all(topic, 1, 2, "isolation.level", "read_committed")), "committed");
    }

    private static void fencedOpen(World world) throws Exception {
        String topic = world.topic("txn-fenced-open", 1);
        try (KafkaProducer<String, String> old = begun(world, "fenced-open")) {
            old.send(new ProducerRecord<>(topic, "left open")).get();
            try (KafkaProducer<String, String> young = begun(world, "fenced-open")) {
                young.send(new ProducerRecord<>(topic, "young")).get();
                young.commitTransaction();
                fails(ProducerFencedException.class, () -> {
                    old.commitTransaction();
                    return null;
                });
            }
        }
        equal(List.of("young"), values(world.all(topic, 1, 1, "isolation.level", "read_committed")), "committed");
    }

    private static void zombieOffsets(World world) throws Exception {
        String topic = world.topic("txn-zombie", 1);
        world.fill(topic, 0, 10);
        try (KafkaProducer<String, String> producer = begun(world, "zombie")) {
            try (KafkaConsumer<String, String> consumer = world.consumer("group.id", topic)) {
                consumer.subscribe(List.of(topic));
                read(consumer, 10);
                ConsumerGroupMetadata metadata = consumer.groupMetadata();
                consumer.close();
                // The member is no longer one.
                fails(KafkaException.class, () -> {
                    producer.sendOffsetsToTransaction(Map.of(first(topic), new OffsetAndMetadata(10)), metadata);
                    producer.commitTransaction();
                    return null;
                });
            }
            producer.abortTransaction();
        }
    }

    private static void fencedByAdmin(World world) throws Exception {
        String topic = world.topic("txn-fenced-by-admin", 1);
        try (KafkaProducer<String, String> producer = begun(world, "fenced-by-admin")) {
            producer.send(new ProducerRecord<>(topic, "v")).get();
            var result = world.admin.fenceProducers(List.of("fenced-by-admin"));
            result.all().get();
            check(result.producerId("fenced-by-admin").get() >= 0 && result.epochId("fenced-by-admin").get() > 0, "id and epoch");
            fails(KafkaException.class, () -> {
                producer.send(new ProducerRecord<>(topic, "w"));
                producer.commitTransaction();
                return null;
            });
        }
        world.fill(topic, 0, 1);
        equal(List.of("0"), values(world.all(topic, 1, 1, "isolation.level", "read_committed")), "committed");
    }

    private static void timeUp(World world) throws Exception {
        String topic = world.topic("txn-time-up", 1);
        try (KafkaProducer<String, String> producer = begun(world, "time-up", "transaction.timeout.ms", "1000")) {
            producer.send(new ProducerRecord<>(topic, "late")).get();
            world.fill(topic, 0, 1);
            // Behind the one that is aborted by and by (Kafka looks every ten seconds).
            equal(List.of("0"), values(world.all(topic, 1, 1, "isolation.level", "read_committed")), "committed");
            fails(KafkaException.class, () -> {
                producer.send(new ProducerRecord<>(topic, "too late"));
                producer.commitTransaction();
                return null;
            });
        }
    }

    private static void many(World world) throws Exception {
        String topic = world.topic("txn-many", 2);
        List<KafkaProducer<String, String>> producers = new ArrayList<>();
        for (int i = 0; i < 5; i++) {
            KafkaProducer<String, String> producer = world.producer("transactional.id", "many-" + i);
            producer.initTransactions();
            producers.add(producer);
        }
        for (int round = 0; round < 10; round++) {
            for (int i = 0; i < 5; i++) {
                String fate = (round + i) % 3 == 0 ? "aborted" : "committed";
                producers.get(i).beginTransaction();
                for (int n = 0; n < 4; n++) {
                    producers.get(i).send(new ProducerRecord<>(topic, n % 2, fate, i + "." + round + "." + n));
                }
            }
            for (int i = 0; i < 5; i++) {
                if ((round + i) % 3 == 0) {
                    producers.get(i).flush();
                    producers.get(i).abortTransaction();
                } else {
                    producers.get(i).commitTransaction();
                }
            }
        }
        producers.forEach(KafkaProducer::close);
        List<ConsumerRecord<String, String>> all = world.all(topic, 2, 200);
        long aborted = all.stream().filter(record -> record.key().equals("aborted")).count();
        var committed = world.all(topic, 2, 200 - (int) aborted, "isolation.level", "read_committed", "max.partition.fetch.bytes", "500");
        check(committed.stream().allMatch(record -> record.key().equals("committed")), "an aborted record was read as committed");
    }

    private static void oneAfterAnother(World world) throws Exception {
        String topic = world.topic("txn-after-another", 1);
        try (KafkaProducer<String, String> producer = begun(world, "after-another")) {
            producer.commitTransaction();
            producer.beginTransaction();
            producer.abortTransaction();
            for (int i = 0; i < 50; i++) {
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, 0, "k", "" + i));
                producer.commitTransaction();
            }
        }
        equal(numbers(50), values(world.all(topic, 1, 50, "isolation.level", "read_committed")), "values");
    }

    private static void large(World world) throws Exception {
        String topic = world.topic("txn-large", 1);
        try (KafkaProducer<String, String> producer = begun(world, "large", "compression.type", "zstd", "linger.ms", "5")) {
            for (int i = 0; i < 5000; i++) {
                producer.send(new ProducerRecord<>(topic, 0, "k", "" + i));
            }
            producer.commitTransaction();
        }
        equal(numbers(5000), values(world.all(topic, 1, 5000, "isolation.level", "read_committed")), "values");
    }

    private static void described(World world) throws Exception {
        String topic = world.topic("txn-described", 2);
        try (KafkaProducer<String, String> producer = begun(world, "described", "transaction.timeout.ms", "45000")) {
            producer.send(new ProducerRecord<>(topic, 1, "k", "v")).get();
            TransactionDescription open = world.admin.describeTransactions(List.of("described")).all().get().get("described");
            equal(TransactionState.ONGOING, open.state(), "state");
            equal(Set.of(new TopicPartition(topic, 1)), open.topicPartitions(), "partitions");
            equal(45000L, open.transactionTimeoutMs(), "timeout");
            check(open.transactionStartTimeMs().isPresent() && open.producerId() >= 0 && open.producerEpoch() >= 0, "" + open);
            var listed = world.admin.listTransactions(new ListTransactionsOptions().filterStates(List.of(TransactionState.ONGOING))).all().get();
            check(listed.stream().anyMatch(one -> one.transactionalId().equals("described") && one.producerId() == open.producerId()), "" + listed);
            var by_id = world.admin.listTransactions(new ListTransactionsOptions().filterProducerIds(List.of(open.producerId()))).all().get();
            check(by_id.size() == 1, "listed by producer id: " + by_id);
            var lasting = world.admin.listTransactions(new ListTransactionsOptions().filterOnDuration(3_600_000)).all().get();
            check(lasting.stream().noneMatch(one -> one.transactionalId().equals("described")), "transactions that last an hour: " + lasting);
            var named = world.admin.listTransactions(new ListTransactionsOptions().filterOnTransactionalIdPattern("descr.*")).all().get();
            equal(1, named.size(), "transactions whose ids match");
            producer.commitTransaction();
        }
        eventually("complete", () -> world.admin.describeTransactions(List.of("described")).all().get().get("described").state(),
            state -> state == TransactionState.COMPLETE_COMMIT);
        fails(TransactionalIdNotFoundException.class, () -> world.admin.describeTransactions(List.of("unheard-of")).all().get());
    }

    private static void producers(World world) throws Exception {
        String topic = world.topic("txn-producers", 1);
        try (KafkaProducer<String, String> producer = begun(world, "producers")) {
            producer.send(new ProducerRecord<>(topic, 0, "k", "v")).get();
            List<ProducerState> open = state(world, topic);
            equal(1, open.size(), "producers");
            equal(0L, open.get(0).currentTransactionStartOffset().orElse(-1), "start of the open transaction");
            equal(0, open.get(0).lastSequence(), "last sequence");
            producer.commitTransaction();
            eventually("closed", () -> state(world, topic).get(0).currentTransactionStartOffset(), start -> start.isEmpty());
        }
    }

    private static List<ProducerState> state(World world, String topic) throws Exception {
        return world.admin.describeProducers(List.of(first(topic))).partitionResult(first(topic)).get().activeProducers();
    }

    private static void abortedByAdmin(World world) throws Exception {
        String topic = world.topic("txn-aborted-by-admin", 1);
        try (KafkaProducer<String, String> producer = begun(world, "aborted-by-admin")) {
            producer.send(new ProducerRecord<>(topic, 0, "k", "hanging")).get();
            ProducerState state = state(world, topic).get(0);
            world.admin.abortTransaction(new AbortTransactionSpec(first(topic), state.producerId(), (short) state.producerEpoch(),
                state.coordinatorEpoch().orElse(0))).all().get();
            world.fill(topic, 0, 1);
            equal(List.of("0"), values(world.all(topic, 1, 1, "isolation.level", "read_committed")), "committed");
        }
    }

    private static void errors(World world) throws Exception {
        String topic = world.topic("txn-errors", 1, "max.message.bytes", "1000");
        try (KafkaProducer<String, String> producer = world.producer("transactional.id", "too-long", "transaction.timeout.ms", "3600000")) {
            KafkaException error = fails(KafkaException.class, () -> {
                producer.initTransactions();
                return null;
            });
            check(error.getMessage().contains("transaction timeout is larger than the maximum"), error.getMessage());
        }
        try (KafkaProducer<String, String> producer = begun(world, "errors")) {
            fails(org.apache.kafka.common.errors.RecordTooLargeException.class, () -> producer.send(new ProducerRecord<>(topic, "x".repeat(5000))).get());
            fails(KafkaException.class, () -> {
                producer.commitTransaction();
                return null;
            });
            producer.abortTransaction();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "after"));
            producer.commitTransaction();
        }
        equal(List.of("after"), values(world.all(topic, 1, 1, "isolation.level", "read_committed")), "committed");
    }
}
