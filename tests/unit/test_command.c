#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wire/command.h"

static char line[FRAME_LINE_MAX];
static struct frame frame;
static struct command command;
static struct command_errors errors;
static const uint32_t vocab = 2048;

/* The command of a line that is a good frame. */
static bool parse(const char *text) {
    struct fault fault;
    size_t length = strlen(text);
    cr_assert(length < sizeof line);
    memcpy(line, text, length);
    cr_assert(frame_parse(line, length, &frame, &fault), "%s: %s", text, fault.text);
    const struct verb *verb = verb_find(verbs, frame.verb);
    cr_assert_not_null(verb, "%s", text);
    return command_parse(verb, &frame, vocab, &command, &errors);
}

/* The errors as the reply has them. */
static const char *errors_of(const char *text) {
    static char out[2048];
    size_t n = 0;
    cr_assert_not(parse(text), "%s", text);
    for (uint32_t i = 0; i < errors.n; i++) {
        const struct command_error *error = &errors.error[i];
        n += (size_t)snprintf(out + n, sizeof out - n, "%s%.*s=%s", i > 0 ? " " : "",
                              (int)error->name.length, error->name.bytes, error->limits);
    }
    return out;
}

Test(command, fills_in_the_contracts_defaults) {
    cr_assert(parse("GEN 1 \"x\""));
    cr_assert_eq(command.max_tokens, 0);
    cr_assert_eq(command.sampling.temperature, 1);
    cr_assert_eq(command.sampling.top_p, 1);
    cr_assert_eq(command.sampling.top_k, 0);
    cr_assert_eq(command.sampling.min_p, 0);
    cr_assert_eq(command.sampling.repetition_penalty, 1);
    cr_assert_eq(command.n_stop, 0);
    cr_assert_not(command.seed_set || command.bos_set || command.parse_special);
    cr_assert_eq(command.logprobs, 0);
}

Test(command, takes_every_field_of_gen) {
    cr_assert(
        parse("GEN 1 max_tokens=2048 temperature=0.5 top_p=.25 top_k=2048 min_p=1e-1 "
              "repetition_penalty=2 seed=18446744073709551615 stop=a stop=\"b c\" logprobs=20 "
              "bytes=1 ignore_eos=1 bos=0 parse_special=1 deadline_ms=5 \"x\""));
    cr_assert_eq(command.max_tokens, 2048);
    cr_assert_eq(command.sampling.temperature, 0.5);
    cr_assert_eq(command.sampling.top_p, 0.25);
    cr_assert_eq(command.sampling.top_k, 2048);
    cr_assert_eq(command.sampling.min_p, 0.1);
    cr_assert_eq(command.sampling.repetition_penalty, 2);
    cr_assert_eq(command.sampling.seed, UINT64_MAX);
    cr_assert(command.seed_set);
    cr_assert_eq(command.n_stop, 2);
    cr_assert_eq(command.stop[1].length, 3);
    cr_assert_eq(command.logprobs, 20);
    cr_assert(command.bytes && command.ignore_eos && command.bos_set && !command.bos);
    cr_assert(command.parse_special);
    cr_assert_eq(command.deadline_ms, 5);
}

Test(command, names_every_bad_field_with_its_limits) {
    cr_assert_str_eq(errors_of("GEN 8 temperature=9 top_p=-1 \"x\""),
                     "temperature=0..2 top_p=0..1");
    cr_assert_str_eq(errors_of("GEN 9 tempurature=1 max_tokens=1 max_tokens=2"),
                     "tempurature=unknown field max_tokens=once prompt=1..32768 characters");
    cr_assert_str_eq(errors_of("GEN 10000 x=1 \"\""),
                     "tag=1..9999 x=unknown field prompt=1..32768 characters");
}

Test(command, rejects_each_field_just_outside_its_range) {
    static const struct {
        const char *field, *limits;
    } rows[] = {{"max_tokens=0", "1..2048"},
                {"max_tokens=2049", "1..2048"},
                {"max_tokens=1.5", "1..2048"},
                {"max_tokens=-1", "1..2048"},
                {"max_tokens=", "1..2048"},
                {"temperature=2.001", "0..2"},
                {"temperature=nan", "0..2"},
                {"temperature=inf", "0..2"},
                {"temperature=0x1", "0..2"},
                {"temperature=1.2.3", "0..2"},
                {"top_p=1.01", "0..1"},
                {"top_k=2049", "0..2048"},
                {"min_p=-0.1", "0..1"},
                {"repetition_penalty=2.1", "0..2"},
                {"seed=18446744073709551616", "0..18446744073709551615"},
                {"seed=-1", "0..18446744073709551615"},
                {"logprobs=21", "0..20"},
                {"bytes=2", "0|1"},
                {"bos=yes", "0|1"},
                {"deadline_ms=86400001", "0..86400000"},
                {"stop=\"\"", "1..100 bytes, at most 4 times"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[128], expected[128];
        snprintf(text, sizeof text, "GEN 1 %s \"x\"", rows[i].field);
        snprintf(expected, sizeof expected, "%.*s=%s", (int)strcspn(rows[i].field, "="),
                 rows[i].field, rows[i].limits);
        cr_assert_str_eq(errors_of(text), expected);
    }
}

Test(command, limits_stop_strings_to_four_of_100_bytes) {
    char text[FRAME_LINE_MAX];
    snprintf(text, sizeof text, "GEN 1 stop=%0100d \"x\"", 7);
    cr_assert(parse(text));
    cr_assert_eq(command.stop[0].length, 100);
    snprintf(text, sizeof text, "GEN 1 stop=%0101d \"x\"", 7);
    cr_assert_not(parse(text));
    cr_assert(parse("GEN 1 stop=a stop=b stop=c stop=d \"x\""));
    cr_assert_str_eq(errors_of("GEN 1 stop=a stop=b stop=c stop=d stop=e \"x\""),
                     "stop=1..100 bytes, at most 4 times");
}

Test(command, gives_each_verb_its_own_fields_only) {
    cr_assert(parse("SCORE 1 bos=1 deadline_ms=1 \"x\""));
    cr_assert_str_eq(errors_of("SCORE 1 temperature=1 \"x\""), "temperature=unknown field");
    cr_assert_str_eq(errors_of("PING 1"), "tag=none");
    cr_assert_str_eq(errors_of("HEALTH \"x\""), "text=none");
    cr_assert_str_eq(errors_of("HELLO proto=2"), "proto=1");
    cr_assert_str_eq(errors_of("HELLO mac=1"), "mac=unknown field");
    cr_assert_str_eq(errors_of("GEN 1 at=1 \"x\""), "at=unknown field");
    cr_assert_str_eq(errors_of("RUN 1 \"x\""), "text=staged with PUT");
    cr_assert_str_eq(errors_of("TOKENIZE"), "text=1..32768 characters");
    cr_assert_str_eq(errors_of("DETOKENIZE"), "ids=N,N,...");
    cr_assert(parse("TOKENIZE 1"), "a staged text may be there");
}

Test(command, every_verb_and_field_has_its_help) {
    for (const struct verb *verb = verbs; verb->name != NULL; verb++) {
        cr_assert(verb->help != NULL && verb->syntax != NULL && verb->handler != NULL, "%s",
                  verb->name);
    }
    for (const struct field *field = fields; field->name != NULL; field++) {
        char limits[48];
        field_limits(field, 0, limits);
        cr_assert(field->help != NULL && field->initial != NULL && limits[0] != '\0', "%s",
                  field->name);
        cr_assert(strlen(field->name) <= FRAME_NAME_MAX);
    }
}

/* Lines put together at random from what the grammar knows: never more errors than there is room
 * for, and none that has no limits. */
Test(command, survives_random_lines) {
    static const char *const words[] = {
        "GEN",       "RUN",         "SCORE",    "TOKENIZE", "DETOKENIZE",   "HELLO",   "1",
        "0",         "99999",       "top_k=",   "stop=\"",  "max_tokens=1", "seed=-",  "ids=1,2",
        "x=\"y\"",   "bos=1",       "\"text\"", "=",        "logprobs=20",  "min_p=.", "proto=1",
        "special=2", "stop=\"ab\"", "\"\"",     "bytes=1",  "top_p=1e400",  "ids=",    "stop="};
    srand(11);
    uint32_t commands = 0;
    for (int round = 0; round < 50000; round++) {
        char text[FRAME_LINE_MAX] = "";
        size_t length = 0;
        for (int n = 1 + rand() % 40; n > 0; n--) {
            length += (size_t)snprintf(text + length, sizeof text - length, "%s%s",
                                       words[rand() % (int)(sizeof words / sizeof *words)],
                                       rand() % 16 == 0 ? "" : " ");
        }
        struct fault fault;
        if (!frame_parse(text, length, &frame, &fault)) continue;
        const struct verb *verb = verb_find(verbs, frame.verb);
        if (verb == NULL) continue;
        commands++;
        bool good = command_parse(verb, &frame, vocab, &command, &errors);
        cr_assert_eq(good, errors.n == 0);
        for (uint32_t i = 0; i < errors.n; i++) cr_assert_neq(errors.error[i].limits[0], '\0');
        cr_assert_leq(command.n_stop, JOB_STOP_MAX);
    }
    cr_assert_gt(commands, 100);
}

Test(command, reads_lists_of_ids) {
    int32_t ids[4];
    struct frame_text text = {"1, 2,2047", 9};
    cr_assert_eq(command_read_ids(text, vocab, ids, 4), 3);
    cr_assert_eq(ids[2], 2047);
    static const char *const bad[] = {"2048", "1,x", "-1", "99999999999999999999", "1,2,3,4,5"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        text = (struct frame_text){bad[i], (uint32_t)strlen(bad[i])};
        cr_assert_eq(command_read_ids(text, vocab, ids, 4), -1, "%s", bad[i]);
    }
}
