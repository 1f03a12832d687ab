package bench.peers.kstreams;

import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.SerializableString;
import com.fasterxml.jackson.core.io.SerializedString;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** JSON by Jackson's streaming API, without binding of data: the fastest way it offers. */
final class Json {
    static final JsonFactory FACTORY = new JsonFactory();
    private static final ThreadLocal<ByteArrayOutputStream> BUFFER =
        ThreadLocal.withInitial(() -> new ByteArrayOutputStream(1024));

    private Json() {}

    /** Writes the fields of an object. */
    interface Write<T> {
        void fields(T value, JsonGenerator out) throws IOException;
    }

    /** Reads the fields of an object, of which the parser has seen the start. */
    interface Read<T> {
        T fields(JsonParser in) throws IOException;
    }

    /** A record that is not valid. */
    static final class Invalid extends RuntimeException {
        Invalid(String reason) {
            super(reason);
        }
    }

    /** A row as an object. Null stays null: it deletes the row. */
    static <T> Serde<T> serde(Write<T> write, Read<T> read) {
        return Serdes.serdeFrom(
            (topic, row) -> row == null ? null : bytes(row, write),
            (topic, value) -> value == null ? null : object(value, read));
    }

    /** The bytes of an object; the buffer of the thread is used again and again. */
    static <T> byte[] bytes(T value, Write<T> write) {
        ByteArrayOutputStream buffer = BUFFER.get();
        buffer.reset();
        try (JsonGenerator out = FACTORY.createGenerator(buffer)) {
            out.writeStartObject();
            write.fields(value, out);
            out.writeEndObject();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return buffer.toByteArray();
    }

    private static <T> T object(byte[] value, Read<T> read) {
        try (JsonParser in = FACTORY.createParser(value)) {
            in.nextToken();
            return read.fields(in);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** The name of a field, encoded once. */
    static SerializableString name(String text) {
        return new SerializedString(text);
    }

    static void text(JsonGenerator out, SerializableString name, String value) throws IOException {
        if (value != null) {
            out.writeFieldName(name);
            out.writeString(value);
        }
    }

    /** Zero is the default of a row's numbers and is left out. */
    static void number(JsonGenerator out, SerializableString name, long value) throws IOException {
        if (value != 0) {
            out.writeFieldName(name);
            out.writeNumber(value);
        }
    }

    static String requiredText(JsonParser in, String name) throws IOException {
        if (in.nextToken() != JsonToken.VALUE_STRING) {
            throw new Invalid(name + " is not text");
        }
        return in.getText();
    }

    static void skip(JsonParser in) throws IOException {
        in.nextToken();
        in.skipChildren();
    }
}
