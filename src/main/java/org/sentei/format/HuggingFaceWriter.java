package org.sentei.format;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Set;
import java.util.TreeMap;
import java.util.function.LongConsumer;
import java.util.stream.Stream;
import org.sentei.model.Edit;
import org.sentei.model.ModelException;
import org.sentei.model.Site;
import org.sentei.tensor.DType;
import org.sentei.tensor.Tensor;

/**
 * Writes an edited copy of a Hugging Face folder.
 *
 * <p>File names, shards, headers and every tensor that is not edited keep their bytes. In an edited weight the pruned elements
 * become zero; the others keep their bits unless the edit has a new weight, which is rounded to the tensor's type. A bias is rounded to the type of the bias it replaces; a new one takes the
 * type of its weight and is appended to the weight's file. Where everything goes is settled before data are written, and
 * data pass through in chunks. For bitmask storage a file is written dense, then packed and removed, one after the other.
 */
public final class HuggingFaceWriter {

    /** An output file: its header, the data of the input file under edits, and what comes after them. */
    private record Layout(Safetensors file, ByteBuffer header, List<Tensor> appended) {}

    private final HuggingFaceFolder source;
    private final LongConsumer written;
    private final Map<String, Edit> edited = new HashMap<>();
    private final Map<String, Tensor> replaced = new HashMap<>();
    /** Biases the model did not have, by the file that holds their weights. */
    private final Map<String, List<Tensor>> added = new TreeMap<>();

    /** Bytes of dense weights that are written. */
    private long done;

    private HuggingFaceWriter(HuggingFaceFolder source, List<Edit> edits, LongConsumer written) {
        this.source = source;
        this.written = written;
        Set<String> touched = new HashSet<>();
        for (Edit edit : edits) {
            if (!touched.add(edit.site().weight())) {
                throw new IllegalArgumentException("tensor " + edit.site().weight() + " is edited twice");
            }
            addWeight(edit);
            if (edit.bias() != null) {
                if (!touched.add(edit.bias().name())) {
                    throw new IllegalArgumentException("tensor " + edit.bias().name() + " is edited twice");
                }
                addBias(edit);
            }
        }
    }

    /**
     * Writes the copy; the caller commits the folder.
     *
     * @param edits at most one for each tensor
     * @param configChanges members of config.json to set; without any, the file keeps its bytes
     * @param storage how the weights are to lie in their files; those of {@link Storage#BITMASK} stand for exactly the files
     *     that {@link Storage#DENSE} writes
     * @param written hears from time to time how many bytes of dense weights are done; may throw to end the work
     * @return what the user should know, such as files that still hold the weights as they were
     * @throws ModelException when an edit does not fit its tensors
     * @throws FormatException when a file of the source cannot be read or copied
     * @throws IOException when the output cannot be written, for example because the disk is full
     */
    public static List<String> write(
            HuggingFaceFolder source,
            List<Edit> edits,
            Map<String, ?> configChanges,
            Storage storage,
            OutputFolder output,
            LongConsumer written)
            throws IOException {
        checkApart(source, output);
        return new HuggingFaceWriter(source, edits, written).write(configChanges, storage, output.path());
    }

    /**
     * Refuses an output inside of the model's own folder, where the copy would become a part of what it copies.
     *
     * @throws FormatException when it is
     */
    public static void checkApart(HuggingFaceFolder source, OutputFolder output) throws IOException {
        if (output.path().toRealPath().startsWith(source.path().toRealPath())) {
            throw new FormatException("the output would lie inside of the model's own folder " + source.path()
                    + ": give a folder elsewhere");
        }
    }

    private List<String> write(Map<String, ?> configChanges, Storage storage, Path target) throws IOException {
        Map<String, Layout> layouts = new TreeMap<>();
        source.weights().forEach((name, file) -> layouts.put(name, layout(name, file)));
        for (Map.Entry<String, Layout> layout : layouts.entrySet()) {
            Path file = target.resolve(layout.getKey());
            switch (storage) {
                case DENSE -> writeWeights(layout.getValue(), file);
                case BITMASK -> {
                    Path dense = target.resolve(layout.getKey() + ".dense");
                    writeWeights(layout.getValue(), dense);
                    if (BitmaskFile.pack(dense, file)) {
                        Files.delete(dense);
                    } else {
                        Files.move(dense, file);
                    }
                }
            }
        }
        Set<String> written = new HashSet<>(layouts.keySet());
        if (!configChanges.isEmpty()) {
            Path config = source.path().resolve(HuggingFaceFolder.CONFIG);
            Files.write(
                    target.resolve(HuggingFaceFolder.CONFIG), JsonEdit.put(source.configJson(), config, configChanges));
            written.add(HuggingFaceFolder.CONFIG);
        }
        if (!added.isEmpty() && source.index().isPresent()) {
            Files.write(
                    target.resolve(HuggingFaceFolder.INDEX),
                    extendedIndex(source.index().get().totalSize()));
            written.add(HuggingFaceFolder.INDEX);
        }
        return copyOthers(written, target);
    }

    private void addWeight(Edit edit) {
        Site site = edit.site();
        Tensor weight = floating(site.weight());
        long[] shape =
                site.transposed() ? new long[] {site.cols(), site.rows()} : new long[] {site.rows(), site.cols()};
        if (!Arrays.equals(weight.shape().toArray(), shape)) {
            throw new ModelException("tensor " + site.weight() + " has shape " + weight.shape() + ", its site "
                    + Arrays.toString(shape) + ": the configuration does not belong to these weights");
        }
        edited.put(site.weight(), edit);
    }

    private void addBias(Edit edit) {
        String name = edit.bias().name();
        if (source.contains(name)) {
            Tensor old = floating(name);
            if (old.shape().elements() != edit.site().rows()) {
                throw new ModelException("bias " + name + " has " + old.shape().elements() + " elements, its site "
                        + edit.site().rows() + " outputs: the configuration does not belong to these weights");
            }
            replaced.put(name, edit.biasAs(old.dtype()));
        } else {
            DType dtype = source.tensor(edit.site().weight()).dtype();
            added.computeIfAbsent(fileOf(edit.site().weight()), file -> new ArrayList<>())
                    .add(edit.biasAs(dtype));
        }
    }

    private String fileOf(String tensor) {
        return source.index().map(index -> index.weightMap().get(tensor)).orElse(HuggingFaceFolder.SINGLE);
    }

    private Tensor floating(String name) {
        Tensor tensor = source.tensor(name);
        if (!tensor.dtype().isFloating()) {
            throw new ModelException("tensor " + name + " is " + tensor.dtype()
                    + ", only F64, F32, F16 and BF16 can be edited: leave its site out");
        }
        return tensor;
    }

    private Layout layout(String name, Safetensors file) {
        // wide types first, so that one aligned addition leaves the next one aligned
        List<Tensor> appended = added.getOrDefault(name, List.of()).stream()
                .sorted(Comparator.comparingInt(addition -> -addition.dtype().bytes()))
                .toList();
        byte[] header = appended.isEmpty() ? file.header() : extendedHeader(file, appended);
        return new Layout(file, ByteBuffer.wrap(header), appended);
    }

    private void writeWeights(Layout layout, Path target) throws IOException {
        Safetensors file = layout.file;
        try (FileChannel out = FileChannel.open(target, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
                Arena arena = Arena.ofConfined()) {
            MemorySegment chunk = arena.allocate(SafetensorsWriter.CHUNK_BYTES);
            SafetensorsWriter.writeHeader(out, layout.header);
            for (Safetensors.Entry entry : file.entriesByOffset()) {
                Edit edit = edited.get(entry.name());
                Tensor replacement = replaced.get(entry.name());
                if (replacement != null) {
                    SafetensorsWriter.writeFully(out, replacement.data().asByteBuffer());
                } else {
                    Tensor tensor = file.tensor(entry.name());
                    if (edit != null) {
                        writeEdited(edit, tensor, chunk, out);
                    } else {
                        SafetensorsWriter.copy(tensor.data(), 0, entry.bytes(), chunk, out);
                    }
                    tensor.release();
                }
                done += entry.bytes();
                written.accept(done);
            }
            for (Tensor addition : layout.appended) {
                SafetensorsWriter.writeFully(out, addition.data().asByteBuffer());
            }
        }
    }

    private static byte[] extendedHeader(Safetensors file, List<Tensor> additions) {
        Map<String, Object> members = new LinkedHashMap<>();
        long begin = file.dataBytes();
        for (Tensor addition : additions) {
            if (begin % addition.dtype().bytes() != 0) {
                throw new FormatException("no " + addition.dtype() + " bias can be added to " + file.file()
                        + ": its data end at the odd byte " + begin + "; turn the bias update off");
            }
            begin = SafetensorsWriter.addEntry(members, addition.name(), addition.dtype(), addition.shape(), begin);
        }
        byte[] header = JsonEdit.put(file.header(), file.file(), members);
        int length = header.length;
        while (header[length - 1] == ' ') {
            length--;
        }
        return SafetensorsWriter.padded(Arrays.copyOf(header, length));
    }

    private byte[] extendedIndex(OptionalLong totalSize) {
        Map<String, String> weightMap = new LinkedHashMap<>();
        long bytes = 0;
        for (Map.Entry<String, List<Tensor>> file : added.entrySet()) {
            for (Tensor addition : file.getValue()) {
                weightMap.put(addition.name(), file.getKey());
                bytes += addition.data().byteSize();
            }
        }
        Path path = source.path().resolve(HuggingFaceFolder.INDEX);
        byte[] index = JsonEdit.put(source.indexJson(), path, weightMap, "weight_map");
        if (totalSize.isPresent()) {
            index = JsonEdit.put(index, path, Map.of("total_size", totalSize.getAsLong() + bytes), "metadata");
        }
        return index;
    }

    private static void writeEdited(Edit edit, Tensor weight, MemorySegment chunk, FileChannel out) throws IOException {
        DType dtype = weight.dtype();
        long elements = weight.shape().elements();
        long step = chunk.byteSize() / dtype.bytes();
        for (long first = 0; first < elements; first += step) {
            long end = Math.min(elements, first + step);
            MemorySegment part = chunk.asSlice(0, dtype.bytesFor(end - first))
                    .copyFrom(weight.data().asSlice(dtype.bytesFor(first), dtype.bytesFor(end - first)));
            edit.applyTo(dtype, first, part);
            SafetensorsWriter.writeFully(out, part.asByteBuffer());
        }
    }

    private List<String> copyOthers(Set<String> written, Path target) throws IOException {
        List<String> warnings = new ArrayList<>();
        Path root = source.path().toRealPath();
        List<Path> files;
        try (Stream<Path> walk = Files.walk(root)) {
            files = walk.filter(file -> !file.equals(root)).toList();
        }
        for (Path file : files) {
            String name = root.relativize(file).toString();
            if (written.contains(name)) {
                continue;
            }
            Path real = HuggingFaceFolder.inside(root, name);
            if (Files.isRegularFile(real)) {
                Files.copy(real, target.resolve(name));
                if (HuggingFaceFolder.OTHER_WEIGHTS.test(file.getFileName().toString())
                        && !name.equals(HuggingFaceFolder.INDEX)) {
                    warnings.add(name + " was copied unchanged and may still hold the weights as they were:"
                            + " remove it if other tools would load it");
                }
            } else if (real.equals(file)) {
                if (!Files.isDirectory(file)) {
                    throw new FormatException(file + " is neither file nor folder: remove it from the model's folder");
                }
                Files.createDirectory(target.resolve(name));
            } else {
                throw new FormatException(file + " links to what is no file: replace it by what it links to");
            }
        }
        return List.copyOf(warnings);
    }
}
