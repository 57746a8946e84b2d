#include "conversation.h"

#include <ctype.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "token/utf8.h"

void conversation_set_system(struct conversation *c, const char *system) {
    free(c->system);
    c->system = system && *system ? text_copy(system, strlen(system)) : NULL;
}

void conversation_say(struct conversation *c, const char *user) {
    if (c->n == c->room) {
        size_t room = c->room ? 2 * c->room : 16;
        struct turn *larger = realloc(c->turn, room * sizeof *larger);
        if (!larger) abort();
        c->turn = larger;
        c->room = room;
    }
    c->turn[c->n++] = (struct turn){.user = text_copy(user, strlen(user))};
}

void conversation_answer(struct conversation *c, const char *answer, size_t length) {
    struct turn *last = &c->turn[c->n - 1];
    free(last->answer);
    last->answer = text_copy(answer, length);
}

bool conversation_undo(struct conversation *c) {
    if (c->n == 0) return false;
    c->n--;
    free(c->turn[c->n].user);
    free(c->turn[c->n].answer);
    if (c->first > 0 && c->first >= c->n) c->first = c->n > 0 ? c->n - 1 : 0;
    return true;
}

void conversation_reset(struct conversation *c) {
    while (conversation_undo(c)) continue;
    c->first = 0;
}

static void message_write(struct text *out, const char *role, const char *content) {
    if (!content) return;
    text_add_string(out, "{\"role\":\"");
    text_add_string(out, role);
    text_add_string(out, "\",\"content\":");
    json_text_add(out, content, strlen(content));
    text_add_string(out, "}\n");
}

void conversation_write(const struct conversation *c, struct text *out) {
    message_write(out, "system", c->system);
    for (size_t i = 0; i < c->n; i++) {
        message_write(out, "user", c->turn[i].user);
        message_write(out, "assistant", c->turn[i].answer);
    }
}

/* A line of JSON being read. */
struct reader {
    const char *at, *end;
};

static bool mark_take(struct reader *r, char mark) {
    while (r->at < r->end && isspace((unsigned char)*r->at)) r->at++;
    if (r->at == r->end || *r->at != mark) return false;
    r->at++;
    return true;
}

static bool hex_take(struct reader *r, uint32_t *value) {
    *value = 0;
    if (r->end - r->at < 4) return false;
    for (int i = 0; i < 4; i++) {
        char c = *r->at++;
        if (!isxdigit((unsigned char)c)) return false;
        *value =
            *value * 16 + (uint32_t)(isdigit((unsigned char)c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return true;
}

/* What follows a backslash. Surrogates come in pairs. */
static bool escape_take(struct reader *r, struct text *out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->at == r->end) return false;
    const char *known = *r->at ? strchr(from, *r->at) : NULL;
    char kind = *r->at++;
    if (known) text_add(out, &to[known - from], 1);
    if (known || kind != 'u') return known != NULL;
    uint32_t c, low;
    if (!hex_take(r, &c)) return false;
    if (c >= 0xD800 && c < 0xDC00) {
        if (r->end - r->at < 2 || *r->at++ != '\\' || *r->at++ != 'u') return false;
        if (!hex_take(r, &low) || low < 0xDC00 || low > 0xDFFF) return false;
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    if (c == 0 || (c >= 0xDC00 && c < 0xE000)) return false;
    char bytes[4];
    text_add(out, bytes, utf8_encode(c, bytes));
    return true;
}

static bool string_take(struct reader *r, struct text *out) {
    text_clear(out);
    text_add(out, "", 0);
    if (!mark_take(r, '"')) return false;
    while (r->at < r->end && *r->at != '"') {
        char c = *r->at++;
        if ((unsigned char)c < 0x20) return false;
        if (c != '\\')
            text_add(out, &c, 1);
        else if (!escape_take(r, out))
            return false;
    }
    return mark_take(r, '"');
}

/* An object of strings, of which role and content are wanted. */
static bool message_read(struct reader r, struct text *role, struct text *content) {
    struct text name = {0}, other = {0};
    bool fine = mark_take(&r, '{'), has_role = false, has_content = false;
    do {
        fine = fine && string_take(&r, &name) && mark_take(&r, ':');
        bool is_role = fine && strcmp(name.bytes, "role") == 0;
        bool is_content = fine && strcmp(name.bytes, "content") == 0;
        fine = fine && string_take(&r, is_role ? role : is_content ? content : &other);
        has_role = has_role || is_role;
        has_content = has_content || is_content;
    } while (fine && mark_take(&r, ','));
    fine = fine && mark_take(&r, '}') && has_role && has_content;
    while (r.at < r.end && isspace((unsigned char)*r.at)) r.at++;
    text_free(&name);
    text_free(&other);
    return fine && r.at == r.end;
}

/* Who may speak now? */
static bool message_take(struct conversation *c, const char *role, const struct text *content) {
    bool answered = c->n == 0 || c->turn[c->n - 1].answer;
    if (strcmp(role, "system") == 0 && c->n == 0 && !c->system)
        conversation_set_system(c, content->bytes);
    else if (strcmp(role, "user") == 0 && answered)
        conversation_say(c, content->bytes);
    else if (strcmp(role, "assistant") == 0 && c->n > 0 && !answered)
        conversation_answer(c, content->bytes, content->length);
    else
        return false;
    return true;
}

bool conversation_read(struct conversation *conversation, const char *text, size_t length,
                       unsigned *line) {
    struct conversation new = {0};
    struct text role = {0}, content = {0};
    bool fine = true;
    *line = 0;
    for (const char *at = text, *end = text + length, *next; fine && at < end; at = next) {
        const char *lf = memchr(at, '\n', (size_t)(end - at));
        next = lf ? lf + 1 : end;
        (*line)++;
        struct reader reader = {at, lf ? lf : end};
        struct reader blank = reader;
        while (blank.at < blank.end && isspace((unsigned char)*blank.at)) blank.at++;
        if (blank.at == blank.end) continue;
        fine = message_read(reader, &role, &content) && message_take(&new, role.bytes, &content);
    }
    text_free(&role);
    text_free(&content);
    struct conversation *out = fine ? conversation : &new;
    conversation_reset(out);
    conversation_set_system(out, NULL);
    free(out->turn);
    if (fine) *conversation = new;
    return fine;
}
