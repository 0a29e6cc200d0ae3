package org.sentei.format;

import java.io.IOException;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.DataFormatException;
import java.util.zip.Inflater;

/**
 * Reads PNG images of 8 bits a channel that are not interlaced: gray, color, palette, with or without transparency, which is
 * dropped (ISO/IEC 15948). Checksums are not looked at.
 */
public final class PngFile {
    private static final long SIGNATURE = 0x89504e470d0a1a0aL;
    private static final int IHDR = 0x49484452;
    private static final int PLTE = 0x504c5445;
    private static final int IDAT = 0x49444154;
    private static final int IEND = 0x49454e44;
    /** Pixels of the largest image that is read. */
    private static final long LARGEST = 1L << 26;

    private final Path path;
    private int width;
    private int height;
    private int colorType = -1;
    private byte[] palette = {};

    private PngFile(Path path) {
        this.path = path;
    }

    /**
     * Reads an image.
     *
     * @throws FormatException when it cannot be read, is damaged, or of a kind that is not
     */
    public static Picture read(Path path) {
        try {
            return new PngFile(path).decode(ByteBuffer.wrap(Files.readAllBytes(path)));
        } catch (IOException e) {
            throw new FormatException(path + " cannot be read: " + e.getMessage() + "; check its permissions", e);
        } catch (BufferUnderflowException | DataFormatException | IllegalArgumentException e) {
            throw new FormatException(path + " is no PNG image, or damaged; save it again", e);
        }
    }

    private Picture decode(ByteBuffer file) throws DataFormatException {
        if (file.getLong() != SIGNATURE) {
            throw new FormatException(path + " is no PNG image; convert it to PNG");
        }
        Inflater inflater = new Inflater();
        try {
            byte[] raw = null;
            int filled = 0;
            while (true) {
                int length = file.getInt();
                int type = file.getInt();
                ByteBuffer chunk = file.slice(file.position(), checked(length, file));
                file.position(file.position() + length);
                file.getInt();
                switch (type) {
                    case IHDR -> {
                        header(chunk);
                        raw = new byte[Math.toIntExact((1 + (long) width * samples()) * height)];
                    }
                    case PLTE -> {
                        palette = new byte[chunk.remaining()];
                        chunk.get(palette);
                    }
                    case IDAT -> {
                        if (raw == null) {
                            throw new DataFormatException("pixels before the header");
                        }
                        inflater.setInput(chunk);
                        for (int got = 1; got > 0 && filled < raw.length; filled += got) {
                            got = inflater.inflate(raw, filled, raw.length - filled);
                        }
                    }
                    case IEND -> {
                        if (raw == null || filled < raw.length) {
                            throw new DataFormatException("pixels are missing");
                        }
                        return picture(raw);
                    }
                    default -> {}
                }
            }
        } finally {
            inflater.end();
        }
    }

    private static int checked(int length, ByteBuffer file) {
        if (length < 0 || length > file.remaining()) {
            throw new BufferUnderflowException();
        }
        return length;
    }

    private void header(ByteBuffer chunk) {
        width = chunk.getInt();
        height = chunk.getInt();
        int depth = chunk.get();
        colorType = chunk.get();
        chunk.get();
        chunk.get();
        int interlace = chunk.get();
        if (width < 1 || height < 1 || (long) width * height > LARGEST) {
            throw new FormatException(path + " says it has " + width + " x " + height
                    + " pixels, but an image has 1 to " + LARGEST + "; scale it down");
        }
        if (depth != 8 || interlace != 0 || samples() == 0) {
            throw new FormatException(path + " is a PNG of " + depth + " bits, color type " + colorType
                    + ", interlacing " + interlace + "; save it with 8 bits and without interlacing");
        }
    }

    /** Bytes of a pixel in the file; 0 for what is none of PNG's types. */
    private int samples() {
        return switch (colorType) {
            case 0, 3 -> 1;
            case 2 -> 3;
            case 4 -> 2;
            case 6 -> 4;
            default -> 0;
        };
    }

    private Picture picture(byte[] raw) throws DataFormatException {
        int samples = samples();
        int row = width * samples;
        byte[] lines = new byte[row * height];
        for (int y = 0; y < height; y++) {
            int filter = raw[y * (row + 1)];
            for (int x = 0; x < row; x++) {
                int left = x >= samples ? lines[y * row + x - samples] & 0xff : 0;
                int up = y > 0 ? lines[(y - 1) * row + x] & 0xff : 0;
                int corner = y > 0 && x >= samples ? lines[(y - 1) * row + x - samples] & 0xff : 0;
                int predicted = switch (filter) {
                    case 0 -> 0;
                    case 1 -> left;
                    case 2 -> up;
                    case 3 -> (left + up) / 2;
                    case 4 -> paeth(left, up, corner);
                    default -> throw new DataFormatException("filter " + filter);
                };
                lines[y * row + x] = (byte) (raw[y * (row + 1) + 1 + x] + predicted);
            }
        }
        int channels = colorType == 0 || colorType == 4 ? 1 : 3;
        byte[] pixels = new byte[Math.multiplyExact(width * height, channels)];
        for (int i = 0; i < width * height; i++) {
            for (int c = 0; c < channels; c++) {
                int sample = lines[i * samples + (colorType == 3 ? 0 : c)] & 0xff;
                if (colorType == 3) {
                    if (3 * sample + c >= palette.length) {
                        throw new DataFormatException("color " + sample + " is not in the palette");
                    }
                    sample = palette[3 * sample + c];
                }
                pixels[i * channels + c] = (byte) sample;
            }
        }
        return new Picture(width, height, channels, pixels);
    }

    private static int paeth(int left, int up, int corner) {
        int estimate = left + up - corner;
        int toLeft = Math.abs(estimate - left);
        int toUp = Math.abs(estimate - up);
        int toCorner = Math.abs(estimate - corner);
        if (toLeft <= toUp && toLeft <= toCorner) {
            return left;
        }
        return toUp <= toCorner ? up : corner;
    }
}
