package org.sentei.backend.cpu;

import java.util.stream.Stream;
import org.sentei.kernel.Backend;

/** The instruction-set tiers that tests can run on this machine. */
final class Tiers {
    private Tiers() {}

    static Stream<String> ofThisMachine() {
        return NativeLibrary.ISA_NAMES.stream().filter(Tiers::isHere);
    }

    private static boolean isHere(String tier) {
        try (Backend backend = NativeProvider.open(new Backend.Options(0, 1), tier)) {
            return backend.info().isa().equals(tier);
        }
    }
}
