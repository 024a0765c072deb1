/* SPDX-License-Identifier: AGPL-3.0-only */
/* The keys of the last requests, so that a repetition that comes before the first has been
 * committed is seen. Older ones are in the store. */
#include "engine/internal.h"

#include <stdlib.h>
#include <string.h>

static struct chp_bytes name_of(const char *principal, const char *key, struct chp_buf *buf)
{
    chp_buf_add(buf, principal, strlen(principal) + 1);
    chp_buf_add_text(buf, key);
    return chp_buf_bytes(buf);
}

const struct recent_key *keys__find(const struct chp_engine *engine, const char *principal,
                                    const char *key)
{
    struct chp_buf buf = {0};
    const struct recent_key *recent = chp_map_get(engine->keys, name_of(principal, key, &buf));
    chp_buf_deinit(&buf);
    return recent;
}

void keys__add(struct chp_engine *engine, const char *principal, const char *key,
               const struct chp_sha256 *hash, const struct chp_uuid *operation)
{
    struct chp_buf buf = {0};
    struct chp_bytes name = name_of(principal, key, &buf);
    struct recent_key *recent = chp_alloc(sizeof *recent + name.len);
    recent->hash = *hash;
    recent->operation = *operation;
    recent->name_len = name.len;
    memcpy(recent->name, name.data, name.len);
    CHP_ASSERT(chp_map_put(engine->keys, name, recent) == NULL);
    chp_list_append(&engine->keys_order, &recent->link);
    chp_buf_deinit(&buf);
    if (chp_map_count(engine->keys) > KEYS_RECENT_MAX) {
        struct recent_key *oldest =
            CHP_CONTAINER(chp_list_first(&engine->keys_order), struct recent_key, link);
        chp_list_remove(&oldest->link);
        chp_map_remove(engine->keys, chp_bytes(oldest->name, oldest->name_len));
        free(oldest);
    }
}
