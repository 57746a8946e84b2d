#include "wire/metrics.h"

#include "base/panic.h"
#include "wire/reply.h"

static const double bounds_ms[METRICS_BUCKETS] = {10,   30,    100,   300,   1000,
                                                  3000, 10000, 30000, 100000};

enum { CODE = 203 };

void metrics_observe(struct metrics *metrics, double duration_ms) {
    metrics->ended++;
    metrics->sum_ms += duration_ms;
    for (uint32_t i = 0; i < METRICS_BUCKETS; i++) {
        if (duration_ms <= bounds_ms[i]) metrics->bucket[i]++;
    }
}

static void metric_type(struct output *output, const char *name, const char *type) {
    reply_more(output, CODE, 0, "# TYPE %s %s", name, type);
}

static void metric(struct output *output, const char *name, const char *type, uint64_t value) {
    metric_type(output, name, type);
    reply_more(output, CODE, 0, "%s %llu", name, (unsigned long long)value);
}

static void metrics_requests(const struct metrics *metrics, const struct scheduler_counts *counts,
                             struct output *output) {
    const struct {
        const char *outcome;
        uint64_t n;
    } rows[] = {{"completed", counts->jobs_completed}, {"cancelled", counts->jobs_cancelled},
                {"failed", counts->jobs_failed},       {"refused", counts->jobs_refused},
                {"dropped", counts->jobs_dropped},     {"invalid", metrics->invalid}};
    metric_type(output, "worker_requests_total", "counter");
    for (uint32_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        reply_more(output, CODE, 0, "worker_requests_total{outcome=\"%s\"} %llu", rows[i].outcome,
                   (unsigned long long)rows[i].n);
    }
}

static void metrics_durations(const struct metrics *metrics, struct output *output) {
    static const char name[] = "worker_inference_duration_ms";
    metric_type(output, name, "histogram");
    for (uint32_t i = 0; i < METRICS_BUCKETS; i++) {
        reply_more(output, CODE, 0, "%s_bucket{le=\"%.0f\"} %llu", name, bounds_ms[i],
                   (unsigned long long)metrics->bucket[i]);
    }
    reply_more(output, CODE, 0, "%s_bucket{le=\"+Inf\"} %llu", name,
               (unsigned long long)metrics->ended);
    reply_more(output, CODE, 0, "%s_sum %.3f", name, metrics->sum_ms);
    reply_more(output, CODE, 0, "%s_count %llu", name, (unsigned long long)metrics->ended);
}

void metrics_reply(const struct metrics *metrics, const struct metrics_view *view,
                   struct output *output) {
    const struct scheduler_counts *counts = &view->counts;
    wick_assert(counts->slots_free <= counts->slots);
    metrics_requests(metrics, counts, output);
    metric(output, "worker_tokens_in_total", "counter", counts->tokens_in);
    metric(output, "worker_tokens_generated_total", "counter", counts->tokens_out);
    metric(output, "worker_tokens_reused_total", "counter", counts->tokens_reused);
    metrics_durations(metrics, output);
    metric(output, "worker_vram_bytes", "gauge", 0);
    metric_type(output, "worker_uptime_seconds", "gauge");
    reply_more(output, CODE, 0, "worker_uptime_seconds %.3f", view->uptime_s);
    metric(output, "requests_processing", "gauge", counts->slots - counts->slots_free);
    metric(output, "requests_deferred", "gauge", counts->queued);
    metric(output, "worker_connections", "gauge", view->connections);
    metric_type(output, "worker_kv_pages", "gauge");
    uint32_t used = counts->pages - counts->pages_free - counts->pages_cached;
    reply_more(output, CODE, 0, "worker_kv_pages{state=\"free\"} %u", counts->pages_free);
    reply_more(output, CODE, 0, "worker_kv_pages{state=\"cached\"} %u", counts->pages_cached);
    reply_more(output, CODE, 0, "worker_kv_pages{state=\"used\"} %u", used);
    reply_text(output, CODE, 0, "# EOF");
}
