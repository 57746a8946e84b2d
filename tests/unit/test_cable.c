/* A bad cable: CRC trailers, REPLAY and ACK, PUT at=. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server_rig.h"
#include "wire/output.h"
#include "wire/replay.h"

/* Every line of the text with its trailer. */
static const char *sealed(const char *text) {
    static char out[8192];
    static struct seal seal = {.kind = SEAL_CRC};
    size_t n = 0;
    while (*text != '\0') {
        const char *end = strchr(text, '\n');
        size_t length = (size_t)(end - text);
        memcpy(out + n, text, length);
        n += length + seal_write(&seal, text, length, out + n + length);
        out[n++] = '\n';
        text = end + 1;
    }
    out[n] = '\0';
    return out;
}

/* What the server said, its trailers checked, numbered without a gap, and taken off. */
static const char *opened(const char *said, struct seal *seal) {
    static char out[1 << 20];
    size_t n = 0;
    while (*said != '\0') {
        const char *end = strchr(said, '\n');
        size_t length = (size_t)(end - said);
        cr_assert(seal_check(seal, said, &length), "%.*s", (int)length, said);
        cr_assert_not(seal->lost, "%.*s", (int)length, said);
        memcpy(out + n, said, length);
        n += length;
        out[n++] = '\n';
        said = end + 1;
    }
    out[n] = '\0';
    return out;
}

struct cable {
    struct server_rig *rig;
    int fd;
    struct seal seal;
};

static const char *ask(struct cable *cable, const char *text) {
    return opened(server_rig_ask(cable->rig, cable->fd, sealed(text)), &cable->seal);
}

static struct cable cable_open(struct server_rig *rig) {
    struct cable cable = {.rig = rig, .fd = server_rig_connect(rig), .seal = {.kind = SEAL_CRC}};
    cr_assert_str_eq(ask(&cable, "HELLO proto=1 crc=1\n"), "220 - wick proto=1 crc=1\n");
    return cable;
}

Test(cable, lines_without_a_good_crc_are_refused_once_it_is_agreed) {
    struct server_rig *rig = server_rig_serving();
    struct cable cable = cable_open(rig);
    cr_expect_str_eq(ask(&cable, "PING\n"), "200 - pong\n");
    static const char *const bad[] = {"PING\n",           "PING *000000\n",   "PING *\n",
                                      "SHUTDOWN *0000\n", "HELLO *0012345\n", "BYEBYE\n",
                                      "BYE *000000\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *said = opened(server_rig_ask(rig, cable.fd, bad[i]), &cable.seal);
        cr_expect_eq(server_rig_count(said, "400 - BAD_LINE"), 1, "%s: %s", bad[i], said);
        cr_expect_eq(server_rig_count(said, ""), 1);
    }
    /* Who comes to a terminal that somebody left like that can begin anew. */
    cr_expect_str_eq(opened(server_rig_ask(rig, cable.fd, "\n"), &cable.seal), "");
    cr_expect_str_eq(server_rig_ask(rig, cable.fd, "HELLO proto=1\nPING\n"),
                     "220 - wick proto=1\n200 - pong\n");
    /* A trailer may be there without being agreed, and is looked at. */
    cr_expect_str_eq(server_rig_ask(rig, cable.fd, sealed("PING\n")), "200 - pong\n");
    cr_expect_eq(server_rig_count(server_rig_ask(rig, cable.fd, "PING *00ffff\n"), "400 - "), 1);
}

Test(cable, a_line_may_be_as_long_as_without_a_trailer) {
    struct server_rig *rig = server_rig_serving();
    struct cable cable = cable_open(rig);
    char line[FRAME_LINE_MAX + 2];
    memset(line, ' ', sizeof line);
    memcpy(line, "PING", 4);
    line[FRAME_LINE_MAX - 1] = '\n';
    line[FRAME_LINE_MAX] = '\0';
    cr_expect_str_eq(ask(&cable, line), "200 - pong\n");
    line[FRAME_LINE_MAX - 1] = ' ';
    line[FRAME_LINE_MAX] = '\n';
    line[FRAME_LINE_MAX + 1] = '\0';
    cr_expect_eq(server_rig_count(ask(&cable, line), "414 - "), 1);
}

/* The part of `text` from the line on that begins so. */
static const char *from_line(const char *text, const char *beginning) {
    const char *at =
        strncmp(text, beginning, strlen(beginning)) == 0 ? text : strstr(text, beginning);
    cr_assert_not_null(at, "no %s in %s", beginning, text);
    return at;
}

Test(cable, a_job_is_replayed_line_for_line_until_it_is_acknowledged) {
    struct server_rig *rig = server_rig_serving();
    struct cable cable = cable_open(rig);
    char all[8192];
    char want[9000];
    strcpy(all, ask(&cable, "GEN 7 max_tokens=9 seed=1 ignore_eos=1 \"a\"\n"));
    cr_assert_eq(server_rig_count(all, "151 7 "), 9);
    cr_assert_eq(server_rig_count(all, "250 7 end "), 1);

    snprintf(want, sizeof want, "232 7 replay from=0 lines=11 state=ended\n%s", all);
    cr_expect_str_eq(ask(&cable, "REPLAY 7\n"), want);
    cr_expect_str_eq(ask(&cable, "REPLAY 7 from=0\n"), want);
    snprintf(want, sizeof want, "232 7 replay from=6 lines=4 state=ended\n%s",
             from_line(all, "151 7 6 "));
    cr_expect_str_eq(ask(&cable, "REPLAY 7 from=6\n"), want);
    snprintf(want, sizeof want, "232 7 replay from=9 lines=1 state=ended\n%s",
             from_line(all, "250 7 "));
    cr_expect_str_eq(ask(&cable, "REPLAY 7 from=9\n"), want);
    cr_expect_eq(server_rig_count(ask(&cable, "REPLAY 7 from=3\n"), "404 7 NOT_KEPT "), 1);

    /* A request that comes twice runs once. */
    cr_expect_eq(server_rig_count(ask(&cable, "GEN 7 max_tokens=9 seed=1 \"a\"\n"), "409 7 "), 1);
    cr_expect_str_eq(ask(&cable, "ACK 7\n"), "");
    cr_expect_eq(server_rig_count(ask(&cable, "REPLAY 7\n"), "404 7 NOT_KEPT "), 1);
    cr_expect_eq(server_rig_count(ask(&cable, "GEN 7 max_tokens=1 \"a\"\n"), "250 7 "), 1);
}

Test(cable, a_job_waits_for_acknowledgements_when_its_ring_is_full) {
    struct server_rig *rig = server_rig_serving();
    struct cable cable = cable_open(rig);
    char text[64];
    const char *said = ask(&cable, "GEN 7 logprobs=20 ignore_eos=1 max_tokens=100 \"a\"\n");
    uint32_t tokens = server_rig_count(said, "151 7 ");
    cr_assert(tokens > 10 && tokens < 100, "%u tokens before it waits", tokens);
    cr_expect_eq(server_rig_count(ask(&cable, "PING\n"), "151 7 "), 0, "it waits");
    bool ended = false;
    for (int i = 0; i < 1000 && !ended; i++) {
        snprintf(text, sizeof text, "ACK 7 from=%u\n", tokens);
        said = ask(&cable, text);
        cr_assert(server_rig_count(said, "") > 0, "it goes on");
        tokens += server_rig_count(said, "151 7 ");
        ended = server_rig_count(said, "250 7 end ") == 1;
    }
    cr_expect_eq(tokens, 100);
}

Test(cable, a_job_that_waits_or_runs_says_so) {
    struct server_rig *rig = server_rig_serving();
    struct cable cable = cable_open(rig);
    rig->asleep = true;
    ask(&cable, "GEN 1 \"a\"\nGEN 2 \"a\"\nGEN 3 \"a\"\n");
    cr_expect_eq(
        server_rig_count(ask(&cable, "REPLAY 3\n"), "232 3 replay from=0 lines=0 state=queued"), 1);
    const char *said = ask(&cable, "REPLAY 1\n");
    cr_expect_eq(server_rig_count(said, "232 1 replay from=0 lines=1 state=running"), 1);
    cr_expect_eq(server_rig_count(said, "150 1 started "), 1);
    /* Leaving CRC behind leaves jobs alone. */
    said = server_rig_ask(rig, cable.fd, "HELLO\nSTOP 1\n");
    cr_expect_eq(server_rig_count(said, "230 1 stopped"), 1);
}

Test(cable, the_eldest_job_that_has_ended_gives_its_ring_to_a_new_one) {
    struct server_rig *rig = server_rig_serving(); /* slots=2 queue=2: 4 rings */
    struct cable cable = cable_open(rig);
    char text[64];
    for (unsigned tag = 1; tag <= 6; tag++) {
        snprintf(text, sizeof text, "GEN %u max_tokens=1 \"a\"\n", tag);
        cr_assert_eq(server_rig_count(ask(&cable, text), "250 "), 1);
    }
    cr_expect_eq(server_rig_count(ask(&cable, "REPLAY 2\n"), "404 2 "), 1);
    cr_expect_eq(server_rig_count(ask(&cable, "REPLAY 3\n"), "232 3 "), 1);
    /* And other sessions have rings of their own, which end with them. */
    struct cable other = cable_open(rig);
    cr_expect_eq(server_rig_count(ask(&other, "REPLAY 3\n"), "404 3 "), 1);
    ask(&cable, "BYE\n");
    for (uint32_t i = 0; i < rig->server.replay.n_rings; i++) {
        cr_expect_eq(rig->server.replay.ring[i].client, 0);
    }
}

Test(cable, without_a_crc_nothing_is_kept) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    server_rig_ask(rig, fd, "GEN 1 max_tokens=2 \"a\"\n");
    cr_expect_eq(server_rig_count(server_rig_ask(rig, fd, "REPLAY 1\n"), "404 1 NOT_KEPT "), 1);
    cr_expect_str_eq(server_rig_ask(rig, fd, "ACK 1\n"), "");
}

Test(cable, a_put_that_names_its_place_may_come_twice) {
    struct server_rig *rig = server_rig_serving();
    int fd = server_rig_connect(rig);
    cr_expect_str_eq(server_rig_ask(rig, fd, "PUT 1 at=0 \"abc\"\n"),
                     "210 1 put chars=3 bytes=3\n");
    cr_expect_str_eq(server_rig_ask(rig, fd, "PUT 1 at=3 \"de\"\n"), "210 1 put chars=5 bytes=5\n");
    cr_expect_str_eq(server_rig_ask(rig, fd, "PUT 1 at=3 \"de\"\n"), "210 1 put chars=5 bytes=5\n");
    cr_expect_str_eq(server_rig_ask(rig, fd, "PUT 1 \"f\"\n"), "210 1 put chars=6 bytes=6\n");
    cr_expect_str_eq(server_rig_ask(rig, fd, "PUT 1 at=7 \"x\"\n"),
                     "422 1 INVALID_REQUEST at=\"0..6\"\n");
    cr_expect_str_eq(server_rig_ask(rig, fd, "PUT 1 at=1 \"x\"\n"), "210 1 put chars=2 bytes=2\n");
    cr_expect_str_eq(server_rig_ask(rig, fd, "PUT 2 at=1 \"x\"\n"),
                     "422 2 INVALID_REQUEST at=\"0..0\"\n");
    cr_expect_str_eq(server_rig_ask(rig, fd, "STOP 2\n"), "230 2 idle\n");
}
