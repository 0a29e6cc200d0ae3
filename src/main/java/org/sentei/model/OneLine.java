package org.sentei.model;

import java.util.regex.Pattern;

/** Messages quote names out of files, and those may hold anything: line breaks, terminal codes, a megabyte of text. */
public final class OneLine {
    private static final int LONGEST = 2000;
    private static final int BEGINNING = 1200;
    private static final Pattern LINE_BREAK = Pattern.compile("\\s*\\R\\s*");

    private OneLine() {}

    /**
     * A message as one line of visible text, of {@value #LONGEST} characters at most: the beginning, which names the subject,
     * and the end, which holds the remedy.
     */
    public static String of(String message) {
        String line = message;
        if (line.length() > LONGEST) {
            int resume = line.length() - (LONGEST - BEGINNING - 5);
            line = line.substring(0, BEGINNING) + " ... " + line.substring(resume);
        }
        StringBuilder visible = new StringBuilder(line.length());
        LINE_BREAK
                .matcher(line.strip())
                .replaceAll(" ")
                .codePoints()
                .forEach(character -> visible.appendCodePoint(isVisible(character) ? character : '?'));
        return visible.toString();
    }

    private static boolean isVisible(int character) {
        return switch (Character.getType(character)) {
            case Character.CONTROL,
                    Character.FORMAT,
                    Character.SURROGATE,
                    Character.LINE_SEPARATOR,
                    Character.PARAGRAPH_SEPARATOR -> false;
            default -> true;
        };
    }
}
