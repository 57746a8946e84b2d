/* cable: what makes a link on a bad cable look like one on a good one: sends again what was not
 * answered, asks REPLAY for what did not come, and puts everything in order. What it stands on:
 * docs/PROTOCOL.md, "A bad cable".
 *
 * Lines of the caller go in, lines of the server as they should be come out. The caller has one job
 * at a time; questions are put one after the other. Tags on the wire are the cable's own, a new one
 * for each job, so that nothing that is late is taken for something else. */
#ifndef WICKCTL_CABLE_H
#define WICKCTL_CABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cable;

/* Sends one line, without LF, with its trailer. False: the link is lost. */
typedef bool cable_sender(void *link, const char *line, size_t n);

/* patience_ms: how long no line may come before something is asked again. NULL: no memory. Never
 * freed: one a process. */
struct cable *cable_new(cable_sender *send, void *link, int patience_ms);

/* A line of the caller. False: the link is lost, or the line is none. */
bool cable_send(struct cable *cable, const char *line, size_t n);

/* A line has come, its CRC is right; `lost`: some before it have not. */
void cable_take(struct cable *cable, char *line, bool lost);

/* A line has come that is not what was sent. */
void cable_damage(struct cable *cable);

/* The next line for the caller, valid until the next call of any of these; NULL: none yet. */
char *cable_next(struct cable *cable);

/* Does what is due. Returns the ms until it wants to be called again; -1: it does not. */
int cable_tick(struct cable *cable);

#endif
