/* peer: one client: what it says (talk.c), what it makes of the answers (judge.c), and how it comes
 * and goes (peer.c). A peer knows all that it has asked for, and so all that it may hear. */
#ifndef WICK_SIMULATE_PEER_H
#define WICK_SIMULATE_PEER_H

#include "brain.h"
#include "secret/login.h"
#include "secret/seal.h"
#include "wire/wire.h"

enum {
    PEERS_MAX = 90, /* more than the server serves */
    PEER_JOBS_MAX = 10,
    PEER_ASKED_MAX = 48,
    PEER_TAGS = 14, /* few, so that they are used again soon */
    PEER_OUT_BYTES = 24 * 1024,
    PEER_LINE_BYTES = 1200,
    PEER_DRAFT_BYTES = 12 * 1024
};

/* What all peers of a life have in common: what the server was told to be. */
struct world {
    uint32_t ctx, n_pages, slots, queue, logits_max;
    uint32_t deadline_ms, stall_ms;
    bool has_tcp, has_unix, has_tty;
    bool locked, has_observer;
    struct mac_key key[LOGIN_ROLES];
    bool ready;         /* the model is loaded */
    bool asked_drain;   /* somebody has said DRAIN or SHUTDOWN, or a signal was sent */
    bool drains, shuts; /* peers may say so in this life */
    bool load_failed;
    uint32_t crowd; /* peers at the same time */
};
extern struct world world;

/* Commands that are answered at once. */
enum ask {
    ASK_PING,
    ASK_HEALTH,
    ASK_INFO,
    ASK_METRICS,
    ASK_HELP,
    ASK_LOG,
    ASK_HELLO,
    ASK_PUT,
    ASK_STOP,
    ASK_TOKENIZE,
    ASK_DETOKENIZE,
    ASK_REPLAY,
    ASK_DRAIN,
    ASK_SHUTDOWN,
    ASK_REBOOT,
    ASK_BYE,
    ASK_BAD /* no command at all, or one with a mistake */
};

struct asked {
    enum ask what;
    uint32_t tag;
    int code;        /* ASK_BAD: what it is answered with */
    uint64_t serial; /* of the commands of this peer */
    uint32_t lines;  /* of the answer so far */
    bool ready_then; /* the model was loaded when it was said */
    char *expect;    /* of a long answer, or NULL */
    uint32_t expect_n, expect_at;
};

/* A job that was asked for and of which not everything has been heard. */
struct errand {
    bool here;
    uint32_t tag;
    uint64_t serial, said_ns;
    bool ready_then;
    bool run;       /* of a staged text */
    bool seed_told; /* by us */
    bool bad;       /* a field is out of its range */
    bool abuse;     /* its tag was in use, or had a staged text */
    bool has_deadline;
    bool stopped; /* we have said STOP */
    bool started, ended;
    uint32_t most; /* max_tokens as given; 0: not */
    struct job_request request;
    int32_t token[BRAIN_CTX_MAX + 1];
    uint32_t slot;
    uint32_t next;                    /* index of the next token */
    uint32_t at;                      /* bytes of text so far */
    uint32_t mark[BRAIN_CTX_MAX + 2]; /* at, before the token of that index */
    uint32_t again_at;                /* the same for a line that comes again */
    uint32_t credit;                  /* lines that may come again */
    uint32_t acked;
    char last[PEER_LINE_BYTES]; /* the terminal line */
    struct lone *lone;          /* what must come; NULL: not known yet */
};

/* A text that is being staged. */
struct draft {
    uint32_t tag; /* 0: none */
    bool waits;   /* for the answer to PUT */
    uint32_t n, parts;
    char text[PEER_DRAFT_BYTES];
};

enum login_step { LOGIN_NOT_ASKED, LOGIN_GREETING, LOGIN_PROOF, LOGIN_DONE };

/* Why the server may end the connection. */
enum farewell {
    FAREWELL_NONE,
    FAREWELL_BYE,      /* we said BYE */
    FAREWELL_HALF,     /* we send no more */
    FAREWELL_RUDE,     /* we speak something else, or said too much rubbish */
    FAREWELL_FORGED,   /* a line of ours had the wrong MAC */
    FAREWELL_STRANGER, /* we did not log in as we should */
    FAREWELL_FULL,     /* all places were taken */
    FAREWELL_SHUTDOWN,
    FAREWELL_FAILED /* the model did not load */
};

struct peer {
    bool here;
    uint32_t number;
    int id;
    enum wire_kind wire;
    /* manners */
    bool prompt;        /* reads all there is at once; else now and then a little */
    bool hoards;        /* asks for much and reads nothing of it for a long time */
    bool stages;        /* puts together a text whose tokens are a long answer */
    uint64_t deaf_turn; /* reads nothing until then */
    bool observer;
    bool vanished; /* neither reads nor says anything any more */
    bool wants_crc;
    bool rude;       /* mostly rubbish */
    uint32_t eager;  /* says something one time in so many */
    uint32_t breaks; /* one act in so many ends badly */
    uint32_t left;   /* commands until it has had enough */
    /* state */
    enum farewell farewell;
    bool said_all;     /* no more commands */
    bool half_pending; /* closes its side when all is sent */
    bool greeted, heard_ready, heard_end, drain_told;
    bool heard_why; /* the server has told why it ends the connection */
    bool hung;
    uint64_t hung_turn;
    uint32_t bad_run; /* rubbish in a row */
    enum login_step login;
    struct login_nonces nonces;
    struct seal seal;
    bool crc_asked;
    uint64_t serial;
    char out[PEER_OUT_BYTES];
    uint32_t n_out;
    char line[PEER_LINE_BYTES];
    uint32_t n_line;
    uint32_t n_asked;
    struct asked asked[PEER_ASKED_MAX];
    struct errand errand[PEER_JOBS_MAX];
    struct draft draft;
    uint32_t part_tag; /* a token whose text goes on in the next line; 0: none */
};

extern struct peer peers[PEERS_MAX];

/* --- peer.c --- */
/* One act of the world; false: nobody had anything to do. */
bool peers_act(bool sleeps);
/* Nobody has anything outstanding. */
void peers_require_content(void);
/* After the server's end: everybody reads the rest. */
void peers_part(void);
/* A terminal's other end. */
void peers_open(void);

/* --- talk.c --- */
void talk_line(struct peer *peer, const char *line, uint32_t n);
void talk_login(struct peer *peer, const char *nonce);
void talk_something(struct peer *peer);
/* In the calm: only what lets jobs go on. */
bool talk_acknowledge(struct peer *peer);
void talk_stop(struct peer *peer, uint32_t tag);
struct errand *errand_of(struct peer *peer, uint32_t tag, bool newest);
void errand_forget(struct errand *errand);
void asked_pop(struct peer *peer);

/* --- judge.c --- */
/* One whole line has come, without LF. */
void judge_line(struct peer *peer, char *line, uint32_t n);
/* The server has ended the connection. */
void judge_end(struct peer *peer);

#endif
