package bench.peers.kstreams;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.util.Locale;

/** A record of the input topic: a webhook, bare or in the envelope, or a command; validated. */
final class Incoming {
    private static final int BYTES_MAX = 262_144;
    String command;
    String correlationId = "";
    String merchantId;
    String chargeId;
    String status;
    String platform;
    String domain;
    String pack;
    String purchaseId;
    String checkoutUrl;

    static Incoming of(byte[] value) {
        if (value == null) {
            throw new Json.Invalid("the value is null");
        }
        if (value.length > BYTES_MAX) {
            throw new Json.Invalid("the value has too many bytes");
        }
        Incoming read = new Incoming();
        try (JsonParser in = Json.FACTORY.createParser(value)) {
            if (in.nextToken() != JsonToken.START_OBJECT) {
                throw new Json.Invalid("the value is not an object");
            }
            for (String name; (name = in.nextFieldName()) != null; ) {
                switch (name) {
                    case "data" -> {
                        if (in.nextToken() != JsonToken.START_OBJECT) {
                            throw new Json.Invalid("data is not an object");
                        }
                        for (String inner; (inner = in.nextFieldName()) != null; ) {
                            read.take(inner, in);
                        }
                    }
                    case "correlation_id" -> {
                        boolean text = in.nextToken() == JsonToken.VALUE_STRING;
                        String found = text ? in.getText() : "";
                        read.correlationId = found.length() <= 255 ? found : "";
                        in.skipChildren();
                    }
                    default -> read.take(name, in);
                }
            }
            if (in.nextToken() != null) {
                throw new Json.Invalid("more after the object");
            }
        } catch (IOException e) {
            throw new Json.Invalid(e.getMessage());
        }
        read.check();
        return read;
    }

    private void take(String name, JsonParser in) throws IOException {
        switch (name) {
            case "merchant_id" -> merchantId = Json.requiredText(in, name);
            case "charge_id" -> chargeId = Json.requiredText(in, name);
            case "status" -> status = Json.requiredText(in, name);
            case "command" -> command = Json.requiredText(in, name);
            case "platform" -> platform = Json.requiredText(in, name);
            case "domain" -> domain = Json.requiredText(in, name);
            case "pack" -> pack = Json.requiredText(in, name);
            case "purchase_id" -> purchaseId = Json.requiredText(in, name);
            case "checkout_url" -> checkoutUrl = Json.requiredText(in, name);
            default -> Json.skip(in);
        }
    }

    private void check() {
        merchantId = uuid(merchantId, "merchant_id");
        if (command == null) {
            sized(chargeId, 255, "charge_id");
            sized(status, 64, "status");
            return;
        }
        switch (command) {
            case "create_merchant" -> {
                sized(platform, 255, "platform");
                sized(domain, 255, "domain");
            }
            case "reserve_purchase" -> {
                sized(platform, 255, "platform");
                sized(pack, 255, "pack");
            }
            case "attach_charge" -> {
                purchaseId = uuid(purchaseId, "purchase_id");
                sized(chargeId, 255, "charge_id");
                sized(checkoutUrl, 2048, "checkout_url");
            }
            default -> throw new Json.Invalid("unknown command");
        }
    }

    private static void sized(String text, int most, String name) {
        if (text == null || text.isEmpty() || text.length() > most) {
            throw new Json.Invalid(name + " is missing, empty or too long");
        }
        if (text.indexOf('\0') >= 0) {
            throw new Json.Invalid(name + " contains a NUL character");
        }
    }

    /** In lower case, as 8-4-4-4-12 hexadecimal digits. */
    private static String uuid(String text, String name) {
        if (text == null || text.length() != 36) {
            throw new Json.Invalid(name + " is not a UUID");
        }
        boolean upper = false;
        for (int i = 0; i < 36; i++) {
            char c = text.charAt(i);
            if (i == 8 || i == 13 || i == 18 || i == 23) {
                if (c != '-') {
                    throw new Json.Invalid(name + " is not a UUID");
                }
            } else if (c >= 'A' && c <= 'F') {
                upper = true;
            } else if (!(c >= '0' && c <= '9' || c >= 'a' && c <= 'f')) {
                throw new Json.Invalid(name + " is not a UUID");
            }
        }
        return upper ? text.toLowerCase(Locale.ROOT) : text;
    }
}
