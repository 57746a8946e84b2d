#include <criterion/criterion.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "server_rig.h"

static void sleep_ms(long ms) {
    struct timespec pause = {.tv_nsec = ms * 1000000};
    nanosleep(&pause, NULL);
}

static uint32_t slots_free(struct server_rig *rig) {
    struct scheduler_counts counts;
    scheduler_counts(rig->server.scheduler, &counts);
    return counts.slots_free;
}

/* --- jobs ------------------------------------------------------------------------------------- */

Test(server, generates_with_indices_that_rise_and_one_end) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    const char *said =
        server_rig_ask(rig, fd, "GEN 7 max_tokens=4 temperature=0 seed=1 \"hello\"\n");
    cr_assert_eq(strncmp(said, "150 7 started model=\"tiny\" seed=1 prompt_tokens=", 48), 0, "%s",
                 said);
    for (int i = 0; i < 4; i++) {
        char beginning[32];
        snprintf(beginning, sizeof beginning, "151 7 %d \"", i);
        cr_assert_eq(server_rig_count(said, beginning), 1, "%s", said);
    }
    cr_assert_eq(server_rig_count(said, "250 7 end stop=MAX_TOKENS tokens=4 "), 1);
    cr_assert_eq(server_rig_count(said, ""), 6);
}

Test(server, returns_a_drawn_seed_and_draws_another_next_time) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    uint64_t first =
        server_rig_number(server_rig_ask(rig, fd, "GEN 1 max_tokens=1 \"a\"\n"), "seed=");
    uint64_t second =
        server_rig_number(server_rig_ask(rig, fd, "GEN 1 max_tokens=1 \"a\"\n"), "seed=");
    cr_assert(first != 0 && second != 0 && first != second);
}

Test(server, answers_a_bad_request_once_and_starts_nothing) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    cr_assert_str_eq(server_rig_ask(rig, fd, "GEN 8 temperature=9 top_p=-1 \"x\"\n"),
                     "422 8 INVALID_REQUEST temperature=\"0..2\" top_p=\"0..1\"\n");
    cr_assert_eq(rig->server.jobs.n, 0);
    cr_assert_eq(slots_free(rig), 2);
}

Test(server, refuses_a_tag_in_use_and_takes_it_again_after_the_end) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    rig->asleep = true;
    server_rig_ask(rig, fd, "GEN 3 max_tokens=2 \"a\"\n");
    cr_assert_eq(server_rig_count(server_rig_ask(rig, fd, "GEN 3 \"a\"\n"), "409 3 TAG_IN_USE "),
                 1);
    cr_assert_eq(server_rig_count(server_rig_ask(rig, fd, "PUT 3 \"a\"\n"), "409 3 TAG_IN_USE "),
                 1);
    rig->asleep = false;
    server_rig_turns(rig);
    cr_assert_eq(server_rig_count(server_rig_read(fd), "250 3 end "), 1);
    const char *said = server_rig_ask(rig, fd, "GEN 3 max_tokens=2 \"a\"\n");
    cr_assert_eq(server_rig_count(said, "250 3 end "), 1);
}

Test(server, separates_tags_of_two_clients) {
    struct server_rig *rig = server_rig_serving();
    int one = server_rig_connect(rig), two = server_rig_connect(rig);
    server_rig_send(one, "GEN 5 max_tokens=3 \"a\"\n");
    server_rig_send(two, "GEN 5 max_tokens=2 \"a\"\n");
    server_rig_turns(rig);
    cr_assert_eq(server_rig_count(server_rig_read(one), "151 5 "), 3);
    cr_assert_eq(server_rig_count(server_rig_read(two), "151 5 "), 2);
}

Test(server, is_busy_when_slots_and_queue_are_full) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    rig->asleep = true;
    const char *said = server_rig_ask(rig, fd,
                                      "GEN 1 \"a\"\nGEN 2 \"a\"\nGEN 3 \"a\"\nGEN 4 \"a\"\n"
                                      "GEN 5 \"a\"\nHEALTH\n");
    cr_assert_eq(server_rig_count(said, "150 "), 2);
    cr_assert_eq(server_rig_count(said, "503 5 BUSY "), 1);
    cr_assert_eq(server_rig_count(said, "201 - status=busy "), 1);
    cr_assert_not_null(strstr(said, " slots_free=0 slots=2 queued=2 queue=2 "));
}

Test(server, fits_max_tokens_to_the_context_unless_given) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    const char *said = server_rig_ask(rig, fd, "GEN 1 ignore_eos=1 \"a\"\n");
    cr_assert_eq(server_rig_count(said, "250 1 end stop=MAX_TOKENS "), 1, "%s", said);
    said = server_rig_ask(rig, fd, "GEN 1 max_tokens=128 \"a\"\n");
    cr_assert_eq(server_rig_count(said, "413 1 PROMPT_TOO_LONG "), 1, "%s", said);
}

Test(server, ends_at_a_stop_string_and_names_it) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    const char *said = server_rig_ask(rig, fd, "GEN 1 max_tokens=3 temperature=0 \"a\"\n");
    char text[64], ask[128], match[128];
    const char *token = strstr(said, "151 1 1 \"");
    cr_assert_not_null(token);
    snprintf(text, sizeof text, "%.*s", (int)strcspn(token + 9, "\""), token + 9);
    snprintf(ask, sizeof ask, "GEN 1 max_tokens=9 temperature=0 stop=zzz stop=\"%s\" \"a\"\n",
             text);
    snprintf(match, sizeof match, " match=\"%s\"\n", text);
    said = server_rig_ask(rig, fd, ask);
    cr_assert_eq(server_rig_count(said, "250 1 end stop=STOP_SEQUENCE "), 1, "%s", said);
    cr_assert_not_null(strstr(said, match), "%s", said);
}

Test(server, stop_gives_the_end_first_and_may_be_repeated) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    rig->asleep = true;
    server_rig_ask(rig, fd, "GEN 7 \"a\"\n");
    const char *said = server_rig_ask(rig, fd, "STOP 7\n");
    cr_assert_eq(strncmp(said, "250 7 end stop=CANCELLED tokens=0 ", 34), 0, "%s", said);
    cr_assert_eq(server_rig_count(said, "230 7 stopped"), 1);
    cr_assert_str_eq(server_rig_ask(rig, fd, "STOP 7\n"), "230 7 idle\n");
    cr_assert_eq(slots_free(rig), 2);
    cr_assert_eq(rig->aborted, 1, "the step of a stopped job is not worth finishing");
}

Test(server, scores_every_token_after_the_first) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    const char *said = server_rig_ask(rig, fd, "SCORE 6 \"hello hello world\"\n");
    cr_assert_eq(strncmp(said, "150 6 started model=\"tiny\" prompt_tokens=", 41), 0, "%s", said);
    uint64_t prompt = server_rig_number(said, "prompt_tokens=");
    cr_assert_gt(prompt, 2);
    cr_assert_eq(server_rig_count(said, "152 6 "), prompt - 1, "%s", said);
    const char *end = strstr(said, "250 6 end stop=DONE ");
    cr_assert_not_null(end, "%s", said);
    cr_assert_eq(server_rig_number(end, "tokens="), prompt - 1);
    cr_assert_not_null(strstr(end, " logprob_sum=-"));
    cr_assert_not_null(strstr(end, " perplexity="));
    cr_assert_str_eq(server_rig_ask(rig, fd, "SCORE 6 bos=0 parse_special=1 \"<s>\"\n"),
                     "422 6 INVALID_REQUEST text=\"at least 2 tokens\"\n");
}

/* --- staged texts ----------------------------------------------------------------------------- */

Test(server, runs_a_staged_text_as_gen_does) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    char gen[4096];
    snprintf(gen, sizeof gen, "%s",
             server_rig_ask(rig, fd, "GEN 5 max_tokens=3 seed=1 \"h\\xc3\\xa9llo\"\n"));
    cr_assert_str_eq(server_rig_ask(rig, fd, "PUT 5 \"h\\xc3\"\n"), "210 5 put chars=2 bytes=2\n");
    cr_assert_str_eq(server_rig_ask(rig, fd, "PUT 5 \"\\xa9llo\"\n"),
                     "210 5 put chars=5 bytes=6\n");
    cr_assert_eq(server_rig_count(server_rig_ask(rig, fd, "GEN 5 \"x\"\n"), "409 5 "), 1);
    cr_assert_eq(server_rig_count(server_rig_ask(rig, fd, "RUN 5 top_k=x\n"), "422 5 "), 1);
    const char *run = server_rig_ask(rig, fd, "RUN 5 max_tokens=3 seed=1\n");
    cr_assert_eq(strncmp(gen, run, strcspn(gen, "\n")), 0, "%s%s", gen, run);
    cr_assert_eq(server_rig_count(run, "151 5 "), 3);
    cr_assert_str_eq(server_rig_ask(rig, fd, "RUN 5\n"),
                     "422 5 INVALID_REQUEST prompt=\"1..32768 characters\"\n");
}

Test(server, limits_a_staged_text_to_32768_characters) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    char put[FRAME_LINE_MAX];
    snprintf(put, sizeof put, "PUT 5 \"%0512d\"\n", 1);
    for (int i = 0; i < 64; i++) {
        cr_assert_eq(server_rig_count(server_rig_ask(rig, fd, put), "210 5 "), 1);
    }
    cr_assert_str_eq(server_rig_ask(rig, fd, "PUT 5 \"x\"\n"),
                     "422 5 INVALID_REQUEST text=\"1..32768 characters\"\n");
    const char *said = server_rig_ask(rig, fd, "RUN 5\n");
    cr_assert_eq(server_rig_count(said, "413 5 PROMPT_TOO_LONG "), 1);
    cr_assert_str_eq(server_rig_ask(rig, fd, "STOP 5\n"), "230 5 stopped\n");
}

Test(server, gives_staging_places_back) {
    struct server_rig *rig = server_rig_serving();
    int one = server_rig_connect(rig), two = server_rig_connect(rig);
    server_rig_ask(rig, one, "PUT 1 \"a\"\nPUT 2 \"a\"\nPUT 3 \"a\"\nPUT 4 \"a\"\n");
    const char *said = server_rig_ask(rig, two, "PUT 1 \"a\"\n");
    cr_assert_eq(server_rig_count(said, "503 1 BUSY "), 1, "%s", said);
    close(one);
    server_rig_turns(rig);
    cr_assert_eq(server_rig_count(server_rig_ask(rig, two, "PUT 1 \"a\"\n"), "210 1 "), 1);
}

/* --- text and ids ----------------------------------------------------------------------------- */

Test(server, turns_text_into_ids_and_back) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    char ids[512], ask[600];
    const char *said = server_rig_ask(rig, fd, "TOKENIZE bos=0 \"hello world\"\n");
    const char *list = strstr(said, " ids=");
    cr_assert_not_null(list, "%s", said);
    snprintf(ids, sizeof ids, "%.*s", (int)strcspn(list + 5, "\n"), list + 5);
    snprintf(ask, sizeof ask, "DETOKENIZE 9 ids=%s\n", ids);
    cr_assert_str_eq(server_rig_ask(rig, fd, ask), "241 9 \"hello world\"\n");
    said = server_rig_ask(rig, fd, "DETOKENIZE ids=1,99999\n");
    cr_assert_eq(server_rig_count(said, "422 - INVALID_REQUEST ids=\"0.."), 1, "%s", said);
}

Test(server, writes_a_long_answer_as_its_reader_reads) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig), other = server_rig_connect(rig);
    char put[FRAME_LINE_MAX];
    snprintf(put, sizeof put, "PUT 5 \"%0900d\"\n", 1);
    for (int i = 0; i < 36; i++) server_rig_ask(rig, fd, put);
    int small = 4096;
    setsockopt(rig->server.client[0].out, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    server_rig_send(fd, "TOKENIZE 5\nPING\n");
    server_rig_turns(rig);
    cr_assert_not_null(rig->server.listing.client, "the answer is larger than all buffers");
    cr_assert_eq(server_rig_count(server_rig_ask(rig, other, "TOKENIZE \"a\"\n"), "503 - BUSY "),
                 1);
    cr_assert_str_eq(server_rig_ask(rig, other, "PING\n"), "200 - pong\n");
    uint32_t last = 0, pongs = 0, ids = 0, tokens = 0;
    for (int i = 0; i < 2000 && pongs == 0; i++) {
        const char *said = server_rig_read(fd);
        if (tokens == 0) tokens = (uint32_t)server_rig_number(said, "240-5 tokens=");
        for (const char *c = said; *c != '\0'; c++) ids += *c == ',';
        ids += server_rig_count(said, "240");
        last += server_rig_count(said, "240 5 ids=");
        pongs += server_rig_count(said, "200 - pong");
        server_rig_turns(rig);
    }
    cr_assert_eq(last, 1);
    cr_assert_eq(pongs, 1, "the next command is answered after the last line");
    cr_assert_gt(tokens, 10000);
    cr_assert_eq(ids, tokens);
    cr_assert_eq(server_rig_count(server_rig_ask(rig, other, "TOKENIZE \"a\"\n"), "240 - "), 1);
}

/* --- clients that come, go and stall ---------------------------------------------------------- */

Test(server, frees_the_slot_of_a_client_that_goes) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    rig->asleep = true;
    server_rig_ask(rig, fd, "GEN 1 \"a\"\nGEN 2 \"a\"\nGEN 3 \"a\"\n");
    cr_assert_eq(slots_free(rig), 0);
    close(fd);
    server_rig_turns(rig);
    cr_assert_eq(slots_free(rig), 2);
    cr_assert_eq(rig->server.jobs.n, 0);
    cr_assert_eq(server_connections(&rig->server), 0);
}

Test(server, finishes_jobs_of_a_client_that_closed_its_sending_side) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    rig->pending = 3;
    server_rig_send(fd, "GEN 1 max_tokens=3 \"a\"\n");
    shutdown(fd, SHUT_WR);
    server_rig_turns(rig);
    const char *said = server_rig_read(fd);
    cr_assert_eq(server_rig_count(said, "130 - eof jobs=1"), 1, "%s", said);
    cr_assert_eq(server_rig_count(said, "250 1 end stop=MAX_TOKENS "), 1, "%s", said);
    cr_assert(server_rig_is_closed(fd));
}

Test(server, obeys_commands_of_a_client_that_closed_at_once) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    server_rig_send(fd, "SHUTDOWN\n");
    close(fd);
    server_rig_turns(rig);
    cr_assert_eq(rig->server.phase, SERVER_OVER);
}

Test(server, closes_after_bye_and_ends_the_jobs) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    rig->asleep = true;
    server_rig_ask(rig, fd, "GEN 1 \"a\"\n");
    cr_assert_str_eq(server_rig_ask(rig, fd, "BYE\nPING\n"), "221 - bye\n");
    cr_assert(server_rig_is_closed(fd));
    cr_assert_eq(slots_free(rig), 2);
}

Test(server, ends_the_jobs_of_a_stuck_client_and_nobody_elses) {
    struct server_rig *rig = server_rig_new();
    rig->config.stall_ms = 30;
    struct fault fault;
    server_rig_open(rig);
    cr_assert_eq(server_load(&rig->server, &fault), SERVER_READY);
    server_ready(&rig->server);
    int stuck = server_rig_connect(rig), other = server_rig_connect(rig);
    int small = 1;
    setsockopt(rig->server.client[0].out, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    /* Two jobs that say more than its output buffer holds. */
    server_rig_send(stuck,
                    "GEN 1 logprobs=20 ignore_eos=1 \"a\"\nGEN 2 logprobs=20 ignore_eos=1 \"a\"\n");
    server_rig_turns(rig);
    cr_assert(rig->server.jobs.job[0].held, "it has been paused");
    cr_assert_eq(rig->server.jobs.n, 2);
    const char *said = server_rig_ask(rig, other, "GEN 1 max_tokens=3 \"a\"\nPING\n");
    cr_assert_str_eq(said, "200 - pong\n", "it waits for a slot, and is answered meanwhile");
    sleep_ms(40);
    server_rig_turns(rig);
    cr_assert_eq(server_rig_count(server_rig_read(other), "250 1 end stop=MAX_TOKENS "), 1);
    cr_assert_eq(rig->server.jobs.n, 0);
    cr_assert_eq(slots_free(rig), 2);
    cr_assert_not(rig->server.client[0].output.overrun);
    /* When it reads at last, nothing is missing. */
    uint32_t timeouts = 0, pongs = 0;
    server_rig_send(stuck, "PING\n");
    for (int i = 0; i < 2000 && pongs == 0; i++) {
        said = server_rig_read(stuck);
        timeouts += server_rig_count(said, "508 1 INFERENCE_TIMEOUT ");
        timeouts += server_rig_count(said, "508 2 INFERENCE_TIMEOUT ");
        pongs += server_rig_count(said, "200 - pong");
        server_rig_turns(rig);
    }
    cr_assert_eq(pongs, 1);
    cr_assert_eq(timeouts, 2);
}

Test(server, resumes_a_paused_job_when_its_client_reads) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    int small = 1;
    setsockopt(rig->server.client[0].out, SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
    server_rig_send(fd,
                    "GEN 1 logprobs=20 ignore_eos=1 \"a\"\nGEN 2 logprobs=20 ignore_eos=1 \"a\"\n");
    server_rig_turns(rig);
    cr_assert(rig->server.jobs.job[0].held);
    uint32_t ended = 0, tokens = 0, started = 0;
    for (int i = 0; i < 5000 && ended < 2; i++) {
        const char *said = server_rig_read(fd);
        started += server_rig_count(said, "150 ");
        tokens += server_rig_count(said, "151 ");
        ended += server_rig_count(said, "250 1 end stop=MAX_TOKENS ");
        ended += server_rig_count(said, "250 2 end stop=MAX_TOKENS ");
        server_rig_turns(rig);
    }
    cr_assert_eq(started, 2);
    cr_assert_eq(ended, 2);
    cr_assert_gt(tokens, 200);
}

/* A client that sends commands and never reads answers is not read from for ever. */
Test(server, stops_reading_from_a_client_that_does_not_read) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig), other = server_rig_connect(rig);
    uint32_t sent = 0;
    for (int i = 0; i < 20000; i++) {
        if (write(fd, "METRICS\n", 8) != 8) break;
        sent++;
        if (i % 16 == 0) server_turn(&rig->server, 0);
    }
    cr_assert_lt(sent, 20000);
    cr_assert_not(rig->server.client[0].output.overrun);
    cr_assert_str_eq(server_rig_ask(rig, other, "PING\n"), "200 - pong\n");
    uint32_t answered = 0;
    for (int i = 0; i < 20000 && answered < sent; i++) {
        answered += server_rig_count(server_rig_read(fd), "203 - # EOF");
        server_rig_turns(rig);
    }
    cr_assert_eq(answered, sent);
}

Test(server, serves_64_connections_and_no_more) {
    struct server_rig *rig = server_rig_serving();
    int fd[WIRE_CLIENTS_MAX];
    for (int i = 0; i < WIRE_CLIENTS_MAX; i++) {
        fd[i] = server_rig_connect(rig);
        cr_assert_geq(fd[i], 0);
    }
    cr_assert_eq(server_rig_connect(rig), -1);
    close(fd[17]);
    server_rig_turns(rig);
    cr_assert_geq(server_rig_connect(rig), 0);
}

/* --- noise ------------------------------------------------------------------------------------ */

Test(server, answers_noise_with_one_error_a_line) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    static char flood[200 * 1000];
    memset(flood, 'x', sizeof flood - 1);
    uint32_t overlong = 0;
    for (size_t at = 0; at < sizeof flood - 1; at += 1000) {
        cr_assert_eq(write(fd, flood + at, 1000), 1000);
        server_rig_turns(rig);
        overlong += server_rig_count(server_rig_read(fd), "414 - LINE_TOO_LONG ");
    }
    cr_assert_eq(overlong, 1);
    cr_assert_str_eq(server_rig_ask(rig, fd, "\nPING\n"), "200 - pong\n");
    cr_assert_eq(server_rig_count(server_rig_ask(rig, fd, "\x01\x02\xff\n"), "400 - BAD_LINE "), 1);
    cr_assert_eq(server_rig_count(server_rig_ask(rig, fd, "FOO 1\n"), "405 - UNKNOWN_VERB "), 1);
    cr_assert_str_eq(server_rig_ask(rig, fd, "\r\n   \nPING\r\n"), "200 - pong\n");
}

Test(server, closes_after_twenty_bad_lines_in_a_row) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    for (int i = 0; i < CLIENT_BAD_LINES_MAX - 1; i++) server_rig_ask(rig, fd, "foo\n");
    cr_assert_str_eq(server_rig_ask(rig, fd, "PING\n"), "200 - pong\n");
    for (int i = 0; i < CLIENT_BAD_LINES_MAX; i++) {
        cr_assert_eq(server_rig_count(server_rig_ask(rig, fd, "foo\n"), "400 - "), 1);
    }
    cr_assert(server_rig_is_closed(fd));
}

Test(server, sends_http_and_tls_away_with_one_line) {
    struct server_rig *rig = server_rig_serving();
    static const char *const strange[] = {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
                                          "\x16\x03\x01\x02\x01\x01\n\n\n zz\n"};
    for (size_t i = 0; i < 2; i++) {
        int fd = server_rig_connect(rig);
        const char *said = server_rig_ask(rig, fd, strange[i]);
        cr_assert_eq(server_rig_count(said, "400 - BAD_LINE \"this is not "), 1, "%s", said);
        cr_assert_eq(server_rig_count(said, ""), 1);
        cr_assert(server_rig_is_closed(fd));
    }
}

Test(server, knows_tls_by_bytes_that_come_one_by_one) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    cr_assert_str_eq(server_rig_ask(rig, fd, "\x16"), "");
    cr_assert_str_eq(server_rig_ask(rig, fd, "\x03"), "");
    const char *said = server_rig_ask(rig, fd, "\x01");
    cr_assert_eq(server_rig_count(said, "400 - BAD_LINE \"this is not TLS"), 1, "%s", said);
    cr_assert(server_rig_is_closed(fd));
}

Test(server, says_nothing_after_the_last_line) {
    struct server_rig *rig = server_rig_serving();
    int slow = server_rig_connect(rig), other = server_rig_connect(rig);
    char asked[400 * 8 + 1] = "";
    for (int i = 0; i < 400; i++) memcpy(asked + 8 * i, "METRICS\n", 9);
    server_rig_send(slow, asked);
    server_rig_turns(rig);
    cr_assert(rig->server.client[0].input_at < rig->server.client[0].input_end, "commands wait");
    server_rig_read(slow);
    server_rig_ask(rig, other, "SHUTDOWN\n");
    cr_assert_eq(rig->server.phase, SERVER_OVER);
    const char *said = server_rig_read(slow);
    size_t n = strlen(said);
    cr_assert(n > 15 && strcmp(said + n - 15, "261 - shutdown\n") == 0, "%s", said + n - 60);
}

/* --- the loop --------------------------------------------------------------------------------- */

Test(server, answers_while_a_step_is_computed) {
    struct server_rig *rig = server_rig_serving();
    int one = server_rig_connect(rig), two = server_rig_connect(rig);
    rig->asleep = true;
    server_rig_ask(rig, one, "GEN 1 \"a\"\n");
    cr_assert(rig->server.step);
    const char *said = server_rig_ask(rig, two, "HEALTH\nPING\n");
    cr_assert_eq(server_rig_count(said, "201 - status=ready model=\"tiny\" "), 1, "%s", said);
    cr_assert_eq(server_rig_count(said, "200 - pong"), 1);
    cr_assert(rig->server.step);
}

Test(server, sleeps_when_no_job_runs) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    server_rig_ask(rig, fd, "GEN 1 max_tokens=2 \"a\"\n");
    uint64_t before_ns = clock_ns();
    server_turn(&rig->server, 50);
    cr_assert_geq(clock_ns() - before_ns, 45u * 1000 * 1000);
}

Test(server, does_not_sleep_while_a_step_is_in_flight) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    rig->asleep = true;
    server_rig_ask(rig, fd, "GEN 1 \"a\"\n");
    uint64_t before_ns = clock_ns();
    server_turn(&rig->server, 500);
    cr_assert_lt(clock_ns() - before_ns, 250u * 1000 * 1000);
}

Test(server, ends_a_job_at_its_deadline) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    rig->asleep = true;
    server_rig_ask(rig, fd, "GEN 1 deadline_ms=10 \"a\"\n");
    sleep_ms(15);
    server_rig_turns(rig);
    const char *said = server_rig_read(fd);
    cr_assert_eq(server_rig_count(said, "508 1 INFERENCE_TIMEOUT "), 1, "%s", said);
    cr_assert_eq(said[strlen(said) - 2], '1'); /* retriable=1 */
}

Test(server, fails_every_job_when_the_backend_breaks) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    rig->fails = true;
    const char *said = server_rig_ask(rig, fd, "GEN 1 \"a\"\nGEN 2 \"a\"\nGEN 3 \"a\"\n");
    cr_assert_eq(server_rig_count(said, "530 1 WORKER_UNHEALTHY "), 1, "%s", said);
    cr_assert_eq(server_rig_count(said, "530 "), 3, "%s", said);
    said = server_rig_ask(rig, fd, "GEN 4 \"a\"\nHEALTH\n");
    cr_assert_eq(server_rig_count(said, "530 4 WORKER_UNHEALTHY "), 1, "%s", said);
    cr_assert_eq(server_rig_count(said, "201 - status=failed "), 1, "%s", said);
}

Test(server, tells_when_it_has_drained) {
    struct server_rig *rig = server_rig_serving();
    int one = server_rig_connect(rig), two = server_rig_connect(rig);
    rig->asleep = true;
    server_rig_ask(rig, one, "GEN 1 max_tokens=2 \"a\"\n");
    cr_assert_str_eq(server_rig_ask(rig, two, "DRAIN\n"), "160 - draining jobs=1\n");
    cr_assert_eq(
        server_rig_count(server_rig_ask(rig, two, "GEN 1 \"a\"\n"), "505 1 SHUTTING_DOWN "), 1);
    rig->asleep = false;
    server_rig_turns(rig);
    server_turn(&rig->server, 0);
    cr_assert_eq(server_rig_count(server_rig_read(one), "250 1 "), 1);
    cr_assert_str_eq(server_rig_read(two), "260 - drained\n");
    cr_assert_eq(rig->server.phase, SERVER_SERVING);
}

Test(server, shuts_down_when_the_last_job_has_ended) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig), other = server_rig_connect(rig);
    rig->asleep = true;
    server_rig_ask(rig, fd, "GEN 1 max_tokens=2 \"a\"\n");
    cr_assert_str_eq(server_rig_ask(rig, fd, "SHUTDOWN\n"), "161 - shutting_down jobs=1\n");
    cr_assert_eq(rig->server.phase, SERVER_SERVING);
    rig->asleep = false;
    server_rig_turns(rig);
    cr_assert_eq(rig->server.phase, SERVER_OVER);
    const char *said = server_rig_read(fd);
    cr_assert_eq(server_rig_count(said, "250 1 end stop=MAX_TOKENS "), 1, "%s", said);
    cr_assert_eq(server_rig_count(said, "261 - shutdown"), 1);
    cr_assert_str_eq(server_rig_read(other), "261 - shutdown\n");
}

Test(server, cuts_jobs_that_outlast_the_drain) {
    struct server_rig *rig = server_rig_new();
    rig->config.drain_ms = 10;
    struct fault fault;
    server_rig_open(rig);
    cr_assert_eq(server_load(&rig->server, &fault), SERVER_READY);
    server_ready(&rig->server);
    int fd = server_rig_connect(rig);
    rig->asleep = true;
    server_rig_ask(rig, fd, "GEN 1 \"a\"\nSHUTDOWN\n");
    sleep_ms(15);
    server_rig_turns(rig);
    const char *said = server_rig_read(fd);
    cr_assert_eq(server_rig_count(said, "505 1 SHUTTING_DOWN "), 1, "%s", said);
    cr_assert_eq(server_rig_count(said, "261 - shutdown"), 1);
    cr_assert_eq(rig->server.phase, SERVER_OVER);
}

/* --- real wires and signals ------------------------------------------------------------------- */

static struct server_rig *rig_listening(const char *wire) {
    struct server_rig *rig = server_rig_new();
    struct fault fault;
    rig->config.listen[0] = wire;
    rig->config.n_listen = 1;
    server_rig_open(rig);
    cr_assert(server_open(&rig->server, &fault), "%s", fault.text);
    cr_assert_eq(server_load(&rig->server, &fault), SERVER_READY);
    server_ready(&rig->server);
    return rig;
}

static int rig_dial(struct server_rig *rig) {
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    cr_assert_eq(getsockname(rig->server.wire[0].fd, (struct sockaddr *)&address, &length), 0);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert_eq(connect(fd, (struct sockaddr *)&address, length), 0);
    cr_assert_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

Test(server, tells_the_65th_connection_that_it_is_busy) {
    struct server_rig *rig = rig_listening("tcp:127.0.0.1:0");
    cr_assert_eq(strncmp(rig->server.wire[0].name, "tcp:127.0.0.1:", 14), 0);
    cr_assert_str_neq(rig->server.wire[0].name, "tcp:127.0.0.1:0");
    for (int i = 0; i < WIRE_CLIENTS_MAX; i++) rig_dial(rig);
    server_rig_turns(rig);
    int fd = rig_dial(rig);
    server_rig_turns(rig);
    cr_assert_str_eq(server_rig_read(fd), "503 - BUSY \"too many connections\" retriable=1\n");
    cr_assert(server_rig_is_closed(fd));
}

Test(server, obeys_sigterm_as_shutdown_and_cuts_at_the_second) {
    struct server_rig *rig = rig_listening("tcp:127.0.0.1:0");
    int fd = rig_dial(rig);
    rig->asleep = true;
    server_rig_ask(rig, fd, "GEN 1 \"a\"\n");
    kill(getpid(), SIGTERM);
    server_rig_turns(rig);
    cr_assert(rig->server.draining);
    cr_assert_eq(rig->server.phase, SERVER_SERVING);
    kill(getpid(), SIGINT);
    server_rig_turns(rig);
    cr_assert_eq(rig->server.phase, SERVER_OVER);
    const char *said = server_rig_read(fd);
    cr_assert_eq(server_rig_count(said, "505 1 SHUTTING_DOWN "), 1, "%s", said);
    cr_assert_eq(server_rig_count(said, "261 - shutdown"), 1, "%s", said);
}

Test(server, leaves_a_tty_alone_whose_other_side_hung_up) {
    int terminal, other;
    char name[64], wire[96];
    cr_assert_eq(openpty(&terminal, &other, name, NULL, NULL), 0);
    snprintf(wire, sizeof wire, "tty:%s,115200", name);
    struct server_rig *rig = rig_listening(wire);
    close(other);
    cr_assert_eq(fcntl(terminal, F_SETFL, O_NONBLOCK), 0);
    cr_assert_eq(strncmp(server_rig_read(terminal), "220 - wick proto=1\n", 19), 0);
    for (int i = 0; i < 2 * CLIENT_BAD_LINES_MAX; i++) server_rig_ask(rig, terminal, "foo\n");
    const char *said = server_rig_ask(rig, terminal, "PING\r\n");
    cr_assert_str_eq(said, "200 - pong\n", "a tty is not closed for bad lines");
    said = server_rig_ask(rig, terminal, "BYE\nPING\n");
    cr_assert_str_eq(said, "221 - bye\n200 - pong\n");
    rig->asleep = true;
    server_rig_ask(rig, terminal, "GEN 1 \"a\"\n");
    cr_assert_eq(slots_free(rig), 1);
    close(terminal);
    server_rig_turns(rig);
    cr_assert_eq(slots_free(rig), 2);
    uint64_t before_ns = clock_ns();
    server_turn(&rig->server, 50);
    cr_assert_geq(clock_ns() - before_ns, 45u * 1000 * 1000, "it looks once a second, not always");
}

Test(wire, rejects_specs_that_are_none) {
    static const char *const bad[] = {"",
                                      "foo",
                                      "tcp:",
                                      "tcp:localhost:7411",
                                      "tcp:127.0.0.1",
                                      "tcp:127.0.0.1:",
                                      "tcp:127.0.0.1:65536",
                                      "tcp:127.0.0.1:12x",
                                      "tcp:[::1]7411",
                                      "tcp:[::1",
                                      "unix:",
                                      "tty:",
                                      "tty:,115200",
                                      "tty:/dev/ttyS0,12345",
                                      "stdio:"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct wire wire;
        struct fault fault;
        cr_assert_not(wire_open(&wire, bad[i], &fault), "%s", bad[i]);
        cr_assert_eq(fault.code, FAULT_INVALID_REQUEST, "%s", bad[i]);
        cr_assert_not_null(strstr(fault.text, bad[i]));
        cr_assert_eq(wire.fd, -1);
    }
}

Test(wire, replaces_a_stale_socket_and_spares_a_live_one_and_a_file) {
    char path[64], spec[80];
    struct wire wire, second;
    struct fault fault;
    snprintf(path, sizeof path, "/tmp/wick-test-%d", (int)getpid());
    snprintf(spec, sizeof spec, "unix:%s", path);
    cr_assert(wire_open(&wire, spec, &fault), "%s", fault.text);
    cr_assert_not(wire_open(&second, spec, &fault), "somebody listens there");
    cr_assert_not_null(strstr(fault.text, "another server"));
    wire_close(wire.kind, wire.fd);
    cr_assert(wire_open(&wire, spec, &fault), "it was left behind: %s", fault.text);
    wire_close(wire.kind, wire.fd);
    unlink(path);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    cr_assert_not(wire_open(&wire, spec, &fault));
    cr_assert_eq(access(path, F_OK), 0, "a file that is no socket is not ours to remove");
    unlink(path);
}

/* --- loading ---------------------------------------------------------------------------------- */

Test(server, answers_while_loading_and_tells_the_progress) {
    struct server_rig *rig = server_rig_new();
    struct fault fault;
    rig->load_calls = 8;
    server_rig_open(rig);
    int fd = server_rig_connect(rig);
    server_rig_send(fd, "HEALTH\nGEN 1 \"a\"\nPUT 1 \"a\"\nSTOP 1\nINFO\nHELP\nMETRICS\n");
    cr_assert_eq(server_load(&rig->server, &fault), SERVER_READY);
    server_ready(&rig->server);
    server_rig_turns(rig);
    const char *said = server_rig_read(fd);
    cr_assert_eq(strncmp(said, "220 - wick proto=1\n110 - loading percent=0\n", 43), 0, "%s", said);
    for (int percent = 0; percent <= 100; percent += 25) {
        char beginning[64];
        snprintf(beginning, sizeof beginning, "110 - loading percent=%d\n", percent);
        cr_assert_eq(server_rig_count(said, beginning), 1, "%s", said);
    }
    cr_assert_eq(server_rig_count(said, "201 - status=loading percent="), 1);
    cr_assert_eq(server_rig_count(said, "504 1 NOT_READY "), 2);
    cr_assert_eq(server_rig_count(said, "230 1 idle"), 1);
    cr_assert_eq(server_rig_count(said, "202 - end"), 1);
    cr_assert_eq(server_rig_count(said, "204 - "), 1);
    cr_assert_eq(server_rig_count(said, "203 - # EOF"), 1);
    cr_assert_eq(server_rig_count(said, "120 - ready model=\"tiny\" ctx=128 slots=2 backend=test"),
                 1, "%s", said);
}

Test(server, tells_clients_that_loading_failed) {
    struct server_rig *rig = server_rig_new();
    struct fault fault;
    rig->load_fails = true;
    rig->load_calls = 3;
    server_rig_open(rig);
    int fd = server_rig_connect(rig);
    cr_assert_eq(server_load(&rig->server, &fault), SERVER_FAILED);
    cr_assert_eq(fault.code, FAULT_MODEL_LOAD_FAILED);
    const char *said = server_rig_read(fd);
    cr_assert_eq(server_rig_count(said, "520 - MODEL_LOAD_FAILED \"tiny.gguf: offset 0x10: "), 1,
                 "%s", said);
}

Test(server, can_be_shut_down_while_loading) {
    struct server_rig *rig = server_rig_new();
    struct fault fault;
    rig->load_calls = 1000000;
    server_rig_open(rig);
    int fd = server_rig_connect(rig);
    server_rig_send(fd, "SHUTDOWN\n");
    cr_assert_eq(server_load(&rig->server, &fault), SERVER_STOPPED);
    const char *said = server_rig_read(fd);
    cr_assert_eq(server_rig_count(said, "261 - shutdown"), 1, "%s", said);
}

/* --- every line ------------------------------------------------------------------------------- */

/* Many clients do what they like; at the end every accepted job has had one terminal line. */
Test(server, gives_every_accepted_job_one_end_whatever_clients_do) {
    enum { CLIENTS = 6, ROUNDS = 3000 };
    struct server_rig *rig = server_rig_serving();
    int fd[CLIENTS];
    uint32_t started[CLIENTS] = {0}, ended[CLIENTS] = {0};
    uint64_t random = 42;
    for (int i = 0; i < CLIENTS; i++) fd[i] = server_rig_connect(rig);
    for (int round = 0; round < ROUNDS; round++) {
        random = random * 6364136223846793005ULL + 1442695040888963407ULL;
        uint32_t pick = (uint32_t)(random >> 33);
        int i = (int)(pick % CLIENTS);
        char ask[128];
        unsigned tag = 1 + pick / 7 % 3;
        switch (pick / 64 % 8) {
        case 0:
        case 1:
        case 2:
            snprintf(ask, sizeof ask, "GEN %u max_tokens=%u \"hello\"\n", tag, 1 + pick / 512 % 9);
            break;
        case 3:
            snprintf(ask, sizeof ask, "STOP %u\n", tag);
            break;
        case 4:
            snprintf(ask, sizeof ask, "SCORE %u \"hello hello\"\n", tag);
            break;
        case 5:
            snprintf(ask, sizeof ask, "nonsense\nPING\n");
            break;
        case 6:
            snprintf(ask, sizeof ask, "PUT %u \"x\"\nRUN %u max_tokens=2\n", tag, tag);
            break;
        default:
            ask[0] = '\0';
            break;
        }
        server_rig_send(fd[i], ask);
        rig->pending = pick / 4096 % 4;
        server_turn(&rig->server, 0);
        const char *said = server_rig_read(fd[i]);
        started[i] += server_rig_count(said, "150 ");
        ended[i] += server_rig_count(said, "250 ");
        if (ask[0] != '\0') continue;
        close(fd[i]);
        fd[i] = server_rig_connect(rig);
        started[i] = ended[i] = 0;
    }
    server_rig_turns(rig);
    for (int i = 0; i < CLIENTS; i++) {
        const char *said = server_rig_read(fd[i]);
        started[i] += server_rig_count(said, "150 ");
        ended[i] += server_rig_count(said, "250 ");
        cr_assert_geq(ended[i], started[i]); /* a job stopped in the queue ends without 150 */
    }
    cr_assert_eq(rig->server.jobs.n, 0);
    cr_assert_eq(slots_free(rig), 2);
}
