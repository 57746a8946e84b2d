/* sim: what every part of the simulation shares: dice, clock, trace, counts, and the end of a life
 * that broke a rule. One life is one process, so nothing here has to be cleaned up. */
#ifndef WICK_SIMULATE_SIM_H
#define WICK_SIMULATE_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sim_season {
    SEASON_STORM, /* everything that can go wrong does */
    SEASON_CALM,  /* no more faults, no more requests: all must come to its end by itself */
    SEASON_END    /* the server has been asked to end */
};

/* What is counted; the words are in sim.c. What is never seen is not tested. */
enum sim_count {
    COUNT_TURNS,
    COUNT_SESSIONS,
    COUNT_LOGINS,
    COUNT_LOGINS_REFUSED,
    COUNT_CRC_SESSIONS,
    COUNT_TTY_SESSIONS,
    COUNT_COMMANDS,
    COUNT_LINES,
    COUNT_STARTED,
    COUNT_TOKENS,
    COUNT_SCORES,
    COUNT_END_MAX,
    COUNT_END_EOS,
    COUNT_END_STOP,
    COUNT_END_CANCELLED,
    COUNT_END_DONE,
    COUNT_LATE,
    COUNT_STALLED,
    COUNT_CUT,
    COUNT_BROKEN,
    COUNT_REFUSED,
    COUNT_BUSY,
    COUNT_TAG_IN_USE,
    COUNT_TOO_LONG,
    COUNT_NOT_READY,
    COUNT_FORBIDDEN,
    COUNT_BAD_LINES,
    COUNT_INVALID,
    COUNT_LISTINGS,
    COUNT_REPLAYS,
    COUNT_REPLAYED_LINES,
    COUNT_FORGED,
    COUNT_SHORT_READS,
    COUNT_SHORT_WRITES,
    COUNT_EAGAINS,
    COUNT_EINTRS,
    COUNT_RESETS,
    COUNT_HALF_CLOSES,
    COUNT_VANISHED,
    COUNT_HANG_UPS,
    COUNT_ACCEPT_FAULTS,
    COUNT_LOG_FAULTS,
    COUNT_TIME_JUMPS,
    COUNT_ABORTS,
    COUNT_BACKEND_FAULTS,
    COUNT_LOAD_FAULTS,
    COUNT_NEWCOMERS_REFUSED,
    COUNT_STORMS,
    COUNT_PAUSES,
    COUNT_LISTINGS_CUT,
    COUNT_RUDE_ENDS,
    COUNT_SHUTDOWNS,
    COUNT_KINDS
};

/* What a life leaves behind; shared with the process that starts the lives. */
struct sim_record {
    uint64_t count[COUNT_KINDS];
    uint64_t simulated_ns;
    uint64_t digest; /* of everything that was said and done: the same seed, the same digest */
};

struct sim {
    uint64_t seed; /* of this life */
    uint64_t now_ns;
    uint64_t turn; /* polls of the main loop so far */
    enum sim_season season;
    bool tells; /* every note is printed at once */
    struct sim_record *record;
};
extern struct sim sim;

void sim_open(uint64_t seed, struct sim_record *record, bool tells);

uint32_t dice_below(uint32_t n); /* n >= 1 */
uint32_t dice_between(uint32_t least, uint32_t most);
bool dice_one_in(uint32_t n);
/* Faults happen in the storm only. */
bool dice_fault(uint32_t one_in);
uint64_t dice_u64(void);

void sim_count(enum sim_count what);
const char *sim_count_word(enum sim_count what);

/* Bytes that went over a wire belong to the digest. */
void sim_digest(const void *bytes, size_t n);

/* Remembers an event for the trace of a failure. */
void sim_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends the life: tells what is wrong, the last events, and how to see it again. */
_Noreturn void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
void sim_require(bool holds, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
