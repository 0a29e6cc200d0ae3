package org.sentei.cli;

import java.io.PrintWriter;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import java.util.function.BooleanSupplier;
import java.util.function.Supplier;
import org.sentei.engine.Version;
import org.sentei.engine.recipe.Nearest;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.IVersionProvider;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** The command line {@code sentei}. */
@Command(
        name = "sentei",
        mixinStandardHelpOptions = true,
        description =
                "Prunes neural networks: reads a Hugging Face folder or an ONNX file, writes a sparse one, and says"
                        + " what it cost.",
        synopsisSubcommandLabel = "COMMAND",
        versionProvider = Main.VersionLine.class,
        footer = {
            "",
            "Start with:",
            "  sentei demo                                       a real model pruned end to end",
            "  sentei inspect MODEL                              what is in a model",
            "  sentei compress MODEL --recipe stade-50 --out DIR the main job",
            "",
            "MODEL is a Hugging Face folder, an .onnx file or a name from sentei models.",
            "sentei COMMAND --help explains each command.",
            "",
            "Exit codes: 0 ok, 1 internal error, 2 command line, 3 model, recipe, data or output folder,",
            "4 backend, 5 quality gate missed, 6 run failed or interrupted."
        })
public final class Main implements Runnable {
    @Spec
    private CommandSpec spec;

    private Main() {}

    /** Runs one command and ends the process with its exit code. */
    public static void main(String[] args) {
        boolean verbose =
                Arrays.asList(args).contains("-v") || Arrays.asList(args).contains("--verbose");
        System.setProperty("org.slf4j.simpleLogger.defaultLogLevel", verbose ? "debug" : "error");
        System.setProperty("org.slf4j.simpleLogger.log.ai.djl", verbose ? "info" : "error");
        Terminal terminal = Terminal.ofProcess();
        int code;
        try (Interrupt interrupt =
                Interrupt.listen(terminal, Arrays.asList(args).contains("batch"))) {
            code = run(args, terminal, interrupt::requested);
            terminal.out().flush();
        }
        System.exit(code);
    }

    /** Runs one command and returns its exit code. */
    static int run(String[] args, Terminal terminal, BooleanSupplier cancelled) {
        CommandLine line = new CommandLine(new Main());
        Map<String, Supplier<Object>> commands = commands(terminal, cancelled);
        // To read what all of them take is slower than most of them: one that is named is enough.
        if (args.length > 0 && commands.containsKey(args[0])) {
            commands.keySet().retainAll(Set.of(args[0]));
        }
        commands.forEach((name, command) -> line.addSubcommand(name, command.get()));
        line.setOut(new PrintWriter(terminal.out(), true, StandardCharsets.UTF_8));
        line.setErr(new PrintWriter(terminal.err(), true, StandardCharsets.UTF_8));
        line.setUsageHelpWidth(100);
        line.setCaseInsensitiveEnumValuesAllowed(true);
        boolean json = Arrays.asList(args).contains("--json");
        line.setParameterExceptionHandler((failure, arguments) -> syntax(failure, json, terminal));
        line.setExecutionExceptionHandler(
                (failure, command, parsed) -> failed(failure, json, verbose(command), terminal));
        try {
            return line.execute(args);
        } catch (Error fatal) {
            return failed(fatal, json, false, terminal);
        }
    }

    private static boolean verbose(CommandLine command) {
        return command.getMixins().get("common") instanceof CommonOptions common && common.verbose;
    }

    private static Map<String, Supplier<Object>> commands(Terminal terminal, BooleanSupplier cancelled) {
        Map<String, Supplier<Object>> commands = new LinkedHashMap<>();
        commands.put("demo", () -> new DemoCommand(terminal, cancelled));
        commands.put("doctor", () -> new DoctorCommand(terminal, cancelled));
        commands.put("models", () -> new ModelsCommand(terminal));
        commands.put("recipes", () -> new RecipesCommand(terminal));
        commands.put("inspect", () -> new InspectCommand(terminal));
        commands.put("plan", () -> new PlanCommand(terminal));
        commands.put("compress", () -> new CompressCommand(terminal, cancelled));
        commands.put("train", () -> new TrainCommand(terminal, cancelled));
        commands.put("cut", () -> new CutCommand(terminal));
        commands.put("stats", () -> new StatsCommand(terminal, cancelled));
        commands.put("merge-stats", () -> new MergeStatsCommand(terminal));
        commands.put("batch", () -> new BatchCommand(terminal, cancelled));
        commands.put("forward", () -> new ForwardCommand(terminal));
        commands.put("eval", () -> new EvalCommand(terminal, cancelled));
        commands.put("experiment", () -> new ExperimentCommand(terminal, cancelled));
        commands.put("unpack", () -> new UnpackCommand(terminal, cancelled));
        commands.put("synthetic", () -> new SyntheticCommand(terminal, cancelled));
        commands.put("bench", () -> new BenchCommand(terminal, cancelled));
        return commands;
    }

    /** Without a command: the usage. */
    @Override
    public void run() {
        throw new ParameterException(
                spec.commandLine(),
                "which command? One of " + String.join(", ", spec.subcommands().keySet()));
    }

    private static int syntax(ParameterException failure, boolean json, Terminal terminal) {
        CommandLine command = failure.getCommandLine();
        String name = command.getCommandSpec().qualifiedName();
        String message = failure.getMessage();
        if (failure instanceof CommandLine.UnmatchedArgumentException unmatched
                && command.getParent() == null
                && !unmatched.getUnmatched().isEmpty()) {
            String wanted = unmatched.getUnmatched().getFirst();
            message = "there is no command " + wanted + "; the nearest is "
                    + Nearest.to(wanted, command.getSubcommands().keySet());
        }
        refuse(terminal, message + " (" + name + " --help explains)", ExitCode.SYNTAX, json);
        return ExitCode.SYNTAX;
    }

    private static int failed(Throwable failure, boolean json, boolean verbose, Terminal terminal) {
        int code = ExitCode.of(failure);
        // A missed gate has a report, which is the one document.
        refuse(terminal, ExitCode.message(failure), code, json && code != ExitCode.GATE);
        if (verbose) {
            failure.printStackTrace(terminal.err());
        }
        return code;
    }

    /** The document of {@code --json} when there is no result. */
    record Refusal(String error, int exitCode) {}

    private static void refuse(Terminal terminal, String message, int code, boolean json) {
        String line = message.strip().replaceAll("\\s*\\R\\s*", " ");
        terminal.err().println("sentei: " + line);
        if (json) {
            Json.print(terminal, new Refusal(line, code));
        }
    }

    /** What {@code --version} prints. */
    static final class VersionLine implements IVersionProvider {
        @Override
        public String[] getVersion() {
            return new String[] {"sentei " + Version.current()};
        }
    }
}
