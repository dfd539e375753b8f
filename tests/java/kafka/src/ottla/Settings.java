package ottla;

import static ottla.World.check;
import static ottla.World.equal;
import static ottla.World.eventually;
import static ottla.World.fails;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterClientQuotasOptions;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.Metric;
import org.apache.kafka.common.MetricName;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.errors.ThrottlingQuotaExceededException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.quota.ClientQuotaAlteration;
import org.apache.kafka.common.quota.ClientQuotaEntity;
import org.apache.kafka.common.quota.ClientQuotaFilter;
import org.apache.kafka.common.quota.ClientQuotaFilterComponent;

/** Configuration and quotas, through Admin. */
final class Settings {
    static void add(List<Case> cases) {
        cases.add(new Case("configs: of a topic, described", Settings::topic));
        cases.add(new Case("configs: of a topic, altered step by step", Settings::alter));
        cases.add(new Case("configs: of a topic, take effect", Settings::effect));
        cases.add(new Case("configs: of a broker, described and altered", Settings::broker));
        cases.add(new Case("configs: of a group", Settings::group));
        cases.add(new Case("configs: errors", Settings::errors));
        cases.add(new Case("configs: resources that have some are listed", Settings::resources));
        cases.add(new Case("quotas: altered and described", Settings::quotas));
        cases.add(new Case("quotas: a producer is throttled", Settings::throttled));
        cases.add(new Case("quotas: a consumer is throttled", Settings::throttledConsumer));
        cases.add(new Case("quotas: what is only validated counts, and what is created by the way", Settings::mutations));
        cases.add(new Case("quotas: whose requests take too long is throttled", Settings::throttledTime));
    }

    private static ConfigResource of(ConfigResource.Type type, String name) {
        return new ConfigResource(type, name);
    }

    private static void alter(World world, ConfigResource resource, String name, String value, OpType operation) throws Exception {
        world.admin.incrementalAlterConfigs(Map.of(resource, List.of(new AlterConfigOp(new ConfigEntry(name, value), operation)))).all().get();
    }

    private static ConfigEntry entry(World world, ConfigResource resource, String name) throws Exception {
        return world.admin.describeConfigs(List.of(resource), new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true))
            .all().get().get(resource).get(name);
    }

    private static void topic(World world) throws Exception {
        ConfigResource resource = of(ConfigResource.Type.TOPIC, world.topic("configs", 1, "retention.ms", "7777777"));
        ConfigEntry set = entry(world, resource, "retention.ms");
        equal("7777777", set.value(), "retention.ms");
        equal(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, set.source(), "source");
        equal(ConfigEntry.ConfigType.LONG, set.type(), "type");
        check(!set.synonyms().isEmpty() && set.documentation() != null && !set.isReadOnly() && !set.isSensitive(), "" + set);
        ConfigEntry untouched = entry(world, resource, "cleanup.policy");
        equal("delete", untouched.value(), "cleanup.policy");
        equal(ConfigEntry.ConfigSource.DEFAULT_CONFIG, untouched.source(), "source");
        check(untouched.isDefault(), "a default");
    }

    private static void alter(World world) throws Exception {
        ConfigResource resource = of(ConfigResource.Type.TOPIC, world.topic("configs-alter", 1));
        alter(world, resource, "retention.ms", "1000000", OpType.SET);
        eventually("set", () -> entry(world, resource, "retention.ms").value(), value -> value.equals("1000000"));
        alter(world, resource, "cleanup.policy", "compact", OpType.APPEND);
        eventually("appended", () -> entry(world, resource, "cleanup.policy").value(), value -> value.equals("delete,compact"));
        alter(world, resource, "cleanup.policy", "delete", OpType.SUBTRACT);
        eventually("subtracted", () -> entry(world, resource, "cleanup.policy").value(), value -> value.equals("compact"));
        alter(world, resource, "retention.ms", null, OpType.DELETE);
        eventually("deleted", () -> entry(world, resource, "retention.ms").value(), value -> value.equals("604800000"));
        Collection<AlterConfigOp> bad = List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "5"), OpType.SET));
        world.admin.incrementalAlterConfigs(Map.of(resource, bad), new AlterConfigsOptions().validateOnly(true)).all().get();
        equal("604800000", entry(world, resource, "retention.ms").value(), "after validating");
    }

    private static void effect(World world) throws Exception {
        String topic = world.topic("configs-effect", 1);
        ConfigResource resource = of(ConfigResource.Type.TOPIC, topic);
        alter(world, resource, "max.message.bytes", "500", OpType.SET);
        eventually("set", () -> entry(world, resource, "max.message.bytes").value(), value -> value.equals("500"));
        try (KafkaProducer<String, String> producer = world.producer()) {
            eventually("a large record is refused", () -> {
                try {
                    producer.send(new ProducerRecord<>(topic, "x".repeat(3000))).get();
                    return "taken";
                } catch (Exception error) {
                    return "" + error.getCause();
                }
            }, said -> said.contains("RecordTooLarge"));
        }
    }

    private static void broker(World world) throws Exception {
        ConfigResource resource = of(ConfigResource.Type.BROKER, "" + Topics.node(world));
        check(world.admin.describeConfigs(List.of(resource)).all().get().get(resource).entries().size() > 100, "rows");
        ConfigEntry before = entry(world, resource, "message.max.bytes");
        equal("1048588", before.value(), "message.max.bytes");
        alter(world, resource, "message.max.bytes", "2000000", OpType.SET);
        ConfigEntry after = eventually("set", () -> entry(world, resource, "message.max.bytes"), of -> of.value().equals("2000000"));
        equal(ConfigEntry.ConfigSource.DYNAMIC_BROKER_CONFIG, after.source(), "source");
        alter(world, resource, "message.max.bytes", null, OpType.DELETE);
        eventually("deleted", () -> entry(world, resource, "message.max.bytes").value(), value -> value.equals("1048588"));
        // The default of all brokers.
        ConfigResource all = of(ConfigResource.Type.BROKER, "");
        alter(world, all, "log.segment.bytes", "500000000", OpType.SET);
        ConfigEntry default_of_all = eventually("set", () -> entry(world, resource, "log.segment.bytes"), of -> "500000000".equals(of.value()));
        equal(ConfigEntry.ConfigSource.DYNAMIC_DEFAULT_BROKER_CONFIG, default_of_all.source(), "source");
        String topic = world.topic("configs-of-broker", 1);
        equal("500000000", entry(world, of(ConfigResource.Type.TOPIC, topic), "segment.bytes").value(), "the topic's");
        alter(world, all, "log.segment.bytes", null, OpType.DELETE);
        eventually("deleted", () -> "" + entry(world, of(ConfigResource.Type.TOPIC, topic), "segment.bytes").value(), value -> value.equals("1073741824"));
    }

    private static void group(World world) throws Exception {
        ConfigResource resource = of(ConfigResource.Type.GROUP, "configs-group");
        alter(world, resource, "consumer.session.timeout.ms", "50000", OpType.SET);
        ConfigEntry entry = eventually("set", () -> entry(world, resource, "consumer.session.timeout.ms"), of -> of.value().equals("50000"));
        equal(ConfigEntry.ConfigSource.DYNAMIC_GROUP_CONFIG, entry.source(), "source");
        fails(InvalidConfigurationException.class, () -> {
            alter(world, resource, "consumer.session.timeout.ms", "1", OpType.SET);
            return null;
        });
        alter(world, resource, "consumer.session.timeout.ms", null, OpType.DELETE);
    }

    private static void errors(World world) throws Exception {
        ConfigResource resource = of(ConfigResource.Type.TOPIC, world.topic("configs-errors", 1));
        for (var bad : List.of(Map.entry("retention.ms", "soon"), Map.entry("un.heard.of", "1"), Map.entry("cleanup.policy", "burn"),
                Map.entry("max.message.bytes", "-1"))) {
            fails(InvalidConfigurationException.class, () -> {
                alter(world, resource, bad.getKey(), bad.getValue(), OpType.SET);
                return null;
            });
        }
        fails(UnknownTopicOrPartitionException.class, () -> {
            alter(world, of(ConfigResource.Type.TOPIC, "unheard-of"), "retention.ms", "1", OpType.SET);
            return null;
        });
        fails(UnknownTopicOrPartitionException.class, () -> entry(world, of(ConfigResource.Type.TOPIC, "unheard-of"), "retention.ms"));
        fails(InvalidRequestException.class, () -> {
            alter(world, of(ConfigResource.Type.BROKER, "" + Topics.node(world)), "process.roles", "broker", OpType.SET);
            return null;
        });
    }

    private static void resources(World world) throws Exception {
        alter(world, of(ConfigResource.Type.GROUP, "configs-listed"), "consumer.heartbeat.interval.ms", "6000", OpType.SET);
        eventually("listed", () -> world.admin.listConfigResources().all().get(), all -> all.contains(of(ConfigResource.Type.GROUP, "configs-listed")));
        alter(world, of(ConfigResource.Type.GROUP, "configs-listed"), "consumer.heartbeat.interval.ms", null, OpType.DELETE);
    }

    private static void quota(World world, ClientQuotaEntity entity, String name, Double value) throws Exception {
        world.admin.alterClientQuotas(List.of(new ClientQuotaAlteration(entity, List.of(new ClientQuotaAlteration.Op(name, value))))).all().get();
    }

    private static void quotas(World world) throws Exception {
        ClientQuotaEntity one = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, "quota-one"));
        ClientQuotaEntity both = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, "quota-one", ClientQuotaEntity.USER, "somebody"));
        quota(world, one, "producer_byte_rate", 1e9);
        quota(world, one, "request_percentage", 90.0);
        quota(world, both, "consumer_byte_rate", 2e9);
        ClientQuotaFilter filter = ClientQuotaFilter.contains(List.of(ClientQuotaFilterComponent.ofEntity(ClientQuotaEntity.CLIENT_ID, "quota-one")));
        eventually("described", () -> world.admin.describeClientQuotas(filter).entities().get(), found -> found.equals(
            Map.of(one, Map.of("producer_byte_rate", 1e9, "request_percentage", 90.0), both, Map.of("consumer_byte_rate", 2e9))));
        ClientQuotaFilter strict = ClientQuotaFilter.containsOnly(List.of(ClientQuotaFilterComponent.ofEntity(ClientQuotaEntity.CLIENT_ID, "quota-one")));
        equal(1, world.admin.describeClientQuotas(strict).entities().get().size(), "entities that match strictly");
        world.admin.alterClientQuotas(List.of(new ClientQuotaAlteration(one, List.of(new ClientQuotaAlteration.Op("producer_byte_rate", 5.0)))),
            new AlterClientQuotasOptions().validateOnly(true)).all().get();
        equal(1e9, world.admin.describeClientQuotas(strict).entities().get().get(one).get("producer_byte_rate"), "after validating");
        fails(InvalidRequestException.class, () -> {
            quota(world, one, "un.heard.of", 1.0);
            return null;
        });
        for (String name : List.of("producer_byte_rate", "request_percentage")) {
            quota(world, one, name, null);
        }
        quota(world, both, "consumer_byte_rate", null);
        eventually("removed", () -> world.admin.describeClientQuotas(filter).entities().get().size(), count -> count == 0);
    }

    /** The longest throttle time that a client's metrics tell. */
    private static double longest(Map<MetricName, ? extends Metric> metrics, String name) {
        return new ArrayList<>(metrics.values()).stream()
            .filter(metric -> metric.metricName().name().equals(name))
            .mapToDouble(metric -> (Double) metric.metricValue()).filter(ms -> !Double.isNaN(ms)).max().orElse(0);
    }

    private static void throttled(World world) throws Exception {
        String topic = world.topic("throttled", 1);
        ClientQuotaEntity entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, "throttled"));
        quota(world, entity, "producer_byte_rate", 20_000.0);
        try (KafkaProducer<String, String> producer = world.producer("client.id", "throttled")) {
            eventually("a throttle time", () -> {
                producer.send(new ProducerRecord<>(topic, "x".repeat(20_000))).get();
                return longest(producer.metrics(), "produce-throttle-time-max");
            }, ms -> ms > 0);
        }
        quota(world, entity, "producer_byte_rate", null);
    }

    private static void throttledConsumer(World world) throws Exception {
        String topic = world.topic("throttled-consumer", 1);
        ClientQuotaEntity entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, "throttled-consumer"));
        try (KafkaProducer<String, String> producer = world.producer()) {
            for (int i = 0; i < 20; i++) {
                producer.send(new ProducerRecord<>(topic, "x".repeat(10_000))).get();
            }
        }
        quota(world, entity, "consumer_byte_rate", 10_000.0);
        try (KafkaConsumer<String, String> consumer = world.consumer("client.id", "throttled-consumer")) {
            consumer.assign(World.partitions(topic, 1));
            AtomicInteger read = new AtomicInteger();
            eventually("a throttle time", () -> {
                read.addAndGet(consumer.poll(Duration.ofMillis(100)).count());
                return longest(consumer.metrics(), "fetch-throttle-time-max");
            }, ms -> ms > 0);
            check(read.get() < 20, "everything was read at once");
            quota(world, entity, "consumer_byte_rate", null);
            eventually("the rest", () -> read.addAndGet(consumer.poll(Duration.ofMillis(100)).count()), count -> count == 20);
        }
    }

    private static void throttledTime(World world) throws Exception {
        String topic = world.topic("throttled-time", 1);
        ClientQuotaEntity entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, "throttled-time"));
        quota(world, entity, "request_percentage", 0.01);
        try (KafkaProducer<String, String> producer = world.producer("client.id", "throttled-time")) {
            double ms = eventually("a throttle time", () -> {
                producer.send(new ProducerRecord<>(topic, "x")).get();
                return longest(producer.metrics(), "produce-throttle-time-max");
            }, longest -> longest > 0);
            check(ms <= 1000, "longer than a window: " + ms);
        }
        quota(world, entity, "request_percentage", null);
    }

    private static void mutations(World world) throws Exception {
        ClientQuotaEntity entity = new ClientQuotaEntity(Map.of(ClientQuotaEntity.CLIENT_ID, "mutations"));
        quota(world, entity, "controller_mutation_rate", 1.0);
        NewTopic many = new NewTopic("mutations-many", Optional.of(60), Optional.empty());
        NewTopic one = new NewTopic("mutations-one", Optional.of(1), Optional.empty());
        CreateTopicsOptions validate = new CreateTopicsOptions().validateOnly(true).retryOnQuotaViolation(false);
        try (Admin admin = Admin.create(world.with("client.id", "mutations"))) {
            eventually("refused after validating", () -> {
                try {
                    admin.createTopics(List.of(many), validate).all().get();
                    return false;
                } catch (ExecutionException error) {
                    return error.getCause() instanceof ThrottlingQuotaExceededException;
                }
            }, refused -> refused);
        }
        // Another connection: that one waits until it may go on.
        try (Admin admin = Admin.create(world.with("client.id", "mutations"))) {
            fails(ThrottlingQuotaExceededException.class, () ->
                admin.createTopics(List.of(one), new CreateTopicsOptions().retryOnQuotaViolation(false)).all().get());
        }
        try (KafkaConsumer<String, String> consumer = world.consumer("client.id", "mutations", "default.api.timeout.ms", "1500")) {
            try {
                equal(List.of(), consumer.partitionsFor("mutations-by-the-way"), "partitions");
            } catch (TimeoutException late) {
                // It asks until its time is over.
            }
        }
        check(!world.admin.listTopics().names().get().contains("mutations-by-the-way"), "the topic was created");
        quota(world, entity, "controller_mutation_rate", null);
    }
}
