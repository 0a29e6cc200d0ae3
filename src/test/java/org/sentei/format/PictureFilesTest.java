package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.awt.image.BufferedImage;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Random;
import javax.imageio.ImageIO;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Images from files, held against the JDK's own reader. */
class PictureFilesTest {
    @TempDir
    Path folder;

    @ParameterizedTest
    @ValueSource(
            ints = {
                BufferedImage.TYPE_BYTE_GRAY,
                BufferedImage.TYPE_3BYTE_BGR,
                BufferedImage.TYPE_INT_ARGB,
                BufferedImage.TYPE_BYTE_INDEXED
            })
    void pixelsAreThoseOfTheJdk(int type) throws IOException {
        BufferedImage image = new BufferedImage(37, 23, type);
        Random random = new Random(type);
        for (int y = 0; y < 23; y++) {
            for (int x = 0; x < 37; x++) {
                image.setRGB(x, y, 0xff000000 | ((x * 6) << 16) | ((y * 11) << 8) | random.nextInt(256));
            }
        }
        Path file = folder.resolve("image.png");
        ImageIO.write(image, "png", file.toFile());
        Picture picture = PngFile.read(file);

        assertThat(picture.width()).isEqualTo(37);
        assertThat(picture.height()).isEqualTo(23);
        for (int y = 0; y < 23; y++) {
            for (int x = 0; x < 37; x++) {
                if (type == BufferedImage.TYPE_BYTE_GRAY) {
                    assertThat(picture.at(x, y, 0)).isEqualTo(image.getRaster().getSample(x, y, 0));
                } else {
                    int rgb = (picture.at(x, y, 0) << 16) | (picture.at(x, y, 1) << 8) | picture.at(x, y, 2);
                    assertThat(rgb).isEqualTo(image.getRGB(x, y) & 0xffffff);
                }
            }
        }
    }

    @Test
    void damagedImagesAreAnErrorWithTheFilesName() throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        ImageIO.write(new BufferedImage(40, 30, BufferedImage.TYPE_3BYTE_BGR), "png", out);
        byte[] good = out.toByteArray();
        Path file = folder.resolve("bad.png");
        Random random = new Random(1);
        for (int trial = 0; trial < 400; trial++) {
            byte[] bad = trial % 2 == 0 ? Arrays.copyOf(good, random.nextInt(good.length)) : good.clone();
            if (bad.length > 0) {
                bad[random.nextInt(bad.length)] ^= (byte) (1 << random.nextInt(8));
            }
            Files.write(file, bad);
            try {
                assertThat(PngFile.read(file).width()).isPositive();
            } catch (FormatException e) {
                assertThat(e).hasMessageContaining("bad.png");
            }
        }
        ByteBuffer.wrap(good).putInt(16, Integer.MAX_VALUE);
        Files.write(file, good);
        assertThatThrownBy(() -> PngFile.read(file))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("pixels");
    }

    @Test
    void idxFilesThatLieAboutTheirSizeAreRefused() throws IOException {
        Path file = folder.resolve("some-images-idx3-ubyte");
        ByteBuffer header =
                ByteBuffer.allocate(16 + 4).putInt(0x803).putInt(1).putInt(2).putInt(2);
        Files.write(file, header.array());
        assertThat(IdxFile.images(file)).hasSize(1);
        Files.write(file, header.putInt(4, 2).array());
        assertThatThrownBy(() -> IdxFile.images(file))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("truncated");
        for (int size : new int[] {0, -1, Integer.MAX_VALUE}) {
            Files.write(file, header.putInt(8, size).array());
            assertThatThrownBy(() -> IdxFile.images(file))
                    .isInstanceOf(FormatException.class)
                    .hasMessageContaining("size of " + size);
        }
        assertThatThrownBy(() -> IdxFile.labels(file))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining("dimensions");
    }
}
