package bench;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.util.Locale;
import java.util.Map;

/** Seconds and CPU of this process from the first record on: what comes before is start-up. */
final class Meter {
    private static final OperatingSystemMXBean OS = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
    private static volatile long started;
    private static volatile long cpu;

    private Meter() {}

    /** At each record; the first one counts. */
    static void record() {
        if (started == 0) {
            start();
        }
    }

    private static synchronized void start() {
        if (started == 0) {
            cpu = OS.getProcessCpuTime();
            started = System.nanoTime();
        }
    }

    /** Prints what it cost until now, with requests by label. */
    static void report(Map<String, Long> counts) {
        double seconds = (System.nanoTime() - started) / 1e9;
        double spent = (OS.getProcessCpuTime() - cpu) / 1e9;
        StringBuilder said = new StringBuilder();
        counts.forEach((label, count) -> said.append(said.isEmpty() ? "" : ",").append('"' + label + "\":" + count));
        System.out.printf(Locale.ROOT, "{\"seconds\":%f,\"cpu_s\":%f,\"counts\":{%s}}%n", seconds, spent, said);
        System.out.flush();
    }
}
