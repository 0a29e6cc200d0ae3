package org.sentei.engine.training;

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Random;
import java.util.function.IntUnaryOperator;

/** Idx files of drawn images: the class is the corner that is bright. */
final class DrawnImages {
    static final int SIZE = 8;
    static final int CLASSES = 3;

    private DrawnImages() {}

    static Path write(Path folder, int train, int test) throws IOException {
        return write(folder, train, test, i -> i % CLASSES);
    }

    static Path write(Path folder, int train, int test, IntUnaryOperator label) throws IOException {
        Files.createDirectories(folder);
        write(folder, "train", train, label, new Random(1));
        write(folder, "t10k", test, i -> i % CLASSES, new Random(2));
        return folder;
    }

    static void write(Path folder, String part, int count, IntUnaryOperator label, Random random) throws IOException {
        ByteArrayOutputStream images = new ByteArrayOutputStream();
        ByteArrayOutputStream labels = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(images);
        out.writeInt(0x803);
        out.writeInt(count);
        out.writeInt(SIZE);
        out.writeInt(SIZE);
        new DataOutputStream(labels).writeInt(0x801);
        new DataOutputStream(labels).writeInt(count);
        for (int i = 0; i < count; i++) {
            int corner = label.applyAsInt(i) % 4;
            for (int y = 0; y < SIZE; y++) {
                for (int x = 0; x < SIZE; x++) {
                    boolean bright = (y >= SIZE / 2 ? 2 : 0) + (x >= SIZE / 2 ? 1 : 0) == corner;
                    out.writeByte(random.nextInt(120) + (bright ? 100 : 0));
                }
            }
            labels.write(label.applyAsInt(i));
        }
        Files.write(folder.resolve(part + "-images-idx3-ubyte"), images.toByteArray());
        Files.write(folder.resolve(part + "-labels-idx1-ubyte"), labels.toByteArray());
    }
}
