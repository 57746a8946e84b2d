/* metrics: counters of the wire room, and all counters as Prometheus text. */
#ifndef WICK_WIRE_METRICS_H
#define WICK_WIRE_METRICS_H

#include <stdint.h>

#include "engine/scheduler.h"
#include "wire/output.h"

enum { METRICS_BUCKETS = 9 /* of the histogram, without +Inf */ };

struct metrics {
    uint64_t invalid;                 /* requests answered 422 */
    uint64_t ended;                   /* jobs in the histogram */
    uint64_t bucket[METRICS_BUCKETS]; /* jobs of at most that duration */
    double sum_ms;
};

/* What METRICS shows beside its own counters. */
struct metrics_view {
    struct scheduler_counts counts;
    uint32_t connections;
    double uptime_s;
};

/* A job has ended after prompt and decode time. */
void metrics_observe(struct metrics *metrics, double duration_ms);

/* Lines of reply 203, the last one included. */
void metrics_reply(const struct metrics *metrics, const struct metrics_view *view,
                   struct output *output);

#endif
