import java.util.ArrayList;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Acked records per second, or latencies at a fixed rate. */
final class Produce {
    /** Records are due in heaps of this length: a timer per record would measure the timer. */
    static final long HEAP_NANOS = 1_000_000;

    /** Between the creation of a topic and the load on it. */
    private static final long CALM_MS = 2000;

    /** Who is behind by this factor of the counted time is not sent any more records. */
    private static final double BEHIND_MAX = 2;

    private Produce() {}

    static String run(Load.Options options) throws Exception {
        if (options.warm > 0) {
            String warm = options.topic + "warm";
            int rate = options.rate > 0 ? options.rate : options.warmRate;
            sendToNew(options, warm, options.warm, rate);
            try (Topics topics = new Topics(options.servers)) {
                topics.delete(warm);
            }
        }
        return print(options, sendToNew(options, options.topic, options.seconds, options.rate));
    }

    /** Creates a topic and sends to it, with new producers. */
    private static Tally sendToNew(Load.Options options, String topic, double seconds, int rate)
            throws Exception {
        try (Topics topics = new Topics(options.servers)) {
            topics.create(topic, options.partitions);
        }
        List<KafkaProducer<byte[], byte[]>> producers = new ArrayList<>();
        for (int number = 0; number < options.clients; number++) {
            producers.add(new KafkaProducer<>(settings(options.servers, rate)));
        }
        // Not every broker knows the topic as soon as the first does; deleted files go meanwhile.
        Thread.sleep(CALM_MS);
        producers.forEach(producer -> producer.partitionsFor(topic));
        Tally seen = send(options, producers, topic, seconds, rate);
        producers.forEach(KafkaProducer::close);
        return seen;
    }

    /**
     * A producer as users have it, but for larger batches and a larger buffer. At a rate it waits for
     * nothing before it sends: latencies are measured.
     */
    static Properties settings(String servers, int rate) {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", servers);
        settings.put("acks", "all");
        settings.put("linger.ms", rate > 0 ? "0" : "5");
        settings.put("batch.size", Integer.toString(1 << 20));
        settings.put("buffer.memory", Integer.toString(64 << 20));
        // A batch of full size and its header must fit in one request.
        settings.put("max.request.size", Integer.toString(4 << 20));
        String bytes = "org.apache.kafka.common.serialization.ByteArraySerializer";
        settings.put("key.serializer", bytes);
        settings.put("value.serializer", bytes);
        return settings;
    }

    private static Tally send(
            Load.Options options,
            List<KafkaProducer<byte[], byte[]>> producers,
            String topic,
            double seconds,
            int rate)
            throws Exception {
        long begun = System.nanoTime();
        ExecutorService threads = Executors.newFixedThreadPool(producers.size());
        List<Future<Tally>> running = new ArrayList<>();
        for (KafkaProducer<byte[], byte[]> producer : producers) {
            Callable<Tally> sender = () -> sendAll(options, producer, topic, seconds, rate);
            running.add(threads.submit(sender));
        }
        Tally whole = new Tally(options.partitions);
        for (Future<Tally> sender : running) {
            whole.merge(sender.get((long) (BEHIND_MAX * seconds) + 180, TimeUnit.SECONDS));
        }
        threads.shutdown();
        whole.seconds = (whole.lastNanos - begun) / 1e9;
        return whole;
    }

    /** One producer's work: sends until the time is over, and waits for every ack. */
    private static Tally sendAll(
            Load.Options options,
            KafkaProducer<byte[], byte[]> producer,
            String topic,
            double seconds,
            int rate) {
        byte[][] payloads = Tally.payloads(options.size);
        long[] crcs = new long[payloads.length];
        for (int at = 0; at < payloads.length; at++) {
            crcs[at] = Tally.crc(payloads[at]);
        }
        Tally tally = new Tally(options.partitions);
        long begun = System.nanoTime();
        long end = begun + (long) (seconds * 1e9);
        long giveUp = end + (long) (BEHIND_MAX * seconds * 1e9);
        double perHeap = (double) rate * HEAP_NANOS / 1e9 / options.clients;
        long count = rate > 0 ? (long) (rate * seconds / options.clients) : Long.MAX_VALUE;
        tally.asked = count;
        long sent = 0;
        for (; sent < count; sent++) {
            long from = System.nanoTime();
            if (rate > 0) {
                from = begun + (long) (sent / perHeap) * HEAP_NANOS;
                waitUntil(from);
            }
            if (rate > 0 ? System.nanoTime() > giveUp : from > end) {
                break;
            }
            int payload = (int) (sent % payloads.length);
            int partition = (int) (sent % options.partitions);
            send(producer, topic, partition, payloads[payload], crcs[payload], from, tally);
        }
        if (rate == 0) {
            tally.asked = sent;
        }
        producer.flush();
        return tally;
    }

    /** Sends one record; its ack is noted by the producer's one thread for replies. */
    private static void send(
            KafkaProducer<byte[], byte[]> producer,
            String topic,
            int partition,
            byte[] payload,
            long crc,
            long from,
            Tally tally) {
        var record = new ProducerRecord<byte[], byte[]>(topic, partition, null, payload);
        producer.send(record, (metadata, failure) -> {
            long now = System.nanoTime();
            if (failure != null) {
                tally.failed++;
                tally.reason = failure.getClass().getSimpleName();
                return;
            }
            tally.add(partition, crc);
            tally.latency(now - from);
            tally.lastNanos = now;
        });
    }

    static void waitUntil(long nanos) {
        for (long left = nanos - System.nanoTime(); left > 0; left = nanos - System.nanoTime()) {
            LockSupport.parkNanos(left);
        }
    }

    private static String print(Load.Options options, Tally seen) {
        long acked = seen.total();
        double seconds = seen.seconds;
        return """
            {"records": %d, "asked": %d, "failed": %d, "reason": "%s", "seconds": %.3f, \
            "records_per_s": %.1f, "mb_per_s": %.2f, "p50_ms": %.3f, "p99_ms": %.3f, \
            "p999_ms": %.3f, "max_ms": %.3f, "written": %s}"""
                .formatted(acked, seen.asked, seen.failed, seen.reason, seconds,
                        acked / seconds, acked * (double) options.size / seconds / 1e6,
                        seen.milliseconds(0.5), seen.milliseconds(0.99), seen.milliseconds(0.999),
                        seen.milliseconds(1), seen.sums());
    }
}
