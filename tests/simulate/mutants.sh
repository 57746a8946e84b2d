#!/bin/sh
# mutants.sh: breaks wick on purpose, one place at a time, and lets the simulator find out. Each row
# is a name, a source, and what sed does to it. LINK has the rest of the program (simulate.mk);
# ONLY= takes part of a name.
set -u
out=${BUILD:-build}/mutants
lives=${LIVES:-150}
caught=0 missed=0
mkdir -p "$out"

# mutant NAME SOURCE SED
mutant() {
    name=$1 source=$2
    case $name in *"${ONLY:-}"*) ;; *) return ;; esac
    sed -E "$3" "$source" >"$out/$name.c"
    if cmp -s "$source" "$out/$name.c"; then
        echo "FAIL $name: nothing of $source was changed"
        missed=$((missed + 1))
        return
    fi
    # shellcheck disable=SC2086
    if ! $CC $CFLAGS -Wno-error -w -c "$out/$name.c" -o "$out/$name.o" ||
        ! $CC -fsanitize=address,undefined "$out/$name.o" $LINK -o "$out/simulate"; then
        echo "FAIL $name: does not compile"
        missed=$((missed + 1))
        return
    fi
    if "$out/simulate" 1 0 lives="$lives" >"$out/$name.log" 2>&1; then
        echo "FAIL $name: $lives lives have not noticed"
        missed=$((missed + 1))
    else
        echo "ok   $name: $(grep -m 1 -E 'FAILED|ERROR' "$out/$name.log")"
        caught=$((caught + 1))
    fi
}

mutant page_leaks src/engine/kv_pages.c 's/while \(n-- > 0\) user_remove/while (n-- > 1) user_remove/'
mutant promise_leaks src/engine/job.c 's/^ *kv_pages_unreserve\(kv, job->n_promised\);//'
mutant slot_is_stuck src/engine/scheduler.c 's/^ *s->slots_used &= .*;//'
mutant slot_is_stuck_after_abort src/engine/scheduler.c '/^static void flights_forget/,/^}/s/if \(job->state == JOB_OVER\)/if (false)/'
mutant two_terminal_events src/engine/scheduler.c 's/^( *)job_emit_end\(job, (.*)$/\1job_emit_end(job, \2 job_emit_end(job, \2/'
mutant two_terminal_lines src/wire/server.c 's/^( *)reply_event\((.*)$/\1reply_event(\2 if (event->kind == EVENT_END) reply_event(\2/'
mutant no_terminal_event src/engine/scheduler.c '/^static void job_fail/,/^}/s/^ *job_emit_error.*;//'
mutant tokens_out_of_order src/engine/event_queue.c 's/\*event = queue->event\[queue->first\];/uint32_t last = (queue->first + queue->n - 1) % queue->capacity; *event = queue->event[last]; queue->event[last] = queue->event[queue->first];/'
mutant output_never_pauses src/wire/sessions.c 's/full\[i\] = client_jobs\(client\) > 0/full[i] = false/'
mutant output_grows src/wire/output.c 's/^ *output->used -= n;/    output->used -= n - (n > 100);/'
mutant ring_grows src/wire/replay.c 's/return replay->size - ring->used >= STEP_BYTES_MAX/return true/'
mutant prefix_of_another src/engine/kv_pages.c 's/page->hash == hash && page->parent == parent/page->hash != 0/'
mutant page_is_shared_too_early src/engine/job.c 's/job->n_published < job->n_computed \/ KV_PAGE_TOKENS/job->n_published < (job->n_computed + 1) \/ KV_PAGE_TOKENS/'
mutant last_prompt_token_is_shared src/engine/job.c 's/generate \? request->n_tokens - 1 : 0/generate ? request->n_tokens : 0/'
mutant neighbour_draws src/engine/job.c 's/^( *)sampler_rng_seed\(&job->rng, request->sampling.seed\)/\1sampler_rng_seed(\&job->rng, request->sampling.seed + (job->n_tokens == 20))/'
mutant deadline_is_early src/engine/scheduler.c 's/deadline_ms \* 1000000ULL : UINT64_MAX/deadline_ms * 900000ULL : UINT64_MAX/'
mutant stop_answers_first src/wire/verbs_job.c '/^void verb_stop/,/^}/s/^ *server_deliver\(server\);//'
mutant staged_text_stays src/wire/sessions.c '/^static void session_strip/,/^}/s/^ *staging_drop_client.*;//'
mutant jobs_of_the_dead_go_on src/wire/sessions.c '/^static void session_strip/,/^}/s/^ *scheduler_drop_client.*;//'
mutant stranger_stays_open src/wire/door.c '/^static void stranger_leave/,/^}/s/^ *close\(.*;//'
mutant acknowledged_too_much src/wire/replay.c 's/record.index >= from\) return/record.index > from) return/'
mutant mac_is_not_looked_at src/secret/seal.c 's/mac_equal\([^)]*\)/true/'
mutant blocked_for_ever src/wire/sessions.c 's/^.*client->blocked = false;//'
mutant queue_forgets src/engine/scheduler.c 's/^ *list_remove\(s->waiting, &s->n_waiting, 0\);/list_remove(s->waiting, \&s->n_waiting, s->n_waiting > 2);/'
mutant drain_is_not_told src/wire/server.c 's/client->wants_drained = false;/client->wants_drained = false; continue;/'
mutant answers_after_the_last_line src/wire/sessions.c 's/^.*261 is the last line.*$//'
echo "$caught caught, $missed missed"
[ "$missed" -eq 0 ]
