#include "cable.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "wire/frame.h"

enum {
    HASTE_MS = 100,   /* between two times of asking again because a line was lost */
    ACK_BYTES = 2048, /* of a job's lines; the server keeps four times as much */
    WIRE_TAG_MAX = 8999,
    MARK_FIRST = 9000, /* tags of the marks: never those of jobs */
    MARKS = 1000,
    ASKS_MAX = 8,
    LINE_BYTES = FRAME_LINE_MAX + 64
};

/* Lines, each with its terminator. */
struct lines {
    char *bytes;
    size_t begin, end, size;
};

struct job {
    enum { JOB_NONE, JOB_ASKED, JOB_RUNS } state;
    char line[LINE_BYTES];
    bool scores;
    bool started;       /* 150 has come */
    bool replaying;     /* nothing counts until 232 */
    bool stop;          /* the caller wants it to end */
    uint32_t next;      /* index of the token that is wanted */
    unsigned part;      /* lines of that token which the caller has */
    unsigned part_seen; /* and which came in this replay */
    size_t unacknowledged;
    long since_ms; /* last sign of life, or question for one */
};

struct ask {
    char line[LINE_BYTES];
    unsigned tag; /* on the wire; 0: none */
    int code;     /* of its answer; 0: any that is no error and none of a job */
    bool silent;  /* asked again by us: the caller has its answer */
};

struct cable {
    cable_sender *send;
    void *link;
    long patience_ms; /* without a line: ask again */
    bool broken;
    unsigned caller, wire; /* one tag of the caller is that one on the wire; 0: none */
    unsigned last_wire;
    uint32_t staged; /* bytes under it */
    struct job job;
    struct ask ask[ASKS_MAX]; /* the first one is being asked */
    size_t n_asks;
    bool asked, marked; /* it is on its way; its mark has come back */
    bool spoilt;        /* its answer cannot be whole any more */
    unsigned mark;
    long asked_ms;
    char closing[FRAME_VERB_MAX + 1]; /* DRAIN, SHUTDOWN or REBOOT, until its last word has come */
    int last_word;
    long closing_ms;
    struct lines answer; /* what has come of the answer */
    struct lines ready;
};

static long now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000L + now.tv_nsec / 1000000;
}

struct cable *cable_new(cable_sender *send, void *link, int patience_ms) {
    struct cable *cable = calloc(1, sizeof *cable);
    if (!cable) return NULL;
    cable->send = send;
    cable->link = link;
    cable->patience_ms = patience_ms;
    return cable;
}

static void lines_add(struct lines *lines, const char *line) {
    size_t n = strlen(line) + 1;
    if (lines->begin == lines->end) lines->begin = lines->end = 0;
    if (lines->end + n > lines->size) {
        size_t size = 2 * lines->size + n;
        char *bytes = realloc(lines->bytes, size);
        if (!bytes) return; /* as if it had not come */
        lines->bytes = bytes;
        lines->size = size;
    }
    memcpy(lines->bytes + lines->end, line, n);
    lines->end += n;
}

static char *lines_take(struct lines *lines) {
    if (lines->begin == lines->end) return NULL;
    char *line = lines->bytes + lines->begin;
    lines->begin += strlen(line) + 1;
    return line;
}

static void wire_send(struct cable *cable, const char *line) {
    if (!cable->send(cable->link, line, strlen(line))) cable->broken = true;
}

char *cable_next(struct cable *cable) {
    return lines_take(&cable->ready);
}

/* --- tags ------------------------------------------------------------------------------------ */

/* "GEN 1 x": verb, tag (0: none), and what follows it. */
static void request_split(const char *line, char verb[FRAME_VERB_MAX + 1], unsigned *tag,
                          const char **rest) {
    size_t n = 0;
    while (*line == ' ') line++;
    while (isupper((unsigned char)line[n]) && n < FRAME_VERB_MAX) n++;
    memcpy(verb, line, n);
    verb[n] = 0;
    line += n;
    while (*line == ' ') line++;
    char *end = (char *)(uintptr_t)line;
    *tag = isdigit((unsigned char)*line) ? (unsigned)strtoul(line, &end, 10) : 0;
    *rest = end;
}

static unsigned tag_map(struct cable *cable, unsigned tag) {
    if (tag == 0 || tag == cable->caller) return tag == 0 ? 0 : cable->wire;
    cable->caller = tag;
    cable->last_wire = cable->last_wire % WIRE_TAG_MAX + 1;
    cable->wire = cable->last_wire;
    cable->staged = 0;
    return cable->wire;
}

/* A line of the server for the caller, who has another tag. */
static void line_deliver(struct cable *cable, struct lines *to, const char *line, unsigned tag) {
    char text[LINE_BYTES];
    if (tag == 0 || tag != cable->wire) {
        lines_add(to, line);
        return;
    }
    const char *rest = line + 4;
    while (isdigit((unsigned char)*rest)) rest++;
    snprintf(text, sizeof text, "%.4s%u%s", line, cable->caller, rest);
    lines_add(to, text);
}

/* --- the job --------------------------------------------------------------------------------- */

static void job_send(struct cable *cable) {
    cable->job.since_ms = now_ms();
    wire_send(cable, cable->job.line);
}

static void job_replay(struct cable *cable) {
    struct job *job = &cable->job;
    char line[64];
    snprintf(line, sizeof line, "REPLAY %u from=%u", cable->wire, job->started ? job->next : 0);
    job->replaying = true;
    job->since_ms = now_ms();
    wire_send(cable, line);
}

static void job_acknowledge(struct cable *cable, bool all) {
    char line[64];
    if (all)
        snprintf(line, sizeof line, "ACK %u", cable->wire);
    else
        snprintf(line, sizeof line, "ACK %u from=%u", cable->wire, cable->job.next);
    cable->job.unacknowledged = 0;
    wire_send(cable, line);
}

static void ask_add(struct cable *cable, const char *line, unsigned tag, int code, bool silent);

static void job_started(struct cable *cable, const char *line) {
    struct job *job = &cable->job;
    job->state = JOB_RUNS;
    if (job->started) return;
    job->started = true;
    line_deliver(cable, &cable->ready, line, cable->wire);
    if (!job->stop) return;
    char stop[32];
    snprintf(stop, sizeof stop, "STOP %u", cable->wire);
    ask_add(cable, stop, cable->wire, 230, true);
}

static void job_token(struct cable *cable, const char *line) {
    struct job *job = &cable->job;
    const char *rest = line + 4;
    while (isdigit((unsigned char)*rest)) rest++;
    uint32_t index = (uint32_t)strtoul(rest, NULL, 10);
    if (index > job->next || !job->started) {
        job_replay(cable);
        return;
    }
    if (index < job->next) return; /* a replay repeats what we have */
    if (++job->part_seen > job->part) {
        job->part = job->part_seen;
        job->unacknowledged += strlen(line);
        line_deliver(cable, &cable->ready, line, cable->wire);
    }
    if (line[3] == '-') return;
    job->next++;
    job->part = job->part_seen = 0;
    if (job->unacknowledged >= ACK_BYTES) job_acknowledge(cable, false);
}

static void job_over(struct cable *cable, const char *line) {
    line_deliver(cable, &cable->ready, line, cable->wire);
    if (line[3] == '-') return;
    job_acknowledge(cable, true);
    cable->job.state = JOB_NONE;
    cable->caller = cable->wire = 0;
}

/* A line under the job's tag. */
static void job_take(struct cable *cable, const char *line, int code) {
    struct job *job = &cable->job;
    job->since_ms = now_ms();
    if (code == 232) {
        job->replaying = false;
        job->state = JOB_RUNS;
        job->part_seen = 0;
    } else if (code == 409) {
        job_replay(cable); /* it came twice: it is there */
    } else if (code == 404 && !job->started) {
        job->replaying = false;
        job_send(cable); /* it never came */
    } else if (job->replaying && code != 404) {
        return;
    } else if (code == 150) {
        job_started(cable, line);
    } else if (code == 151 || code == 152) {
        job_token(cable, line);
    } else {
        job_over(cable, line);
    }
}

static bool job_begin(struct cable *cable, const char *verb, const char *rest) {
    struct job *job = &cable->job;
    *job = (struct job){.state = JOB_ASKED, .scores = strcmp(verb, "SCORE") == 0};
    job->next = job->scores ? 1 : 0; /* the first token of a text has no score */
    int n = snprintf(job->line, sizeof job->line, "%s %u%s", verb, cable->wire, rest);
    if (n < 0 || (size_t)n >= sizeof job->line) return false;
    job_send(cable);
    return !cable->broken;
}

/* --- questions ------------------------------------------------------------------------------- */

/* The mark is the answer to a STOP of a tag that nobody uses: what comes before it answers
 * something older. */
static void ask_send(struct cable *cable) {
    struct ask *ask = &cable->ask[0];
    char line[LINE_BYTES];
    cable->mark = MARK_FIRST + (cable->mark + 1) % MARKS;
    cable->asked = true;
    cable->marked = cable->spoilt = false;
    cable->answer.begin = cable->answer.end = 0;
    cable->asked_ms = now_ms();
    snprintf(line, sizeof line, "STOP %u", cable->mark);
    wire_send(cable, line);
    if (strncmp(ask->line, "PUT ", 4) == 0) {
        /* The caller appends; a PUT that may come twice says where. */
        char verb[FRAME_VERB_MAX + 1];
        unsigned tag;
        const char *rest;
        request_split(ask->line, verb, &tag, &rest);
        snprintf(line, sizeof line, "PUT %u at=%u%s", tag, cable->staged, rest);
        wire_send(cable, line);
    } else {
        wire_send(cable, ask->line);
    }
}

static void ask_add(struct cable *cable, const char *line, unsigned tag, int code, bool silent) {
    if (cable->n_asks == ASKS_MAX) return; /* nobody has so many questions */
    struct ask *ask = &cable->ask[cable->n_asks++];
    snprintf(ask->line, sizeof ask->line, "%s", line);
    ask->tag = tag;
    ask->code = code;
    ask->silent = silent;
    if (cable->n_asks == 1) ask_send(cable);
}

/* Is it a line of the answer? */
static bool ask_fits(const struct cable *cable, unsigned tag, int code) {
    const struct ask *ask = &cable->ask[0];
    if (!cable->asked || !cable->marked) return false;
    if (ask->code == 230) return tag == ask->tag && code == 230; /* STOP is never refused */
    if (code >= 400) return tag == ask->tag || tag == 0;
    if (tag != ask->tag) return false;
    if (ask->code != 0) return code == ask->code;
    return code >= 200 && code != 250 && code != 260 && code != 261;
}

static void ask_over(struct cable *cable) {
    struct ask *ask = &cable->ask[0];
    char *line;
    unsigned tag = ask->tag;
    bool put = strncmp(ask->line, "PUT ", 4) == 0, over = strstr(ask->line, "TOKENIZE ") != NULL;
    while ((line = lines_take(&cable->answer))) {
        const char *bytes = put ? strstr(line, " bytes=") : NULL;
        if (bytes) cable->staged = (uint32_t)strtoul(bytes + 7, NULL, 10);
        if (put && !bytes) over = true; /* refused */
        if (!ask->silent) line_deliver(cable, &cable->ready, line, tag);
    }
    cable->n_asks--;
    memmove(cable->ask, cable->ask + 1, cable->n_asks * sizeof *cable->ask);
    cable->asked = false;
    if (over && tag != 0 && cable->job.state == JOB_NONE) {
        char stop[32]; /* the staged text is not needed any more */
        snprintf(stop, sizeof stop, "STOP %u", tag);
        cable->caller = cable->wire = 0;
        ask_add(cable, stop, tag, 230, true);
    } else if (cable->n_asks > 0) {
        ask_send(cable);
    }
}

/* --- from the caller ------------------------------------------------------------------------- */

static void closing_note(struct cable *cable, const char *verb, int last_word) {
    snprintf(cable->closing, sizeof cable->closing, "%.*s", FRAME_VERB_MAX, verb);
    cable->last_word = last_word;
    cable->closing_ms = now_ms();
}

/* The code that answers the verb, where it is not that of any question. */
static int answer_code(const char *verb) {
    static const struct {
        const char *verb;
        int code;
    } rows[] = {{"STOP", 230}, {"DRAIN", 160}, {"SHUTDOWN", 161}, {"REBOOT", 162}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(verb, rows[i].verb) == 0) return rows[i].code;
    return 0;
}

bool cable_send(struct cable *cable, const char *line, size_t n) {
    char verb[FRAME_VERB_MAX + 1], text[LINE_BYTES], mapped[LINE_BYTES];
    unsigned tag;
    const char *rest;
    if (n >= sizeof text) return false;
    memcpy(text, line, n);
    text[n] = 0;
    request_split(text, verb, &tag, &rest);
    unsigned wire = tag_map(cable, tag);
    bool job = strcmp(verb, "GEN") == 0 || strcmp(verb, "RUN") == 0 || strcmp(verb, "SCORE") == 0;
    if (job && wire != 0 && cable->job.state == JOB_NONE) return job_begin(cable, verb, rest);
    if (strcmp(verb, "BYE") == 0) {
        wire_send(cable, text);
        return !cable->broken;
    }
    if (strcmp(verb, "STOP") == 0 && cable->job.state != JOB_NONE) cable->job.stop = true;
    if (strcmp(verb, "DRAIN") == 0) closing_note(cable, verb, 260);
    if (strcmp(verb, "SHUTDOWN") == 0 || strcmp(verb, "REBOOT") == 0)
        closing_note(cable, verb, 261);
    if (wire != 0)
        snprintf(mapped, sizeof mapped, "%s %u%.*s", verb, wire, LINE_BYTES - 64, rest);
    else
        memcpy(mapped, text, n + 1);
    ask_add(cable, mapped, wire, answer_code(verb), false);
    return !cable->broken;
}

/* --- from the server ------------------------------------------------------------------------- */

/* Something that was sent to us has not come, or something that we sent. */
static void again(struct cable *cable) {
    long now = now_ms();
    struct job *job = &cable->job;
    if (job->state == JOB_RUNS && (!job->replaying || now - job->since_ms >= HASTE_MS))
        job_replay(cable);
    else if (job->state == JOB_ASKED && now - job->since_ms >= HASTE_MS)
        job_send(cable);
    /* What is still to come of the answer is worth nothing. */
    cable->marked = false;
    cable->spoilt = cable->asked;
    if (cable->spoilt && now - cable->asked_ms >= HASTE_MS) ask_send(cable);
}

void cable_damage(struct cable *cable) {
    again(cable);
}

static bool is_crc_complaint(const char *line, int code) {
    return code == 400 && strstr(line, "the CRC is wrong") != NULL;
}

void cable_take(struct cable *cable, char *line, bool lost) {
    if (strlen(line) < 5 || !isdigit((unsigned char)line[0])) return;
    int code = (int)strtoul(line, NULL, 10);
    unsigned tag = isdigit((unsigned char)line[4]) ? (unsigned)strtoul(line + 4, NULL, 10) : 0;
    if (lost || is_crc_complaint(line, code)) again(cable);
    if (is_crc_complaint(line, code)) return;
    if (tag >= MARK_FIRST) {
        if (cable->asked && !cable->spoilt && tag == cable->mark) cable->marked = true;
    } else if (ask_fits(cable, tag, code)) {
        lines_add(&cable->answer, line);
        if (line[3] == ' ') ask_over(cable);
    } else if (tag != 0 && tag == cable->wire && cable->job.state != JOB_NONE && code != 230) {
        job_take(cable, line, code);
    } else if (tag == 0 && (code < 200 || code == 260 || code == 261 || code >= 500)) {
        if (code == cable->last_word) cable->closing[0] = 0;
        lines_add(&cable->ready, line);
    }
}

int cable_tick(struct cable *cable) {
    long now = now_ms(), wait = -1;
    struct job *job = &cable->job;
    if (job->state != JOB_NONE) {
        if (now - job->since_ms >= cable->patience_ms) {
            if (job->state == JOB_RUNS || job->replaying)
                job_replay(cable);
            else
                job_send(cable);
        }
        wait = cable->patience_ms;
    }
    if (cable->asked) {
        long patience_ms = cable->spoilt ? HASTE_MS : cable->patience_ms;
        if (now - cable->asked_ms >= patience_ms) ask_send(cable);
        wait = cable->patience_ms;
    }
    if (cable->closing[0]) {
        if (now - cable->closing_ms >= cable->patience_ms && cable->n_asks == 0) {
            cable->closing_ms = now;
            ask_add(cable, cable->closing, 0, answer_code(cable->closing), true);
        }
        wait = cable->patience_ms;
    }
    return wait < 0 ? -1 : cable->spoilt ? HASTE_MS : (int)wait / 4;
}
