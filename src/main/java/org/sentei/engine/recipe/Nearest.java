package org.sentei.engine.recipe;

import java.util.Collection;
import java.util.Comparator;

/** Finds the valid name that somebody who mistyped one most likely meant. */
public final class Nearest {
    private static final int LONGEST = 256;

    private Nearest() {}

    /** As {@link #to}, for a pattern in which {@code *} stands for any run of characters and {@code ?} for one. */
    public static String toPattern(String pattern, Collection<String> names) {
        return nearest(pattern, names, true);
    }

    /** The name with the smallest edit distance to {@code wanted}, the first of equals; empty when there are no names. */
    public static String to(String wanted, Collection<String> names) {
        return nearest(wanted, names, false);
    }

    private static String nearest(String wanted, Collection<String> names, boolean pattern) {
        return names.stream()
                .min(Comparator.comparingInt(name -> distance(wanted, name, pattern)))
                .orElse("");
    }

    /** Optimal string alignment of the first {@value #LONGEST} characters: insert, delete, change or swap neighbours. */
    private static int distance(String left, String right, boolean pattern) {
        int rows = Math.min(left.length(), LONGEST);
        int cols = Math.min(right.length(), LONGEST);
        int[][] distance = new int[rows + 1][cols + 1];
        for (int i = 0; i <= rows; i++) {
            for (int j = 0; j <= cols; j++) {
                char wanted = i == 0 ? 0 : left.charAt(i - 1);
                if (pattern && wanted == '*') {
                    distance[i][j] = Math.min(distance[i - 1][j], j == 0 ? Integer.MAX_VALUE : distance[i][j - 1]);
                    continue;
                }
                if (i == 0 || j == 0) {
                    distance[i][j] = i == 0 ? j : distance[i - 1][j] + 1;
                    continue;
                }
                int change = wanted == right.charAt(j - 1) || (pattern && wanted == '?') ? 0 : 1;
                int best =
                        Math.min(distance[i - 1][j - 1] + change, 1 + Math.min(distance[i - 1][j], distance[i][j - 1]));
                if (i > 1 && j > 1 && wanted == right.charAt(j - 2) && left.charAt(i - 2) == right.charAt(j - 1)) {
                    best = Math.min(best, distance[i - 2][j - 2] + 1);
                }
                distance[i][j] = best;
            }
        }
        return distance[rows][cols];
    }
}
