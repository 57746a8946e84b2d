/* Thousands of sessions against the server's real code, in a world where the clock, the wires, the
 * log's disk and the backend are simulated, much faster than real time. Each life (one server from
 * its opening to its end) follows from its seed alone and is a process of its own.
 *
 *   simulate SEED STEPS [lives=N] [for=SECONDS] [notes]
 *
 * Lives of the seeds SEED, SEED + 1, ... until they have made STEPS turns of the main loop, are N
 * and have taken that long. Ends with what was counted, and with the digest of all that happened.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "life.h"
#include "sim.h"

typedef unsigned long long number; /* for printf */

/* The clock of the world outside; the simulated one is clock_ns. */
static double real_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool life_holds(uint64_t seed, struct sim_record *record, bool tells) {
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        sim_open(seed, record, tells);
        life_run();
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) return false;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    if (WIFSIGNALED(status))
        fprintf(stderr, "FAILED: seed %llu: signal %d\n", (number)seed, WTERMSIG(status));
    fprintf(stderr, "this life alone: make simulate SEED=%llu STEPS=1\n", (number)seed);
    return false;
}

static void tell(const struct sim_record *record, uint64_t seed, uint64_t lives, double took_s) {
    double simulated_s = (double)record->simulated_ns / 1e9;
    printf("%llu lives from seed %llu, digest %016llx\n", (number)lives, (number)seed,
           (number)record->digest);
    for (int i = 0; i < COUNT_KINDS; i++)
        printf("%12llu  %s\n", (number)record->count[i], sim_count_word((enum sim_count)i));
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    double cpu_s = (double)used.ru_utime.tv_sec + (double)used.ru_utime.tv_usec / 1e6 +
                   (double)used.ru_stime.tv_sec + (double)used.ru_stime.tv_usec / 1e6;
    printf("%.0f simulated seconds in %.1f real ones, %.1f of a processor: %.0f a second\n",
           simulated_s, took_s, cpu_s, simulated_s / cpu_s);
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: simulate SEED STEPS [lives=N] [for=SECONDS] [notes]\n");
        return 2;
    }
    uint64_t seed = strtoull(argv[1], NULL, 10), steps = strtoull(argv[2], NULL, 10);
    uint64_t lives = 0, least = 0;
    double began_s = real_s(), most_s = 0;
    bool tells = false;
    for (int i = 3; i < argc; i++) {
        if (strncmp(argv[i], "for=", 4) == 0) most_s = strtod(argv[i] + 4, NULL);
        if (strncmp(argv[i], "lives=", 6) == 0) least = strtoull(argv[i] + 6, NULL, 10);
        tells |= strcmp(argv[i], "notes") == 0;
    }
    struct sim_record *record =
        mmap(NULL, sizeof *record, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (record == MAP_FAILED) return 2;
    record->digest = 0xCBF29CE484222325ULL;
    do {
        if (!life_holds(seed + lives, record, tells)) return 1;
        lives++;
    } while (record->count[COUNT_TURNS] < steps || lives < least || real_s() < began_s + most_s);
    tell(record, seed, lives, real_s() - began_s);
    return 0;
}
