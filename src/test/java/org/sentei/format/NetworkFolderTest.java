package org.sentei.format;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatCode;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;
import org.sentei.model.GraphNetwork;

/** Trained graph networks on disk. */
class NetworkFolderTest {
    private static final GraphNetwork.Nodes NETWORK = new GraphNetwork.Nodes(40, 8, 3);

    @TempDir
    private Path folder;

    static Stream<Arguments> networks() {
        return Stream.of(NETWORK, new GraphNetwork.Skeletons(5, 4, 2, 8, 16, 3))
                .flatMap(network -> Stream.of(Storage.values()).map(storage -> Arguments.of(network, storage)));
    }

    @ParameterizedTest
    @MethodSource("networks")
    void whatIsWrittenIsReadBitForBit(GraphNetwork network, Storage storage) throws IOException {
        List<float[]> parameters = parameters(network);
        NetworkFolder.write(folder, network, parameters, storage);
        assertThat(NetworkFolder.isOne(folder)).isTrue();
        NetworkFolder.Content content = NetworkFolder.read(folder);
        assertThat(content.network()).isEqualTo(network);
        for (int i = 0; i < parameters.size(); i++) {
            assertThat(content.parameters().get(i)).containsExactly(parameters.get(i));
        }
        try (Stream<Path> files = Files.list(folder)) {
            assertThat(files.map(file -> file.getFileName().toString()))
                    .containsExactlyInAnyOrder("config.json", "model.safetensors");
        }
    }

    @Test
    void aMaskTakesLessRoomThanZeros() throws IOException {
        Path packed = Files.createDirectory(folder.resolve("packed"));
        GraphNetwork.Nodes network = new GraphNetwork.Nodes(1000, 16, 7);
        NetworkFolder.write(folder, network, parameters(network), Storage.DENSE);
        NetworkFolder.write(packed, network, parameters(network), Storage.BITMASK);
        assertThat(Files.size(packed.resolve("model.safetensors")))
                .isLessThan(Files.size(folder.resolve("model.safetensors")) / 4);
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '`',
            value = {
                "{\"architecture\":\"node-gcn\",\"features\":41,\"hidden\":8,\"classes\":3}|asks for F32 41x8",
                "{\"architecture\":\"node-gcn\",\"features\":40,\"hidden\":8}|it has no integer classes",
                "{\"architecture\":\"node-gcn\",\"features\":40,\"hidden\":8,\"classes\":0}|classes goes from 1 to",
                "{\"architecture\":\"node-gcn\",\"features\":40,\"hidden\":8,\"classes\":4e9}|it has no integer classes",
                "{\"architecture\":\"node-gcn\",\"features\":2147483647,\"hidden\":2147483647,\"classes\":3}|more than the 268435456",
                "{\"architecture\":\"skeleton-gcn\",\"joints\":9,\"chunks\":9,\"heads\":2000000000,\"channels\":9}|filters",
                "{\"architecture\":\"skeleton-gcn\",\"joints\":9,\"chunks\":9,\"heads\":2000000000,\"channels\":9,\"filters\":9,"
                        + "\"classes\":9}|heads goes from 1 to 4096",
                "{\"architecture\":\"tree\",\"features\":40}|architecture tree is not known",
                "{\"features\":40}|names no architecture",
                "{\"architecture\":|it ends too early"
            })
    void configurationsThatDoNotFitAreRefused(String config, String message) throws IOException {
        NetworkFolder.write(folder, NETWORK, parameters(NETWORK), Storage.DENSE);
        Files.writeString(folder.resolve("config.json"), config);
        assertThatThrownBy(() -> NetworkFolder.read(folder))
                .isInstanceOf(FormatException.class)
                .hasMessageContaining(message);
    }

    @ParameterizedTest
    @MethodSource("networks")
    void damagedFoldersEndInOneKindOfError(GraphNetwork network, Storage storage) throws IOException {
        NetworkFolder.write(folder, network, parameters(network), storage);
        SplittableRandom random = new SplittableRandom(6);
        for (String name : List.of("config.json", "model.safetensors")) {
            Path file = folder.resolve(name);
            byte[] whole = Files.readAllBytes(file);
            for (int round = 0; round < 100; round++) {
                byte[] damaged = whole.clone();
                int most = round % 2 == 0 ? damaged.length : Math.min(600, damaged.length);
                damaged[random.nextInt(most)] = (byte) random.nextInt(256);
                Files.write(file, damaged);
                assertThatCode(() -> {
                            try {
                                NetworkFolder.read(folder);
                            } catch (FormatException expected) {
                                assertThat(expected.getMessage()).contains(folder.toString());
                            }
                        })
                        .doesNotThrowAnyException();
            }
            Files.write(file, whole);
        }
    }

    private static List<float[]> parameters(GraphNetwork network) {
        SplittableRandom random = new SplittableRandom(9);
        List<float[]> parameters = new ArrayList<>();
        for (GraphNetwork.Parameter parameter : network.parameters()) {
            float[] values = new float[parameter.count()];
            for (int i = 0; i < values.length; i++) {
                values[i] = random.nextInt(10) == 0 ? (float) random.nextGaussian() : 0;
            }
            parameters.add(values);
        }
        return parameters;
    }
}
