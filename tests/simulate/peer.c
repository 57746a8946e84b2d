#include "peer.h"

#include <stdlib.h>
#include <string.h>

#include "net.h"
#include "sim.h"

enum {
    ADDRESSES = 6,
    HUNG_TURNS = 30, /* long enough for the server to notice */
    ALL = 1 << 20
};

struct peer peers[PEERS_MAX];
struct world world;
static uint32_t n_born;

/* --- coming and going ------------------------------------------------------------------------ */

static void peer_forget(struct peer *peer) {
    while (peer->n_asked > 0) asked_pop(peer);
    for (uint32_t i = 0; i < PEER_JOBS_MAX; i++) errand_forget(&peer->errand[i]);
    peer->here = false;
}

static void peer_begin(struct peer *peer, int id, enum wire_kind wire) {
    memset(peer, 0, sizeof *peer);
    peer->here = true;
    peer->number = ++n_born;
    peer->id = id;
    peer->wire = wire;
    peer->hoards = dice_one_in(8);
    peer->stages = !peer->hoards && dice_one_in(12);
    peer->prompt = peer->stages || (!peer->hoards && dice_one_in(2));
    peer->eager = dice_between(1, 8);
    peer->breaks = dice_between(60, 900);
    peer->left = dice_between(1, 40);
    if (peer->stages) peer->left = 400;
    peer->rude = dice_one_in(12);
    bool locked = world.locked && wire == WIRE_TCP;
    peer->login = locked ? LOGIN_GREETING : LOGIN_NOT_ASKED;
    peer->observer = locked && world.has_observer && dice_one_in(4);
    peer->wants_crc = !locked && dice_one_in(wire == WIRE_TTY ? 2 : 5);
    sim_count(wire == WIRE_TTY ? COUNT_TTY_SESSIONS : COUNT_SESSIONS);
    sim_note("peer %u comes: wire %d%s%s%s", peer->number, (int)wire,
             peer->prompt ? ", prompt" : "", locked ? ", to log in" : "",
             peer->observer ? " as an observer" : "");
}

/* What is no client of this protocol. */
static void peer_speaks_otherwise(struct peer *peer) {
    static const char tls[] = "\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03";
    static const char http[] = "GET / HTTP/1.1\r\n";
    bool is_tls = dice_one_in(2);
    uint32_t n = is_tls ? sizeof tls - 1 : sizeof http - 1;
    memcpy(peer->out, is_tls ? tls : http, n);
    peer->n_out = n;
    peer->asked[peer->n_asked++] = (struct asked){.what = ASK_BAD, .code = 400};
    peer->farewell = FAREWELL_RUDE;
    peer->said_all = true;
}

static bool peer_connect(struct peer *peer) {
    enum wire_kind wire = dice_one_in(2) ? WIRE_TCP : WIRE_UNIX;
    if (!world.has_tcp) wire = WIRE_UNIX;
    if (!world.has_unix) wire = WIRE_TCP;
    int id = net_connect(wire, dice_below(ADDRESSES));
    if (id < 0) return false;
    peer_begin(peer, id, wire);
    if (peer->login == LOGIN_NOT_ASKED && dice_one_in(40)) peer_speaks_otherwise(peer);
    return true;
}

static bool is_tty(const struct peer *peer) {
    return peer->wire == WIRE_TTY;
}

void peers_open(void) {
    if (world.has_tty) peer_begin(&peers[0], net_connect(WIRE_TTY, 0), WIRE_TTY);
}

/* A tty has one peer after the other. */
static void tty_again(struct peer *peer) {
    int id = peer->id;
    peer_forget(peer);
    peer_begin(peer, id, WIRE_TTY);
}

/* The server has noticed: somebody else comes to the terminal. */
static bool tty_pick_up(struct peer *peer) {
    if (sim.turn < peer->hung_turn + HUNG_TURNS) return true;
    net_pick_up(peer->id);
    tty_again(peer);
    return true;
}

/* --- bytes ----------------------------------------------------------------------------------- */

static bool peer_send(struct peer *peer) {
    if (peer->n_out == 0 || peer->vanished) return false;
    uint32_t most = peer->n_out;
    if (sim.season == SEASON_STORM && dice_one_in(3)) most = dice_between(1, most);
    uint32_t n = net_send(peer->id, peer->out, most);
    peer->n_out -= n;
    memmove(peer->out, peer->out + n, peer->n_out);
    if (n == 0 && net_is_over(peer->id)) peer->n_out = 0; /* nobody will take it */
    return n > 0;
}

/* After BYE the terminal is somebody else's, without a greeting. */
static void tty_bye(struct peer *peer) {
    if (!peer->here || !is_tty(peer) || !peer->said_all || !peer->heard_why || peer->heard_end)
        return;
    bool ready = peer->heard_ready;
    tty_again(peer);
    peer->greeted = true;
    peer->heard_ready = ready;
}

static void peer_hear(struct peer *peer, const char *bytes, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        if (bytes[i] != '\n') {
            sim_require(peer->n_line + 1 < sizeof peer->line, "peer %u hears a line without an end",
                        peer->number);
            peer->line[peer->n_line++] = bytes[i];
            continue;
        }
        uint32_t length = peer->n_line;
        peer->n_line = 0;
        judge_line(peer, peer->line, length);
        tty_bye(peer);
    }
}

static bool peer_read(struct peer *peer, uint32_t most) {
    static char bytes[1 << 14];
    bool moved = false;
    if (peer->vanished) return false;
    while (most > 0) {
        uint32_t n = net_receive(peer->id, bytes, most < sizeof bytes ? most : sizeof bytes);
        if (n == 0) break;
        most -= n;
        moved = true;
        peer_hear(peer, bytes, n);
    }
    if (is_tty(peer) || !net_is_over(peer->id)) return moved;
    judge_end(peer);
    net_close(peer->id);
    peer_forget(peer);
    return true;
}

/* --- acts ------------------------------------------------------------------------------------ */

static void peer_leaves(struct peer *peer) {
    sim_note("peer %u %s", peer->number, "leaves without a word");
    if (dice_one_in(2))
        net_reset(peer->id);
    else
        net_close(peer->id);
    peer_forget(peer);
}

static void peer_breaks(struct peer *peer) {
    uint32_t how = dice_below(4);
    if (is_tty(peer)) {
        sim_note("peer %u hangs up", peer->number);
        net_hang_up(peer->id);
        peer_forget(peer);
        peer->here = peer->hung = true;
        peer->hung_turn = sim.turn;
        peer->n_out = peer->n_line = 0;
    } else if (how == 0 && peer->greeted && peer->farewell == FAREWELL_NONE && !peer->crc_asked) {
        sim_note("peer %u will send no more", peer->number);
        sim_count(COUNT_HALF_CLOSES);
        peer->half_pending = peer->said_all = true;
        peer->farewell = FAREWELL_HALF;
    } else if (how == 1 && !peer->vanished) {
        sim_note("peer %u vanishes", peer->number);
        sim_count(COUNT_VANISHED);
        peer->vanished = true;
    } else {
        peer_leaves(peer);
    }
}

static bool is_kept(const struct peer *peer) {
    return peer->seal.kind == SEAL_CRC && peer->farewell == FAREWELL_HALF;
}

static void peer_act(struct peer *peer) {
    if (!peer->here) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < PEERS_MAX; i++) n += peers[i].here;
        if (n < world.crowd) (void)peer_connect(peer);
        return;
    }
    if (peer->hung) return;
    if (dice_one_in(peer->breaks) || (peer->vanished && dice_one_in(100))) {
        peer_breaks(peer);
        return;
    }
    if (peer->vanished) return;
    if (is_kept(peer)) { /* cannot acknowledge any more: its jobs may wait for ever */
        if (dice_one_in(20)) peer_leaves(peer);
        return;
    }
    if (peer->greeted && !peer->said_all && dice_one_in(peer->eager)) talk_something(peer);
    if (peer->hoards && peer->greeted && peer->deaf_turn == 0)
        peer->deaf_turn = sim.turn + dice_between(100, 1500);
    if (peer->prompt || sim.turn < peer->deaf_turn || !dice_one_in(3)) return;
    (void)peer_read(peer, dice_between(1, peer->deaf_turn > 0 ? 8000 : 400));
}

/* What needs no decision. */
static bool peer_moves(struct peer *peer) {
    bool moved = peer_send(peer);
    if (peer->hung) return tty_pick_up(peer);
    if (peer->half_pending && peer->n_out == 0) {
        peer->half_pending = false;
        net_half_close(peer->id);
        moved = true;
    }
    if (peer->stages && peer->greeted && !peer->said_all && sim.season == SEASON_STORM)
        talk_something(peer);
    if (sim.season != SEASON_STORM) {
        if (peer->vanished || is_kept(peer)) {
            peer_leaves(peer);
            return true;
        }
        moved |= talk_acknowledge(peer);
    }
    if (peer->prompt || sim.season != SEASON_STORM) moved |= peer_read(peer, ALL);
    return moved;
}

bool peers_act(bool sleeps) {
    bool moved = false;
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        if (peers[i].here) moved |= peer_moves(&peers[i]);
    }
    if (sim.season != SEASON_STORM) return moved;
    uint32_t acts = sleeps ? 4 : dice_below(4);
    for (uint32_t i = 0; i < acts; i++) peer_act(&peers[dice_below(world.crowd)]);
    return true;
}

/* --- ends ------------------------------------------------------------------------------------ */

static void peer_require_content(const struct peer *peer) {
    uint32_t number = peer->number;
    sim_require(peer->farewell == FAREWELL_NONE, "peer %u: its connection does not end", number);
    sim_require(peer->greeted, "peer %u: nobody greets it", number);
    sim_require(peer->n_asked == 0, "peer %u: a command is not answered", number);
    sim_require(peer->n_line == 0 && peer->n_out == 0, "peer %u: half a line", number);
    sim_require(!peer->drain_told, "peer %u: nobody says that it is drained", number);
    for (uint32_t i = 0; i < PEER_JOBS_MAX; i++) {
        const struct errand *errand = &peer->errand[i];
        bool open = errand->here && !errand->ended;
        sim_require(!open, "peer %u: job %u has no end", number, errand->tag);
    }
}

void peers_require_content(void) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        if (!peers[i].here) continue;
        n += !is_tty(&peers[i]);
        peer_require_content(&peers[i]);
    }
    sim_require(n == net_held(), "%u clients, and the server has %u connections", n, net_held());
}

void peers_part(void) {
    for (uint32_t i = 0; i < PEERS_MAX; i++) {
        struct peer *peer = &peers[i];
        if (peer->here && !peer->hung && !peer->vanished) (void)peer_read(peer, ALL);
        bool open = peer->here && !is_tty(peer) && !peer->vanished;
        sim_require(!open, "peer %u: the server has ended and not its connection", peer->number);
    }
}
