package bench.peers.kstreams;

import com.fasterxml.jackson.core.JsonGenerator;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.common.header.Headers;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Decides as billing-stream does about the records of a benchmark: merchants, purchases, charges,
 * and webhooks that complete or fail a purchase; purchases that are overdue expire first.
 *
 * Without trials, refunds, limits, and webhooks that arrive before their charge.
 */
final class Billing implements Processor<byte[], byte[], byte[], byte[]> {
    static final String MERCHANTS = "merchants";
    static final String PURCHASES = "purchases";
    static final String INDEX = "index";
    static final String PURCHASED = "credits.purchased";
    static final String FAILED = "purchase.failed";
    static final String EXPIRED = "purchase.expired";

    private static final long EXPIRY_MS = 24 * 3_600_000L;
    private static final String CURRENCY = "USD";
    private static final Set<String> PAID = Set.of("accepted", "active");
    private static final Set<String> UNPAID =
        Set.of("declined", "expired", "cancelled", "failed", "frozen");
    private static final Map<String, Pack> PACKS = Map.of(
        "small", new Pack(100, "9.99"),
        "medium", new Pack(500, "39.99"),
        "large", new Pack(1_000, "69.99"));

    private final Times times = Times.OF_THREAD.get();
    private final Ids ids = new Ids();
    private ProcessorContext<byte[], byte[]> context;
    private KeyValueStore<String, Merchant> merchants;
    private KeyValueStore<String, Purchase> purchases;
    // The purchase of each charge; under "open/" the pending purchases of each merchant.
    private KeyValueStore<String, String> index;

    // State of the record that is being processed.
    private Record<byte[], byte[]> record;
    private Incoming incoming;
    private Merchant merchant;
    private long version;
    private long now;
    private String nowText;
    private boolean changed;

    private record Pack(long credits, String amount) {}

    @Override
    public void init(ProcessorContext<byte[], byte[]> given) {
        context = given;
        merchants = given.getStateStore(MERCHANTS);
        purchases = given.getStateStore(PURCHASES);
        index = given.getStateStore(INDEX);
    }

    @Override
    public void process(Record<byte[], byte[]> given) {
        record = given;
        incoming = Incoming.of(given.value());
        merchant = merchants.get(incoming.merchantId);
        if (merchant == null) {
            merchant = new Merchant();
            merchant.id = incoming.merchantId;
        }
        version = merchant.version + 1;
        now = Math.max(given.timestamp(), merchant.updatedAt);
        nowText = times.text(now);
        changed = false;
        if (merchant.due != Times.NONE && merchant.due <= now) {
            expire();
        }
        if (incoming.command == null) {
            update();
        } else {
            switch (incoming.command) {
                case "create_merchant" -> create();
                case "reserve_purchase" -> reserve();
                default -> attach();
            }
        }
        if (changed) {
            merchant.version = version;
            merchant.updatedAt = now;
            merchants.put(merchant.id, merchant);
        }
    }

    private void update() {
        String status = incoming.status.strip().toLowerCase(Locale.ROOT);
        if (status.equals("pending")) {
            return;
        }
        boolean paid = PAID.contains(status);
        if (!paid && !UNPAID.contains(status)) {
            throw new Json.Invalid("unknown status " + status);
        }
        String found = index.get(charge());
        if (found == null) {
            throw new Json.Invalid("no purchase has the charge " + incoming.chargeId);
        }
        Purchase purchase = purchases.get(found);
        if (paid && !purchase.status.equals("completed")) {
            purchase.completedAt = nowText;
            settle(purchase, "completed");
            merchant.credits += purchase.credits;
            merchant.lastPurchaseAt = nowText;
            publish(PURCHASED, purchase, out -> {
                out.writeNumberField("credits", purchase.credits);
                out.writeStringField("amount", purchase.amount);
                out.writeStringField("platform", purchase.platform);
                out.writeStringField("currency", purchase.currency);
                out.writeStringField("pack", purchase.pack);
                out.writeBooleanField("test", false);
                out.writeNullField("catalogue_version");
            });
        } else if (!paid && purchase.status.equals("pending")) {
            settle(purchase, "failed");
            publish(FAILED, purchase, out -> out.writeStringField("reason", status));
        }
    }

    private void create() {
        if (merchant.createdAt == null) {
            merchant.platform = incoming.platform.toLowerCase(Locale.ROOT);
            merchant.domain = incoming.domain.toLowerCase(Locale.ROOT);
            merchant.createdAt = nowText;
            changed = true;
        }
    }

    private void reserve() {
        Pack pack = PACKS.get(incoming.pack);
        if (pack == null) {
            return;
        }
        Purchase purchase = new Purchase();
        purchase.id = ids.derived("purchase/" + merchant.id + "/" + place());
        purchase.merchantId = merchant.id;
        purchase.credits = pack.credits;
        purchase.amount = pack.amount;
        purchase.platform = incoming.platform;
        purchase.createdAt = nowText;
        purchase.expiresAt = times.text(now + EXPIRY_MS);
        purchase.currency = CURRENCY;
        purchase.pack = incoming.pack;
        String open = index.get(open());
        index.put(open(), open == null ? purchase.id : open + "," + purchase.id);
        if (merchant.due == Times.NONE || now + EXPIRY_MS < merchant.due) {
            merchant.due = now + EXPIRY_MS;
        }
        settle(purchase, "pending");
    }

    private void attach() {
        Purchase purchase = purchases.get(incoming.purchaseId);
        if (purchase == null || purchase.chargeId != null || index.get(charge()) != null) {
            return;
        }
        purchase.chargeId = incoming.chargeId;
        purchase.checkoutUrl = incoming.checkoutUrl;
        index.put(charge(), purchase.id);
        settle(purchase, purchase.status);
    }

    private void expire() {
        String open = index.get(open());
        List<Purchase> pending = new ArrayList<>();
        for (String id : open == null ? new String[0] : open.split(",")) {
            Purchase purchase = purchases.get(id);
            if (purchase.status.equals("pending")) {
                pending.add(purchase);
            }
        }
        pending.sort(Comparator.comparing((Purchase p) -> times.parse(p.expiresAt))
            .thenComparing(p -> p.id));
        List<String> left = new ArrayList<>();
        merchant.due = Times.NONE;
        for (Purchase purchase : pending) {
            long due = times.parse(purchase.expiresAt);
            if (due <= now) {
                purchase.noCheckout =
                    purchase.checkoutUrl == null ? "the purchase expired before" : null;
                settle(purchase, "expired");
                publish(EXPIRED, purchase, out -> out.writeStringField("reason", "not paid in time"));
            } else {
                left.add(purchase.id);
                merchant.due = merchant.due == Times.NONE ? due : merchant.due;
            }
        }
        index.put(open(), left.isEmpty() ? null : String.join(",", left));
        changed = true;
    }

    private void settle(Purchase purchase, String status) {
        purchase.status = status;
        purchase.version = version;
        purchases.put(purchase.id, purchase);
        changed = true;
    }

    /** The rest of an event's data, after the ids. */
    private interface Data {
        void write(JsonGenerator out) throws IOException;
    }

    private void publish(String kind, Purchase purchase, Data data) {
        merchant.sequence++;
        byte[] value = Json.bytes(purchase, (row, out) -> {
            out.writeStringField("event_id", ids.derived(kind + "/" + row.id));
            out.writeStringField("event_type", "evt.billing." + kind + ".v1");
            out.writeStringField("correlation_id", incoming.correlationId);
            out.writeStringField("source_service", "billing-service");
            out.writeStringField("timestamp", nowText);
            out.writeObjectFieldStart("data");
            out.writeStringField("merchant_id", merchant.id);
            out.writeStringField("purchase_id", row.id);
            data.write(out);
            out.writeEndObject();
        });
        Headers headers = new RecordHeaders();
        headers.add("sequence", ascii(Long.toString(merchant.sequence)));
        headers.add("cause", ascii(place()));
        byte[] key = ascii(merchant.id);
        context.forward(new Record<>(key, value, record.timestamp(), headers), kind);
    }

    private String charge() {
        return merchant.id + "/" + incoming.chargeId;
    }

    private String open() {
        return "open/" + merchant.id;
    }

    private String place() {
        RecordMetadata at = context.recordMetadata().orElseThrow();
        return at.topic() + "[" + at.partition() + "]@" + at.offset();
    }

    private static byte[] ascii(String text) {
        return text.getBytes(StandardCharsets.ISO_8859_1);
    }
}
