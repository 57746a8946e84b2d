#include "sim.h"

#include <sanitizer/common_interface_defs.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/panic.h"
#include "engine/sampler.h"

enum {
    NOTES = 60, /* events of a trace */
    NOTE_BYTES = 240,
    LIFE_CPU_S = 200 /* a life takes about 0.1; more is a loop without an end */
};

struct sim sim;
static struct sampler_rng dice;
static char notes[NOTES][NOTE_BYTES];
static uint64_t n_notes;

static const char *const count_words[COUNT_KINDS] = {
    [COUNT_TURNS] = "turns",
    [COUNT_SESSIONS] = "sessions",
    [COUNT_LOGINS] = "logins",
    [COUNT_LOGINS_REFUSED] = "logins refused",
    [COUNT_CRC_SESSIONS] = "sessions with CRC",
    [COUNT_TTY_SESSIONS] = "sessions on a tty",
    [COUNT_COMMANDS] = "commands",
    [COUNT_LINES] = "lines read",
    [COUNT_STARTED] = "jobs started",
    [COUNT_TOKENS] = "tokens",
    [COUNT_SCORES] = "scored tokens",
    [COUNT_END_MAX] = "ends MAX_TOKENS",
    [COUNT_END_EOS] = "ends EOS",
    [COUNT_END_STOP] = "ends STOP_SEQUENCE",
    [COUNT_END_CANCELLED] = "ends CANCELLED",
    [COUNT_END_DONE] = "ends DONE",
    [COUNT_LATE] = "deadlines passed",
    [COUNT_STALLED] = "ends of slow readers",
    [COUNT_CUT] = "ends by shutdown",
    [COUNT_BROKEN] = "ends by a broken backend",
    [COUNT_REFUSED] = "jobs refused",
    [COUNT_BUSY] = "BUSY",
    [COUNT_TAG_IN_USE] = "TAG_IN_USE",
    [COUNT_TOO_LONG] = "PROMPT_TOO_LONG",
    [COUNT_NOT_READY] = "NOT_READY",
    [COUNT_FORBIDDEN] = "FORBIDDEN",
    [COUNT_BAD_LINES] = "bad lines",
    [COUNT_INVALID] = "INVALID_REQUEST",
    [COUNT_LISTINGS] = "long answers",
    [COUNT_REPLAYS] = "replays",
    [COUNT_REPLAYED_LINES] = "replayed lines",
    [COUNT_FORGED] = "forged lines",
    [COUNT_SHORT_READS] = "short reads",
    [COUNT_SHORT_WRITES] = "short writes",
    [COUNT_EAGAINS] = "EAGAIN",
    [COUNT_EINTRS] = "EINTR",
    [COUNT_RESETS] = "resets",
    [COUNT_HALF_CLOSES] = "half closes",
    [COUNT_VANISHED] = "half-open sockets",
    [COUNT_HANG_UPS] = "hang-ups",
    [COUNT_ACCEPT_FAULTS] = "faults of accept",
    [COUNT_LOG_FAULTS] = "faults of the log",
    [COUNT_TIME_JUMPS] = "jumps of time",
    [COUNT_ABORTS] = "steps given up",
    [COUNT_BACKEND_FAULTS] = "backend faults",
    [COUNT_LOAD_FAULTS] = "loads failed",
    [COUNT_NEWCOMERS_REFUSED] = "newcomers refused",
    [COUNT_STORMS] = "storms of EAGAIN",
    [COUNT_LISTINGS_CUT] = "long answers cut short",
    [COUNT_PAUSES] = "jobs paused",
    [COUNT_RUDE_ENDS] = "ends of rude sessions",
    [COUNT_SHUTDOWNS] = "shutdowns in the storm",
};

const char *sim_count_word(enum sim_count what) {
    return count_words[what];
}

void sim_count(enum sim_count what) {
    sim.record->count[what]++;
}

/* --- dice ------------------------------------------------------------------------------------ */

uint64_t dice_u64(void) {
    return sampler_rng_next(&dice);
}

uint32_t dice_below(uint32_t n) {
    return (uint32_t)(dice_u64() % n);
}

uint32_t dice_between(uint32_t least, uint32_t most) {
    return least + dice_below(most - least + 1);
}

bool dice_one_in(uint32_t n) {
    return dice_below(n) == 0;
}

bool dice_fault(uint32_t one_in) {
    return sim.season == SEASON_STORM && dice_one_in(one_in);
}

void sim_digest(const void *bytes, size_t n) { /* FNV-1a */
    uint64_t digest = sim.record->digest;
    for (size_t i = 0; i < n; i++)
        digest = (digest ^ ((const uint8_t *)bytes)[i]) * 0x100000001B3ULL;
    sim.record->digest = digest;
}

/* --- the trace ------------------------------------------------------------------------------- */

void sim_note(const char *format, ...) {
    char *note = notes[n_notes++ % NOTES];
    int head = snprintf(note, NOTE_BYTES, "%6llu %11.3f ms  ", (unsigned long long)sim.turn,
                        (double)sim.now_ns / 1e6);
    va_list args;
    va_start(args, format);
    vsnprintf(note + head, NOTE_BYTES - (size_t)head, format, args);
    va_end(args);
    sim_digest(note, strlen(note));
    if (sim.tells) fprintf(stderr, "%s\n", note);
}

static void trace_tell(void) {
    uint64_t first = n_notes > NOTES ? n_notes - NOTES : 0;
    fprintf(stderr, "  turn        time  the last %llu events\n",
            (unsigned long long)(n_notes - first));
    for (uint64_t i = first; i < n_notes; i++) fprintf(stderr, "%s\n", notes[i % NOTES]);
}

static _Noreturn void life_end(void) {
    trace_tell();
    fflush(stderr);
    _exit(1);
}

_Noreturn static void fail_with(const char *format, va_list args) {
    fprintf(stderr, "FAILED: seed %llu, turn %llu: ", (unsigned long long)sim.seed,
            (unsigned long long)sim.turn);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    life_end();
}

_Noreturn void sim_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fail_with(format, args);
}

void sim_require(bool holds, const char *format, ...) {
    if (holds) return;
    va_list args;
    va_start(args, format);
    fail_with(format, args);
}

static void panic_tell(void) {
    fprintf(stderr, "FAILED: seed %llu, turn %llu: the server's own check\n",
            (unsigned long long)sim.seed, (unsigned long long)sim.turn);
    life_end();
}

static void loop_tell(int number) {
    (void)number;
    fprintf(stderr, "FAILED: seed %llu, turn %llu: it never ends\n", (unsigned long long)sim.seed,
            (unsigned long long)sim.turn);
    life_end();
}

void sim_open(uint64_t seed, struct sim_record *record, bool tells) {
    sim = (struct sim){.seed = seed, .now_ns = 1000000000, .record = record, .tells = tells};
    sampler_rng_seed(&dice, seed);
    panic_hook_set(panic_tell);
    __sanitizer_set_death_callback(trace_tell);
    struct itimerval limit = {.it_value = {.tv_sec = LIFE_CPU_S}};
    signal(SIGVTALRM, loop_tell);
    setitimer(ITIMER_VIRTUAL, &limit, NULL);
}
