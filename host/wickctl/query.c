/* health, info, metrics, tokenize, detokenize, ping: questions with one answer. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "call.h"
#include "json.h"

enum { QUERY_TAG = 1, FACTS_MAX = 128, FACTS_BYTES = 1 << 14 };

/* Facts are printed as a table, or as one object; lists of equal names become arrays. */
struct facts {
    struct reply_item item[FACTS_MAX];
    size_t n;
    size_t used;
    char bytes[FACTS_BYTES];
};

static char *facts_copy(struct facts *facts, const char *bytes, size_t length) {
    if (length + 1 > sizeof facts->bytes - facts->used) return NULL;
    char *to = facts->bytes + facts->used;
    memcpy(to, bytes, length);
    to[length] = 0;
    facts->used += length + 1;
    return to;
}

static void facts_add(struct facts *facts, const struct reply *reply) {
    for (size_t i = 0; i < reply->n_items && facts->n < FACTS_MAX; i++) {
        struct reply_item item = reply->item[i];
        if (!item.name) continue;
        item.name = facts_copy(facts, item.name, strlen(item.name));
        item.value = facts_copy(facts, item.value, item.length);
        if (item.name && item.value) facts->item[facts->n++] = item;
    }
}

static bool name_ends(const char *name, const char *end) {
    size_t n = strlen(name), m = strlen(end);
    return n >= m && strcmp(name + n - m, end) == 0;
}

static void fact_print(const struct reply_item *item, int width) {
    printf("%-*s  %s", width, item->name, item->value);
    double value = strtod(item->value, NULL);
    if (name_ends(item->name, "_bytes") && value >= 1024)
        printf("  (%.1f MiB)", value / (1024 * 1024));
    if (name_ends(item->name, "uptime_s") && value >= 120) printf("  (%.0f min)", value / 60);
    putchar('\n');
}

static void facts_print(const struct facts *facts) {
    int width = 0;
    for (size_t i = 0; i < facts->n; i++)
        if ((int)strlen(facts->item[i].name) > width) width = (int)strlen(facts->item[i].name);
    for (size_t i = 0; i < facts->n; i++) fact_print(&facts->item[i], width);
}

static bool fact_seen(const struct facts *facts, size_t before, const char *name) {
    for (size_t i = 0; i < before; i++)
        if (strcmp(facts->item[i].name, name) == 0) return true;
    return false;
}

static void facts_print_json(const struct facts *facts) {
    const char *mark = "{";
    for (size_t i = 0; i < facts->n; i++) {
        const char *name = facts->item[i].name;
        if (fact_seen(facts, i, name)) continue;
        bool list = strcmp(name, "listen") == 0;
        printf("%s\"%s\":%s", mark, name, list ? "[" : "");
        const char *comma = "";
        for (size_t j = i; j < facts->n; j++) {
            if (strcmp(facts->item[j].name, name) != 0) continue;
            fputs(comma, stdout);
            json_value(&facts->item[j]);
            comma = ",";
            if (!list) break;
        }
        if (list) putchar(']');
        mark = ",";
    }
    puts("}");
}

enum ctl_exit health_ask(struct session *session, struct reply *reply) {
    enum ctl_exit status = session_ask(session, "HEALTH", reply);
    if (status != CTL_OK) return status;
    return reply_split(reply) ? CTL_OK : session_lost(session);
}

void health_print(const struct reply *reply) {
    static struct facts facts;
    facts.n = facts.used = 0;
    facts_add(&facts, reply);
    facts_print(&facts);
}

enum ctl_exit health_command(struct call *call, struct session *session) {
    struct reply reply;
    enum ctl_exit status = call_open(call, session, 0);
    if (status == CTL_OK) status = health_ask(session, &reply);
    if (status != CTL_OK) return status;
    static struct facts facts;
    facts_add(&facts, &reply);
    if (call->json)
        facts_print_json(&facts);
    else
        facts_print(&facts);
    const char *state = reply_value(&reply, "status", "?");
    if (strcmp(state, "ready") == 0 || strcmp(state, "busy") == 0) return CTL_OK;
    fprintf(stderr, "wickctl: %s is %s, not ready\n", call->address, state);
    return CTL_SERVER_ERROR;
}

enum ctl_exit info_command(struct call *call, struct session *session) {
    static struct facts facts;
    struct reply reply;
    enum ctl_exit status = call_open(call, session, 0);
    if (status == CTL_OK) status = session_ask(session, "INFO", &reply);
    while (status == CTL_OK) {
        if (reply_split(&reply)) facts_add(&facts, &reply);
        if (!reply.more) break;
        status = session_reply(session, 0, SESSION_ANSWER_MS, &reply);
    }
    if (status != CTL_OK) return status;
    if (call->json)
        facts_print_json(&facts);
    else
        facts_print(&facts);
    return CTL_OK;
}

enum ctl_exit metrics_command(struct call *call, struct session *session) {
    struct reply reply;
    enum ctl_exit status = call_open(call, session, 0);
    if (status == CTL_OK) status = session_ask(session, "METRICS", &reply);
    while (status == CTL_OK) {
        if (reply.more) puts(reply.rest);
        if (!reply.more) break;
        status = session_reply(session, 0, SESSION_ANSWER_MS, &reply);
    }
    return status;
}

/* Prints the ids of one 240 line; all lines are one list. */
static void ids_print(const struct reply *reply, bool json, bool *first) {
    for (const char *at = reply_value(reply, "ids", ""); *at;) {
        size_t n = strcspn(at, ",");
        printf("%s%.*s", *first ? "" : json ? "," : " ", (int)n, at);
        *first = false;
        at += n;
        if (*at) at++;
    }
}

enum ctl_exit tokenize_command(struct call *call, struct session *session) {
    const char *text;
    size_t length;
    struct reply reply;
    enum ctl_exit status = call_text_read(call, &text, &length);
    if (status == CTL_OK) status = call_open(call, session, 0);
    if (status == CTL_OK) status = call_send(call, session, "TOKENIZE", QUERY_TAG, text, length);
    if (status != CTL_OK) return status;
    bool first = true;
    do {
        status = session_reply(session, QUERY_TAG, SESSION_ANSWER_MS, &reply);
        if (status == CTL_OK && reply.code >= 400) status = session_refused(session, &reply);
        if (status != CTL_OK) return status;
        if (first && call->json) fputs("{\"ids\":[", stdout);
        if (reply_split(&reply)) ids_print(&reply, call->json, &first);
    } while (reply.more);
    puts(call->json ? "]}" : "");
    return CTL_OK;
}

/* Ids as people and programs write them: separated by anything that is no digit. */
static size_t ids_normalise(const char *text, size_t length, char *ids) {
    size_t n = 0;
    for (size_t i = 0; i < length; i++) {
        bool digit = isdigit((unsigned char)text[i]);
        if (digit && n > 0 && i > 0 && !isdigit((unsigned char)text[i - 1])) ids[n++] = ',';
        if (digit) ids[n++] = text[i];
    }
    return n;
}

/* All parts of a 241 reply, joined: a character may be split between two of them. */
static enum ctl_exit text_collect(struct session *session, char **text, size_t *length) {
    struct reply reply;
    do {
        enum ctl_exit status = session_reply(session, QUERY_TAG, SESSION_ANSWER_MS, &reply);
        if (status == CTL_OK && reply.code >= 400) status = session_refused(session, &reply);
        if (status != CTL_OK) return status;
        const struct reply_item *part = reply_split(&reply) ? reply_word(&reply, 0) : NULL;
        if (!part) continue;
        char *longer = realloc(*text, *length + part->length + 1);
        if (!longer) return CTL_USAGE;
        *text = longer;
        memcpy(*text + *length, part->value, part->length);
        *length += part->length;
    } while (reply.more);
    return CTL_OK;
}

enum ctl_exit detokenize_command(struct call *call, struct session *session) {
    const char *input;
    size_t length;
    enum ctl_exit status = call_text_read(call, &input, &length);
    if (status != CTL_OK) return status;
    char *ids = malloc(length + 1);
    if (!ids) return CTL_USAGE;
    size_t n = ids_normalise(input, length, ids);
    if (n == 0) {
        fprintf(stderr, "wickctl: no token ids in \"%.*s\"; write them as 1,2,3\n",
                (int)(length < 60 ? length : 60), input);
        free(ids);
        return CTL_USAGE;
    }
    status = call_open(call, session, 0);
    if (status == CTL_OK) status = call_send_staged(call, session, "DETOKENIZE", QUERY_TAG, ids, n);
    free(ids);
    char *text = NULL;
    size_t text_length = 0;
    if (status == CTL_OK) status = text_collect(session, &text, &text_length);
    if (status == CTL_OK && call->json) {
        fputs("{\"text\":", stdout);
        json_text(text, text_length);
        puts("}");
    } else if (status == CTL_OK) {
        fwrite(text, 1, text_length, stdout);
        if (isatty(STDOUT_FILENO)) putchar('\n');
    }
    free(text);
    return status;
}

enum ctl_exit ping_command(struct call *call, struct session *session) {
    enum ctl_exit status = call_open(call, session, 0);
    if (status != CTL_OK) return status;
    struct timespec begin, end;
    struct reply reply;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    status = session_ask(session, "PING", &reply);
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (status != CTL_OK) return status;
    double ms =
        (double)(end.tv_sec - begin.tv_sec) * 1e3 + (double)(end.tv_nsec - begin.tv_nsec) / 1e6;
    if (call->json)
        printf("{\"ms\":%.3f}\n", ms);
    else
        printf("pong from %s in %.2f ms\n", call->address, ms);
    return CTL_OK;
}
