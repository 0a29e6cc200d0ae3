import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.regex.Pattern;
import java.util.spi.ToolProvider;
import java.util.stream.Stream;
import java.util.zip.CRC32;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;
import java.util.zip.ZipOutputStream;

/**
 * Makes the pack for linux-x86-64 of what {@code mvn package} has built: a folder with everything that Sentei needs to run,
 * Java included, and the same as {@code .tar.xz}. Prints both sizes; fails when the archive is above its limit.
 *
 * <p>Arguments: project directory, version, time for the archives' entries in ISO format.
 */
final class Pack {
    private static final long LIMIT = 45_000_000;

    /** What training needs and nothing else, more than twice the limit; without it {@code train} says what is missing. */
    private static final String PYTORCH = "pytorch-";

    /** What the class path asks of Java; JMH takes the management modules. */
    private static final String MODULES =
            "java.base,java.logging,java.management,java.xml,jdk.management,jdk.unsupported";

    /** Entries of dependencies' jars that are for other platforms, or of OpenBLAS that only its own Java API needs. */
    private static final Pattern FOREIGN = Pattern.compile("ai/onnxruntime/native/(?!linux-x64/).+"
            + "|native/lib/(?!linux-x86_64/)[^/]+/.+"
            + "|com/sun/jna/(?!linux-x86-64/)[a-z0-9]+-[a-z0-9-]+/.+"
            + "|org/bytedeco/openblas/linux-x86_64/(libjni.+|libgcc_s.+|include/.+)"
            + "|nlp/.+");

    private static final Pattern LICENCE =
            Pattern.compile("(?i)(.*/)?(LICEN[CS]E|NOTICE|ThirdPartyNotices|COPYING)[^/]*(?<!\\.class)");

    private static final List<String> LOADERS =
            List.of("/usr/lib/x86_64-linux-gnu/libOpenCL.so.1", "/usr/lib64/libOpenCL.so.1", "/usr/lib/libOpenCL.so.1");

    private final Path project;
    private final Path built;
    private final Path pack;
    private final long time;

    private Pack(Path project, String version, long time) {
        this.project = project;
        this.built = project.resolve("target");
        this.pack = built.resolve("dist").resolve("sentei-" + version + "-linux-x86-64");
        this.time = time;
    }

    public static void main(String[] arguments) throws IOException, InterruptedException {
        String version = arguments[1];
        Pack pack = new Pack(
                Path.of(arguments[0]),
                version,
                java.time.Instant.parse(arguments[2]).toEpochMilli());
        pack.fill(version);
        pack.archive(arguments[2]);
    }

    private void fill(String version) throws IOException {
        if (Files.exists(pack)) {
            delete(pack);
        }
        Files.createDirectories(pack.resolve("legal"));
        link();
        repack(built.resolve("sentei-" + version + ".jar"), pack.resolve("sentei-" + version + ".jar"));
        for (Path jar : list(built.resolve("lib"))) {
            if (!jar.getFileName().toString().startsWith(PYTORCH)) {
                repack(jar, pack.resolve("lib").resolve(jar.getFileName()));
            }
        }
        for (Path jar : list(built.resolve("bench/lib"))) {
            repack(jar, pack.resolve("bench/lib").resolve(jar.getFileName()));
        }
        copy(built.resolve("bench/classes"), pack.resolve("bench/classes"));
        copy(project.resolve("bench/peers"), pack.resolve("bench/peers"));
        for (String script : List.of("gpu.sh", "launch.sh")) {
            copy(project.resolve("bench").resolve(script), pack.resolve("bench").resolve(script));
        }
        copy(project.resolve("bin"), pack.resolve("bin"));
        copy(project.resolve("LICENSE"), pack.resolve("LICENSE"));
        copy(project.resolve("src/dist/NOTICE"), pack.resolve("NOTICE"));
        copy(project.resolve("src/dist/README.md"), pack.resolve("README.md"));
        copy(
                project.resolve("src/main/resources/org/sentei/cli/demo/WORDNET-LICENSE"),
                pack.resolve("legal/WORDNET-LICENSE"));
        copy(project.resolve("src/test/resources/models/austen-llama"), pack.resolve("models/austen-llama"));
        for (String text : List.of("calibration.txt", "heldout.txt")) {
            copy(
                    project.resolve("src/test/resources/text").resolve(text),
                    pack.resolve("models/austen-llama").resolve(text));
        }
        opencl();
    }

    private void link() {
        ToolProvider jlink = ToolProvider.findFirst("jlink")
                .orElseThrow(() -> new IllegalStateException("this Java has no jlink: build with a whole JDK"));
        int code = jlink.run(
                System.out,
                System.err,
                "--add-modules",
                MODULES,
                "--output",
                pack.resolve("runtime").toString(),
                "--strip-debug",
                "--no-header-files",
                "--no-man-pages");
        if (code != 0) {
            throw new IllegalStateException("jlink failed: see above");
        }
    }

    /** The jar without what other platforms need, its entries stored, since xz compresses all of them better together. */
    private void repack(Path source, Path target) throws IOException {
        Files.createDirectories(target.getParent());
        try (ZipFile from = new ZipFile(source.toFile());
                ZipOutputStream to = new ZipOutputStream(Files.newOutputStream(target))) {
            to.setMethod(ZipOutputStream.STORED);
            for (ZipEntry entry : from.stream().toList()) {
                String name = entry.getName();
                if (FOREIGN.matcher(name).matches()) {
                    continue;
                }
                byte[] content;
                try (InputStream in = from.getInputStream(entry)) {
                    content = in.readAllBytes();
                }
                CRC32 checksum = new CRC32();
                checksum.update(content);
                ZipEntry stored = new ZipEntry(name);
                stored.setSize(content.length);
                stored.setCrc(checksum.getValue());
                stored.setTime(time);
                to.putNextEntry(stored);
                to.write(content);
                to.closeEntry();
                if (LICENCE.matcher(name).matches()) {
                    Path file =
                            pack.resolve("legal").resolve(source.getFileName()).resolve(name);
                    Files.createDirectories(file.getParent());
                    Files.write(file, content);
                }
            }
        }
    }

    /** OpenCL's loader, where the machine that builds has it, and the entry that leads it to NVIDIA's driver. */
    private void opencl() throws IOException {
        Path vendors = Files.createDirectories(pack.resolve("opencl/vendors"));
        Files.writeString(vendors.resolve("nvidia.icd"), "libnvidia-opencl.so.1\n");
        for (String loader : LOADERS) {
            if (Files.exists(Path.of(loader))) {
                Files.copy(Path.of(loader).toRealPath(), pack.resolve("opencl/libOpenCL.so.1"));
                Path licence = Path.of("/usr/share/doc/ocl-icd-libopencl1/copyright");
                if (Files.exists(licence)) {
                    Files.copy(licence, pack.resolve("legal/ocl-icd"));
                }
                return;
            }
        }
        System.out.println("OpenCL's loader is not on this machine and not in the pack; ocl-icd-libopencl1 has it.");
    }

    private void archive(String timestamp) throws IOException, InterruptedException {
        Path file = pack.resolveSibling(pack.getFileName() + ".tar.xz");
        ProcessBuilder tar = new ProcessBuilder(
                        "tar",
                        "--create",
                        "--xz",
                        "--sort=name",
                        "--owner=0",
                        "--group=0",
                        "--numeric-owner",
                        "--mtime=" + timestamp,
                        "--file=" + file,
                        "--directory=" + pack.getParent(),
                        pack.getFileName().toString())
                .inheritIO();
        tar.environment().put("XZ_OPT", "-9");
        if (tar.start().waitFor() != 0) {
            throw new IllegalStateException("tar failed: see above; it needs GNU tar and xz");
        }
        long folder;
        try (Stream<Path> files = Files.walk(pack)) {
            folder = files.filter(Files::isRegularFile)
                    .mapToLong(one -> one.toFile().length())
                    .sum();
        }
        System.out.printf("%s: %.1f MB%n%s: %.1f MB%n", pack, folder / 1e6, file, Files.size(file) / 1e6);
        if (Files.size(file) > LIMIT) {
            throw new IllegalStateException(file + " is larger than " + LIMIT / 1_000_000 + " MB");
        }
    }

    private static List<Path> list(Path folder) throws IOException {
        try (Stream<Path> files = Files.list(folder)) {
            return files.sorted().toList();
        }
    }

    /** Copies a file or a folder, permissions included. */
    private static void copy(Path from, Path to) throws IOException {
        List<Path> all;
        try (Stream<Path> files = Files.walk(from)) {
            all = new ArrayList<>(files.filter(Files::isRegularFile)
                    .filter(file -> !file.toString().contains("__pycache__"))
                    .toList());
        }
        for (Path file : all) {
            Path target = to.resolve(from.relativize(file).toString());
            Files.createDirectories((file.equals(from) ? to : target).getParent());
            Files.copy(file, file.equals(from) ? to : target, StandardCopyOption.COPY_ATTRIBUTES);
        }
    }

    private static void delete(Path folder) throws IOException {
        try (Stream<Path> files = Files.walk(folder)) {
            for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
                Files.delete(file);
            }
        }
    }
}
