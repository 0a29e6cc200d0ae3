package org.sentei.format;

import java.io.BufferedInputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.zip.GZIPInputStream;

/** Reads files of the MNIST family: unsigned bytes of one dimension (labels) or three (images), gzipped or not. */
public final class IdxFile {
    private static final int UNSIGNED_BYTES = 8;
    /** Bytes of the largest file that is read. */
    private static final long LARGEST = 1L << 30;

    private IdxFile() {}

    /**
     * Reads images in gray.
     *
     * @throws FormatException when the file cannot be read, is damaged, or holds something else
     */
    public static List<Picture> images(Path path) {
        return read(path, 3, (sizes, in) -> {
            List<Picture> images = new ArrayList<>();
            for (int i = 0; i < sizes[0]; i++) {
                byte[] pixels = new byte[sizes[1] * sizes[2]];
                in.readFully(pixels);
                images.add(new Picture(sizes[2], sizes[1], 1, pixels));
            }
            return images;
        });
    }

    /**
     * Reads labels.
     *
     * @throws FormatException when the file cannot be read, is damaged, or holds something else
     */
    public static List<Integer> labels(Path path) {
        return read(path, 1, (sizes, in) -> {
            List<Integer> labels = new ArrayList<>();
            for (int i = 0; i < sizes[0]; i++) {
                labels.add(in.readUnsignedByte());
            }
            return labels;
        });
    }

    @FunctionalInterface
    private interface Content<T> {
        T read(int[] sizes, DataInputStream in) throws IOException;
    }

    private static <T> T read(Path path, int rank, Content<T> content) {
        try (InputStream file = Files.newInputStream(path);
                DataInputStream in = new DataInputStream(
                        new BufferedInputStream(path.toString().endsWith(".gz") ? new GZIPInputStream(file) : file))) {
            int magic = in.readInt();
            if (magic != (UNSIGNED_BYTES << 8 | rank)) {
                throw new FormatException(path + " is no idx file of unsigned bytes with " + rank
                        + " dimensions; give images-idx3-ubyte and labels-idx1-ubyte files");
            }
            int[] sizes = new int[rank];
            long bytes = 1;
            for (int i = 0; i < rank; i++) {
                sizes[i] = in.readInt();
                if (sizes[i] < 1 || sizes[i] > LARGEST / bytes) {
                    throw new FormatException(
                            path + " says a size of " + sizes[i] + ", which no such file has; fetch it again");
                }
                bytes *= sizes[i];
            }
            return content.read(sizes, in);
        } catch (EOFException e) {
            throw new FormatException(path + " is truncated; fetch it again", e);
        } catch (IOException e) {
            throw new FormatException(path + " cannot be read: " + e.getMessage() + "; check the file", e);
        }
    }
}
