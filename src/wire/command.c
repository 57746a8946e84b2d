#include "wire/command.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/panic.h"
#include "engine/engine.h"

#define AT(member) offsetof(struct command, member)

/* deadline_ms: one day */
enum { DEADLINE_MS_MAX = 24 * 3600 * 1000 };

const struct field fields[] = {
    /* clang-format off */
    {"max_tokens", FIELDS_GENERATE, FIELD_U32, 1, JOB_MAX_TOKENS,
     "2048, or what the context leaves", "tokens to generate", AT(max_tokens)},
    {"temperature", FIELDS_GENERATE, FIELD_REAL, 0, 2, "1",
     "below 1e-6: always the most likely token", AT(sampling.temperature)},
    {"top_p", FIELDS_GENERATE, FIELD_REAL, 0, 1, "1",
     "keep the most likely tokens up to this sum of probabilities", AT(sampling.top_p)},
    {"top_k", FIELDS_GENERATE, FIELD_U32, 0, FIELD_MAX_VOCAB, "0",
     "keep that many tokens; 0 is off", AT(sampling.top_k)},
    {"min_p", FIELDS_GENERATE, FIELD_REAL, 0, 1, "0",
     "keep tokens at least this likely, relative to the best", AT(sampling.min_p)},
    {"repetition_penalty", FIELDS_GENERATE, FIELD_REAL, 0, 2, "1",
     "above 1 makes tokens seen before less likely", AT(sampling.repetition_penalty)},
    {"seed", FIELDS_GENERATE, FIELD_U64, 0, 0, "drawn", "same seed, same text", AT(sampling.seed)},
    {"stop", FIELDS_GENERATE, FIELD_STOP, 0, 0, "none", "ends the job where this text appears", 0},
    {"logprobs", FIELDS_GENERATE, FIELD_U32, 0, JOB_LOGPROBS_MAX, "0",
     "1: log-probability of each token; n: and of the n best", AT(logprobs)},
    {"bytes", FIELDS_GENERATE, FIELD_BOOL, 0, 1, "0",
     "1: text as it comes, also inside a character", AT(bytes)},
    {"ignore_eos", FIELDS_GENERATE, FIELD_BOOL, 0, 1, "0",
     "1: go on after an end token", AT(ignore_eos)},
    {"bos", FIELDS_TEXT, FIELD_BOOL, 0, 1, "as the model asks", "begin-of-text token in front",
     AT(bos)},
    {"parse_special", FIELDS_TEXT, FIELD_BOOL, 0, 1, "0",
     "1: control tokens spelled in the text count as such", AT(parse_special)},
    {"deadline_ms", FIELDS_GENERATE | FIELDS_SCORE, FIELD_U32, 0, DEADLINE_MS_MAX, "0",
     "the job ends with 508 after this; 0: the server's", AT(deadline_ms)},
    {"ids", FIELDS_IDS, FIELD_IDS, 0, FIELD_MAX_VOCAB, "the staged text",
     "token ids separated by commas", AT(ids)},
    {"special", FIELDS_IDS, FIELD_BOOL, 0, 1, "0", "1: control tokens as text too", AT(special)},
    {"lines", FIELDS_LOG, FIELD_U32, 1, 200, "50", "how many at most", AT(lines)},
    {"at", FIELDS_PUT, FIELD_U32, 0, ENGINE_TEXT_MAX, "the end",
     "byte at which the text is put, and ends", AT(at)},
    {"from", FIELDS_REPLAY, FIELD_U32, 0, 1 << 20, "0", "index of a token", AT(from)},
    {"crc", FIELDS_HELLO, FIELD_BOOL, 0, 1, "0", "1: lines end with a CRC-16, both ways",
     AT(crc)},
    {"proto", FIELDS_HELLO, FIELD_U32, 1, 1, "1", "version of the protocol", AT(proto)},
    {0},
    /* clang-format on */
};

_Static_assert(sizeof fields / sizeof *fields <= 32, "command.given has a bit a field");
_Static_assert(ENGINE_PROMPT_CHARS_MAX == 32768, "command_text_limits says so");
_Static_assert(JOB_STOP_BYTES_MAX == 100 && JOB_STOP_MAX == 4, "field_limits says so");

const char command_text_limits[] = "1..32768 characters";

void command_error_add(struct command_errors *errors, const char *name, const char *limits) {
    wick_assert(errors->n < COMMAND_ERRORS_MAX);
    struct command_error *error = &errors->error[errors->n++];
    error->name = (struct frame_text){name, (uint32_t)strlen(name)};
    snprintf(error->limits, sizeof error->limits, "%s", limits);
}

void field_limits(const struct field *field, uint32_t vocab, char out[48]) {
    const size_t size = 48;
    bool to_vocab = field->max == FIELD_MAX_VOCAB;
    double max = to_vocab ? vocab : field->max;
    switch (field->kind) {
    case FIELD_U32:
        if (field->min == field->max) {
            snprintf(out, size, "%.0f", field->min);
        } else if (to_vocab && vocab == 0) {
            snprintf(out, size, "%.0f..vocabulary size", field->min);
        } else {
            snprintf(out, size, "%.0f..%.0f", field->min, max);
        }
        return;
    case FIELD_REAL:
        snprintf(out, size, "%g..%g", field->min, max);
        return;
    case FIELD_U64:
        snprintf(out, size, "0..18446744073709551615");
        return;
    case FIELD_BOOL:
        snprintf(out, size, "0|1");
        return;
    case FIELD_STOP:
        snprintf(out, size, "1..100 bytes, at most 4 times");
        return;
    case FIELD_IDS:
        if (vocab == 0) {
            snprintf(out, size, "ids of the vocabulary");
        } else {
            snprintf(out, size, "0..%u", vocab - 1);
        }
        return;
    }
    wick_assert(false);
}

const struct verb *verb_find(const struct verb *table, struct frame_text name) {
    for (const struct verb *verb = table; verb->name != NULL; verb++) {
        if (frame_text_is(name, verb->name)) return verb;
    }
    return NULL;
}

/* Longest spelling of a number that is looked at; no sensible one is longer. */
enum { NUMBER_MAX = 63 };

/* A terminated copy, if all its characters are in `set`. */
static bool number_copy(struct frame_text value, const char *set, char out[NUMBER_MAX + 1]) {
    if (value.length == 0 || value.length > NUMBER_MAX) return false;
    for (uint32_t i = 0; i < value.length; i++) {
        if (value.bytes[i] == '\0' || strchr(set, value.bytes[i]) == NULL) return false;
        out[i] = value.bytes[i];
    }
    out[value.length] = '\0';
    return true;
}

static bool read_u64(struct frame_text value, uint64_t *out) {
    char text[NUMBER_MAX + 1];
    if (!number_copy(value, "0123456789", text)) return false;
    errno = 0;
    *out = strtoull(text, NULL, 10);
    return errno == 0;
}

static bool read_real(struct frame_text value, double *out) {
    char text[NUMBER_MAX + 1];
    if (!number_copy(value, "0123456789+-.eE", text)) return false;
    char *end;
    *out = strtod(text, &end);
    return end != text && *end == '\0';
}

static bool read_stop(struct frame_text value, struct command *command) {
    if (value.length < 1 || value.length > JOB_STOP_BYTES_MAX) return false;
    if (command->n_stop == JOB_STOP_MAX) return false;
    struct job_stop *stop = &command->stop[command->n_stop++];
    stop->length = (uint8_t)value.length;
    memcpy(stop->text, value.bytes, value.length);
    return true;
}

static bool field_read(const struct field *field, struct frame_text value, uint32_t vocab,
                       struct command *command) {
    void *at = (char *)command + field->offset;
    double max = field->max == FIELD_MAX_VOCAB ? vocab : field->max;
    uint64_t whole;
    double real;
    switch (field->kind) {
    case FIELD_U32:
        if (!read_u64(value, &whole)) return false;
        if ((double)whole < field->min || (double)whole > max) return false;
        *(uint32_t *)at = (uint32_t)whole;
        return true;
    case FIELD_REAL:
        if (!read_real(value, &real)) return false;
        if (!(real >= field->min && real <= max)) return false;
        *(double *)at = real;
        return true;
    case FIELD_U64:
        return read_u64(value, (uint64_t *)at);
    case FIELD_BOOL:
        if (!read_u64(value, &whole) || whole > 1) return false;
        *(bool *)at = whole == 1;
        return true;
    case FIELD_STOP:
        return read_stop(value, command);
    case FIELD_IDS:
        *(struct frame_text *)at = value;
        return true;
    }
    return false;
}

static bool field_given(const struct command *command, size_t offset) {
    for (uint32_t i = 0; fields[i].name != NULL; i++) {
        if (fields[i].offset == offset && fields[i].kind != FIELD_STOP) {
            return (command->given >> i & 1) != 0;
        }
    }
    return false;
}

/* One field of the frame into the command, or one more error. */
static void command_take(struct command *command, const struct frame_field *given, uint32_t vocab,
                         struct command_errors *errors) {
    struct command_error error = {.name = given->name, .limits = "unknown field"};
    for (uint32_t i = 0; fields[i].name != NULL; i++) {
        const struct field *field = &fields[i];
        if ((field->verbs & command->verb->fields) == 0) continue;
        if (!frame_text_is(given->name, field->name)) continue;
        if ((command->given >> i & 1) != 0 && field->kind != FIELD_STOP) {
            snprintf(error.limits, sizeof error.limits, "once");
            break;
        }
        command->given |= 1u << i;
        if (field_read(field, given->value, vocab, command)) return;
        field_limits(field, vocab, error.limits);
        break;
    }
    wick_assert(errors->n < COMMAND_ERRORS_MAX);
    errors->error[errors->n++] = error;
}

/* The text and what may stand for it. */
static void command_check_text(const struct command *command, struct command_errors *errors) {
    const struct verb *verb = command->verb;
    uint32_t takes = VERB_TEXT | VERB_TEXT_OR_STAGED;
    if (command->has_text && (verb->needs & takes) == 0) {
        command_error_add(errors, "text", verb->needs & VERB_STAGED ? "staged with PUT" : "none");
        return;
    }
    bool may_be_staged = (verb->needs & (VERB_TEXT_OR_STAGED | VERB_STAGED | VERB_IDS)) != 0;
    if (may_be_staged && command->tag != 0 && !command->has_text) return; /* looked up later */
    if ((verb->needs & VERB_IDS) != 0) {
        if (!command->ids_set) command_error_add(errors, "ids", "N,N,...");
    } else if ((verb->needs & takes) != 0 && command->text.length == 0) {
        command_error_add(errors, verb->text_name, command_text_limits);
    }
}

bool command_parse(const struct verb *verb, const struct frame *frame, uint32_t vocab,
                   struct command *command, struct command_errors *errors) {
    wick_assert(verb != NULL);
    memset(command, 0, sizeof *command);
    errors->n = 0;
    command->verb = verb;
    command->tag = frame->tag;
    command->has_text = frame->has_text;
    command->text = frame->text;
    command->sampling = sampler_defaults;

    bool takes_tag = (verb->needs & (VERB_TAG | VERB_TAG_MAY)) != 0;
    if (!takes_tag && (frame->tag != 0 || frame->tag_bad)) {
        command_error_add(errors, "tag", "none");
    } else if (frame->tag_bad || ((verb->needs & VERB_TAG) != 0 && frame->tag == 0)) {
        command_error_add(errors, "tag", "1..9999");
    }
    for (uint32_t i = 0; i < frame->n_fields; i++) {
        command_take(command, &frame->field[i], vocab, errors);
    }
    command->seed_set = field_given(command, AT(sampling.seed));
    command->bos_set = field_given(command, AT(bos));
    command->ids_set = field_given(command, AT(ids));
    command->at_set = field_given(command, AT(at));
    command->from_set = field_given(command, AT(from));
    command_check_text(command, errors);
    return errors->n == 0;
}

int32_t command_read_ids(struct frame_text text, uint32_t vocab, int32_t *ids, uint32_t cap) {
    uint32_t n = 0;
    uint32_t i = 0;
    while (i < text.length) {
        char c = text.bytes[i];
        if (c == ',' || c == ' ' || c == '\n') {
            i++;
            continue;
        }
        uint64_t id = 0;
        uint32_t start = i;
        while (i < text.length && text.bytes[i] >= '0' && text.bytes[i] <= '9') {
            if (id < vocab) id = id * 10 + (uint64_t)(text.bytes[i] - '0');
            i++;
        }
        if (i == start || id >= vocab || n == cap) return -1;
        ids[n++] = (int32_t)id;
    }
    return (int32_t)n;
}
