/* Fuzz entry: a line as a command of the protocol. */
#include <stdlib.h>
#include <string.h>

#include "wire/command.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VOCAB = 2048, IDS_MAX = 64 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct command command;
    static struct command_errors errors;
    struct frame frame;
    struct fault fault;
    int32_t ids[IDS_MAX];
    if (size >= FRAME_LINE_MAX) return 0;
    char *line = malloc(size + 1);
    if (line == NULL) return 0;
    memcpy(line, data, size);
    if (!frame_is_blank(line, size) && frame_parse(line, size, &frame, &fault)) {
        const struct verb *verb = verb_find(verbs, frame.verb);
        bool fine = verb != NULL && command_parse(verb, &frame, VOCAB, &command, &errors);
        if (verb != NULL && !fine && errors.n == 0) abort();
        if (fine && command.ids_set) {
            int32_t n = command_read_ids(command.ids, VOCAB, ids, IDS_MAX);
            for (int32_t i = 0; i < n; i++)
                if (ids[i] < 0 || ids[i] >= VOCAB) abort();
        }
    }
    free(line);
    return 0;
}
