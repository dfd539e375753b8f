package ottla;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.InputStream;
import java.io.OutputStream;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Proxy;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/**
 * Kafka's command-line tools, all in one JVM: each command line of a script, once for each broker, by the tool's own main function.
 *
 * <p>Arguments: the script, a directory for files, and for each broker its address and its data directory. What a tool printed goes to
 * standard output, in sections that the runner compares.
 */
public final class Tools {
    private static final Map<String, String> CLASSES = Map.ofEntries(
        Map.entry("kafka-topics", "org.apache.kafka.tools.TopicCommand"),
        Map.entry("kafka-console-producer", "org.apache.kafka.tools.ConsoleProducer"),
        Map.entry("kafka-console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
        Map.entry("kafka-console-share-consumer", "org.apache.kafka.tools.consumer.ConsoleShareConsumer"),
        Map.entry("kafka-consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
        Map.entry("kafka-share-groups", "org.apache.kafka.tools.consumer.group.ShareGroupCommand"),
        Map.entry("kafka-groups", "org.apache.kafka.tools.GroupsCommand"),
        Map.entry("kafka-configs", "kafka.admin.ConfigCommand"),
        Map.entry("kafka-producer-perf-test", "org.apache.kafka.tools.ProducerPerformance"),
        Map.entry("kafka-consumer-perf-test", "org.apache.kafka.tools.ConsumerPerformance"),
        Map.entry("kafka-share-consumer-perf-test", "org.apache.kafka.tools.ShareConsumerPerformance"),
        Map.entry("kafka-e2e-latency", "org.apache.kafka.tools.EndToEndLatency"),
        Map.entry("kafka-get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
        Map.entry("kafka-verifiable-producer", "org.apache.kafka.tools.VerifiableProducer"),
        Map.entry("kafka-verifiable-consumer", "org.apache.kafka.tools.VerifiableConsumer"),
        Map.entry("kafka-verifiable-share-consumer", "org.apache.kafka.tools.VerifiableShareConsumer"),
        Map.entry("kafka-transactions", "org.apache.kafka.tools.TransactionsCommand"),
        Map.entry("kafka-dump-log", "org.apache.kafka.tools.DumpLogSegments"),
        Map.entry("kafka-log-dirs", "org.apache.kafka.tools.LogDirsCommand"),
        Map.entry("kafka-delete-records", "org.apache.kafka.tools.DeleteRecordsCommand"),
        Map.entry("kafka-leader-election", "org.apache.kafka.tools.LeaderElectionCommand"),
        Map.entry("kafka-broker-api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand"),
        Map.entry("kafka-cluster", "org.apache.kafka.tools.ClusterTool"),
        Map.entry("kafka-features", "org.apache.kafka.tools.FeatureCommand"),
        Map.entry("kafka-reassign-partitions", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"),
        Map.entry("kafka-metadata-quorum", "org.apache.kafka.tools.MetadataQuorumCommand"),
        Map.entry("kafka-client-metrics", "org.apache.kafka.tools.ClientMetricsCommand"),
        Map.entry("open-transaction", Tools.class.getName() + "$OpenTransaction"),
        Map.entry("end-transaction", Tools.class.getName() + "$EndTransaction"));
    /** How long a tool may take. */
    private static final long PATIENCE_MS = 20_000;
    private static final PrintStream REAL_OUT = System.out;
    private static final ExecutorService THREADS = Executors.newCachedThreadPool();

    /** One tool that runs: what it prints, and what it would do when its JVM is told to end. */
    private static final class Run {
        final ByteArrayOutputStream out = new ByteArrayOutputStream();
        final ByteArrayOutputStream err = new ByteArrayOutputStream();
        final List<Runnable> hooks = Collections.synchronizedList(new ArrayList<>());
        final InputStream in;
        final long begun = System.nanoTime();
        volatile Integer code;
        Thread thread;

        Run(List<String> lines) {
            in = new ByteArrayInputStream(lines.isEmpty() ? new byte[0] : (String.join("\n", lines) + "\n").getBytes(StandardCharsets.UTF_8));
        }
    }

    /** Ends a tool that asks its JVM to exit. */
    private static final class Ended extends Error {
        Ended() {
            super("exit", null, false, false);
        }
    }

    private static final InheritableThreadLocal<Run> CURRENT = new InheritableThreadLocal<>();

    /**
     * Kafka's classes for one of the brokers: the tools keep numbers in static fields, and they are to run for both at a time. In these
     * classes, ending the JVM is ending the tool.
     */
    private static final class Own extends URLClassLoader {
        Own() throws ReflectiveOperationException {
            super(urls(), Tools.class.getClassLoader());
            Class<?> exit = loadClass("org.apache.kafka.common.utils.Exit");
            Class<?> procedure = loadClass("org.apache.kafka.common.utils.Exit$Procedure");
            Object ends = Proxy.newProxyInstance(this, new Class<?>[] {procedure}, (proxy, method, args) -> {
                exit((Integer) args[0], (String) args[1]);
                return null;
            });
            exit.getMethod("setExitProcedure", procedure).invoke(null, ends);
            exit.getMethod("setHaltProcedure", procedure).invoke(null, ends);
            Class<?> adder = loadClass("org.apache.kafka.common.utils.Exit$ShutdownHookAdder");
            exit.getMethod("setShutdownHookAdder", adder).invoke(null, Proxy.newProxyInstance(this, new Class<?>[] {adder}, (proxy, method, args) -> {
                CURRENT.get().hooks.add((Runnable) args[1]);
                return null;
            }));
        }

        private static URL[] urls() {
            return Arrays.stream(System.getProperty("java.class.path").split(File.pathSeparator)).map(path -> {
                try {
                    return Path.of(path).toUri().toURL();
                } catch (MalformedURLException error) {
                    throw new IllegalStateException(error);
                }
            }).toArray(URL[]::new);
        }

        @Override
        protected Class<?> loadClass(String name, boolean resolve) throws ClassNotFoundException {
            if (!name.startsWith("org.apache.kafka.") && !name.startsWith("kafka.")) {
                return super.loadClass(name, resolve);
            }
            synchronized (getClassLoadingLock(name)) {
                Class<?> loaded = findLoadedClass(name);
                return loaded == null ? findClass(name) : loaded;
            }
        }
    }

    /** A step of the script. */
    private static final class Step {
        final String name;
        final List<String> commands = new ArrayList<>();
        final List<String> stdin = new ArrayList<>();

        Step(String name) {
            this.name = name;
        }
    }

    public static void main(String[] args) throws Exception {
        List<Step> steps = script(Path.of(args[0]));
        Path files = Path.of(args[1]);
        System.setOut(new PrintStream(stream(true), true, StandardCharsets.UTF_8));
        System.setErr(new PrintStream(stream(false), true, StandardCharsets.UTF_8));
        System.setIn(stdin());
        List<Map<String, Run>> background = new ArrayList<>();
        List<Map<String, String>> variables = new ArrayList<>();
        List<Own> loaders = new ArrayList<>();
        for (int at = 2; at < args.length; at += 2) {
            background.add(new HashMap<>());
            loaders.add(new Own());
            variables.add(Map.of("B", args[at], "DATA", args[at + 1], "FILES", files.toString()));
        }
        for (Step step : steps) {
            // The brokers at the same time: most of what a tool takes is waiting.
            List<CompletableFuture<String>> sections = new ArrayList<>();
            for (int broker = 0; broker < background.size(); broker++) {
                int of = broker;
                sections.add(CompletableFuture.supplyAsync(() -> {
                    StringBuilder printed = new StringBuilder();
                    for (String command : step.commands) {
                        try {
                            perform(step, command, loaders.get(of), variables.get(of), background.get(of), files).ifPresent(text ->
                                printed.append('\u0001').append(of).append('\t').append(step.name).append('\t').append(command).append('\n').append(text));
                        } catch (Exception error) {
                            throw new IllegalStateException(step.name + ": " + command, error);
                        }
                    }
                    return printed.toString();
                }, THREADS));
            }
            for (CompletableFuture<String> section : sections) {
                REAL_OUT.write(section.get().getBytes(StandardCharsets.UTF_8));
            }
            REAL_OUT.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static List<Step> script(Path path) throws Exception {
        List<Step> steps = new ArrayList<>();
        for (String line : Files.readAllLines(path)) {
            Step last = steps.isEmpty() ? null : steps.get(steps.size() - 1);
            if (line.startsWith("[")) {
                steps.add(new Step(line.substring(1, line.indexOf(']'))));
            } else if (line.startsWith("< ")) {
                last.stdin.add(line.substring(2));
            } else if (line.startsWith("  ")) {
                // A long line goes on.
                last.commands.set(last.commands.size() - 1, last.commands.get(last.commands.size() - 1) + " " + line.trim());
            } else if (!line.isBlank() && !line.startsWith("#")) {
                last.commands.add(line);
            }
        }
        return steps;
    }

    /** Words, of which those in single quotes may have spaces. */
    private static List<String> words(String line, Map<String, String> variables) {
        List<String> words = new ArrayList<>();
        Matcher matcher = Pattern.compile("'([^']*)'|(\\S+)").matcher(line);
        while (matcher.find()) {
            String word = matcher.group(1) != null ? matcher.group(1) : matcher.group(2);
            for (var variable : variables.entrySet()) {
                word = word.replace("$" + variable.getKey(), variable.getValue());
            }
            words.add(word);
        }
        return words;
    }

    /** Runs one command; what there is to compare, if it is a tool that has ended. */
    private static Optional<String> perform(Step step, String command, Own loader, Map<String, String> variables, Map<String, Run> background, Path files)
            throws Exception {
        List<String> words = words(command, variables);
        switch (words.get(0)) {
            case "file" -> Files.writeString(files.resolve(words.get(1)), String.join(" ", words.subList(2, words.size())));
            case "sleep" -> Thread.sleep(Long.parseLong(words.get(1)));
            case "start" -> background.put(words.get(1), start(step, loader, words.subList(2, words.size())));
            case "stop" -> {
                Run run = background.remove(words.get(1));
                end(run);
                return Optional.of(finish(run));
            }
            case "wait" -> {
                return Optional.of(finish(background.remove(words.get(1))));
            }
            default -> {
                return Optional.of(finish(start(step, loader, words)));
            }
        }
        return Optional.empty();
    }

    private static Run start(Step step, Own loader, List<String> words) {
        String of = CLASSES.get(words.get(0));
        if (of == null) {
            throw new IllegalArgumentException(step.name + ": no tool is called " + words.get(0));
        }
        Run run = new Run(step.stdin);
        String[] args = words.subList(1, words.size()).toArray(new String[0]);
        run.thread = new Thread(() -> {
            CURRENT.set(run);
            Thread.currentThread().setContextClassLoader(of.startsWith("ottla.") ? Tools.class.getClassLoader() : loader);
            try {
                loader.loadClass(of).getMethod("main", String[].class).invoke(null, (Object) args);
            } catch (InvocationTargetException error) {
                if (!(error.getCause() instanceof Ended)) {
                    error.getCause().printStackTrace();
                    run.code = run.code == null ? Integer.valueOf(1) : run.code;
                }
            } catch (ReflectiveOperationException error) {
                error.printStackTrace();
            }
            System.out.flush();
        });
        run.thread.setDaemon(true);
        run.thread.start();
        return run;
    }

    /** How long it took, how it ended, and what it printed. */
    private static String finish(Run run) throws Exception {
        run.thread.join(PATIENCE_MS);
        String end = run.thread.isAlive() ? "never ends" : "exit code " + (run.code == null ? 0 : run.code);
        // Some tools leave it to this to send what they have.
        end(run);
        StringBuilder section = new StringBuilder();
        section.append((System.nanoTime() - run.begun) / 1_000_000).append('\n').append(end).append('\n');
        for (ByteArrayOutputStream printed : List.of(run.out, run.err)) {
            for (String line : printed.toString(StandardCharsets.UTF_8).split("\n")) {
                if (!line.isBlank()) {
                    section.append(printed == run.out ? "" : "stderr: ").append(line.stripTrailing()).append('\n');
                }
            }
        }
        return section.toString();
    }

    /** What its JVM would do at its end, once. */
    private static void end(Run run) throws InterruptedException {
        List<Runnable> hooks = List.copyOf(run.hooks);
        run.hooks.clear();
        Thread thread = new Thread(() -> {
            CURRENT.set(run);
            hooks.forEach(Runnable::run);
            System.out.flush();
        });
        thread.setDaemon(true);
        thread.start();
        thread.join(PATIENCE_MS);
    }

    private static void exit(int code, String message) {
        Run run = CURRENT.get();
        if (run != null && run.code == null) {
            run.code = code;
        }
        if (message != null) {
            System.err.println(message);
        }
        throw new Ended();
    }

    private static OutputStream stream(boolean out) {
        return new OutputStream() {
            private OutputStream to() {
                Run run = CURRENT.get();
                return run == null ? (out ? REAL_OUT : OutputStream.nullOutputStream()) : out ? run.out : run.err;
            }

            @Override
            public void write(int b) throws java.io.IOException {
                to().write(b);
            }

            @Override
            public void write(byte[] bytes, int from, int count) throws java.io.IOException {
                to().write(bytes, from, count);
            }
        };
    }

    private static InputStream stdin() {
        return new InputStream() {
            @Override
            public int read() throws java.io.IOException {
                return CURRENT.get().in.read();
            }

            @Override
            public int read(byte[] bytes, int from, int count) throws java.io.IOException {
                return CURRENT.get().in.read(bytes, from, count);
            }

            @Override
            public int available() throws java.io.IOException {
                return CURRENT.get().in.available();
            }
        };
    }

    private static final Map<String, KafkaProducer<String, String>> OPEN = Collections.synchronizedMap(new HashMap<>());

    /** No tool of Kafka's: a transaction that is left open, for those that list them. Broker, transactional id, topic. */
    public static final class OpenTransaction {
        public static void main(String[] args) throws Exception {
            World world = new World(args[0], Path.of("."));
            KafkaProducer<String, String> producer = world.producer("transactional.id", args[1]);
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(args[2], 0, "k", "in a transaction")).get();
            OPEN.put(args[0] + args[1], producer);
            world.admin.close();
        }
    }

    /** Ends what was left open. Broker, transactional id, how. */
    public static final class EndTransaction {
        public static void main(String[] args) {
            try (KafkaProducer<String, String> producer = OPEN.remove(args[0] + args[1])) {
                switch (args[2]) {
                    case "commit" -> producer.commitTransaction();
                    case "abort" -> producer.abortTransaction();
                    default -> producer.close(java.time.Duration.ZERO);
                }
            }
        }
    }
}
