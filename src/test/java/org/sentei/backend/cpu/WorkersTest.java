package org.sentei.backend.cpu;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicLongArray;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class WorkersTest {
    @ParameterizedTest
    @ValueSource(ints = {1, 2, 5})
    void everyTileRunsOnce(int threads) throws Workers.TileException {
        try (Workers workers = new Workers(threads)) {
            for (int tiles : new int[] {0, 1, 2, 3, 100}) {
                AtomicLongArray runs = new AtomicLongArray(tiles);
                workers.run(tiles, index -> runs.incrementAndGet((int) index));
                for (int i = 0; i < tiles; i++) {
                    assertThat(runs.get(i)).isEqualTo(1);
                }
            }
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 3})
    void whatATileThrowsSurfacesAndTheWorkersStayUsable(int threads) throws Workers.TileException {
        try (Workers workers = new Workers(threads)) {
            assertThatThrownBy(() -> workers.run(50, index -> {
                        if (index == 7) {
                            throw new StackOverflowError("tile 7");
                        }
                    }))
                    .isInstanceOf(Workers.TileException.class)
                    .hasRootCauseInstanceOf(StackOverflowError.class);

            Set<Long> seen = ConcurrentHashMap.newKeySet();
            workers.run(20, seen::add);
            assertThat(seen).hasSize(20);
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {1, 2, 3})
    void ofSeveralFailuresThatOfTheLowestTileSurfaces(int threads) {
        try (Workers workers = new Workers(threads)) {
            for (int round = 0; round < 200; round++) {
                assertThatThrownBy(() -> workers.run(31, index -> {
                            if (index % 7 == 5) {
                                throw new IllegalStateException("tile " + index);
                            }
                        }))
                        .hasRootCauseMessage("tile 5");
            }
        }
    }

    @Test
    void anInterruptIsKeptForTheCallerAndEndsNothing() throws Workers.TileException {
        try (Workers workers = new Workers(2)) {
            Set<Long> seen = ConcurrentHashMap.newKeySet();
            Thread.currentThread().interrupt();
            workers.run(20, index -> {
                Thread.onSpinWait();
                seen.add(index);
            });
            assertThat(Thread.interrupted()).isTrue();
            assertThat(seen).hasSize(20);
        }
    }
}
