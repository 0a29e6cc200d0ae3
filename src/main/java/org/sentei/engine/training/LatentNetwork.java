package org.sentei.engine.training;

import java.io.IOException;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.sentei.format.FormatException;
import org.sentei.format.NetworkFolder;
import org.sentei.format.Storage;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Scope;
import org.sentei.method.Connections;
import org.sentei.method.LatentWeights;
import org.sentei.model.GraphNetwork;
import org.sentei.model.GraphNetwork.Parameter;
import org.sentei.tensor.BitMask;

/**
 * Latent weights that serve many rates (2312.17615): the network of a rate has the largest of them. In an output folder they are a
 * network of their own, {@value #FOLDER}, whose matrices are latent.
 *
 * @param parameters in the network's order: latent weights of prunable ones, the others as they are
 */
record LatentNetwork(GraphNetwork network, List<float[]> parameters, PmpSettings settings, Storage storage) {
    private static final String FOLDER = "latents";

    LatentNetwork {
        parameters = List.copyOf(parameters);
    }

    /**
     * Those of a training.
     *
     * @param trained of all prunable parameters in one array, then the other parameters
     */
    static LatentNetwork of(GraphNetwork network, List<float[]> trained, PmpSettings settings, Storage storage) {
        List<float[]> parameters = new ArrayList<>();
        int first = 0;
        int other = 1;
        for (Parameter parameter : network.parameters()) {
            if (parameter.prunable()) {
                float[] latents = new float[parameter.count()];
                System.arraycopy(trained.getFirst(), first, latents, 0, latents.length);
                parameters.add(latents);
                first += latents.length;
            } else {
                parameters.add(trained.get(other++));
            }
        }
        return new LatentNetwork(network, parameters, settings, storage);
    }

    /**
     * Reads what {@link #write} wrote, and the recipe beside it.
     *
     * @throws FormatException when it is missing or damaged
     */
    static LatentNetwork read(Path folder) {
        Path latents = folder.resolve(FOLDER);
        if (!Files.isDirectory(latents)) {
            throw new FormatException(folder + " has no " + FOLDER
                    + ": its network was trained for one rate alone; train one with a from_rate below its rate");
        }
        TrainingRecipe recipe =
                TrainingRecipe.load(folder.resolve("recipe.yaml").toString());
        NetworkFolder.Content content = NetworkFolder.read(latents);
        return new LatentNetwork(content.network(), content.parameters(), recipe.settings(), recipe.storage());
    }

    /** Writes a folder into an output folder. */
    void write(Path folder) throws IOException {
        NetworkFolder.write(folder.resolve(FOLDER), network, parameters, Storage.DENSE);
    }

    /** Weights that could go. */
    long prunable() {
        return prunableParameters().stream().mapToLong(Parameter::count).sum();
    }

    private List<Parameter> prunableParameters() {
        return network.parameters().stream().filter(Parameter::prunable).toList();
    }

    /** Whether a rate is one that was trained for. */
    List<String> warnings(BigDecimal rate) {
        return rate.compareTo(settings.fromRate()) < 0 || rate.compareTo(settings.rate()) > 0
                ? List.of("rate " + rate + " is outside of " + settings.fromRate() + " to " + settings.rate()
                        + ", which the latent weights were trained for")
                : List.of();
    }

    /** The parameters of the network of a rate: exactly round(rate N) of its prunable weights are 0. */
    List<float[]> at(BigDecimal rate, Backend backend) {
        float[] pooled = new float[Math.toIntExact(prunable())];
        int first = 0;
        for (int i = 0; i < parameters.size(); i++) {
            if (network.parameters().get(i).prunable()) {
                System.arraycopy(parameters.get(i), 0, pooled, first, parameters.get(i).length);
                first += parameters.get(i).length;
            }
        }
        BitMask mask = mask(pooled, PmpSettings.pruned(rate, pooled.length), backend);
        List<float[]> weights = new ArrayList<>();
        first = 0;
        for (int i = 0; i < parameters.size(); i++) {
            Parameter parameter = network.parameters().get(i);
            if (!parameter.prunable()) {
                weights.add(parameters.get(i));
                continue;
            }
            float[] kept = new float[parameter.count()];
            for (int j = 0; j < kept.length; j++) {
                kept[j] = mask.get(0, first + j) ? 0 : settings.scale(parameter) * pooled[first + j];
            }
            weights.add(kept);
            first += kept.length;
        }
        return weights;
    }

    private BitMask mask(float[] pooled, long prune, Backend backend) {
        if (settings.connected()) {
            return new Connections(network).smallest(pooled, prune);
        }
        try (Scope scope = new Scope(backend)) {
            LatentWeights latents = new LatentWeights(
                    scope,
                    prunableParameters().stream()
                            .map(parameter -> new LatentWeights.Part(parameter.count(), settings.scale(parameter)))
                            .toList());
            latents.set(pooled);
            return latents.smallest(prune);
        }
    }
}
