package org.sentei.kernel;

import java.util.ArrayDeque;
import java.util.Deque;
import org.sentei.tensor.DType;

/**
 * Lexical owner of device memory: what is allocated here is freed when the scope closes, last in first out.
 *
 * <p>Confined to the thread that opened it. A child must close before its parent. Closing twice does nothing; when
 * several buffers fail to close, the first failure carries the others as suppressed.
 */
public final class Scope implements AutoCloseable {
    private final Backend backend;
    private final Scope parent;
    private final Thread owner = Thread.currentThread();
    private final Deque<Buffer> buffers = new ArrayDeque<>();
    private int openChildren;
    private boolean closed;

    /** A scope without parent. */
    public Scope(Backend backend) {
        this(backend, null);
    }

    private Scope(Backend backend, Scope parent) {
        this.backend = backend;
        this.parent = parent;
    }

    /** Whose memory it hands out. */
    public Backend backend() {
        return backend;
    }

    /** A scope inside this one. */
    public Scope child() {
        check();
        openChildren++;
        return new Scope(backend, this);
    }

    /** A packed matrix with unspecified content. */
    public View matrix(DType dtype, long rows, long cols) {
        check();
        return own(backend.allocate(dtype.bytesFor(Math.multiplyExact(rows, cols))), dtype, rows, cols);
    }

    /** A packed matrix of zeros. */
    public View zeros(DType dtype, long rows, long cols) {
        check();
        return own(backend.allocateZeros(dtype.bytesFor(Math.multiplyExact(rows, cols))), dtype, rows, cols);
    }

    /** A packed matrix that an upload has brought, or brings now. */
    public View uploaded(Upload upload, DType dtype, long rows, long cols) {
        check();
        return own(upload.take(), dtype, rows, cols);
    }

    private View own(Buffer buffer, DType dtype, long rows, long cols) {
        buffers.push(buffer);
        return View.of(buffer, dtype, rows, cols);
    }

    /** A packed fp32 matrix with unspecified content. */
    public View matrix(long rows, long cols) {
        return matrix(DType.F32, rows, cols);
    }

    @Override
    public void close() {
        if (closed) {
            return;
        }
        checkThread();
        if (openChildren > 0) {
            throw new IllegalStateException("scope closed while " + openChildren + " of its children are open");
        }
        closed = true;
        RuntimeException failure = null;
        while (!buffers.isEmpty()) {
            try {
                buffers.pop().close();
            } catch (RuntimeException e) {
                if (failure == null) {
                    failure = e;
                } else {
                    failure.addSuppressed(e);
                }
            }
        }
        if (parent != null) {
            parent.openChildren--;
        }
        if (failure != null) {
            throw failure;
        }
    }

    private void check() {
        checkThread();
        if (closed) {
            throw new IllegalStateException("scope is closed");
        }
    }

    private void checkThread() {
        if (!Thread.currentThread().equals(owner)) {
            throw new WrongThreadException("scope belongs to " + owner + ", used by " + Thread.currentThread());
        }
    }
}
