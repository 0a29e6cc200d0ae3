package org.sentei.fuzz;

import com.google.protobuf.ByteString;
import com.google.protobuf.CodedInputStream;
import com.google.protobuf.CodedOutputStream;
import com.google.protobuf.Descriptors.Descriptor;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.UnknownFieldSet;
import com.google.protobuf.WireFormat;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;

/** Damage to a protobuf message: to its fields by what they mean, or to the lengths on the wire. */
final class ProtoMutator {
    private ProtoMutator() {}

    /** Another message of the same type: one to three fields differ. */
    static Message mutate(Message original, SplittableRandom random, List<String> strings) {
        Message.Builder root = original.toBuilder();
        int changes = random.nextInt(3) == 0 ? 1 + random.nextInt(4) : 1;
        for (int i = 0; i < changes; i++) {
            List<Message.Builder> parts = new ArrayList<>();
            collect(root, parts);
            change(parts.get(random.nextInt(parts.size())), parts, random, strings);
        }
        return root.build();
    }

    private static void collect(Message.Builder message, List<Message.Builder> parts) {
        parts.add(message);
        for (FieldDescriptor field : message.getAllFields().keySet()) {
            if (field.getJavaType() != FieldDescriptor.JavaType.MESSAGE) {
                continue;
            }
            if (field.isRepeated()) {
                for (int i = 0; i < message.getRepeatedFieldCount(field); i++) {
                    collect(message.getRepeatedFieldBuilder(field, i), parts);
                }
            } else {
                collect(message.getFieldBuilder(field), parts);
            }
        }
    }

    private static void change(
            Message.Builder message, List<Message.Builder> parts, SplittableRandom random, List<String> strings) {
        List<FieldDescriptor> present = List.copyOf(message.getAllFields().keySet());
        List<FieldDescriptor> known = message.getDescriptorForType().getFields();
        FieldDescriptor field = present.isEmpty() || random.nextInt(4) == 0
                ? known.get(random.nextInt(known.size()))
                : present.get(random.nextInt(present.size()));
        int count = field.isRepeated() ? message.getRepeatedFieldCount(field) : 0;
        int index = count == 0 ? 0 : random.nextInt(count);
        switch (random.nextInt(field.isRepeated() ? 7 : 3)) {
            case 0 -> {
                if (random.nextInt(3) == 0) {
                    message.clearField(field);
                } else if (random.nextInt(8) == 0) {
                    message.setUnknownFields(unknown(random));
                } else {
                    put(message, field, count, index, value(message, field, parts, random, strings));
                }
            }
            case 1, 2 -> put(message, field, count, index, value(message, field, parts, random, strings));
            case 3 -> {
                if (count > 0) {
                    int times = 1 << random.nextInt(random.nextInt(64) == 0 ? 14 : 4);
                    Object copy = message.getRepeatedField(field, index);
                    for (int i = 0; i < times && (long) i * size(copy) < 1 << 20; i++) {
                        message.addRepeatedField(field, copy);
                    }
                }
            }
            case 4 -> {
                if (count > 0) {
                    List<Object> kept = new ArrayList<>((List<?>) message.getField(field));
                    kept.remove(index);
                    message.setField(field, kept);
                }
            }
            case 5 -> {
                if (count > 1) {
                    Object one = message.getRepeatedField(field, index);
                    int other = random.nextInt(count);
                    message.setRepeatedField(field, index, message.getRepeatedField(field, other));
                    message.setRepeatedField(field, other, one);
                }
            }
            default -> message.addRepeatedField(field, value(message, field, parts, random, strings));
        }
    }

    private static int size(Object value) {
        return switch (value) {
            case Message message -> message.getSerializedSize();
            case ByteString bytes -> bytes.size();
            case String string -> string.length();
            default -> Long.BYTES;
        };
    }

    private static void put(Message.Builder message, FieldDescriptor field, int count, int index, Object value) {
        if (!field.isRepeated()) {
            message.setField(field, value);
        } else if (count == 0) {
            message.addRepeatedField(field, value);
        } else {
            message.setRepeatedField(field, index, value);
        }
    }

    private static Object value(
            Message.Builder message,
            FieldDescriptor field,
            List<Message.Builder> parts,
            SplittableRandom random,
            List<String> strings) {
        return switch (field.getJavaType()) {
            case INT -> (int) number(random);
            case LONG -> number(random);
            case FLOAT -> (float) floating(random);
            case DOUBLE -> floating(random);
            case BOOLEAN -> random.nextBoolean();
            case STRING -> strings.get(random.nextInt(strings.size()));
            case BYTE_STRING -> {
                byte[] bytes = new byte[random.nextInt(3) == 0 ? 0 : random.nextInt(80)];
                random.nextBytes(bytes);
                yield ByteString.copyFrom(bytes);
            }
            case ENUM -> {
                var values = field.getEnumType().getValues();
                yield values.get(random.nextInt(values.size()));
            }
            case MESSAGE -> {
                List<Message> donors = parts.stream()
                        .filter(part -> part.getDescriptorForType().equals(field.getMessageType()))
                        .map(Message.Builder::build)
                        .toList();
                yield donors.isEmpty() || random.nextInt(8) == 0
                        ? message.newBuilderForField(field).build()
                        : donors.get(random.nextInt(donors.size()));
            }
        };
    }

    private static long number(SplittableRandom random) {
        return random.nextBoolean() ? random.nextInt(33) : ByteMutator.integer(random);
    }

    private static double floating(SplittableRandom random) {
        double[] values = {0, -1, 1, 0.5, Double.NaN, Double.POSITIVE_INFINITY, 1e308, 1e-320};
        return values[random.nextInt(values.length)];
    }

    private static UnknownFieldSet unknown(SplittableRandom random) {
        byte[] bytes = new byte[random.nextInt(40)];
        random.nextBytes(bytes);
        return UnknownFieldSet.newBuilder()
                .addField(
                        1 + random.nextInt(30),
                        UnknownFieldSet.Field.newBuilder()
                                .addLengthDelimited(ByteString.copyFrom(bytes))
                                .build())
                .build();
    }

    /** The message's bytes with one length or tag on the wire changed. */
    static byte[] misframed(byte[] bytes, Descriptor type, SplittableRandom random) {
        List<Integer> places = new ArrayList<>();
        try {
            try {
                frames(bytes, 0, bytes.length, type, places);
            } catch (InvalidProtocolBufferException e) {
                // damaged already: the frames before the damage will do
            }
            if (places.isEmpty()) {
                return bytes;
            }
            int place = places.get(random.nextInt(places.size()));
            CodedInputStream input = CodedInputStream.newInstance(bytes, place, bytes.length - place);
            long value = input.readRawVarint64();
            long changed = switch (random.nextInt(5)) {
                case 0 -> value + 1;
                case 1 -> value - 1;
                case 2 -> value * 2;
                case 3 -> value / 2;
                default -> ByteMutator.integer(random);
            };
            ByteArrayOutputStream result = new ByteArrayOutputStream();
            result.write(bytes, 0, place);
            CodedOutputStream output = CodedOutputStream.newInstance(result);
            output.writeUInt64NoTag(changed);
            output.flush();
            int resume = place + input.getTotalBytesRead();
            result.write(bytes, resume, bytes.length - resume);
            return result.toByteArray();
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }

    /** Collects where tags and lengths begin, those of nested messages included. */
    private static void frames(byte[] bytes, int begin, int end, Descriptor type, List<Integer> places)
            throws IOException {
        CodedInputStream input = CodedInputStream.newInstance(bytes, begin, end - begin);
        while (!input.isAtEnd()) {
            places.add(begin + input.getTotalBytesRead());
            int tag = input.readTag();
            if (WireFormat.getTagWireType(tag) != WireFormat.WIRETYPE_LENGTH_DELIMITED) {
                input.skipField(tag);
                continue;
            }
            places.add(begin + input.getTotalBytesRead());
            int length = input.readRawVarint32();
            int inner = begin + input.getTotalBytesRead();
            FieldDescriptor field = type.findFieldByNumber(WireFormat.getTagFieldNumber(tag));
            if (field != null && field.getType() == FieldDescriptor.Type.MESSAGE) {
                frames(bytes, inner, inner + length, field.getMessageType(), places);
            }
            input.skipRawBytes(length);
        }
    }
}
