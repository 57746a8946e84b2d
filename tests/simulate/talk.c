#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "peer.h"
#include "sim.h"
#include "wire/client.h"

struct words {
    uint32_t n;
    char text[1024];
};

/* --- lines ----------------------------------------------------------------------------------- */

static void bytes_out(struct peer *peer, const char *bytes, uint32_t n) {
    sim_require(peer->n_out + n <= sizeof peer->out, "the simulation's own buffer is too small");
    memcpy(peer->out + peer->n_out, bytes, n);
    peer->n_out += n;
}

/* A line as it was meant, and now and then not as it should be. */
void talk_line(struct peer *peer, const char *line, uint32_t n) {
    char trailer[SEAL_TRAILER_MAX];
    sim_note("peer %u says: %.*s", peer->number, (int)n, line);
    uint32_t length = (uint32_t)seal_write(&peer->seal, line, n, trailer);
    bytes_out(peer, line, n);
    if (length > 0) bytes_out(peer, trailer, length);
    if (dice_one_in(10)) bytes_out(peer, "\r", 1);
    bytes_out(peer, "\n", 1);
    sim_count(COUNT_COMMANDS);
    peer->serial++;
    peer->bad_run = 0;
}

static void words_line(struct peer *peer, const struct words *words) {
    talk_line(peer, words->text, words->n);
}

__attribute__((format(printf, 2, 3))) static void words_add(struct words *words, const char *format,
                                                            ...) {
    va_list args;
    va_start(args, format);
    words->n +=
        (uint32_t)vsnprintf(words->text + words->n, sizeof words->text - words->n, format, args);
    va_end(args);
    sim_require(words->n < 1020, "the simulation's own line is too long");
}

static void words_quote(struct words *words, const char *bytes, uint32_t n) {
    words_add(words, "\"");
    for (uint32_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)bytes[i];
        if (c == '"' || c == '\\')
            words_add(words, "\\%c", c);
        else if (c == '\n')
            words_add(words, "\\n");
        else if (c < ' ' || c > '~' || dice_one_in(200))
            words_add(words, dice_one_in(2) ? "\\x%02x" : "\\x%02X", c);
        else
            words_add(words, "%c", c);
    }
    words_add(words, "\"");
}

/* --- what is outstanding --------------------------------------------------------------------- */

static struct asked *asked_push(struct peer *peer, enum ask what, uint32_t tag) {
    sim_require(peer->n_asked < PEER_ASKED_MAX, "too much is asked");
    struct asked *asked = &peer->asked[peer->n_asked++];
    *asked =
        (struct asked){.what = what, .tag = tag, .serial = peer->serial, .ready_then = world.ready};
    return asked;
}

void asked_pop(struct peer *peer) {
    free(peer->asked[0].expect);
    peer->n_asked--;
    memmove(&peer->asked[0], &peer->asked[1], peer->n_asked * sizeof peer->asked[0]);
}

struct errand *errand_of(struct peer *peer, uint32_t tag, bool newest) {
    struct errand *found = NULL;
    for (uint32_t i = 0; i < PEER_JOBS_MAX; i++) {
        struct errand *errand = &peer->errand[i];
        if (!errand->here || errand->tag != tag) continue;
        if (found == NULL || (errand->serial > found->serial) == newest) found = errand;
    }
    return found;
}

void errand_forget(struct errand *errand) {
    free(errand->lone);
    errand->lone = NULL;
    errand->here = false;
}

/* NULL: we have asked for as much as we can keep in mind. */
static struct errand *errand_place(struct peer *peer) {
    for (uint32_t i = 0; i < PEER_JOBS_MAX; i++) {
        if (!peer->errand[i].here) return &peer->errand[i];
    }
    return NULL;
}

static struct errand *errand_new(struct peer *peer, uint32_t tag) {
    struct errand *errand = errand_place(peer);
    if (errand == NULL) return NULL;
    memset(errand, 0, sizeof *errand);
    errand->here = true;
    errand->tag = tag;
    errand->serial = peer->serial;
    errand->said_ns = sim.now_ns;
    errand->ready_then = world.ready;
    return errand;
}

static bool tag_is_used(struct peer *peer, uint32_t tag) {
    if (peer->draft.tag == tag || errand_of(peer, tag, true) != NULL) return true;
    for (uint32_t i = 0; i < peer->n_asked; i++) {
        if (peer->asked[i].tag == tag) return true;
    }
    return false;
}

/* 0: all are in use. */
static uint32_t tag_free(struct peer *peer) {
    uint32_t first = dice_below(PEER_TAGS);
    for (uint32_t i = 0; i < PEER_TAGS; i++) {
        uint32_t tag = 1 + (first + i) % PEER_TAGS;
        if (tag == PEER_TAGS) tag = FRAME_TAG_MAX;
        if (!tag_is_used(peer, tag)) return tag;
    }
    return 0;
}

/* --- texts ----------------------------------------------------------------------------------- */

/* One character is one token here, so these are whole pages of the KV cache: the same page comes
 * behind different ones. */
static uint32_t text_of_pages(char *text) {
    static const char *const pages[] = {"................", ".\n.\n.\n.\n.\n.\n.\n.\n",
                                        "\n\n\n\n\n\n\n\n........"};
    uint32_t n = KV_PAGE_TOKENS - 2; /* the first page begins with two tokens of the tokenizer's */
    memcpy(text, pages[dice_below(3)], n);
    for (uint32_t left = dice_between(1, 3); left > 0; left--, n += KV_PAGE_TOKENS)
        memcpy(text + n, pages[dice_below(3)], KV_PAGE_TOKENS);
    text[n] = '.';
    return n + 1;
}

/* Tokens that are long to tell. */
static uint32_t text_of_bytes(char *text, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) text[i] = "\xFF\n\x01\xFE"[dice_below(4)];
    return n;
}

/* Texts have beginnings in common, so that pages of the KV cache are shared. */
static uint32_t text_make(char *text, uint32_t most) {
    static const char *const parts[] = {"a",    " once", "ab",           "c ",  "the ", "\n",
                                        "STOP", "\"",    "\\",           "aa",  ". ",   "\xC3\xA9",
                                        "\xFF", " the",  "\xE6\x97\xA5", "zz ", "</s>", "\xC3"};
    uint32_t n = 0, length = dice_between(1, most), common = dice_below(length + 1);
    uint32_t family = dice_below(4);
    if (most >= 100 && dice_one_in(2)) return text_of_pages(text);
    while (n < length) {
        uint32_t pick = n < common ? (family * 7 + n / 2) % 18 : dice_below(18);
        uint32_t bytes = (uint32_t)strlen(parts[pick]);
        if (n + bytes > most) break;
        memcpy(text + n, parts[pick], bytes);
        n += bytes;
    }
    if (n == 0) text[n++] = 'a';
    return n;
}

/* --- GEN, RUN, SCORE ------------------------------------------------------------------------- */

static void fields_sampling(struct words *words, struct job_request *request) {
    static const double temperatures[] = {0, 0.5, 1, 1.5}, penalties[] = {1.25, 0.75};
    struct sampler_params *p = &request->sampling;
    *p = sampler_defaults;
    if (dice_one_in(2))
        words_add(words, " temperature=%g", p->temperature = temperatures[dice_below(4)]);
    if (dice_one_in(4)) words_add(words, " top_p=%g", p->top_p = 0.875);
    if (dice_one_in(2)) words_add(words, " top_k=%u", p->top_k = dice_between(1, 20));
    if (dice_one_in(6)) words_add(words, " min_p=%g", p->min_p = 0.0625);
    if (dice_one_in(6))
        words_add(words, " repetition_penalty=%g",
                  p->repetition_penalty = penalties[dice_below(2)]);
}

static void fields_stops(struct words *words, struct job_request *request) {
    static const char *const stops[] = {"a", "ab", "bab", "\n", " once", "zz", "\xC3", "STOP"};
    uint32_t n = dice_one_in(3) ? dice_below(JOB_STOP_MAX + 1) : 0;
    for (uint32_t k = 0; k < n; k++) {
        const char *text = stops[dice_below(8)];
        request->stop[k].length = (uint8_t)strlen(text);
        memcpy(request->stop[k].text, text, strlen(text));
        words_add(words, " stop=");
        words_quote(words, text, request->stop[k].length);
    }
    request->n_stop = n;
}

/* Greedy: as much as there can be. */
static void fields_generate(struct words *words, struct errand *errand, bool greedy) {
    struct job_request *request = &errand->request;
    if (!greedy && !dice_one_in(8))
        words_add(words, " max_tokens=%u",
                  errand->most = dice_between(1, dice_one_in(3) ? 60 : 12));
    fields_sampling(words, request);
    errand->seed_told = !dice_one_in(8);
    request->sampling.seed = dice_below(50);
    if (errand->seed_told)
        words_add(words, " seed=%llu", (unsigned long long)request->sampling.seed);
    fields_stops(words, request);
    if (greedy || dice_one_in(5))
        words_add(words, " logprobs=%u", request->logprobs = greedy ? 20 : dice_below(21));
    request->bytes = dice_one_in(3);
    if (request->bytes) words_add(words, " bytes=1");
    request->ignore_eos = greedy || dice_one_in(3);
    if (request->ignore_eos) words_add(words, " ignore_eos=1");
}

/* How the text is to become tokens, and how long it may take. */
static void fields_text(struct words *words, struct errand *errand, bool *bos, bool *special) {
    *bos = brain_words()->add_bos;
    *special = false;
    if (dice_one_in(6)) words_add(words, " bos=%d", *bos = dice_one_in(2));
    if (dice_one_in(6)) words_add(words, " parse_special=%d", *special = dice_one_in(2));
    if (dice_one_in(5)) {
        errand->request.deadline_ms = dice_between(1, 300);
        words_add(words, " deadline_ms=%u", errand->request.deadline_ms);
    }
    errand->bad = dice_one_in(40);
    if (errand->bad) words_add(words, dice_one_in(2) ? " deadline_ms=-4" : " colour=blue");
}

static void errand_limits(struct errand *errand) {
    struct job_request *request = &errand->request;
    uint32_t room = world.n_pages * KV_PAGE_TOKENS;
    if (room > world.ctx) room = world.ctx;
    uint32_t left = room > request->n_tokens ? room - request->n_tokens : 1;
    request->max_tokens = errand->most != 0 ? errand->most : left;
}

/* A job of this text, or (staged) of the one that lies under the tag. */
static void job_ask(struct peer *peer, uint32_t tag, const char *text, uint32_t n, bool staged,
                    bool abuse) {
    struct errand *errand = errand_new(peer, tag);
    if (errand == NULL) return;
    struct words words = {0};
    bool bos, special, score = dice_one_in(6);
    errand->run = staged;
    errand->abuse = abuse;
    errand->request.kind = score ? JOB_SCORE : JOB_GENERATE;
    words_add(&words, "%s %u", score ? "SCORE" : staged ? "RUN" : "GEN", tag);
    if (!score) fields_generate(&words, errand, peer->hoards);
    fields_text(&words, errand, &bos, &special);
    errand->request.n_tokens = brain_encode(text, n, bos, special, errand->token, world.ctx + 1);
    errand->request.tokens = errand->token;
    errand_limits(errand);
    if (!staged) {
        words_add(&words, " ");
        words_quote(&words, text, n);
    }
    words_line(peer, &words);
}

static void job_new(struct peer *peer) {
    char text[160];
    uint32_t tag = tag_free(peer);
    uint32_t n = text_make(text, dice_one_in(4) ? 120 : 40);
    if (tag != 0) job_ask(peer, tag, text, n, false, false);
}

/* A tag that is in use: a job that has started and cannot have been forgotten. */
static void job_abuse(struct peer *peer) {
    for (uint32_t i = 0; i < PEER_JOBS_MAX; i++) {
        const struct errand *errand = &peer->errand[i];
        if (!errand->here || !errand->started || errand->stopped) continue;
        if (errand->credit > 0) continue;
        if (errand_of(peer, errand->tag, true) != errand_of(peer, errand->tag, false)) continue;
        job_ask(peer, errand->tag, "again", 5, false, true);
        return;
    }
}

/* --- PUT and what uses it -------------------------------------------------------------------- */

static void draft_go_on(struct peer *peer) {
    struct draft *draft = &peer->draft;
    char text[220];
    struct words words = {0};
    uint32_t n = peer->stages ? text_of_bytes(text, sizeof text) : text_make(text, 150);
    if (draft->waits || draft->n + n > sizeof draft->text) return;
    words_add(&words, "PUT %u ", draft->tag);
    if (dice_one_in(5)) {
        if (!peer->stages && dice_one_in(2))
            draft->n = dice_below(draft->n + 1); /* said anew from there on */
        words_add(&words, "at=%u ", draft->n);
    }
    words_quote(&words, text, n);
    memcpy(draft->text + draft->n, text, n);
    draft->n += n;
    draft->parts--;
    draft->waits = true;
    asked_push(peer, ASK_PUT, draft->tag);
    words_line(peer, &words);
}

static void draft_new(struct peer *peer) {
    uint32_t tag = tag_free(peer);
    if (tag == 0 || peer->draft.tag != 0) return;
    peer->draft.tag = tag;
    peer->draft.waits = false;
    peer->draft.n = 0;
    peer->draft.parts = dice_one_in(4) ? dice_between(8, 24) : dice_between(1, 3);
    if (peer->stages) peer->draft.parts = 45;
    draft_go_on(peer);
}

/* `240` lines without what stands around the ids, or the text of `241` lines. */
static void expect_ids(struct asked *asked, const int32_t *ids, uint32_t n) {
    asked->expect = malloc(n * 8 + 1);
    for (uint32_t i = 0; i < n; i++)
        asked->expect_n +=
            (uint32_t)sprintf(asked->expect + asked->expect_n, "%s%d", i > 0 ? "," : "", ids[i]);
}

static void tokenize_ask(struct peer *peer, uint32_t tag, const char *text, uint32_t n,
                         bool staged) {
    static int32_t ids[PEER_DRAFT_BYTES + 8];
    struct words words = {0};
    words_add(&words, "TOKENIZE");
    if (tag != 0) words_add(&words, " %u", tag);
    if (!staged) {
        words_add(&words, " ");
        words_quote(&words, text, n);
    }
    uint32_t count =
        brain_encode(text, n, brain_words()->add_bos, false, ids, PEER_DRAFT_BYTES + 8);
    expect_ids(asked_push(peer, ASK_TOKENIZE, tag), ids, count);
    words_line(peer, &words);
}

static void detokenize_ask(struct peer *peer) {
    struct words words = {0};
    int32_t ids[40];
    char text[1024];
    uint32_t n = dice_between(1, 40);
    words_add(&words, "DETOKENIZE ids=");
    for (uint32_t i = 0; i < n; i++) {
        ids[i] = (int32_t)dice_below(brain_words()->n_tokens);
        words_add(&words, "%s%d", i > 0 ? "," : "", ids[i]);
    }
    struct asked *asked = asked_push(peer, ASK_DETOKENIZE, 0);
    asked->expect_n = (uint32_t)vocab_decode(brain_words(), ids, n, false, text, sizeof text);
    asked->expect = malloc(asked->expect_n + 1);
    memcpy(asked->expect, text, asked->expect_n);
    words_line(peer, &words);
}

/* A long answer to somebody who has not read much that stands before it, and goes on so. */
static void stage_play(struct peer *peer, uint32_t tag) {
    peer->prompt = peer->stages = false;
    peer->hoards = true;
    peer->deaf_turn = sim.turn + dice_between(100, 1000);
    for (uint32_t i = 0; i < 4; i++) job_new(peer);
    for (uint32_t i = 0; i < PEER_ASKED_MAX / 2; i++) {
        asked_push(peer, ASK_HELP, 0);
        talk_line(peer, "HELP", 4);
    }
    tokenize_ask(peer, tag, peer->draft.text, peer->draft.n, true);
    talk_stop(peer, tag);
}

static void draft_use(struct peer *peer) {
    struct draft *draft = &peer->draft;
    if (draft->waits || errand_place(peer) == NULL) return;
    uint32_t tag = draft->tag;
    if (draft->parts > 0) {
        draft_go_on(peer);
        return;
    }
    if (peer->stages) {
        stage_play(peer, tag);
        draft->tag = 0;
        return;
    }
    draft->tag = 0;
    if (dice_one_in(6)) {
        talk_stop(peer, tag);
    } else if (dice_one_in(3)) {
        tokenize_ask(peer, tag, draft->text, draft->n, true);
        talk_stop(peer, tag); /* if it was refused the text still lies there */
    } else if (dice_one_in(12)) {
        job_ask(peer, tag, "mine", 4, false, true);
        talk_stop(peer, tag);
    } else {
        job_ask(peer, tag, draft->text, draft->n, true, false);
    }
}

/* --- the rest -------------------------------------------------------------------------------- */

void talk_stop(struct peer *peer, uint32_t tag) {
    struct words words = {0};
    if (peer->said_all) return; /* the text goes with us */
    words_add(&words, "STOP %u", tag);
    for (uint32_t i = 0; i < PEER_JOBS_MAX; i++) {
        if (peer->errand[i].tag == tag) peer->errand[i].stopped = true;
    }
    asked_push(peer, ASK_STOP, tag);
    words_line(peer, &words);
}

static void stop_something(struct peer *peer) {
    const struct errand *errand = &peer->errand[dice_below(PEER_JOBS_MAX)];
    if (errand->here)
        talk_stop(peer, errand->tag);
    else if (peer->draft.tag == 0)
        talk_stop(peer, dice_between(1, PEER_TAGS));
}

static void question_ask(struct peer *peer) {
    static const struct {
        enum ask what;
        const char *text;
    } rows[] = {{ASK_PING, "PING"},           {ASK_HEALTH, "HEALTH"},   {ASK_INFO, "INFO"},
                {ASK_HELP, "HELP"},           {ASK_METRICS, "METRICS"}, {ASK_LOG, "LOG lines=200"},
                {ASK_HELLO, "HELLO proto=1"}, {ASK_REBOOT, "REBOOT"},   {ASK_LOG, "LOG"}};
    uint32_t row = dice_below(sizeof rows / sizeof *rows);
    if (rows[row].what == ASK_HELLO && peer->seal.kind == SEAL_CRC) return;
    asked_push(peer, rows[row].what, 0);
    talk_line(peer, rows[row].text, (uint32_t)strlen(rows[row].text));
}

static void bad_run_set(struct peer *peer, uint32_t n) {
    peer->bad_run = n;
    if (n < CLIENT_BAD_LINES_MAX || peer->wire == WIRE_TTY) return;
    peer->farewell = FAREWELL_RUDE;
    peer->said_all = true;
}

/* Rubbish of which it is known what it is answered with. */
static void rubbish_say(struct peer *peer) {
    static const struct {
        int code;
        uint32_t tag;
        const char *text;
    } rows[] = {{400, 0, "PING \x01"},
                {400, 0, "GEN 7 \"open"},
                {400, 0, "GEN 7 \"\\q\""},
                {405, 0, "FROB 3 a=1"},
                {400, 0, "ping"},
                {400, 0, "GEN 7 a= =b"},
                {400, 0, "\xC3\xA9"},
                {422, 0, "GEN \"x\""},
                {422, 9, "GEN 9 temperature=9 top_p=-1 \"x\""},
                {422, 0, "DETOKENIZE ids=1,x"},
                {400, 0, "STOP 7 \"a\"\"b\""}};
    uint32_t row = dice_below(sizeof rows / sizeof *rows);
    if (rows[row].tag != 0 && tag_is_used(peer, rows[row].tag)) return;
    struct asked *asked = asked_push(peer, ASK_BAD, rows[row].tag);
    asked->code = rows[row].code;
    uint32_t run = peer->bad_run;
    talk_line(peer, rows[row].text, (uint32_t)strlen(rows[row].text));
    if (rows[row].code != 422) bad_run_set(peer, run + 1);
}

static void overlong_say(struct peer *peer) {
    char line[3000];
    uint32_t n = dice_between(1024 + 40, sizeof line);
    memset(line, 'x', n);
    if (peer->seal.kind == SEAL_MAC) return;
    asked_push(peer, ASK_BAD, 0)->code = 414;
    sim_note("peer %u says a line of %u bytes", peer->number, n);
    bytes_out(peer, line, n);
    bytes_out(peer, "\n", 1);
    bad_run_set(peer, peer->bad_run + 1);
}

static void bye_say(struct peer *peer) {
    asked_push(peer, ASK_BYE, 0);
    talk_line(peer, "BYE", 3);
    peer->said_all = true;
    if (peer->wire != WIRE_TTY) peer->farewell = FAREWELL_BYE;
}

/* A line that was changed on its way. */
static void forgery_say(struct peer *peer) {
    uint32_t from = peer->n_out;
    talk_line(peer, "PING", 4);
    if (dice_one_in(3))
        peer->n_out = from + 4, bytes_out(peer, "\n", 1); /* without a MAC */
    else if (dice_one_in(2))
        peer->out[from + dice_below(5)] ^= 2; /* another line, or the space before the MAC */
    else
        peer->out[from + 10] = peer->out[from + 10] == '0' ? '1' : '0';
    sim_note("peer %u forges that line", peer->number);
    sim_count(COUNT_FORGED);
    peer->farewell = FAREWELL_FORGED;
    peer->said_all = true;
}

static void replay_ask(struct peer *peer, struct errand *errand) {
    struct words words = {0};
    uint32_t from = dice_between(errand->acked, errand->next);
    if (errand_of(peer, errand->tag, true) != errand) return;
    words_add(&words, "REPLAY %u", errand->tag);
    if (from > 0 || dice_one_in(2)) words_add(&words, " from=%u", from);
    errand->acked = from;
    asked_push(peer, ASK_REPLAY, errand->tag);
    words_line(peer, &words);
}

/* Everything of the job has come, or all so far. */
static void errand_acknowledge(struct peer *peer, struct errand *errand) {
    struct words words = {0};
    words_add(&words, "ACK %u", errand->tag);
    if (!errand->ended) words_add(&words, " from=%u", errand->acked = errand->next);
    words_line(peer, &words);
    if (errand->ended) errand_forget(errand);
}

static bool is_asked(const struct peer *peer, uint32_t tag) {
    for (uint32_t i = 0; i < peer->n_asked; i++) {
        if (peer->asked[i].tag == tag) return true;
    }
    return false;
}

static bool cable_talk(struct peer *peer) {
    struct errand *errand = &peer->errand[dice_below(PEER_JOBS_MAX)];
    if (peer->seal.kind != SEAL_CRC || !errand->here) return false;
    if (!errand->started && !errand->ended) return false;
    if (is_asked(peer, errand->tag)) return false;
    if (errand_of(peer, errand->tag, true) != errand_of(peer, errand->tag, false)) return false;
    if (dice_one_in(3))
        replay_ask(peer, errand);
    else if (!errand->ended || errand->credit == 0)
        errand_acknowledge(peer, errand);
    return true;
}

bool talk_acknowledge(struct peer *peer) {
    bool said = false;
    if (peer->seal.kind != SEAL_CRC || peer->farewell != FAREWELL_NONE) return false;
    for (uint32_t i = 0; i < PEER_JOBS_MAX; i++) {
        struct errand *errand = &peer->errand[i];
        if (!errand->here || is_asked(peer, errand->tag)) continue;
        if (errand->ended ? errand->credit > 0 : errand->acked == errand->next) continue;
        errand_acknowledge(peer, errand);
        said = true;
    }
    return said;
}

static void crc_ask(struct peer *peer) {
    for (uint32_t i = 0; i < PEER_JOBS_MAX; i++) {
        if (peer->errand[i].here) return;
    }
    if (peer->n_asked > 0 || peer->draft.tag != 0) return;
    peer->wants_crc = false;
    peer->crc_asked = true;
    asked_push(peer, ASK_HELLO, 0);
    talk_line(peer, "HELLO proto=1 crc=1", 19);
}

static void end_ask(struct peer *peer) {
    bool shut = world.shuts;
    asked_push(peer, shut ? ASK_SHUTDOWN : ASK_DRAIN, 0);
    talk_line(peer, shut ? "SHUTDOWN" : "DRAIN", shut ? 8 : 5);
    peer->drain_told = !shut;
    world.drains = world.shuts = false;
    if (!peer->observer) world.asked_drain = true;
    if (peer->observer || !shut) return;
    sim_count(COUNT_SHUTDOWNS);
    sim.season = SEASON_END;
}

void talk_something(struct peer *peer) {
    if (peer->crc_asked || peer->n_asked > PEER_ASKED_MAX / 4) return;
    if (peer->n_out > PEER_OUT_BYTES / 2) return;
    if (peer->wants_crc && peer->seal.kind == SEAL_NONE) {
        crc_ask(peer);
        return;
    }
    if (peer->left-- == 0) {
        bye_say(peer);
        return;
    }
    if (peer->rude && !dice_one_in(4)) {
        rubbish_say(peer);
        return;
    }
    if (cable_talk(peer)) return;
    uint32_t what = peer->stages ? 60 : dice_below(100);
    if (what < 4) {
        rubbish_say(peer);
        return;
    }
    if (what < 5) {
        overlong_say(peer);
        return;
    }
    char text[100];
    if (what < 8 && peer->seal.kind == SEAL_MAC && dice_one_in(4))
        forgery_say(peer);
    else if (what < 50)
        job_new(peer);
    else if (what < 53)
        job_abuse(peer);
    else if (what < 66 && peer->draft.tag != 0)
        draft_use(peer);
    else if (what < 66)
        draft_new(peer);
    else if (what < 76)
        stop_something(peer);
    else if (what < 80)
        tokenize_ask(peer, 0, text, text_make(text, sizeof text), false);
    else if (what < 83)
        detokenize_ask(peer);
    else if (what < 84 && (world.drains || world.shuts) && world.ready)
        end_ask(peer);
    else
        question_ask(peer);
}

/* --- login ----------------------------------------------------------------------------------- */

static void stranger_misbehave(struct peer *peer) {
    static const char *const lines[] = {"GEN 1 \"let me in\"\n", "HELLO proto=1\n", "\n",
                                        "HELLO proto=1 nonce=0 mac=0\n", "SHUTDOWN\n"};
    peer->farewell = FAREWELL_STRANGER;
    peer->said_all = true;
    uint32_t how = dice_below(4);
    if (how == 0) return; /* says nothing */
    const char *line = lines[dice_below(5)];
    uint32_t n = (uint32_t)strlen(line);
    bytes_out(peer, line, how == 1 ? n - 1 : n);
}

void talk_login(struct peer *peer, const char *nonce) {
    enum login_role role = peer->observer ? LOGIN_OBSERVER : LOGIN_CONTROL;
    struct mac_key key = world.key[role];
    char proof[MAC_HEX + 1];
    struct words words = {0};
    memcpy(peer->nonces.server, nonce, LOGIN_NONCE_HEX);
    for (uint32_t i = 0; i < LOGIN_NONCE_HEX; i++)
        peer->nonces.client[i] = "0123456789abcdef"[dice_below(16)];
    if (dice_one_in(20)) {
        stranger_misbehave(peer);
        return;
    }
    if (dice_one_in(30)) { /* another key */
        mac_key_set(&key, "guess", 5);
        peer->farewell = FAREWELL_STRANGER;
        peer->said_all = true;
    }
    login_client_proof(&key, &peer->nonces, proof);
    words_add(&words, "HELLO proto=1 nonce=%s mac=%s", peer->nonces.client, proof);
    bytes_out(peer, words.text, words.n);
    bytes_out(peer, "\n", 1);
    peer->login = LOGIN_PROOF;
}
