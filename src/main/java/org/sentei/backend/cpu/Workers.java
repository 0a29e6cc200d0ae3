package org.sentei.backend.cpu;

import java.util.concurrent.ExecutorService;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import org.sentei.kernel.DeviceException;

/**
 * The threads of one backend. A job is split into tiles by its shape alone, so which thread takes which tile changes
 * nothing but the time.
 */
final class Workers implements AutoCloseable {
    /** Nanoseconds for which a thread looks before it sleeps. */
    private static final long WATCH = 100_000;

    private final int threads;
    private final ExecutorService pool;

    /**
     * Starts all threads: one that failed to start in the middle of a job would leave the others at work on memory that the
     * job's owner then frees.
     *
     * @param threads how many compute, the calling thread included
     * @throws DeviceException OUT_OF_MEMORY when the system gives no more threads
     */
    Workers(int threads) {
        this.threads = threads;
        ThreadPoolExecutor started = new ThreadPoolExecutor(
                threads - 1,
                Math.max(1, threads - 1),
                0,
                TimeUnit.SECONDS,
                new WatchedQueue(),
                Thread.ofPlatform().daemon().name("sentei-cpu-", 1).factory());
        try {
            started.prestartAllCoreThreads();
        } catch (OutOfMemoryError e) {
            started.shutdown();
            throw new DeviceException(
                    NativeBackend.NAME,
                    "starting " + threads + " threads",
                    "the system gives no more; use fewer threads",
                    DeviceException.Kind.OUT_OF_MEMORY,
                    e);
        }
        this.pool = started;
    }

    /** The work on one tile; what it throws ends the job. */
    @FunctionalInterface
    interface Tile {
        // A method handle's invokeExact throws Throwable.
        void run(long index) throws Throwable;
    }

    int threads() {
        return threads;
    }

    /**
     * Runs tiles 0 to {@code tiles - 1} and returns when no thread works on them any more.
     *
     * @throws TileException with the failure of the lowest tile that failed
     */
    void run(long tiles, Tile tile) throws TileException {
        Job job = new Job(tiles, tile);
        for (long helpers = Math.min(threads, tiles) - 1; helpers > 0; helpers--) {
            pool.execute(job::help);
        }
        job.work();
        job.awaitHelpers();
        if (job.failure != null) {
            throw new TileException(job.failure);
        }
    }

    @Override
    public void close() {
        pool.close();
    }

    /**
     * A queue whose readers look for a while before they sleep: ops follow each other closely, and to wake a thread takes as long
     * as a small op does.
     */
    private static final class WatchedQueue extends LinkedBlockingQueue<Runnable> {
        private static final long serialVersionUID = 1L;

        @Override
        public Runnable take() throws InterruptedException {
            long begin = System.nanoTime();
            do {
                Runnable job = poll();
                if (job != null) {
                    return job;
                }
                Thread.onSpinWait();
            } while (System.nanoTime() - begin < WATCH);
            return super.take();
        }
    }

    /** Carries what a tile threw to the thread that ran the job. */
    static final class TileException extends Exception {
        private static final long serialVersionUID = 1L;

        TileException(Throwable cause) {
            super(cause);
        }
    }

    private static final class Job {
        private final long tiles;
        private final Tile tile;
        private final AtomicLong next = new AtomicLong();
        private long failed = Long.MAX_VALUE;
        private Throwable failure;
        private volatile int helping;
        private boolean over;

        Job(long tiles, Tile tile) {
            this.tiles = tiles;
            this.tile = tile;
        }

        /** Works unless all is done already: a thread that wakes late is not waited for. */
        void help() {
            synchronized (this) {
                if (over) {
                    return;
                }
                helping++;
            }
            work();
            synchronized (this) {
                helping--;
                notifyAll();
            }
        }

        /** The threads write to the caller's memory: an interrupt must not make it return before they are done. */
        void awaitHelpers() {
            synchronized (this) {
                over = true;
            }
            long begin = System.nanoTime();
            while (helping > 0 && System.nanoTime() - begin < WATCH) {
                Thread.onSpinWait();
            }
            sleepUntilAlone();
        }

        private synchronized void sleepUntilAlone() {
            boolean interrupted = false;
            while (helping > 0) {
                try {
                    wait();
                } catch (InterruptedException e) {
                    interrupted = true;
                }
            }
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }

        /** Whatever a tile throws, an Error included, must reach the caller's thread and not vanish with a worker. */
        void work() {
            for (long index = next.getAndIncrement(); index < tiles; index = next.getAndIncrement()) {
                try {
                    tile.run(index);
                } catch (Throwable e) {
                    fail(index, e);
                    return;
                }
            }
        }

        private synchronized void fail(long index, Throwable cause) {
            next.set(tiles);
            if (index < failed) {
                failed = index;
                failure = cause;
            }
        }
    }
}
