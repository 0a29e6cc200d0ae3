package org.sentei.backend.cpu;

import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import org.sentei.kernel.View;

/**
 * Stands between a backend and its kernels: tests let the kernels run elsewhere, on processors that the Java machine does
 * not run on. It learns of all memory that a kernel may be given before the kernel is called.
 */
interface Interceptor {
    /** Lets everything pass. */
    Interceptor NONE = new Interceptor() {
        @Override
        public MethodHandle bound(String kernel, String parameters, MethodHandle handle) {
            return handle;
        }

        @Override
        public void uses(View view) {}

        @Override
        public void uses(MemorySegment scratch) {}
    };

    /**
     * What is called in place of a kernel: a handle of the same type.
     *
     * @param kernel name without prefix, for example {@code cast_f32_f16}
     * @param parameters as {@code sentei_parameters} declares them
     */
    MethodHandle bound(String kernel, String parameters, MethodHandle handle);

    /** The op that runs next hands this view to kernels. */
    void uses(View view);

    /** The op that runs hands this memory of its own to kernels. */
    void uses(MemorySegment scratch);
}
