package bench.peers.kstreams;

import java.time.Duration;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** The same work on Kafka Streams: the environment of a worker, and KSTREAMS_* as settings. */
public final class Main {
    private static final Map<String, String> ENV = System.getenv();
    private static final boolean IN_MEMORY = ENV.get("KSTREAMS_STORE").equals("memory");

    private Main() {}

    public static void main(String[] arguments) {
        KafkaStreams streams = new KafkaStreams(topology(), properties());
        Restored restored = new Restored();
        streams.setGlobalStateRestoreListener(restored);
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.RUNNING) {
                restored.log();
                System.out.printf("ready with %s partitions%n", ENV.get("BILLING_PARTITIONS"));
            }
        });
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(70);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        Runtime.getRuntime().addShutdownHook(
            new Thread(() -> streams.close(Duration.ofSeconds(12))));
        streams.start();
    }

    private static Topology topology() {
        String prefix = ENV.get("BILLING_TOPIC_PREFIX");
        ByteArraySerializer bytes = new ByteArraySerializer();
        Topology made = new Topology();
        made.addSource("in", new ByteArrayDeserializer(), new ByteArrayDeserializer(),
            prefix + "evt.webhook.app.purchase_updated.v1");
        made.addProcessor("billing", Billing::new, "in");
        made.addStateStore(store(Billing.MERCHANTS, Merchant.serde()), "billing");
        made.addStateStore(store(Billing.PURCHASES, Purchase.serde()), "billing");
        made.addStateStore(store(Billing.INDEX, Serdes.String()), "billing");
        for (String kind : new String[] {Billing.PURCHASED, Billing.FAILED, Billing.EXPIRED}) {
            made.addSink(kind, prefix + "evt.billing." + kind + ".v1", bytes, bytes, "billing");
        }
        return made;
    }

    private static <T> StoreBuilder<?> store(String name, Serde<T> values) {
        var supplier = IN_MEMORY
            ? Stores.inMemoryKeyValueStore(name)
            : Stores.persistentKeyValueStore(name);
        StoreBuilder<?> made = Stores.keyValueStoreBuilder(supplier, Serdes.String(), values);
        // A cache in front of a store in memory saves nothing.
        return IN_MEMORY ? made.withCachingDisabled() : made.withCachingEnabled();
    }

    private static Properties properties() {
        int commit = number("COMMIT_MS");
        Properties made = new Properties();
        made.put(StreamsConfig.APPLICATION_ID_CONFIG, ENV.get("BILLING_TOPIC_PREFIX") + "kstreams");
        made.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, ENV.get("KAFKA_BOOTSTRAP_SERVERS"));
        made.put(StreamsConfig.STATE_DIR_CONFIG, ENV.get("BILLING_DATA_DIR") + "/kstreams");
        made.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        made.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, commit);
        made.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, (long) number("CACHE_MIB") << 20);
        made.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, number("POLL_RECORDS"));
        // Otherwise a thread that waits for records may be late to commit.
        made.put(StreamsConfig.POLL_MS_CONFIG, Math.max(1, commit / 2));
        consumer(made, ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        consumer(made, ConsumerConfig.MAX_POLL_RECORDS_CONFIG, number("POLL_RECORDS"));
        consumer(made, ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG, 4 << 20);
        consumer(made, ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG, 6_000);
        consumer(made, ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG, 2_000);
        // A static member that comes back gets its partitions at once.
        made.put(StreamsConfig.mainConsumerPrefix(ConsumerConfig.GROUP_INSTANCE_ID_CONFIG), "bench");
        made.put(StreamsConfig.restoreConsumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 20_000);
        producer(made, ProducerConfig.BATCH_SIZE_CONFIG, number("BATCH_KIB") << 10);
        producer(made, ProducerConfig.LINGER_MS_CONFIG, number("LINGER_MS"));
        producer(made, ProducerConfig.BUFFER_MEMORY_CONFIG, 128L << 20);
        return made;
    }

    private static void consumer(Properties made, String name, Object value) {
        made.put(StreamsConfig.consumerPrefix(name), value);
    }

    private static void producer(Properties made, String name, Object value) {
        made.put(StreamsConfig.producerPrefix(name), value);
    }

    private static int number(String name) {
        return Integer.parseInt(ENV.get("KSTREAMS_" + name));
    }

    /** Counts what comes from the changelogs, from the first record to the last. */
    private static final class Restored implements StateRestoreListener {
        private long began;
        private long ended;
        private long records;

        @Override
        public synchronized void onRestoreStart(TopicPartition tp, String store, long from, long to) {
            began = began == 0 ? System.nanoTime() : began;
        }

        @Override
        public void onBatchRestored(TopicPartition tp, String store, long to, long count) {}

        @Override
        public synchronized void onRestoreEnd(TopicPartition tp, String store, long total) {
            records += total;
            ended = System.nanoTime();
        }

        synchronized void log() {
            System.out.printf(Locale.ROOT, "restored partitions all: %d records in %.3f s%n",
                records, (ended - began) / 1e9);
        }
    }
}
