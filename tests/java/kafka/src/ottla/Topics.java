package ottla;

import static ottla.Producers.first;
import static ottla.World.check;
import static ottla.World.equal;
import static ottla.World.eventually;
import static ottla.World.fails;

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.CreateTopicsResult;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicaAssignmentException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.OffsetOutOfRangeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** Topics, their partitions, offsets and records, through Admin. */
final class Topics {
    static void add(List<Case> cases) {
        cases.add(new Case("admin: create topics", Topics::create));
        cases.add(new Case("admin: create topics, errors", Topics::createErrors));
        cases.add(new Case("admin: describe topics by name and id", Topics::describe));
        cases.add(new Case("admin: describe a topic of many partitions in pages", Topics::pages));
        cases.add(new Case("admin: list topics", Topics::list));
        cases.add(new Case("admin: delete topics by name and id", Topics::delete));
        cases.add(new Case("admin: create partitions", Topics::grow));
        cases.add(new Case("admin: offsets of every kind", Topics::offsets));
        cases.add(new Case("admin: delete records", Topics::deleteRecords));
    }

    private static void create(World world) throws Exception {
        NewTopic plain = new NewTopic("create-plain", Optional.empty(), Optional.empty());
        NewTopic full = new NewTopic("create-full", 3, (short) 1).configs(Map.of("retention.ms", "12345", "cleanup.policy", "compact"));
        NewTopic assigned = new NewTopic("create-assigned", Map.of(0, List.of(node(world)), 1, List.of(node(world))));
        CreateTopicsResult result = world.admin.createTopics(List.of(plain, full, assigned));
        result.all().get();
        equal(3, result.numPartitions("create-full").get(), "partitions");
        equal(1, result.replicationFactor("create-full").get(), "replication factor");
        equal("12345", result.config("create-full").get().get("retention.ms").value(), "retention.ms");
        check(!result.topicId("create-full").get().equals(Uuid.ZERO_UUID), "an id");
        equal(2, result.numPartitions("create-assigned").get(), "partitions");
        world.admin.createTopics(List.of(new NewTopic("create-validated", 1, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all().get();
        check(!world.admin.listTopics().names().get().contains("create-validated"), "validating creates nothing");
    }

    static int node(World world) throws Exception {
        return world.admin.describeCluster().nodes().get().iterator().next().id();
    }

    private static void createErrors(World world) throws Exception {
        world.topic("create-errors", 1);
        create(world, TopicExistsException.class, new NewTopic("create-errors", 1, (short) 1));
        create(world, InvalidTopicException.class, new NewTopic("not allowed", 1, (short) 1));
        create(world, InvalidTopicException.class, new NewTopic("x".repeat(250), 1, (short) 1));
        create(world, InvalidTopicException.class, new NewTopic("..", 1, (short) 1));
        world.topic("create_collision", 1);
        create(world, InvalidTopicException.class, new NewTopic("create.collision", 1, (short) 1));
        create(world, InvalidPartitionsException.class, new NewTopic("create-errors-1", 0, (short) 1));
        create(world, InvalidReplicationFactorException.class, new NewTopic("create-errors-2", 1, (short) 0));
        create(world, InvalidReplicationFactorException.class, new NewTopic("create-errors-3", 1, (short) 5));
        create(world, InvalidReplicaAssignmentException.class, new NewTopic("create-errors-4", Map.of(0, List.of(77))));
        create(world, InvalidReplicaAssignmentException.class, new NewTopic("create-errors-5", Map.of(1, List.of(node(world)))));
        create(world, InvalidConfigurationException.class, new NewTopic("create-errors-6", 1, (short) 1).configs(Map.of("retention.ms", "long")));
        create(world, InvalidConfigurationException.class, new NewTopic("create-errors-7", 1, (short) 1).configs(Map.of("un.heard.of", "1")));
    }

    private static void create(World world, Class<? extends Throwable> expected, NewTopic... topics) {
        fails(expected, () -> world.admin.createTopics(List.of(topics)).all().get());
    }

    private static void describe(World world) throws Exception {
        String topic = world.topic("describe", 2);
        TopicDescription by_name = world.admin.describeTopics(List.of(topic), new DescribeTopicsOptions().includeAuthorizedOperations(true))
            .allTopicNames().get().get(topic);
        equal(2, by_name.partitions().size(), "partitions");
        equal(node(world), by_name.partitions().get(0).leader().id(), "leader");
        equal(1, by_name.partitions().get(1).isr().size(), "in-sync replicas");
        TopicDescription by_id = world.admin.describeTopics(TopicCollection.ofTopicIds(List.of(by_name.topicId()))).allTopicIds().get().get(by_name.topicId());
        equal(topic, by_id.name(), "name");
        fails(UnknownTopicOrPartitionException.class, () -> world.admin.describeTopics(List.of("unheard-of")).allTopicNames().get());
        fails(UnknownTopicIdException.class, () -> world.admin.describeTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()))).allTopicIds().get());
        fails(InvalidTopicException.class, () -> world.admin.describeTopics(List.of("")).allTopicNames().get());
    }

    private static void pages(World world) throws Exception {
        String topic = world.topic("pages", 30);
        var described = world.admin.describeTopics(List.of(topic, "unheard-of-too"), new DescribeTopicsOptions().partitionSizeLimitPerResponse(7));
        equal(30, described.topicNameValues().get(topic).get().partitions().size(), "partitions");
        fails(UnknownTopicOrPartitionException.class, () -> described.topicNameValues().get("unheard-of-too").get());
    }

    private static void list(World world) throws Exception {
        String topic = world.topic("list", 1);
        world.fill(topic, 0, 1);
        try (var consumer = world.consumer("group.id", "list")) {
            consumer.assign(List.of(first(topic)));
            World.read(consumer, 1);
            consumer.commitSync();
        }
        Set<String> shown = world.admin.listTopics().names().get();
        check(shown.contains(topic) && !shown.contains("__consumer_offsets"), "" + shown);
        var all = world.admin.listTopics(new ListTopicsOptions().listInternal(true)).namesToListings().get();
        check(all.get("__consumer_offsets").isInternal(), "__consumer_offsets is internal");
        check(!all.get(topic).topicId().equals(Uuid.ZERO_UUID), "ids");
    }

    private static void delete(World world) throws Exception {
        world.topic("delete-1", 1);
        Uuid id = world.admin.createTopics(List.of(new NewTopic("delete-2", 1, (short) 1))).topicId("delete-2").get();
        world.admin.deleteTopics(List.of("delete-1")).all().get();
        world.admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
        eventually("both are gone", () -> world.admin.listTopics().names().get(), names -> !names.contains("delete-1") && !names.contains("delete-2"));
        fails(UnknownTopicOrPartitionException.class, () -> world.admin.deleteTopics(List.of("delete-1")).all().get());
        fails(UnknownTopicIdException.class, () -> world.admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get());
    }

    private static void grow(World world) throws Exception {
        String topic = world.topic("grow", 2);
        world.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
        eventually("five partitions", () -> world.admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size(), count -> count == 5);
        fails(InvalidPartitionsException.class, () -> world.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get());
        fails(InvalidPartitionsException.class, () -> world.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get());
        fails(UnknownTopicOrPartitionException.class, () -> world.admin.createPartitions(Map.of("unheard-of", NewPartitions.increaseTo(3))).all().get());
        fails(InvalidReplicaAssignmentException.class, () -> world.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(6, List.of(List.of(77))))).all().get());
    }

    private static void offsets(World world) throws Exception {
        String topic = world.topic("offset-kinds", 2);
        long base = System.currentTimeMillis() - 100_000;
        try (KafkaProducer<String, String> producer = world.producer("batch.size", "0")) {
            for (int i = 0; i < 10; i++) {
                // The newest time is in the middle.
                producer.send(new ProducerRecord<>(topic, 0, base + (i == 4 ? 50_000 : i * 1000), "k", "" + i));
            }
        }
        offset(world, topic, OffsetSpec.earliest(), 0, -1);
        offset(world, topic, OffsetSpec.latest(), 10, -1);
        offset(world, topic, OffsetSpec.maxTimestamp(), 4, base + 50_000);
        offset(world, topic, OffsetSpec.forTimestamp(base + 2500), 3, base + 3000);
        offset(world, topic, OffsetSpec.forTimestamp(base + 5_000_000), -1, -1);
        offset(world, topic, OffsetSpec.earliestLocal(), 0, -1);
        offset(world, topic, OffsetSpec.latestTiered(), -1, -1);
        offset(world, topic, OffsetSpec.earliestPendingUpload(), -1, -1);
        TopicPartition empty = new TopicPartition(topic, 1);
        equal(-1L, world.admin.listOffsets(Map.of(empty, OffsetSpec.maxTimestamp())).all().get().get(empty).offset(), "of an empty partition");
    }

    private static void offset(World world, String topic, OffsetSpec spec, long offset, long timestamp) throws Exception {
        ListOffsetsResultInfo found = world.admin.listOffsets(Map.of(first(topic), spec)).all().get().get(first(topic));
        equal(offset, found.offset(), spec.getClass().getSimpleName());
        equal(timestamp, found.timestamp(), "time of " + spec.getClass().getSimpleName());
    }

    private static void deleteRecords(World world) throws Exception {
        String topic = world.topic("delete-records", 2);
        world.fill(topic, 0, 20);
        world.fill(topic, 1, 20);
        TopicPartition two = new TopicPartition(topic, 1);
        var deleted = world.admin.deleteRecords(Map.of(first(topic), RecordsToDelete.beforeOffset(7), two, RecordsToDelete.beforeOffset(-1)));
        equal(7L, deleted.lowWatermarks().get(first(topic)).get().lowWatermark(), "low watermark");
        equal(20L, deleted.lowWatermarks().get(two).get().lowWatermark(), "low watermark at the end");
        offset(world, topic, OffsetSpec.earliest(), 7, -1);
        fails(OffsetOutOfRangeException.class, () -> world.admin.deleteRecords(Map.of(first(topic), RecordsToDelete.beforeOffset(1000))).all().get());
        // Below what is deleted already nothing happens.
        equal(7L, world.admin.deleteRecords(Map.of(first(topic), RecordsToDelete.beforeOffset(3))).lowWatermarks().get(first(topic)).get().lowWatermark(), "low watermark");
    }
}
