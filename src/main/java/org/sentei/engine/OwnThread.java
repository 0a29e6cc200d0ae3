package org.sentei.engine;

import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ThreadFactory;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Function;
import java.util.function.Supplier;

/**
 * The platform thread that a backend and its memory belong to. Callers come from any thread, a virtual one included, hand
 * their work over and wait for it; one piece of work runs at a time.
 *
 * <p>An interrupt of a waiting caller does not reach this thread, where it would break open files in the middle: it cancels
 * through the {@link Progress}, and the caller returns, still interrupted, when the work has cleaned up.
 */
final class OwnThread implements AutoCloseable {
    private final String name;
    private final ExecutorService executor;
    private volatile Thread thread;
    /** Touched on the thread alone. */
    private boolean closed;

    /**
     * A thread for one session.
     *
     * @param name what it is called, in thread dumps and messages
     */
    OwnThread(String name) {
        this.name = name;
        // A session that somebody forgot to close must not keep the JVM alive.
        ThreadFactory threads = Thread.ofPlatform().daemon().name(name).factory();
        this.executor = Executors.newSingleThreadExecutor(work -> {
            thread = threads.newThread(work);
            return thread;
        });
    }

    /** Does one piece of work on a thread of its own, which is gone when this returns. */
    static <T> T once(String name, Progress progress, Function<Progress, T> work) {
        try (OwnThread thread = new OwnThread(name)) {
            return thread.call(progress, work);
        }
    }

    /** As {@link #call(Progress, Function)}, for work that is too short to be cancelled. */
    <T> T call(Supplier<T> work) {
        return call(Progress.NONE, _ -> work.get());
    }

    /**
     * Does the work on the thread, at once when called from there, and returns or throws what it does.
     *
     * @param work gets a progress that is also cancelled when the caller is interrupted
     * @throws IllegalStateException after {@link #close}
     */
    <T> T call(Progress progress, Function<Progress, T> work) {
        if (isCurrent()) {
            return work.apply(progress);
        }
        AtomicBoolean interrupted = new AtomicBoolean();
        Future<T> result = submit(() -> {
            if (closed) {
                throw closed(null);
            }
            try {
                return work.apply(new Watched(progress, interrupted));
            } finally {
                Thread.interrupted(); // a listener's own interrupt ends with the work it was meant for
            }
        });
        return await(result, interrupted);
    }

    /** The result of work that another thread does, or what it threw; an interrupt waits until then. */
    static <T> T await(Future<T> result) {
        return await(result, new AtomicBoolean());
    }

    /**
     * Does the last work and ends the thread; again, it does nothing.
     *
     * @throws IllegalStateException from inside of work on the thread, which needs what the last work would free
     */
    void close(Runnable last) {
        refuseInside();
        synchronized (executor) {
            if (executor.isShutdown()) {
                return;
            }
            try {
                call(() -> {
                    closed = true;
                    last.run();
                    return null;
                });
            } finally {
                executor.shutdown();
                awaitEnd();
            }
        }
    }

    @Override
    public void close() {
        close(() -> {});
    }

    /** An {@link IllegalStateException} inside of work on the thread, which needs what closing would free. */
    void refuseInside() {
        if (isCurrent()) {
            throw new IllegalStateException(name + " cannot be closed by its own progress; cancel it there instead");
        }
    }

    private boolean isCurrent() {
        return Thread.currentThread().equals(thread);
    }

    private <T> Future<T> submit(Callable<T> work) {
        try {
            return executor.submit(work);
        } catch (RejectedExecutionException e) {
            throw closed(e);
        }
    }

    private IllegalStateException closed(Throwable cause) {
        return new IllegalStateException(name + " is closed already; open another one", cause);
    }

    private static <T> T await(Future<T> result, AtomicBoolean interrupted) {
        try {
            while (true) {
                try {
                    return result.get();
                } catch (InterruptedException e) {
                    interrupted.set(true);
                } catch (ExecutionException e) {
                    throw switch (e.getCause()) {
                        case RuntimeException failure -> failure;
                        case Error failure -> throw failure;
                        case Throwable checked ->
                            new IllegalStateException("work throws no checked exceptions", checked);
                    };
                }
            }
        } finally {
            if (interrupted.get()) {
                Thread.currentThread().interrupt();
            }
        }
    }

    private void awaitEnd() {
        boolean interrupted = false;
        while (thread != null && thread.isAlive()) {
            try {
                thread.join();
            } catch (InterruptedException e) {
                interrupted = true;
            }
        }
        if (interrupted) {
            Thread.currentThread().interrupt();
        }
    }

    /** The caller's progress, cancelled also when the caller is interrupted. */
    private record Watched(Progress progress, AtomicBoolean interrupted) implements Progress {
        @Override
        public void advanced(String stage, long done, long total) {
            progress.advanced(stage, done, total);
        }

        @Override
        public void resumed(int groups) {
            progress.resumed(groups);
        }

        @Override
        public void journaled(int groups) {
            progress.journaled(groups);
        }

        @Override
        public boolean cancelled() {
            return interrupted.get() || progress.cancelled();
        }

        @Override
        public boolean cancelledWithin() {
            return interrupted.get() || progress.cancelledWithin();
        }
    }
}
