package org.sentei.backend.gpu;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.Op;
import org.sentei.kernel.OpCases;
import org.sentei.kernel.UserKernel;

/** The kernels as source, for drivers that compile them. */
public final class KernelSource {
    /** What {@link Launch#file} is of a kernel that a user has brought. */
    public static final String USERS = "user's kernel";

    private KernelSource() {}

    /** A kernel file behind the header that defines its language. */
    public static String of(String file) {
        return read("portable.h") + read("common/" + file + ".inc");
    }

    /**
     * A user's kernels behind the same header.
     *
     * @throws DeviceException COMPILE when they define no entry of their op
     */
    public static String of(UserKernel kernel, String backend) {
        if (entries(kernel).isEmpty()) {
            throw new DeviceException(
                    backend,
                    "compiling " + kernel.name(),
                    0,
                    "it defines none of the entries of " + kernel.op() + ", which are "
                            + String.join(", ", entries(kernel.op())) + "; kernels/README.md has their signatures",
                    DeviceException.Kind.COMPILE);
        }
        return read("portable.h") + "#line 1\n" + kernel.source();
    }

    /** The entries of its op that a user's kernels define. */
    static Set<String> entries(UserKernel kernel) {
        return entries(kernel.op()).stream()
                .filter(entry -> Pattern.compile("\\b" + entry + "\\b")
                        .matcher(kernel.source())
                        .find())
                .collect(Collectors.toCollection(TreeSet::new));
    }

    /** The entries that cases of an op run. */
    private static Set<String> entries(String op) {
        return OpCases.all().stream()
                .filter(opCase -> Op.stem(opCase.op()).equals(op))
                .flatMap(opCase -> LaunchTable.of(OpCases.unbacked(opCase), new GpuBackend.Unplaced(), 0).stream())
                .filter(launch -> launch.file().equals(op))
                .map(Launch::entry)
                .collect(Collectors.toCollection(TreeSet::new));
    }

    private static String read(String name) {
        try (InputStream in = KernelSource.class.getResourceAsStream("kernels/" + name)) {
            if (in == null) {
                throw new IllegalStateException("this build of Sentei lacks the kernel file " + name);
            }
            return new String(in.readAllBytes(), StandardCharsets.UTF_8);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
