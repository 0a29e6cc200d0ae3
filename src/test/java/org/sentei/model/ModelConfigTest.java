package org.sentei.model;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.math.BigInteger;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class ModelConfigTest {
    private final ModelConfig config = new ModelConfig("m/config.json", values());

    private static Map<String, Object> values() {
        Map<String, Object> values = new HashMap<>();
        values.put("hidden_size", 64);
        values.put("big", 1L << 40);
        values.put("huge", BigInteger.ONE.shiftLeft(80));
        values.put("eps", 1e-5);
        values.put("infinite", Double.POSITIVE_INFINITY);
        values.put("tied", true);
        values.put("model_type", "llama");
        values.put("rope_scaling", null);
        values.put("architectures", List.of("LlamaForCausalLM"));
        values.put("mixed", List.of("a", 1));
        values.put("rope_parameters", Map.of("rope_theta", 10000, "rope_type", 7));
        return values;
    }

    @Test
    void valuesAreReadByTheirKind() {
        assertThat(config.getInt("hidden_size")).isEqualTo(64);
        assertThat(config.getLong("hidden_size")).isEqualTo(64);
        assertThat(config.getLong("big")).isEqualTo(1L << 40);
        assertThat(config.getDouble("eps")).isEqualTo(1e-5);
        assertThat(config.getDouble("hidden_size")).isEqualTo(64.0);
        assertThat(config.getBoolean("tied")).isTrue();
        assertThat(config.getString("model_type")).isEqualTo("llama");
        assertThat(config.getStrings("architectures")).containsExactly("LlamaForCausalLM");
        assertThat(config.getObject("rope_parameters").orElseThrow().getDouble("rope_theta"))
                .isEqualTo(10000.0);
    }

    @Test
    void nullAndAbsentGiveTheDefault() {
        for (String key : List.of("rope_scaling", "nowhere")) {
            assertThat(config.contains(key)).isFalse();
            assertThat(config.getInt(key, 3)).isEqualTo(3);
            assertThat(config.getLong(key, 4)).isEqualTo(4);
            assertThat(config.getDouble(key, 0.5)).isEqualTo(0.5);
            assertThat(config.getBoolean(key, true)).isTrue();
            assertThat(config.getString(key, "x")).isEqualTo("x");
            assertThat(config.getStrings(key)).isEmpty();
            assertThat(config.getObject(key)).isEmpty();
        }
    }

    @Test
    void aMissingValueNamesFileAndKey() {
        assertThatThrownBy(() -> config.getInt("nowhere"))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("m/config.json")
                .hasMessageContaining("\"nowhere\"");
        assertThatThrownBy(
                        () -> config.getObject("rope_parameters").orElseThrow().getString("factor"))
                .isInstanceOf(ModelException.class)
                .hasMessageContaining("\"rope_parameters.factor\"");
    }

    @Test
    void aValueOfAnotherKindIsRefusedEvenWithADefault() {
        assertThatThrownBy(() -> config.getInt("model_type", 1)).hasMessageContaining("integer");
        assertThatThrownBy(() -> config.getInt("eps")).hasMessageContaining("integer");
        assertThatThrownBy(() -> config.getInt("big")).hasMessageContaining("32 bits");
        assertThatThrownBy(() -> config.getLong("huge")).hasMessageContaining("64 bits");
        assertThatThrownBy(() -> config.getDouble("infinite")).hasMessageContaining("finite");
        assertThatThrownBy(() -> config.getDouble("tied")).hasMessageContaining("finite number");
        assertThatThrownBy(() -> config.getBoolean("hidden_size", false)).hasMessageContaining("true or false");
        assertThatThrownBy(() -> config.getString("tied", "x")).hasMessageContaining("string");
        assertThatThrownBy(() -> config.getStrings("mixed")).hasMessageContaining("list of strings");
        assertThatThrownBy(() -> config.getStrings("tied")).hasMessageContaining("list of strings");
        assertThatThrownBy(() -> config.getObject("tied")).hasMessageContaining("object");
        assertThatThrownBy(
                        () -> config.getObject("rope_parameters").orElseThrow().getString("rope_type"))
                .isInstanceOf(ModelException.class)
                .hasMessage("m/config.json: \"rope_parameters.rope_type\" must be a string, not 7");
    }
}
