package ottla;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The JVM's side of the test: a broker, and clients that write and read. What is read is printed, a record a line. */
public final class Peer {
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    public static void main(String[] args) throws Exception {
        if (args[0].equals("broker")) {
            broker(args[1]);
            return;
        }
        Thread watch = endLater();
        try {
            client(args);
        } finally {
            watch.interrupt();
        }
    }

    private static void client(String[] args) throws Exception {
        switch (args[0]) {
            case "read" -> read(args[1], args[2]);
            case "offsets" -> offsets(args[1], args[2]);
            case "write" -> write(args[1]);
            case "more" -> {
                more(args[1]);
                transactions(args[1]);
            }
            default -> throw new IllegalArgumentException(args[0]);
        }
    }

    /** A client that hangs is a failure, not a test that never ends. */
    private static Thread endLater() {
        Thread watch = new Thread(() -> {
            try {
                Thread.sleep(PATIENCE.multipliedBy(2).toMillis());
            } catch (InterruptedException ended) {
                return;
            }
            Thread.getAllStackTraces().forEach((thread, stack) -> System.err.println(thread + " " + Arrays.toString(stack)));
            System.exit(3);
        });
        watch.setDaemon(true);
        watch.start();
        return watch;
    }

    /** The real broker's main function; it is stopped, as by a signal, when standard input ends. */
    private static void broker(String properties) {
        Thread stdin = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (java.io.IOException ended) {
                System.err.println(ended);
            }
            System.exit(0);
        });
        stdin.setDaemon(true);
        stdin.start();
        kafka.Kafka.main(new String[] {properties});
    }

    private static Properties client(String bootstrap) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        return properties;
    }

    private static KafkaConsumer<byte[], byte[]> consumer(String bootstrap, String isolation, String group) {
        Properties properties = client(bootstrap);
        properties.put("isolation.level", isolation);
        properties.put("enable.auto.commit", "false");
        properties.put("auto.offset.reset", "earliest");
        if (group != null) {
            properties.put("group.id", group);
        }
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static KafkaProducer<byte[], byte[]> producer(String bootstrap, String transactionalId) {
        Properties properties = client(bootstrap);
        properties.put("linger.ms", "0");
        if (transactionalId != null) {
            properties.put("transactional.id", transactionalId);
        }
        return new KafkaProducer<>(properties, new ByteArraySerializer(), new ByteArraySerializer());
    }

    private static List<TopicPartition> partitions(Admin admin) throws Exception {
        List<TopicPartition> all = new ArrayList<>();
        Set<String> names = new TreeSet<>(admin.listTopics().names().get());
        admin.describeTopics(names).allTopicNames().get().forEach((name, topic) ->
            topic.partitions().forEach(p -> all.add(new TopicPartition(name, p.partition()))));
        return all;
    }

    /** Every record of every topic that is not internal. */
    private static void read(String bootstrap, String isolation) throws Exception {
        StringBuilder out = new StringBuilder();
        try (Admin admin = Admin.create(client(bootstrap));
             KafkaConsumer<byte[], byte[]> consumer = consumer(bootstrap, isolation, null)) {
            List<TopicPartition> all = partitions(admin);
            Map<TopicPartition, Long> ends = consumer.endOffsets(all);
            consumer.assign(all);
            consumer.seekToBeginning(all);
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            while (ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue())) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("not all could be read");
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    out.append(line(record)).append('\n');
                }
            }
            ends.forEach((partition, end) ->
                out.append("end\t").append(partition.topic()).append('\t').append(partition.partition())
                    .append('\t').append(end).append('\n'));
        }
        System.out.print(out);
    }

    private static String line(ConsumerRecord<byte[], byte[]> record) {
        StringBuilder headers = new StringBuilder();
        for (Header header : record.headers()) {
            headers.append(header.key()).append('=').append(hex(header.value())).append(';');
        }
        return String.join("\t", "record", record.topic(), "" + record.partition(), "" + record.offset(),
            "" + record.timestamp(), hex(record.key()), hex(record.value()), headers);
    }

    private static String hex(byte[] bytes) {
        return bytes == null ? "-" : "x" + HexFormat.of().formatHex(bytes);
    }

    /** What a group has committed. */
    private static void offsets(String bootstrap, String group) throws Exception {
        try (Admin admin = Admin.create(client(bootstrap))) {
            admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().forEach((partition, offset) ->
                System.out.println(String.join("\t", "committed", partition.topic(), "" + partition.partition(),
                    "" + offset.offset(), offset.metadata())));
        }
    }

    /** What only a JVM Kafka makes: compacted logs, transactions of all fates; and more of what is there. */
    private static void write(String bootstrap) throws Exception {
        try (Admin admin = Admin.create(client(bootstrap))) {
            Map<String, String> compact = Map.of("cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0.01",
                "segment.ms", "300", "delete.retention.ms", "100", "max.compaction.lag.ms", "300");
            Map<String, String> small = Map.of("segment.bytes", "1048576", "index.interval.bytes", "1000");
            admin.createTopics(List.of(
                new NewTopic("jvm.compacted", Optional.of(1), Optional.empty()).configs(compact),
                new NewTopic("jvm.transactions", Optional.of(2), Optional.empty()).configs(small),
                new NewTopic("jvm.open", Optional.of(1), Optional.empty()).configs(small))).all().get();
            admin.createPartitions(Map.of("headers", NewPartitions.increaseTo(3))).all().get();
            admin.deleteTopics(List.of("gone")).all().get();
            ConfigResource plain = new ConfigResource(ConfigResource.Type.TOPIC, "plain");
            admin.incrementalAlterConfigs(Map.of(plain, List.of(
                new AlterConfigOp(new ConfigEntry("retention.ms", "123456789012"), AlterConfigOp.OpType.SET)))).all().get();
            more(bootstrap);
            transactions(bootstrap);
            compacted(bootstrap, admin);
            open(bootstrap);
        }
    }

    private static void more(String bootstrap) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(bootstrap, null)) {
            for (String topic : List.of("plain", "headers", "codec.zstd")) {
                for (int i = 0; i < 300; i++) {
                    producer.send(new ProducerRecord<>(topic, ("k" + i % 17).getBytes(), ("jvm" + i).getBytes()));
                }
            }
            producer.flush();
        }
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(bootstrap, "read_committed", "jvm.group")) {
            consumer.subscribe(List.of("plain"));
            int seen = 0;
            while (seen < 100) {
                seen += consumer.poll(Duration.ofMillis(200)).count();
            }
            consumer.commitSync();
        }
    }

    /** Two producers whose transactions overlap; every third is aborted, and they span several segments. */
    private static void transactions(String bootstrap) throws Exception {
        byte[] filler = new byte[6000];
        Arrays.fill(filler, (byte) '.');
        try (KafkaProducer<byte[], byte[]> one = producer(bootstrap, "one");
             KafkaProducer<byte[], byte[]> two = producer(bootstrap, "two")) {
            one.initTransactions();
            two.initTransactions();
            for (int round = 0; round < 60; round++) {
                String fate = round % 3 == 1 ? "aborted" : "committed";
                one.beginTransaction();
                two.beginTransaction();
                for (int i = 0; i < 4; i++) {
                    send(one, "jvm.transactions", i % 2, fate + " one " + round + "." + i, filler);
                    send(two, "jvm.transactions", i % 2, "committed two " + round + "." + i, filler);
                }
                if (fate.equals("aborted")) {
                    one.abortTransaction();
                } else {
                    one.sendOffsetsToTransaction(
                        Map.of(new TopicPartition("plain", 0), new OffsetAndMetadata(round, "of round " + round)),
                        new ConsumerGroupMetadata("jvm.transactional.group"));
                    one.commitTransaction();
                }
                two.commitTransaction();
            }
        }
    }

    private static void send(KafkaProducer<byte[], byte[]> producer, String topic, int partition, String key, byte[] value)
            throws Exception {
        producer.send(new ProducerRecord<>(topic, partition, key.getBytes(), value)).get();
    }

    /** Writes the same keys until the cleaner has thrown out most of what it may. */
    private static void compacted(String bootstrap, Admin admin) throws Exception {
        TopicPartition partition = new TopicPartition("jvm.compacted", 0);
        try (KafkaProducer<byte[], byte[]> producer = producer(bootstrap, null)) {
            long deadline = System.nanoTime() + PATIENCE.toNanos();
            for (int round = 0; ; round++) {
                for (int key = 0; key < 20; key++) {
                    byte[] value = key == round % 20 ? null : ("round " + round).getBytes();
                    producer.send(new ProducerRecord<>("jvm.compacted", ("key" + key).getBytes(), value));
                }
                producer.flush();
                Thread.sleep(50);
                if (round > 20 && round % 10 == 0) {
                    long end = admin.listOffsets(Map.of(partition, OffsetSpec.latest())).all().get().get(partition).offset();
                    if (count(bootstrap, partition) < end / 2) {
                        return;
                    }
                }
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("the cleaner did nothing");
                }
            }
        }
    }

    private static int count(String bootstrap, TopicPartition partition) {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(bootstrap, "read_uncommitted", null)) {
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            long end = consumer.endOffsets(List.of(partition)).get(partition);
            int count = 0;
            while (consumer.position(partition) < end) {
                count += consumer.poll(Duration.ofMillis(100)).count();
            }
            return count;
        }
    }

    /** A transaction that nobody ends: what comes behind it can't be read as committed. */
    private static void open(String bootstrap) throws Exception {
        byte[] value = "v".getBytes();
        try (KafkaProducer<byte[], byte[]> plain = producer(bootstrap, null)) {
            send(plain, "jvm.open", 0, "before", value);
            KafkaProducer<byte[], byte[]> left = producer(bootstrap, "left");
            left.initTransactions();
            left.beginTransaction();
            send(left, "jvm.open", 0, "undecided", value);
            send(plain, "jvm.open", 0, "behind", value);
            left.close(Duration.ZERO);
        }
    }
}
