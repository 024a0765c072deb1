/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * The high-water file (design section 4, incarnations): what is known outside the database of how
 * far it had come, so that one that was lost or put back from a backup is noticed.
 *
 * It is written behind each commit and before anything of that commit is acted upon, in place and
 * without a sync: it outlives the agent and the database, and after a crash of the machine it is
 * some seconds old at most. So it is never ahead of the database that it belongs to, and what it
 * may lack nobody has seen. Numbers that are reserved ahead, with a sync for each reservation, were
 * rejected: they would not show a backup that is younger than the reservation.
 */
#ifndef CHP_DAEMON_HIGH_WATER_H
#define CHP_DAEMON_HIGH_WATER_H

#include "engine/engine.h"

struct high_water;

/* Reads the file in directory; the first advance makes a new one. peers are borrowed. NULL with
 * *error. That no other agent works in directory is the spool's to see to (drivers/shell/spool.h).
 */
struct high_water *high_water__open(const char *directory, const struct chp_engine_peer *peers,
                                    size_t peer_count, struct chp_error *error);
void high_water__free(struct high_water *water);
/* What it says; valid until the next call. */
const struct chp_high_water *high_water__known(const struct high_water *water);
/* A batch has committed: incarnation, serial, event_last and database are as of now. */
void high_water__advance(struct high_water *water, const struct chp_high_water *now);
/* The stream of operations of a peer (by index) is taken up to mark. */
void high_water__taken(struct high_water *water, size_t peer, uint64_t incarnation, uint64_t mark);
/* About every second: lets the system begin to write it to the disk. */
void high_water__tick(struct high_water *water);

#endif
