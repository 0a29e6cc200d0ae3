package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class JsonEditTest {
    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '`',
            value = {
                "{\"a\":1}|{\"a\":true}",
                "{\"a\" : 1 ,\"b\":2}|{\"a\" : true ,\"b\":2}",
                "{\"b\":\"}\\\"\\\\\",\"a\":\"x\\\"y\",\"c\":0}|{\"b\":\"}\\\"\\\\\",\"a\":true,\"c\":0}",
                "{\"b\":{\"a\":1},\"a\":{\"b\":[1,{}]} }|{\"b\":{\"a\":1},\"a\":true }",
                "{\"a\":[[1],2]}|{\"a\":true}",
                "{\"a\":-1.5e3 }|{\"a\":true }",
                "{\"\\u0061\":null}|{\"\\u0061\":true}",
                "{\"\u00e9\u4e2d\ud83d\ude00\":\"\u00e9\",\"a\":0}|{\"\u00e9\u4e2d\ud83d\ude00\":\"\u00e9\",\"a\":true}",
                "{}|{\"a\":true}",
                "` { } `|` {\"a\":true } `",
                "{\"b\":1}|{\"b\":1,\"a\":true}",
                "{\"b\": \"x\"}|{\"b\": \"x\",\"a\": true}",
                "`{\"b\": [1, {\"c\": 2}] }   `|`{\"b\": [1, {\"c\": 2}],\"a\": true }   `",
            })
    void oneValueChangesAndEveryOtherByteStays(String before, String after) {
        assertThat(put(before, Map.of("a", true))).isEqualTo(after);
    }

    @Test
    void newMembersTakeTheStyleOfTheLastOne() {
        Map<String, Object> members = new LinkedHashMap<>();
        members.put("x", List.of(1, 2));
        members.put("b", 7);
        members.put("y", "z");
        assertThat(put("{\n  \"a\": 1,\n  \"b\": null\n}\n", members))
                .isEqualTo("{\n  \"a\": 1,\n  \"b\": 7,\n  \"x\": [1,2],\n  \"y\": \"z\"\n}\n");
    }

    @Test
    void severalMembersOfAnEmptyObjectAreSeparated() {
        Map<String, Object> members = new LinkedHashMap<>();
        members.put("x", 1);
        members.put("y", 2);
        assertThat(put("{}", members)).isEqualTo("{\"x\":1,\"y\":2}");
    }

    @Test
    void nestedObjectsAreReachedByTheirPath() {
        assertThat(put("{\"x\": {\"a\": 0}, \"m\": {\"n\": {\"a\": 1}}, \"a\": 2}", Map.of("a", 9), "m", "n"))
                .isEqualTo("{\"x\": {\"a\": 0}, \"m\": {\"n\": {\"a\": 9}}, \"a\": 2}");
    }

    @Test
    void aMissingObjectIsNamed() {
        assertThatThrownBy(() -> put("{\"a\":{}}", Map.of("a", 1), "m"))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("the file has no object m");
        assertThatThrownBy(() -> put("{\"m\":1}", Map.of("a", 1), "m"))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("m must be a JSON object");
        assertThatThrownBy(() -> put("{\"m\":", Map.of("a", 1)))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("no valid JSON");
    }

    @Test
    void everyTruncationIsRefused() {
        String document = "{\"a\":12.5,\"text\":\"a\\\"b\",\"list\":[1,{\"b\":true}],\"last\":null}";
        for (int end = 0; end < document.length(); end++) {
            String part = document.substring(0, end);
            assertThatThrownBy(() -> put(part, Map.of("a", 1))).as(part).isInstanceOf(FormatException.class);
        }
    }

    private static String put(String document, Map<String, ?> members, String... path) {
        byte[] changed = JsonEdit.put(document.getBytes(StandardCharsets.UTF_8), "the file", members, path);
        return new String(changed, StandardCharsets.UTF_8);
    }
}
