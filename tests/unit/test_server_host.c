#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "server_rig.h"
#include "wire/reply.h"

/* A machine that obeys the test. */
static struct {
    struct host host;
    int fd; /* polled; -1: none */
    uint32_t served, heard, progressed;
    enum host_wish wish;
    const char *notice;
    const char *log;
} machine = {.fd = -1};

static uint32_t machine_poll(struct host *host, struct pollfd *polled, uint64_t now_ns,
                             uint64_t *next_ns) {
    cr_assert_eq(host, &machine.host);
    (void)now_ns;
    (void)next_ns;
    polled[0] = (struct pollfd){.fd = machine.fd, .events = POLLIN};
    return 1;
}

static enum host_wish machine_serve(struct host *host, const struct pollfd *polled, uint32_t n,
                                    uint64_t now_ns) {
    (void)host;
    (void)now_ns;
    cr_assert_eq(n, 1);
    cr_assert_eq(polled[0].fd, machine.fd);
    machine.served++;
    machine.heard += polled[0].revents != 0;
    return machine.wish;
}

static void machine_progress(struct host *host, uint64_t now_ns) {
    (void)host;
    (void)now_ns;
    machine.progressed++;
}

static size_t machine_log(struct host *host, char *text, size_t size) {
    (void)host;
    size_t n = strlen(machine.log);
    cr_assert_leq(n, size);
    memcpy(text, machine.log, n);
    return n;
}

static void machine_notice(struct host *host, char text[HOST_NOTICE_BYTES]) {
    (void)host;
    snprintf(text, HOST_NOTICE_BYTES, "%s", machine.notice == NULL ? "" : machine.notice);
}

static void machine_complain(struct host *host, const char *what) {
    (void)host;
    machine.notice = what;
}

static const struct host_ops ops = {.poll = machine_poll,
                                    .serve = machine_serve,
                                    .progress = machine_progress,
                                    .log = machine_log,
                                    .notice = machine_notice,
                                    .complain = machine_complain};

/* A server that serves and has that machine around it. */
static struct server_rig *rig_on_machine(void) {
    struct server_rig *rig = server_rig_serving();
    machine.host.ops = &ops;
    rig->server.host = &machine.host;
    return rig;
}

/* A server that will have no model. */
static struct server_rig *rig_down(void) {
    struct server_rig *rig = server_rig_new();
    struct fault fault;
    server_rig_open(rig);
    machine.host.ops = &ops;
    rig->server.host = &machine.host;
    fault_set(&fault, FAULT_MODEL_LOAD_FAILED, "no disk \"begins\" with GGUF");
    server_fail(&rig->server, &fault);
    return rig;
}

static bool has(const char *text, const char *part) {
    return strstr(text, part) != NULL;
}

/* --- REBOOT --------------------------------------------------------------------------------- */

Test(server_host, a_plain_process_refuses_to_reboot) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    const char *answer = server_rig_ask(rig, fd, "REBOOT\n");
    cr_assert(has(answer, "405 - UNKNOWN_VERB \"REBOOT: wick is a plain process"), "%s", answer);
    cr_assert_eq(rig->server.phase, SERVER_SERVING);
    cr_assert_not(rig->server.reboot);
}

Test(server_host, reboot_lets_jobs_end_and_says_what_follows) {
    struct server_rig *rig = rig_on_machine();
    int fd = server_rig_connect(rig);
    server_rig_send(fd, "GEN 1 max_tokens=3 \"a\"\nREBOOT\n");
    server_rig_turns(rig);
    const char *answer = server_rig_read(fd);
    cr_assert(has(answer, "162 - rebooting jobs=1\n"), "%s", answer);
    cr_assert(has(answer, "250 1 end stop=MAX_TOKENS"), "%s", answer);
    cr_assert(has(answer, "261 - shutdown\n"), "%s", answer);
    cr_assert_eq(rig->server.phase, SERVER_OVER);
    cr_assert(rig->server.reboot);
}

Test(server_host, shutdown_is_no_reboot) {
    struct server_rig *rig = rig_on_machine();
    int fd = server_rig_connect(rig);
    server_rig_ask(rig, fd, "SHUTDOWN\n");
    cr_assert_eq(rig->server.phase, SERVER_OVER);
    cr_assert_not(rig->server.reboot);
}

/* --- the loop ------------------------------------------------------------------------------- */

Test(server_host, the_machines_wish_drains_and_ends) {
    struct server_rig *rig = rig_on_machine();
    int fd = server_rig_connect(rig);
    server_rig_send(fd, "GEN 1 max_tokens=3 \"a\"\n");
    server_turn(&rig->server, 0);
    machine.wish = HOST_SHUTDOWN;
    server_rig_turns(rig);
    const char *answer = server_rig_read(fd);
    cr_assert(has(answer, "250 1 end stop=MAX_TOKENS"), "%s", answer);
    cr_assert_eq(rig->server.phase, SERVER_OVER);
}

Test(server_host, its_descriptors_are_waited_for_with_all_others) {
    struct server_rig *rig = rig_on_machine();
    int ends[2];
    cr_assert_eq(pipe(ends), 0);
    machine.fd = ends[0];
    server_turn(&rig->server, 0);
    cr_assert_eq(machine.served, 1);
    cr_assert_eq(machine.heard, 0);
    cr_assert_eq(write(ends[1], "x", 1), 1);
    server_turn(&rig->server, 10000); /* ends at once */
    cr_assert_eq(machine.heard, 1);
}

Test(server_host, every_turn_is_progress_but_that_of_a_step_that_hangs) {
    struct server_rig *rig = rig_on_machine();
    server_turn(&rig->server, 0);
    cr_assert_eq(machine.progressed, 1);
    rig->asleep = true;
    int fd = server_rig_connect(rig);
    server_rig_send(fd, "GEN 1 max_tokens=3 \"a\"\n");
    for (int i = 0; i < 5; i++) server_turn(&rig->server, 0);
    cr_assert(rig->server.step);
    uint32_t before = machine.progressed;
    cr_assert_gt(before, 3);
    rig->server.step_ns = clock_ns() - (uint64_t)SERVER_STEP_HANGS_S * 1000000000u;
    server_turn(&rig->server, 0);
    cr_assert_eq(machine.progressed, before);
}

/* --- down ----------------------------------------------------------------------------------- */

Test(server_host, health_of_a_server_that_is_down_says_why_and_what_else_is_wrong) {
    struct server_rig *rig = rig_down();
    machine.notice = "module x.ko: no such file";
    int fd = server_rig_connect(rig);
    const char *answer = server_rig_ask(rig, fd, "HEALTH\n");
    cr_assert(has(answer, "status=failed "), "%s", answer);
    cr_assert(has(answer, " resident=no "), "%s", answer);
    cr_assert(has(answer, " code=MODEL_LOAD_FAILED reason=\"no disk \\\"begins\\\" with GGUF\""),
              "%s", answer);
    cr_assert(has(answer, " notice=\"module x.ko: no such file\"\n"), "%s", answer);
}

Test(server_host, a_server_that_is_down_does_not_greet_as_one_that_loads) {
    struct server_rig *rig = rig_down();
    int fd = server_rig_connect(rig);
    server_rig_turns(rig);
    cr_assert_str_eq(server_rig_read(fd), "220 - wick proto=1\n");
}

Test(server_host, verbs_that_need_a_model_are_refused_with_the_reason) {
    struct server_rig *rig = rig_down();
    int fd = server_rig_connect(rig);
    static const char *const refused[] = {
        "GEN 1 \"a\"\n",    "PUT 1 \"a\"\n",      "RUN 1\n", "SCORE 1 \"a b\"\n",
        "TOKENIZE \"a\"\n", "DETOKENIZE ids=1\n", "DRAIN\n"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        server_rig_read(fd);
        const char *answer = server_rig_ask(rig, fd, refused[i]);
        cr_expect_eq(strncmp(answer, "520 ", 4), 0, "%s%s", refused[i], answer);
        cr_expect(has(answer, "MODEL_LOAD_FAILED \"no disk"), "%s", answer);
    }
    static const char *const answered[] = {"HEALTH\n", "INFO\n", "METRICS\n", "PING\n",
                                           "HELP\n",   "LOG\n",  "HELLO\n",   "STOP 1\n"};
    machine.log = "";
    for (size_t i = 0; i < sizeof answered / sizeof *answered; i++) {
        server_rig_read(fd);
        const char *answer = server_rig_ask(rig, fd, answered[i]);
        cr_expect_eq(answer[0], '2', "%s%s", answered[i], answer);
    }
}

Test(server_host, a_model_that_fails_to_load_leaves_the_server_there_to_tell) {
    struct server_rig *rig = server_rig_new();
    struct fault fault;
    server_rig_open(rig);
    machine.host.ops = &ops;
    rig->server.host = &machine.host;
    rig->load_fails = true;
    rig->load_calls = 2;
    int fd = server_rig_connect(rig);
    cr_assert_eq(server_load(&rig->server, &fault), SERVER_FAILED);
    server_rig_turns(rig);
    const char *answer = server_rig_read(fd);
    cr_assert(has(answer, "520 - MODEL_LOAD_FAILED"), "%s", answer);
    cr_assert(has(server_rig_ask(rig, fd, "HEALTH\n"), "status=failed"));
}

Test(server_host, orders_are_taken_when_down) {
    struct server_rig *rig = rig_down();
    int fd = server_rig_connect(rig);
    const char *answer = server_rig_ask(rig, fd, "REBOOT\n");
    cr_assert(has(answer, "162 - rebooting jobs=0\n261 - shutdown\n"), "%s", answer);
    cr_assert_eq(rig->server.phase, SERVER_OVER);
}

/* --- LOG ------------------------------------------------------------------------------------ */

Test(server_host, log_gives_the_last_lines_quoted) {
    struct server_rig *rig = rig_on_machine();
    machine.log = "[ 1.0] one\n[ 2.0] \"two\" \\\n[ 3.0] \xc3\xa9\n";
    int fd = server_rig_connect(rig);
    cr_assert_str_eq(server_rig_ask(rig, fd, "LOG\n"), "205-- \"[ 1.0] one\"\n"
                                                       "205-- \"[ 2.0] \\\"two\\\" \\\\\"\n"
                                                       "205-- \"[ 3.0] \\xc3\\xa9\"\n"
                                                       "205 - end\n");
    cr_assert_str_eq(server_rig_ask(rig, fd, "LOG lines=1\n"),
                     "205-- \"[ 3.0] \\xc3\\xa9\"\n205 - end\n");
}

Test(server_host, log_of_nothing_is_its_last_line) {
    struct server_rig *rig = rig_on_machine();
    machine.log = "";
    int fd = server_rig_connect(rig);
    cr_assert_str_eq(server_rig_ask(rig, fd, "LOG\n"), "205 - end\n");
    machine.log = "no newline";
    cr_assert_str_eq(server_rig_ask(rig, fd, "LOG\n"), "205-- \"no newline\"\n205 - end\n");
    machine.log = "\n\n";
    cr_assert_str_eq(server_rig_ask(rig, fd, "LOG\n"), "205-- \"\"\n205-- \"\"\n205 - end\n");
}

/* The worst log there is: every byte takes four characters. */
Test(server_host, the_answer_to_log_stays_within_what_is_kept_for_it) {
    struct server_rig *rig = rig_on_machine();
    static char log[HOST_LOG_BYTES];
    for (size_t width = 1; width < 400; width += 37) {
        memset(log, 0x80, sizeof log - 1);
        for (size_t at = width; at < sizeof log - 1; at += width + 1) log[at] = '\n';
        machine.log = log;
        int fd = server_rig_connect(rig);
        const char *answer = server_rig_ask(rig, fd, "LOG lines=200\n");
        cr_expect_leq(strlen(answer), REPLY_ANSWER_MAX);
        cr_expect(server_rig_count(answer, "205-- ") > 0);
        cr_expect(has(answer, "205 - end\n"), "width %zu", width);
        close(fd);
        server_rig_turns(rig);
    }
}

Test(server_host, a_plain_process_tells_its_own_lines) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    log_event(LOG_ERROR, "test", "number=%d", 4711);
    const char *answer = server_rig_ask(rig, fd, "LOG lines=1\n");
    cr_assert(has(answer, "wick error test number=4711\"\n205 - end\n"), "%s", answer);
    cr_assert(
        has(server_rig_ask(rig, fd, "LOG lines=0\n"), "422 - INVALID_REQUEST lines=\"1..200\""));
}
