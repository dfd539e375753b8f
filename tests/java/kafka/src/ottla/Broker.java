package ottla;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/** A JVM Kafka of one node on a properties file; it is stopped, as by a signal, when standard input ends. */
public final class Broker {
    public static void main(String[] args) throws Exception {
        Path log = Path.of(args[1]);
        if (!Files.exists(log.resolve("meta.properties"))) {
            Files.createDirectories(log);
            String cluster = org.apache.kafka.common.Uuid.randomUuid().toString();
            // That feature would set min.insync.replicas for all brokers, which means nothing where there is one.
            kafka.tools.StorageTool.execute(new String[] {"format", "--cluster-id", cluster, "--config", args[0],
                "--feature", "eligible.leader.replicas.version=0"}, System.err);
        }
        Thread stdin = new Thread(() -> {
            try {
                while (System.in.read() >= 0) { }
            } catch (IOException ended) {
                System.err.println(ended);
            }
            System.exit(0);
        });
        stdin.setDaemon(true);
        stdin.start();
        kafka.Kafka.main(new String[] {args[0]});
    }
}
