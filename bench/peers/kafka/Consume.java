import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/** Reads all partitions from their starts: once with checksums, then until warm, then counted. */
final class Consume {
    /** How long one reading of everything may take. */
    private static final long WITHIN_SECONDS = 300;

    private static final Duration POLL = Duration.ofMillis(200);

    private Consume() {}

    static String run(Load.Options options) throws Exception {
        Tally read = readAll(options, true);
        long warmUntil = System.nanoTime() + (long) (options.warm * 1e9);
        while (System.nanoTime() < warmUntil) {
            readAll(options, false);
        }
        long begun = System.nanoTime();
        long records = readAll(options, false).total();
        double seconds = (System.nanoTime() - begun) / 1e9;
        return """
            {"records": %d, "seconds": %.3f, "records_per_s": %.1f, "mb_per_s": %.2f, "read": %s}"""
                .formatted(records, seconds, records / seconds,
                        records * (double) options.size / seconds / 1e6, read.sums());
    }

    private static Tally readAll(Load.Options options, boolean checked) throws Exception {
        ExecutorService threads = Executors.newFixedThreadPool(options.clients);
        List<Future<Tally>> running = new ArrayList<>();
        for (int client = 0; client < options.clients; client++) {
            List<TopicPartition> share = new ArrayList<>();
            for (int at = client; at < options.partitions; at += options.clients) {
                share.add(new TopicPartition(options.topic, at));
            }
            running.add(threads.submit(() -> read(options, share, checked)));
        }
        Tally whole = new Tally(options.partitions);
        for (Future<Tally> reader : running) {
            whole.merge(reader.get(WITHIN_SECONDS, TimeUnit.SECONDS));
        }
        threads.shutdown();
        return whole;
    }

    /** Reads some partitions to their present ends. */
    private static Tally read(Load.Options options, List<TopicPartition> share, boolean checked)
            throws TimeoutException {
        Tally tally = new Tally(options.partitions);
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(WITHIN_SECONDS);
        try (var consumer = new KafkaConsumer<byte[], byte[]>(settings(options.servers))) {
            consumer.assign(share);
            consumer.seekToBeginning(share);
            Map<TopicPartition, Long> ends = consumer.endOffsets(share);
            while (share.stream().anyMatch(at -> consumer.position(at) < ends.get(at))) {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                    tally.add(record.partition(), checked ? Tally.crc(record.value()) : 0);
                }
                if (System.nanoTime() > deadline) {
                    throw new TimeoutException("read %d records in time".formatted(tally.total()));
                }
            }
        }
        return tally;
    }

    /** A consumer as users have it, but for larger polls. */
    private static Properties settings(String servers) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", servers);
        settings.put("enable.auto.commit", "false");
        settings.put("max.poll.records", "5000");
        String bytes = "org.apache.kafka.common.serialization.ByteArrayDeserializer";
        settings.put("key.deserializer", bytes);
        settings.put("value.deserializer", bytes);
        return settings;
    }
}
