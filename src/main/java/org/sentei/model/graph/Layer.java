package org.sentei.model.graph;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;

/**
 * One operator applied to values of a graph.
 *
 * @param name what recipes match and reports print; unique in its graph
 * @param domain empty for ONNX's own operators
 * @param operator ONNX's name, for example {@code Conv}
 * @param inputs names of values, empty for an optional input that is left out
 * @param outputs names of values, empty for an optional output that nobody reads
 * @param captures values that nested graphs read
 */
public record Layer(
        String name,
        String domain,
        String operator,
        List<String> inputs,
        List<String> outputs,
        Map<String, Attribute> attributes,
        List<String> captures) {
    /** Copies lists and attributes. */
    public Layer {
        inputs = List.copyOf(inputs);
        outputs = List.copyOf(outputs);
        attributes = Collections.unmodifiableMap(new LinkedHashMap<>(attributes));
        captures = List.copyOf(captures);
    }

    /** A layer of ONNX's own operators, its attributes by name: files do not depend on the order of a map. */
    public static Layer of(
            String name, String operator, List<String> inputs, String output, Map<String, Attribute> attributes) {
        return new Layer(name, "", operator, inputs, List.of(output), new TreeMap<>(attributes), List.of());
    }

    /** Whether this is an operator of ONNX's own with that name. */
    public boolean is(String name) {
        return operator.equals(name) && domain.isEmpty();
    }

    /** The value at an input; empty where it is left out. */
    public String input(int index) {
        return index < inputs.size() ? inputs.get(index) : "";
    }

    /** The first output. */
    public String output() {
        return outputs.getFirst();
    }

    /** A whole number, or what stands for one that is not given. */
    public long whole(String attribute, long otherwise) {
        return attributes.get(attribute) instanceof Attribute.Whole(long value) ? value : otherwise;
    }

    /** A floating number, or what stands for one that is not given. */
    public float number(String attribute, float otherwise) {
        return attributes.get(attribute) instanceof Attribute.Decimal(float value) ? value : otherwise;
    }

    /** A text, or what stands for one that is not given. */
    public String text(String attribute, String otherwise) {
        return attributes.get(attribute) instanceof Attribute.Text(String value) ? value : otherwise;
    }

    /** Whole numbers; empty when they are not given. */
    public List<Long> wholes(String attribute) {
        return attributes.get(attribute) instanceof Attribute.Wholes(List<Long> values) ? values : List.of();
    }

    /** The same layer over other values. */
    public Layer with(List<String> otherInputs, List<String> otherOutputs) {
        return new Layer(name, domain, operator, otherInputs, otherOutputs, attributes, captures);
    }

    /** The same layer with one input replaced, and those before it left out where there are none. */
    public Layer withInput(int index, String value) {
        List<String> changed = new ArrayList<>(inputs);
        while (changed.size() <= index) {
            changed.add("");
        }
        changed.set(index, value);
        return with(changed, outputs);
    }

    /** The same layer making another value. */
    public Layer withOutput(String value) {
        List<String> changed = new ArrayList<>(outputs);
        changed.set(0, value);
        return with(inputs, changed);
    }
}
