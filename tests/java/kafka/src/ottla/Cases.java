package ottla;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Runs every case of a part against a broker. Arguments: the part, the broker's address, a directory for files; further ones choose the
 * cases whose names contain one of them. A line a case on standard output: `ok`, name and milliseconds, or `FAIL`, name and why; the
 * stack on standard error.
 */
public final class Cases {
    private static final int AT_ONCE = 16;
    private static final long SECONDS_A_CASE = 90;

    public static void main(String[] args) throws Exception {
        List<Case> cases = new ArrayList<>();
        switch (args[0]) {
            case "clients" -> {
                // Those that wait most come first.
                Groups.add(cases);
                Shares.add(cases);
                Transactions.add(cases);
                AdminGroups.add(cases);
                Consumers.add(cases);
                Producers.add(cases);
                Topics.add(cases);
                Settings.add(cases);
                Cluster.add(cases);
            }
            case "streams" -> Streams.add(cases);
            case "connect" -> Connect.add(cases);
            case "flume" -> Flume.add(cases);
            default -> throw new IllegalArgumentException(args[0]);
        }
        List<String> wanted = List.of(args).subList(3, args.length);
        cases.removeIf(of -> !wanted.isEmpty() && wanted.stream().noneMatch(of.name()::contains));

        World world = new World(args[1], Path.of(args[2]));
        ExecutorService threads = Executors.newCachedThreadPool(Cases::daemon);
        ExecutorService slots = Executors.newFixedThreadPool(AT_ONCE, Cases::daemon);
        List<Future<?>> running = new ArrayList<>();
        for (Case of : cases) {
            running.add(slots.submit(() -> run(of, world, threads)));
        }
        for (Future<?> one : running) {
            one.get();
        }
        System.out.println("done " + cases.size());
        System.out.flush();
        // Cases that failed may have left clients that would wait long for their groups.
        Runtime.getRuntime().halt(0);
    }

    private static void run(Case of, World world, ExecutorService threads) {
        long begun = System.nanoTime();
        Thread[] of_case = new Thread[1];
        Future<?> body = threads.submit(() -> {
            of_case[0] = Thread.currentThread();
            of.body().run(world);
            return null;
        });
        Throwable why = null;
        try {
            body.get(SECONDS_A_CASE, TimeUnit.SECONDS);
        } catch (TimeoutException late) {
            why = new AssertionError("no end after " + SECONDS_A_CASE + " s");
            if (of_case[0] != null) {
                why.setStackTrace(of_case[0].getStackTrace());
            }
            body.cancel(true);
        } catch (Exception error) {
            why = error.getCause() == null ? error : error.getCause();
        }
        long ms = (System.nanoTime() - begun) / 1_000_000;
        if (why == null) {
            System.out.println("ok\t" + of.name() + "\t" + ms);
        } else {
            StringWriter stack = new StringWriter();
            why.printStackTrace(new PrintWriter(stack));
            System.err.println(of.name() + ": " + stack);
            System.out.println("FAIL\t" + of.name() + "\t" + why.toString().replaceAll("\\s+", " "));
        }
    }

    private static Thread daemon(Runnable body) {
        Thread thread = new Thread(body);
        thread.setDaemon(true);
        return thread;
    }
}
