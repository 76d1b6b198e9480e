import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartitionInfo;

/** Creates and describes topics of three replicas. */
final class Topics implements AutoCloseable {
    private static final int REPLICAS = 3;
    private static final long POLL_MS = 50;
    /** A cluster that has just been started, or lost a broker, may take so long. */
    private static final long WITHIN_SECONDS = 120;

    private final Admin admin;

    Topics(String servers) {
        admin = Admin.create(Map.of("bootstrap.servers", servers));
    }

    @Override
    public void close() {
        admin.close(java.time.Duration.ofSeconds(5));
    }

    /** Creates a topic and waits until all its replicas are in sync. */
    void create(String name, int partitions) throws Exception {
        NewTopic topic =
                new NewTopic(name, Optional.of(partitions), Optional.of((short) REPLICAS))
                        // What a warm-up wrote is not to fill the disk for a minute more.
                        .configs(Map.of("file.delete.delay.ms", "1000"));
        admin.createTopics(List.of(topic)).all().get(WITHIN_SECONDS, TimeUnit.SECONDS);
        waitWhole(name, partitions);
    }

    /** Deletes a topic. */
    void delete(String name) throws Exception {
        admin.deleteTopics(List.of(name)).all().get(WITHIN_SECONDS, TimeUnit.SECONDS);
    }

    /** Waits until every partition is led and has all its replicas in sync. */
    void waitWhole(String name, int partitions) throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(WITHIN_SECONDS);
        while (!isWhole(name, partitions)) {
            if (System.nanoTime() > deadline) {
                throw new TimeoutException("replicas of " + name + " are not in sync in time");
            }
            Thread.sleep(POLL_MS);
        }
    }

    /** The broker that leads a partition. */
    int leader(String name, int partition) throws Exception {
        return describe(name).get(partition).leader().id();
    }

    private boolean isWhole(String name, int partitions) throws Exception {
        try {
            List<TopicPartitionInfo> described = describe(name);
            return described.size() == partitions && described.stream().allMatch(Topics::isWhole);
        } catch (ExecutionException notYet) {
            return false;
        }
    }

    private static boolean isWhole(TopicPartitionInfo partition) {
        return partition.leader() != null && partition.isr().size() == REPLICAS;
    }

    private List<TopicPartitionInfo> describe(String name) throws Exception {
        return admin.describeTopics(List.of(name))
                .allTopicNames()
                .get(WITHIN_SECONDS, TimeUnit.SECONDS)
                .get(name)
                .partitions();
    }

    /** Measures how long it takes until a topic is there and each partition has acked a record. */
    static String measure(Load.Options options) throws Exception {
        byte[] record = Tally.payloads(options.size)[0];
        try (Topics topics = new Topics(options.servers);
                var producer =
                        new KafkaProducer<byte[], byte[]>(Produce.settings(options.servers, 0))) {
            long begun = System.nanoTime();
            topics.create(options.topic, options.partitions);
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int partition = 0; partition < options.partitions; partition++) {
                sent.add(producer.send(
                        new ProducerRecord<>(options.topic, partition, null, record)));
            }
            for (Future<RecordMetadata> acked : sent) {
                acked.get(WITHIN_SECONDS, TimeUnit.SECONDS);
            }
            double seconds = (System.nanoTime() - begun) / 1e9;
            return "{\"partitions\": %d, \"create_s\": %.3f}"
                    .formatted(options.partitions, seconds);
        }
    }
}
