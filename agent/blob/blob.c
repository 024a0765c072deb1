/* SPDX-License-Identifier: AGPL-3.0-only */
#include "internal.h"

#include "base/clock.h"
#include "base/mem.h"

#include <stdlib.h>

struct chp_blobs *chp_blobs_new(const struct chp_blobs_config *config, struct chp_error *error)
{
    struct chp_blobs *blobs = chp_alloc(sizeof *blobs);
    uint64_t seed = 0;
    chp_random(&seed, sizeof seed);
    blobs->config = *config;
    blobs->config.directory = chp_strdup(config->directory);
    blobs->fetches = chp_map_new(seed);
    blobs->peers = chp_map_new(seed);
    chp_list_init(&blobs->resting);
    chp_list_init(&blobs->told);
    chp_list_init(&blobs->serving);
    blobs->tell = evtimer_new(config->base, blobs_on_tell, blobs);
    blobs->serve = evtimer_new(config->base, blobs_on_serve, blobs);
    CHP_ASSERT(blobs->tell != NULL);
    CHP_ASSERT(blobs->serve != NULL);
    if (blob__disk_open(blobs, error) != 0) {
        chp_blobs_free(blobs);
        return NULL;
    }
    return blobs;
}

void chp_blobs_free(struct chp_blobs *blobs)
{
    if (blobs == NULL) {
        return;
    }
    blob__fetch_close(blobs);
    blob__serve_close(blobs);
    event_free(blobs->tell);
    event_free(blobs->serve);
    chp_map_free(blobs->fetches);
    chp_map_free(blobs->peers);
    free((char *)blobs->config.directory);
    free(blobs);
}

void chp_blobs_drained(struct chp_blobs *blobs)
{
    blob__fetch_drained(blobs);
    blob__serve_drained(blobs);
}

uint64_t chp_blobs_fetched_bytes(const struct chp_blobs *blobs)
{
    return blobs->fetched_bytes;
}

void blob__soon(struct event *event)
{
    static const struct timeval now = {0};
    CHP_ASSERT(evtimer_add(event, &now) == 0);
}
