/* verbs: what each verb does. The table of verbs is in verbs.c, the handlers in verbs_*.c. */
#ifndef WICK_WIRE_VERBS_H
#define WICK_WIRE_VERBS_H

#include "wire/command.h"

/* Checks one line of the client and has it answered. */
void verbs_serve(struct server *server, struct client *client, char *line, size_t length);

/* Answers a line that is none of this protocol, for that reason; too many of them end a
 * connection. */
void verbs_bad_line(struct server *server, struct client *client, const char *why);

/* verbs_job.c */
verb_handler verb_gen, verb_put, verb_run, verb_stop, verb_score;
/* verbs_cable.c */
verb_handler verb_replay, verb_ack;
/* verbs_text.c */
verb_handler verb_tokenize, verb_detokenize;
/* verbs_facts.c */
verb_handler verb_hello, verb_health, verb_info, verb_metrics, verb_help, verb_ping;
/* verbs_log.c */
verb_handler verb_log;
/* verbs_state.c */
verb_handler verb_drain, verb_shutdown, verb_reboot, verb_bye;

#endif
