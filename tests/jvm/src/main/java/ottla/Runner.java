package ottla;

import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs main functions one after the other: a JVM takes longer to start than most of them take. Each line of standard input is one
 * of them, the class and the arguments with tabs between; the answer is a line of three numbers, the exit code and how many bytes
 * were written to standard output and to standard error, and then those bytes.
 */
public final class Runner {
    /** What a main function that ends the process throws instead. */
    private static final class Ended extends Error {
        Ended(int status) {
            super("exit " + status, null, false, false);
        }
    }

    /** The first exit code that the function asked for; what catches {@link Ended} may ask for another. */
    private static Integer asked;

    public static void main(String[] args) throws Exception {
        PrintStream answers = System.out;
        Exit.Procedure ends = (status, message) -> {
            if (message != null) {
                System.err.println(message);
            }
            asked = asked == null ? status : asked;
            throw new Ended(status);
        };
        Exit.setExitProcedure(ends);
        Exit.setHaltProcedure(ends);
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] words = line.split("\t", -1);
            ByteArrayOutputStream out = new ByteArrayOutputStream(), err = new ByteArrayOutputStream();
            System.setOut(new PrintStream(out, true, StandardCharsets.UTF_8));
            System.setErr(new PrintStream(err, true, StandardCharsets.UTF_8));
            int status = run(words[0], Arrays.copyOfRange(words, 1, words.length));
            byte[] said = out.toByteArray(), complained = err.toByteArray();
            answers.println(status + " " + said.length + " " + complained.length);
            answers.write(said);
            answers.write(complained);
            answers.flush();
        }
        Runtime.getRuntime().halt(0);
    }

    private static int run(String name, String[] args) {
        asked = null;
        try {
            Class.forName(name).getMethod("main", String[].class).invoke(null, (Object) args);
        } catch (InvocationTargetException error) {
            if (asked == null) {
                error.getCause().printStackTrace();
                return 1;
            }
        } catch (ReflectiveOperationException error) {
            error.printStackTrace();
            return 1;
        }
        return asked == null ? 0 : asked;
    }
}
