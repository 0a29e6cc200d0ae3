package org.sentei.format;

/**
 * An image of bytes: rows of pixels of 1 (gray) or 3 (red, green, blue) channels. The array is shared, not copied.
 *
 * <p>Use {@link PngFile} or {@link IdxFile} to read one.
 */
public final class Picture {
    private final int width;
    private final int height;
    private final int channels;
    private final byte[] pixels;

    /** An {@link IllegalArgumentException} when the bytes are not as many as the sizes say. */
    Picture(int width, int height, int channels, byte[] pixels) {
        if (pixels.length != Math.multiplyExact(Math.multiplyExact(width, height), channels)) {
            throw new IllegalArgumentException(
                    width + "x" + height + "x" + channels + " pixels of " + pixels.length + " bytes");
        }
        this.width = width;
        this.height = height;
        this.channels = channels;
        this.pixels = pixels;
    }

    /** Pixels of a row. */
    public int width() {
        return width;
    }

    /** Rows. */
    public int height() {
        return height;
    }

    /** 1 or 3. */
    public int channels() {
        return channels;
    }

    /** 0 to 255; of an image in gray every channel is the same. */
    public int at(int x, int y, int channel) {
        return pixels[(y * width + x) * channels + (channels == 1 ? 0 : channel)] & 0xff;
    }

    /** The mean of the channels as eyes weigh them (ITU-R BT.601). */
    public double gray(int x, int y) {
        return channels == 1 ? at(x, y, 0) : 0.299 * at(x, y, 0) + 0.587 * at(x, y, 1) + 0.114 * at(x, y, 2);
    }
}
