/* jobs: which accepted job belongs to which client, and what its lines need to know. */
#ifndef WICK_WIRE_JOBS_H
#define WICK_WIRE_JOBS_H

#include <stdint.h>

#include "base/arena.h"
#include "engine/scheduler.h"
#include "wire/client.h"

struct wire_job {
    struct job_id id;
    struct client *client;
    enum job_kind kind;
    uint32_t logprobs;
    bool held;                /* waits for its client to read, or to acknowledge */
    struct replay_ring *ring; /* keeps its lines; NULL: nobody asked for that */
    uint32_t n_stop;
    struct job_stop stop[JOB_STOP_MAX];
};

struct jobs {
    uint32_t max; /* slots + queue: more are never accepted */
    uint32_t n;
    struct wire_job *job; /* (max), the first n in use, in no order */
};

void jobs_carve(struct jobs *jobs, uint32_t max, struct arena *arena);

/* The accepted job of that request. Counts it for the client. */
void jobs_add(struct jobs *jobs, struct client *client, const struct job_request *request,
              struct replay_ring *ring);

/* NULL: none. Valid until a job is removed. */
struct wire_job *jobs_find(struct jobs *jobs, struct job_id id);

void jobs_remove(struct jobs *jobs, struct wire_job *job);
void jobs_drop_client(struct jobs *jobs, const struct client *client);

#endif
