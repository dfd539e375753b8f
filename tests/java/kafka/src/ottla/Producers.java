package ottla;

import static ottla.World.check;
import static ottla.World.equal;
import static ottla.World.fails;
import static ottla.World.values;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Partitioner;
import org.apache.kafka.clients.producer.ProducerInterceptor;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidTimestampException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;

/** The producers that users write. */
final class Producers {
    static void add(List<Case> cases) {
        cases.add(new Case("producer: synchronous", Producers::synchronous));
        cases.add(new Case("producer: callbacks", Producers::callbacks));
        cases.add(new Case("producer: acks 0, 1, all", Producers::acks));
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            cases.add(new Case("producer: codec " + codec, world -> codec(world, codec)));
            cases.add(new Case("producer: topic with compression.type=" + codec, world -> topicCodec(world, codec)));
        }
        cases.add(new Case("producer: custom partitioner", Producers::partitioner));
        cases.add(new Case("producer: interceptor", Producers::interceptor));
        cases.add(new Case("producer: headers, nulls, timestamps", Producers::shapes));
        cases.add(new Case("producer: large record", Producers::large));
        cases.add(new Case("producer: idempotent, five in flight", Producers::idempotent));
        cases.add(new Case("producer: not idempotent", world -> order(world, "not-idempotent",
            "enable.idempotence", "false", "max.in.flight.requests.per.connection", "1")));
        cases.add(new Case("producer: two idempotent ones on a partition", Producers::two));
        cases.add(new Case("producer: keys go where murmur2 says", Producers::keys));
        cases.add(new Case("producer: LogAppendTime", Producers::appendTime));
        cases.add(new Case("producer: topic made by producing", Producers::autoCreated));
        cases.add(new Case("producer: partitionsFor, metrics", Producers::looks));
        cases.add(new Case("producer: error, record too large for the topic", Producers::tooLarge));
        cases.add(new Case("producer: error, batch too large is split", Producers::split));
        cases.add(new Case("producer: error, no key in a compacted topic", Producers::noKey));
        cases.add(new Case("producer: error, timestamp out of bounds", Producers::oldTimestamp));
        cases.add(new Case("producer: min.insync.replicas counts no more than there are replicas", Producers::replicas));
        cases.add(new Case("producer: error, topic name not allowed", Producers::badName));
        cases.add(new Case("producer: error, partition that is not there", Producers::badPartition));
        cases.add(new Case("producer: topic deleted and made again", Producers::again));
    }

    private static void synchronous(World world) throws Exception {
        String topic = world.topic("sync", 1);
        try (KafkaProducer<String, String> producer = world.producer()) {
            for (int i = 0; i < 100; i++) {
                RecordMetadata metadata = producer.send(new ProducerRecord<>(topic, "k", "" + i)).get();
                equal((long) i, metadata.offset(), "offset");
            }
        }
        equal(numbers(100), values(world.all(topic, 1, 100)), "values");
    }

    private static void callbacks(World world) throws Exception {
        String topic = world.topic("callbacks", 3);
        CountDownLatch left = new CountDownLatch(2000);
        List<String> wrong = Collections.synchronizedList(new ArrayList<>());
        Map<Integer, Long> last = new ConcurrentHashMap<>();
        try (KafkaProducer<String, String> producer = world.producer("linger.ms", "2")) {
            for (int i = 0; i < 2000; i++) {
                producer.send(new ProducerRecord<>(topic, "k" + i % 50, "" + i), (metadata, error) -> {
                    if (error != null) {
                        wrong.add(error.toString());
                    } else {
                        Long before = last.put(metadata.partition(), metadata.offset());
                        if ((before == null ? -1 : before) + 1 != metadata.offset()) {
                            wrong.add(before + " is followed by " + metadata);
                        }
                    }
                    left.countDown();
                });
            }
            check(left.await(30, TimeUnit.SECONDS), left.getCount() + " callbacks did not come");
        }
        equal(List.of(), wrong, "wrong callbacks");
        equal(2000, new HashSet<>(values(world.all(topic, 3, 2000))).size(), "distinct values");
    }

    private static void acks(World world) throws Exception {
        for (String acks : List.of("0", "1", "all")) {
            String topic = world.topic("acks-" + acks, 1);
            try (KafkaProducer<String, String> producer = world.producer("acks", acks, "enable.idempotence", "false")) {
                List<Future<RecordMetadata>> sent = new ArrayList<>();
                for (int i = 0; i < 100; i++) {
                    sent.add(producer.send(new ProducerRecord<>(topic, null, "" + i)));
                }
                for (Future<RecordMetadata> one : sent) {
                    equal(!acks.equals("0"), one.get().hasOffset(), "has an offset with acks=" + acks);
                }
            }
            equal(numbers(100), values(world.all(topic, 1, 100)), "values");
        }
    }

    private static void codec(World world, String codec) throws Exception {
        String topic = world.topic("codec-" + codec, 2);
        world.fill(topic, null, 1000, "compression.type", codec, "linger.ms", "20");
        equal(1000, new HashSet<>(values(world.all(topic, 2, 1000))).size(), "distinct values");
    }

    /** The broker compresses anew what comes in another codec. */
    private static void topicCodec(World world, String codec) throws Exception {
        String name = codec.equals("none") ? "uncompressed" : codec;
        String topic = world.topic("topic-codec-" + codec, 1, "compression.type", name);
        String given = codec.equals("lz4") ? "gzip" : "lz4";
        world.fill(topic, 0, 300, "compression.type", given, "linger.ms", "20");
        equal(numbers(300), values(world.all(topic, 1, 300)), "values");
    }

    /** By the number at the end of the key. */
    public static final class ByNumber implements Partitioner {
        @Override
        public int partition(String topic, Object key, byte[] keyBytes, Object value, byte[] valueBytes,
                org.apache.kafka.common.Cluster cluster) {
            return Integer.parseInt(((String) key).substring(1)) % cluster.partitionCountForTopic(topic);
        }

        @Override
        public void configure(Map<String, ?> configs) { }

        @Override
        public void close() { }
    }

    private static void partitioner(World world) throws Exception {
        String topic = world.topic("partitioner", 4);
        world.fill(topic, null, 100, "partitioner.class", ByNumber.class.getName());
        for (ConsumerRecord<String, String> record : world.all(topic, 4, 100)) {
            equal(Integer.parseInt(record.key().substring(1)) % 4, record.partition(), "partition of " + record.key());
        }
    }

    /** Adds a header and counts acknowledgements. */
    public static final class Stamp implements ProducerInterceptor<String, String> {
        static final AtomicInteger ACKNOWLEDGED = new AtomicInteger();

        @Override
        public ProducerRecord<String, String> onSend(ProducerRecord<String, String> record) {
            record.headers().add("stamp", record.value().getBytes());
            return record;
        }

        @Override
        public void onAcknowledgement(RecordMetadata metadata, Exception error) {
            if (error == null) {
                ACKNOWLEDGED.incrementAndGet();
            }
        }

        @Override
        public void configure(Map<String, ?> configs) { }

        @Override
        public void close() { }
    }

    private static void interceptor(World world) throws Exception {
        String topic = world.topic("interceptor", 1);
        world.fill(topic, 0, 50, "interceptor.classes", Stamp.class.getName());
        equal(50, Stamp.ACKNOWLEDGED.get(), "acknowledged");
        for (ConsumerRecord<String, String> record : world.all(topic, 1, 50)) {
            equal(record.value(), new String(record.headers().lastHeader("stamp").value()), "the header");
        }
    }

    private static void shapes(World world) throws Exception {
        String topic = world.topic("shapes", 1);
        long now = System.currentTimeMillis();
        try (KafkaProducer<String, String> producer = world.producer()) {
            producer.send(new ProducerRecord<String, String>(topic, 0, now - 1000, (String) null, (String) null)).get();
            ProducerRecord<String, String> headers = new ProducerRecord<>(topic, 0, now, "", "");
            headers.headers().add("a", "1".getBytes()).add("a", null).add("ä", new byte[0]);
            producer.send(headers).get();
        }
        List<ConsumerRecord<String, String>> read = world.all(topic, 1, 2);
        check(read.get(0).key() == null && read.get(0).value() == null, "nulls stay nulls");
        equal(now - 1000, read.get(0).timestamp(), "timestamp");
        equal(TimestampType.CREATE_TIME, read.get(0).timestampType(), "kind of timestamp");
        equal("", read.get(1).value(), "empty value");
        Header[] got = read.get(1).headers().toArray();
        equal(3, got.length, "headers");
        check(got[0].key().equals("a") && got[1].value() == null && got[2].key().equals("ä"), "headers: " + read.get(1));
    }

    private static void large(World world) throws Exception {
        String topic = world.topic("large", 1);
        String large = "0123456789".repeat(100_000);
        try (KafkaProducer<String, String> producer = world.producer()) {
            producer.send(new ProducerRecord<>(topic, "k", large)).get();
        }
        equal(large, world.all(topic, 1, 1, "max.partition.fetch.bytes", "1000", "fetch.max.bytes", "1000").get(0).value(), "value");
    }

    private static void idempotent(World world) throws Exception {
        order(world, "idempotent", "enable.idempotence", "true", "max.in.flight.requests.per.connection", "5",
            "batch.size", "500", "linger.ms", "0");
    }

    private static void order(World world, String topic, Object... pairs) throws Exception {
        world.topic(topic, 1);
        world.fill(topic, 0, 5000, pairs);
        equal(numbers(5000), values(world.all(topic, 1, 5000)), "values");
    }

    private static void two(World world) throws Exception {
        String topic = world.topic("two-idempotent", 1);
        try (KafkaProducer<String, String> one = world.producer("batch.size", "200");
             KafkaProducer<String, String> two = world.producer("batch.size", "200")) {
            for (int i = 0; i < 500; i++) {
                one.send(new ProducerRecord<>(topic, "one", "" + i));
                two.send(new ProducerRecord<>(topic, "two", "" + i));
            }
        }
        List<ConsumerRecord<String, String>> all = world.all(topic, 1, 1000);
        for (String key : List.of("one", "two")) {
            equal(numbers(500), values(all.stream().filter(record -> record.key().equals(key)).toList()), "values of " + key);
        }
    }

    private static void keys(World world) throws Exception {
        String topic = world.topic("murmur", 7);
        world.fill(topic, null, 70);
        for (ConsumerRecord<String, String> record : world.all(topic, 7, 70)) {
            int hash = org.apache.kafka.common.utils.Utils.murmur2(record.key().getBytes());
            equal(org.apache.kafka.common.utils.Utils.toPositive(hash) % 7, record.partition(), "partition of " + record.key());
        }
    }

    private static void appendTime(World world) throws Exception {
        String topic = world.topic("append-time", 1, "message.timestamp.type", "LogAppendTime");
        long before = System.currentTimeMillis();
        try (KafkaProducer<String, String> producer = world.producer()) {
            RecordMetadata metadata = producer.send(new ProducerRecord<>(topic, 0, 1000L, "k", "v")).get();
            check(metadata.timestamp() >= before - 1000, "the broker's time is in the metadata: " + metadata.timestamp());
            ConsumerRecord<String, String> read = world.all(topic, 1, 1).get(0);
            equal(TimestampType.LOG_APPEND_TIME, read.timestampType(), "kind of timestamp");
            equal(metadata.timestamp(), read.timestamp(), "timestamp");
        }
    }

    private static void autoCreated(World world) throws Exception {
        world.fill("made-by-producing", null, 10);
        try (KafkaProducer<String, String> producer = world.producer()) {
            int partitions = producer.partitionsFor("made-by-producing").size();
            world.all("made-by-producing", partitions, 10);
        }
    }

    private static void looks(World world) throws Exception {
        String topic = world.topic("looks", 3);
        try (KafkaProducer<String, String> producer = world.producer()) {
            Set<Integer> numbers = new HashSet<>();
            producer.partitionsFor(topic).forEach(partition -> {
                numbers.add(partition.partition());
                check(partition.leader() != null && partition.inSyncReplicas().length == 1, "" + partition);
            });
            equal(Set.of(0, 1, 2), numbers, "partitions");
            producer.send(new ProducerRecord<>(topic, "v")).get();
            check(producer.metrics().size() > 50, "metrics");
        }
    }

    private static void tooLarge(World world) throws Exception {
        String topic = world.topic("too-large", 1, "max.message.bytes", "1000");
        try (KafkaProducer<String, String> producer = world.producer()) {
            fails(RecordTooLargeException.class, () -> producer.send(new ProducerRecord<>(topic, "k", "x".repeat(5000))).get());
            equal(0L, producer.send(new ProducerRecord<>(topic, "k", "small")).get().offset(), "offset of the next");
        }
    }

    private static void split(World world) throws Exception {
        String topic = world.topic("split", 1, "max.message.bytes", "1000");
        world.fill(topic, 0, 400, "linger.ms", "50", "batch.size", "16384");
        equal(numbers(400), values(world.all(topic, 1, 400)), "values");
    }

    private static void noKey(World world) throws Exception {
        String topic = world.topic("no-key", 1, "cleanup.policy", "compact");
        try (KafkaProducer<String, String> producer = world.producer()) {
            fails(org.apache.kafka.common.InvalidRecordException.class, () -> producer.send(new ProducerRecord<>(topic, "v")).get());
            producer.send(new ProducerRecord<>(topic, "k", "v")).get();
        }
    }

    private static void oldTimestamp(World world) throws Exception {
        String topic = world.topic("old", 1, "message.timestamp.before.max.ms", "60000", "message.timestamp.after.max.ms", "60000");
        long now = System.currentTimeMillis();
        try (KafkaProducer<String, String> producer = world.producer()) {
            fails(InvalidTimestampException.class, () -> producer.send(new ProducerRecord<>(topic, 0, now - 600_000, "k", "v")).get());
            fails(InvalidTimestampException.class, () -> producer.send(new ProducerRecord<>(topic, 0, now + 600_000, "k", "v")).get());
            producer.send(new ProducerRecord<>(topic, 0, now, "k", "v")).get();
        }
    }

    private static void replicas(World world) throws Exception {
        String topic = world.topic("replicas", 1, "min.insync.replicas", "2");
        try (KafkaProducer<String, String> producer = world.producer("retries", "0", "enable.idempotence", "false", "acks", "all")) {
            equal(0L, producer.send(new ProducerRecord<>(topic, "k", "v")).get().offset(), "offset");
        }
    }

    private static void badName(World world) {
        try (KafkaProducer<String, String> producer = world.producer()) {
            fails(InvalidTopicException.class, () -> producer.send(new ProducerRecord<>("not allowed", "v")).get());
        }
    }

    private static void badPartition(World world) throws Exception {
        String topic = world.topic("bad-partition", 1);
        try (KafkaProducer<String, String> producer = world.producer("max.block.ms", "1500")) {
            fails(TimeoutException.class, () -> producer.send(new ProducerRecord<>(topic, 9, "k", "v")).get());
        }
    }

    private static void again(World world) throws Exception {
        String topic = world.topic("again", 1);
        try (KafkaProducer<String, String> producer = world.producer("metadata.max.age.ms", "1000")) {
            producer.send(new ProducerRecord<>(topic, "k", "first")).get();
            world.admin.deleteTopics(List.of(topic)).all().get();
            World.eventually("the topic is gone", () -> world.admin.listTopics().names().get().contains(topic), there -> !there);
            try {
                world.topic(topic, 1);
            } catch (java.util.concurrent.ExecutionException exists) {
                // The producer asked for it in the meantime, and so made it.
                check(exists.getCause() instanceof org.apache.kafka.common.errors.TopicExistsException, "" + exists);
            }
            equal(0L, producer.send(new ProducerRecord<>(topic, "k", "second")).get().offset(), "offset");
            producer.flush();
            producer.close(Duration.ofSeconds(5));
        }
        equal(List.of("second"), values(world.all(topic, 1, 1)), "values");
    }

    static List<String> numbers(int count) {
        return IntStream.range(0, count).mapToObj(i -> "" + i).toList();
    }

    static TopicPartition first(String topic) {
        return new TopicPartition(topic, 0);
    }
}
