package ottla;

import static ottla.World.check;
import static ottla.World.equal;
import static ottla.World.eventually;
import static ottla.World.values;

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/** Kafka Connect: a file's lines go into a topic, and from there into another file. */
final class Connect {
    private static final String FILE_CONNECTORS = "org.apache.kafka.connect.file.FileStream";

    static void add(List<Case> cases) {
        cases.add(new Case("connect: a standalone worker, file source and sink", Connect::standalone));
        cases.add(new Case("connect: a distributed worker, exactly-once file source and sink", Connect::distributed));
    }

    private static Map<String, Object> worker(World world) {
        Map<String, Object> properties = world.with("key.converter", "org.apache.kafka.connect.storage.StringConverter",
            "value.converter", "org.apache.kafka.connect.storage.StringConverter", "plugin.discovery", "service_load",
            "offset.flush.interval.ms", "500");
        return properties;
    }

    private static Map<String, Object> connector(World world, String name, String kind, String topic) {
        Map<String, Object> properties = new HashMap<>(Map.of("name", name + "-" + kind.toLowerCase(), "connector.class", FILE_CONNECTORS + kind + "Connector",
            "tasks.max", "1", "file", world.files.resolve(name + "-" + kind).toString()));
        properties.put(kind.equals("Source") ? "topic" : "topics", topic);
        return properties;
    }

    /** Appends lines to the source's file and waits until the sink's file has all. */
    private static void pass(World world, String name, Program program, int from, int to) throws Exception {
        Path source = world.files.resolve(name + "-Source");
        Path sink = world.files.resolve(name + "-Sink");
        StringBuilder lines = new StringBuilder();
        for (int i = from; i < to; i++) {
            lines.append(i).append('\n');
        }
        Files.writeString(source, lines, StandardOpenOption.CREATE, StandardOpenOption.APPEND);
        eventually("the sink's file has all lines", () -> {
            program.lives();
            return Files.exists(sink) ? Files.readAllLines(sink).stream().distinct().count() : 0L;
        }, count -> count == to);
    }

    private static void standalone(World world) throws Exception {
        String topic = world.topic("connect-standalone", 1);
        Map<String, Object> properties = worker(world);
        properties.put("offset.storage.file.filename", world.files.resolve("standalone.offsets"));
        properties.put("listeners", "http://127.0.0.1:" + Program.freePort());
        String[] words = {"org.apache.kafka.connect.cli.ConnectStandalone",
            Program.properties(world.files.resolve("standalone.properties"), properties).toString(),
            Program.properties(world.files.resolve("standalone-source.properties"), connector(world, "standalone", "Source", topic)).toString(),
            Program.properties(world.files.resolve("standalone-sink.properties"), connector(world, "standalone", "Sink", topic)).toString()};
        Path log = world.files.resolve("standalone.log");
        try (Program program = new Program(log, System.getProperty("java.class.path"), words)) {
            pass(world, "standalone", program, 0, 100);
            pass(world, "standalone", program, 100, 150);
        }
        try (Program program = new Program(log, System.getProperty("java.class.path"), words)) {
            pass(world, "standalone", program, 150, 200);
        }
        equal(Producers.numbers(200), values(world.all(topic, 1, 200)), "lines in the topic");
        equal(Producers.numbers(200), Files.readAllLines(world.files.resolve("standalone-Sink")), "lines in the sink's file");
    }

    private static void distributed(World world) throws Exception {
        String topic = world.topic("connect-distributed", 1);
        Map<String, Object> properties = worker(world);
        int port = Program.freePort();
        properties.put("listeners", "http://127.0.0.1:" + port);
        properties.put("group.id", "connect-cluster");
        properties.put("session.timeout.ms", "6000");
        properties.put("consumer.session.timeout.ms", "6000");
        properties.put("heartbeat.interval.ms", "500");
        properties.put("scheduled.rebalance.max.delay.ms", "0");
        properties.put("exactly.once.source.support", "enabled");
        for (String storage : List.of("config", "offset", "status")) {
            properties.put(storage + ".storage.topic", "connect-" + storage);
            properties.put(storage + ".storage.replication.factor", "1");
        }
        properties.put("offset.storage.partitions", "3");
        properties.put("status.storage.partitions", "2");
        String[] words = {"org.apache.kafka.connect.cli.ConnectDistributed",
            Program.properties(world.files.resolve("distributed.properties"), properties).toString()};
        Path log = world.files.resolve("distributed.log");
        try (Program program = new Program(log, System.getProperty("java.class.path"), words)) {
            eventually("the worker answers", () -> {
                program.lives();
                return get(port, "/connectors");
            }, answer -> answer.equals("200 []"));
            for (String kind : List.of("Source", "Sink")) {
                String body = connector(world, "distributed", kind, topic).entrySet().stream()
                    .map(entry -> "\"" + entry.getKey() + "\":\"" + entry.getValue() + "\"").collect(Collectors.joining(",", "{", "}"));
                String answer = put(port, "/connectors/distributed-" + kind.toLowerCase() + "/config", body);
                check(answer.startsWith("201"), answer);
            }
            pass(world, "distributed", program, 0, 100);
            // The sink reads what is not committed yet; a worker killed before its commit would leave that to the transaction's timeout.
            equal(Producers.numbers(100), values(world.all(topic, 1, 100, "isolation.level", "read_committed")), "committed lines in the topic");
            // It dies in the middle of its work, and the next one takes that up.
            Files.writeString(world.files.resolve("distributed-Source"), "100\n101\n", StandardOpenOption.APPEND);
            program.kill();
        }
        try (Program program = new Program(log, System.getProperty("java.class.path"), words)) {
            pass(world, "distributed", program, 102, 150);
            eventually("both are running", () -> get(port, "/connectors/distributed-source/status") + get(port, "/connectors/distributed-sink/status"),
                status -> status.split("\"state\":\"RUNNING\"", -1).length == 5);
        }
        equal(Producers.numbers(150), values(world.all(topic, 1, 150, "isolation.level", "read_committed")), "lines in the topic");
    }

    private static String get(int port, String path) throws Exception {
        return ask(HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + port + path)).GET());
    }

    private static String put(int port, String path, String body) throws Exception {
        return ask(HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + port + path)).header("content-type", "application/json")
            .PUT(HttpRequest.BodyPublishers.ofString(body)));
    }

    private static String ask(HttpRequest.Builder request) throws InterruptedException {
        try {
            HttpResponse<String> response = HttpClient.newHttpClient().send(request.timeout(Duration.ofSeconds(5)).build(), HttpResponse.BodyHandlers.ofString());
            return response.statusCode() + " " + response.body();
        } catch (IOException error) {
            return error.toString();
        }
    }
}
