package org.sentei.backend.reference;

import java.util.Optional;
import org.sentei.kernel.Backend;

/** Provides the {@link ReferenceBackend}, which is available everywhere. */
public final class ReferenceProvider implements Backend.Provider {
    @Override
    public String name() {
        return ReferenceBackend.NAME;
    }

    @Override
    public int rank() {
        return 0;
    }

    @Override
    public Optional<String> unavailableBecause() {
        return Optional.empty();
    }

    @Override
    public Backend open(Backend.Options options) {
        return new ReferenceBackend(options.memoryBytes());
    }
}
