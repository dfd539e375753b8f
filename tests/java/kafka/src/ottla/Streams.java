package ottla;

import static ottla.World.check;
import static ottla.World.equal;
import static ottla.World.eventually;

import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;

/** Kafka Streams' word count. */
final class Streams {
    private static final String[] WORDS = {"all", "streams", "lead", "to", "kafka", "join", "summit"};

    static void add(List<Case> cases) {
        cases.add(new Case("streams: word count, at least once", world -> count(world, StreamsConfig.AT_LEAST_ONCE)));
        cases.add(new Case("streams: word count, exactly once", world -> count(world, StreamsConfig.EXACTLY_ONCE_V2)));
    }

    private static KafkaStreams start(World world, String name, String guarantee, int instance) {
        Properties properties = new Properties();
        properties.putAll(world.with("application.id", name, "processing.guarantee", guarantee, "commit.interval.ms", "100",
            "statestore.cache.max.bytes", "0", "num.stream.threads", "2", "state.dir", world.files.resolve(name + "-" + instance).toString(),
            "default.key.serde", Serdes.StringSerde.class.getName(), "default.value.serde", Serdes.StringSerde.class.getName(),
            "consumer.auto.offset.reset", "earliest", "consumer.session.timeout.ms", "6000", "consumer.heartbeat.interval.ms", "300"));
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(name + "-lines")
            .flatMapValues(line -> Arrays.asList(line.split(" ")))
            .groupBy((key, word) -> word)
            .count(Materialized.as("counts"))
            .mapValues(count -> "" + count)
            .toStream()
            .to(name + "-counts", Produced.with(Serdes.String(), Serdes.String()));
        KafkaStreams streams = new KafkaStreams(builder.build(), properties);
        streams.start();
        return streams;
    }

    /** Lines are counted by one instance, then by two, then by the second alone, after the first one died without a word. */
    private static void count(World world, String guarantee) throws Exception {
        String name = "words-" + guarantee.replace('_', '-');
        world.topic(name + "-lines", 4);
        world.topic(name + "-counts", 2);
        Map<String, Integer> expected = new TreeMap<>();
        KafkaStreams one = start(world, name, guarantee, 1);
        write(world, name, 0, 300, expected);
        counted(world, name, expected, guarantee);
        KafkaStreams two = start(world, name, guarantee, 2);
        write(world, name, 300, 300, expected);
        eventually("both work", () -> one.state() + " " + two.state(), states -> states.equals("RUNNING RUNNING"));
        counted(world, name, expected, guarantee);
        one.close(Duration.ofSeconds(10));
        write(world, name, 600, 300, expected);
        counted(world, name, expected, guarantee);
        two.close(Duration.ofSeconds(10));
        check(world.admin.listTopics().names().get().stream().anyMatch(topic -> topic.equals(name + "-counts-changelog")), "the store's changelog");
    }

    private static void write(World world, String name, int from, int count, Map<String, Integer> expected) throws Exception {
        try (KafkaProducer<String, String> producer = world.producer()) {
            for (int i = from; i < from + count; i++) {
                String first = WORDS[i % WORDS.length];
                String second = WORDS[i * i % WORDS.length];
                expected.merge(first, 1, Integer::sum);
                expected.merge(second, 1, Integer::sum);
                producer.send(new ProducerRecord<>(name + "-lines", "k" + i, first + " " + second));
            }
        }
    }

    /** What is counted last is right; with exactly once, each word's counts are 1, 2, 3 …, none left out and none twice. */
    private static void counted(World world, String name, Map<String, Integer> expected, String guarantee) throws Exception {
        Map<String, Integer> last = new TreeMap<>();
        Map<String, String> wrong = new HashMap<>();
        try (KafkaConsumer<String, String> consumer = world.consumer("isolation.level", "read_committed")) {
            consumer.assign(World.partitions(name + "-counts", 2));
            consumer.seekToBeginning(consumer.assignment());
            eventually("all words are counted", () -> {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                    int count = Integer.parseInt(record.value());
                    Integer before = last.put(record.key(), count);
                    if ((before == null ? 0 : before) + 1 != count) {
                        wrong.put(record.key(), before + " is followed by " + count);
                    }
                }
                return new TreeMap<>(last);
            }, counts -> counts.equals(expected));
        }
        if (guarantee.equals(StreamsConfig.EXACTLY_ONCE_V2)) {
            equal(Map.of(), wrong, "counts out of order");
        }
    }
}
