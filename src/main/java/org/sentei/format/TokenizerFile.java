package org.sentei.format;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.NullNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Base64;
import java.util.BitSet;
import java.util.Deque;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Checks a {@code tokenizer.json} before the native library sees it. The library reports most mistakes, but a broken
 * invariant ends the process; those that a file can break are held here.
 */
final class TokenizerFile {
    private static final Set<String> NORMALIZERS = Set.of(
            "BertNormalizer",
            "Strip",
            "StripAccents",
            "NFC",
            "NFD",
            "NFKC",
            "NFKD",
            "Sequence",
            "Lowercase",
            "Nmt",
            "Precompiled",
            "Replace",
            "Prepend",
            "ByteLevel");
    private static final Set<String> PRE_TOKENIZERS = Set.of(
            "BertPreTokenizer",
            "ByteLevel",
            "CharDelimiterSplit",
            "Metaspace",
            "Whitespace",
            "Sequence",
            "Split",
            "Punctuation",
            "WhitespaceSplit",
            "Digits",
            "UnicodeScripts",
            "FixedLength");
    private static final Set<String> POST_PROCESSORS =
            Set.of("RobertaProcessing", "BertProcessing", "ByteLevel", "TemplateProcessing", "Sequence");

    private static final int MOST_PARTS = 64;
    /** How many times as long a text may become: parts one behind the other multiply it. */
    private static final double MOST_GROWTH = 1024;

    private final Path file;
    private int parts;
    private double growth = 1;

    private TokenizerFile(Path file) {
        this.file = file;
    }

    /**
     * The document without what encoding whole texts does not need: truncation, padding and the decoder.
     *
     * @throws FormatException when it is no JSON object or breaks an invariant
     */
    static byte[] checked(byte[] document, Path file) {
        NullNode none = NullNode.getInstance();
        try (JsonParser parser = Json.parser(document)) {
            Json.expect(parser.nextToken(), JsonToken.START_OBJECT, "the document", file);
            TokenizerFile check = new TokenizerFile(file);
            byte[] whole = JsonEdit.edit(
                    document,
                    parser,
                    Map.of("truncation", none, "padding", none, "decoder", none),
                    key -> check.member(key, parser));
            Json.expectEnd(parser, file);
            return whole;
        } catch (IOException e) {
            throw Json.damaged(file, e);
        }
    }

    private void member(String key, JsonParser parser) throws IOException {
        switch (key) {
            case "normalizer" -> normalizer(Json.tree(parser));
            case "pre_tokenizer" -> preTokenizer(Json.tree(parser));
            case "post_processor" -> postProcessor(Json.tree(parser));
            case "model" -> model(parser);
            default -> parser.skipChildren();
        }
    }

    private String type(JsonNode part, String what, Set<String> known) {
        String type = part.path("type").asText();
        if (++parts > MOST_PARTS) {
            throw refused("it has more than " + MOST_PARTS + " parts");
        }
        if (type.equals("ByteLevel")) {
            grow(2);
        }
        if (!known.contains(type)) {
            throw refused(what + " has the type \"" + type + "\", which is none of "
                    + String.join(", ", known.stream().sorted().toList()));
        }
        return type;
    }

    private void normalizer(JsonNode part) {
        if (part.isNull()) {
            return;
        }
        switch (type(part, "a normalizer", NORMALIZERS)) {
            case "Sequence" -> part.path("normalizers").forEach(this::normalizer);
            case "Replace" -> {
                pattern(part.path("pattern"));
                grow(1 + part.path("content").asText().getBytes(StandardCharsets.UTF_8).length);
            }
            case "Precompiled" ->
                charactersMap(part.path("precompiled_charsmap").asText());
            default -> {
                // has no invariant of its own
            }
        }
    }

    private void grow(int factor) {
        growth *= factor;
        if (growth > MOST_GROWTH) {
            throw refused("its parts could make a text more than " + (int) MOST_GROWTH + " times as long");
        }
    }

    private void preTokenizer(JsonNode part) {
        if (part.isNull()) {
            return;
        }
        switch (type(part, "a pre-tokenizer", PRE_TOKENIZERS)) {
            case "Sequence" -> part.path("pretokenizers").forEach(this::preTokenizer);
            case "Split" -> pattern(part.path("pattern"));
            case "FixedLength" -> {
                if (part.path("length").asLong() < 1) {
                    throw refused("a pre-tokenizer cuts pieces of no length");
                }
            }
            default -> {
                // has no invariant of its own
            }
        }
    }

    private void pattern(JsonNode pattern) {
        if (pattern.has("Regex")) {
            String refusal = TokenizerPattern.refusal(pattern.path("Regex").asText());
            if (!refusal.isEmpty()) {
                throw refused("the regular expression " + pattern.path("Regex") + " " + refusal);
            }
        }
    }

    private void postProcessor(JsonNode part) {
        if (part.isNull()) {
            return;
        }
        switch (type(part, "a post-processor", POST_PROCESSORS)) {
            case "Sequence" -> part.path("processors").forEach(this::postProcessor);
            case "TemplateProcessing" -> template(part);
            default -> {
                // has no invariant of its own
            }
        }
    }

    /** Every special token of a template must be given, and a single text has no second sequence. */
    private void template(JsonNode part) {
        JsonNode special = part.path("special_tokens");
        for (JsonNode token : special) {
            JsonNode ids = token.path("ids");
            if (!ids.isArray() || ids.size() != token.path("tokens").size()) {
                throw refused("a special token of its template has not as many ids as tokens");
            }
        }
        int copies = 0;
        for (String template : List.of("pair", "single")) {
            copies = 0;
            for (JsonNode piece : part.path(template)) {
                JsonNode token = piece.path("SpecialToken").path("id");
                JsonNode sequence = piece.path("Sequence").path("id");
                if (piece.size() != 1 || token.isTextual() == sequence.isTextual()) {
                    throw refused("a piece of its template is neither a special token nor a sequence");
                }
                if (token.isTextual() && !special.has(token.textValue())) {
                    throw refused("the template has the special token " + token + ", which special_tokens lack");
                }
                if (template.equals("single") && sequence.asText().equals("B")) {
                    throw refused("the template of a single text has a second sequence");
                }
                copies += sequence.isTextual() ? 1 : 0;
            }
        }
        grow(Math.max(1, copies));
    }

    /** Merges must be of two tokens of which the second begins with the prefix of continuing pieces. */
    private void model(JsonParser parser) throws IOException {
        Json.expect(parser.currentToken(), JsonToken.START_OBJECT, "model", file);
        String prefix = "";
        Map<String, Boolean> seconds = new HashMap<>();
        while (parser.nextToken() == JsonToken.FIELD_NAME) {
            String key = parser.currentName();
            JsonToken value = parser.nextToken();
            if (key.equals("continuing_subword_prefix") && value == JsonToken.VALUE_STRING) {
                prefix = parser.getText();
            } else if (key.equals("merges") && value == JsonToken.START_ARRAY) {
                merges(parser, seconds);
            } else {
                parser.skipChildren();
            }
        }
        if (!prefix.isEmpty()) {
            for (String second : seconds.keySet()) {
                if (!second.startsWith(prefix)) {
                    throw refused("a merge continues with \"" + second + "\", which lacks the prefix " + prefix);
                }
            }
        }
    }

    private void merges(JsonParser parser, Map<String, Boolean> seconds) throws IOException {
        while (parser.nextToken() != JsonToken.END_ARRAY) {
            if (parser.currentToken() == JsonToken.VALUE_STRING) {
                String merge = parser.getText();
                seconds.put(merge.substring(merge.indexOf(' ') + 1), true);
            } else if (parser.currentToken() == JsonToken.START_ARRAY) {
                String last = "";
                while (parser.nextToken() != JsonToken.END_ARRAY) {
                    Json.expect(parser.currentToken(), JsonToken.VALUE_STRING, "every part of a merge", file);
                    last = parser.getText();
                }
                seconds.put(last, true);
            } else {
                throw refused("a merge is neither a text nor a pair of texts");
            }
        }
    }

    /**
     * A double array that maps characters to replacements (the precompiled form of SentencePiece): the trie's size in
     * bytes, its units of 32 bits, and the replacements, each of which ends at a zero. Walking it must stay inside of both.
     */
    private void charactersMap(String base64) {
        // up to a few times as long once, as the normal forms of Unicode are, but not once more
        grow(32);
        byte[] bytes;
        try {
            bytes = Base64.getDecoder().decode(base64);
            if (!Base64.getEncoder().encodeToString(bytes).equals(base64)) {
                throw refused("its precompiled_charsmap is no strict base64");
            }
        } catch (IllegalArgumentException e) {
            throw refused("its precompiled_charsmap is no base64");
        }
        ByteBuffer map = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
        long trieBytes = bytes.length < Integer.BYTES ? -1 : Integer.toUnsignedLong(map.getInt());
        int units = Math.toIntExact(Math.clamp(trieBytes / Integer.BYTES, 0, bytes.length / Integer.BYTES));
        if (units == 0 || trieBytes > map.remaining()) {
            throw refused("its precompiled_charsmap is truncated");
        }
        int[] trie = new int[units];
        map.asIntBuffer().get(trie);
        byte[] replacements = new byte[map.remaining() - units * Integer.BYTES];
        map.get(map.position() + units * Integer.BYTES, replacements);
        try {
            StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(replacements));
        } catch (CharacterCodingException e) {
            throw refused("the replacements of its precompiled_charsmap are no UTF-8");
        }
        BitSet seen = new BitSet(units);
        Deque<Integer> open = new ArrayDeque<>();
        open.add(offset(trie[0]));
        while (!open.isEmpty()) {
            int node = open.remove();
            if (node < 0 || (node | 0xff) >= units) {
                throw refused("its precompiled_charsmap leads out of itself");
            }
            if (seen.get(node)) {
                continue;
            }
            seen.set(node);
            for (int label = 1; label < 256; label++) {
                int unit = trie[node ^ label];
                if ((unit & 0x8000_00ff) != label) {
                    continue;
                }
                int next = node ^ label ^ offset(unit);
                open.add(next);
                if ((unit >>> 8 & 1) == 1 && next >= 0 && next < units) {
                    int begin = trie[next] & 0x7fff_ffff;
                    boolean inside = begin <= replacements.length;
                    boolean whole = begin >= replacements.length || (replacements[begin] & 0xc0) != 0x80;
                    if (!inside || !whole) {
                        throw refused("a replacement of its precompiled_charsmap begins inside of a character");
                    }
                }
            }
        }
    }

    private static int offset(int unit) {
        return (unit >>> 10) << ((unit & 1 << 9) >>> 6);
    }

    private FormatException refused(String fact) {
        return new FormatException(
                file + " is no usable tokenizer (" + fact + "): fetch the tokenizer.json of the model");
    }
}
