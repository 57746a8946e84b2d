#include "wire/jobs.h"

#include <string.h>

#include "base/panic.h"

void jobs_carve(struct jobs *jobs, uint32_t max, struct arena *arena) {
    wick_assert(max >= 1);
    jobs->max = max;
    jobs->n = 0;
    jobs->job = arena_take(arena, max * sizeof *jobs->job, ARENA_ALIGN);
}

static uint32_t *client_count(struct client *client, enum job_kind kind) {
    return kind == JOB_SCORE ? &client->n_score : &client->n_generate;
}

void jobs_add(struct jobs *jobs, struct client *client, const struct job_request *request,
              struct replay_ring *ring) {
    wick_assert(jobs->n < jobs->max);
    wick_assert(request->id.client == client->number);
    struct wire_job *job = &jobs->job[jobs->n++];
    job->id = request->id;
    job->client = client;
    job->ring = ring;
    job->held = false;
    job->kind = request->kind;
    job->logprobs = request->logprobs;
    job->n_stop = request->n_stop;
    memcpy(job->stop, request->stop, sizeof job->stop);
    ++*client_count(client, request->kind);
}

struct wire_job *jobs_find(struct jobs *jobs, struct job_id id) {
    for (uint32_t i = 0; i < jobs->n; i++) {
        struct wire_job *job = &jobs->job[i];
        if (job->id.client == id.client && job->id.tag == id.tag) return job;
    }
    return NULL;
}

void jobs_remove(struct jobs *jobs, struct wire_job *job) {
    wick_assert(job >= jobs->job && job < jobs->job + jobs->n);
    uint32_t *count = client_count(job->client, job->kind);
    wick_assert(*count > 0);
    --*count;
    *job = jobs->job[--jobs->n];
}

void jobs_drop_client(struct jobs *jobs, const struct client *client) {
    for (uint32_t i = jobs->n; i-- > 0;) {
        if (jobs->job[i].client == client) jobs_remove(jobs, &jobs->job[i]);
    }
}
