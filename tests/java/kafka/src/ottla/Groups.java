package ottla;

import static ottla.Producers.first;
import static ottla.World.check;
import static ottla.World.equal;
import static ottla.World.eventually;
import static ottla.World.fails;
import static ottla.World.partitions;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerPartitionAssignor;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.RoundRobinAssignor;
import org.apache.kafka.clients.consumer.StickyAssignor;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.InconsistentGroupProtocolException;
import org.apache.kafka.common.errors.InvalidRegularExpression;
import org.apache.kafka.common.errors.UnreleasedInstanceIdException;
import org.apache.kafka.common.errors.UnsupportedAssignorException;

/** Groups whose members come and go, with every assignor of both protocols. */
final class Groups {
    static void add(List<Case> cases) {
        for (Class<? extends ConsumerPartitionAssignor> assignor : List.of(RangeAssignor.class, RoundRobinAssignor.class,
                StickyAssignor.class, CooperativeStickyAssignor.class)) {
            String name = assignor.getSimpleName();
            cases.add(new Case("group (classic): members come and go, " + name, world -> comeAndGo(world, name,
                "group.protocol", "classic", "partition.assignment.strategy", assignor.getName())));
        }
        for (String assignor : List.of("uniform", "range")) {
            cases.add(new Case("group (consumer): members come and go, " + assignor, world -> comeAndGo(world, assignor,
                "group.protocol", "consumer", "group.remote.assignor", assignor)));
        }
        cases.add(new Case("group (classic): a static member comes back", world -> staticMember(world, "classic")));
        cases.add(new Case("group (consumer): a static member comes back", world -> staticMember(world, "consumer")));
        cases.add(new Case("group (classic): a second one with the same instance id", Groups::secondInstanceClassic));
        cases.add(new Case("group (consumer): a second one with the same instance id", Groups::secondInstance));
        cases.add(new Case("group (classic): a member that no longer polls", world -> silent(world, "classic")));
        cases.add(new Case("group (consumer): a member that no longer polls", world -> silent(world, "consumer")));
        cases.add(new Case("group (classic): a member that leaves no word is expired", Groups::expired));
        cases.add(new Case("group (classic): a member that was expelled can't commit", Groups::expelled));
        cases.add(new Case("group (classic): enforceRebalance", Groups::enforced));
        cases.add(new Case("group (classic): assignors that have nothing in common", Groups::inconsistent));
        cases.add(new Case("group: classic members give way to new ones, one by one", Groups::migration));
        cases.add(new Case("group: an empty classic group becomes a new one, with its offsets", Groups::conversion));
        cases.add(new Case("group (consumer): a regular expression of the broker's", Groups::regularExpression));
        cases.add(new Case("group (consumer): errors, regular expression, assignor", Groups::refused));
        cases.add(new Case("group (classic): different topics for each member", world -> differentTopics(world, "classic")));
        cases.add(new Case("group (consumer): different topics for each member", world -> differentTopics(world, "consumer")));
    }

    /** A consumer in a thread of its own, which polls and commits until it is stopped. */
    private static final class Member implements AutoCloseable {
        final KafkaConsumer<String, String> consumer;
        final Set<TopicPartition> owned = ConcurrentHashMap.newKeySet();
        final List<String> values = Collections.synchronizedList(new ArrayList<>());
        final List<String> events = Collections.synchronizedList(new ArrayList<>());
        volatile boolean stop;
        volatile boolean polls = true;
        volatile boolean rebalances;
        volatile CloseOptions ending = CloseOptions.timeout(Duration.ofSeconds(5));
        volatile Exception error;
        private final Thread thread;

        Member(World world, Collection<String> topics, Object... pairs) {
            Object[] all = Arrays.copyOf(new Object[] {"enable.auto.commit", "false"}, pairs.length + 2);
            System.arraycopy(pairs, 0, all, 2, pairs.length);
            consumer = world.consumer(all);
            thread = new Thread(() -> live(topics));
            thread.setDaemon(true);
            thread.start();
        }

        private void live(Collection<String> topics) {
            ConsumerRebalanceListener listener = new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    events.add("revoked " + new HashSet<>(partitions));
                    owned.removeAll(partitions);
                }

                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    events.add("assigned " + new HashSet<>(partitions));
                    owned.addAll(partitions);
                }

                @Override
                public void onPartitionsLost(Collection<TopicPartition> partitions) {
                    events.add("lost " + new HashSet<>(partitions));
                    owned.removeAll(partitions);
                }
            };
            try {
                consumer.subscribe(topics, listener);
                while (!stop) {
                    if (rebalances) {
                        rebalances = false;
                        consumer.enforceRebalance("because");
                    }
                    if (!polls) {
                        Thread.sleep(20);
                        continue;
                    }
                    var records = consumer.poll(Duration.ofMillis(50));
                    records.forEach(record -> values.add(record.value()));
                    if (!records.isEmpty()) {
                        try {
                            consumer.commitSync();
                        } catch (CommitFailedException | org.apache.kafka.common.errors.RebalanceInProgressException again) {
                            events.add("commit failed");
                        }
                    }
                }
            } catch (Exception why) {
                error = why;
            } finally {
                consumer.close(ending);
            }
        }

        @Override
        public void close() throws Exception {
            stop = true;
            thread.join(20_000);
        }

        void closeWith(CloseOptions.GroupMembershipOperation operation) throws Exception {
            ending = CloseOptions.groupMembershipOperation(operation).withTimeout(Duration.ofSeconds(5));
            close();
        }
    }

    /** Until these members share the partitions so that nobody has less than `least`. */
    private static void shared(List<Member> members, int partitions, int least) throws Exception {
        eventually("everything is assigned once", () -> {
            for (Member member : members) {
                if (member.error != null) {
                    throw member.error;
                }
            }
            return members.stream().map(member -> member.owned).toList();
        }, owned -> {
            Set<TopicPartition> all = new HashSet<>();
            owned.forEach(all::addAll);
            int sum = owned.stream().mapToInt(Set::size).sum();
            return sum == partitions && all.size() == partitions && owned.stream().allMatch(one -> one.size() >= least);
        });
    }

    private static void comeAndGo(World world, String name, Object... pairs) throws Exception {
        String topic = world.topic("come-and-go-" + name, 6);
        Object[] properties = Arrays.copyOf(pairs, pairs.length + 4);
        properties[pairs.length] = "group.id";
        properties[pairs.length + 1] = topic;
        properties[pairs.length + 2] = "heartbeat.interval.ms";
        properties[pairs.length + 3] = "300";
        if (pairs[1].equals("consumer")) {
            // There the broker says how often.
            properties = Arrays.copyOf(properties, pairs.length + 2);
        }
        try (Member one = new Member(world, List.of(topic), properties)) {
            shared(List.of(one), 6, 6);
            world.fill(topic, null, 100);
            try (Member two = new Member(world, List.of(topic), properties)) {
                shared(List.of(one, two), 6, 3);
                world.fill(topic, null, 100);
                Member three = new Member(world, List.of(topic), properties);
                shared(List.of(one, two, three), 6, 2);
                world.fill(topic, null, 100);
                ConsumerGroupDescription group = eventually("the group is described", () ->
                    world.admin.describeConsumerGroups(List.of(topic)).describedGroups().get(topic).get(),
                    of -> of.groupState() == GroupState.STABLE && of.members().size() == 3);
                Set<TopicPartition> described = new HashSet<>();
                group.members().forEach(member -> described.addAll(member.assignment().topicPartitions()));
                equal(new HashSet<>(partitions(topic, 6)), described, "described assignment");
                equal(pairs[1].equals("consumer") ? GroupType.CONSUMER : GroupType.CLASSIC, group.type(), "type");
                three.close();
                shared(List.of(one, two), 6, 3);
                eventually("all is read", () -> {
                    Set<TopicPartition> all = Set.copyOf(partitions(topic, 6));
                    return world.admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get().entrySet().stream()
                        .filter(entry -> all.contains(entry.getKey()) && entry.getValue() != null).mapToLong(entry -> entry.getValue().offset()).sum();
                }, sum -> sum == 300);
                int read = one.values.size() + two.values.size() + three.values.size();
                check(read >= 300, "read " + read);
                if (name.startsWith("Cooperative")) {
                    // Nobody gives everything back just because somebody comes.
                    String everything = "revoked " + new HashSet<>(partitions(topic, 6));
                    check(!one.events.contains(everything), "" + one.events);
                }
            }
            shared(List.of(one), 6, 6);
        }
        eventually("the group is empty", () ->
            world.admin.describeConsumerGroups(List.of(topic)).describedGroups().get(topic).get().groupState(), state -> state == GroupState.EMPTY);
    }

    private static void staticMember(World world, String protocol) throws Exception {
        String topic = world.topic("static-" + protocol, 4);
        Object[] one = {"group.id", topic, "group.protocol", protocol, "group.instance.id", "one"};
        Object[] two = {"group.id", topic, "group.protocol", protocol, "group.instance.id", "two"};
        Member first = new Member(world, List.of(topic), one);
        Member second = new Member(world, List.of(topic), two);
        shared(List.of(first, second), 4, 2);
        Set<TopicPartition> before = Set.copyOf(first.owned);
        int events = second.events.size();
        first.closeWith(CloseOptions.GroupMembershipOperation.DEFAULT);
        try (Member back = new Member(world, List.of(topic), one)) {
            shared(List.of(back, second), 4, 2);
            equal(before, Set.copyOf(back.owned), "partitions of the one that came back");
            equal(events, second.events.size(), "rebalances of the other one: " + second.events);
            var members = world.admin.describeConsumerGroups(List.of(topic)).describedGroups().get(topic).get().members();
            equal(Set.of("one", "two"), Set.copyOf(members.stream().map(m -> m.groupInstanceId().orElse("-")).toList()), "instance ids");
            // Who leaves for good is missed at once.
            second.closeWith(CloseOptions.GroupMembershipOperation.LEAVE_GROUP);
            shared(List.of(back), 4, 4);
        }
    }

    private static void secondInstanceClassic(World world) throws Exception {
        String topic = world.topic("second-instance-classic", 1);
        Object[] properties = {"group.id", topic, "group.protocol", "classic", "group.instance.id", "same", "heartbeat.interval.ms", "300"};
        try (Member old = new Member(world, List.of(topic), properties)) {
            shared(List.of(old), 1, 1);
            try (Member young = new Member(world, List.of(topic), properties)) {
                eventually("the old one is fenced", () -> "" + old.error, error -> error.contains(FencedInstanceIdException.class.getSimpleName()));
                shared(List.of(young), 1, 1);
            }
        }
    }

    private static void secondInstance(World world) throws Exception {
        String topic = world.topic("second-instance-consumer", 1);
        Object[] properties = {"group.id", topic, "group.protocol", "consumer", "group.instance.id", "same"};
        try (Member old = new Member(world, List.of(topic), properties)) {
            shared(List.of(old), 1, 1);
            try (Member young = new Member(world, List.of(topic), properties)) {
                eventually("the young one is refused", () -> "" + young.error, error -> error.contains(UnreleasedInstanceIdException.class.getSimpleName()));
                check(old.error == null && old.owned.size() == 1, "the old one goes on: " + old.error);
            }
        }
    }

    private static void silent(World world, String protocol) throws Exception {
        String topic = world.topic("silent-" + protocol, 2);
        Object[] properties = {"group.id", topic, "group.protocol", protocol, "max.poll.interval.ms", "2000",
            protocol.equals("classic") ? "heartbeat.interval.ms" : "client.id", protocol.equals("classic") ? "300" : topic};
        try (Member one = new Member(world, List.of(topic), properties); Member two = new Member(world, List.of(topic), properties)) {
            shared(List.of(one, two), 2, 1);
            one.polls = false;
            eventually("the other one has all", () -> two.owned.size(), count -> count == 2);
            one.polls = true;
            eventually("it lost what it had", () -> "" + one.events, events -> events.contains("lost"));
            shared(List.of(one, two), 2, 1);
        }
    }

    private static void expired(World world) throws Exception {
        String topic = world.topic("expired", 2);
        Object[] properties = {"group.id", topic, "group.protocol", "classic", "session.timeout.ms", "6000", "heartbeat.interval.ms", "500"};
        Member gone = new Member(world, List.of(topic), properties);
        try (Member stays = new Member(world, List.of(topic), properties)) {
            shared(List.of(gone, stays), 2, 1);
            long begun = System.nanoTime();
            gone.closeWith(CloseOptions.GroupMembershipOperation.REMAIN_IN_GROUP);
            shared(List.of(stays), 2, 2);
            long ms = (System.nanoTime() - begun) / 1_000_000;
            check(ms > 4000, "it was expired after " + ms + " ms");
        }
    }

    private static void expelled(World world) throws Exception {
        String topic = world.topic("expelled", 1);
        world.fill(topic, 0, 10);
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", topic, "group.protocol", "classic",
                "max.poll.interval.ms", "1500", "enable.auto.commit", "false")) {
            consumer.subscribe(List.of(topic));
            World.read(consumer, 10);
            Thread.sleep(2500);
            fails(CommitFailedException.class, () -> {
                consumer.commitSync();
                return null;
            });
            equal(Set.of(), world.admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get().keySet(), "committed");
            // It joins again and reads again.
            World.read(consumer, 10);
            consumer.commitSync();
        }
    }

    private static void enforced(World world) throws Exception {
        String topic = world.topic("enforced", 2);
        try (Member one = new Member(world, List.of(topic), "group.id", topic, "group.protocol", "classic")) {
            shared(List.of(one), 2, 2);
            int before = one.events.size();
            one.rebalances = true;
            eventually("another rebalance", () -> one.events.size(), count -> count >= before + 2);
            shared(List.of(one), 2, 2);
        }
    }

    private static void inconsistent(World world) throws Exception {
        String topic = world.topic("inconsistent", 1);
        try (Member one = new Member(world, List.of(topic), "group.id", topic, "group.protocol", "classic",
                 "partition.assignment.strategy", RangeAssignor.class.getName())) {
            shared(List.of(one), 1, 1);
            try (Member two = new Member(world, List.of(topic), "group.id", topic, "group.protocol", "classic",
                    "partition.assignment.strategy", RoundRobinAssignor.class.getName())) {
                eventually("it is refused", () -> "" + two.error, error -> error.contains(InconsistentGroupProtocolException.class.getSimpleName()));
            }
        }
    }

    private static void migration(World world) throws Exception {
        String topic = world.topic("migration", 4);
        Object[] classic = {"group.id", topic, "group.protocol", "classic", "heartbeat.interval.ms", "300"};
        Object[] young = {"group.id", topic, "group.protocol", "consumer"};
        world.fill(topic, null, 40);
        Member one = new Member(world, List.of(topic), classic);
        Member two = new Member(world, List.of(topic), classic);
        shared(List.of(one, two), 4, 2);
        try (Member three = new Member(world, List.of(topic), young)) {
            shared(List.of(one, two, three), 4, 1);
            one.close();
            shared(List.of(two, three), 4, 2);
            two.close();
            shared(List.of(three), 4, 4);
            equal(GroupType.CONSUMER, world.admin.describeConsumerGroups(List.of(topic)).describedGroups().get(topic).get().type(), "type");
            int before = one.values.size() + two.values.size() + three.values.size();
            check(before >= 40, "read " + before);
            // And back.
            try (Member four = new Member(world, List.of(topic), classic)) {
                shared(List.of(three, four), 4, 2);
                three.close();
                shared(List.of(four), 4, 4);
                equal(GroupType.CLASSIC, world.admin.describeConsumerGroups(List.of(topic)).describedGroups().get(topic).get().type(), "type");
                world.fill(topic, null, 10);
                eventually("reads on where the group was", () -> four.values.size(), count -> count >= 10);
            }
        }
    }

    private static void conversion(World world) throws Exception {
        String topic = world.topic("conversion", 1);
        world.fill(topic, 0, 10);
        for (String protocol : List.of("classic", "consumer", "classic")) {
            try (KafkaConsumer<String, String> consumer = world.consumer("group.id", topic, "group.protocol", protocol)) {
                consumer.subscribe(List.of(topic));
                equal("0", World.read(consumer, 10).get(0).value(), "the first of ten more");
                consumer.commitSync();
            }
            world.fill(topic, 0, 10);
        }
        Map<TopicPartition, OffsetAndMetadata> offsets = world.admin.listConsumerGroupOffsets(topic).partitionsToOffsetAndMetadata().get();
        equal(30L, offsets.get(first(topic)).offset(), "committed");
    }

    private static void regularExpression(World world) throws Exception {
        world.topic("regex-a", 1);
        world.topic("other-regex-a", 1);
        world.fill("regex-a", 0, 10);
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", "regex", "group.protocol", "consumer")) {
            consumer.subscribe(new SubscriptionPattern("regex-[a-z]+"));
            World.read(consumer, 10);
            equal(Set.of(first("regex-a")), consumer.assignment(), "assignment");
            world.topic("regex-b", 2);
            world.fill("regex-b", 1, 10);
            eventually("the new topic is assigned", () -> {
                consumer.poll(Duration.ofMillis(100));
                return consumer.assignment().size();
            }, count -> count == 3);
        }
    }

    private static void refused(World world) {
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", "refused-regex", "group.protocol", "consumer")) {
            consumer.subscribe(new SubscriptionPattern("(unclosed"));
            fails(InvalidRegularExpression.class, () -> pollFor(consumer));
        }
        try (KafkaConsumer<String, String> consumer = world.consumer("group.id", "refused-assignor", "group.protocol", "consumer",
                "group.remote.assignor", "unheard-of")) {
            consumer.subscribe(List.of("any"));
            fails(UnsupportedAssignorException.class, () -> pollFor(consumer));
        }
    }

    private static Object pollFor(KafkaConsumer<String, String> consumer) {
        for (int i = 0; i < 100; i++) {
            consumer.poll(Duration.ofMillis(100));
        }
        return "nothing";
    }

    private static void differentTopics(World world, String protocol) throws Exception {
        String a = world.topic("different-a-" + protocol, 2);
        String b = world.topic("different-b-" + protocol, 2);
        Object[] properties = {"group.id", "different-" + protocol, "group.protocol", protocol};
        try (Member one = new Member(world, List.of(a), properties);
             Member two = new Member(world, List.of(a, b), properties)) {
            shared(List.of(one, two), 4, 1);
            check(one.owned.stream().allMatch(partition -> partition.topic().equals(a)), "" + one.owned);
            check(new TreeSet<>(two.owned.stream().map(TopicPartition::topic).toList()).contains(b), "" + two.owned);
        }
    }
}
