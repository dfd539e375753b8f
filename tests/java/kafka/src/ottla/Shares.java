package ottla;

import static ottla.Producers.first;
import static ottla.Producers.numbers;
import static ottla.World.check;
import static ottla.World.equal;
import static ottla.World.eventually;
import static ottla.World.fails;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.ListShareGroupOffsetsSpec;
import org.apache.kafka.clients.consumer.AcknowledgeType;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.serialization.StringDeserializer;

/** Share groups (KIP-932). */
final class Shares {
    static void add(List<Case> cases) {
        cases.add(new Case("share: implicit acknowledgement", Shares::implicit));
        cases.add(new Case("share: accept, release, reject", Shares::explicit));
        cases.add(new Case("share: what is released too often is not delivered again", Shares::tooOften));
        cases.add(new Case("share: several members of one partition", Shares::several));
        cases.add(new Case("share: what a member leaves behind is another's", Shares::left));
        cases.add(new Case("share: from the end unless the group says otherwise", Shares::latest));
        cases.add(new Case("share: read_committed", Shares::committed));
        cases.add(new Case("share: group listed, described, deleted", Shares::described));
        cases.add(new Case("share: offsets altered, deleted", Shares::offsets));
    }

    private static String group(World world, String name, String... settings) throws Exception {
        List<AlterConfigOp> operations = new ArrayList<>();
        operations.add(new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET));
        for (int i = 0; i < settings.length; i += 2) {
            operations.add(new AlterConfigOp(new ConfigEntry(settings[i], settings[i + 1]), AlterConfigOp.OpType.SET));
        }
        world.admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.GROUP, name), operations)).all().get();
        return name;
    }

    private static KafkaShareConsumer<String, String> member(World world, String group, String topic, Object... pairs) {
        Object[] all = new Object[pairs.length + 2];
        all[0] = "group.id";
        all[1] = group;
        System.arraycopy(pairs, 0, all, 2, pairs.length);
        KafkaShareConsumer<String, String> consumer = new KafkaShareConsumer<>(world.with(all), new StringDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(topic));
        return consumer;
    }

    private static List<ConsumerRecord<String, String>> read(KafkaShareConsumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        long end = System.nanoTime() + World.PATIENCE.toNanos();
        while (records.size() < count && System.nanoTime() < end) {
            consumer.poll(Duration.ofMillis(200)).forEach(records::add);
        }
        equal(count, records.size(), "records");
        return records;
    }

    private static List<String> values(List<ConsumerRecord<String, String>> records) {
        return records.stream().map(ConsumerRecord::value).toList();
    }

    private static void implicit(World world) throws Exception {
        String topic = world.topic("share-implicit", 1);
        String group = group(world, "share-implicit");
        world.fill(topic, 0, 50);
        try (KafkaShareConsumer<String, String> consumer = member(world, group, topic)) {
            equal(new TreeSet<>(numbers(50)), new TreeSet<>(values(read(consumer, 50))), "values");
            consumer.commitSync().values().forEach(error -> check(error.isEmpty(), "" + error));
        }
        world.fill(topic, 0, 5);
        try (KafkaShareConsumer<String, String> consumer = member(world, group, topic)) {
            List<ConsumerRecord<String, String>> more = read(consumer, 5);
            equal(50L, more.get(0).offset(), "nothing comes twice");
            equal((short) 1, more.get(0).deliveryCount().orElse((short) 0), "delivery count");
        }
    }

    private static void explicit(World world) throws Exception {
        String topic = world.topic("share-explicit", 1);
        String group = group(world, "share-explicit");
        world.fill(topic, 0, 10);
        try (KafkaShareConsumer<String, String> consumer = member(world, group, topic, "share.acknowledgement.mode", "explicit")) {
            for (ConsumerRecord<String, String> record : read(consumer, 10)) {
                consumer.acknowledge(record, switch (Integer.parseInt(record.value()) % 3) {
                    case 0 -> AcknowledgeType.ACCEPT;
                    case 1 -> AcknowledgeType.RELEASE;
                    default -> AcknowledgeType.REJECT;
                });
            }
            consumer.commitSync().values().forEach(error -> check(error.isEmpty(), "" + error));
            List<ConsumerRecord<String, String>> again = read(consumer, 3);
            equal(List.of("1", "4", "7"), values(again), "what was released");
            for (ConsumerRecord<String, String> record : again) {
                equal((short) 2, record.deliveryCount().orElse((short) 0), "delivery count");
                consumer.acknowledge(record);
            }
            consumer.commitSync();
            fails(IllegalStateException.class, () -> {
                consumer.acknowledge(again.get(0));
                return null;
            });
        }
    }

    private static void tooOften(World world) throws Exception {
        String topic = world.topic("share-too-often", 1);
        String group = group(world, "share-too-often");
        world.fill(topic, 0, 1);
        try (KafkaShareConsumer<String, String> consumer = member(world, group, topic, "share.acknowledgement.mode", "explicit")) {
            for (short delivery = 1; delivery <= 5; delivery++) {
                ConsumerRecord<String, String> record = read(consumer, 1).get(0);
                equal(delivery, record.deliveryCount().orElse((short) 0), "delivery count");
                consumer.acknowledge(record, AcknowledgeType.RELEASE);
                consumer.commitSync();
            }
            world.fill(topic, 0, 1);
            ConsumerRecord<String, String> next = read(consumer, 1).get(0);
            equal(1L, next.offset(), "the next one");
            consumer.acknowledge(next);
        }
    }

    private static void several(World world) throws Exception {
        String topic = world.topic("share-several", 1);
        String group = group(world, "share-several");
        Set<String> seen = new HashSet<>();
        int[] by = new int[2];
        try (KafkaShareConsumer<String, String> one = member(world, group, topic, "max.poll.records", "10");
             KafkaShareConsumer<String, String> two = member(world, group, topic, "max.poll.records", "10")) {
            eventually("two members", () -> {
                one.poll(Duration.ofMillis(50));
                two.poll(Duration.ofMillis(50));
                return world.admin.describeShareGroups(List.of(group)).describedGroups().get(group).get().members().stream()
                    .filter(member -> member.assignment().topicPartitions().contains(first(topic))).count();
            }, count -> count == 2);
            world.fill(topic, 0, 500, "batch.size", "100");
            eventually("all is read", () -> {
                for (var record : one.poll(Duration.ofMillis(50))) {
                    check(seen.add(record.value()), record + " came twice");
                    by[0]++;
                }
                for (var record : two.poll(Duration.ofMillis(50))) {
                    check(seen.add(record.value()), record + " came twice");
                    by[1]++;
                }
                return seen.size();
            }, count -> count == 500);
        }
        check(by[0] > 0 && by[1] > 0, by[0] + " and " + by[1]);
    }

    private static void left(World world) throws Exception {
        String topic = world.topic("share-left", 1);
        String group = group(world, "share-left");
        world.fill(topic, 0, 10);
        KafkaShareConsumer<String, String> gone = member(world, group, topic, "share.acknowledgement.mode", "explicit");
        read(gone, 10);
        gone.close();
        try (KafkaShareConsumer<String, String> consumer = member(world, group, topic)) {
            for (ConsumerRecord<String, String> record : read(consumer, 10)) {
                equal((short) 2, record.deliveryCount().orElse((short) 0), "delivery count");
            }
        }
    }

    private static void latest(World world) throws Exception {
        String topic = world.topic("share-latest", 1);
        world.fill(topic, 0, 10);
        try (KafkaShareConsumer<String, String> consumer = member(world, "share-latest", topic)) {
            eventually("assigned", () -> {
                check(consumer.poll(Duration.ofMillis(200)).isEmpty(), "an old record came");
                return world.admin.describeShareGroups(List.of("share-latest")).describedGroups().get("share-latest").get().members();
            }, members -> members.stream().anyMatch(member -> member.assignment().topicPartitions().size() == 1));
            long end = System.nanoTime() + 2_000_000_000L;
            while (System.nanoTime() < end) {
                check(consumer.poll(Duration.ofMillis(200)).isEmpty(), "an old record came");
            }
            world.fill(topic, 0, 5);
            equal(numbers(5), values(read(consumer, 5)), "values");
        }
    }

    private static void committed(World world) throws Exception {
        String topic = world.topic("share-committed", 1);
        String group = group(world, "share-committed", "share.isolation.level", "read_committed");
        try (var producer = world.producer("transactional.id", "share-committed");
             KafkaShareConsumer<String, String> consumer = member(world, group, topic)) {
            producer.initTransactions();
            for (String fate : List.of("aborted", "committed")) {
                producer.beginTransaction();
                producer.send(new org.apache.kafka.clients.producer.ProducerRecord<>(topic, 0, "k", fate)).get();
                if (fate.equals("aborted")) {
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
            equal(List.of("committed"), values(read(consumer, 1)), "values");
        }
    }

    private static void described(World world) throws Exception {
        String topic = world.topic("share-described", 2);
        String group = group(world, "share-described");
        try (KafkaShareConsumer<String, String> consumer = member(world, group, topic, "client.id", "describer")) {
            var described = eventually("stable", () -> {
                consumer.poll(Duration.ofMillis(50));
                return world.admin.describeShareGroups(List.of(group)).describedGroups().get(group).get();
            }, of -> of.groupState() == GroupState.STABLE && of.members().size() == 1
                && of.members().iterator().next().assignment().topicPartitions().size() == 2);
            equal("describer", described.members().iterator().next().clientId(), "client id");
            check(world.admin.listGroups(new ListGroupsOptions().withTypes(Set.of(GroupType.SHARE))).all().get().stream()
                .anyMatch(of -> of.groupId().equals(group) && of.protocol().equals("share")), "listed");
            fails(GroupNotEmptyException.class, () -> world.admin.deleteShareGroups(List.of(group)).all().get());
        }
        eventually("empty", () -> world.admin.describeShareGroups(List.of(group)).describedGroups().get(group).get().groupState(), state -> state == GroupState.EMPTY);
        world.admin.deleteShareGroups(List.of(group)).all().get();
        eventually("gone", () -> world.admin.listGroups().all().get().stream().noneMatch(of -> of.groupId().equals(group)), gone -> gone);
    }

    private static void offsets(World world) throws Exception {
        String topic = world.topic("share-offsets", 1);
        String group = group(world, "share-offsets");
        world.fill(topic, 0, 20);
        try (KafkaShareConsumer<String, String> consumer = member(world, group, topic)) {
            read(consumer, 20);
            consumer.commitSync();
        }
        eventually("empty", () -> world.admin.describeShareGroups(List.of(group)).describedGroups().get(group).get().groupState(), state -> state == GroupState.EMPTY);
        world.admin.alterShareGroupOffsets(group, Map.of(first(topic), 15L)).all().get();
        equal(15L, start(world, group, topic), "altered");
        try (KafkaShareConsumer<String, String> consumer = member(world, group, topic)) {
            equal(numbers(20).subList(15, 20), values(read(consumer, 5)), "values");
        }
        eventually("empty", () -> world.admin.describeShareGroups(List.of(group)).describedGroups().get(group).get().groupState(), state -> state == GroupState.EMPTY);
        world.admin.deleteShareGroupOffsets(group, Set.of(topic)).all().get();
        equal(-1L, start(world, group, topic), "deleted");
    }

    private static long start(World world, String group, String topic) throws Exception {
        var offsets = world.admin.listShareGroupOffsets(Map.of(group, new ListShareGroupOffsetsSpec())).partitionsToOffsetInfo(group).get();
        return offsets.get(first(topic)) == null ? -1 : offsets.get(first(topic)).startOffset();
    }
}
