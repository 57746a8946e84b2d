/* wick-lab: the workstation's tool on wick's engine. One command a row of the table below. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/config.h"
#include "base/fault.h"
#include "base/log.h"
#include "lab/bench.h"
#include "lab/commands.h"
#include "lab/diff.h"
#include "lab/dump.h"
#include "lab/gpus.h"
#include "lab/help.h"
#include "lab/inspect.h"
#include "lab/logits.h"
#include "lab/make_model.h"
#include "lab/plan.h"
#include "lab/run.h"
#include "lab/score.h"
#include "lab/tokenize.h"

enum { EXIT_USAGE = 2 };

const struct lab_command lab_commands[] = {
    {"inspect", CONFIG_INSPECT, inspect_run, NULL, "show what a GGUF file holds"},
    {"plan", CONFIG_PLAN, plan_run, NULL, "show the memory that wick would take"},
    {"tokenize", CONFIG_TOKENIZE, tokenize_run, NULL, "text from stdin to token ids on stdout"},
    {"run", CONFIG_RUN, run_run, NULL, "generate one text, to stdout as it comes"},
    {"logits", CONFIG_LOGITS, logits_run, NULL,
     "print the largest logits of every position of a prompt"},
    {"dump", CONFIG_DUMP, dump_run, NULL, "write every stage of the network as raw F32 files"},
    {"bench", CONFIG_BENCH, bench_run, NULL, "measure prompt and decode beside the read bandwidth"},
    {"gpus", CONFIG_GPUS, gpus_run, NULL, "list the GPUs that wick could run on"},
    {"make-model", CONFIG_MAKE_MODEL, make_model_run, NULL, "write a model of random weights"},
    {"score", CONFIG_SCORE, score_run, NULL, "perplexity of a text file"},
    {"diff", CONFIG_DIFF, diff_run, NULL,
     "how far two models, or two backends of one, are apart on a text"},
    {"completion", 0, NULL, completion_print,
     "print what makes bash or zsh complete the command line"},
    {"man", 0, NULL, man_print, "print the manual page of wick-lab, or of wick"},
    {0}};

const char lab_usage[] = "usage: wick-lab COMMAND [MODEL.gguf] [KEY=VALUE | --KEY VALUE]...";
const char lab_exits[] = "0 done, 1 failed, 2 wrong usage.";

static void usage_print(FILE *out) {
    fprintf(out, "%s\n\n", lab_usage);
    for (const struct lab_command *c = lab_commands; c->name != NULL; c++)
        fprintf(out, "  %-12s %s\n", c->name, c->help);
    fprintf(out, "\n`wick-lab COMMAND --help` lists the keys of a command.\nExit status: %s\n",
            lab_exits);
}

static int command_run(const struct lab_command *command, int argc, char **argv) {
    static struct config config;
    struct fault fault = {0};
    char asked = 0;
    if (command->print != NULL) return command->print(argc, argv);
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
    for (const struct lab_command *c = lab_commands; c->name != NULL; c++)
        if (strcmp(argv[1], c->name) == 0) return command_run(c, argc - 2, argv + 2);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        usage_print(stdout);
        return 0;
    }
    fprintf(stderr, "wick-lab: there is no command '%s'\n\n", argv[1]);
    usage_print(stderr);
    return EXIT_USAGE;
}
