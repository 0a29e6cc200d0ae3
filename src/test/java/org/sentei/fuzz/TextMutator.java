package org.sentei.fuzz;

import java.util.List;
import java.util.SplittableRandom;

/** Damage to text by lines and words: YAML, tables. */
final class TextMutator {
    private TextMutator() {}

    /**
     * A damaged text.
     *
     * @param dictionary pieces that mean something to the reader
     */
    static String mutate(String text, SplittableRandom random, List<String> dictionary) {
        String mutated = text;
        int changes = random.nextInt(3) == 0 ? 1 + random.nextInt(4) : 1;
        for (int i = 0; i < changes; i++) {
            mutated = once(mutated, random, dictionary);
        }
        return mutated;
    }

    private static String once(String text, SplittableRandom random, List<String> dictionary) {
        String piece = dictionary.get(random.nextInt(dictionary.size()));
        if (text.isEmpty()) {
            return piece;
        }
        int at = random.nextInt(text.length());
        int lineStart = text.lastIndexOf('\n', at) + 1;
        int newline = text.indexOf('\n', lineStart);
        int lineEnd = newline < 0 ? text.length() : newline + 1;
        String line = text.substring(lineStart, lineEnd);
        return switch (random.nextInt(8)) {
            case 0 -> text.substring(0, at) + piece + text.substring(at);
            case 1 -> text.substring(0, lineStart) + line.repeat(1 << random.nextInt(8)) + text.substring(lineEnd);
            case 2 -> text.substring(0, lineStart) + text.substring(lineEnd);
            case 3 -> text.substring(0, lineStart) + " ".repeat(random.nextInt(6)) + text.substring(lineStart);
            case 4 -> {
                int wordEnd = at;
                while (wordEnd < text.length() && Character.isLetterOrDigit(text.charAt(wordEnd))) {
                    wordEnd++;
                }
                int wordStart = at;
                while (wordStart > 0 && Character.isLetterOrDigit(text.charAt(wordStart - 1))) {
                    wordStart--;
                }
                yield text.substring(0, wordStart) + piece + text.substring(wordEnd);
            }
            case 5 -> text.substring(0, at) + (char) random.nextInt(0x300) + text.substring(at + 1);
            case 6 -> text.substring(0, at);
            default -> text.substring(0, lineStart) + piece + "\n" + text.substring(lineStart);
        };
    }
}
