#include "wire/client.h"

#include <errno.h>
#include <unistd.h>

#include "base/panic.h"

void client_carve(struct client *client, size_t output_bytes, struct arena *arena) {
    char *bytes = arena_take(arena, output_bytes, ARENA_ALIGN);
    if (client == NULL) return; /* measuring */
    client->output.bytes = bytes;
    client->output.size = output_bytes;
}

void client_reset(struct client *client, uint32_t number) {
    wick_assert(number != 0);
    wick_assert(client_jobs(client) == 0);
    client->number = number;
    client->until_ns = 0;
    client->reader = (struct frame_reader){.length = 0};
    client->role = LOGIN_CONTROL;
    client->seal.kind = SEAL_NONE;
    client->output.seal = NULL;
    client->output.ring = NULL;
    client->input_at = 0;
    client->input_end = 0;
    client->input_over = false;
    client->eof_told = false;
    client->fresh = true;
    client->bad_lines = 0;
    client->blocked = false;
    client->wants_drained = false;
    output_clear(&client->output);
}

void client_open(struct client *client, uint32_t number, enum wire_kind kind, int in, int out) {
    wick_assert(client->state == CLIENT_FREE);
    client->state = CLIENT_OPEN;
    client->kind = kind;
    client->in = in;
    client->out = out;
    client_reset(client, number);
}

void client_seal(struct client *client, const struct seal *seal) {
    static const uint8_t chars[] = {
        [SEAL_NONE] = 0, [SEAL_CRC] = SEAL_CRC_CHARS, [SEAL_MAC] = SEAL_MAC_CHARS};
    client->seal = *seal;
    client->output.seal = &client->seal;
    client->reader.trailer = chars[seal->kind];
}

void client_close(struct client *client) {
    wick_assert(client->state != CLIENT_FREE);
    wire_close(client->kind, client->in);
    if (client->out != client->in) wire_close(client->kind, client->out);
    client->state = CLIENT_FREE;
    client->number = 0;
    mac_wipe(&client->seal, sizeof client->seal);
}

bool client_is_connection(const struct client *client) {
    return client->kind == WIRE_TCP || client->kind == WIRE_UNIX;
}

static enum client_status client_read(struct client *client, ssize_t *n) {
    *n = read(client->in, client->input, sizeof client->input);
    if (*n > 0) return CLIENT_FINE;
    if (*n < 0 && (errno == EAGAIN || errno == EINTR)) return CLIENT_FINE;
    /* A serial line has no end of file: 0 or EIO there is a hang-up. */
    if (*n == 0 && client->kind != WIRE_TTY) return CLIENT_EOF;
    return CLIENT_GONE;
}

enum client_status client_receive(struct client *client) {
    wick_assert(client->state == CLIENT_OPEN || client->state == CLIENT_DORMANT);
    wick_assert(!client_has_input(client));
    ssize_t n;
    enum client_status status = client_read(client, &n);
    client->input_at = 0;
    client->input_end = n > 0 ? (uint32_t)n : 0;
    return status;
}

enum client_status client_discard(struct client *client) {
    ssize_t n;
    client->input_at = 0;
    client->input_end = 0;
    return client_read(client, &n);
}

enum client_status client_flush(struct client *client) {
    size_t n;
    const char *bytes;
    while ((bytes = output_oldest(&client->output, &n)) != NULL) {
        ssize_t written = write(client->out, bytes, n);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0 && errno == EAGAIN) {
            client->blocked = true;
            return CLIENT_FINE;
        }
        if (written <= 0) return CLIENT_GONE;
        output_take(&client->output, (size_t)written);
    }
    client->blocked = false;
    return CLIENT_FINE;
}

void client_finish(struct client *client, uint64_t until_ns) {
    wick_assert(client->state == CLIENT_OPEN);
    client->state = CLIENT_FLUSH;
    client->until_ns = until_ns;
    client->input_at = 0;
    client->input_end = 0;
}
