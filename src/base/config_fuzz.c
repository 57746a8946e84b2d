/* Fuzz entry: settings. The first byte says whose: bit 0 the kernel command line, else arguments,
 * one a line; the rest of it which program's. */
#include <stdlib.h>
#include <string.h>

#include "base/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARGUMENTS_MAX = 64, USES = 9 };

static void arguments(struct config *config, uint32_t use, char *text) {
    char *argv[ARGUMENTS_MAX];
    char asked = 0;
    struct fault fault;
    int argc = 0;
    for (char *line = text; line != NULL && argc < ARGUMENTS_MAX;) {
        argv[argc++] = line;
        line = strchr(line, '\n');
        if (line != NULL) *line++ = '\0';
    }
    config_from_argv(config, use, argc, argv, &asked, &fault);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct config config;
    struct fault fault;
    if (size == 0) return 0;
    char *text = malloc(size);
    if (text == NULL) return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    uint32_t use = 1u << (data[0] / 2) % USES;
    config_defaults(&config, use);
    if (data[0] & 1)
        config_from_cmdline(&config, use, text, &fault);
    else
        arguments(&config, use, text);
    free(text);
    return 0;
}
