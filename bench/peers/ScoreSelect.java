import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Scope;
import org.sentei.kernel.ScoreSelect;
import org.sentei.kernel.View;
import org.sentei.tensor.BitMask;
import org.sentei.tensor.DType;

/**
 * Our side of score_select.sh: one ScoreSelect op on one thread of the cpu backend, timed as a caller sees it. Included are
 * the scores, the selection and the bit mask, written whole; not included are the copies into and out of the backend.
 *
 * <p>Arguments: folder with weights.f32 and scale.f32, rows, columns, pruned a row, repetitions. Writes mask.i32 there and
 * prints one line of JSON.
 */
final class ScoreSelectPeer {
    private static final int WARM_UP = 3;

    public static void main(String[] args) throws Exception {
        Path folder = Path.of(args[0]);
        long rows = Long.parseLong(args[1]);
        long cols = Long.parseLong(args[2]);
        long prune = Long.parseLong(args[3]);
        int repetitions = Integer.parseInt(args[4]);
        try (Backend backend = Backends.find("cpu").open(new Backend.Options(0, 1));
                Scope scope = new Scope(backend);
                Arena arena = Arena.ofConfined()) {
            View weights = load(folder.resolve("weights.f32"), scope.matrix(rows, cols), arena, backend);
            View scale = load(folder.resolve("scale.f32"), scope.matrix(1, cols), arena, backend);
            View mask = scope.matrix(DType.I32, rows, BitMask.wordsPerRow(cols));
            ScoreSelect op = new ScoreSelect(weights, scale, mask, new ScoreSelect.Selection.Row(prune));
            List<String> milliseconds = new ArrayList<>();
            for (int i = -WARM_UP; i < repetitions; i++) {
                long start = System.nanoTime();
                backend.run(op);
                backend.sync();
                long time = System.nanoTime() - start;
                if (i >= 0) {
                    milliseconds.add(Double.toString(time / 1e6));
                }
            }
            MemorySegment words = arena.allocate(mask.bytes());
            backend.copyOut(mask, words);
            Files.write(folder.resolve("mask.i32"), words.toArray(ValueLayout.JAVA_BYTE));
            System.out.println("{\"isa\": \"" + backend.info().isa() + "\", \"milliseconds\": " + milliseconds + "}");
        }
    }

    private static View load(Path file, View view, Arena arena, Backend backend) throws Exception {
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            backend.copyIn(channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size(), arena), view);
        }
        return view;
    }
}
