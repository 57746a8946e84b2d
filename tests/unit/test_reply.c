#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "wire/line.h"
#include "wire/reply.h"

static char memory[1 << 17];
static char taken[sizeof memory + 1];
static struct output output = {.bytes = memory, .size = sizeof memory};
static struct event event;
static struct reply_job job = {.tag = 7, .kind = JOB_GENERATE, .model = "tales-4m"};

/* All that was sent; every line must be one of the protocol's. */
static const char *said(void) {
    size_t n, length = 0;
    const char *bytes;
    while ((bytes = output_oldest(&output, &n)) != NULL) {
        memcpy(taken + length, bytes, n);
        length += n;
        output_take(&output, n);
    }
    taken[length] = '\0';
    for (char *line = taken; *line != '\0';) {
        char *end = strchr(line, '\n');
        cr_assert_not_null(end);
        cr_assert(end - line < FRAME_LINE_MAX);
        for (; line < end; line++) cr_assert(*line >= 0x20 && *line <= 0x7E);
        line = end + 1;
    }
    return taken;
}

static const char *said_of(enum event_kind kind) {
    event.kind = kind;
    reply_event(&output, &job, &event);
    return said();
}

static void text_set(const char *bytes, size_t n) {
    memcpy(event.text, bytes, n);
    event.text_bytes = (uint32_t)n;
}

Test(reply, writes_the_documented_lines) {
    event = (struct event){.seed = 1, .prompt_tokens = 5};
    cr_assert_str_eq(said_of(EVENT_STARTED),
                     "150 7 started model=\"tales-4m\" seed=1 prompt_tokens=5 slot=0\n");
    text_set(", there", 7);
    cr_assert_str_eq(said_of(EVENT_TOKEN), "151 7 0 \", there\"\n");
    event.index = 1;
    text_set(" was \xe2", 6);
    cr_assert_str_eq(said_of(EVENT_TOKEN), "151 7 1 \" was \\xe2\"\n");
    event = (struct event){.reason = STOP_MAX_TOKENS,
                           .tokens = 3,
                           .prompt_ms = 2.1,
                           .decode_ms = 3.9,
                           .stop_index = -1};
    cr_assert_str_eq(
        said_of(EVENT_END),
        "250 7 end stop=MAX_TOKENS tokens=3 prompt_ms=2.1 decode_ms=3.9 tokens_per_s=769\n");
}

Test(reply, says_which_stop_string_matched) {
    struct job_stop stop[2] = {{1, "x"}, {2, "\n\n"}};
    job.stop = stop;
    job.n_stop = 2;
    event = (struct event){.reason = STOP_SEQUENCE, .stop_index = 1};
    cr_assert_not_null(strstr(said_of(EVENT_END), " match=\"\\n\\n\"\n"));
}

Test(reply, adds_logprobs_on_request) {
    job.logprobs = 2;
    event = (struct event){.token = 329, .logprob = -0.033, .n_top = 2};
    event.top[0] = (struct sampler_candidate){-0.033, 329};
    event.top[1] = (struct sampler_candidate){-4.3, 261};
    text_set(" was", 4);
    cr_assert_str_eq(said_of(EVENT_TOKEN),
                     "151 7 0 \" was\" id=329 logprob=-0.033 top=\"329:-0.033,261:-4.3\"\n");
}

Test(reply, splits_a_long_text_over_lines_of_one_index) {
    event = (struct event){.index = 3};
    memset(event.text, 'x', 700);
    event.text_bytes = 700;
    const char *lines = said_of(EVENT_TOKEN);
    cr_assert_eq(strncmp(lines, "151-7 3 \"xxx", 12), 0);
    const char *second = strchr(lines, '\n') + 1;
    cr_assert_eq(strncmp(second, "151 7 3 \"xxx", 12), 0);
    size_t x = 0;
    for (const char *c = lines; *c != '\0'; c++) x += *c == 'x';
    cr_assert_eq(x, 700);
}

/* What a job can say at most is what is kept free for it. */
Test(reply, stays_within_its_worst_cases) {
    static struct job_stop stop = {.length = JOB_STOP_BYTES_MAX};
    char name[65];
    memset(stop.text, 0xFF, sizeof stop.text);
    memset(name, 0xFF, 64);
    name[64] = '\0';
    job = (struct reply_job){
        .tag = 9999, .logprobs = JOB_LOGPROBS_MAX, .model = name, .stop = &stop, .n_stop = 1};
    event = (struct event){.seed = UINT64_MAX,
                           .prompt_tokens = 1 << 20,
                           .slot = 63,
                           .index = UINT32_MAX,
                           .token = (1 << 20) - 1,
                           .logprob = -1.234567e-300,
                           .n_top = JOB_LOGPROBS_MAX,
                           .tokens = UINT32_MAX,
                           .prompt_ms = 1e9,
                           .decode_ms = 1e9};
    memset(event.text, 0xFF, sizeof event.text);
    event.text_bytes = EVENT_TEXT_MAX;
    for (int i = 0; i < JOB_LOGPROBS_MAX; i++) {
        event.top[i] = (struct sampler_candidate){-1.234567e+30, (1 << 20) - 1};
    }
    cr_assert_leq(strlen(said_of(EVENT_STARTED)), REPLY_STARTED_MAX);
    cr_assert_leq(strlen(said_of(EVENT_TOKEN)), REPLY_TOKEN_MAX);
    event.reason = STOP_SEQUENCE;
    cr_assert_leq(strlen(said_of(EVENT_END)), REPLY_TERMINAL_MAX);
    event.fault.code = FAULT_INSUFFICIENT_RESOURCES;
    memset(event.fault.text, 0xFF, sizeof event.fault.text - 1);
    cr_assert_leq(strlen(said_of(EVENT_ERROR)), REPLY_TERMINAL_MAX);
    job.kind = JOB_SCORE;
    event.index = 1 << 20;
    event.text_bytes = REPLY_SCORE_TEXT_MAX;
    cr_assert_leq(strlen(said_of(EVENT_SCORE)), REPLY_SCORE_MAX);
    event.reason = STOP_MAX_TOKENS;
    event.logprob_sum = -1.23456789e-300;
    cr_assert_leq(strlen(said_of(EVENT_END)), REPLY_TERMINAL_MAX);
}

Test(reply, sums_a_score_up) {
    job = (struct reply_job){.tag = 6, .kind = JOB_SCORE, .model = "m"};
    event = (struct event){.reason = STOP_MAX_TOKENS, .tokens = 4, .logprob_sum = -4 * log(2.0)};
    cr_assert_str_eq(said_of(EVENT_END),
                     "250 6 end stop=DONE tokens=4 logprob_sum=-2.77258872 perplexity=2 "
                     "prompt_ms=0.0\n");
}

Test(reply, marks_errors_that_may_go_away) {
    struct fault fault = {FAULT_BUSY, "too many connections"};
    reply_fault(&output, 0, &fault);
    cr_assert_str_eq(said(), "503 - BUSY \"too many connections\" retriable=1\n");
    fault = (struct fault){FAULT_PROMPT_TOO_LONG, "a\"b\n"};
    reply_fault(&output, 12, &fault);
    cr_assert_str_eq(said(), "413 12 PROMPT_TOO_LONG \"a\\\"b\\n\"\n");
}

Test(reply, names_more_bad_fields_than_a_line_holds) {
    struct command_errors errors = {.n = 0};
    char name[33];
    snprintf(name, sizeof name, "%032d", 1);
    for (int i = 0; i < COMMAND_ERRORS_MAX; i++) command_error_add(&errors, name, "unknown field");
    reply_errors(&output, 8, &errors);
    const char *lines = said();
    cr_assert_eq(strncmp(lines, "422-8 INVALID_REQUEST 0000", 26), 0);
    uint32_t n = 0;
    for (const char *at = lines; (at = strstr(at, "=\"unknown field\"")) != NULL; at++) n++;
    cr_assert_eq(n, COMMAND_ERRORS_MAX);
}

Test(output, keeps_order_around_its_end_and_takes_whole_lines_only) {
    char small[16];
    struct output ring = {.bytes = small, .size = sizeof small};
    size_t n;
    output_put(&ring, "0123456789\n", 11);
    output_take(&ring, 8);
    output_put(&ring, "abcdefghij\n", 11);
    cr_assert_eq(output_free(&ring), 2);
    const char *bytes = output_oldest(&ring, &n);
    cr_assert(n == 8 && memcmp(bytes, "89\nabcde", 8) == 0);
    output_take(&ring, n);
    bytes = output_oldest(&ring, &n);
    cr_assert(n == 6 && memcmp(bytes, "fghij\n", 6) == 0);
    cr_assert_not(ring.overrun);
    output_put(&ring, "0123456789\n", 11);
    cr_assert(ring.overrun);
    cr_assert_eq(ring.used, 6);
}
