#include "lab/windows.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/panic.h"

enum { FILE_BYTES_MAX = 1 << 28 };

/* The whole file, on the heap. */
static char *file_read(const char *path, size_t *length, struct fault *fault) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    char *text = NULL;
    *length = 0;
    if (fd < 0 || fstat(fd, &status) != 0) {
        fault_set(fault, FAULT_INVALID_REQUEST, "file: cannot read %s: %s", path, strerror(errno));
    } else if (!S_ISREG(status.st_mode) || status.st_size > FILE_BYTES_MAX) {
        fault_set(fault, FAULT_INVALID_REQUEST, "file: %s is no file of at most %d bytes", path,
                  (int)FILE_BYTES_MAX);
    } else if ((text = malloc((size_t)status.st_size + 1)) == NULL) {
        fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "out of memory");
    } else {
        ssize_t got;
        while ((got = read(fd, text + *length, (size_t)status.st_size - *length)) > 0)
            *length += (size_t)got;
    }
    if (fd >= 0) close(fd);
    return text;
}

/* Tokens of all of the text, with working memory of their own: the engine's is for prompts. */
static bool encode(struct windows *w, struct session *session, const char *text, size_t length,
                   bool parse_special, struct fault *fault) {
    const struct vocab *vocab = &session->engine.vocab;
    struct vocab_scratch scratch;
    struct arena arena;
    arena_measure(&arena);
    vocab_scratch_carve(&scratch, vocab, length, &arena);
    if (!arena_map(&arena, arena.used, fault)) return false;
    vocab_scratch_carve(&scratch, vocab, length, &arena);
    /* A byte makes at most one token, or three where a space in front falls back to bytes. */
    size_t room = 4 * length + 4;
    w->token = malloc(room * sizeof *w->token);
    if (w->token == NULL) return fault_set(fault, FAULT_INSUFFICIENT_RESOURCES, "out of memory");
    const struct vocab_encode_options options = {.parse_special = parse_special};
    w->n = vocab_encode(vocab, &scratch, text, length, options, w->token, room);
    wick_assert(w->n <= room);
    return true;
}

bool windows_open(struct windows *w, struct session *session, const struct config *config,
                  struct fault *fault) {
    const struct vocab *vocab = &session->engine.vocab;
    memset(w, 0, sizeof *w);
    if (config->file == NULL)
        return fault_set(fault, FAULT_INVALID_REQUEST, "file= is missing: the text to evaluate");
    char *text = file_read(config->file, &w->bytes, fault);
    if (text == NULL) return false;
    bool fine = encode(w, session, text, w->bytes, config->parse_special, fault);
    free(text);
    if (!fine) return false;
    if (config->max_scored > 0 && w->n > config->max_scored) {
        w->n = config->max_scored;
        w->bytes = vocab_decode(vocab, w->token, w->n, false, NULL, 0);
    }
    w->bos = config->add_bos_set ? config->add_bos : vocab->add_bos;
    if (w->bos && vocab->bos < 0)
        return fault_set(fault, FAULT_INVALID_REQUEST, "add_bos=1: the model has no such token");
    w->bos_id = vocab->bos;
    w->room = session->engine.ctx - (w->bos ? 1 : 0);
    w->overlap = config->overlap_set ? config->overlap : w->room / 2;
    if (w->overlap >= w->room)
        return fault_set(fault, FAULT_INVALID_REQUEST, "overlap=%zu: must be below ctx, %u",
                         w->overlap, session->engine.ctx);
    if (windows_judged(w) == 0)
        return fault_set(fault, FAULT_INVALID_REQUEST, "%s is too short: %zu tokens", config->file,
                         w->n);
    return true;
}

void windows_close(struct windows *w) {
    free(w->token);
    w->token = NULL;
}

size_t windows_judged(const struct windows *w) {
    struct windows walk = *w;
    size_t judged = 0;
    walk.end = 0;
    while (windows_next(&walk)) judged += walk.end - walk.judged;
    return judged;
}

bool windows_next(struct windows *w) {
    if (w->end >= w->n) return false;
    w->begin = w->end > w->overlap ? w->end - w->overlap : 0;
    w->judged = w->end;
    /* The first token of a window without BOS has nothing before it. */
    if (!w->bos && w->judged == w->begin) w->judged++;
    w->end = w->n - w->begin > w->room ? w->begin + w->room : w->n;
    if (w->judged > w->end) w->judged = w->end;
    wick_assert(w->begin < w->end);
    return true;
}

void windows_begin(const struct windows *w, struct session *session) {
    session->n_tokens = session->n_fed = 0;
    if (w->bos) session_append(session, w->bos_id);
}

bool windows_add(const struct windows *w, struct session *session, size_t most, size_t *at) {
    size_t left = w->end - w->begin - *at;
    if (left == 0) return false;
    if (left > most) left = most;
    for (size_t i = 0; i < left; i++) session_append(session, w->token[w->begin + *at + i]);
    *at += left;
    return true;
}

int32_t windows_target(const struct windows *w, size_t index) {
    size_t next = w->begin + index + 1 - (w->bos ? 1 : 0);
    return next >= w->judged && next < w->end ? w->token[next] : -1;
}

double windows_surprise(const float *logits, uint32_t vocab, int32_t id) {
    float most = logits[0];
    for (uint32_t i = 1; i < vocab; i++)
        if (logits[i] > most) most = logits[i];
    double sum = 0;
    for (uint32_t i = 0; i < vocab; i++) sum += exp((double)logits[i] - (double)most);
    return log(sum) + (double)most - (double)logits[id];
}
