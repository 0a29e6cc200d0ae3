package org.sentei.fuzz;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.SplittableRandom;

/** Damage that knows nothing of a format: bits, bytes, integers, and ranges cut, doubled, moved or made up. */
final class ByteMutator {
    private static final int LONGEST_RANGE = 64;
    private static final long[] INTEGERS = {
        0,
        1,
        -1,
        7,
        8,
        127,
        128,
        255,
        256,
        65535,
        65536,
        Integer.MAX_VALUE,
        Integer.MIN_VALUE,
        0xFFFF_FFFFL,
        1L << 32,
        1L << 40,
        Long.MAX_VALUE,
        Long.MIN_VALUE
    };

    private ByteMutator() {}

    /** A damaged copy; one to four places differ. */
    static byte[] mutate(byte[] original, SplittableRandom random) {
        byte[] bytes = original.clone();
        int changes = 1 + random.nextInt(4);
        for (int i = 0; i < changes; i++) {
            bytes = once(bytes, random);
        }
        return bytes;
    }

    /** A number at which programs break. */
    static long integer(SplittableRandom random) {
        return random.nextInt(4) == 0 ? random.nextInt(-100, 100) : INTEGERS[random.nextInt(INTEGERS.length)];
    }

    private static byte[] once(byte[] bytes, SplittableRandom random) {
        if (bytes.length == 0) {
            return new byte[] {(byte) random.nextInt()};
        }
        int at = random.nextInt(bytes.length);
        int end = Math.min(bytes.length, at + 1 + random.nextInt(LONGEST_RANGE));
        switch (random.nextInt(9)) {
            case 0 -> bytes[at] ^= (byte) (1 << random.nextInt(8));
            case 1 -> bytes[at] = (byte) random.nextInt();
            case 2 -> bytes[at] = (byte) ByteMutator.integer(random);
            case 3 -> {
                byte[] integer = ByteBuffer.allocate(Long.BYTES)
                        .order(ByteOrder.LITTLE_ENDIAN)
                        .putLong(integer(random))
                        .array();
                System.arraycopy(integer, 0, bytes, at, Math.min(1 << random.nextInt(4), bytes.length - at));
            }
            case 4 -> {
                return splice(bytes, at, end, new byte[0]);
            }
            case 5 -> {
                byte[] range = Arrays.copyOfRange(bytes, at, end);
                return splice(bytes, random.nextInt(bytes.length), -1, range);
            }
            case 6 -> {
                byte[] made = new byte[1 + random.nextInt(LONGEST_RANGE)];
                random.nextBytes(made);
                return splice(bytes, at, -1, made);
            }
            case 7 -> {
                return Arrays.copyOf(bytes, random.nextInt(8) == 0 ? random.nextInt(16) : at);
            }
            default -> {
                int other = random.nextInt(bytes.length);
                int length = Math.min(end - at, bytes.length - other);
                byte[] range = Arrays.copyOfRange(bytes, at, at + length);
                System.arraycopy(bytes, other, bytes, at, length);
                System.arraycopy(range, 0, bytes, other, length);
            }
        }
        return bytes;
    }

    /** The bytes with a range replaced; an end of -1 inserts. */
    private static byte[] splice(byte[] bytes, int begin, int end, byte[] middle) {
        int resume = end < 0 ? Math.min(begin, bytes.length) : end;
        int first = Math.min(begin, bytes.length);
        return ByteBuffer.allocate(first + middle.length + bytes.length - resume)
                .put(bytes, 0, first)
                .put(middle)
                .put(bytes, resume, bytes.length - resume)
                .array();
    }
}
