/* SPDX-License-Identifier: AGPL-3.0-only */
/* Names on a broker (design section 3) that RabbitMQ and the twin share. */
#ifndef CHP_BROKER_NAMES_H
#define CHP_BROKER_NAMES_H

#include "port/broker.h"

enum {
    BROKER_NAME_BYTES = CHP_SITE_MAX_BYTES + 32,
    BROKER_CUT_BYTES = 64 * 1024, /* what is kept of a body over CHP_MESSAGE_MAX_BYTES */
    BROKER_DEAD_ID_BYTES = 17,
    BROKER_DEAD_MAX = 1000, /* dead letters that one action looks at */
    BROKER_DEAD_BYTES_MAX = 16 * 1024 * 1024,
};

/* Writes "cheops.<site>.requests", .operations, ... */
void broker__inbox_name(char name[BROKER_NAME_BYTES], const char *site, enum chp_key key);
/* Which inbox of site has this name; false when none. */
bool broker__inbox_find(const char *name, const char *site, enum chp_key *key);
/* Writes the id of a dead letter: it depends on what the letter says, not on where it lies. */
void broker__dead_id(char id[BROKER_DEAD_ID_BYTES], const char *message_id, struct chp_bytes body);
/* Where a dead letter is to go again: the exchange of the site with the inbox's key, or, when
 * nothing was bound for it, where it was first published. exchange has room for one; *key is static
 * or of the letter. */
int broker__dead_destination(const char *site, const struct chp_dead_letter *letter,
                             char exchange[BROKER_NAME_BYTES], const char **key,
                             struct chp_error *error) CHP_MUST_CHECK;

#define BROKER_UNROUTABLE "unroutable" /* queue of a dead letter that nothing was bound for */

#endif
