package org.sentei.engine;

import static org.assertj.core.api.Assertions.assertThat;
import static org.assertj.core.api.Assertions.assertThatThrownBy;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;
import org.sentei.engine.recipe.RecipeException;
import org.sentei.kernel.Backend;
import org.sentei.kernel.Backends;

/** Sentei inside of another program: any thread, several at once, stopped from outside, and nothing left behind. */
@Timeout(value = 2, unit = TimeUnit.MINUTES)
class EmbeddingTest {
    private static final String RECIPE = """
            steps: [{method: stade, targets: ["*q_proj"], sparsity: 0.5, bias: auto}]
            calibration: {samples: 4, length: 16}
            """;

    @TempDir
    private static Path serial;

    @TempDir
    private Path folder;

    @BeforeAll
    static void runSerially() {
        for (String model : List.of("austen-llama", "austen-opt")) {
            Runs.run(request(model), serial.resolve(model));
        }
    }

    @AfterEach
    void nothingIsLeftBehind() throws Exception {
        assertThat(threadsEnd()).isTrue();
        assertThat(Files.readString(Path.of("/proc/self/maps"))).doesNotContain("model.safetensors");
    }

    /** The workers of a backend end with it, but nobody waits for their last instruction. */
    private static boolean threadsEnd() throws InterruptedException {
        for (int patience = 0; patience < 100; patience++) {
            if (Thread.getAllStackTraces().keySet().stream()
                    .noneMatch(thread -> thread.getName().startsWith("sentei-"))) {
                return true;
            }
            Thread.sleep(20);
        }
        return false;
    }

    private static CompressionRequest request(String model) {
        return Runs.request(Runs.model(model), RECIPE);
    }

    // ---- several at once

    @Test
    void plansOfSameAndOfDifferentModelsAtOnceEqualTheSerialResult() throws Exception {
        List<String> models = List.of("austen-opt", "austen-llama", "austen-opt", "austen-llama");
        CountDownLatch allPlanned = new CountDownLatch(models.size());
        try (ExecutorService threads = Executors.newFixedThreadPool(models.size())) {
            List<Future<?>> runs = new ArrayList<>();
            for (int i = 0; i < models.size(); i++) {
                String model = models.get(i);
                Path output = folder.resolve(model + i);
                runs.add(threads.submit(() -> {
                    try (Plan plan = Sentei.plan(request(model))) {
                        allPlanned.countDown();
                        allPlanned.await();
                        plan.run(output, Progress.NONE);
                    }
                    return null;
                }));
            }
            for (Future<?> run : runs) {
                run.get();
            }
        }
        for (int i = 0; i < models.size(); i++) {
            assertSerial(models.get(i), folder.resolve(models.get(i) + i));
        }
    }

    @Test
    void threadsThatShareAPlanTakeTurns() throws Exception {
        try (Plan plan = Sentei.plan(request("austen-opt"));
                ExecutorService threads = Executors.newFixedThreadPool(2)) {
            Future<?> one = threads.submit(() -> plan.run(folder.resolve("one"), Progress.NONE));
            Future<?> two = threads.submit(() -> plan.run(folder.resolve("two"), Progress.NONE));
            one.get();
            two.get();
        }
        assertSerial("austen-opt", folder.resolve("one"));
        assertSerial("austen-opt", folder.resolve("two"));
    }

    private static void assertSerial(String model, Path output) throws IOException {
        List<String> files = Runs.files(serial.resolve(model));
        assertThat(Runs.files(output)).isEqualTo(files).contains("model.safetensors");
        for (String file : files) {
            if (!file.startsWith("report.")) {
                assertThat(Files.mismatch(serial.resolve(model).resolve(file), output.resolve(file)))
                        .as(file)
                        .isEqualTo(-1);
            }
        }
    }

    // ---- any thread

    @Test
    void aVirtualThreadGetsTheSameResultAndProgressIsHeardOnAPlatformThread() throws Exception {
        List<Thread> heard = new ArrayList<>();
        Path output = folder.resolve("virtual");
        virtually(() ->
                Runs.run(request("austen-opt"), output, (stage, done, total) -> heard.add(Thread.currentThread())));
        assertSerial("austen-opt", output);
        assertThat(heard).isNotEmpty().noneMatch(Thread::isVirtual);
        assertThat(heard.stream().distinct()).hasSize(1);
        assertThat(heard.getFirst().isAlive()).isFalse();
    }

    @Test
    void aVirtualThreadInspectsMeasuresAndRunsAModel() throws Exception {
        Path model = Runs.model("austen-llama");
        Inspection inspection = Sentei.inspect(model);
        double perplexity = Runs.perplexity(model, 64);
        Path here = folder.resolve("here.safetensors");
        Path there = folder.resolve("there.safetensors");
        forward(model, here);
        virtually(() -> {
            assertThat(Sentei.inspect(model)).isEqualTo(inspection);
            assertThat(Runs.perplexity(model, 64)).isEqualTo(perplexity);
            forward(model, there);
        });
        assertThat(there).hasSameBinaryContentAs(here);
    }

    private static void forward(Path model, Path output) {
        Sentei.forward(model, new int[][] {{1, 2, 3}}, null, output, Backends.AUTO, Backend.Options.defaults());
    }

    @Test
    void whatAListenerThrowsReachesAVirtualThreadAsItIs() throws Exception {
        IllegalStateException full = new IllegalStateException("the listener's queue is full");
        AssertionError wrong = new AssertionError("an Error as well");
        virtually(() -> {
            assertThatThrownBy(() -> Runs.run(request("austen-opt"), folder.resolve("out"), (stage, done, total) -> {
                        throw full;
                    }))
                    .isSameAs(full);
            assertThatThrownBy(() -> Runs.run(request("austen-opt"), folder.resolve("out"), (stage, done, total) -> {
                        throw wrong;
                    }))
                    .isSameAs(wrong);
            assertThatThrownBy(() -> Sentei.plan(Runs.request(Runs.model("austen-opt"), """
                            steps: [{method: magnitude, sparsity: 0.5, targets: ["nothing"]}]
                            """)))
                    .isInstanceOf(RecipeException.class)
                    .hasMessageContaining("nothing");
        });
        assertThat(Runs.files(folder)).isEmpty();
    }

    private interface Work {
        void run() throws Exception;
    }

    private static void virtually(Work work) throws Exception {
        try (ExecutorService threads = Executors.newVirtualThreadPerTaskExecutor()) {
            threads.submit(() -> {
                        work.run();
                        return null;
                    })
                    .get();
        } catch (ExecutionException e) {
            if (e.getCause() instanceof Error failure) {
                throw failure;
            }
            throw e;
        }
    }

    @Test
    void aThreadWithoutAContextClassLoaderFindsTheBackends() throws Exception {
        AtomicReference<List<String>> found = new AtomicReference<>();
        Thread thread = Thread.ofPlatform()
                .unstarted(() -> found.set(Backends.providers().stream()
                        .map(Backend.Provider::name)
                        .toList()));
        thread.setContextClassLoader(ClassLoader.getPlatformClassLoader());
        thread.start();
        thread.join();
        assertThat(found.get()).contains("reference", "cpu");
    }

    // ---- stopped

    @Test
    void anInterruptOfTheCallerCancelsAndIsKept() throws Exception {
        for (Thread.Builder kind : List.of(Thread.ofPlatform(), Thread.ofVirtual())) {
            AtomicReference<Throwable> thrown = new AtomicReference<>();
            AtomicReference<Boolean> kept = new AtomicReference<>();
            AtomicReference<Thread> caller = new AtomicReference<>();
            caller.set(kind.unstarted(() -> {
                try (Plan plan = Sentei.plan(request("austen-opt"))) {
                    plan.run(folder.resolve("out"), (stage, done, total) -> {
                        if (stage.contains("sites")) {
                            caller.get().interrupt();
                        }
                    });
                } catch (CancellationException e) {
                    thrown.set(e);
                }
                kept.set(Thread.currentThread().isInterrupted());
            }));
            caller.get().start();
            caller.get().join();
            assertThat(thrown.get())
                    .hasMessageContaining("no output was written")
                    .hasNoSuppressedExceptions();
            assertThat(kept.get()).isTrue();
            assertThat(Runs.files(folder)).isEmpty();
        }
    }

    @Test
    void anInterruptOfTheListenersThreadCancelsThisRunOnly() throws IOException {
        try (Plan plan = Sentei.plan(request("austen-opt"))) {
            assertThatThrownBy(() -> plan.run(
                            folder.resolve("out"),
                            (stage, done, total) -> Thread.currentThread().interrupt()))
                    .isInstanceOf(CancellationException.class);
            assertThat(Runs.files(folder)).isEmpty();
            assertThat(Thread.currentThread().isInterrupted()).isFalse();
            plan.run(folder.resolve("out"), Progress.NONE);
        }
        assertSerial("austen-opt", folder.resolve("out"));
    }

    // ---- closed

    @Test
    void aClosedPlanRefusesAndClosesAgainInPeace() {
        Plan plan = Sentei.plan(request("austen-opt"));
        plan.close();
        plan.close();
        assertThatThrownBy(() -> plan.run(folder.resolve("out"), Progress.NONE))
                .isInstanceOf(IllegalStateException.class)
                .hasMessageContaining("closed already");
        assertThatThrownBy(plan::seconds).isInstanceOf(IllegalStateException.class);
        assertThat(Runs.files(folder)).isEmpty();
    }

    @Test
    void aListenerMayAskItsPlanButNotCloseIt() {
        List<Double> estimates = new ArrayList<>();
        try (Plan plan = Sentei.plan(request("austen-opt"))) {
            Runnable close = plan::close;
            assertThatThrownBy(() -> plan.run(folder.resolve("out"), (stage, done, total) -> {
                        estimates.add(plan.seconds());
                        close.run();
                    }))
                    .isInstanceOf(IllegalStateException.class)
                    .hasMessageContaining("cancel it there instead");
        }
        assertThat(estimates).hasSize(1).allMatch(seconds -> seconds > 0);
        assertThat(Runs.files(folder)).isEmpty();
    }

    @Test
    void closingWaitsForTheRunOfAnotherThread() throws Exception {
        CountDownLatch running = new CountDownLatch(1);
        try (ExecutorService threads = Executors.newSingleThreadExecutor()) {
            Plan plan = Sentei.plan(request("austen-opt"));
            Future<?> run =
                    threads.submit(() -> plan.run(folder.resolve("out"), (stage, done, total) -> running.countDown()));
            running.await();
            plan.close();
            run.get();
        }
        assertSerial("austen-opt", folder.resolve("out"));
    }
}
