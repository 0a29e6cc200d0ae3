package org.sentei.format;

import java.util.Arrays;
import java.util.SplittableRandom;
import org.sentei.model.LabelledExamples.Split;
import org.sentei.model.SkeletonSequences;

/**
 * Synthetic skeleton actions: a stick figure of 15 joints whose limbs follow one of eight parametric movements, drawn from a
 * seed. Body, pace, strength and direction differ from sequence to sequence, the other limbs idle about, and joints are measured
 * with noise. Nobody ever moved like that: it stands in where no recorded skeletons are at hand.
 */
public final class SyntheticSkeletons {
    /** What {@code --data} is called with. */
    public static final String NAME = "synthetic-skeletons";

    /** The seed of the data that go by the name. */
    public static final long SEED = 2305_19343;

    private static final int JOINTS = 15;
    private static final int TRAIN = 40;
    private static final int VALID = 25;
    private static final int TEST = 50;
    private static final int FEWEST_FRAMES = 24;
    private static final int MOST_FRAMES = 64;

    /** Standard deviations of the idle limbs' angles, of a joint's measured place in every frame, and of its place all along. */
    private static final double IDLE = 0.3;

    private static final double NOISE = 0.05;
    private static final double OFFSET = 0.05;

    /** What a figure does. Angles are in radians, 0 with arms and legs down. */
    private enum Action {
        RAISE_LEFT,
        RAISE_RIGHT,
        WAVE_LEFT,
        WAVE_RIGHT,
        PUSH,
        KICK_LEFT,
        KICK_RIGHT,
        BOW
    }

    /** How a limb stands: lifted, to the side rather than forwards, bent at its middle joint. */
    private static final class Limb {
        private double lift;
        private double aside;
        private double bend;
    }

    private final SplittableRandom random;

    private SyntheticSkeletons(SplittableRandom random) {
        this.random = random;
    }

    /** The sequences of a seed: as many of every action; some to train, to validate and to test. */
    public static SkeletonSequences draw(long seed) {
        Action[] actions = Action.values();
        int each = TRAIN + VALID + TEST;
        int count = actions.length * each;
        int[] labels = new int[count];
        Split[] splits = new Split[count];
        int[] starts = new int[count + 1];
        float[] places = new float[count * MOST_FRAMES * JOINTS * SkeletonSequences.DIMENSIONS];
        SplittableRandom source = new SplittableRandom(seed);
        for (int i = 0; i < count; i++) {
            labels[i] = i % actions.length;
            int turn = i / actions.length;
            splits[i] = turn < TRAIN ? Split.TRAIN : turn < TRAIN + VALID ? Split.VALID : Split.TEST;
            SyntheticSkeletons drawn = new SyntheticSkeletons(source.split());
            int frames = drawn.random.nextInt(FEWEST_FRAMES, MOST_FRAMES + 1);
            drawn.move(actions[labels[i]], frames, starts[i], places);
            starts[i + 1] = starts[i] + frames;
        }
        return new SkeletonSequences(
                JOINTS,
                starts,
                Arrays.copyOf(places, starts[count] * JOINTS * SkeletonSequences.DIMENSIONS),
                labels,
                splits);
    }

    private void move(Action action, int frames, int first, float[] places) {
        double size = random.nextDouble(0.8, 1.2);
        double turn = random.nextGaussian(0, 0.5);
        double begin = random.nextDouble(0, 0.4);
        double length = random.nextDouble(0.4, 0.6);
        double strength = random.nextDouble(0.6, 1.1);
        double beats = random.nextDouble(1.5, 4);
        double[] phases = random.doubles(16, 0, 2 * Math.PI).toArray();
        double[] paces = random.doubles(16, 0.5, 2).toArray();
        double[] away =
                random.doubles(16).map(ignored -> random.nextGaussian(0, IDLE)).toArray();
        double[] offsets = random.doubles(JOINTS * SkeletonSequences.DIMENSIONS)
                .map(ignored -> random.nextGaussian(0, OFFSET))
                .toArray();
        for (int frame = 0; frame < frames; frame++) {
            double time = (double) frame / frames;
            double moved = (time - begin) / length;
            // up and down again, once
            double bell = moved > 0 && moved < 1 ? strength * Math.sin(Math.PI * moved) : 0;
            double beat = Math.sin(2 * Math.PI * beats * moved);
            double[] idle = new double[16];
            for (int i = 0; i < idle.length; i++) {
                idle[i] = away[i] * Math.sin(2 * Math.PI * paces[i] * time + phases[i]);
            }
            Limb[] limbs = {new Limb(), new Limb(), new Limb(), new Limb()};
            for (int i = 0; i < limbs.length; i++) {
                limbs[i].lift = Math.abs(idle[3 * i]);
                limbs[i].aside = 0.5 + idle[3 * i + 1];
                limbs[i].bend = Math.abs(idle[3 * i + 2]);
            }
            double lean = 0.3 * idle[12];
            switch (action) {
                case RAISE_LEFT -> raise(limbs[0], bell);
                case RAISE_RIGHT -> raise(limbs[1], bell);
                case WAVE_LEFT -> wave(limbs[0], bell, beat);
                case WAVE_RIGHT -> wave(limbs[1], bell, beat);
                case PUSH -> {
                    push(limbs[0], bell);
                    push(limbs[1], bell);
                }
                case KICK_LEFT -> limbs[2].lift += 1.2 * bell;
                case KICK_RIGHT -> limbs[3].lift += 1.2 * bell;
                case BOW -> lean += 0.9 * bell;
            }
            double[] pose = pose(limbs, lean);
            for (int joint = 0; joint < JOINTS; joint++) {
                double x = pose[3 * joint] * Math.cos(turn) + pose[3 * joint + 2] * Math.sin(turn);
                double z = pose[3 * joint + 2] * Math.cos(turn) - pose[3 * joint] * Math.sin(turn);
                int at = ((first + frame) * JOINTS + joint) * SkeletonSequences.DIMENSIONS;
                places[at] = measured(size * x, offsets[3 * joint]);
                places[at + 1] = measured(size * pose[3 * joint + 1], offsets[3 * joint + 1]);
                places[at + 2] = measured(size * z, offsets[3 * joint + 2]);
            }
        }
    }

    private float measured(double place, double offset) {
        return (float) (place + offset + random.nextGaussian(0, NOISE));
    }

    private static void raise(Limb arm, double bell) {
        arm.lift += 2.4 * bell;
    }

    private static void wave(Limb arm, double bell, double beat) {
        arm.lift += bell;
        arm.aside += 0.6 * bell * beat;
        arm.bend += 1.4 * bell;
    }

    private static void push(Limb arm, double bell) {
        arm.lift += 1.4 * bell;
        arm.aside -= 0.5 * bell;
    }

    /**
     * Places of the joints in metres from the hips, x to the left, y up, z forwards: head, neck, torso, then shoulder, elbow and
     * hand of the left and of the right, then hip, knee and foot.
     */
    private static double[] pose(Limb[] limbs, double lean) {
        double[] pose = new double[JOINTS * SkeletonSequences.DIMENSIONS];
        double up = Math.cos(lean);
        double forwards = Math.sin(lean);
        put(pose, 0, 0, 0.75 * up, 0.75 * forwards);
        put(pose, 1, 0, 0.5 * up, 0.5 * forwards);
        put(pose, 2, 0, 0.25 * up, 0.25 * forwards);
        for (int i = 0; i < limbs.length; i++) {
            boolean arm = i < 2;
            int side = i % 2 == 0 ? 1 : -1;
            double[] at = arm ? new double[] {0.2 * side, 0.45 * up, 0.45 * forwards} : new double[] {0.1 * side, 0, 0};
            double length = arm ? 0.28 : 0.42;
            // An elbow bends upwards, a knee down again.
            double bend = arm ? limbs[i].bend : -limbs[i].bend;
            put(pose, 3 + 3 * i, at[0], at[1], at[2]);
            for (int part = 1; part <= 2; part++) {
                double lift = limbs[i].lift + (part == 2 ? bend : 0);
                double out = arm ? limbs[i].aside : 0.2 * limbs[i].aside;
                at[0] += side * length * Math.sin(lift) * Math.sin(out);
                at[1] -= length * Math.cos(lift);
                at[2] += length * Math.sin(lift) * Math.cos(out);
                put(pose, 3 + 3 * i + part, at[0], at[1], at[2]);
            }
        }
        return pose;
    }

    private static void put(double[] pose, int joint, double x, double y, double z) {
        pose[3 * joint] = x;
        pose[3 * joint + 1] = y;
        pose[3 * joint + 2] = z;
    }
}
