package org.sentei.fuzz;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.core.json.JsonReadFeature;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;

/** Damage to the tree behind a JSON text: the result is JSON as a rule, but means something else, or nothing. */
final class JsonMutator {
    private static final JsonMapper MAPPER = JsonMapper.builder()
            .enable(JsonReadFeature.ALLOW_NON_NUMERIC_NUMBERS)
            .build();
    private static final int MOST_CHARACTERS = 4 << 20;
    private static final List<String> SCALARS = List.of(
            "null",
            "true",
            "false",
            "0",
            "-0",
            "1",
            "-1",
            "2",
            "3",
            "0.5",
            "-0.0",
            "1e2",
            "1.0",
            "1e308",
            "1e999",
            "1e-999",
            "1e2147483648",
            "NaN",
            "Infinity",
            "-Infinity",
            "127",
            "255",
            "65536",
            "1000000",
            "2147483647",
            "-2147483648",
            "2147483648",
            "4294967295",
            "4294967296",
            "9007199254740993",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "18446744073709551615",
            "9".repeat(90),
            "9".repeat(2000),
            "0." + "3".repeat(95),
            "\"\"",
            "\" \"",
            "\"a\"",
            "\"0\"",
            "\"-1\"",
            "\"*\"",
            "\"\\u0000\"",
            "\"\\ud800\"",
            "\"a\\nb\\u001b[31m\"",
            "\"../../etc/passwd\"",
            "\"/etc/passwd\"",
            "\"(a+)+$\"",
            "\"[\"",
            "\"" + "a".repeat(3000) + "\"",
            "\"" + "\u00e9\ud83d\ude00".repeat(20) + "\"",
            "[]",
            "{}",
            "[[]]",
            "[null]",
            "{\"\":{}}",
            "[1,2,3]",
            "[\"a\",\"b\"]");

    private JsonMutator() {}

    /** What a JSON text says; members may repeat, scalars are kept as text. */
    sealed interface Node {}

    private record Scalar(String text) implements Node {}

    private record Slot(String key, Node value) {}

    /** @param object whether slots have keys */
    private record Container(boolean object, List<Slot> slots) implements Node {}

    /** Reads a text to be damaged again and again. */
    static Node parse(String json) {
        try (JsonParser parser = MAPPER.createParser(json)) {
            parser.nextToken();
            return read(parser);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    private static Node read(JsonParser parser) throws IOException {
        JsonToken token = parser.currentToken();
        if (!token.isStructStart()) {
            return new Scalar(token == JsonToken.VALUE_STRING ? quoted(parser.getText()) : parser.getText());
        }
        List<Slot> slots = new ArrayList<>();
        boolean object = token == JsonToken.START_OBJECT;
        while (!parser.nextToken().isStructEnd()) {
            String key = null;
            if (object) {
                key = quoted(parser.currentName());
                parser.nextToken();
            }
            slots.add(new Slot(key, read(parser)));
        }
        return new Container(object, slots);
    }

    private static String quoted(String text) throws IOException {
        return MAPPER.writeValueAsString(text);
    }

    /**
     * A damaged text.
     *
     * @param dictionary keys, and values as JSON, that mean something to the reader
     */
    static String mutate(Node document, SplittableRandom random, List<String> dictionary) {
        Node copy = copy(document);
        int changes = random.nextInt(3) == 0 ? 1 + random.nextInt(4) : 1;
        for (int i = 0; i < changes; i++) {
            copy = once(copy, random, dictionary);
        }
        StringBuilder text = new StringBuilder();
        write(copy, text);
        return text.toString();
    }

    private static Node once(Node root, SplittableRandom random, List<String> dictionary) {
        List<Container> containers = new ArrayList<>();
        collect(root, containers);
        containers.removeIf(container -> container.slots().isEmpty());
        if (containers.isEmpty() || random.nextInt(200) == 0) {
            return made(random, dictionary);
        }
        Container parent = containers.get(random.nextInt(containers.size()));
        int index = random.nextInt(parent.slots().size());
        Slot slot = parent.slots().get(index);
        Container other = containers.get(random.nextInt(containers.size()));
        Slot foreign = other.slots().get(random.nextInt(other.slots().size()));
        switch (random.nextInt(12)) {
            case 0, 1, 2 -> parent.slots().set(index, new Slot(slot.key(), made(random, dictionary)));
            case 3 -> parent.slots().set(index, new Slot(slot.key(), nudged(slot.value(), random)));
            case 4 -> parent.slots().remove(index);
            case 5 -> parent.slots().add(random.nextInt(parent.slots().size() + 1), copy(slot));
            case 6 -> parent.slots().set(index, new Slot(slot.key(), copy(foreign.value())));
            case 7 -> {
                if (parent.object()) {
                    String key =
                            random.nextBoolean() || foreign.key() == null ? key(random, dictionary) : foreign.key();
                    parent.slots().set(index, new Slot(key, slot.value()));
                } else {
                    parent.slots().set(index, new Slot(null, nudged(slot.value(), random)));
                }
            }
            case 8 ->
                parent.slots()
                        .add(new Slot(parent.object() ? key(random, dictionary) : null, made(random, dictionary)));
            case 9 -> {
                boolean object = random.nextBoolean();
                List<Slot> wrapped = new ArrayList<>();
                wrapped.add(new Slot(object ? key(random, dictionary) : null, slot.value()));
                parent.slots().set(index, new Slot(slot.key(), new Container(object, wrapped)));
            }
            case 10 -> {
                int times = 1 << random.nextInt(13);
                StringBuilder text = new StringBuilder();
                write(slot.value(), text);
                for (int i = 0; i < times && (long) text.length() * i < MOST_CHARACTERS / 4; i++) {
                    String key =
                            parent.object() ? slot.key().substring(0, slot.key().length() - 1) + i + "\"" : null;
                    parent.slots().add(new Slot(key, copy(slot.value())));
                }
            }
            default -> parent.slots().set(index, new Slot(slot.key(), new Scalar(nested(random))));
        }
        return root;
    }

    private static String nested(SplittableRandom random) {
        int depth = 1 << random.nextInt(17);
        return random.nextBoolean()
                ? "[".repeat(depth) + "]".repeat(depth)
                : "{\"a\":".repeat(depth) + "1" + "}".repeat(depth);
    }

    private static Node made(SplittableRandom random, List<String> dictionary) {
        if (!dictionary.isEmpty() && random.nextInt(3) == 0) {
            return new Scalar(dictionary.get(random.nextInt(dictionary.size())));
        }
        return new Scalar(SCALARS.get(random.nextInt(SCALARS.size())));
    }

    private static String key(SplittableRandom random, List<String> dictionary) {
        String made = dictionary.isEmpty() || random.nextInt(4) == 0
                ? SCALARS.get(random.nextInt(SCALARS.size()))
                : dictionary.get(random.nextInt(dictionary.size()));
        return made.startsWith("\"") ? made : "\"" + made.replace("\"", "").replace("\\", "") + "\"";
    }

    /** A number or string close to what was there. */
    private static Node nudged(Node node, SplittableRandom random) {
        if (!(node instanceof Scalar(String text))) {
            return node;
        }
        if (text.matches("-?[0-9]{1,18}")) {
            long value = Long.parseLong(text);
            long near = switch (random.nextInt(6)) {
                case 0 -> value + 1;
                case 1 -> value - 1;
                case 2 -> value * 2;
                case 3 -> -value;
                case 4 -> value / 2;
                default -> value + ByteMutator.integer(random);
            };
            return new Scalar(Long.toString(near));
        }
        if (text.startsWith("\"") && text.length() > 2) {
            int at = 1 + random.nextInt(text.length() - 2);
            char changed = (char) ('0' + random.nextInt('z' - '0'));
            return new Scalar(text.substring(0, at)
                    + (changed == '\\' ? '/' : changed)
                    + text.substring(random.nextBoolean() ? at : Math.min(at + 1, text.length() - 1)));
        }
        return new Scalar(text + "0");
    }

    private static void collect(Node node, List<Container> containers) {
        if (node instanceof Container container) {
            containers.add(container);
            container.slots().forEach(slot -> collect(slot.value(), containers));
        }
    }

    private static Slot copy(Slot slot) {
        return new Slot(slot.key(), copy(slot.value()));
    }

    private static Node copy(Node node) {
        return switch (node) {
            case Scalar scalar -> scalar;
            case Container container -> {
                List<Slot> slots = new ArrayList<>(container.slots().size());
                container.slots().forEach(slot -> slots.add(copy(slot)));
                yield new Container(container.object(), slots);
            }
        };
    }

    private static void write(Node node, StringBuilder text) {
        switch (node) {
            case Scalar scalar -> text.append(scalar.text());
            case Container container -> {
                text.append(container.object() ? '{' : '[');
                String comma = "";
                for (Slot slot : container.slots()) {
                    text.append(comma);
                    if (slot.key() != null) {
                        text.append(slot.key()).append(':');
                    }
                    write(slot.value(), text);
                    comma = ",";
                    if (text.length() > MOST_CHARACTERS) {
                        break;
                    }
                }
                text.append(container.object() ? '}' : ']');
            }
        }
    }
}
