package org.sentei.format;

import com.fasterxml.jackson.core.JsonLocation;
import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.core.exc.InputCoercionException;
import com.fasterxml.jackson.core.exc.StreamConstraintsException;
import com.fasterxml.jackson.core.io.JsonEOFException;
import java.io.IOException;

/** What is wrong with a JSON document and where, in words for its author rather than in those of the parser. */
public final class JsonFault {
    private JsonFault() {}

    /** For example {@code unexpected character or word at byte 17}; what reading said for a failure of another kind. */
    public static String of(IOException failure) {
        if (!(failure instanceof JsonProcessingException json)) {
            return failure.toString();
        }
        String fact = switch (json) {
            case JsonEOFException end -> "it ends too early";
            case StreamConstraintsException limit ->
                "it nests too deeply, or has a name, string or number that is too long";
            case InputCoercionException range -> "a number is out of range";
            case JsonProcessingException other
            when other.getOriginalMessage().startsWith("Duplicate") ->
                "the key" + other.getOriginalMessage().replaceFirst("^[\\w ]+", " ") + " is given twice";
            default -> "unexpected character or word";
        };
        return fact + place(json.getLocation());
    }

    private static String place(JsonLocation location) {
        if (location == null) {
            return "";
        }
        return location.getByteOffset() >= 0
                ? " at byte " + location.getByteOffset()
                : " at line " + location.getLineNr() + " column " + location.getColumnNr();
    }
}
