package bench.peers.kstreams;

import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.SerializableString;
import java.io.IOException;
import org.apache.kafka.common.serialization.Serde;

/** The row of a merchant; `due` is when its first pending purchase expires, or earlier. */
final class Merchant {
    private static final SerializableString ID = Json.name("merchant_id");
    private static final SerializableString PLATFORM = Json.name("platform");
    private static final SerializableString DOMAIN = Json.name("domain");
    private static final SerializableString CREDITS = Json.name("total_credits_purchased");
    private static final SerializableString LAST = Json.name("last_purchase_at");
    private static final SerializableString CREATED = Json.name("created_at");
    private static final SerializableString UPDATED = Json.name("updated_at");
    private static final SerializableString VERSION = Json.name("version");
    private static final SerializableString SEQUENCE = Json.name("sequence");
    private static final SerializableString DUE = Json.name("due");

    String id;
    String platform = "";
    String domain = "";
    long credits;
    String lastPurchaseAt;
    String createdAt;
    long updatedAt = Times.NONE;
    long version;
    long sequence;
    long due = Times.NONE;

    static Serde<Merchant> serde() {
        return Json.serde(Merchant::write, Merchant::read);
    }

    private static void write(Merchant row, JsonGenerator out) throws IOException {
        Times times = Times.OF_THREAD.get();
        Json.text(out, ID, row.id);
        Json.text(out, PLATFORM, row.platform);
        Json.text(out, DOMAIN, row.domain);
        Json.number(out, CREDITS, row.credits);
        Json.text(out, LAST, row.lastPurchaseAt);
        Json.text(out, CREATED, row.createdAt);
        Json.text(out, UPDATED, times.text(row.updatedAt));
        Json.number(out, VERSION, row.version);
        Json.number(out, SEQUENCE, row.sequence);
        if (row.due != Times.NONE) {
            Json.text(out, DUE, times.text(row.due));
        }
    }

    private static Merchant read(JsonParser in) throws IOException {
        Times times = Times.OF_THREAD.get();
        Merchant row = new Merchant();
        for (String name; (name = in.nextFieldName()) != null; ) {
            switch (name) {
                case "merchant_id" -> row.id = in.nextTextValue();
                case "platform" -> row.platform = in.nextTextValue();
                case "domain" -> row.domain = in.nextTextValue();
                case "total_credits_purchased" -> row.credits = in.nextLongValue(0);
                case "last_purchase_at" -> row.lastPurchaseAt = in.nextTextValue();
                case "created_at" -> row.createdAt = in.nextTextValue();
                case "updated_at" -> row.updatedAt = times.parse(in.nextTextValue());
                case "version" -> row.version = in.nextLongValue(0);
                case "sequence" -> row.sequence = in.nextLongValue(0);
                case "due" -> row.due = times.parse(in.nextTextValue());
                default -> Json.skip(in);
            }
        }
        return row;
    }
}
