package org.sentei.format;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import ai.djl.huggingface.tokenizers.jni.LibUtils;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.net.URL;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.locks.ReadWriteLock;
import java.util.concurrent.locks.ReentrantReadWriteLock;
import org.sentei.platform.LibraryCache;
import org.sentei.platform.SystemProperties;

/**
 * Text to token ids by a {@code tokenizer.json}.
 *
 * <p>Texts are encoded whole: padding and truncation are off whatever the file says. May be used from any thread.
 */
public final class TextTokenizer implements AutoCloseable {
    private static final int MAX_FILE_BYTES = 64 << 20;

    private final Path file;
    private final HuggingFaceTokenizer tokenizer;
    /** The native side crashes on a tokenizer that was closed: encoding holds the read lock, closing the write lock. */
    private final ReadWriteLock use = new ReentrantReadWriteLock();

    private TextTokenizer(Path file, HuggingFaceTokenizer tokenizer) {
        this.file = file;
        this.tokenizer = tokenizer;
    }

    /** Whether the native tokenizer library loads, or has; {@link #open} says why not. */
    public static boolean isAvailable() {
        return Library.FAILURE.isEmpty();
    }

    /**
     * Opens a tokenizer.
     *
     * @param file a {@code tokenizer.json}
     * @throws FormatException when it is absent or damaged, or the native tokenizer library does not load
     */
    public static TextTokenizer open(Path file) {
        byte[] json = TokenizerFile.checked(Json.bytes(file, MAX_FILE_BYTES), file);
        if (!Library.FAILURE.isEmpty()) {
            throw new FormatException(file + " cannot be used, the tokenizer library does not load (" + Library.FAILURE
                    + "): it needs ai.djl.huggingface:tokenizers on the class path, a supported system, and a file"
                    + " system that allows execution");
        }
        Map<String, String> whole = Map.of("padding", "false", "truncation", "false");
        try {
            return new TextTokenizer(
                    file,
                    Library.confined(
                            Map.of(), () -> HuggingFaceTokenizer.newInstance(new ByteArrayInputStream(json), whole)));
        } catch (IOException | RuntimeException e) {
            throw new FormatException(
                    file + " is no usable tokenizer (" + e.getMessage() + "): fetch the tokenizer.json of the model",
                    e);
        }
    }

    /**
     * The ids of a text of any length.
     *
     * @param addSpecialTokens whether to add what the model's own template asks for, such as {@code [CLS]} and {@code [SEP]}
     * @throws FormatException when the tokenizer fails on the text
     * @throws IllegalStateException when it is closed
     */
    public int[] encode(String text, boolean addSpecialTokens) {
        return encode(List.of(text), addSpecialTokens).getFirst();
    }

    /** The ids of each text, as {@link #encode(String, boolean)} gives them: rows of different lengths. */
    public List<int[]> encode(List<String> texts, boolean addSpecialTokens) {
        use.readLock().lock();
        try {
            if (tokenizer.isReleased()) {
                throw new IllegalStateException("tokenizer " + file + " is closed");
            }
            List<int[]> all = new ArrayList<>(texts.size());
            for (String text : texts) {
                all.add(ids(text, addSpecialTokens));
            }
            return all;
        } finally {
            use.readLock().unlock();
        }
    }

    @Override
    public void close() {
        use.writeLock().lock();
        try {
            tokenizer.close();
        } finally {
            use.writeLock().unlock();
        }
    }

    private int[] ids(String text, boolean addSpecialTokens) {
        long[] wide;
        try {
            wide = tokenizer.encode(text, addSpecialTokens, false).getIds();
        } catch (RuntimeException e) {
            throw new FormatException(
                    file + " cannot encode the text (" + e.getMessage() + "): fetch the tokenizer.json of the model",
                    e);
        }
        int[] ids = new int[wide.length];
        for (int i = 0; i < ids.length; i++) {
            ids[i] = (int) wide[i];
            if (ids[i] != wide[i]) {
                throw new FormatException(
                        file + " gives the token id " + wide[i] + ": fetch the tokenizer.json of the model");
            }
        }
        return ids;
    }

    /**
     * DJL, which takes its switches from system properties. They are as we need them during our calls alone: how an embedder
     * uses DJL is not ours to say.
     */
    private static final class Library {
        /** Where DJL looks first for its library, property or environment. */
        private static final String PATH = "RUST_LIBRARY_PATH";
        /** Why the native library did not load; empty when it did. */
        static final String FAILURE = load();

        private static String load() {
            try {
                URL resource = resource();
                if (System.getenv(PATH) == null && System.getProperty(PATH) == null && resource != null) {
                    Path copy = LibraryCache.ofUser().extract(resource, System.mapLibraryName("tokenizers"));
                    loadFrom(Map.of(PATH, copy.toString()));
                } else {
                    loadFrom(Map.of());
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

        /** By itself DJL unpacks its library into a folder of its own in the home directory, elsewhere than on Linux. */
        private static URL resource() {
            String arch = System.getProperty("os.arch").equals("amd64") ? "x86_64" : System.getProperty("os.arch");
            return System.getProperty("os.name").equals("Linux")
                    ? LibUtils.class.getResource(
                            "/native/lib/linux-" + arch + "/cpu/" + System.mapLibraryName("tokenizers"))
                    : null;
        }

        private static void loadFrom(Map<String, String> settings) throws IOException {
            confined(settings, () -> {
                LibUtils.checkStatus();
                return null;
            });
        }

        /** Calls DJL without downloads and without telemetry. */
        private static <T> T confined(Map<String, String> settings, SystemProperties.Call<T, IOException> call)
                throws IOException {
            Map<String, String> all = new HashMap<>(settings);
            all.put("ai.djl.offline", "true");
            all.put("OPT_OUT_TRACKING", "true");
            return SystemProperties.during(all, call);
        }
    }
}
