/* wick-lab: the workstation's tool on wick's engine. One command a row of the table below. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/fault.h"
#include "base/log.h"
#include "lab/bench.h"
#include "lab/dump.h"
#include "lab/gpus.h"
#include "lab/inspect.h"
#include "lab/logits.h"
#include "lab/make_model.h"
#include "lab/plan.h"
#include "lab/run.h"
#include "lab/tokenize.h"

enum { EXIT_USAGE = 2 };

static const struct command {
    const char *name;
    enum config_use use;
    int (*run)(const struct config *config); /* returns the exit status */
    const char *help;
} commands[] = {
    {"inspect", CONFIG_INSPECT, inspect_run, "show what a GGUF file holds"},
    {"plan", CONFIG_PLAN, plan_run, "show the memory that wick would take"},
    {"tokenize", CONFIG_TOKENIZE, tokenize_run, "text from stdin to token ids on stdout"},
    {"run", CONFIG_RUN, run_run, "generate one text, to stdout as it comes"},
    {"logits", CONFIG_LOGITS, logits_run, "print the largest logits of every position of a prompt"},
    {"dump", CONFIG_DUMP, dump_run, "write every stage of the network as raw F32 files"},
    {"bench", CONFIG_BENCH, bench_run, "measure prompt and decode beside the read bandwidth"},
    {"gpus", CONFIG_GPUS, gpus_run, "list the GPUs that wick could run on"},
    {"make-model", CONFIG_MAKE_MODEL, make_model_run, "write a model of random weights"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void usage_print(FILE *out) {
    fprintf(out, "usage: wick-lab COMMAND [MODEL.gguf] [KEY=VALUE | --KEY VALUE]...\n\n");
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "\n`wick-lab COMMAND --help` lists the keys of a command.\n"
                 "Exit status: 0 done, 1 failed, 2 wrong usage.\n");
}

static int command_run(const struct command *command, int argc, char **argv) {
    static struct config config;
    struct fault fault = {0};
    char asked = 0;
    config_defaults(&config, command->use);
    if (!config_from_argv(&config, command->use, argc, argv, &asked, &fault)) {
        fprintf(stderr, "wick-lab %s: %s\n", command->name, fault.text);
        return EXIT_USAGE;
    }
    if (asked == 'h') {
        printf("wick-lab %s: %s\n\n", command->name, command->help);
        fflush(stdout);
        config_help(STDOUT_FILENO, command->use);
        return 0;
    }
    log_open(STDERR_FILENO, (enum log_level)config.log_level);
    return command->run(&config);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        usage_print(stderr);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return command_run(&commands[i], argc - 2, argv + 2);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage_print(stdout);
        return 0;
    }
    fprintf(stderr, "wick-lab: there is no command '%s'\n\n", argv[1]);
    usage_print(stderr);
    return EXIT_USAGE;
}
