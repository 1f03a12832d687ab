import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.PropertyNamingStrategies;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.UUID;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * Reads events of billing as a service in Java would: Kafka's client, and a record for each event.
 * It ends at the end offsets of when it began, and prints a line of JSON for each event.
 */
public final class Consumer {
  record Envelope(
      UUID eventId, String eventType, String correlationId, String sourceService, String timestamp,
      JsonNode data) {}

  record TrialStarted(UUID merchantId, String endsAt, int credits) {}

  enum Platform { shopify, stripe, custom }

  record CreditsPurchased(
      UUID merchantId, UUID purchaseId, int credits, BigDecimal amount, Platform platform,
      String currency, String pack, boolean test) {}

  private static final ObjectMapper JSON =
      new ObjectMapper()
          .setPropertyNamingStrategy(PropertyNamingStrategies.SNAKE_CASE)
          // Fields are added without a new version of a topic.
          .disable(DeserializationFeature.FAIL_ON_UNKNOWN_PROPERTIES)
          .enable(DeserializationFeature.FAIL_ON_MISSING_CREATOR_PROPERTIES);

  public static void main(String[] arguments) throws Exception {
    String prefix = arguments[1];
    List<String> topics =
        Arrays.stream(arguments).skip(2).map(topic -> prefix + topic).toList();
    Map<String, Object> settings =
        Map.of(
            "bootstrap.servers", arguments[0],
            "isolation.level", "read_committed",
            "auto.offset.reset", "earliest",
            "enable.auto.commit", false);
    var text = new StringDeserializer();
    try (var consumer = new KafkaConsumer<>(settings, text, text)) {
      List<TopicPartition> partitions =
          topics.stream()
              .flatMap(topic -> consumer.partitionsFor(topic).stream())
              .map(found -> new TopicPartition(found.topic(), found.partition()))
              .toList();
      consumer.assign(partitions);
      consumer.seekToBeginning(partitions);
      Map<TopicPartition, Long> ends = consumer.endOffsets(partitions);
      while (ends.entrySet().stream().anyMatch(e -> consumer.position(e.getKey()) < e.getValue())) {
        for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(200))) {
          System.out.println(JSON.writeValueAsString(read(record, prefix)));
        }
      }
    }
  }

  private static Map<String, Object> read(ConsumerRecord<String, String> record, String prefix)
      throws Exception {
    var event = JSON.readValue(record.value(), Envelope.class);
    if (!record.topic().equals(prefix + event.eventType())) {
      throw new IllegalStateException(record.topic() + " has an event " + event.eventType());
    }
    Instant at = OffsetDateTime.parse(event.timestamp()).toInstant();
    Objects.requireNonNull(at);
    var found = new LinkedHashMap<String, Object>();
    found.put("type", event.eventType());
    found.put("id", event.eventId());
    found.put("key", record.key());
    var sequence = record.headers().lastHeader("sequence").value();
    found.put("sequence", Integer.parseInt(new String(sequence, StandardCharsets.UTF_8)));
    switch (event.eventType()) {
      case "evt.billing.trial.started.v1" -> {
        var data = JSON.treeToValue(event.data(), TrialStarted.class);
        OffsetDateTime.parse(data.endsAt());
        found.put("credits", data.credits());
        found.put("amount", null);
        found.put("platform", null);
      }
      case "evt.billing.credits.purchased.v1" -> {
        var data = JSON.treeToValue(event.data(), CreditsPurchased.class);
        found.put("credits", data.credits());
        found.put("amount", data.amount().toPlainString());
        found.put("platform", data.platform());
      }
      default -> throw new IllegalStateException("an event that is not known: " + event.eventType());
    }
    return found;
  }
}
