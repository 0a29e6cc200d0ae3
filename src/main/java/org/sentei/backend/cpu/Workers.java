package org.sentei.backend.cpu;

import java.util.concurrent.ExecutorService;
import java.util.concurrent.LinkedTransferQueue;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLongArray;
import java.util.concurrent.locks.LockSupport;
import org.sentei.kernel.DeviceException;

/**
 * The threads of one backend. A job is split into tiles by its shape alone, so which thread takes which tile changes
 * nothing but the time. Each begins with a share of its own, the same part of every job, so that what it made is still in its
 * core's cache when the next op reads it; who is done takes what others have left.
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
                threads - 1, Math.max(1, threads - 1), 0, TimeUnit.SECONDS, new WatchedQueue(), new Factory());
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
        Job job = new Job(tiles, (int) Math.min(threads, tiles), tile);
        for (int helpers = job.shares - 1; helpers > 0; helpers--) {
            pool.execute(job::help);
        }
        job.work(0);
        job.awaitHelpers();
        if (job.failure != null) {
            throw new TileException(job.failure);
        }
    }

    @Override
    public void close() {
        pool.close();
    }

    /** A thread that helps; who asks for a job is number 0 in it. */
    private static final class Helper extends Thread {
        private final int number;

        Helper(Runnable work, int number) {
            super(work, "sentei-cpu-" + number);
            this.number = number;
            setDaemon(true);
        }
    }

    private static final class Factory implements ThreadFactory {
        private int made;

        @Override
        public Thread newThread(Runnable work) {
            made++;
            return new Helper(work, made);
        }
    }

    /**
     * A queue without locks whose readers look for a while before they sleep: ops follow each other closely, and to wake a thread
     * takes as long as a small op does, on a virtual machine longer.
     */
    private static final class WatchedQueue extends LinkedTransferQueue<Runnable> {
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
        /** Numbers of a cache line, so that threads count apart. */
        private static final int APART = 8;

        private static final int OVER = Integer.MIN_VALUE;

        private final long tiles;
        private final int shares;
        private final Tile tile;
        /** Of each share the next tile. */
        private final AtomicLongArray next;

        /** The lowest tile that failed; those above it are not begun any more, those below it are, so that it is always the same. */
        private volatile long failed = Long.MAX_VALUE;

        private Throwable failure;
        private final Thread owner = Thread.currentThread();
        /** How many help, and {@link #OVER} more when nobody may begin to. */
        private final AtomicInteger helping = new AtomicInteger();

        Job(long tiles, int shares, Tile tile) {
            this.tiles = tiles;
            this.shares = shares;
            this.tile = tile;
            this.next = new AtomicLongArray(APART * shares);
            for (int share = 0; share < shares; share++) {
                next.set(APART * share, begin(share));
            }
        }

        private long begin(int share) {
            return tiles / shares * share + Math.min(share, tiles % shares);
        }

        /** Works unless all is done already: a thread that wakes late is not waited for. */
        void help() {
            int before;
            do {
                before = helping.get();
                if (before < 0) {
                    return;
                }
            } while (!helping.compareAndSet(before, before + 1));
            work(((Helper) Thread.currentThread()).number);
            if (helping.decrementAndGet() == OVER) {
                LockSupport.unpark(owner);
            }
        }

        /** The threads write to the caller's memory: an interrupt must not make it return before they are done. */
        void awaitHelpers() {
            helping.addAndGet(OVER);
            long begin = System.nanoTime();
            boolean interrupted = false;
            while (helping.get() != OVER) {
                if (System.nanoTime() - begin < WATCH) {
                    Thread.onSpinWait();
                } else {
                    LockSupport.park(this);
                    interrupted |= Thread.interrupted();
                }
            }
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }

        /**
         * Works on the own share, then on what is left of the others. Whatever a tile throws, an Error included, must reach the
         * caller's thread and not vanish with a worker.
         */
        void work(int own) {
            for (int i = 0; i < shares; i++) {
                int share = (own + i) % shares;
                long end = begin(share + 1);
                long index = next.getAndIncrement(APART * share);
                for (; index < end && index < failed; index = next.getAndIncrement(APART * share)) {
                    try {
                        tile.run(index);
                    } catch (Throwable e) {
                        fail(index, e);
                    }
                }
            }
        }

        private synchronized void fail(long index, Throwable cause) {
            if (index < failed) {
                failed = index;
                failure = cause;
            }
        }
    }
}
