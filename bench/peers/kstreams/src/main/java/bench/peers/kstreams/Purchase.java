package bench.peers.kstreams;

import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.SerializableString;
import java.io.IOException;
import org.apache.kafka.common.serialization.Serde;

/** The row of a purchase. */
final class Purchase {
    private static final SerializableString ID = Json.name("id");
    private static final SerializableString MERCHANT = Json.name("merchant_id");
    private static final SerializableString CREDITS = Json.name("credits");
    private static final SerializableString AMOUNT = Json.name("amount");
    private static final SerializableString STATUS = Json.name("status");
    private static final SerializableString PLATFORM = Json.name("platform");
    private static final SerializableString CREATED = Json.name("created_at");
    private static final SerializableString EXPIRES = Json.name("expires_at");
    private static final SerializableString CHARGE = Json.name("platform_charge_id");
    private static final SerializableString URL = Json.name("checkout_url");
    private static final SerializableString COMPLETED = Json.name("completed_at");
    private static final SerializableString NO_CHECKOUT = Json.name("no_checkout");
    private static final SerializableString VERSION = Json.name("version");
    private static final SerializableString CURRENCY = Json.name("currency");
    private static final SerializableString PACK = Json.name("pack");

    String id;
    String merchantId;
    long credits;
    String amount;
    String status;
    String platform;
    String createdAt;
    String expiresAt;
    String chargeId;
    String checkoutUrl;
    String completedAt;
    String noCheckout;
    long version;
    String currency;
    String pack;

    static Serde<Purchase> serde() {
        return Json.serde(Purchase::write, Purchase::read);
    }

    private static void write(Purchase row, JsonGenerator out) throws IOException {
        Json.text(out, ID, row.id);
        Json.text(out, MERCHANT, row.merchantId);
        Json.number(out, CREDITS, row.credits);
        Json.text(out, AMOUNT, row.amount);
        Json.text(out, STATUS, row.status);
        Json.text(out, PLATFORM, row.platform);
        Json.text(out, CREATED, row.createdAt);
        Json.text(out, EXPIRES, row.expiresAt);
        Json.text(out, CHARGE, row.chargeId);
        Json.text(out, URL, row.checkoutUrl);
        Json.text(out, COMPLETED, row.completedAt);
        Json.text(out, NO_CHECKOUT, row.noCheckout);
        Json.number(out, VERSION, row.version);
        Json.text(out, CURRENCY, row.currency);
        Json.text(out, PACK, row.pack);
    }

    private static Purchase read(JsonParser in) throws IOException {
        Purchase row = new Purchase();
        for (String name; (name = in.nextFieldName()) != null; ) {
            switch (name) {
                case "id" -> row.id = in.nextTextValue();
                case "merchant_id" -> row.merchantId = in.nextTextValue();
                case "credits" -> row.credits = in.nextLongValue(0);
                case "amount" -> row.amount = in.nextTextValue();
                case "status" -> row.status = in.nextTextValue();
                case "platform" -> row.platform = in.nextTextValue();
                case "created_at" -> row.createdAt = in.nextTextValue();
                case "expires_at" -> row.expiresAt = in.nextTextValue();
                case "platform_charge_id" -> row.chargeId = in.nextTextValue();
                case "checkout_url" -> row.checkoutUrl = in.nextTextValue();
                case "completed_at" -> row.completedAt = in.nextTextValue();
                case "no_checkout" -> row.noCheckout = in.nextTextValue();
                case "version" -> row.version = in.nextLongValue(0);
                case "currency" -> row.currency = in.nextTextValue();
                case "pack" -> row.pack = in.nextTextValue();
                default -> Json.skip(in);
            }
        }
        return row;
    }
}
