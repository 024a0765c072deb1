/* SPDX-License-Identifier: AGPL-3.0-only */
#include "port/store.h"

#include <string.h>

/* Room for one more element of size bytes; the old array stays in the arena until the batch ends.
 */
static void *grow(struct chp_arena *arena, void *array, size_t count, size_t *cap, size_t size)
{
    if (count < *cap) {
        return array;
    }
    *cap = *cap == 0 ? 8 : *cap * 2;
    void *grown = chp_arena_calloc(arena, *cap, size);
    if (count > 0) {
        memcpy(grown, array, count * size);
    }
    return grown;
}

struct chp_write *chp_batch_write(struct chp_batch *batch, enum chp_write_kind kind)
{
    batch->writes = grow(&batch->arena, batch->writes, batch->write_count, &batch->write_cap,
                         sizeof *batch->writes);
    struct chp_write *write = &batch->writes[batch->write_count++];
    write->kind = kind;
    return write;
}

struct chp_load *chp_batch_load(struct chp_batch *batch, enum chp_load_kind kind)
{
    batch->loads = grow(&batch->arena, batch->loads, batch->load_count, &batch->load_cap,
                        sizeof *batch->loads);
    struct chp_load *load = &batch->loads[batch->load_count++];
    load->kind = kind;
    return load;
}

bool chp_batch_empty(const struct chp_batch *batch)
{
    return batch->write_count == 0 && batch->load_count == 0;
}

void chp_batch_deinit(struct chp_batch *batch)
{
    chp_arena_deinit(&batch->arena);
    *batch = (struct chp_batch){0};
}
