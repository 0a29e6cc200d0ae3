import java.awt.Color;
import java.awt.Font;
import java.awt.FontMetrics;
import java.awt.Graphics2D;
import java.awt.RenderingHints;
import java.awt.image.BufferedImage;
import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import javax.imageio.ImageIO;

/**
 * Renders lines of text with exact labels: a folder of PNG files and labels.csv, for the text-line networks of PP-OCR.
 *
 * <pre>java bench/data/RenderLines.java recogniser|direction TEXT.txt OUT COUNT SEED</pre>
 *
 * <p>Words of the text, one of four DejaVu faces, dark on light, Gaussian noise of sigma 25. The label is the line, or for
 * the direction 1 where the image is turned by 180 degrees and 0 where not.
 */
public final class RenderLines {
    private static final String[] FACES = {"DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono", "DejaVu Sans Condensed"};
    private static final int HEIGHT = 48;
    private static final double SIGMA = 25;

    private RenderLines() {}

    public static void main(String[] args) throws Exception {
        boolean direction = args[0].equals("direction");
        List<String> words = new ArrayList<>();
        for (String word : Files.readString(Path.of(args[1])).split("\\s+")) {
            String plain = word.replaceAll("[^A-Za-z0-9.,;:?!'-]", "");
            if (!plain.isEmpty()) {
                words.add(plain);
            }
        }
        Path out = Files.createDirectories(Path.of(args[2]));
        int count = Integer.parseInt(args[3]);
        Random random = new Random(Long.parseLong(args[4]));
        StringBuilder labels = new StringBuilder("file,label\n");
        for (int i = 0; i < count; i++) {
            int longest = direction ? 6 + random.nextInt(9) : 8 + random.nextInt(15);
            int at = random.nextInt(words.size() - 10);
            StringBuilder line = new StringBuilder(words.get(at));
            while (line.length() + 1 + words.get(at + 1).length() <= longest) {
                line.append(' ').append(words.get(++at));
            }
            boolean turned = direction && random.nextBoolean();
            String face = FACES[random.nextInt(FACES.length)];
            ImageIO.write(render(line.toString(), face, turned, random), "png", new File(out.toFile(), i + ".png"));
            String label = direction ? turned ? "1" : "0" : "\"" + line + "\"";
            labels.append(i).append(".png,").append(label).append('\n');
        }
        Files.writeString(out.resolve("labels.csv"), labels);
    }

    private static BufferedImage render(String line, String face, boolean turned, Random random) {
        int size = 26 + random.nextInt(8);
        BufferedImage probe = new BufferedImage(1, 1, BufferedImage.TYPE_INT_RGB);
        FontMetrics metrics = probe.createGraphics().getFontMetrics(new Font(face, Font.PLAIN, size));
        int width = Math.max(HEIGHT, metrics.stringWidth(line) + 16);
        BufferedImage image = new BufferedImage(width, HEIGHT, BufferedImage.TYPE_INT_RGB);
        Graphics2D graphics = image.createGraphics();
        graphics.setRenderingHint(RenderingHints.KEY_TEXT_ANTIALIASING, RenderingHints.VALUE_TEXT_ANTIALIAS_ON);
        int paper = 200 + random.nextInt(56);
        int ink = random.nextInt(90);
        graphics.setColor(new Color(paper, paper, paper));
        graphics.fillRect(0, 0, width, HEIGHT);
        if (turned) {
            graphics.rotate(Math.PI, width / 2.0, HEIGHT / 2.0);
        }
        graphics.setColor(new Color(ink, ink, ink));
        graphics.setFont(new Font(face, Font.PLAIN, size));
        graphics.drawString(line, 8, (HEIGHT - metrics.getHeight()) / 2 + metrics.getAscent());
        graphics.dispose();
        for (int y = 0; y < HEIGHT; y++) {
            for (int x = 0; x < width; x++) {
                int rgb = image.getRGB(x, y);
                int noisy = 0;
                for (int shift = 0; shift <= 16; shift += 8) {
                    long value = Math.round((rgb >> shift & 0xff) + SIGMA * random.nextGaussian());
                    noisy |= Math.clamp(value, 0, 255) << shift;
                }
                image.setRGB(x, y, noisy);
            }
        }
        return image;
    }
}
