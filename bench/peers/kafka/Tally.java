import java.util.Random;
import java.util.StringJoiner;
import java.util.zip.CRC32;
import org.HdrHistogram.Histogram;

/** What one client has seen. One thread at a time may write to it. */
final class Tally {
    /** Different payloads, so that nothing compresses across records. */
    static final int PAYLOADS = 64;

    private static final long LATENCY_MAX_US = 120_000_000;

    final long[] records;
    /** The sum of the CRC-32 of all records of a partition: it does not depend on their order. */
    final long[] crcs;

    final Histogram latencies = new Histogram(LATENCY_MAX_US, 3);
    long failed;
    String reason = "";
    long asked;
    long lastNanos;
    /** From the beginning to the last ack. */
    double seconds;

    Tally(int partitions) {
        records = new long[partitions];
        crcs = new long[partitions];
    }

    /** Notes a record. */
    void add(int partition, long crc) {
        records[partition]++;
        crcs[partition] += crc;
    }

    /** Notes how long an ack took. */
    void latency(long nanos) {
        latencies.recordValue(Math.min(nanos / 1000, LATENCY_MAX_US));
    }

    /** Adds what another has seen. */
    void merge(Tally other) {
        for (int partition = 0; partition < records.length; partition++) {
            records[partition] += other.records[partition];
            crcs[partition] += other.crcs[partition];
        }
        latencies.add(other.latencies);
        failed += other.failed;
        reason = reason.isEmpty() ? other.reason : reason;
        asked += other.asked;
        lastNanos = Math.max(lastNanos, other.lastNanos);
    }

    long total() {
        long total = 0;
        for (long count : records) {
            total += count;
        }
        return total;
    }

    /** A quantile of the latencies in milliseconds. */
    double milliseconds(double quantile) {
        return latencies.getValueAtPercentile(100 * quantile) / 1000.0;
    }

    /** The sums of all partitions as JSON; a CRC sum is text, since it may exceed 2^53. */
    String sums() {
        StringJoiner sums = new StringJoiner(", ", "[", "]");
        for (int partition = 0; partition < records.length; partition++) {
            sums.add("{\"partition\": %d, \"records\": %d, \"crc_sum\": \"%x\"}"
                    .formatted(partition, records[partition], crcs[partition]));
        }
        return sums.toString();
    }

    /** Random payloads, which do not compress. */
    static byte[][] payloads(int size) {
        byte[][] payloads = new byte[PAYLOADS][size];
        Random random = new Random(1);
        for (byte[] payload : payloads) {
            random.nextBytes(payload);
        }
        return payloads;
    }

    static long crc(byte[] bytes) {
        CRC32 crc = new CRC32();
        crc.update(bytes);
        return crc.getValue();
    }
}
