package ottla;

import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** The broker under test as a case sees it, and the words in which cases say what they expect. */
final class World {
    static final Duration PATIENCE = Duration.ofSeconds(30);

    final String bootstrap;
    /** One for all cases: they name the topics and groups that they ask about. */
    final Admin admin;

    /** Where the broker tells its metrics, and those of its clients; empty if it doesn't. */
    final String metrics = java.util.Optional.ofNullable(System.getenv("OTTLA_METRICS")).orElse("");

    /** For files of the cases. */
    final Path files;

    World(String bootstrap, Path files) {
        this.bootstrap = bootstrap;
        this.files = files;
        this.admin = Admin.create(with());
    }

    /** The properties of a client: pairs of name and value. */
    Map<String, Object> with(Object... pairs) {
        Map<String, Object> properties = new HashMap<>();
        properties.put("bootstrap.servers", bootstrap);
        for (int i = 0; i < pairs.length; i += 2) {
            properties.put((String) pairs[i], pairs[i + 1]);
        }
        return properties;
    }

    /** A topic of one replica; the settings are pairs of name and value. */
    String topic(String name, int partitions, String... settings) throws Exception {
        Map<String, String> configs = new HashMap<>();
        for (int i = 0; i < settings.length; i += 2) {
            configs.put(settings[i], settings[i + 1]);
        }
        admin.createTopics(List.of(new NewTopic(name, partitions, (short) 1).configs(configs))).all().get();
        return name;
    }

    KafkaProducer<String, String> producer(Object... pairs) {
        return new KafkaProducer<>(with(pairs), new StringSerializer(), new StringSerializer());
    }

    KafkaConsumer<String, String> consumer(Object... pairs) {
        Map<String, Object> properties = with(pairs);
        properties.putIfAbsent("auto.offset.reset", "earliest");
        return new KafkaConsumer<>(properties, new StringDeserializer(), new StringDeserializer());
    }

    /** Produces `count` records with values "0", "1" …, the keys going round over ten; to partition `partition` unless it is null. */
    void fill(String topic, Integer partition, int count, Object... pairs) throws Exception {
        try (KafkaProducer<String, String> producer = producer(pairs)) {
            List<Future<?>> sent = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                sent.add(producer.send(new ProducerRecord<>(topic, partition, "k" + i % 10, "" + i)));
            }
            for (Future<?> one : sent) {
                one.get(PATIENCE.toSeconds(), TimeUnit.SECONDS);
            }
        }
    }

    /** Polls until `count` records have come, and a moment longer: there must not be more. */
    static List<ConsumerRecord<String, String>> read(Consumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        long end = System.nanoTime() + PATIENCE.toNanos();
        while (records.size() < count && System.nanoTime() < end) {
            consumer.poll(Duration.ofMillis(100)).forEach(records::add);
        }
        if (records.size() <= count) {
            consumer.poll(Duration.ofMillis(50)).forEach(records::add);
        }
        equal(count, records.size(), "records read");
        return records;
    }

    /** Everything of these partitions, from the beginning. */
    List<ConsumerRecord<String, String>> all(String topic, int partitions, int count, Object... pairs) {
        try (KafkaConsumer<String, String> consumer = consumer(pairs)) {
            List<TopicPartition> list = partitions(topic, partitions);
            consumer.assign(list);
            consumer.seekToBeginning(list);
            return read(consumer, count);
        }
    }

    static List<TopicPartition> partitions(String topic, int count) {
        List<TopicPartition> list = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            list.add(new TopicPartition(topic, i));
        }
        return list;
    }

    static List<String> values(Collection<ConsumerRecord<String, String>> records) {
        return records.stream().map(ConsumerRecord::value).toList();
    }

    static void check(boolean holds, String otherwise) {
        if (!holds) {
            throw new AssertionError(otherwise);
        }
    }

    static void equal(Object expected, Object actual, String what) {
        check(expected.equals(actual), what + ": expected " + expected + ", got " + actual);
    }

    /** The error with which something must fail, wrapped in a future's exception or not. */
    static <E extends Throwable> E fails(Class<E> expected, Callable<?> body) {
        Object got;
        try {
            got = body.call();
        } catch (Throwable error) {
            for (Throwable cause = error; cause != null; cause = cause.getCause()) {
                if (expected.isInstance(cause)) {
                    return expected.cast(cause);
                }
                if (!(cause instanceof ExecutionException) && !(cause instanceof RuntimeException)) {
                    break;
                }
            }
            throw new AssertionError("expected " + expected.getSimpleName() + ", got " + error, error);
        }
        throw new AssertionError("expected " + expected.getSimpleName() + ", but it succeeded: " + got);
    }

    /** Asks until the answer is right. */
    static <T> T eventually(String what, Callable<T> ask, Predicate<T> right) throws Exception {
        long end = System.nanoTime() + PATIENCE.toNanos();
        while (true) {
            T answer = ask.call();
            if (right.test(answer)) {
                return answer;
            }
            check(System.nanoTime() < end, what + ": still " + answer);
            Thread.sleep(30);
        }
    }
}
