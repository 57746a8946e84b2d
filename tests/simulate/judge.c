#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"
#include "peer.h"
#include "sim.h"
#include "wire/frame.h"

/* A reply taken apart; the parts point into its line. */
struct heard {
    struct peer *peer;
    int code;
    bool more; /* "-": it goes on */
    uint32_t tag;
    const char *rest; /* terminated */
};

static void holds(const struct heard *heard, bool condition, const char *what) {
    sim_require(condition, "peer %u, `%d %u %s`: %s", heard->peer->number, heard->code, heard->tag,
                heard->rest, what);
}

/* ^([1-5]\d\d)([ -])(-|\d+)(?: (.*))?$ */
static struct heard reply_read(struct peer *peer, char *line, uint32_t n) {
    struct heard heard = {.peer = peer, .rest = line + n};
    char *at = line + 4;
    bool fine = n >= 5 && line[0] >= '1' && line[0] <= '5' && line[1] >= '0' && line[1] <= '9' &&
                line[2] >= '0' && line[2] <= '9' && (line[3] == ' ' || line[3] == '-');
    sim_require(fine, "peer %u hears what is no reply: %s", peer->number, line);
    heard.code = atoi(line);
    heard.more = line[3] == '-';
    if (*at == '-')
        at++;
    else
        heard.tag = (uint32_t)strtoul(at, &at, 10);
    sim_require(at > line + 4 && (*at == ' ' || *at == '\0') && heard.tag <= FRAME_TAG_MAX,
                "peer %u hears what is no reply: %s", peer->number, line);
    if (*at == ' ') heard.rest = at + 1;
    return heard;
}

/* The number after ` name=` (or at the beginning), -1 when there is none. */
static double field_number(const char *rest, const char *name) {
    size_t n = strlen(name);
    for (const char *at = rest; (at = strstr(at, name)) != NULL; at++) {
        if ((at == rest || at[-1] == ' ') && at[n] == '=') return strtod(at + n + 1, NULL);
    }
    return -1;
}

/* The first quoted text at or after `at`, unescaped; returns what follows it. */
static const char *text_read(const struct heard *heard, const char *at, char *out, uint32_t *n) {
    const char *begin = strchr(at, '"');
    holds(heard, begin != NULL, "no text");
    const char *end = ++begin;
    while (*end != '"') {
        holds(heard, *end != '\0', "a text without an end");
        end += *end == '\\' ? 2 : 1;
    }
    size_t length;
    memcpy(out, begin, (size_t)(end - begin));
    holds(heard, frame_unescape(out, (size_t)(end - begin), &length), "a bad escape");
    *n = (uint32_t)length;
    return end + 1;
}

static bool is_near(double a, double b) {
    return fabs(a - b) <= 1e-4 * (1 + fabs(b));
}

/* --- lines of jobs --------------------------------------------------------------------------- */

/* A line of a job may come a second time where somebody has asked for that. */
static void credit_take(const struct heard *heard, struct errand *errand) {
    holds(heard, errand->credit > 0, "a line of a job comes twice");
    errand->credit--;
    sim_count(COUNT_REPLAYED_LINES);
}

static bool is_too_long(const struct errand *errand) {
    const struct job_request *request = &errand->request;
    uint32_t wanted = request->kind == JOB_SCORE ? 0 : request->max_tokens;
    return request->n_tokens + wanted > world.ctx ||
           request->n_tokens + wanted > world.n_pages * KV_PAGE_TOKENS;
}

/* The job that a line is of. The lines of one that has ended may have given their place to another
 * job: then the tag is that of a new one. */
static struct errand *errand_meant(const struct heard *heard) {
    struct errand *eldest = errand_of(heard->peer, heard->tag, false);
    struct errand *newest = errand_of(heard->peer, heard->tag, true);
    holds(heard, eldest != NULL, "nobody asked for that job");
    if (newest == eldest || !eldest->ended || eldest->credit > 0) return eldest;
    errand_forget(eldest);
    return newest;
}

static void hear_started(const struct heard *heard) {
    struct errand *errand = errand_meant(heard);
    if (errand->started && heard->peer->seal.kind == SEAL_CRC) {
        credit_take(heard, errand);
        return;
    }
    holds(heard, !errand->started && !errand->ended, "a job starts twice");
    holds(heard, !heard->peer->observer, "an observer's job starts");
    holds(heard, !errand->bad && !is_too_long(errand), "a bad job starts");
    holds(heard, field_number(heard->rest, "prompt_tokens") == errand->request.n_tokens, "tokens");
    holds(heard, field_number(heard->rest, "slot") < world.slots, "no such slot");
    struct job_request *request = &errand->request;
    if (request->kind == JOB_GENERATE) {
        const char *seed = strstr(heard->rest, " seed=");
        holds(heard, seed != NULL, "no seed");
        uint64_t number = strtoull(seed + 6, NULL, 10);
        if (errand->seed_told) holds(heard, number == request->sampling.seed, "another seed");
        request->sampling.seed = number;
    }
    errand->started = true;
    errand->next = request->kind == JOB_SCORE;
    errand->lone = malloc(sizeof *errand->lone);
    brain_run_alone(request, errand->lone);
    sim_count(COUNT_STARTED);
}

static struct errand *errand_speaking(const struct heard *heard) {
    struct errand *errand = errand_of(heard->peer, heard->tag, false);
    holds(heard, errand != NULL, "nobody asked for that job");
    holds(heard, errand->started, "a job speaks before it has started");
    return errand;
}

static void token_fields_check(const struct heard *heard, const struct errand *errand,
                               uint32_t index, const char *after) {
    const struct lone *lone = errand->lone;
    if (errand->request.logprobs == 0) {
        holds(heard, *after == '\0', "fields that nobody asked for");
        return;
    }
    holds(heard, field_number(after, "id") == lone->token[index], "another token than alone");
    const char *logprob = strstr(after, "logprob=");
    holds(heard, logprob != NULL && is_near(strtod(logprob + 8, NULL), lone->logprob[index]),
          "another log-probability than alone");
    bool top = errand->request.logprobs > 1;
    holds(heard, (strstr(after, " top=\"") != NULL) == top, "the best tokens");
}

static void hear_token(const struct heard *heard) {
    struct errand *errand = errand_speaking(heard);
    const struct lone *lone = errand->lone;
    char text[PEER_LINE_BYTES], *quote;
    uint32_t n, index = (uint32_t)strtoul(heard->rest, &quote, 10);
    const char *after = text_read(heard, quote, text, &n);
    bool again = index < errand->next;
    holds(heard, errand->request.kind == JOB_GENERATE, "a token of a score");
    holds(heard, index <= errand->next && (again || !errand->ended), "a token out of its turn");
    uint32_t most = lone->n_tokens + (lone->reason == STOP_EOS);
    holds(heard, index < most, "more tokens than alone");
    uint32_t *at = &errand->at;
    if (again) {
        credit_take(heard, errand);
        if (heard->peer->part_tag == 0) errand->again_at = errand->mark[index];
        at = &errand->again_at;
    }
    bool fits = *at + n <= lone->text_bytes && memcmp(lone->text + *at, text, n) == 0;
    holds(heard, fits, "another text than alone");
    *at += n;
    heard->peer->part_tag = heard->more ? heard->tag : 0;
    if (heard->more) return;
    token_fields_check(heard, errand, index, after);
    if (again) return;
    errand->mark[++errand->next] = errand->at;
    sim_count(COUNT_TOKENS);
}

static void hear_score(const struct heard *heard) {
    struct errand *errand = errand_speaking(heard);
    uint32_t index = (uint32_t)strtoul(heard->rest, NULL, 10);
    holds(heard, errand->request.kind == JOB_SCORE && !heard->more, "a score of a text");
    holds(heard, index >= 1 && index <= errand->lone->n_tokens, "more scores than tokens");
    const char *id = strstr(heard->rest, "\" id=");
    const char *logprob = strstr(heard->rest, " logprob=");
    holds(heard, id != NULL && logprob != NULL, "fields are missing");
    holds(heard, atoi(id + 5) == errand->lone->token[index], "another token than alone");
    holds(heard, is_near(strtod(logprob + 9, NULL), errand->lone->logprob[index]),
          "another log-probability than alone");
    if (index < errand->next) {
        credit_take(heard, errand);
        return;
    }
    holds(heard, index == errand->next && !errand->ended, "a score out of its turn");
    errand->next++;
    sim_count(COUNT_SCORES);
}

/* Everything has been heard: with CRC the job is kept until we acknowledge it. */
static void errand_close(const struct heard *heard, struct errand *errand) {
    errand->ended = true;
    snprintf(errand->last, sizeof errand->last, "%s", heard->rest);
    if (heard->peer->seal.kind != SEAL_CRC || heard->code == 409) errand_forget(errand);
}

static void end_reason_check(const struct heard *heard, const struct errand *errand) {
    const struct lone *lone = errand->lone;
    const char *word = stop_reason_word(lone->reason);
    uint32_t tokens = (uint32_t)field_number(heard->rest, "tokens");
    size_t n = strlen(word);
    bool same = strncmp(heard->rest + 9, word, n) == 0 && heard->rest[9 + n] == ' ';
    holds(heard, same, "another reason than alone");
    holds(heard, tokens == lone->n_tokens && errand->next >= tokens, "other tokens than alone");
    holds(heard, errand->at == lone->text_bytes, "less text than alone");
    sim_count(lone->reason == STOP_EOS        ? COUNT_END_EOS
              : lone->reason == STOP_SEQUENCE ? COUNT_END_STOP
                                              : COUNT_END_MAX);
    const char *match = strstr(heard->rest, " match=");
    holds(heard, (match != NULL) == (lone->reason == STOP_SEQUENCE), "a match, or none");
    if (match == NULL) return;
    char text[PEER_LINE_BYTES];
    uint32_t length;
    text_read(heard, match, text, &length);
    const struct job_stop *stop = &errand->request.stop[lone->stop_index];
    holds(heard, length == stop->length && memcmp(text, stop->text, length) == 0, "another match");
}

static void hear_end(const struct heard *heard) {
    struct errand *errand = errand_meant(heard);
    if (errand->ended) {
        credit_take(heard, errand);
        holds(heard, strcmp(errand->last, heard->rest) == 0, "another end than the first time");
        return;
    }
    holds(heard, strncmp(heard->rest, "end stop=", 9) == 0, "an end of another kind");
    bool cancelled = strncmp(heard->rest + 9, "CANCELLED ", 10) == 0;
    uint32_t tokens = (uint32_t)field_number(heard->rest, "tokens");
    bool score = errand->request.kind == JOB_SCORE;
    if (cancelled) {
        holds(heard, errand->stopped, "nobody said STOP");
        uint32_t heard_n = errand->started && score ? errand->next - 1 : errand->next;
        if (!score) holds(heard, tokens == heard_n, "tokens are missing");
        sim_count(COUNT_END_CANCELLED);
    } else if (score) {
        holds(heard, errand->started && strncmp(heard->rest + 9, "DONE ", 5) == 0, "the reason");
        holds(heard, tokens == errand->lone->n_tokens && errand->next == tokens + 1, "tokens");
        sim_count(COUNT_END_DONE);
    } else {
        holds(heard, errand->started, "a job ends before it has started");
        end_reason_check(heard, errand);
    }
    errand_close(heard, errand);
}

/* --- errors of jobs -------------------------------------------------------------------------- */

static void late_check(const struct heard *heard, const struct errand *errand) {
    uint32_t ms =
        errand->request.deadline_ms != 0 ? errand->request.deadline_ms : world.deadline_ms;
    if (strstr(heard->rest, "the deadline has passed") != NULL) {
        bool late = ms != 0 && sim.now_ns >= errand->said_ns + ms * 1000000ULL;
        holds(heard, late, "its deadline has not passed");
        sim_count(COUNT_LATE);
        return;
    }
    bool slow = !heard->peer->prompt || heard->peer->seal.kind == SEAL_CRC;
    holds(heard, world.stall_ms != 0 && slow, "this client reads all there is");
    sim_count(COUNT_STALLED);
}

static void refusal_check(const struct heard *heard, const struct errand *errand) {
    uint32_t least = errand->request.kind == JOB_SCORE ? 2 : 1;
    sim_count(COUNT_REFUSED);
    switch (heard->code) {
    case 403:
        holds(heard, heard->peer->observer, "this is no observer");
        return;
    case 409:
        holds(heard, errand->abuse, "the tag is free");
        sim_count(COUNT_TAG_IN_USE);
        return;
    case 413:
        holds(heard, is_too_long(errand), "it is not too long");
        sim_count(COUNT_TOO_LONG);
        return;
    case 422:
        holds(heard, errand->bad || errand->request.n_tokens < least, "nothing is wrong with it");
        return;
    case 503:
        sim_count(COUNT_BUSY);
        return;
    case 504:
        holds(heard, !errand->ready_then, "the model is loaded");
        sim_count(COUNT_NOT_READY);
        return;
    default:
        holds(heard, false, "no such refusal");
    }
}

static void hear_job_error(const struct heard *heard) {
    struct errand *errand = errand_of(heard->peer, heard->tag, true);
    if (heard->code != 409) errand = errand_meant(heard);
    holds(heard, errand != NULL, "nobody asked for that");
    if (errand->ended) {
        credit_take(heard, errand);
        holds(heard, strcmp(errand->last, heard->rest) == 0, "another end than the first time");
        return;
    }
    switch (heard->code) {
    case 505:
        holds(heard, world.asked_drain, "nobody asked the server to end");
        sim_count(COUNT_CUT);
        break;
    case 508:
        late_check(heard, errand);
        break;
    case 530:
        holds(heard, brain_has_failed(), "the backend works");
        sim_count(COUNT_BROKEN);
        break;
    default:
        holds(heard, !errand->started, "a job that runs is refused");
        refusal_check(heard, errand);
    }
    bool left = errand->run && !errand->started; /* the text may still lie there */
    if (left) talk_stop(heard->peer, heard->tag);
    errand_close(heard, errand);
}

/* --- answers to commands --------------------------------------------------------------------- */

static const struct {
    int code;
    bool ready; /* not while loading */
    bool observer;
} asks[] = {[ASK_PING] = {200, false, true},       [ASK_HEALTH] = {201, false, true},
            [ASK_INFO] = {202, false, true},       [ASK_METRICS] = {203, false, true},
            [ASK_HELP] = {204, false, true},       [ASK_LOG] = {205, false, false},
            [ASK_HELLO] = {220, false, false},     [ASK_PUT] = {210, true, false},
            [ASK_STOP] = {230, false, false},      [ASK_TOKENIZE] = {240, true, false},
            [ASK_DETOKENIZE] = {241, true, false}, [ASK_REPLAY] = {232, false, false},
            [ASK_DRAIN] = {160, true, false},      [ASK_SHUTDOWN] = {161, false, false},
            [ASK_REBOOT] = {405, false, false},    [ASK_BYE] = {221, false, true}};

/* May the command be refused with this code? */
static bool ask_refuses(const struct peer *peer, const struct asked *asked, int code) {
    enum ask what = asked->what;
    if (what == ASK_BAD)
        return code == asked->code || (code == 403 && peer->observer && asked->code == 422) ||
               ((code == 503 || code == 504) && asked->code == 422);
    if (code == 403) return peer->observer && !asks[what].observer;
    if (code == 504) return asks[what].ready && !asked->ready_then;
    if (code == 404) return what == ASK_REPLAY;
    if (code == 508) /* a long answer whose reader has taken nothing */
        return (what == ASK_TOKENIZE || what == ASK_DETOKENIZE) && !peer->prompt;
    if (code == 503) return what == ASK_PUT || what == ASK_TOKENIZE || what == ASK_DETOKENIZE;
    return false;
}

static void draft_answered(struct peer *peer, const struct heard *heard) {
    struct draft *draft = &peer->draft;
    draft->waits = false;
    if (heard->code == 210) {
        holds(heard, field_number(heard->rest, "bytes") == draft->n, "not what was staged");
        return;
    }
    draft->tag = 0;
    if (draft->n > 0) talk_stop(peer, heard->tag);
}

/* The parts of a long answer, joined, are what they should be. */
static void long_answer_check(const struct heard *heard, struct asked *asked) {
    char text[PEER_LINE_BYTES];
    uint32_t n;
    if (asked->what == ASK_TOKENIZE) {
        const char *ids = strstr(heard->rest, "ids=");
        holds(heard, ids != NULL, "no ids");
        n = (uint32_t)snprintf(text, sizeof text, "%s%s", asked->expect_at > 0 ? "," : "", ids + 4);
    } else {
        text_read(heard, heard->rest, text, &n);
    }
    bool fits = asked->expect_at + n <= asked->expect_n &&
                memcmp(asked->expect + asked->expect_at, text, n) == 0;
    holds(heard, fits, "not what was asked for");
    asked->expect_at += n;
    if (heard->more && heard->peer->deaf_turn > 0 && dice_one_in(4))
        heard->peer->deaf_turn = sim.turn + dice_between(20, 600);
    if (heard->more) return;
    holds(heard, asked->expect_at == asked->expect_n, "the answer is too short");
    sim_count(COUNT_LISTINGS);
}

/* STOP: the job's own line comes first. */
static void stop_check(const struct heard *heard, const struct asked *asked) {
    for (uint32_t i = 0; i < PEER_JOBS_MAX; i++) {
        const struct errand *errand = &heard->peer->errand[i];
        bool open = errand->here && !errand->ended && errand->tag == asked->tag;
        holds(heard, !open || errand->serial > asked->serial, "its job has not ended");
    }
}

static void replay_check(const struct heard *heard) {
    struct errand *errand = errand_of(heard->peer, heard->tag, false);
    holds(heard, errand != NULL, "nobody asked for that job");
    const char *state = errand->ended ? "ended" : errand->started ? "running" : "queued";
    const char *told = strstr(heard->rest, "state=");
    holds(heard, told != NULL && strcmp(told + 6, state) == 0, "another state");
    errand->credit = (uint32_t)field_number(heard->rest, "lines");
    sim_count(COUNT_REPLAYS);
}

static void health_check(const struct heard *heard) {
    double used = field_number(heard->rest, "slots") - field_number(heard->rest, "slots_free");
    holds(heard, used >= 0 && field_number(heard->rest, "slots") == world.slots, "slots");
    holds(heard, field_number(heard->rest, "queued") <= world.queue, "the queue");
}

static void answer_check(const struct heard *heard, struct asked *asked) {
    switch (asked->what) {
    case ASK_TOKENIZE:
    case ASK_DETOKENIZE:
        long_answer_check(heard, asked);
        return;
    case ASK_STOP:
        stop_check(heard, asked);
        return;
    case ASK_PUT:
        draft_answered(heard->peer, heard);
        return;
    case ASK_REPLAY:
        replay_check(heard);
        return;
    case ASK_HEALTH:
        health_check(heard);
        return;
    case ASK_HELLO:
        heard->peer->crc_asked = false;
        return;
    case ASK_BYE:
        heard->peer->heard_why = true;
        return;
    default:
        return;
    }
}

static void refused_check(const struct heard *heard, const struct asked *asked) {
    struct peer *peer = heard->peer;
    if (heard->code == 403) sim_count(COUNT_FORBIDDEN);
    if (heard->code == 422) sim_count(COUNT_INVALID);
    if (heard->code == 400 || heard->code == 405 || heard->code == 414) sim_count(COUNT_BAD_LINES);
    if (heard->code == 508) sim_count(COUNT_LISTINGS_CUT);
    if (asked->what == ASK_PUT) draft_answered(peer, heard);
    if (asked->what == ASK_HELLO) peer->crc_asked = false;
    if (heard->code != 404) return;
    const struct errand *errand = errand_of(peer, heard->tag, false);
    holds(heard, errand == NULL || errand->ended, "the lines of a job that runs are gone");
}

/* True: the line belonged to the eldest command that is not answered yet. */
static bool hear_answer(const struct heard *heard) {
    struct peer *peer = heard->peer;
    if (peer->n_asked == 0) return false;
    struct asked *asked = &peer->asked[0];
    bool answers = asked->what != ASK_BAD && heard->code == asks[asked->what].code;
    bool same = heard->tag == asked->tag || (asked->what == ASK_REBOOT && heard->tag == 0);
    if (!same || (!answers && !ask_refuses(peer, asked, heard->code))) return false;
    const struct errand *errand = heard->tag == 0 ? NULL : errand_of(peer, heard->tag, false);
    if (!answers && errand != NULL && errand->serial < asked->serial && heard->code == 403)
        return false;
    asked->lines++;
    if (answers)
        answer_check(heard, asked);
    else
        refused_check(heard, asked);
    if (heard->more) return true;
    asked_pop(peer);
    return true;
}

/* --- lines nobody asked for ------------------------------------------------------------------ */

/* The server is about to end the connection. */
static void hear_farewell(const struct heard *heard) {
    struct peer *peer = heard->peer;
    peer->heard_why = true;
    switch (heard->code) {
    case 261:
        holds(heard, world.asked_drain && !peer->heard_end, "nobody asked the server to end");
        peer->heard_end = true;
        peer->farewell = FAREWELL_SHUTDOWN;
        break;
    case 402:
        holds(heard, peer->farewell == FAREWELL_FORGED, "this line was not forged");
        break;
    case 520:
        holds(heard, world.load_failed, "the model was loaded");
        peer->farewell = FAREWELL_FAILED;
        break;
    default:
        break;
    }
    peer->said_all = true;
}

static bool hear_news(const struct heard *heard) {
    struct peer *peer = heard->peer;
    switch (heard->code) {
    case 110:
        holds(heard, !peer->heard_ready, "it was loaded");
        return true;
    case 120:
        holds(heard, !peer->heard_ready, "it was ready");
        peer->heard_ready = true;
        return true;
    case 130:
        holds(heard, peer->farewell == FAREWELL_HALF, "we have not closed our side");
        return true;
    case 260:
        holds(heard, peer->drain_told, "nobody asked for that");
        peer->drain_told = false;
        return true;
    case 261:
    case 402:
    case 520:
        hear_farewell(heard);
        return true;
    default:
        return false;
    }
}

/* --- the beginning --------------------------------------------------------------------------- */

static void newcomer_refused(const struct heard *heard) {
    holds(heard, strncmp(heard->rest, "BUSY", 4) == 0, "not a greeting");
    holds(heard, net_most_held() > WIRE_CLIENTS_MAX, "there are places");
    heard->peer->farewell = FAREWELL_FULL;
    heard->peer->heard_why = true;
    heard->peer->said_all = true;
    sim_count(COUNT_NEWCOMERS_REFUSED);
}

static void hear_proof(const struct heard *heard) {
    struct peer *peer = heard->peer;
    enum login_role role = peer->observer ? LOGIN_OBSERVER : LOGIN_CONTROL;
    char proof[MAC_HEX + 1], want[160];
    if (heard->code == 401) {
        holds(heard, peer->farewell == FAREWELL_STRANGER, "the login was good");
        sim_count(COUNT_LOGINS_REFUSED);
        peer->heard_why = true;
        return;
    }
    login_server_proof(&world.key[role], &peer->nonces, role, proof);
    snprintf(want, sizeof want, "wick proto=1 login=%s mac=%s", login_role_word(role), proof);
    holds(heard, heard->code == 220 && strcmp(heard->rest, want) == 0, "not the server's proof");
    holds(heard, peer->farewell == FAREWELL_NONE, "a wrong login is let in");
    peer->login = LOGIN_DONE;
    peer->greeted = true;
    peer->seal = (struct seal){.kind = SEAL_MAC};
    login_line_key(&world.key[role], &peer->nonces, LOGIN_CLIENT, &peer->seal.sent_key);
    login_line_key(&world.key[role], &peer->nonces, LOGIN_SERVER, &peer->seal.got_key);
    sim_count(COUNT_LOGINS);
}

static void hear_greeting(const struct heard *heard) {
    struct peer *peer = heard->peer;
    holds(heard, heard->tag == 0 && !heard->more, "not a greeting");
    if (peer->login == LOGIN_PROOF || (peer->login == LOGIN_GREETING && heard->code == 401)) {
        hear_proof(heard);
        return;
    }
    if (heard->code == 503) {
        newcomer_refused(heard);
        return;
    }
    holds(heard, heard->code == 220 && strncmp(heard->rest, "wick proto=1", 12) == 0,
          "no greeting");
    const char *nonce = strstr(heard->rest, " nonce=");
    holds(heard, (nonce != NULL) == (peer->login == LOGIN_GREETING), "a nonce, or none");
    if (nonce == NULL) {
        peer->greeted = true;
        return;
    }
    holds(heard, login_nonce_valid(nonce + 7, strlen(nonce + 7)), "no nonce");
    talk_login(peer, nonce + 7);
}

/* --- all of it ------------------------------------------------------------------------------- */

static uint32_t seal_take(struct peer *peer, const char *line, uint32_t n) {
    size_t length = n;
    if (peer->crc_asked && seal_has_crc(line, n)) {
        peer->seal = (struct seal){.kind = SEAL_CRC};
        sim_count(COUNT_CRC_SESSIONS);
    }
    if (peer->seal.kind == SEAL_NONE) return n;
    bool fine = seal_check(&peer->seal, line, &length);
    sim_require(fine && !peer->seal.lost, "peer %u: a wrong trailer: %s", peer->number, line);
    return (uint32_t)length;
}

void judge_line(struct peer *peer, char *line, uint32_t n) {
    bool tells = n < 4 || line[3] == ' ' || (line[0] != '2' || line[1] != '0');
    if (tells) sim_note("peer %u hears: %.*s", peer->number, (int)n, line);
    sim_count(COUNT_LINES);
    for (uint32_t i = 0; i < n; i++)
        sim_require(line[i] >= ' ' && line[i] <= '~', "peer %u hears byte %02x", peer->number,
                    line[i]);
    n = seal_take(peer, line, n);
    sim_require(n < FRAME_LINE_MAX, "peer %u hears a line of %u bytes", peer->number, n);
    line[n] = '\0';
    struct heard heard = reply_read(peer, line, n);
    holds(&heard, !peer->heard_end, "a line after the last one");
    holds(&heard, peer->part_tag == 0 || (heard.code == 151 && heard.tag == peer->part_tag),
          "between the parts of a token");
    if (!peer->greeted) {
        hear_greeting(&heard);
        return;
    }
    if (heard.tag == 0 && hear_news(&heard)) return;
    /* Whoever has logged in may be one too many: the first sealed line tells. */
    bool first = peer->seal.kind == SEAL_MAC && peer->seal.got == 1;
    if (first && heard.tag == 0 && strstr(heard.rest, "too many connections") != NULL) {
        newcomer_refused(&heard);
        return;
    }
    switch (heard.tag == 0 ? 0 : heard.code) {
    case 150:
        hear_started(&heard);
        return;
    case 151:
        hear_token(&heard);
        return;
    case 152:
        hear_score(&heard);
        return;
    case 250:
        hear_end(&heard);
        return;
    default:
        break;
    }
    if (hear_answer(&heard)) return;
    holds(&heard, heard.code >= 400 && heard.tag != 0, "nobody asked for that");
    hear_job_error(&heard);
}

static void end_strictly(const struct peer *peer, bool torn) {
    uint32_t number = peer->number;
    sim_require(peer->n_line == 0, "peer %u: the last line is cut", number);
    bool asked_all = peer->farewell == FAREWELL_BYE || peer->farewell == FAREWELL_HALF;
    if (!asked_all) return;
    sim_require(!torn, "peer %u: its last lines are lost", number);
    sim_require(peer->n_asked == 0, "peer %u: a command is not answered", number);
    for (uint32_t i = 0; i < PEER_JOBS_MAX && peer->farewell == FAREWELL_HALF; i++) {
        const struct errand *errand = &peer->errand[i];
        bool open = errand->here && !errand->ended;
        sim_require(!open, "peer %u: job %u has no end", number, errand->tag);
    }
}

void judge_end(struct peer *peer) {
    bool torn = net_is_torn(peer->id);
    sim_note("peer %u: the server ends the connection%s", peer->number, torn ? ", torn" : "");
    if (peer->vanished) return;
    bool over = sim.season == SEASON_END || world.load_failed;
    bool stranger = !peer->greeted && world.locked && peer->wire == WIRE_TCP;
    sim_require(peer->farewell != FAREWELL_NONE || over || stranger,
                "peer %u: the server ends the connection for nothing", peer->number);
    if (peer->farewell == FAREWELL_FORGED && peer->prompt && !over)
        sim_require(peer->heard_why, "peer %u: nobody says why", peer->number);
    if (peer->farewell == FAREWELL_RUDE) sim_count(COUNT_RUDE_ENDS);
    if (peer->prompt && !over) end_strictly(peer, torn);
    if (!peer->prompt || torn || peer->farewell != FAREWELL_SHUTDOWN) return;
    for (uint32_t i = 0; i < PEER_JOBS_MAX; i++) {
        const struct errand *errand = &peer->errand[i];
        bool open = errand->here && errand->started && !errand->ended;
        sim_require(!open, "peer %u: job %u has no end", peer->number, errand->tag);
    }
}
