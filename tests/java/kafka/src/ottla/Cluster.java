package ottla;

import static ottla.Producers.first;
import static ottla.World.check;
import static ottla.World.equal;
import static ottla.World.fails;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.LogDirDescription;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.Node;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
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

    /** Without a receiver of metrics, a broker has nothing to ask of clients; they work on. */
    private static void telemetry(World world) throws Exception {
        String topic = world.topic("telemetry", 1);
        try (var producer = world.producer("enable.metrics.push", "true")) {
            producer.send(new org.apache.kafka.clients.producer.ProducerRecord<>(topic, "v")).get();
        }
    }
}
