package org.sentei.model.onnx;

import ai.onnxruntime.OrtEnvironment;
import java.io.IOException;
import java.net.URL;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.function.Supplier;
import org.sentei.kernel.DeviceException;
import org.sentei.platform.LibraryCache;
import org.sentei.platform.SystemProperties;

/**
 * ONNX Runtime itself, which may be absent. Ask for it before the first use of {@link OnnxSession}, whose class does not load
 * without it.
 *
 * <p>Its own loader unpacks its libraries into a folder of {@code java.io.tmpdir} until the process ends, and then fails to
 * remove the folder, or everything when the process is killed. Here, on Linux, they are loaded from {@link LibraryCache},
 * unless {@code onnxruntime.native.path} is set, or the jar brings libraries that are loaded later.
 */
public final class OnnxRuntimeLibrary {
    private static final String BACKEND = "onnxruntime";
    private static final String PATH = "onnxruntime.native.path";
    private static final String LOADED_LATER = "onnxruntime_providers_shared";
    private static final List<String> LIBRARIES = List.of("onnxruntime", "onnxruntime4j_jni");

    private OnnxRuntimeLibrary() {}

    /** Whether ONNX Runtime loads, or has; {@link #require} says why not. */
    public static boolean isAvailable() {
        return Loaded.FAILURE.isEmpty();
    }

    /**
     * Loads ONNX Runtime unless it is loaded already.
     *
     * @throws DeviceException UNSUPPORTED when it is not on the class or module path, or the system does not load it
     */
    public static void require() {
        if (!Loaded.FAILURE.isEmpty()) {
            throw new DeviceException(
                    BACKEND,
                    "loading ONNX Runtime",
                    0,
                    Loaded.FAILURE
                            + "; running an ONNX graph needs com.microsoft.onnxruntime:onnxruntime on the class or"
                            + " module path, a supported system, and a file system that allows execution",
                    DeviceException.Kind.UNSUPPORTED);
        }
    }

    /**
     * Version of ONNX Runtime.
     *
     * @throws DeviceException as {@link #require}
     */
    public static String version() {
        require();
        return OrtEnvironment.getEnvironment().getVersion();
    }

    /** Enough for the longest command line that Linux takes; pages that nobody touches cost nothing. */
    private static final long STACK_BYTES = 1L << 29;

    /**
     * ONNX Runtime 1.29 matches the process's command line against a pattern when its environment is made, and recurses for
     * every character: 7 kB of class path overflow the stack of 1 MiB that a thread has by default.
     *
     * @param work may not need the class that waits for it to be initialized
     */
    private static <T> T onLargeStack(Supplier<T> work) {
        FutureTask<T> task = new FutureTask<>(work::get);
        Thread thread = new Thread(null, task, "sentei-onnxruntime", STACK_BYTES);
        thread.start();
        boolean interrupted = false;
        try {
            while (true) {
                try {
                    return task.get();
                } catch (InterruptedException e) {
                    interrupted = true;
                } catch (ExecutionException e) {
                    switch (e.getCause()) {
                        case RuntimeException failure -> throw failure;
                        case Error failure -> throw failure;
                        default -> throw new IllegalStateException(e.getCause());
                    }
                }
            }
        } finally {
            if (interrupted) {
                Thread.currentThread().interrupt();
            }
        }
    }

    /** What became of the one attempt that ONNX Runtime makes in a process. */
    private static final class Loaded {
        /** Why it did not load; empty when it did. */
        static final String FAILURE = load();

        private static String load() {
            try {
                if (System.getProperty(PATH) == null && isPlainLinux()) {
                    loadPrivateCopies();
                } else {
                    onLargeStack(OrtEnvironment::getEnvironment);
                }
                return "";
            } catch (IOException e) {
                return e.getMessage();
            } catch (RuntimeException | LinkageError e) {
                Throwable cause = e;
                while (cause.getCause() != null) {
                    cause = cause.getCause();
                }
                return cause.toString();
            }
        }

        private static boolean isPlainLinux() {
            return System.getProperty("os.name").equals("Linux") && resource(LOADED_LATER) == null;
        }

        private static URL resource(String library) {
            String arch = System.getProperty("os.arch").equals("amd64") ? "x64" : System.getProperty("os.arch");
            return OrtEnvironment.class.getResource(
                    "/ai/onnxruntime/native/linux-" + arch + "/" + System.mapLibraryName(library));
        }

        /** The system property is read once, while loading; whoever loads another copy later finds it as it was. */
        private static void loadPrivateCopies() throws IOException {
            Map<String, URL> libraries = new HashMap<>();
            for (String library : LIBRARIES) {
                URL resource = resource(library);
                if (resource == null) {
                    throw new IOException("the jar has no " + System.mapLibraryName(library) + " for "
                            + System.getProperty("os.arch"));
                }
                libraries.put(System.mapLibraryName(library), resource);
            }
            String folder = LibraryCache.ofUser().extract(libraries).toString();
            SystemProperties.during(Map.of(PATH, folder), () -> onLargeStack(OrtEnvironment::getEnvironment));
        }
    }
}
