package org.sentei.tensor;

import java.util.Arrays;

/**
 * One bit a matrix element; a set bit means "pruned".
 *
 * <p>Bit {@code col % 32} of word {@code row * wordsPerRow + col / 32}; the unused high bits of a row's last word are 0.
 */
public final class BitMask {
    private final long rows;
    private final long cols;
    private final int[] words;

    /**
     * A mask over given words.
     *
     * @param words {@code rows * wordsPerRow(cols)} words, kept, not copied
     * @throws IllegalArgumentException for a wrong number of words or a set bit beyond the last column
     */
    public BitMask(long rows, long cols, int[] words) {
        int perRow = wordsPerRow(cols);
        if (words.length != Math.multiplyExact(rows, perRow)) {
            throw new IllegalArgumentException(
                    "a mask of " + rows + "x" + cols + " needs " + rows * perRow + " words, not " + words.length);
        }
        if (cols % 32 != 0) {
            int unused = -1 << (cols % 32);
            for (int last = perRow - 1; last < words.length; last += perRow) {
                if ((words[last] & unused) != 0) {
                    throw new IllegalArgumentException("mask row " + last / perRow + " has bits beyond column " + cols);
                }
            }
        }
        this.rows = rows;
        this.cols = cols;
        this.words = words;
    }

    /** A mask that prunes nothing. */
    public static BitMask none(long rows, long cols) {
        return new BitMask(rows, cols, new int[Math.toIntExact(Math.multiplyExact(rows, wordsPerRow(cols)))]);
    }

    /** A mask that prunes what this one keeps. */
    public BitMask inverse() {
        int perRow = wordsPerRow(cols);
        int unused = cols % 32 == 0 ? 0 : -1 << (cols % 32);
        int[] inverted = new int[words.length];
        for (int i = 0; i < words.length; i++) {
            inverted[i] = ~words[i] & ~((i + 1) % perRow == 0 ? unused : 0);
        }
        return new BitMask(rows, cols, inverted);
    }

    /** Words that hold one row of {@code cols} bits. */
    public static int wordsPerRow(long cols) {
        return Math.toIntExact((cols + 31) / 32);
    }

    /** Rows of the matrix that it covers. */
    public long rows() {
        return rows;
    }

    /** Columns of the matrix that it covers. */
    public long cols() {
        return cols;
    }

    /** The words themselves, not a copy. */
    public int[] words() {
        return words;
    }

    /** Whether the bit of this element is set. */
    public boolean get(long row, long col) {
        return ((words[index(row, col)] >>> (col % 32)) & 1) != 0;
    }

    /** Sets the bit of this element. */
    public void set(long row, long col) {
        words[index(row, col)] |= 1 << (col % 32);
    }

    /** Number of pruned elements. */
    public long count() {
        long total = 0;
        for (int word : words) {
            total += Integer.bitCount(word);
        }
        return total;
    }

    /** Number of pruned elements of one row. */
    public long count(long row) {
        int perRow = wordsPerRow(cols);
        int start = Math.toIntExact(row * perRow);
        long total = 0;
        for (int i = start; i < start + perRow; i++) {
            total += Integer.bitCount(words[i]);
        }
        return total;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof BitMask mask
                && rows == mask.rows
                && cols == mask.cols
                && Arrays.equals(words, mask.words);
    }

    @Override
    public int hashCode() {
        return 31 * Long.hashCode(rows * 31 + cols) + Arrays.hashCode(words);
    }

    private int index(long row, long col) {
        if (row < 0 || row >= rows || col < 0 || col >= cols) {
            throw new IndexOutOfBoundsException("(" + row + ", " + col + ") of a mask of " + rows + "x" + cols);
        }
        return (int) (row * wordsPerRow(cols) + col / 32);
    }
}
