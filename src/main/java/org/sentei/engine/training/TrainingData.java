package org.sentei.engine.training;

import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.IntStream;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.format.FormatException;
import org.sentei.format.GraphFolder;
import org.sentei.format.SbuFolder;
import org.sentei.format.Sha256;
import org.sentei.format.SkeletonTable;
import org.sentei.format.SyntheticSkeletons;
import org.sentei.format.WordNetFolder;
import org.sentei.model.GraphNetwork;
import org.sentei.model.LabelledExamples;
import org.sentei.model.LabelledExamples.Split;
import org.sentei.model.LabelledGraph;
import org.sentei.model.SkeletonSequences;
import org.sentei.train.Differentiable;
import org.sentei.train.Torch;

/** What a network is trained on, and which network fits. */
sealed interface TrainingData {
    /** The examples. */
    LabelledExamples examples();

    /**
     * These data with a network of a recipe's sizes.
     *
     * @throws RecipeException when the sizes are for data of another kind
     */
    Differentiable with(TrainingRecipe.Network sizes);

    /** As the report has it. */
    TrainingReport.Data described();

    /** Adds all that a network sees. */
    void hash(Sha256 hash);

    /**
     * Reads data of whatever kind they are.
     *
     * @throws FormatException when they are of none, or damaged
     */
    static TrainingData read(Path data) {
        if (GraphFolder.isOne(data)) {
            return new Graph(data.toString(), GraphFolder.read(data));
        }
        if (WordNetFolder.isOne(data)) {
            return new Graph(data.toString(), WordNetFolder.read(data));
        }
        if (SbuFolder.isOne(data)) {
            return new Sequences(data.toString(), false, SbuFolder.read(data));
        }
        if (Files.isRegularFile(data)) {
            return new Sequences(data.toString(), false, SkeletonTable.read(data));
        }
        if (data.toString().equals(SyntheticSkeletons.NAME)) {
            return new Sequences(SyntheticSkeletons.NAME, true, SyntheticSkeletons.draw(SyntheticSkeletons.SEED));
        }
        throw new FormatException("data " + data + ": it is neither a graph, which is a folder of nodes.csv, edges.csv"
                + " and features.csv[.gz] or of WordNet's data.noun, nor sequences of skeletons, which are one CSV file, a folder of the SBU"
                + " Interaction data, or the name " + SyntheticSkeletons.NAME + "; give one of these");
    }

    /** The hash of what a network learns from. */
    default String sha256() {
        Sha256 hash = new Sha256();
        hash(hash);
        for (Split split : Split.values()) {
            int[] members = examples().members(split);
            int[] labels = IntStream.of(members).map(examples()::label).toArray();
            hash.add(split.name().getBytes(StandardCharsets.US_ASCII))
                    .add(MemorySegment.ofArray(members))
                    .add(MemorySegment.ofArray(labels));
        }
        return hash.hex();
    }

    /** Nodes of a graph. */
    record Graph(String source, LabelledGraph examples) implements TrainingData {
        @Override
        public Differentiable with(TrainingRecipe.Network sizes) {
            if (!(sizes instanceof TrainingRecipe.Nodes nodes)) {
                throw new RecipeException("recipe: its network is for sequences of skeletons, but " + source
                        + " is a graph; take one whose network has hidden, for example pmp-90");
            }
            return Torch.nodes(
                    new GraphNetwork.Nodes(examples.features(), nodes.hidden(), examples.classes()), examples);
        }

        @Override
        public TrainingReport.Data described() {
            int isolated = (int) IntStream.range(0, examples.nodes())
                    .filter(node -> examples.degree(node) == 1)
                    .count();
            return new TrainingReport.Graph(
                    source, examples.nodes(), examples.features(), examples.classes(), isolated);
        }

        @Override
        public void hash(Sha256 hash) {
            hash.add(MemorySegment.ofArray(examples.starts()))
                    .add(MemorySegment.ofArray(examples.neighbours()))
                    .add(MemorySegment.ofArray(examples.featureStarts()))
                    .add(MemorySegment.ofArray(examples.featureColumns()));
        }
    }

    /** Sequences of skeletons. */
    record Sequences(String source, boolean synthetic, SkeletonSequences examples) implements TrainingData {
        @Override
        public Differentiable with(TrainingRecipe.Network sizes) {
            if (!(sizes instanceof TrainingRecipe.Skeletons skeletons)) {
                throw new RecipeException("recipe: its network is for the nodes of a graph, but " + source
                        + " holds sequences of skeletons; take one whose network has chunks, heads, channels and"
                        + " filters, for example pmp-skeletons-90");
            }
            GraphNetwork.Skeletons network = new GraphNetwork.Skeletons(
                    examples.joints(),
                    skeletons.chunks(),
                    skeletons.heads(),
                    skeletons.channels(),
                    skeletons.filters(),
                    examples.classes());
            return Torch.skeletons(network, examples);
        }

        @Override
        public TrainingReport.Data described() {
            return new TrainingReport.Sequences(
                    source, synthetic, examples.count(), examples.joints(), examples.classes());
        }

        @Override
        public void hash(Sha256 hash) {
            for (int sequence = 0; sequence < examples.count(); sequence++) {
                hash.add(MemorySegment.ofArray(examples.places(sequence)));
            }
        }
    }
}
