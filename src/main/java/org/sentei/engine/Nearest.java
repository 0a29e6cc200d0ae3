package org.sentei.engine;

import java.util.Collection;
import java.util.Comparator;

/** Finds the valid name that somebody who mistyped one most likely meant. */
public final class Nearest {
    private static final int LONGEST = 256;

    private Nearest() {}

    /** The name with the smallest edit distance to {@code wanted}, the first of equals; empty when there are no names. */
    public static String to(String wanted, Collection<String> names) {
        return names.stream()
                .min(Comparator.comparingInt(name -> distance(wanted, name)))
                .orElse("");
    }

    /** Levenshtein distance of the first {@value #LONGEST} characters. */
    private static int distance(String left, String right) {
        int rows = Math.min(left.length(), LONGEST);
        int cols = Math.min(right.length(), LONGEST);
        int[] above = new int[cols + 1];
        for (int j = 0; j <= cols; j++) {
            above[j] = j;
        }
        for (int i = 1; i <= rows; i++) {
            int[] row = new int[cols + 1];
            row[0] = i;
            for (int j = 1; j <= cols; j++) {
                int change = left.charAt(i - 1) == right.charAt(j - 1) ? 0 : 1;
                row[j] = Math.min(above[j - 1] + change, 1 + Math.min(above[j], row[j - 1]));
            }
            above = row;
        }
        return above[cols];
    }
}
