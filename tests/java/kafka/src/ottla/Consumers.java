package ottla;

import static ottla.Producers.first;
import static ottla.Producers.numbers;
import static ottla.World.check;
import static ottla.World.equal;
import static ottla.World.eventually;
import static ottla.World.fails;
import static ottla.World.partitions;
import static ottla.World.read;
import static ottla.World.values;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerInterceptor;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidGroupIdException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.WakeupException;

/** The consumers that users write, each with both group protocols where it has a group. */
final class Consumers {
    static void add(List<Case> cases) {
        for (String protocol : List.of("classic", "consumer")) {
            String of = "consumer (" + protocol + "): ";
            cases.add(new Case(of + "auto-commit", world -> autoCommit(world, protocol)));
            cases.add(new Case(of + "commits, synchronous and not", world -> commits(world, protocol)));
            cases.add(new Case(of + "interceptor", world -> interceptor(world, protocol)));
            cases.add(new Case(of + "pause and resume", world -> pause(world, protocol)));
            cases.add(new Case(of + "pattern, also for topics that come later", world -> pattern(world, protocol)));
            cases.add(new Case(of + "max.poll.records and small fetches", world -> small(world, protocol)));
            cases.add(new Case(of + "wakeup", world -> wakeup(world, protocol)));
            cases.add(new Case(of + "long poll wakes at an append", world -> longPoll(world, protocol)));
            cases.add(new Case(of + "partitions that come later", world -> grown(world, protocol)));
            cases.add(new Case(of + "error, offset out of range", world -> outOfRange(world, protocol)));
            cases.add(new Case(of + "error, nothing committed and no reset", world -> noReset(world, protocol)));
        }
        cases.add(new Case("consumer: assign, seek, position", Consumers::seeks));
        cases.add(new Case("consumer: offsets by time, beginning, end", Consumers::offsets));
        cases.add(new Case("consumer: resets earliest, latest, by_duration", Consumers::resets));
        cases.add(new Case("consumer: reads on after records were deleted", Consumers::trimmed));
        cases.add(new Case("consumer: listTopics, partitionsFor, lag", Consumers::looks));
        cases.add(new Case("consumer: error, no group id, topic name not allowed", Consumers::bad));
    }

    private static void autoCommit(World world, String protocol) throws Exception {
        String topic = world.topic("auto-commit-" + protocol, 2);
        world.fill(topic, null, 100);
        Object[] properties = {"group.id", topic, "group.protocol", protocol, "enable.auto.commit", "true", "auto.commit.interval.ms", "100"};
        try (KafkaConsumer<String, String> consumer = world.consumer(properties)) {
            consumer.subscribe(List.of(topic));
            read(consumer, 100);
            eventually("committed while it polls", () -> {
                consumer.poll(Duration.ofMillis(50));
                return committed(consumer, topic, 2);
            }, sum -> sum == 100);
        }
        world.fill(topic, null, 10);
        try (KafkaConsumer<String, String> consumer = world.consumer(properties)) {
            consumer.subscribe(List.of(topic));
            read(consumer, 10);
        }
        // The last one committed when it was closed.
        try (KafkaConsumer<String, String> consumer = world.consumer(properties)) {
            equal(110L, committed(consumer, topic, 2), "committed");
        }
    }

    private static long committed(KafkaConsumer<String, String> consumer, String topic, int count) {
        return consumer.committed(Set.copyOf(partitions(topic, count))).values().stream()
            .mapToLong(offset -> offset == null ? 0 : offset.offset()).sum();
    }

    private static void commits(World world, String protocol) throws Exception {
        String topic = world.topic("commits-" + protocol, 1);
        world.fill(topic, 0, 20);
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", topic, "group.protocol", protocol, "enable.auto.commit", "false")) {
            consumer.subscribe(List.of(topic));
            read(consumer, 20);
            equal(0L, committed(consumer, topic, 1), "committed before");
            consumer.commitSync(Map.of(first(topic), new OffsetAndMetadata(7, "seven")));
            OffsetAndMetadata stored = consumer.committed(Set.of(first(topic))).get(first(topic));
            equal(7L, stored.offset(), "offset");
            equal("seven", stored.metadata(), "metadata");
            CountDownLatch done = new CountDownLatch(1);
            AtomicReference<Exception> wrong = new AtomicReference<>();
            consumer.commitAsync((offsets, error) -> {
                wrong.set(error);
                done.countDown();
            });
            eventually("the callback comes", () -> {
                consumer.poll(Duration.ofMillis(20));
                return done.getCount();
            }, left -> left == 0);
            check(wrong.get() == null, "commitAsync: " + wrong.get());
            equal(20L, committed(consumer, topic, 1), "committed after");
            consumer.commitSync(Map.of(first(topic), new OffsetAndMetadata(3)));
            consumer.seek(first(topic), consumer.committed(Set.of(first(topic))).get(first(topic)));
            equal(numbers(20).subList(3, 20), values(read(consumer, 17)), "values");
        }
    }

    /** Counts what is read and committed. */
    public static final class Count implements ConsumerInterceptor<String, String> {
        static final Map<String, AtomicInteger> READ = Map.of("classic", new AtomicInteger(), "consumer", new AtomicInteger());
        static final Map<String, AtomicInteger> COMMITS = Map.of("classic", new AtomicInteger(), "consumer", new AtomicInteger());
        private String protocol;

        @Override
        public ConsumerRecords<String, String> onConsume(ConsumerRecords<String, String> records) {
            READ.get(protocol).addAndGet(records.count());
            return records;
        }

        @Override
        public void onCommit(Map<TopicPartition, OffsetAndMetadata> offsets) {
            COMMITS.get(protocol).incrementAndGet();
        }

        @Override
        public void configure(Map<String, ?> configs) {
            protocol = (String) configs.get("group.protocol");
        }

        @Override
        public void close() { }
    }

    private static void interceptor(World world, String protocol) throws Exception {
        String topic = world.topic("consumer-interceptor-" + protocol, 1);
        world.fill(topic, 0, 30);
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", topic, "group.protocol", protocol,
                "enable.auto.commit", "false", "interceptor.classes", Count.class.getName())) {
            consumer.subscribe(List.of(topic));
            read(consumer, 30);
            consumer.commitSync();
        }
        equal(30, Count.READ.get(protocol).get(), "read");
        check(Count.COMMITS.get(protocol).get() >= 1, "commits");
    }

    private static void pause(World world, String protocol) throws Exception {
        String topic = world.topic("pause-" + protocol, 2);
        world.fill(topic, 0, 10);
        world.fill(topic, 1, 10);
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", topic, "group.protocol", protocol)) {
            consumer.subscribe(List.of(topic));
            read(consumer, 20);
            consumer.pause(List.of(first(topic)));
            world.fill(topic, 0, 5);
            world.fill(topic, 1, 5);
            check(read(consumer, 5).stream().allMatch(record -> record.partition() == 1), "a paused partition was read");
            consumer.resume(consumer.paused());
            check(read(consumer, 5).stream().allMatch(record -> record.partition() == 0), "the resumed partition");
        }
    }

    private static void pattern(World world, String protocol) throws Exception {
        String name = "pattern-" + protocol;
        world.topic(name + "-1", 1);
        world.topic("not-" + name, 1);
        world.fill(name + "-1", 0, 10);
        world.fill("not-" + name, 0, 10);
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", name, "group.protocol", protocol, "metadata.max.age.ms", "300")) {
            consumer.subscribe(Pattern.compile(name + "-\\d"));
            read(consumer, 10);
            world.topic(name + "-2", 1);
            world.fill(name + "-2", 0, 10);
            read(consumer, 10);
            equal(Set.of(first(name + "-1"), first(name + "-2")), consumer.assignment(), "assignment");
        }
    }

    private static void small(World world, String protocol) throws Exception {
        String topic = world.topic("small-" + protocol, 3);
        world.fill(topic, null, 300, "batch.size", "300");
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", topic, "group.protocol", protocol, "max.poll.records", "7",
                "fetch.max.bytes", "600", "max.partition.fetch.bytes", "300", "fetch.min.bytes", "100", "fetch.max.wait.ms", "50")) {
            consumer.subscribe(List.of(topic));
            int seen = 0;
            long end = System.nanoTime() + World.PATIENCE.toNanos();
            while (seen < 300 && System.nanoTime() < end) {
                int count = consumer.poll(Duration.ofMillis(100)).count();
                check(count <= 7, count + " records in a poll");
                seen += count;
            }
            equal(300, seen, "records");
        }
    }

    private static void wakeup(World world, String protocol) throws Exception {
        String topic = world.topic("wakeup-" + protocol, 1);
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", topic, "group.protocol", protocol)) {
            consumer.subscribe(List.of(topic));
            Thread other = new Thread(() -> {
                try {
                    Thread.sleep(500);
                } catch (InterruptedException ended) {
                    return;
                }
                consumer.wakeup();
            });
            other.start();
            fails(WakeupException.class, () -> consumer.poll(World.PATIENCE));
        }
    }

    private static void longPoll(World world, String protocol) throws Exception {
        String topic = world.topic("long-poll-" + protocol, 1);
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", topic, "group.protocol", protocol, "fetch.max.wait.ms", "6000");
             KafkaProducer<String, String> producer = world.producer("linger.ms", "0")) {
            consumer.subscribe(List.of(topic));
            producer.send(new ProducerRecord<>(topic, "first")).get();
            read(consumer, 1);
            // The fetch that waits now is on its way.
            consumer.poll(Duration.ofMillis(300));
            long begun = System.nanoTime();
            producer.send(new ProducerRecord<>(topic, "second")).get();
            int count = consumer.poll(Duration.ofSeconds(10)).count();
            long ms = (System.nanoTime() - begun) / 1_000_000;
            equal(1, count, "records");
            check(ms < 3000, "it came after " + ms + " ms");
        }
    }

    private static void grown(World world, String protocol) throws Exception {
        String topic = world.topic("grown-" + protocol, 1);
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", topic, "group.protocol", protocol, "metadata.max.age.ms", "300")) {
            consumer.subscribe(List.of(topic));
            eventually("assigned", () -> {
                consumer.poll(Duration.ofMillis(50));
                return consumer.assignment().size();
            }, count -> count == 1);
            world.admin.createPartitions(Map.of(topic, org.apache.kafka.clients.admin.NewPartitions.increaseTo(3))).all().get();
            world.fill(topic, 2, 10);
            read(consumer, 10);
            equal(3, consumer.assignment().size(), "assigned partitions");
        }
    }

    private static void outOfRange(World world, String protocol) throws Exception {
        String topic = world.topic("out-of-range-" + protocol, 1);
        world.fill(topic, 0, 10);
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", topic, "group.protocol", protocol, "auto.offset.reset", "none")) {
            consumer.assign(List.of(first(topic)));
            consumer.seek(first(topic), 1000);
            OffsetOutOfRangeException error = fails(OffsetOutOfRangeException.class, () -> pollFor(consumer));
            equal(Map.of(first(topic), 1000L), error.offsetOutOfRangePartitions(), "offsets");
        }
    }

    private static Object pollFor(KafkaConsumer<String, String> consumer) {
        long end = System.nanoTime() + Duration.ofSeconds(10).toNanos();
        while (System.nanoTime() < end) {
            consumer.poll(Duration.ofMillis(100));
        }
        return "nothing";
    }

    private static void noReset(World world, String protocol) throws Exception {
        String topic = world.topic("no-reset-" + protocol, 1);
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", topic, "group.protocol", protocol, "auto.offset.reset", "none")) {
            consumer.subscribe(List.of(topic));
            fails(NoOffsetForPartitionException.class, () -> pollFor(consumer));
        }
    }

    private static void seeks(World world) throws Exception {
        String topic = world.topic("seeks", 1);
        world.fill(topic, 0, 50, "batch.size", "100");
        try (KafkaConsumer<String, String> consumer = world.consumer()) {
            List<TopicPartition> one = List.of(first(topic));
            consumer.assign(one);
            consumer.seek(first(topic), 23);
            equal(numbers(50).subList(23, 50), values(read(consumer, 27)), "values");
            equal(50L, consumer.position(first(topic)), "position");
            consumer.seekToBeginning(one);
            equal(0L, consumer.position(first(topic)), "position at the beginning");
            equal(50, read(consumer, 50).size(), "records");
            consumer.seekToEnd(one);
            equal(50L, consumer.position(first(topic)), "position at the end");
            equal(0, consumer.poll(Duration.ofMillis(300)).count(), "records at the end");
        }
    }

    private static void offsets(World world) throws Exception {
        String topic = world.topic("times", 2, "segment.bytes", "1048576");
        long base = System.currentTimeMillis() - 1_000_000;
        try (KafkaProducer<String, String> producer = world.producer("batch.size", "0")) {
            for (int i = 0; i < 100; i++) {
                producer.send(new ProducerRecord<>(topic, 0, base + i * 1000L, "k", "" + i));
            }
        }
        try (KafkaConsumer<String, String> consumer = world.consumer()) {
            TopicPartition full = new TopicPartition(topic, 0);
            TopicPartition empty = new TopicPartition(topic, 1);
            Map<TopicPartition, OffsetAndTimestamp> found = consumer.offsetsForTimes(Map.of(full, base + 41_500, empty, base));
            equal(42L, found.get(full).offset(), "offset by time");
            equal(base + 42_000, found.get(full).timestamp(), "its time");
            check(found.get(empty) == null, "no record, no offset");
            check(consumer.offsetsForTimes(Map.of(full, base + 1_000_000_000)).get(full) == null, "a time that is to come");
            equal(Map.of(full, 0L, empty, 0L), consumer.beginningOffsets(List.of(full, empty)), "beginnings");
            equal(Map.of(full, 100L, empty, 0L), consumer.endOffsets(List.of(full, empty)), "ends");
        }
    }

    private static void resets(World world) throws Exception {
        String topic = world.topic("resets", 1);
        long now = System.currentTimeMillis();
        try (KafkaProducer<String, String> producer = world.producer()) {
            producer.send(new ProducerRecord<>(topic, 0, now - 7_200_000, "k", "old")).get();
            producer.send(new ProducerRecord<>(topic, 0, now, "k", "new")).get();
        }
        for (var expected : Map.of("earliest", 0L, "latest", 2L, "by_duration:PT1H", 1L).entrySet()) {
            try (KafkaConsumer<String, String> consumer = world.consumer("auto.offset.reset", expected.getKey())) {
                consumer.assign(List.of(first(topic)));
                equal(expected.getValue(), consumer.position(first(topic)), "position after " + expected.getKey());
            }
        }
    }

    private static void trimmed(World world) throws Exception {
        String topic = world.topic("trimmed", 1);
        world.fill(topic, 0, 100, "batch.size", "0");
        try (KafkaConsumer<String, String> consumer = world.consumer("max.poll.records", "10", "fetch.max.bytes", "300", "max.partition.fetch.bytes", "300")) {
            consumer.assign(List.of(first(topic)));
            consumer.seek(first(topic), 5);
            world.admin.deleteRecords(Map.of(first(topic), RecordsToDelete.beforeOffset(60))).all().get();
            equal("60", read(consumer, 40).get(0).value(), "the first that is left");
        }
    }

    private static void looks(World world) throws Exception {
        String topic = world.topic("consumer-looks", 2);
        world.fill(topic, 0, 10);
        try (KafkaConsumer<String, String> consumer = world.consumer("max.poll.records", "4")) {
            check(consumer.listTopics().get(topic).size() == 2, "listTopics");
            equal(2, consumer.partitionsFor(topic).size(), "partitionsFor");
            consumer.assign(List.of(first(topic)));
            eventually("four records", () -> consumer.poll(Duration.ofMillis(100)).count(), count -> count == 4);
            equal(OptionalLong.of(6), consumer.currentLag(first(topic)), "lag");
        }
    }

    private static void bad(World world) {
        try (KafkaConsumer<String, String> consumer = world.consumer()) {
            fails(InvalidGroupIdException.class, () -> {
                consumer.subscribe(List.of("any"));
                return consumer.poll(Duration.ofMillis(100));
            });
        }
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", "bad")) {
            consumer.subscribe(List.of("not allowed"));
            fails(InvalidTopicException.class, () -> pollFor(consumer));
        }
    }
}
