/* command: a frame checked against the tables of verbs and fields.
 *
 * The table of verbs (verbs.c) and the table of fields (command.c) drive parsing, the 422 reply and
 * HELP. Parsing is pure: a frame in, a command or a list of errors out. */
#ifndef WICK_WIRE_COMMAND_H
#define WICK_WIRE_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "wire/frame.h"

struct server;
struct client;
struct command;

/* Which fields a verb takes: bits of verb.fields and field.verbs. */
enum field_set {
    FIELDS_GENERATE = 1 << 0,
    FIELDS_TEXT = 1 << 1, /* how text becomes tokens */
    FIELDS_SCORE = 1 << 2,
    FIELDS_IDS = 1 << 3,
    FIELDS_HELLO = 1 << 4,
    FIELDS_LOG = 1 << 5,
    FIELDS_PUT = 1 << 6,
    FIELDS_REPLAY = 1 << 7
};

enum verb_needs {
    VERB_TAG = 1 << 0,            /* must have a tag */
    VERB_TAG_MAY = 1 << 1,        /* may have one */
    VERB_TEXT = 1 << 2,           /* must have a text */
    VERB_TEXT_OR_STAGED = 1 << 3, /* a text, or a tag with a staged text */
    VERB_STAGED = 1 << 4,         /* a tag with a staged text, and no text */
    VERB_IDS = 1 << 5,            /* the text is a list of ids, given as ids= or staged */
    VERB_READY = 1 << 6,          /* not while loading */
    VERB_FREE_TAG = 1 << 7,       /* the tag must not be that of a job */
    VERB_OBSERVER = 1 << 9,       /* an observer may use it */
    VERB_APPENDS = 1 << 8         /* the tag may have a staged text also when a text is given */
};

/* Answers the command; the reply is in the client's output when it returns. */
typedef void verb_handler(struct server *server, struct client *client,
                          const struct command *command);

struct verb {
    const char *name;
    uint32_t needs;        /* verb_needs bits */
    uint32_t fields;       /* field_set bits */
    const char *text_name; /* what errors call the text: "prompt" */
    verb_handler *handler;
    const char *syntax; /* what follows the name */
    const char *help;
};

/* In the order of HELP, ended by an entry with name NULL. */
extern const struct verb verbs[];

enum field_kind {
    FIELD_U32,
    FIELD_U64,
    FIELD_REAL,
    FIELD_BOOL,
    FIELD_STOP, /* a stop string; may repeat */
    FIELD_IDS   /* text, kept as it is */
};

struct field {
    const char *name;
    uint32_t verbs; /* field_set bits */
    enum field_kind kind;
    double min, max;     /* of FIELD_U32 and FIELD_REAL; FIELD_MAX_VOCAB: the vocabulary's size */
    const char *initial; /* default, for HELP */
    const char *help;
    uint32_t offset; /* of the value in struct command */
};

enum { FIELD_MAX_VOCAB = -1 };

/* Ended by an entry with name NULL; fewer than 32. */
extern const struct field fields[];

struct command {
    const struct verb *verb;
    uint32_t tag; /* 0: none */
    bool has_text;
    struct frame_text text;
    uint32_t given; /* bit i: fields[i] was given */

    uint32_t max_tokens; /* 0: not given */
    struct sampler_params sampling;
    bool seed_set;
    uint32_t n_stop;
    struct job_stop stop[JOB_STOP_MAX];
    uint32_t logprobs;
    bool bytes, ignore_eos;
    bool bos, bos_set;
    bool parse_special, special;
    uint32_t deadline_ms; /* 0: the server's */
    uint32_t proto;
    bool crc;
    uint32_t at, from;
    bool at_set, from_set;
    uint32_t lines; /* 0: not given */
    bool ids_set;
    struct frame_text ids;
};

/* A field, the tag or the text that is not as it should be. */
struct command_error {
    struct frame_text name;
    char limits[48]; /* "0..2" */
};

enum { COMMAND_ERRORS_MAX = FRAME_FIELDS_MAX + 2 /* tag, text */ };

struct command_errors {
    uint32_t n;
    struct command_error error[COMMAND_ERRORS_MAX];
};

/* What every text is held to: "1..32768 characters". */
extern const char command_text_limits[];

void command_error_add(struct command_errors *errors, const char *name, const char *limits);

/* The limits of a field as HELP and 422 state them. vocab 0: "vocabulary size" in words. */
void field_limits(const struct field *field, uint32_t vocab, char out[48]);

/* NULL: there is none of that name in the table. */
const struct verb *verb_find(const struct verb *table, struct frame_text name);

/* Everything about the frame that can be judged without knowing jobs and staged texts. Values of
 * the command point into the frame's line. False: *errors is not empty. */
bool command_parse(const struct verb *verb, const struct frame *frame, uint32_t vocab,
                   struct command *command, struct command_errors *errors);

/* Reads a list of ids separated by commas or spaces, all below vocab. Returns how many there are,
 * -1 when it is no such list or has more than cap. */
int32_t command_read_ids(struct frame_text text, uint32_t vocab, int32_t *ids, uint32_t cap);

#endif
