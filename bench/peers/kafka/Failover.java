import java.util.ArrayList;
import java.util.List;
import java.util.StringJoiner;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/**
 * Sends at a fixed rate while the leader of one partition is killed again and again. It names whom
 * to kill, and tells each pause; the killing and starting again is done by who reads stdout.
 */
final class Failover {
    /** The partition whose leader is killed. */
    private static final int VICTIM = 0;

    private static final long SETTLE_MS = 3000;
    private static final long POLL_MS = 20;

    private Failover() {}

    static String run(Load.Options options) throws Exception {
        try (Topics topics = new Topics(options.servers)) {
            topics.create(options.topic, options.partitions);
            Gaps gaps = new Gaps();
            AtomicLong acked = new AtomicLong();
            AtomicLong failed = new AtomicLong();
            List<KafkaProducer<byte[], byte[]>> producers = new ArrayList<>();
            for (int number = 0; number < options.clients; number++) {
                var producer =
                        new KafkaProducer<byte[], byte[]>(Produce.settings(options.servers, 0));
                producers.add(producer);
                Thread sender = new Thread(() -> sendOn(options, producer, gaps, acked, failed));
                sender.setDaemon(true);
                sender.start();
            }
            Thread.sleep((long) (options.warm * 1000));
            StringJoiner pauses = new StringJoiner(", ", "[", "]");
            for (int round = 0; round < options.rounds; round++) {
                pauses.add("%.1f".formatted(kill(options, topics, gaps)));
            }
            return "{\"pauses_ms\": %s, \"records\": %d, \"failed\": %d}"
                    .formatted(pauses, acked.get(), failed.get());
        }
    }

    /** One round: says who leads, and waits until acks come again. */
    private static double kill(Load.Options options, Topics topics, Gaps gaps) throws Exception {
        topics.waitWhole(options.topic, options.partitions);
        Thread.sleep(SETTLE_MS);
        int leader = topics.leader(options.topic, VICTIM);
        gaps.restart();
        System.out.println("{\"event\": \"kill\", \"server\": \"%d\"}".formatted(leader));
        long begun = System.nanoTime();
        double pause;
        do {
            Thread.sleep(POLL_MS);
            pause = gaps.longestMs();
        } while (System.nanoTime() - begun < SETTLE_MS * 1_000_000L
                || !(gaps.isOver() || pause > Gaps.PAUSE_MAX_MS));
        System.out.println("{\"event\": \"over\", \"pause_ms\": %.1f}".formatted(pause));
        return pause;
    }

    /** Sends until the process ends. */
    private static void sendOn(
            Load.Options options,
            KafkaProducer<byte[], byte[]> producer,
            Gaps gaps,
            AtomicLong acked,
            AtomicLong failed) {
        byte[][] payloads = Tally.payloads(options.size);
        long begun = System.nanoTime();
        double perHeap = (double) options.rate * Produce.HEAP_NANOS / 1e9 / options.clients;
        for (long sent = 0; ; sent++) {
            Produce.waitUntil(begun + (long) (sent / perHeap) * Produce.HEAP_NANOS);
            int partition = (int) (sent % options.partitions);
            byte[] payload = payloads[(int) (sent % payloads.length)];
            var record =
                    new ProducerRecord<byte[], byte[]>(options.topic, partition, null, payload);
            producer.send(record, (metadata, failure) -> {
                if (failure != null) {
                    failed.incrementAndGet();
                    return;
                }
                acked.incrementAndGet();
                if (partition == VICTIM) {
                    gaps.note(System.nanoTime());
                }
            });
        }
    }

    /** Watches the times between the acks of one partition. */
    private static final class Gaps {
        static final double PAUSE_MAX_MS = 60_000;
        /** Acks must have come without a gap for so long before a pause counts as over. */
        private static final double CALM_MS = 2000;
        /** A gap that ends what counts as calm. */
        private static final double CALM_GAP_MS = 250;

        private long last = System.nanoTime();
        private long calmSince = last;
        private double longest;

        synchronized void note(long now) {
            double gap = (now - last) / 1e6;
            longest = Math.max(longest, gap);
            if (gap > CALM_GAP_MS) {
                calmSince = now;
            }
            last = now;
        }

        /** Forgets the longest gap. */
        synchronized void restart() {
            longest = 0;
            calmSince = System.nanoTime();
        }

        synchronized boolean isOver() {
            long now = System.nanoTime();
            return (now - last) / 1e6 < CALM_GAP_MS && (now - calmSince) / 1e6 > CALM_MS;
        }

        /** The longest gap, or the present one if that is longer. */
        synchronized double longestMs() {
            return Math.max(longest, (System.nanoTime() - last) / 1e6);
        }
    }
}
