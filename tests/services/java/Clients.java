// Clients.java ADDRESS TOPIC: what Kafka Connect's workers and Kafka Streams ask of a broker before they start, with Java's own
// clients. Prints "ok"; what the broker does differently than Apache Kafka is an exception.
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.*;
import org.apache.kafka.common.serialization.*;

public class Clients {
    public static void main(String[] arguments) throws Exception {
        String address = arguments[0], topic = arguments[1];
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", address))) {
            Uuid id = create(admin, topic);
            check("by id", admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get().get(id).name(), topic);
            settings(admin, topic);
            produce(address, topic);
            offsets(admin, new TopicPartition(topic, 0));
            read(address, topic);
            long bytes = admin.describeLogDirs(List.of(1)).allDescriptions().get().get(1).values().stream()
                .flatMap(folder -> folder.replicaInfos().entrySet().stream())
                .filter(of -> of.getKey().topic().equals(topic)).mapToLong(of -> of.getValue().size()).sum();
            check("bytes", bytes > 0, true);
            admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
        }
        System.out.println("ok");
        System.exit(0);
    }

    // A changelog of a windowed store, with the settings that Streams gives it.
    static Uuid create(Admin admin, String topic) throws Exception {
        Map<String, String> settings = Map.of("cleanup.policy", "compact,delete", "retention.ms", "172800000",
            "segment.bytes", "52428800", "message.timestamp.type", "CreateTime", "min.insync.replicas", "1");
        NewTopic changelog = new NewTopic(topic, 2, (short) 1).configs(settings);
        return admin.createTopics(List.of(changelog)).topicId(topic).get();
    }

    // Connect refuses to start if its topics are not compacted.
    static void settings(Admin admin, String topic) throws Exception {
        ConfigResource of = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        AlterConfigOp less = new AlterConfigOp(new ConfigEntry("cleanup.policy", "delete"), AlterConfigOp.OpType.SUBTRACT);
        admin.incrementalAlterConfigs(Map.of(of, List.of(less))).all().get();
        for (int tries = 0; ; tries++) {
            String policy = admin.describeConfigs(List.of(of)).all().get().get(of).get("cleanup.policy").value();
            if (policy.equals("compact")) return;
            if (tries == 50) check("policy", policy, "compact");
            Thread.sleep(100);
        }
    }

    static void produce(String address, String topic) throws Exception {
        Map<String, Object> settings = Map.of("bootstrap.servers", address, "compression.type", "zstd");
        try (Producer<String, String> producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            List<java.util.concurrent.Future<RecordMetadata>> sent = new ArrayList<>();
            for (int n = 0; n < 100; n++) sent.add(producer.send(new ProducerRecord<>(topic, 0, 1000L + n, "key " + n % 10, "value " + n)));
            for (int n = 0; n < 100; n++) check("offset", sent.get(n).get().offset(), (long) n);
        }
    }

    static void offsets(Admin admin, TopicPartition partition) throws Exception {
        Map<String, OffsetSpec> specs = Map.of("latest", OffsetSpec.latest(), "earliest", OffsetSpec.earliest(),
            "max", OffsetSpec.maxTimestamp(), "local", OffsetSpec.earliestLocal(), "time", OffsetSpec.forTimestamp(1050));
        Map<String, Long> expected = Map.of("latest", 100L, "earliest", 0L, "max", 99L, "local", 0L, "time", 50L);
        for (String name : specs.keySet())
            check(name, admin.listOffsets(Map.of(partition, specs.get(name))).all().get().get(partition).offset(), expected.get(name));
    }

    // In a group, with the cooperative assignor that Connect and Streams take.
    static void read(String address, String topic) {
        Map<String, Object> settings = Map.of("bootstrap.servers", address, "group.id", topic, "auto.offset.reset", "earliest",
            "partition.assignment.strategy", CooperativeStickyAssignor.class.getName(), "isolation.level", "read_committed");
        try (Consumer<String, String> consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(topic));
            int read = 0;
            for (long end = System.currentTimeMillis() + 30_000; read < 100; ) {
                check("in time", System.currentTimeMillis() < end, true);
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) check("value", record.value(), "value " + read++);
            }
            consumer.commitSync();
        }
    }

    static void check(String what, Object found, Object expected) {
        if (!found.equals(expected)) throw new AssertionError(what + ": " + found + " instead of " + expected);
    }
}
