#include "wire/sessions.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/panic.h"
#include "wire/reply.h"
#include "wire/verbs.h"

enum { MS = 1000 * 1000 /* ns */ };

/* Lines that nobody asked for: 110, 120, 130, 260, 261, 520, a few at the same time. */
enum { BROADCAST_MAX = 2 * (FRAME_LINE_MAX + FRAME_TRAILER_MAX) };

static uint32_t number_next(struct server *server) {
    server->next_number++;
    if (server->next_number == 0) server->next_number = 1;
    return server->next_number;
}

static bool is_listener(const struct wire *wire) {
    return wire->kind == WIRE_TCP || wire->kind == WIRE_UNIX;
}

uint32_t server_connections(const struct server *server) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < WIRE_CLIENTS_MAX; i++) n += server->client[i].state != CLIENT_FREE;
    return n;
}

static void session_tell_loading(const struct server *server, struct client *client) {
    if (server->phase != SERVER_LOADING) return;
    reply_text(&client->output, 110, 0, "loading percent=%u", server->told);
}

static void session_greet(struct server *server, struct client *client) {
    reply_text(&client->output, 220, 0, "wick proto=%d", SERVER_PROTO);
    session_tell_loading(server, client);
}

static struct client *session_open(struct server *server, enum wire_kind kind, int in, int out) {
    for (uint32_t i = 0; i < WIRE_CLIENTS_MAX; i++) {
        struct client *client = &server->client[i];
        if (client->state != CLIENT_FREE) continue;
        client_open(client, number_next(server), kind, in, out);
        log_event(LOG_DEBUG, "client", "number=%u opened", client->number);
        return client;
    }
    return NULL;
}

struct client *sessions_add(struct server *server, enum wire_kind kind, int in, int out) {
    struct client *client = session_open(server, kind, in, out);
    if (client != NULL) session_greet(server, client);
    return client;
}

void sessions_open(struct server *server) {
    for (uint32_t i = 0; i < server->n_wires; i++) {
        const struct wire *wire = &server->wire[i];
        if (is_listener(wire)) continue;
        int out = wire->kind == WIRE_STDIO ? STDOUT_FILENO : wire->fd;
        struct client *client = sessions_add(server, wire->kind, wire->fd, out);
        wick_assert(client != NULL);
    }
}

/* Everything the session has is given back. */
static void session_strip(struct server *server, struct client *client) {
    scheduler_drop_client(server->scheduler, client->number);
    jobs_drop_client(&server->jobs, client);
    staging_drop_client(&server->staging, client->number);
    replay_drop_client(&server->replay, client->number);
    if (server->listing.client == client) listing_end(&server->listing);
}

void server_drop(struct server *server, struct client *client) {
    wick_assert(client->state != CLIENT_FREE);
    session_strip(server, client);
    log_event(LOG_DEBUG, "client", "number=%u closed", client->number);
    if (client->kind == WIRE_TTY) {
        client_reset(client, number_next(server));
        client->state = CLIENT_DORMANT;
        client->until_ns = clock_ns() + (uint64_t)CLIENT_DORMANT_MS * MS;
        return;
    }
    bool last = client->kind == WIRE_STDIO && server->n_wires == 1;
    client_close(client);
    if (!last) return;
    server_drain(server, true);
    server->more = true;
}

void server_finish(struct server *server, struct client *client) {
    wick_assert(client->kind != WIRE_TTY);
    session_strip(server, client);
    uint32_t ms = server->config->stall_ms != 0 ? server->config->stall_ms : CLIENT_FLUSH_MS;
    client_finish(client, clock_ns() + (uint64_t)ms * MS);
}

size_t server_reserve(const struct server *server, const struct client *client) {
    const struct config *config = server->config;
    uint32_t running = client->n_generate < config->slots ? client->n_generate : config->slots;
    size_t bytes = BROADCAST_MAX;
    bytes += client_jobs(client) * (size_t)(REPLY_STARTED_MAX + REPLY_TERMINAL_MAX);
    bytes += running * (size_t)REPLY_TOKEN_MAX;
    if (client->n_score > 0) bytes += server->engine->logits_max * (size_t)REPLY_SCORE_MAX;
    return bytes;
}

/* May one more command be looked at? Its answer must fit, and so must what a job it may start needs
 * before it can be held. */
static bool session_has_room(const struct server *server, const struct client *client) {
    size_t step = server->engine->logits_max * (size_t)REPLY_SCORE_MAX;
    if (step < REPLY_TOKEN_MAX) step = REPLY_TOKEN_MAX;
    size_t job = REPLY_STARTED_MAX + step + REPLY_TERMINAL_MAX;
    return output_free(&client->output) >= server_reserve(server, client) + job + REPLY_ANSWER_MAX;
}

static void session_overlong(struct server *server, struct client *client) {
    struct fault fault;
    fault_set(&fault, FAULT_LINE_TOO_LONG,
              "over %d bytes; the line is discarded up to its end; PUT takes long texts in parts",
              FRAME_LINE_MAX);
    reply_fault(&client->output, 0, &fault);
    client->bad_lines++;
    if (client->bad_lines >= CLIENT_BAD_LINES_MAX && client_is_connection(client)) {
        server_finish(server, client);
    }
}

/* Asked of the first bytes of a session, in however many pieces they come. */
static bool session_is_tls(struct server *server, struct client *client) {
    const struct frame_reader *reader = &client->reader;
    if (!client->fresh || !client_is_connection(client)) return false;
    if (client->seal.kind == SEAL_MAC) return false;
    client->fresh = !reader->complete && !reader->skipping && reader->length < FRAME_TLS_BYTES;
    if (!frame_is_tls(reader->line, reader->length)) return false;
    struct fault fault;
    fault_set(&fault, FAULT_BAD_LINE,
              "this is not TLS: wick speaks a line protocol, see docs/PROTOCOL.md");
    reply_fault(&client->output, 0, &fault);
    server_finish(server, client);
    return true;
}

/* Nothing more of this connection can be believed. */
static void session_forged(struct server *server, struct client *client) {
    struct fault fault;
    fault_set(&fault, FAULT_BAD_MAC, "line %llu is not what was sent; the connection ends",
              (unsigned long long)client->seal.got);
    reply_fault(&client->output, 0, &fault);
    log_event(LOG_WARN, "client", "number=%u dropped: a wrong MAC", client->number);
    server_finish(server, client);
}

/* Where a CRC is agreed, whoever does not know that may still begin anew. */
static bool line_begins_anew(const char *line, size_t n) {
    static const char *const verbs_bare[] = {"HELLO", "BYE"};
    if (frame_is_blank(line, n)) return true;
    for (size_t i = 0; i < sizeof verbs_bare / sizeof *verbs_bare; i++) {
        size_t length = strlen(verbs_bare[i]);
        if (n < length || memcmp(line, verbs_bare[i], length) != 0) continue;
        if (n == length || line[length] == ' ') return !seal_has_crc(line, n);
    }
    return false;
}

/* A whole line has come. */
static void session_line(struct server *server, struct client *client) {
    size_t n = client->reader.length;
    bool good = seal_check(&client->seal, client->reader.line, &n);
    if (!good && client->seal.kind == SEAL_CRC) good = line_begins_anew(client->reader.line, n);
    if (!good && client->seal.kind == SEAL_MAC) {
        session_forged(server, client);
    } else if (!good) {
        verbs_bad_line(server, client, "the CRC is wrong or not there");
    } else if (n >= FRAME_LINE_MAX) {
        session_overlong(server, client);
    } else {
        verbs_serve(server, client, client->reader.line, n);
    }
}

/* Serves lines while there are any and their answers have room. */
static void session_lines(struct server *server, struct client *client) {
    while (client->state == CLIENT_OPEN && client_has_input(client)) {
        if (server->phase == SERVER_OVER) return; /* 261 is the last line */
        if (server->listing.client == client || !session_has_room(server, client)) return;
        size_t used;
        enum frame_status status = frame_read(&client->reader, client->input + client->input_at,
                                              client->input_end - client->input_at, &used);
        client->input_at += (uint32_t)used;
        if (session_is_tls(server, client)) return;
        if (status == FRAME_OVERLONG && client->seal.kind == SEAL_MAC) {
            session_forged(server, client);
        } else if (status == FRAME_OVERLONG) {
            session_overlong(server, client);
        } else if (status == FRAME_LINE) {
            session_line(server, client);
        }
    }
}

/* The other side sends no more: what it asked for is finished, then we close. */
static void session_ending(struct server *server, struct client *client) {
    if (client->state != CLIENT_OPEN || !client->input_over || client_has_input(client)) return;
    if (server->listing.client == client) return;
    if (client_jobs(client) == 0 && !client->wants_drained) {
        server_finish(server, client);
    } else if (!client->eof_told) {
        client->eof_told = true;
        reply_text(&client->output, 130, 0, "eof jobs=%u", client_jobs(client));
    }
}

static void session_receive(struct server *server, struct client *client, bool hung_up) {
    enum client_status status = client_receive(client);
    session_lines(server, client);
    bool over = status == CLIENT_EOF;
    if (client->state != CLIENT_OPEN) return;
    if (status == CLIENT_GONE || (over && hung_up && client->kind != WIRE_STDIO)) {
        server_drop(server, client);
    } else if (over) {
        client->input_over = true;
    }
}

/* What poll said about the descriptors of one client. */
static void session_events(struct server *server, struct client *client, short in, short out) {
    if ((out & POLLOUT) != 0) client->blocked = false;
    bool gone = (out & (POLLERR | POLLNVAL)) != 0 ||
                (client->in == client->out && (in & (POLLERR | POLLNVAL)) != 0);
    bool hung_up = (in & POLLHUP) != 0;
    if (client->state == CLIENT_OPEN && !client->input_over && !client_has_input(client) &&
        (in & (POLLIN | POLLHUP)) != 0 && !gone) {
        session_receive(server, client, hung_up);
        return;
    }
    if (client->state == CLIENT_LINGER) {
        if (gone || hung_up || ((in & POLLIN) != 0 && client_discard(client) != CLIENT_FINE)) {
            server_drop(server, client);
        }
        return;
    }
    if (gone || (hung_up && client->kind != WIRE_STDIO)) server_drop(server, client);
}

static const char busy_line[] = "503 - BUSY \"too many connections\" retriable=1\n";

/* Places are taken: says so and closes. */
static void session_refuse(struct server *server, int fd) {
    /* A fresh socket has room for it; if not, closing says the same. */
    if (write(fd, busy_line, sizeof busy_line - 1) > 0) wire_shutdown(fd);
    wire_close(WIRE_TCP, fd);
    log_event(LOG_WARN, "client", "refused: %u connections", server_connections(server));
}

/* At most a few at once: a flood at the door does not stop the loop. */
static void wire_serve(struct server *server, struct wire *wire, uint64_t now_ns) {
    bool locked = wire->kind == WIRE_TCP && door_is_locked(&server->door);
    int most = locked ? SERVER_KNOCKS_MAX : WIRE_CLIENTS_MAX;
    for (int i = 0; i < most; i++) {
        struct address peer;
        int fd = wire_accept(wire, &peer);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
                wire->retry_ns = now_ns + (uint64_t)SERVER_ACCEPT_PAUSE_MS * MS;
                log_event(LOG_WARN, "accept", "%s: %s", wire->name, strerror(errno));
            }
            return;
        }
        if (locked) {
            door_knock(&server->door, fd, &peer, now_ns);
        } else if (sessions_add(server, wire->kind, fd, fd) == NULL) {
            session_refuse(server, fd);
        }
    }
}

/* Somebody has logged in. */
static void session_admit(struct server *server, struct guest *guest) {
    struct client *client = session_open(server, WIRE_TCP, guest->fd, guest->fd);
    if (client == NULL) {
        char line[sizeof busy_line + SEAL_TRAILER_MAX];
        size_t n = sizeof busy_line - 2; /* without LF */
        memcpy(line, busy_line, n);
        n += seal_write(&guest->seal, busy_line, n, line + n);
        line[n++] = '\n';
        if (write(guest->fd, line, n) > 0) wire_shutdown(guest->fd);
        wire_close(WIRE_TCP, guest->fd);
        return;
    }
    client_seal(client, &guest->seal);
    client->role = guest->role;
    memcpy(client->input, guest->rest, guest->n_rest);
    client->input_end = guest->n_rest;
    session_tell_loading(server, client);
    server->more |= guest->n_rest > 0;
    log_event(LOG_INFO, "login", "number=%u role=%s", client->number,
              login_role_word(client->role));
}

static void door_look(struct server *server, const struct pollfd *polled, uint64_t now_ns) {
    struct guest guest;
    for (uint32_t i = 0; i < DOOR_PLACES; i++) {
        if (!door_serve(&server->door, i, polled[i].revents, now_ns, &guest)) continue;
        session_admit(server, &guest);
        mac_wipe(&guest, sizeof guest);
    }
}

static uint64_t listing_end_ns(const struct server *server) {
    uint32_t ms = server->config->stall_ms != 0 ? server->config->stall_ms : CLIENT_FLUSH_MS;
    return server->listing.since_ns + (uint64_t)ms * MS;
}

/* --- poll ----------------------------------------------------------------------------------- */

static void poll_add(struct server *server, int fd, short events) {
    wick_assert(server->n_polled < SERVER_POLL_MAX);
    server->polled[server->n_polled++] = (struct pollfd){.fd = fd, .events = events};
}

/* A negative descriptor keeps its place in the list and is not looked at. */
static void poll_add_client(struct server *server, const struct client *client, uint64_t now_ns) {
    bool open = client->state == CLIENT_OPEN;
    bool asleep = client->state == CLIENT_FREE ||
                  (client->state == CLIENT_DORMANT && now_ns < client->until_ns);
    bool reads = (open && !client->input_over && !client_has_input(client)) ||
                 client->state == CLIENT_LINGER || client->state == CLIENT_DORMANT;
    bool writes = client->output.used > 0;
    short in = reads ? POLLIN : 0;
    short out = writes ? POLLOUT : 0;
    if (asleep) {
        poll_add(server, -1, 0);
        poll_add(server, -1, 0);
    } else if (client->in == client->out) {
        poll_add(server, client->in, (short)(in | out));
        poll_add(server, -1, 0);
    } else {
        /* A pipe whose writer is gone reports POLLHUP for ever. */
        poll_add(server, reads ? client->in : -1, in);
        poll_add(server, client->out, out);
    }
}

uint64_t sessions_poll(struct server *server, uint64_t now_ns) {
    uint64_t next_ns = server->listing.client != NULL ? listing_end_ns(server) : UINT64_MAX;
    server->n_polled = 0;
    poll_add(server, server->signals, POLLIN);
    for (uint32_t i = 0; i < server->n_wires; i++) {
        const struct wire *wire = &server->wire[i];
        bool ready = is_listener(wire) && wire->retry_ns <= now_ns;
        poll_add(server, ready ? wire->fd : -1, POLLIN);
        if (is_listener(wire) && !ready && wire->retry_ns < next_ns) next_ns = wire->retry_ns;
    }
    for (uint32_t i = 0; i < WIRE_CLIENTS_MAX; i++) {
        const struct client *client = &server->client[i];
        poll_add_client(server, client, now_ns);
        bool timed = client->state == CLIENT_FLUSH || client->state == CLIENT_LINGER ||
                     client->state == CLIENT_DORMANT;
        if (timed && client->until_ns < next_ns) next_ns = client->until_ns;
    }
    door_poll(&server->door, server->polled + server->n_polled, &next_ns);
    server->n_polled += DOOR_PLACES;
    return next_ns;
}

/* A tty that is dormant is asked once in a while; whoever is there has said something. */
static void session_wake(struct server *server, struct client *client, short events,
                         uint64_t now_ns) {
    if (now_ns < client->until_ns) return;
    client->until_ns = now_ns + (uint64_t)CLIENT_DORMANT_MS * MS;
    if ((events & (POLLHUP | POLLERR | POLLNVAL)) != 0) return;
    client->state = CLIENT_OPEN;
    session_greet(server, client);
    if ((events & POLLIN) != 0) session_receive(server, client, false);
}

void sessions_serve(struct server *server, uint64_t now_ns) {
    wick_assert(server->n_polled == 1 + server->n_wires + 2 * WIRE_CLIENTS_MAX + DOOR_PLACES);
    const struct pollfd *polled = server->polled + 1;
    /* Clients first: a place that becomes free may serve who waits at the door. */
    const struct pollfd *pair = polled + server->n_wires;
    for (uint32_t i = 0; i < WIRE_CLIENTS_MAX; i++, pair += 2) {
        struct client *client = &server->client[i];
        if (client->state == CLIENT_FREE) continue;
        if (client->state == CLIENT_DORMANT) {
            session_wake(server, client, pair[0].revents, now_ns);
            continue;
        }
        short in = pair[0].revents;
        short out = pair[1].fd >= 0 ? pair[1].revents : in;
        if ((in | out) != 0) session_events(server, client, in, out);
    }
    door_look(server, pair, now_ns);
    for (uint32_t i = 0; i < server->n_wires; i++) {
        struct wire *wire = &server->wire[i];
        if (polled[i].revents == 0) continue;
        wire->retry_ns = 0;
        wire_serve(server, wire, now_ns);
    }
}

/* --- output --------------------------------------------------------------------------------- */

void sessions_hold(struct server *server, uint64_t now_ns) {
    bool full[WIRE_CLIENTS_MAX];
    for (uint32_t i = 0; i < WIRE_CLIENTS_MAX; i++) {
        const struct client *client = &server->client[i];
        full[i] = client_jobs(client) > 0 &&
                  output_free(&client->output) < server_reserve(server, client);
    }
    for (uint32_t i = 0; i < server->jobs.n; i++) {
        struct wire_job *job = &server->jobs.job[i];
        bool hold = full[job->client - server->client];
        if (job->ring != NULL && !replay_has_room(&server->replay, job->ring)) hold = true;
        if (hold == job->held) continue;
        job->held = hold;
        scheduler_hold(server->scheduler, job->id, hold, now_ns);
    }
}

static void session_close_when_done(struct server *server, struct client *client, uint64_t now_ns) {
    bool late = now_ns >= client->until_ns;
    if (client->state == CLIENT_FLUSH && (client->output.used == 0 || late)) {
        if (late || !client_is_connection(client)) {
            server_drop(server, client);
            return;
        }
        /* Closing now, with input unread, would reset the connection and lose our last line. */
        wire_shutdown(client->out);
        client->state = CLIENT_LINGER;
        client->until_ns = now_ns + (uint64_t)CLIENT_LINGER_MS * MS;
    } else if (client->state == CLIENT_LINGER && late) {
        server_drop(server, client);
    }
}

/* The long answer goes on, or ends when its reader has taken nothing for too long. */
static void session_list(struct server *server, struct client *client, uint64_t now_ns) {
    listing_continue(&server->listing, server_reserve(server, client), now_ns);
    if (server->listing.client == NULL || now_ns < listing_end_ns(server)) return;
    struct fault fault;
    fault_set(&fault, FAULT_INFERENCE_TIMEOUT, "the client reads too slowly; the answer ends here");
    reply_fault(&client->output, server->listing.tag, &fault);
    listing_end(&server->listing);
}

void sessions_flush(struct server *server, uint64_t now_ns) {
    for (uint32_t i = 0; i < WIRE_CLIENTS_MAX; i++) {
        struct client *client = &server->client[i];
        if (client->state == CLIENT_FREE || client->state == CLIENT_DORMANT) continue;
        if (server->listing.client == client) session_list(server, client, now_ns);
        if (client->output.overrun) {
            log_event(LOG_ERROR, "client", "number=%u dropped: its output buffer was too small",
                      client->number);
            server_drop(server, client);
            continue;
        }
        if (client->output.used > 0 && !client->blocked && client_flush(client) == CLIENT_GONE) {
            server_drop(server, client);
            continue;
        }
        /* Room may have come back for lines that wait. */
        if (client->state == CLIENT_OPEN && client_has_input(client)) {
            uint32_t at = client->input_at;
            session_lines(server, client);
            server->more |= client->input_at != at;
        }
        session_ending(server, client);
        session_close_when_done(server, client, now_ns);
    }
}

static bool session_listens(const struct client *client) {
    return client->state == CLIENT_OPEN;
}

void sessions_tell(struct server *server, int code, const char *text) {
    for (uint32_t i = 0; i < WIRE_CLIENTS_MAX; i++) {
        struct client *client = &server->client[i];
        if (session_listens(client)) reply_text(&client->output, code, 0, "%s", text);
    }
}

void sessions_tell_fault(struct server *server, const struct fault *fault) {
    for (uint32_t i = 0; i < WIRE_CLIENTS_MAX; i++) {
        struct client *client = &server->client[i];
        if (session_listens(client)) reply_fault(&client->output, 0, fault);
    }
}

/* What a client has sent meanwhile is taken off its socket: closing over unread bytes would reset
 * the connection and could cost it our last line. */
static void session_part(struct client *client) {
    if (client->state == CLIENT_FREE || !client_is_connection(client)) return;
    wire_shutdown(client->out);
    client_discard(client);
}

void sessions_farewell(struct server *server) {
    uint64_t end_ns = clock_ns() + (uint64_t)SERVER_FAREWELL_MS * MS;
    for (;;) {
        server->n_polled = 0;
        for (uint32_t i = 0; i < WIRE_CLIENTS_MAX; i++) {
            struct client *client = &server->client[i];
            bool speaks = client->state == CLIENT_OPEN || client->state == CLIENT_FLUSH;
            if (!speaks || client->output.used == 0) continue;
            if (client_flush(client) == CLIENT_GONE) output_clear(&client->output);
            if (client->output.used > 0) poll_add(server, client->out, POLLOUT);
        }
        uint64_t now_ns = clock_ns();
        if (server->n_polled == 0 || now_ns >= end_ns) break;
        poll(server->polled, server->n_polled, (int)((end_ns - now_ns) / MS) + 1);
    }
    for (uint32_t i = 0; i < WIRE_CLIENTS_MAX; i++) session_part(&server->client[i]);
}
