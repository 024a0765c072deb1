/* SPDX-License-Identifier: AGPL-3.0-only */
/* What is read of the operations of a resource: at level none those that have not ended here, else
 * all. */
#include "store/pg_loads.h"

#include "base/log.h"
#include "wire/wire.h"

enum chp_state pg__get_state(const PGresult *result, int row, int column)
{
    enum chp_state state;
    int code = chp_state_parse(PQgetvalue(result, row, column), &state);
    CHP_ASSERT(code == 0);
    return state;
}

struct chp_operation *pg__decode_operation(const struct chp_uuid *id, struct chp_bytes bytes,
                                           struct chp_arena *arena)
{
    struct chp_item *item = chp_arena_alloc(arena, sizeof *item);
    struct chp_error error = {0};
    int code = chp_item_decode(bytes, arena, item, &error);
    if (code == 0 && item->kind == CHP_ITEM_OPERATION) {
        return &item->operation;
    }
    char text[CHP_UUID_TEXT_BYTES];
    chp_uuid_format(id, text);
    chp_log_error("stored item is not an operation", CHP_S("operation", text),
                  CHP_S("reason", error.text));
    return NULL;
}

struct chp_load *pg__load_of(struct chp_load *const *loads, const PGresult *result, int i)
{
    return loads[pg__get_u64(result, i, 0) - 1];
}

static void add_pending_row(struct chp_load *load, const struct chp_history_row *row)
{
    load->resource_result.pending[load->resource_result.pending_count++] =
        (struct chp_pending_row){.operation = row->operation,
                                 .item = row->item,
                                 .arrival = row->arrival,
                                 .state = row->state,
                                 .run = row->run,
                                 .incarnation = row->incarnation};
}

/* Rows of one load follow each other: how many from i on. */
static size_t count_rows(const PGresult *result, int i)
{
    uint64_t n = pg__get_u64(result, i, 0);
    int end = i;
    while (end < PQntuples(result) && pg__get_u64(result, end, 0) == n) {
        end++;
    }
    return (size_t)(end - i);
}

static bool read_held_row(const PGresult *result, int i, struct chp_arena *arena,
                          struct chp_history_row *row)
{
    struct chp_uuid id = pg__get_uuid(result, i, 2);
    *row = (struct chp_history_row){.item = pg__get_bytes(result, i, 3, arena),
                                    .arrival = pg__get_u64(result, i, 4),
                                    .completed = pg__get_bool(result, i, 11),
                                    .failed_everywhere = pg__get_bool(result, i, 12),
                                    .executes = PQgetisnull(result, i, 5) == 0};
    row->operation = pg__decode_operation(&id, row->item, arena);
    if (row->executes) {
        row->state = pg__get_state(result, i, 5);
        row->run = (uint32_t)pg__get_u64(result, i, 6);
        row->incarnation = pg__get_u64(result, i, 7);
        row->effect = pg__get_u64(result, i, 8);
        row->undoing = pg__get_bool(result, i, 9);
        row->done_elsewhere = pg__get_bool(result, i, 10);
    }
    return row->operation != NULL;
}

void pg__read_held(struct chp_load *const *loads, const PGresult *result, struct chp_arena *arena)
{
    for (int i = 0; i < PQntuples(result); i++) {
        struct chp_load *load = pg__load_of(loads, result, i);
        bool is_pending = pg__get_bool(result, i, 1);
        if (is_pending && load->resource_result.pending == NULL) {
            load->resource_result.pending = chp_arena_calloc(arena, count_rows(result, i),
                                                             sizeof *load->resource_result.pending);
        } else if (!is_pending && load->resource_result.history == NULL) {
            load->resource_result.history = chp_arena_calloc(arena, count_rows(result, i),
                                                             sizeof *load->resource_result.history);
        }
        struct chp_history_row row;
        if (!read_held_row(result, i, arena, &row)) {
            continue;
        }
        if (is_pending) {
            add_pending_row(load, &row);
        } else {
            load->resource_result.history[load->resource_result.history_count++] = row;
        }
    }
}
