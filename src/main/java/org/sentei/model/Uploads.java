package org.sentei.model;

import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.Map;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Upload;
import org.sentei.tensor.Tensor;

/** Tensors on their way to the device before the layers that they belong to are loaded: all of them, or none. */
public final class Uploads implements AutoCloseable {
    private final Map<String, Upload> underway = new HashMap<>();
    private long bytes;

    private Uploads() {}

    /** No tensors: all are copied when they are loaded. */
    public static Uploads none() {
        return new Uploads();
    }

    /** Begins with these tensors, where the device copies beside ops and has memory free for all of them. */
    public static Uploads begin(Collection<String> names, TensorSource tensors, Backend backend) {
        Uploads uploads = new Uploads();
        if (!backend.copiesBeside()) {
            return uploads;
        }
        try {
            for (String name : new LinkedHashSet<>(names)) {
                Tensor tensor = tensors.tensor(name);
                Upload upload = backend.upload(tensor.data());
                uploads.underway.put(name, upload);
                uploads.bytes += tensor.data().byteSize();
                if (!upload.isUnderway()) {
                    uploads.close();
                    break;
                }
            }
            return uploads;
        } catch (RuntimeException e) {
            uploads.close();
            throw e;
        }
    }

    /** Whether there are tensors, and all of them are on their way; some may have given way to other memory. */
    public boolean areUnderway() {
        return !underway.isEmpty() && underway.values().stream().allMatch(Upload::isUnderway);
    }

    /** Bytes of the tensors. */
    public long bytes() {
        return bytes;
    }

    /** The upload of a tensor, which has begun before or begins now; the caller's own. */
    Upload of(Tensor tensor, Backend backend) {
        Upload begun = underway.remove(tensor.name());
        return begun == null ? backend.upload(tensor.data()) : begun;
    }

    /** Gives up what was not loaded; again, it does nothing. */
    @Override
    public void close() {
        underway.values().forEach(Upload::close);
        underway.clear();
    }
}
