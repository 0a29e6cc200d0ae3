package org.sentei.backend.cuda;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.util.HashMap;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.sentei.kernel.DeviceException;
import org.sentei.kernel.MemoryBudget;

/** What the pool asks of a driver, and what it counts. */
class MemoryPoolTest {
    /** A driver with so many bytes. */
    private static final class Driver implements MemoryPool.Source {
        private final Map<Long, Long> blocks = new HashMap<>();
        private final long capacity;
        private long last;

        Driver(long capacity) {
            this.capacity = capacity;
        }

        long used() {
            return blocks.values().stream().mapToLong(Long::longValue).sum();
        }

        @Override
        public long allocate(long bytes) {
            if (used() + bytes > capacity) {
                throw new DeviceException("test", "allocating", 0, "full", DeviceException.Kind.OUT_OF_MEMORY);
            }
            blocks.put(++last, bytes);
            return last;
        }

        @Override
        public void free(long handle) {
            assertThat(blocks.remove(handle)).isNotNull();
        }
    }

    private final Driver driver = new Driver(1000);
    private final MemoryBudget budget = new MemoryBudget("test", 800);
    private final MemoryPool pool = new MemoryPool(driver, budget, 500);

    @Test
    void whatIsFreedIsReusedForTheSameSizeTheOldestFirst() {
        long first = pool.allocate(100);
        long second = pool.allocate(100);
        long other = pool.allocate(60);
        pool.free(second);
        pool.free(other);
        pool.free(first);

        assertThat(budget.used()).isEqualTo(260);
        assertThat(pool.allocate(100)).isEqualTo(second);
        assertThat(pool.allocate(100)).isEqualTo(first);
        assertThat(pool.allocate(100)).isNotIn(first, second, other);
        assertThat(budget.used()).isEqualTo(360);
        assertThat(driver.used()).isEqualTo(360);
    }

    @Test
    void whatIsKeptGoesBeforeTheBudgetOrTheDeviceIsExceeded() {
        pool.free(pool.allocate(300));
        pool.free(pool.allocate(200));
        assertThat(driver.used()).isEqualTo(500);

        pool.allocate(600); // of the budget's 800
        assertThat(driver.used()).isEqualTo(800);
        assertThatThrownBy(() -> pool.allocate(201))
                .isInstanceOf(DeviceException.class)
                .hasMessageContaining("600 of the 800 bytes");
        assertThat(driver.used()).isEqualTo(600);

        Driver small = new Driver(500);
        MemoryBudget wide = new MemoryBudget("test", MemoryBudget.UNLIMITED);
        MemoryPool tight = new MemoryPool(small, wide, 500);
        tight.free(tight.allocate(400));
        tight.allocate(450);
        assertThat(wide.used()).isEqualTo(450);
        assertThatThrownBy(() -> tight.allocate(51)).hasMessageContaining("full");
        assertThat(wide.used()).isEqualTo(450);
    }

    @Test
    void noMoreIsKeptThanMayBe() {
        long[] blocks = {pool.allocate(200), pool.allocate(210), pool.allocate(220)};
        for (long block : blocks) {
            pool.free(block);
        }
        assertThat(driver.blocks).containsOnlyKeys(blocks[1], blocks[2]);
        pool.clear();
        assertThat(driver.used()).isZero();
        assertThat(budget.used()).isZero();
    }
}
