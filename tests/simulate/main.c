/* Thousands of sessions against the server's real code, in a world where the clock, the wires, the
 * log's disk and the backend are simulated, much faster than real time. Each life (one server from
 * its opening to its end) follows from its seed alone and is a process of its own.
 *
 *   simulate SEED STEPS [notes]
 *
 * Lives of the seeds SEED, SEED + 1, ... until they have made STEPS turns of the main loop. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "life.h"
#include "sim.h"

static bool life_holds(uint64_t seed, uint64_t *count, bool tells) {
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        sim_open(seed, count, tells);
        life_run();
        _exit(0);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) return false;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
    if (WIFSIGNALED(status)) fprintf(stderr, "FAILED: seed %llu: signal %d\n",
                                     (unsigned long long)seed, WTERMSIG(status));
    return false;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: simulate SEED STEPS [notes]\n");
        return 2;
    }
    uint64_t seed = strtoull(argv[1], NULL, 10), steps = strtoull(argv[2], NULL, 10), lives = 0;
    uint64_t *count = mmap(NULL, COUNT_KINDS * sizeof *count, PROT_READ | PROT_WRITE,
                           MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (count == MAP_FAILED) return 2;
    for (; count[COUNT_TURNS] < steps; lives++) {
        if (!life_holds(seed + lives, count, argc > 3)) return 1;
    }
    printf("%llu lives from seed %llu\n", (unsigned long long)lives, (unsigned long long)seed);
    for (int i = 0; i < COUNT_KINDS; i++)
        printf("%12llu  %s\n", (unsigned long long)count[i], sim_count_word((enum sim_count)i));
    return 0;
}
