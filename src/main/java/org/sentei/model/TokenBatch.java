package org.sentei.model;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** Token sequences of one length, with an optional padding mask. */
public final class TokenBatch {
    private final int sequences;
    private final int length;
    private final int[] ids;
    private final int[] mask;

    private TokenBatch(int sequences, int length, int[] ids, int[] mask) {
        this.sequences = sequences;
        this.length = length;
        this.ids = ids;
        this.mask = mask;
    }

    /**
     * A batch without padding.
     *
     * @param ids one row a sequence; copied
     * @throws ModelException when there is none, one is empty or the lengths differ
     */
    public static TokenBatch of(int[][] ids) {
        return of(ids, null);
    }

    /**
     * A batch with padding.
     *
     * @param mask of the shape of {@code ids}: 1 for tokens, 0 for padding; null without padding
     * @throws ModelException when there is none, one is empty, the lengths differ or the mask has other values
     */
    public static TokenBatch of(int[][] ids, int[][] mask) {
        if (ids.length == 0 || ids[0].length == 0) {
            throw new ModelException("the input has no tokens; give at least one sequence of one token");
        }
        int[] flat = flatten("input_ids", ids, ids[0].length);
        int[] flatMask = null;
        if (mask != null) {
            if (mask.length != ids.length) {
                throw new ModelException("attention_mask has " + mask.length + " rows, input_ids " + ids.length
                        + "; give one row a sequence");
            }
            flatMask = flatten("attention_mask", mask, ids[0].length);
            for (int value : flatMask) {
                if (value != 0 && value != 1) {
                    throw new ModelException("attention_mask holds " + value + "; give 1 for tokens and 0 for padding");
                }
            }
        }
        return new TokenBatch(ids.length, ids[0].length, flat, flatMask);
    }

    private static int[] flatten(String name, int[][] rows, int length) {
        int[] flat = new int[Math.multiplyExact(rows.length, length)];
        for (int row = 0; row < rows.length; row++) {
            if (rows[row].length != length) {
                throw new ModelException(name + " row " + row + " has " + rows[row].length + " entries, not " + length
                        + "; sequences of one batch must have equal length, so pad them and give an attention_mask");
            }
            System.arraycopy(rows[row], 0, flat, row * length, length);
        }
        return flat;
    }

    /** The same sequences in batches of at most {@code tokens} tokens, but at least one sequence. */
    public List<TokenBatch> split(int tokens) {
        int step = Math.max(1, tokens / length);
        List<TokenBatch> parts = new ArrayList<>();
        for (int first = 0; first < sequences; first += step) {
            parts.add(sequences(first, Math.min(first + step, sequences)));
        }
        return parts;
    }

    /** Some consecutive sequences, {@code first} to {@code end} (exclusive). */
    TokenBatch sequences(int first, int end) {
        return new TokenBatch(end - first, length, part(ids, first, end), part(mask, first, end));
    }

    private int[] part(int[] values, int first, int end) {
        return values == null ? null : Arrays.copyOfRange(values, first * length, end * length);
    }

    /** How many sequences. */
    public int sequences() {
        return sequences;
    }

    /** Tokens of each sequence, padding included. */
    public int length() {
        return length;
    }

    /** Tokens of all sequences, padding included. */
    public int tokens() {
        return ids.length;
    }

    /** Whether anything is padded. */
    public boolean hasMask() {
        return mask != null;
    }

    /** The id at a position of all sequences one after the other. */
    public int id(int token) {
        return ids[token];
    }

    /** Whether the token at a position of all sequences one after the other is no padding. */
    public boolean visible(int token) {
        return mask == null || mask[token] != 0;
    }
}
