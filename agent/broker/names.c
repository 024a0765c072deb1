/* SPDX-License-Identifier: AGPL-3.0-only */
#include "broker/names.h"

#include <stdio.h>
#include <string.h>

static const char *const inboxes[] = {
    [CHP_KEY_REQUEST] = "requests", [CHP_KEY_OPERATION] = "operations", [CHP_KEY_ACK] = "acks",
    [CHP_KEY_CONTROL] = "control",  [CHP_KEY_BEAT] = "beats",           [CHP_KEY_BULK] = "bulk",
};
static_assert(sizeof inboxes / sizeof inboxes[0] == CHP_KEY_COUNT, "an inbox for every key");

void broker__inbox_name(char name[BROKER_NAME_BYTES], const char *site, enum chp_key key)
{
    CHP_ASSERT((size_t)key < CHP_KEY_COUNT);
    int len = snprintf(name, BROKER_NAME_BYTES, "cheops.%s.%s", site, inboxes[key]);
    CHP_ASSERT(len > 0 && len < BROKER_NAME_BYTES);
}

bool broker__inbox_find(const char *name, const char *site, enum chp_key *key)
{
    for (size_t i = 0; i < CHP_KEY_COUNT; i++) {
        char inbox[BROKER_NAME_BYTES];
        broker__inbox_name(inbox, site, (enum chp_key)i);
        if (strcmp(name, inbox) == 0) {
            *key = (enum chp_key)i;
            return true;
        }
    }
    return false;
}

void broker__dead_id(char id[BROKER_DEAD_ID_BYTES], const char *message_id, struct chp_bytes body)
{
    struct chp_sha256_state *state = chp_sha256_new();

    chp_sha256_update(state, message_id, strlen(message_id) + 1);
    chp_sha256_update(state, body.data, body.len);
    struct chp_sha256 hash = chp_sha256_finish(state);
    chp_hex_encode(hash.bytes, (BROKER_DEAD_ID_BYTES - 1) / 2, id);
}

int broker__dead_destination(const char *site, const struct chp_dead_letter *letter,
                             char exchange[BROKER_NAME_BYTES], const char **key,
                             struct chp_error *error)
{
    enum chp_key inbox;

    if (broker__inbox_find(letter->queue, site, &inbox)) {
        (void)snprintf(exchange, BROKER_NAME_BYTES, "cheops.site.%s", site);
        *key = chp_key_name(inbox);
        return 0;
    }
    if (strcmp(letter->queue, BROKER_UNROUTABLE) == 0 &&
        strncmp(letter->exchange, "cheops.site.", 12) == 0 &&
        strlen(letter->exchange) < BROKER_NAME_BYTES) {
        (void)snprintf(exchange, BROKER_NAME_BYTES, "%s", letter->exchange);
        *key = letter->routing_key;
        return 0;
    }
    return chp_error_set(error, CHP_EREFUSED,
                         "the dead letter comes from '%.100s', which is not a queue of this site",
                         letter->queue);
}
