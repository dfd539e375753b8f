package ottla;

import static ottla.Producers.first;
import static ottla.World.check;
import static ottla.World.equal;
import static ottla.World.eventually;
import static ottla.World.fails;
import static ottla.World.read;

import java.time.Duration;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.UnknownMemberIdException;

/** Groups and their offsets, through Admin. */
final class AdminGroups {
    static void add(List<Case> cases) {
        for (String protocol : List.of("classic", "consumer")) {
            String of = "groups (" + protocol + "): ";
            cases.add(new Case(of + "listed and described", world -> described(world, protocol)));
            cases.add(new Case(of + "offsets altered, deleted", world -> offsets(world, protocol)));
            cases.add(new Case(of + "deleted", world -> deleted(world, protocol)));
        }
        cases.add(new Case("groups: members removed", AdminGroups::removed));
        cases.add(new Case("groups: offsets of several at once", AdminGroups::several));
        cases.add(new Case("groups: errors", AdminGroups::errors));
    }

    private static KafkaConsumer<String, String> member(World world, String group, String protocol, String topic, Object... pairs) throws Exception {
        Object[] all = new Object[pairs.length + 6];
        System.arraycopy(new Object[] {"group.id", group, "group.protocol", protocol, "client.id", "c-" + group}, 0, all, 0, 6);
        System.arraycopy(pairs, 0, all, 6, pairs.length);
        KafkaConsumer<String, String> consumer = world.consumer(all);
        // What it is assigned is paused: it is to be where the group is.
        consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
            @Override
            public void onPartitionsRevoked(Collection<TopicPartition> partitions) { }

            @Override
            public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                consumer.pause(partitions);
            }
        });
        eventually("assigned", () -> {
            consumer.poll(Duration.ofMillis(50));
            return consumer.assignment().size();
        }, count -> count > 0);
        return consumer;
    }

    private static void described(World world, String protocol) throws Exception {
        String topic = world.topic("groups-" + protocol, 2);
        GroupType type = protocol.equals("classic") ? GroupType.CLASSIC : GroupType.CONSUMER;
        try (KafkaConsumer<String, String> consumer = member(world, topic, protocol, topic)) {
            GroupListing listed = eventually("stable", () -> listed(world, topic, new ListGroupsOptions()),
                of -> of != null && of.groupState().orElse(null) == GroupState.STABLE);
            equal(type, listed.type().orElse(null), "type");
            equal("consumer", listed.protocol(), "protocol");
            check(listed(world, topic, new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY))) == null, "it is not empty");
            check(listed(world, topic, new ListGroupsOptions().withTypes(Set.of(type))) != null, "by type");
            check(listed(world, topic, new ListGroupsOptions().withTypes(Set.of(GroupType.SHARE))) == null, "by another type");
            check(world.admin.listConsumerGroups().all().get().stream().anyMatch(of -> of.groupId().equals(topic)), "listConsumerGroups");
            ConsumerGroupDescription group = world.admin.describeConsumerGroups(List.of(topic)).describedGroups().get(topic).get();
            equal(protocol.equals("classic") ? "range" : "uniform", group.partitionAssignor(), "assignor");
            equal(1, group.members().size(), "members");
            var member = group.members().iterator().next();
            equal("c-" + topic, member.clientId(), "client id");
            equal("/127.0.0.1", member.host(), "host");
            equal(2, member.assignment().topicPartitions().size(), "partitions");
            check(group.coordinator() != null && !group.isSimpleConsumerGroup(), "" + group);
            if (type == GroupType.CLASSIC) {
                equal("consumer", world.admin.describeClassicGroups(List.of(topic)).describedGroups().get(topic).get().protocol(), "protocol");
            }
        }
        eventually("empty", () -> listed(world, topic, new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY))), of -> of != null || protocol.isEmpty());
    }

    private static GroupListing listed(World world, String group, ListGroupsOptions options) throws Exception {
        return world.admin.listGroups(options).all().get().stream().filter(of -> of.groupId().equals(group)).findAny().orElse(null);
    }

    private static void offsets(World world, String protocol) throws Exception {
        String topic = world.topic("group-offsets-" + protocol, 2);
        world.fill(topic, 0, 10);
        world.fill(topic, 1, 10);
        TopicPartition one = new TopicPartition(topic, 0);
        TopicPartition two = new TopicPartition(topic, 1);
        try (KafkaConsumer<String, String> consumer = member(world, topic, protocol, topic)) {
            consumer.resume(consumer.assignment());
            read(consumer, 20);
            consumer.commitSync();
            equal(10L, world.admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get().get(one).offset(), "committed");
            fails(UnknownMemberIdException.class, () -> world.admin.alterConsumerGroupOffsets(topic, Map.of(one, new OffsetAndMetadata(1))).all().get());
            fails(GroupSubscribedToTopicException.class, () -> world.admin.deleteConsumerGroupOffsets(topic, Set.of(one)).all().get());
        }
        world.admin.alterConsumerGroupOffsets(topic, Map.of(one, new OffsetAndMetadata(3, "three"))).all().get();
        OffsetAndMetadata altered = world.admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get().get(one);
        equal(3L, altered.offset(), "altered");
        equal("three", altered.metadata(), "metadata");
        world.admin.deleteConsumerGroupOffsets(topic, Set.of(two)).all().get();
        equal(Set.of(one), world.admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get().keySet(), "partitions that are left");
        try (KafkaConsumer<String, String> consumer = member(world, topic, protocol, topic)) {
            equal(3L, consumer.position(one), "where it goes on");
        }
    }

    private static void deleted(World world, String protocol) throws Exception {
        String topic = world.topic("group-deleted-" + protocol, 1);
        try (KafkaConsumer<String, String> consumer = member(world, topic, protocol, topic)) {
            consumer.commitSync();
            fails(GroupNotEmptyException.class, () -> world.admin.deleteConsumerGroups(List.of(topic)).all().get());
        }
        world.admin.deleteConsumerGroups(List.of(topic)).all().get();
        check(listed(world, topic, new ListGroupsOptions()) == null, "it is gone");
        equal(Map.of(), world.admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get(), "offsets");
    }

    private static void removed(World world) throws Exception {
        String topic = world.topic("removed", 2);
        try (KafkaConsumer<String, String> consumer = member(world, topic, "classic", topic, "group.instance.id", "static")) {
            world.admin.removeMembersFromConsumerGroup(topic, new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("static")))).all().get();
            equal(0, world.admin.describeConsumerGroups(List.of(topic)).describedGroups().get(topic).get().members().size(), "members");
            fails(UnknownMemberIdException.class, () -> world.admin.removeMembersFromConsumerGroup(topic,
                new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("unheard-of")))).all().get());
            consumer.close(org.apache.kafka.clients.consumer.CloseOptions.timeout(Duration.ZERO));
        }
        try (KafkaConsumer<String, String> consumer = member(world, topic + "-all", "classic", topic)) {
            world.admin.removeMembersFromConsumerGroup(topic + "-all", new RemoveMembersFromConsumerGroupOptions()).all().get();
            equal(0, world.admin.describeConsumerGroups(List.of(topic + "-all")).describedGroups().get(topic + "-all").get().members().size(), "members");
            consumer.close(org.apache.kafka.clients.consumer.CloseOptions.timeout(Duration.ZERO));
        }
    }

    private static void several(World world) throws Exception {
        String topic = world.topic("several", 2);
        for (String group : List.of("several-1", "several-2")) {
            world.admin.alterConsumerGroupOffsets(group, Map.of(first(topic), new OffsetAndMetadata(group.charAt(8) - '0'))).all().get();
        }
        var all = world.admin.listConsumerGroupOffsets(Map.of("several-1", new ListConsumerGroupOffsetsSpec(),
            "several-2", new ListConsumerGroupOffsetsSpec().topicPartitions(World.partitions(topic, 2))), new ListConsumerGroupOffsetsOptions().requireStable(true));
        equal(1L, all.partitionsToOffsetAndMetadata("several-1").get().get(first(topic)).offset(), "offset");
        var second = all.partitionsToOffsetAndMetadata("several-2").get();
        equal(2L, second.get(first(topic)).offset(), "offset");
        check(second.containsKey(new TopicPartition(topic, 1)) && second.get(new TopicPartition(topic, 1)) == null, "nothing committed: " + second);
        var group = world.admin.describeConsumerGroups(List.of("several-1")).describedGroups().get("several-1").get();
        equal(GroupState.EMPTY, group.groupState(), "state of a group without members");
    }

    private static void errors(World world) {
        fails(GroupIdNotFoundException.class, () -> world.admin.deleteConsumerGroups(List.of("unheard-of")).all().get());
        fails(GroupIdNotFoundException.class, () -> world.admin.describeConsumerGroups(List.of("unheard-of")).all().get());
        fails(GroupIdNotFoundException.class, () -> world.admin.deleteConsumerGroupOffsets("unheard-of", Set.of(first("t"))).all().get());
        fails(UnknownMemberIdException.class, () -> world.admin.removeMembersFromConsumerGroup("unheard-of",
            new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("m")))).all().get());
    }
}
