/* LOG: the end of the log. */
#include <string.h>

#include "base/log.h"
#include "wire/line.h"
#include "wire/reply.h"
#include "wire/server.h"
#include "wire/verbs.h"

enum {
    LOG_LINES_DEFAULT = 50,
    /* `205-- "` and `"`, LF; and the last line, `205 - end`; and a trailer */
    LOG_LINE_OVERHEAD = 16 + REPLY_TRAILER_MAX,
    LOG_ANSWER_MAX = REPLY_ANSWER_MAX - FRAME_LINE_MAX
};

/* Characters of the answer that a line of n bytes takes. */
static size_t cost_of(const char *bytes, size_t n) {
    size_t cost = LOG_LINE_OVERHEAD;
    for (size_t i = 0; i < n; i++) {
        char c = bytes[i];
        bool plain = c >= ' ' && c <= '~' && c != '"' && c != '\\';
        cost += plain ? 1 : FRAME_ESCAPE_MAX;
    }
    return cost < FRAME_LINE_MAX ? cost : FRAME_LINE_MAX;
}

/* Where the last lines begin, as many as were asked for and the answer holds. */
static const char *tail_find(const char *text, size_t n, uint32_t lines) {
    const char *start = text + n;
    size_t room = LOG_ANSWER_MAX;
    while (start > text && lines > 0) {
        const char *newline = memrchr(text, '\n', (size_t)(start - text) - 1);
        const char *line = newline == NULL ? text : newline + 1;
        size_t cost = cost_of(line, (size_t)(start - line));
        if (cost > room) break;
        room -= cost;
        lines--;
        start = line;
    }
    return start;
}

void verb_log(struct server *server, struct client *client, const struct command *command) {
    char text[HOST_LOG_BYTES];
    struct host *host = server->host;
    size_t n = host != NULL ? host->ops->log(host, text, sizeof text) : log_tail(text, sizeof text);
    uint32_t lines = command->lines != 0 ? command->lines : LOG_LINES_DEFAULT;
    const char *at = tail_find(text, n, lines);
    const char *end = text + n;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        if (newline == NULL) newline = end;
        struct line line;
        line_begin(&line, 205, LINE_MORE, 0);
        line_text(&line, at, (size_t)(newline - at), FRAME_LINE_MAX);
        line_send(&line, &client->output);
        at = newline == end ? end : newline + 1;
    }
    reply_text(&client->output, 205, 0, "end");
}
