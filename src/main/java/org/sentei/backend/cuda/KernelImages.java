package org.sentei.backend.cuda;

import java.io.IOException;
import java.io.InputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.HexFormat;
import java.util.List;
import java.util.Optional;
import java.util.Properties;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.sentei.kernel.DeviceException;

/**
 * The kernels that {@code kernels/build.sh} compiled into this build: a fatbin for each file of {@code kernels/common}, and a
 * list with their SHA-256, the targets and the toolkit's version.
 */
final class KernelImages {
    private static final String FOLDER = "org/sentei/backend/cuda/kernels/";
    private static final String LIST = "kernels.properties";

    private static final String TOOLKIT = "toolkit";
    private static final Pattern RELEASE = Pattern.compile("(\\d{1,4})\\.(\\d)\\d*");
    private static final String TARGETS = "targets";
    private static final Pattern TARGET = Pattern.compile("(sm|compute)_\\d{2,4}[af]?");

    private final ClassLoader resources;
    private final Properties list;
    private final int toolkit;
    private final List<String> targets;

    private KernelImages(ClassLoader resources, Properties list) {
        this.resources = resources;
        this.list = list;
        Matcher release = RELEASE.matcher(list.getProperty(TOOLKIT, ""));
        targets = List.of(list.getProperty(TARGETS, "").split(" "));
        if (!release.matches()
                || !targets.stream().allMatch(target -> TARGET.matcher(target).matches())) {
            throw damaged(LIST, "it does not say which toolkit made them for which targets");
        }
        toolkit = 1000 * Integer.parseInt(release.group(1)) + 10 * Integer.parseInt(release.group(2));
    }

    /**
     * Those of a class path, or empty when it has none.
     *
     * @throws DeviceException COMPILE when their list is damaged
     */
    static Optional<KernelImages> of(ClassLoader resources) {
        try (InputStream in = resources.getResourceAsStream(FOLDER + LIST)) {
            if (in == null) {
                return Optional.empty();
            }
            Properties list = new Properties();
            list.load(in);
            return Optional.of(new KernelImages(resources, list));
        } catch (IOException | IllegalArgumentException e) { // the latter for a broken escape
            throw unreadable(LIST, e);
        }
    }

    /** Release of the toolkit that made them as the driver counts: 13.0 is 13000. */
    int toolkit() {
        return toolkit;
    }

    /** Compute capabilities they are made for, for example {@code sm_80} for code and {@code compute_80} for PTX. */
    List<String> targets() {
        return targets;
    }

    /**
     * Whether a GPU can run them: code of its own major version that is not newer, code for exactly it (with an {@code a}), or
     * PTX that is not newer.
     *
     * @param capability for example 90 for 9.0
     */
    boolean serve(int capability) {
        return targets.stream().anyMatch(target -> serves(target, capability));
    }

    private static boolean serves(String target, int capability) {
        int of = Integer.parseInt(target.replaceAll("[^0-9]", ""));
        if (target.endsWith("a")) {
            return of == capability && target.startsWith("sm_");
        }
        return of <= capability && (target.startsWith("compute_") || of / 10 == capability / 10);
    }

    /**
     * The image of a kernel file.
     *
     * @throws DeviceException COMPILE when it is missing, or not what was built
     */
    byte[] image(String file) {
        byte[] image;
        try (InputStream in = resources.getResourceAsStream(FOLDER + file + ".fatbin")) {
            if (in == null || list.getProperty(file) == null) {
                throw damaged(file, "it is not in this build");
            }
            image = in.readAllBytes();
        } catch (IOException e) {
            throw unreadable(file, e);
        }
        String found;
        try {
            found = HexFormat.of()
                    .formatHex(MessageDigest.getInstance("SHA-256").digest(image));
        } catch (NoSuchAlgorithmException e) {
            throw new IllegalStateException(e); // every Java platform has it
        }
        if (!found.equals(list.getProperty(file))) {
            throw damaged(file, "their SHA-256 is " + found + " instead of " + list.getProperty(file));
        }
        return image;
    }

    /** Kernel files that are listed. */
    List<String> files() {
        return list.stringPropertyNames().stream()
                .filter(name -> !List.of(TOOLKIT, TARGETS).contains(name))
                .sorted()
                .toList();
    }

    private static DeviceException unreadable(String file, Exception cause) {
        return new DeviceException(
                CudaDriver.NAME,
                "reading the kernels of " + file,
                cause + "; build or install Sentei again",
                DeviceException.Kind.COMPILE,
                cause);
    }

    private static DeviceException damaged(String file, String fact) {
        return new DeviceException(
                CudaDriver.NAME,
                "reading the kernels of " + file,
                0,
                fact + "; build or install Sentei again",
                DeviceException.Kind.COMPILE);
    }
}
