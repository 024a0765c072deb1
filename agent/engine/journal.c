/* SPDX-License-Identifier: AGPL-3.0-only */
/* Events (design section 3): rows first, numbered without gaps per site by the single writer. */
#include "engine/internal.h"

#include <string.h>

void journal__add_string(struct chp_buf *json, const char *text)
{
    chp_buf_add_byte(json, '"');
    for (const char *c = text; *c != 0; c++) {
        if (*c == '"' || *c == '\\') {
            chp_buf_add_byte(json, '\\');
            chp_buf_add_byte(json, (uint8_t)*c);
        } else if ((unsigned char)*c < 0x20) {
            chp_buf_printf(json, "\\u%04x", (unsigned char)*c);
        } else {
            chp_buf_add_byte(json, (uint8_t)*c);
        }
    }
    chp_buf_add_byte(json, '"');
}

void journal__add_strings(struct chp_buf *json, const char *const *texts, size_t count)
{
    chp_buf_add_byte(json, '[');
    for (size_t i = 0; i < count; i++) {
        if (i > 0) {
            chp_buf_add_byte(json, ',');
        }
        journal__add_string(json, texts[i]);
    }
    chp_buf_add_byte(json, ']');
}

const char *journal__take(struct chp_buf *json, struct chp_effects *effects)
{
    const char *text = chp_arena_strndup(&effects->batch.arena, json->data, json->len);
    chp_buf_deinit(json);
    return text;
}

void journal__add(struct chp_engine *engine, const struct journal_entry *entry,
                  const struct chp_now *now, struct chp_effects *effects)
{
    struct chp_arena *arena = &effects->batch.arena;
    struct chp_write *write = chp_batch_write(&effects->batch, CHP_WRITE_EVENT);
    write->event.number = ++engine->event_last;
    write->event.at_ms = engine__trusted_wall_ms(engine, now); /* it is forgotten by that clock */
    write->event.kind = entry->kind;
    write->event.resource = chp_arena_strdup(arena, entry->resource);
    write->event.site = entry->site == NULL ? engine->config.site : entry->site;
    write->event.data = entry->data[0] == 0 ? "{}" : entry->data;
    if (entry->operation != NULL) {
        struct chp_uuid *operation = chp_arena_alloc(arena, sizeof *operation);
        *operation = *entry->operation;
        write->event.operation = operation;
    }
    struct chp_after *after = chp_effects_after(effects, CHP_AFTER_EVENT);
    after->event.number = engine->event_last;
    after->event.write = effects->batch.write_count - 1;
}
