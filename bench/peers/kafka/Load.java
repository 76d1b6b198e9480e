import java.util.HashMap;
import java.util.Locale;
import java.util.Map;

/**
 * The load on Apache Kafka.
 *
 * <p>Every mode prints one JSON object on the last line of stdout, and everything else on stderr.
 */
public final class Load {
    private static final String USAGE =
            "usage: Load produce|consume|create|failover [--flag value]...";

    private Load() {}

    /** Runs the mode that the first word names. */
    public static void main(String[] words) throws Exception {
        if (words.length == 0) {
            throw new IllegalArgumentException(USAGE);
        }
        // Numbers are printed for programs.
        Locale.setDefault(Locale.ROOT);
        Options options = new Options(words);
        String result =
                switch (words[0]) {
                    case "produce" -> Produce.run(options);
                    case "consume" -> Consume.run(options);
                    case "create" -> Topics.measure(options);
                    case "failover" -> Failover.run(options);
                    default -> throw new IllegalArgumentException(USAGE);
                };
        System.out.println(result);
        // Threads of a client that does not close in time must not keep the process.
        System.exit(0);
    }

    /** The flags of all modes; each mode uses some of them. */
    static final class Options {
        final String servers;
        final String topic;
        final int partitions;
        final int size;
        final int clients;
        final double warm;
        final int warmRate;
        final double seconds;
        final int rate;
        final int rounds;

        Options(String[] words) {
            Map<String, String> flags = new HashMap<>();
            for (int at = 1; at + 1 < words.length; at += 2) {
                flags.put(words[at], words[at + 1]);
            }
            servers = flags.getOrDefault("--servers", "127.0.0.1:9092");
            topic = flags.getOrDefault("--topic", "bench");
            partitions = Integer.parseInt(flags.getOrDefault("--partitions", "8"));
            size = Integer.parseInt(flags.getOrDefault("--size", "1024"));
            clients = Integer.parseInt(flags.getOrDefault("--clients", "2"));
            warm = Double.parseDouble(flags.getOrDefault("--warm", "0"));
            warmRate = Integer.parseInt(flags.getOrDefault("--warm-rate", "60000"));
            seconds = Double.parseDouble(flags.getOrDefault("--seconds", "15"));
            rate = Integer.parseInt(flags.getOrDefault("--rate", "0"));
            rounds = Integer.parseInt(flags.getOrDefault("--rounds", "5"));
        }
    }
}
