package org.sentei.kernel;

/**
 * The best that a device does where one resource alone is the limit: what the speed of an op is held against.
 *
 * @param readBandwidth bytes a second of a pass that only reads
 * @param copyBandwidth bytes a second, read and written, of a copy
 * @param operations fp32 operations a second on registers, a multiply-add counted as two
 */
public record Ceilings(double readBandwidth, double copyBandwidth, double operations) {
    public Ceilings {
        if (!(readBandwidth > 0 && copyBandwidth > 0 && operations > 0)
                || !Double.isFinite(readBandwidth + copyBandwidth + operations)) {
            throw new IllegalArgumentException("ceilings must be positive and finite, not " + readBandwidth + ", "
                    + copyBandwidth + " and " + operations);
        }
    }

    /**
     * The least time in seconds for an op: that of its operations, or of its bytes when that is longer. What is written
     * costs what the copy took beyond the time of its reads, and at least as much as reading.
     *
     * @param read bytes read
     * @param written bytes written
     */
    public double seconds(long read, long written, long operations) {
        return Math.max(memorySeconds(read, written), operations / this.operations);
    }

    /** The share of {@link #seconds} that the memory bus needs. */
    public double memorySeconds(long read, long written) {
        double readTime = 1 / readBandwidth;
        double writeTime = Math.max(readTime, 2 / copyBandwidth - readTime);
        return read * readTime + written * writeTime;
    }

    /** What {@link #seconds} are spent on: {@code compute}, or {@code memory}. */
    public String limit(long read, long written, long operations) {
        return operations / this.operations > memorySeconds(read, written) ? "compute" : "memory";
    }

    /** The higher of each. */
    public Ceilings or(Ceilings other) {
        return new Ceilings(
                Math.max(readBandwidth, other.readBandwidth),
                Math.max(copyBandwidth, other.copyBandwidth),
                Math.max(operations, other.operations));
    }
}
