import java.io.IOException;
import java.io.PrintWriter;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;
import org.junit.runner.Description;
import org.junit.runner.JUnitCore;
import org.junit.runner.notification.Failure;
import org.junit.runner.notification.RunListener;

/** Runs the classes named after the first argument, and writes what came of each of their tests to that file. */
public class Outcomes extends RunListener {
    private final PrintWriter report;
    private final Set<String> others = new HashSet<>();

    Outcomes(PrintWriter report) {
        this.report = report;
    }

    public static void main(String[] arguments) throws IOException, ClassNotFoundException {
        try (PrintWriter report = new PrintWriter(arguments[0])) {
            JUnitCore core = new JUnitCore();
            core.addListener(new Outcomes(report));
            for (String name : Arrays.asList(arguments).subList(1, arguments.length)) {
                core.run(Class.forName(name));
            }
        }
        System.exit(0); // a client that a test left open would go on
    }

    @Override
    public void testFailure(Failure failure) {
        System.out.println(failure.getTestHeader() + "\n" + failure.getTrace());
        write("failed", failure.getDescription());
    }

    @Override
    public void testAssumptionFailure(Failure failure) {
        write("skipped", failure.getDescription());
    }

    @Override
    public void testIgnored(Description test) {
        write("skipped", test);
    }

    @Override
    public void testFinished(Description test) {
        if (!others.contains(test.getDisplayName())) {
            write("passed", test);
        }
    }

    private void write(String outcome, Description test) {
        others.add(test.getDisplayName());
        report.println(outcome + " " + test.getDisplayName());
        report.flush();
    }
}
