package ottla;

import static ottla.Producers.first;
import static ottla.World.check;
import static ottla.World.equal;
import static ottla.World.fails;

import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.NoReassignmentInProgressException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** The cluster, through Admin: a node that is alone, but must answer as one of many would. */
final class Cluster {
    static void add(List<Case> cases) {
        cases.add(new Case("cluster: described", Cluster::described));
        cases.add(new Case("cluster: log directories", Cluster::logDirs));
        cases.add(new Case("cluster: elect leaders", Cluster::elect));
        cases.add(new Case("cluster: partition reassignments", Cluster::reassignments));
        cases.add(new Case("cluster: features", Cluster::features));
        cases.add(new Case("cluster: client telemetry", Cluster::telemetry));
    }

    private static void described(World world) throws Exception {
        var cluster = world.admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true));
        equal(1, cluster.nodes().get().size(), "nodes");
        Node node = cluster.nodes().get().iterator().next();
        equal(world.bootstrap.replaceAll(".*:", ""), "" + node.port(), "port");
        equal(node.id(), cluster.controller().get().id(), "controller");
        check(!cluster.clusterId().get().isEmpty(), "a cluster id");
    }

    private static void logDirs(World world) throws Exception {
        String topic = world.topic("log-dirs", 2);
        world.fill(topic, 0, 100);
        int node = Topics.node(world);
        Map<String, LogDirDescription> dirs = world.admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node);
        LogDirDescription dir = dirs.values().stream().filter(of -> of.replicaInfos().containsKey(first(topic))).findAny().orElseThrow();
        check(dir.error() == null, "" + dir.error());
        check(dir.replicaInfos().get(first(topic)).size() > 100, "size of a full partition");
        equal(0L, dir.replicaInfos().get(new TopicPartition(topic, 1)).size(), "size of an empty partition");
        TopicPartitionReplica replica = new TopicPartitionReplica(topic, 0, node);
        var info = world.admin.describeReplicaLogDirs(List.of(replica)).all().get().get(replica);
        check(dirs.containsKey(info.getCurrentReplicaLogDir()) && info.getFutureReplicaLogDir() == null, "" + info);
    }

    private static void elect(World world) throws Exception {
        String topic = world.topic("elect", 1);
        Map<TopicPartition, Optional<Throwable>> elected = world.admin.electLeaders(ElectionType.PREFERRED,
            Set.of(first(topic), first("unheard-of"))).partitions().get();
        check(elected.get(first(topic)).orElse(null) instanceof ElectionNotNeededException, "" + elected);
        check(elected.get(first("unheard-of")).orElse(null) instanceof UnknownTopicOrPartitionException, "" + elected);
        check(world.admin.electLeaders(ElectionType.UNCLEAN, Set.of(first(topic))).partitions().get().get(first(topic)).orElse(null)
            instanceof ElectionNotNeededException, "unclean");
    }

    private static void reassignments(World world) throws Exception {
        String topic = world.topic("reassignments", 1);
        equal(Map.of(), world.admin.listPartitionReassignments().reassignments().get(), "reassignments");
        equal(Map.of(), world.admin.listPartitionReassignments(Set.of(first(topic))).reassignments().get(), "reassignments of a topic");
        fails(InvalidReplicaAssignmentException.class, () -> world.admin.alterPartitionReassignments(
            Map.of(first(topic), Optional.of(new NewPartitionReassignment(List.of(77))))).all().get());
        fails(NoReassignmentInProgressException.class, () -> world.admin.alterPartitionReassignments(Map.of(first(topic), Optional.empty())).all().get());
        // To where it is.
        world.admin.alterPartitionReassignments(Map.of(first(topic), Optional.of(new NewPartitionReassignment(List.of(Topics.node(world)))))).all().get();
    }

    private static void features(World world) throws Exception {
        var features = world.admin.describeFeatures().featureMetadata().get();
        for (String name : List.of("group.version", "transaction.version", "share.version")) {
            check(features.finalizedFeatures().get(name) != null && features.finalizedFeatures().get(name).maxVersionLevel() >= 1,
                name + " in " + features.finalizedFeatures());
        }
    }

    /** Clients push what a subscription asks for, and the broker's page shows it; a broker without a receiver leaves them in peace. */
    private static void telemetry(World world) throws Exception {
        String topic = world.topic("telemetry", 1);
        if (world.metrics.isEmpty()) {
            try (var producer = world.producer("enable.metrics.push", "true")) {
                producer.send(new ProducerRecord<>(topic, "v")).get();
            }
            return;
        }
        ConfigResource subscription = new ConfigResource(ConfigResource.Type.CLIENT_METRICS, "java");
        Map<String, String> settings = Map.of("interval.ms", "500",
            "metrics", "org.apache.kafka.producer.,org.apache.kafka.consumer.connection.",
            "match", "client_id=telemetry-.*,client_software_name=apache-kafka-java,client_source_address=127\\.0\\.0\\.1");
        world.admin.incrementalAlterConfigs(Map.of(subscription, settings.entrySet().stream()
            .map(of -> new AlterConfigOp(new ConfigEntry(of.getKey(), of.getValue()), AlterConfigOp.OpType.SET)).toList())).all().get();
        String created = "connection_creation_total";
        for (String codec : List.of("none", "gzip")) {
            try (var producer = world.producer("client.id", "telemetry-" + codec, "compression.type", codec)) {
                String id = producer.clientInstanceId(Duration.ofSeconds(10)).toString();
                producer.send(new ProducerRecord<>(topic, "v")).get();
                // The value of a counter is the sum of what was pushed, however often.
                for (String metric : List.of(created, "node_request_latency_max", "record_queue_time_avg")) {
                    World.eventually(metric, () -> shown(world, "kafka_client_producer_" + metric, id, "telemetry-" + codec), value -> value >= 0);
                }
                double connections = shown(world, "kafka_client_producer_" + created, id, "telemetry-" + codec);
                check(connections >= 1 && connections <= 3, "connections: " + connections);
            }
        }
        try (var consumer = world.consumer("client.id", "telemetry-consumer", "group.id", "telemetry")) {
            consumer.subscribe(List.of(topic));
            World.read(consumer, 2);
            String id = consumer.clientInstanceId(Duration.ofSeconds(10)).toString();
            World.eventually("the consumer's", () -> {
                consumer.poll(Duration.ofMillis(50));
                return shown(world, "kafka_client_consumer_" + created, id, "telemetry-consumer");
            }, value -> value >= 1);
            check(!page(world).contains("kafka_client_consumer_fetch"), "nobody asked for those");
        }
        try (var other = world.producer("client.id", "not-telemetry")) {
            String id = other.clientInstanceId(Duration.ofSeconds(10)).toString();
            other.send(new ProducerRecord<>(topic, "v")).get();
            Thread.sleep(1500);
            check(!page(world).contains(id), "this one isn't matched");
        }
        world.admin.incrementalAlterConfigs(Map.of(subscription, settings.keySet().stream()
            .map(name -> new AlterConfigOp(new ConfigEntry(name, ""), AlterConfigOp.OpType.DELETE)).toList())).all().get();
    }

    /** The value of a metric of one client on the broker's page; -1 if it isn't there. */
    private static double shown(World world, String metric, String id, String clientId) throws Exception {
        String begin = metric + "{client_instance_id=\"" + id + "\",client_id=\"" + clientId + "\"";
        return page(world).lines().filter(line -> line.startsWith(begin))
            .mapToDouble(line -> Double.parseDouble(line.substring(line.lastIndexOf(' ') + 1)))
            // Of a node that was asked nothing there is no latency.
            .filter(value -> !Double.isNaN(value)).max().orElse(-1);
    }

    private static String page(World world) throws Exception {
        try (var in = URI.create("http://" + world.metrics + "/metrics").toURL().openStream()) {
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        }
    }
}
