import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;
import org.sentei.kernel.Conformance;
import org.sentei.kernel.Op;
import org.sentei.kernel.OpCase;
import org.sentei.kernel.OpCases;

/** Cases of every op that are small enough for a simulator, and fill more than one work-item: the work of oclgrind.sh. */
final class OclgrindCases {
    private static final int CASES_PER_OP = 3;
    private static final long LEAST = 200;
    private static final long MOST = 6000;

    public static void main(String[] arguments) {
        Map<String, Integer> seen = new HashMap<>();
        int failures = 0;
        try (Backend device = Backends.find("opencl").open(Backend.Options.defaults());
                Backend reference = Backends.find("reference").open(Backend.Options.defaults())) {
            System.out.println(device.info().device());
            Conformance conformance = new Conformance(device, reference);
            for (OpCase opCase : OpCases.all()) {
                String op = Op.stem(opCase.op());
                boolean wanted = arguments.length == 0 || List.of(arguments).contains(op);
                if (wanted && fits(opCase) && seen.merge(op, 1, Integer::sum) <= CASES_PER_OP) {
                    Conformance.Result result = conformance.checkValues(opCase, 1);
                    System.out.println(result.failure().orElse("ok " + opCase.name()));
                    failures += result.failure().isPresent() ? 1 : 0;
                }
            }
        }
        System.exit(failures == 0 ? 0 : 1);
    }

    /** The histogram of scores is as large as its keys, whatever it counts. */
    private static boolean fits(OpCase opCase) {
        long elements = opCase.operands().stream()
                .filter(operand -> !operand.name().equals("histogram"))
                .mapToLong(operand -> operand.rows() * operand.cols())
                .sum();
        return elements >= LEAST && elements <= MOST;
    }
}
