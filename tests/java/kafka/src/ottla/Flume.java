package ottla;

import static ottla.World.check;
import static ottla.World.equal;
import static ottla.World.eventually;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.ConsumerRecord;

/** A Flume agent whose sink is Kafka; its client of Kafka is an old one. */
final class Flume {
    static void add(List<Case> cases) {
        cases.add(new Case("flume: from a socket into a topic, acks=1", world -> agent(world, "acks-1", "1", "none")));
        cases.add(new Case("flume: from a socket into a topic, acks=all, lz4", world -> agent(world, "acks-all", "all", "lz4")));
    }

    private static void agent(World world, String name, String acks, String codec) throws Exception {
        String topic = world.topic("flume-" + name, 3);
        int port = Program.freePort();
        Map<String, Object> properties = new LinkedHashMap<>();
        properties.put("agent.sources", "netcat");
        properties.put("agent.channels", "memory");
        properties.put("agent.sinks", "kafka");
        properties.put("agent.sources.netcat.type", "netcat");
        properties.put("agent.sources.netcat.bind", "127.0.0.1");
        properties.put("agent.sources.netcat.port", "" + port);
        properties.put("agent.sources.netcat.channels", "memory");
        properties.put("agent.sources.netcat.interceptors", "host");
        properties.put("agent.sources.netcat.interceptors.host.type", "static");
        properties.put("agent.sources.netcat.interceptors.host.key", "key");
        properties.put("agent.sources.netcat.interceptors.host.value", "from " + name);
        properties.put("agent.channels.memory.type", "memory");
        properties.put("agent.channels.memory.capacity", "5000");
        properties.put("agent.channels.memory.transactionCapacity", "100");
        properties.put("agent.sinks.kafka.type", "org.apache.flume.sink.kafka.KafkaSink");
        properties.put("agent.sinks.kafka.channel", "memory");
        properties.put("agent.sinks.kafka.kafka.topic", topic);
        properties.put("agent.sinks.kafka.kafka.bootstrap.servers", world.bootstrap);
        properties.put("agent.sinks.kafka.flumeBatchSize", "50");
        properties.put("agent.sinks.kafka.kafka.producer.acks", acks);
        properties.put("agent.sinks.kafka.kafka.producer.compression.type", codec);
        String file = Program.properties(world.files.resolve("flume-" + name + ".properties"), properties).toString();
        try (Program program = new Program(world.files.resolve("flume-" + name + ".log"), System.getProperty("ottla.flume.classpath"),
                "org.apache.flume.node.Application", "--conf-file", file, "--name", "agent", "--no-reload-conf")) {
            Socket socket = eventually("the agent listens", () -> {
                program.lives();
                try {
                    return new Socket("127.0.0.1", port);
                } catch (IOException notYet) {
                    return null;
                }
            }, connected -> connected != null);
            try (socket; BufferedReader answers = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.UTF_8))) {
                for (int i = 0; i < 500; i++) {
                    socket.getOutputStream().write((i + "\n").getBytes(StandardCharsets.UTF_8));
                    equal("OK", answers.readLine(), "the agent's answer");
                }
            }
            List<ConsumerRecord<String, String>> read = world.all(topic, 3, 500);
            equal(new HashSet<>(Producers.numbers(500)), new HashSet<>(World.values(read)), "values");
            check(read.stream().allMatch(record -> ("from " + name).equals(record.key())), "keys");
            equal(1L, read.stream().map(ConsumerRecord::partition).distinct().count(), "partitions of one key");
        }
    }
}
